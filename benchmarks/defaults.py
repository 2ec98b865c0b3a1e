"""Which settings suit a small model: the default recipe with one key changed at a time, on questions kept for that.

    python benchmarks/defaults.py FOLDER [NAME ...]

Every variant is tuned from the same probe and answers the validation split of atlas and those questions of its other
relations that the default test set does not hold, so that the test sets stay unseen. Prints a Markdown table of the
results there are; FOLDER/results.jsonl keeps them, and what is done is not done again. docs/results.md quotes it.
"""

import json
import sys
from pathlib import Path

from rait import load_recipe, run
from rait.questions.atlas import atlas_questions
from rait.records import Question
from rait.stages import load_set
from rait.tables import read_rows, write_records

SEEDS = (0, 1)
OOD_QUESTIONS = 300
VARIANTS: dict[str, tuple[str, ...]] = {
    "as it is": (),
    "learning rate 5e-5": ("tuning.learning_rate=5e-5",),
    "learning rate 1e-4": ("tuning.learning_rate=1e-4",),
    "learning rate 4e-4": ("tuning.learning_rate=4e-4",),
    "1 epoch": ("tuning.epochs=1",),
    "2 epochs": ("tuning.epochs=2",),
    "2:1": ("construction.vanilla=334", "construction.idk=166"),
    "1:1": ("construction.vanilla=250", "construction.idk=250"),
    "9:1": ("construction.vanilla=450", "construction.idk=50"),
    "half the examples": ("construction.vanilla=200", "construction.idk=50"),
    "twice the examples": ("construction.vanilla=800", "construction.idk=200"),
    "staying admitted": ("construction.flow_rule=non_positive",),
    "20 samples": ("probe.samples=20",),
}
COLUMNS = ("P_c", "P_w", "P_r", "over_refusal", "THS")


def main() -> None:
    folder = Path(sys.argv[1])
    wanted = sys.argv[2:] or list(VARIANTS)
    log = folder / "results.jsonl"
    done = [row for _, row in read_rows(log)] if log.exists() else []
    held = _held_out(folder / "ood.jsonl")
    for name in wanted:
        for seed in SEEDS:
            if any(row["name"] == name and row["seed"] == seed for row in done):
                continue
            tests = ("tests.id.split=validation", "tests.ood.split=train", f"tests.ood.source={held}")
            recipe = load_recipe("default", [f"construction.seed={seed}", *tests, *VARIANTS[name]])
            found = run(recipe, folder / "run")
            row = {"name": name, "seed": seed, "results": found}
            done.append(row)
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
    _show(done)


def _held_out(path: Path) -> Path:
    """Questions of the other relations that the default test set does not ask."""
    recipe = load_recipe("default")
    tested = {question.id for question in load_set(recipe.tests["ood"], recipe.seed)}
    left = [question for question in atlas_questions("ood") if question.id not in tested]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_records(path, left, Question)
    return path


def _show(done: list[dict]) -> None:
    print("| set | variant | strategy | seed | " + " | ".join(COLUMNS) + " |")
    print("|---|---|---|---:|" + "---:|" * len(COLUMNS))
    for row in done:
        for strategy, sets in row["results"].items():
            for test, metrics in sets.items():
                cells = (f"{100 * metrics['overall'][column]['value']:.1f}" for column in COLUMNS)
                print(f"| {test} | {row['name']} | {strategy} | {row['seed']} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
