"""The tables for a terminal: what they show, in 80 columns, without cutting a number."""

from pathlib import Path
from typing import Any

import pytest

from rait.evaluation.metrics import evaluate, to_json
from rait.questions.mmlu import groups_of
from rait.records import Outcome, Verdict
from rait.summary import print_metrics, print_results, print_run

KINDS = {
    "c": (Outcome.CORRECT, "letter"),
    "w": (Outcome.WRONG, "letter"),
    "u": (Outcome.WRONG, "unparsable"),
    "r": (Outcome.REFUSED, "refused"),
}


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def verdicts(outcomes: dict[str, str], options: tuple[str, ...] = ("one", "two")) -> list[Verdict]:
    return [
        Verdict(
            id=f"{category}{n}",
            question="",
            answers=(),
            category=category,
            options=options,
            response="",
            outcome=KINDS[letter][0],
            rule=KINDS[letter][1],
        )
        for category, letters in outcomes.items()
        for n, letter in enumerate(letters)
    ]


BEFORE = {"anatomy": "ccww", "virology": "cw" * 8}
AFTER = {"anatomy": "cruw", "virology": "cr" * 8}


def results(options: tuple[str, ...] = ("one", "two")) -> dict[str, Any]:
    before, after = verdicts(BEFORE, options), verdicts(AFTER, options)
    return {
        "init_basic": {"held_out": to_json(evaluate(before, before))},
        "craft": {"held_out": to_json(evaluate(after, before))},
    }


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    shown = capsys.readouterr().out
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= 80
    return shown.splitlines()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("│").split("│")]


def row(shown: list[str], label: str, after: str = "") -> list[str]:
    start = next(n for n, line in enumerate(shown) if after in line)
    return next(cells(line) for line in shown[start:] if cells(line)[0] == label)


def test_macro_stands_below_micro_where_choices_are_of_several_subjects(capsys: pytest.CaptureFixture[str]) -> None:
    print_results(results())
    shown = lines(capsys)
    assert shown[0].strip() == "held_out: 20 questions of 2 subjects, in points"
    # Micro: 9 of 20 right, 2 wrong, one of them unparsable. Before 10 and 10: THS 45 - 10. Of 10 known 1 is refused.
    micro = row(shown, "craft")
    assert micro[:6] == ["craft", "45.0", "10.0", "45.0", "5.0", "10.0"]
    assert micro[6].startswith("35.0 [")
    # Macro: right 1/4 and 1/2, wrong 2/4 and 0, refused 1/4 and 1/2; before 1/2 and 1/2 in both: THS 37.5 - 25.
    macro = row(shown, "macro", "craft")
    assert macro[:6] == ["macro", "37.5", "25.0", "37.5", "", ""]
    assert macro[6].startswith("12.5 [")
    assert row(shown, "init_basic")[6] == row(shown, "macro")[6] == "0.0 [0.0, 0.0]"
    text = " ".join(shown)
    assert "micro (over questions)" in text and "macro (over subjects)" in text and "Unparsable:" in text


def test_one_subject_shows_what_cannot_be_parsed_alone(capsys: pytest.CaptureFixture[str]) -> None:
    only = verdicts({"": "ccwur"})
    print_results({"init_basic": {"arc": to_json(evaluate(only, only))}})
    shown = lines(capsys)
    assert row(shown, "init_basic")[:6] == ["init_basic", "40.0", "40.0", "20.0", "20.0", "0.0"]
    assert "macro" not in " ".join(shown) and "Unparsable:" in " ".join(shown)


def test_open_ended_questions_show_neither(capsys: pytest.CaptureFixture[str]) -> None:
    print_results(results(options=()))
    shown = lines(capsys)
    assert shown[0].strip() == "held_out: 20 questions, in points"
    assert row(shown, "craft")[:5] == ["craft", "45.0", "10.0", "45.0", "10.0"]
    text = " ".join(shown)
    assert "macro" not in text and "nparsable" not in text


def test_results_of_earlier_versions_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    old = results()
    for sets in old.values():
        del sets["held_out"]["macro"], sets["held_out"]["groups"], sets["held_out"]["overall"]["unparsable"]
    print_results(old)
    assert row(lines(capsys), "craft")[:5] == ["craft", "45.0", "10.0", "45.0", "10.0"]


def test_the_widest_numbers_fit(capsys: pytest.CaptureFixture[str]) -> None:
    before, after = verdicts({"a": "c" * 11 + "w", "b": "c" * 90 + "w" * 5}), verdicts({"a": "u" * 12, "b": "w" * 95})
    sets = {"held_out": to_json(evaluate(after, before))}
    sets["held_out"]["overall"]["THS"] |= {"value": -19.3, "low": -25.5, "high": -10.0}  # -1930.0 points
    print_results({"corcer_rait": sets})
    shown = lines(capsys)
    assert "-1930.0 [-2550.0, -1000.0]" in " ".join(shown)
    assert "100.0" in " ".join(shown)


def test_metrics_name_their_averages(capsys: pytest.CaptureFixture[str]) -> None:
    before, after = verdicts(BEFORE), verdicts(AFTER | {"anatomy": "cruw"})
    print_metrics(evaluate(after, before, groups=groups_of(BEFORE)))
    shown = lines(capsys)
    assert row(shown, "unparsable", "micro (over questions)")[1].startswith("5.0 [")
    assert row(shown, "THS", "micro (over questions)")[1].startswith("35.0 [")
    assert row(shown, "THS", "macro (over subjects)")[1].startswith("12.5 [")
    assert row(shown, "THS", "macro (over subjects)")[2] == "2"
    group = next(cells(line) for line in shown if "business" in line)
    assert group[1:4] == ["45.0", "10.0", "45.0"] and group[5] == "20"


def test_metrics_without_categories_or_options_show_one_average(capsys: pytest.CaptureFixture[str]) -> None:
    print_metrics(evaluate(verdicts({"": "cwr"}, ())))
    text = " ".join(lines(capsys))
    assert "macro" not in text and "micro" not in text and "unparsable" not in text and "group" not in text


def test_a_dial_is_a_second_row_of_its_strategy(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = {"P_c": 0.5, "P_w": 0.2, "P_r": 0.3, "THS": 0.3, "THS_low": 0.25, "THS_high": 0.4}
    dial = {"threshold": 0.3, "tests": {"held_out": {"chosen": chosen}}}
    print_results(results(options=()), {"craft": dial, "other": {"threshold": None, "tests": {}}})
    shown = lines(capsys)
    assert row(shown, "craft")[1] == "45.0"
    assert row(shown, "dial", "craft") == ["dial", "50.0", "20.0", "30.0", "", "30.0 [25.0, 40.0]"]
    assert sum(cells(line)[0] == "dial" for line in shown if line.startswith("│")) == 1
    assert "dial:" in " ".join(shown)


def test_the_end_of_a_run_says_where_to_look(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "craft").mkdir(parents=True)
    (run / "report.html").touch()
    (run / "craft/dial.json").write_text('{"threshold": null, "obstacle": "words", "tests": {}}', "utf-8")
    print_run(results(options=()), run)
    out = capsys.readouterr().out
    assert f"rait ask {run}" in out and f"{run / 'report.html'}" in out and f"Everything is in {run}" in out
    assert "dial" not in out
    assert "\x1b" not in out
