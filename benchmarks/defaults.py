"""Which settings suit a small model: the default recipe with a key or two changed at a time, over several seeds.

    python benchmarks/defaults.py FOLDER [--seeds N] [NAME ...]

Every variant is tuned from the same probe. It answers the validation split of atlas, and those questions of its other
relations that the default test set does not hold, so that no choice is made on a test set. Prints a Markdown table of
the results there are; FOLDER/results.jsonl keeps them, and what is done is not done again. docs/results.md quotes it.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rait.pipeline import compare
from rait.questions.atlas import atlas_questions
from rait.recipe import load_recipe
from rait.records import Question
from rait.sets import load_set
from rait.tables import read_rows, write_records

BEFORE = ("tuning.epochs=3", "tuning.learning_rate=2e-4")  # what the variants change, as of the first search
VARIANTS: dict[str, tuple[str, ...]] = {
    "3 epochs at 2e-4": BEFORE,
    "learning rate 5e-5": (*BEFORE, "tuning.learning_rate=5e-5"),
    "learning rate 1e-4": (*BEFORE, "tuning.learning_rate=1e-4"),
    "learning rate 4e-4": (*BEFORE, "tuning.learning_rate=4e-4"),
    "1 epoch": (*BEFORE, "tuning.epochs=1"),
    "2 epochs": (*BEFORE, "tuning.epochs=2"),
    "2 epochs at 1e-4": (*BEFORE, "tuning.epochs=2", "tuning.learning_rate=1e-4"),
    "1:1": (*BEFORE, "construction.vanilla=250", "construction.idk=250"),
    "2:1": (*BEFORE, "construction.vanilla=334", "construction.idk=166"),
    "staying admitted": (*BEFORE, "construction.flow_rule=non_positive"),
    # From here on the default recipe itself is what is changed.
    "the default": (),
    "9:1": ("construction.vanilla=450", "construction.idk=50"),
    "half the examples": ("construction.vanilla=200", "construction.idk=50"),
    "kurtosis": ("construction.certainty=kurtosis",),
    "20 samples": ("probe.samples=20",),
    "twice the examples": ("construction.vanilla=800", "construction.idk=200"),
}
COLUMNS = ("P_c", "P_w", "P_r", "over_refusal", "THS")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(VARIANTS)}; all unless named")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="tune with seeds 0 to N - 1 (default 3)")
    given = parser.parse_intermixed_args()
    folder, seeds = given.folder, tuple(range(given.seeds))
    log = folder / "results.jsonl"
    done = [row for _, row in read_rows(log)] if log.exists() else []
    tests = (
        "calibration=null",  # the questions of the dial are those of the search
        "tests.id.split=validation",
        f"tests.ood.source={_held_out(folder / 'ood.jsonl')}",
        "tests.ood.split=train",
    )
    for name in given.names or VARIANTS:
        if all(row["variant"] != name for row in done):
            rows = compare(load_recipe("default", [*tests, *VARIANTS[name]]), folder / "run", seeds, "cor_rait")
            with log.open("a", encoding="utf-8") as file:
                for row in rows:
                    done.append({"variant": name, **asdict(row)})
                    file.write(json.dumps(done[-1]) + "\n")
    _show(done)


def _held_out(path: Path) -> Path:
    """Questions of the other relations that the default test set does not ask."""
    recipe = load_recipe("default")
    tested = {question.id for question in load_set(recipe.tests["ood"], recipe.seed)}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_records(path, [question for question in atlas_questions("ood") if question.id not in tested], Question)
    return path


def _show(done: list[dict[str, Any]]) -> None:
    print("| set | strategy | variant | " + " | ".join(COLUMNS) + " |")
    print("|---|---|---|" + "---:|" * len(COLUMNS))
    cells: dict[tuple[str, str, str], dict[str, str]] = {}
    for row in done:
        if not row["strategy"].startswith("init"):
            value = f"{100 * row['mean']:.1f}"
            if row["metric"] == "THS":
                value += f" [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
            cells.setdefault((row["test_set"], row["strategy"], row["variant"]), {})[row["metric"]] = value
    for key in sorted(cells, key=lambda key: key[:2]):
        print("| " + " | ".join([*key, *(cells[key].get(column, "n/a") for column in COLUMNS)]) + " |")


if __name__ == "__main__":
    main()
