"""What is asked, as it is typed or piped, and how a reply is shown; the models are in tests/integration."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from rait import asking
from rait.asking import Reply, Tuned, as_json, asked, format_reply, rule_of
from rait.errors import InputError
from rait.evaluation.dial import NEVER
from rait.inert import inert
from rait.questions.validation import question_key
from rait.recipe import load_settings
from rait.records import Question
from rait.settings import DIAL_FILE
from rait.tables import write_json


def reply(response: str, **changes: object) -> Reply:
    values: dict[str, object] = {
        "id": None,
        "question": Question(id="", question="Who?", answers=("Jane Austen",)),
        "found": None,
        "response": response,
        "option": None,
        "refused": False,
        "refusal_probability": None,
        "threshold": None,
        "answer": None,
        "correct": None,
    }
    return Reply(**(values | changes))  # type: ignore[arg-type]


def test_plain_text_is_a_question() -> None:
    id, question = asked("  Who wrote Emma?\n")
    assert (id, question.question, question.options, question.answers) == (None, "Who wrote Emma?", (), ())


def test_an_object_has_an_id_options_and_a_category() -> None:
    id, question = asked('{"id": 7, "question": " Who? ", "options": ["a", " b"], "category": "x", "target": 1}')
    assert id == "7"
    assert (question.question, question.options, question.category, question.target) == ("Who?", ("a", "b"), "x", None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("  ", "empty"),
        ('{"question": "Who?"', "not a JSON object"),
        ('{"question": ' + "[" * 100_000, "nested too deep"),
        ('{"id": 1}', 'no "question"'),
        ('{"question": 3}', 'no "question"'),
        ('{"question": "Who?", "options": "a"}', "list of texts"),
        ('{"question": "Who?", "options": ["a", 2]}', "list of texts"),
        ('{"question": "Who?", "options": ["a"]}', "2 to 10"),
    ],
)
def test_what_cannot_be_asked_is_told_with_a_remedy(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        asked(text)


def test_half_a_character_is_replaced() -> None:
    for text in ("Who \ud800?", '{"question": "Who \\ud800?"}'):
        assert asked(text)[1].question == "Who ??"


def test_replies_read_as_one_line() -> None:
    assert format_reply(reply("Jane Austen")) == "Jane Austen"
    shown = format_reply(reply("Emily", refusal_probability=0.25, correct=False))
    assert shown == "Emily   [p(refuse) 0.250, wrong: Jane Austen]"
    assert format_reply(reply("B", option="Paris", correct=True)) == "B (Paris)   [right]"
    assert format_reply(reply("")) == "(nothing)"


def test_what_a_model_writes_does_not_command_the_terminal() -> None:
    shown = format_reply(reply("\x1b[31mred\u202e\r\nnext\x07"))
    assert shown.isprintable()
    assert "red" in shown and "next" in shown
    assert inert("São Tomé, 東京 ✓") == "São Tomé, 東京 ✓"


def test_thresholds_in_words() -> None:
    assert "greedy" in rule_of(None)
    assert rule_of(0.25) == "refuses from p(refuse) 0.25 on"
    assert "nothing" in rule_of(NEVER)


def test_json_has_what_the_documentation_promises() -> None:
    assert set(as_json(reply("x"))) == {
        *("id", "question", "set", "response", "option", "refused"),
        *("refusal_probability", "threshold", "answer", "correct"),
    }


def known(*runs_own: Question) -> Tuned:
    """A multiple-choice run with these questions, as far as `_of_run` looks at it."""
    found = {question_key(own): [("train", own)] for own in runs_own}
    return cast(Tuned, SimpleNamespace(known=found, choice=True))


@pytest.mark.parametrize(
    ("options", "target", "answers"),
    [
        (("london", "paris"), 1, ("paris",)),
        ((" \u201cParis\u201d", "LONDON."), 0, (" \u201cParis\u201d",)),
        (("Paris", "London"), 0, ("Paris",)),
    ],
)
def test_the_right_option_is_known_in_other_spellings(
    options: tuple[str, ...], target: int, answers: tuple[str, ...]
) -> None:
    own = Question(id="q", question="Where?", answers=("Paris",), options=("Paris", "London"), target=0)
    put = Question(id="", question="Where?", answers=(), options=options)
    assert asking._of_run(known(own), put) == ("train", replace(own, options=options, answers=answers, target=target))


def test_of_two_options_that_read_alike_neither_is_known_to_be_right() -> None:
    own = Question(id="q", question="Where?", answers=("Paris",), options=("Paris", "paris"), target=0)
    _, put = asking._of_run(known(own), Question(id="", question="Where?", answers=(), options=("paris", "PARIS")))
    assert (put.answers, put.target) == ((), None)


def test_an_id_is_written_as_whole_characters() -> None:
    id, question = asked('{"question": "x", "id": "\\ud800", "category": "\\udfff"}')
    assert (id, question.category) == ("?", "?")


def test_text_as_it_is_written_stays() -> None:
    for text in ("می\u200cخواهم", "👩\u200d🔬", "東京\u3000駅", "10\u00a0%", "soft\u00adhyphen"):
        assert inert(text) == text
    for hidden in ("\x1b", "\r", "\n", "\x85", "\u2028", "\u2029", "\u061c", "\u200e", "\u202e", "\u2067", "\ud800"):
        assert inert(f"a{hidden}b") == "a\ufffdb"


def test_the_best_strategy_is_the_one_that_is_best_as_it_is_asked(tmp_path: Path) -> None:
    recipe = load_settings({"strategies": ["cor_rait", "craft"]})
    for name, greedy, chosen in (("cor_rait", 0.4, 0.3), ("craft", 0.2, 0.5)):
        place = tmp_path / name
        metric = {"value": greedy, "low": greedy, "high": greedy, "n": 9}
        write_json(place / "metrics.json", {"id": {"overall": {"THS": metric}}})
        shares = {"THS": chosen, "THS_low": chosen, "THS_high": chosen}
        write_json(place / "dial.json", {"threshold": 0.25, "tests": {"id": {"chosen": shares}}})
        write_json(place / "adapter" / DIAL_FILE, {"threshold": 0.25})
    steps = {f"{name}/{step}" for name in recipe.strategies for step in ("tuning", "metrics")}
    name, why = asking._best(tmp_path, recipe, steps, dialled=True)
    assert (name, why) == ("craft", "THS 50.0 [50.0, 50.0] on id, the highest of 2")
    assert asking._best(tmp_path, recipe, steps, dialled=False)[1].startswith("greedy THS 40.0")
    (tmp_path / "craft/adapter" / DIAL_FILE).unlink()  # the model is asked greedily now
    assert asking._best(tmp_path, recipe, steps, dialled=True)[0] == "cor_rait"
    # What an earlier recipe has tuned, or measured, is not taken.
    assert asking._best(tmp_path, recipe, steps - {"cor_rait/tuning"}, dialled=True)[0] == "craft"
    assert asking._best(tmp_path, recipe, steps - {"cor_rait/metrics"}, dialled=False)[0] == "craft"
    with pytest.raises(InputError, match="nothing is tuned yet"):
        asking._best(tmp_path, recipe, (), dialled=True)
