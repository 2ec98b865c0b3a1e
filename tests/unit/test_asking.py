"""What is asked, as it is typed or piped, and how a reply is shown; the models are in tests/integration."""

import pytest

from rait.asking import Reply, as_json, asked, format_reply, inert, rule_of
from rait.errors import InputError
from rait.evaluation.dial import NEVER
from rait.records import Question


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
