"""MMLU's subjects and groups: the published numbers, and the names in the public files."""

import csv
from collections import Counter
from pathlib import Path

import pytest

from rait.evaluation.metrics import evaluate
from rait.questions.mmlu import SUBJECTS, groups_of
from rait.records import Outcome, Verdict

DATA = Path(__file__).parents[2].parent / "shared/data/mmlu"
real = pytest.mark.skipif(not DATA.is_dir(), reason="needs the public sets in ../shared/data")


def test_57_subjects_in_four_groups() -> None:
    assert Counter(SUBJECTS.values()) == {
        "STEM": 18,
        "humanities": 13,
        "social sciences": 12,
        "other (business, health, misc.)": 14,
    }
    assert len(SUBJECTS) == 57


@pytest.mark.parametrize(
    ("subject", "group"),
    [
        ("high_school_statistics", "STEM"),
        ("prehistory", "humanities"),
        ("logical_fallacies", "humanities"),
        ("econometrics", "social sciences"),
        ("human_sexuality", "social sciences"),
        ("anatomy", "other (business, health, misc.)"),
        ("professional_accounting", "other (business, health, misc.)"),
        ("global_facts", "other (business, health, misc.)"),
    ],
)
def test_subjects_that_could_stand_elsewhere(subject: str, group: str) -> None:
    assert SUBJECTS[subject] == group


@real
@pytest.mark.parametrize("split", ["dev", "val", "test"])
def test_the_names_are_those_of_the_files(split: str) -> None:
    assert {path.name.removesuffix(f"_{split}.csv") for path in (DATA / split).iterdir()} == SUBJECTS.keys()


@real
def test_the_groups_hold_as_many_questions_as_published() -> None:
    questions: Counter[str] = Counter()
    for subject, group in SUBJECTS.items():
        with (DATA / "test" / f"{subject}_test.csv").open(encoding="utf-8", newline="") as file:
            questions[group] += sum(1 for _ in csv.reader(file)) - 1  # the header
    assert sum(questions.values()) == 14_042
    assert (questions["humanities"], questions["social sciences"]) == (4_705, 3_077)


def test_groups_of_mmlu_alone() -> None:
    assert groups_of(["virology", "sociology", "virology"]) == {
        "sociology": "social sciences",
        "virology": "other (business, health, misc.)",
    }
    assert groups_of(SUBJECTS) == SUBJECTS
    assert groups_of([]) == groups_of([""]) == groups_of(["virology", "capital"]) == groups_of(["Virology"]) == {}


def test_averages_over_the_groups_of_mmlu() -> None:
    def answer(subject: str, n: int, outcome: Outcome) -> Verdict:
        return Verdict(
            id=f"{subject}{n}", question="", answers=(), category=subject, response="", outcome=outcome, rule="given"
        )

    found = [answer("anatomy", n, Outcome.CORRECT) for n in range(3)]
    found += [answer("virology", 0, Outcome.WRONG), answer("astronomy", 0, Outcome.REFUSED)]
    metrics = evaluate(found, groups=groups_of({verdict.category for verdict in found}), resamples=20)
    assert {name: (group["P_c"].value, group["P_c"].n) for name, group in metrics.groups.items()} == {
        "STEM": (0.0, 1),
        "other (business, health, misc.)": (0.75, 4),
    }
    assert metrics.macro["P_c"].value == pytest.approx(1 / 3)
