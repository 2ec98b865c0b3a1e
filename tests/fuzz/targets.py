"""What is fuzzed: one function from bytes for every reader and for the matcher; it raises where one breaks a promise.

TARGETS["questions.jsonl"](b'{"question": ')      # a sentence for the user is no break of one
"""

import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rait.asking import asked
from rait.choosing import judge_choice, parse_choice
from rait.errors import RaitError
from rait.evaluation.verdicts import read_verdicts
from rait.judging import judge, match, normalise, refusal
from rait.questions import load_questions
from rait.recipe import dump_recipe, load_recipe, load_settings
from rait.records import Example, KnowledgeState, Outcome, Question
from rait.tables import read_records, write_records

_FOLDER = Path(tempfile.mkdtemp(prefix="rait-fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))


def questions(name: str, data: bytes, form: str = "auto") -> None:
    """Questions that are accepted can be written and read again."""
    path = _FOLDER / name
    path.write_bytes(data)
    try:
        found = load_questions(str(path), form=form)
    except RaitError as error:
        assert str(error)
        return
    assert found and all(question.question.strip() and question.answers for question in found)
    _comes_back(found, Question)


def records(name: str, data: bytes, kind: type) -> None:
    path = _FOLDER / name
    path.write_bytes(data)
    try:
        found = read_records(path, kind)
    except RaitError as error:
        assert name in str(error)
        return
    _comes_back(found, kind)


def verdicts(name: str, data: bytes) -> None:
    path = _FOLDER / name
    path.write_bytes(data)
    try:
        found = read_verdicts(path)
    except RaitError as error:
        assert name in str(error)
        return
    assert found and all(each.outcome in Outcome for each in found)


def recipe(data: bytes) -> None:
    """A recipe that is accepted is the same when it is written out and read."""
    path = _FOLDER / "recipe.yaml"
    path.write_bytes(data)
    try:
        found = load_recipe(path)
    except RaitError as error:
        assert "recipe.yaml" in str(error)
        return
    path.write_bytes(dump_recipe(found).encode())
    assert load_recipe(path) == found


def override(data: bytes) -> None:
    try:
        load_settings({}, [_text(data)])
    except RaitError as error:
        assert str(error)


def put(data: bytes) -> None:
    try:
        _, question = asked(_text(data))
    except RaitError as error:
        assert str(error)
        return
    assert question.question.strip() and json.dumps(question.question).encode()


def matcher(data: bytes) -> None:
    """Rules of judging that hold for whatever is written: a response, a wording of a refusal and answers, by line."""
    response, template, *answers = (*_text(data).split("\x1f"), "", "")[:6]
    rule, refused = match(response, answers), refusal(response, template)
    assert rule in ("", "exact", "folded") and refused in ("", "refused", "refused_and_answered")
    outcome, why = judge(response, answers, template)
    wanted = (Outcome.CORRECT, rule) if rule else (Outcome.REFUSED, refused) if refused else None
    assert (outcome, why) == wanted if wanted else outcome is Outcome.WRONG and why in ("empty", "no_match")
    line = (response.strip().splitlines() or [""])[0]
    assert match(line, [line]) == ("exact" if normalise(line) else "")
    options = [*answers, "Rome", "Paris"][:10]
    choice = parse_choice(response, options)
    assert choice is None or 0 <= choice.option < len(options)
    outcome, why = judge_choice(response, options, 0, template)
    assert why in ("letter", "option", "refused", "refused_and_answered", "unparsable")
    assert (why == "unparsable") <= (outcome is Outcome.WRONG)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _comes_back(found: list, kind: type) -> None:
    for suffix in (".jsonl", ".parquet"):
        path = _FOLDER / f"again{suffix}"
        write_records(path, found, kind)
        assert read_records(path, kind) == found


TARGETS: dict[str, Callable[[bytes], None]] = {
    **{f"questions{end}": partial(questions, f"q{end}") for end in (".jsonl", ".json", ".csv", ".tsv", ".parquet")},
    "questions.mmlu": partial(questions, "anatomy_test.csv"),
    "questions.opentriviaqa": partial(questions, "history", form="opentriviaqa"),
    "states.jsonl": partial(records, "s.jsonl", kind=KnowledgeState),
    "states.parquet": partial(records, "s.parquet", kind=KnowledgeState),
    "examples.jsonl": partial(records, "e.jsonl", kind=Example),
    "verdicts.jsonl": partial(verdicts, "v.jsonl"),
    "recipe": recipe,
    "override": override,
    "asked": put,
    "matcher": matcher,
}  # fmt: skip
