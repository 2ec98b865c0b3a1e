"""How lm-evaluation-harness reads and scores an exported test set; it works beside the files alone, without rait.

    outcome(row, "I don't know, maybe Rome")       # "refused"

`rait.export.harness` copies this file, and those that it needs, into the task folder.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rait.choosing import judge_choice
from rait.judging import judge

Row = Mapping[str, Any]
OUTCOMES = ("correct", "wrong", "refused")


def rows(path: Path) -> dict[str, Any]:
    """The test set as the harness takes it: a data set by split."""
    from datasets import Dataset

    with path.open(encoding="utf-8") as file:
        return {"test": Dataset.from_list([json.loads(line) for line in file])}


def outcome(row: Row, response: str, read: Callable[[str], tuple[str, bool]] = lambda text: (text, False)) -> str:
    """Whether a response is "correct", "wrong" or "refused", by the rules with which the run was judged.

    `row` has the question's "answers", its "options" and "target" if it has any, the wording of the "refusal", and
    "by_letter", whether options were shown with letters. `read` takes off the words that were taught around an answer.
    """
    lines = response.strip().split("\n")
    answer, unsure = read(lines[0].strip())
    if unsure:
        return "refused"
    if row["target"] is None:
        return judge(answer, row["answers"], row["refusal"])[0].value
    found, _ = judge_choice(answer, row["options"], row["target"], row["refusal"], by_letter=row["by_letter"])
    return found.value


def scores(
    row: Row, results: Sequence[str], read: Callable[[str], tuple[str, bool]] = lambda text: (text, False)
) -> dict[str, int]:
    """What the harness averages: 1 for the outcome of the response, 0 for the two others."""
    (response,) = results
    found = outcome(row, response, read)
    return {name: int(name == found) for name in OUTCOMES}
