"""How much a model knows of each relation of atlas: greedy, three worked examples from the training split.

    python benchmarks/atlas.py [MODEL]

Prints a Markdown table: relation, questions, share answered correctly. docs/atlas.md quotes it.
"""

import platform
import sys
import time
from collections import Counter

from rait.evaluation.answering import answer
from rait.models.loading import load
from rait.progress import progress, say
from rait.prompting import Renderer
from rait.questions import atlas
from rait.recipe import Model, load_recipe
from rait.records import Outcome
from rait.sets import all_of, split_shots


def main() -> None:
    recipe = load_recipe("default")
    loaded = load(Model(source=sys.argv[1] if len(sys.argv) > 1 else recipe.model.source), say=say)
    shots, pool = split_shots(atlas.atlas_questions("train"), recipe)
    questions = pool + [question for split in atlas.SPLITS[1:] for question in atlas.atlas_questions(split)]
    render = Renderer(loaded.tokenizer, recipe.prompt, shots)
    start = time.monotonic()
    with progress("answer", len(questions), "question") as advance:
        verdicts = answer(loaded, questions, render, recipe.evaluation, advance=advance)
    asked = Counter(verdict.category for verdict in verdicts)
    right = Counter(verdict.category for verdict in verdicts if verdict.outcome is Outcome.CORRECT)
    seconds = time.monotonic() - start
    print(f"{loaded.source}, greedy, {len(all_of(shots))} examples, {seconds:.0f} s on {platform.processor()}")
    print("\n| relation | questions | correct |\n|---|---:|---:|")
    for relation in atlas.relations():
        name = relation.name
        print(f"| {name} | {asked[name]} | {right[name] / asked[name]:.0%} |")


if __name__ == "__main__":
    main()
