"""Multiple choice: options scored by us against full prompts scored by transformers, on the same questions.

    python benchmarks/scoring.py [QUESTIONS]

The questions are atlas's with four options, after five worked examples, scored by letter and by text. The plain ways:
each prompt with each option by itself, with logits of the option's positions alone (a letter: one pass a question);
and the same in padded batches of 8, sorted by length. Both are asked as many questions as take a minute. Prints a
Markdown table with the largest difference of a probability from ours.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from machine import describe

from rait.knowledge.choices import option_probabilities
from rait.models.loading import LoadedModel, load
from rait.models.tree import encode
from rait.prompting import Renderer
from rait.questions import load_questions
from rait.recipe import load_recipe
from rait.records import Question
from rait.sets import split_shots
from rait.tables import batched

LIMIT = 60.0  # seconds for each plain way
Scored = tuple[int, tuple[float, ...]]


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 256
    print(f"{describe()}\n\n{count} questions.\n\n| options as | how | questions/s | rait is faster | differs by |")
    print("|---|---|---:|---:|---:|")
    for choice in ("letter", "text"):
        words = [f"prompt.choice={choice}", "prompt.shots=5", "model.dtype=float32"]
        recipe = load_recipe("default", words)
        loaded = load(recipe.model)
        shots, pool = split_shots(load_questions("atlas-choice", limit=count + recipe.prompt.shots), recipe)
        render = Renderer(loaded.tokenizer, recipe.prompt, shots)
        list(option_probabilities(loaded, pool[:4], render))
        start = time.perf_counter()
        ours = dict(option_probabilities(loaded, pool, render))
        speed = len(ours) / (time.perf_counter() - start)
        print(f"| {choice} | rait | {speed:.1f} | | |", flush=True)
        for name, size in (("alone", 1), ("padded batches of 8", 8)):
            start = time.perf_counter()
            found: dict[int, tuple[float, ...]] = {}
            for index, probabilities in plain(loaded, pool, render, size):
                found[index] = probabilities
                if time.perf_counter() - start > LIMIT:
                    break
            other = len(found) / (time.perf_counter() - start)
            worst = max(abs(p - q) for index in found for p, q in zip(found[index], ours[index], strict=True))
            print(f"| {choice} | {name} | {other:.2f} | {speed / other:.0f} x | {worst:.0e} |", flush=True)


def plain(loaded: LoadedModel, questions: Sequence[Question], render: Renderer, size: int) -> Iterator[Scored]:
    """Yield (index, probabilities of the options), each from full prompts."""
    order = sorted(range(len(questions)), key=lambda index: len(render(questions[index])))
    by_letter = render.prompt.choice == "letter"
    step = size if by_letter else max(1, size // len(questions[0].options))
    for some in batched(order, step):
        rows: list[tuple[int, list[int], list[int]]] = []
        for index in some:
            prompt = encode(loaded.tokenizer, render(questions[index]))
            for option in render.choices(questions[index]):
                rows.append((index, prompt, loaded.tokenizer(option, add_special_tokens=False)["input_ids"]))
        if by_letter:  # one pass gives all letters of a question
            logits = _last(loaded, list({index: prompt for index, prompt, _ in rows}.values()), 1)
            for index, row in zip(some, logits, strict=True):
                letters = [option[0] for owner, _, option in rows if owner == index]
                yield index, tuple(row[-1][letters].softmax(-1).tolist())
            continue
        found = iter([mean for part in batched(rows, size) for mean in _mean(loaded, part)])
        for index in some:
            own = torch.tensor(list(islice(found, len(questions[index].options))))
            yield index, tuple(own.softmax(-1).tolist())


def _mean(loaded: LoadedModel, rows: Sequence[tuple[int, list[int], list[int]]]) -> list[float]:
    """Mean log-likelihood of each row's option after its prompt."""
    longest = max(len(option) for _, _, option in rows)
    logits = _last(loaded, [prompt + option for _, prompt, option in rows], longest + 1)
    means = []
    for row, (_, _, option) in zip(logits, rows, strict=True):
        own = row[-len(option) - 1 : -1].log_softmax(-1)
        means.append(float(own.gather(1, torch.tensor(option)[:, None]).mean()))
    return means


def _last(loaded: LoadedModel, texts: Sequence[Sequence[int]], keep: int) -> Any:
    """Logits of the last `keep` positions of texts that are padded on the left."""
    width = max(map(len, texts))
    ids = torch.tensor([[0] * (width - len(text)) + list(text) for text in texts])
    mask = torch.tensor([[0] * (width - len(text)) + [1] * len(text) for text in texts])
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.inference_mode():
        found = loaded.model(input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=keep)
    return found.logits.float()


if __name__ == "__main__":
    main()
