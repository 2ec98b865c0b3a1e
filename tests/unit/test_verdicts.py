"""Reading verdicts, and judging responses made elsewhere."""

import json
from pathlib import Path

import pytest

from rait.errors import InputError
from rait.evaluation.verdicts import read_verdicts
from rait.records import Outcome, Verdict
from rait.tables import write_records

C, W, R = Outcome.CORRECT, Outcome.WRONG, Outcome.REFUSED


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_plain_responses_are_judged(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "r.jsonl",
        {"id": "a", "response": "Paris.", "answers": ["Paris"], "question": "Capital?", "category": "capital"},
        {"id": 7, "response": "No idea", "answer": "Chad"},
        {"id": "c", "response": "Rome", "answers": "Oslo", "outcome": None},
        {"id": "d", "response": "", "answers": ["x"], "model": "other columns are ignored"},
        {"id": "e", "response": "1914", "answer": 1914},
        {"id": "f", "response": "Pas la moindre idée", "answers": ["x"]},
    )
    found = read_verdicts(path, "Pas la moindre idée.")
    assert [(v.id, v.outcome, v.rule) for v in found] == [
        ("a", C, "exact"),
        ("7", R, "refused"),
        ("c", W, "no_match"),
        ("d", W, "empty"),
        ("e", C, "exact"),
        ("f", R, "refused"),
    ]
    assert found[0].question == "Capital?" and found[0].category == "capital"
    assert found[1].question == "" and found[1].answers == ("Chad",)


def test_verdicts_are_taken_as_they_are(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "v.jsonl",
        {"id": "a", "response": "Paris", "answers": ["Paris"], "outcome": "wrong", "rule": "human"},
        {"id": "b", "outcome": "refused"},
    )
    assert [(v.id, v.outcome, v.rule, v.response) for v in read_verdicts(path)] == [
        ("a", W, "human", "Paris"),
        ("b", R, "given", ""),
    ]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_verdicts_survive_a_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"v.{suffix}"
    before = [
        Verdict(
            id=f"q{number}",
            question="Capital?",
            answers=("Paris", "Lutetia"),
            category="capital",
            response="Paris",
            outcome=outcome,
            rule="human",
        )
        for number, outcome in enumerate(Outcome)
    ]
    write_records(path, before)
    assert read_verdicts(path) == before


def test_every_unusable_row_is_named(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "bad.jsonl",
        {"id": "a", "response": "x", "answers": ["x"]},
        {"response": "x"},
        {"id": "b", "answers": ["x"]},
        {"id": "c", "response": "x", "answers": []},
        {"id": "d", "response": "x", "answers": [["x"]]},
        {"id": "e", "outcome": "Correct"},
        {"id": "f", "outcome": ["wrong"]},
        {"id": "a", "outcome": "wrong"},
        {"id": True, "outcome": "wrong"},
        {"outcome": "wrong"},
        {"id": "g", "response": 3.5, "answers": ["x"]},
    )
    with pytest.raises(InputError) as caught:
        read_verdicts(path)
    told = str(caught.value).splitlines()
    assert len(told) == 11
    for number, words in {
        2: "no 'id', no 'answers' (or 'answer'); a row without 'outcome'",
        3: "no 'response'",
        4: "no accepted answer",
        5: "'answers' should be text, found ['x']",
        6: "'outcome' should be one of correct, wrong, refused, failed, found 'Correct'",
        7: "found ['wrong']",
        8: f"id 'a' was already used at {path}:1",
        9: "'id' should be text, found True",
        10: "no 'id'",
        11: "'response' should be text, found 3.5",
    }.items():
        line = told[number - 1].strip()
        assert line.startswith(f"{path}:{number}: ") and words in line


def test_a_file_without_rows_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_text("")
    with pytest.raises(InputError, match="holds no rows"):
        read_verdicts(path)
