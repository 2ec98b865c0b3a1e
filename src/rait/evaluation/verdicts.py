"""Verdicts from a file: those that `rait evaluate` wrote, or plain responses made elsewhere.

    verdicts = read_verdicts("responses.jsonl")

A row is a verdict if it has an `outcome`, and is taken as it is; else it is judged by the rules of `rait.judging`.

| column | to be judged | with an outcome |
|---|---|---|
| id | required: text or a whole number, once | required |
| response | required: text | optional |
| answers, or answer | required: accepted answers, a list or one | optional |
| options, target | of multiple choice, instead of answers: texts, and which is right | optional |
| outcome | | correct, wrong, refused or failed |
| rule | | optional, else "given" |
| question, category | optional | optional |
"""

from pathlib import Path
from typing import Any

from rait.choosing import judge_choice
from rait.errors import InputError
from rait.judging import REFUSAL, judge
from rait.manifest import intact
from rait.questions.layout import find_target
from rait.records import LETTERS, Outcome, Verdict
from rait.tables import read_rows, report_problems


def read_verdicts(path: str | Path, refusal_template: str = REFUSAL) -> list[Verdict]:
    """Read the verdicts of a JSON Lines or Parquet file and judge the rows that have none.

    Raises InputError naming file, line and column of each row that cannot be used, or for a file without rows.
    """
    verdicts: list[Verdict] = []
    problems: list[str] = []
    seen: dict[str, str] = {}
    for where, row in read_rows(intact(Path(path))):
        try:
            verdict = _verdict({name: value for name, value in row.items() if value is not None}, refusal_template)
        except InputError as problem:
            problems.append(f"{where}: {problem}")
            continue
        if verdict.id in seen:
            problems.append(f"{where}: id {verdict.id!r} was already used at {seen[verdict.id]}")
        seen[verdict.id] = where
        verdicts.append(verdict)
    report_problems(problems, f"{path} does not hold verdicts or responses")
    if not verdicts:
        raise InputError(f"{path} holds no rows; expected one a question with id, response and answers")
    return verdicts


def _verdict(row: dict[str, Any], refusal_template: str) -> Verdict:
    judged = "outcome" in row
    options, target = _options(row)
    missing = [repr(name) for name in ("id",) + (() if judged else ("response",)) if name not in row]
    if not judged and target is None and "answers" not in row and "answer" not in row:
        missing.append("'answers' (or 'answer')")
    if missing:
        hint = "" if judged else "; a row without 'outcome' is judged, and needs id, response and answers"
        raise InputError(f"no {', no '.join(missing)}{hint}")
    response = _text(row.get("response", ""), "response")
    answers = _answers(row) or (() if target is None else (options[target],))
    if judged:
        outcome, rule = _outcome(row["outcome"]), _text(row.get("rule", "given"), "rule")
    elif target is not None:
        outcome, rule = judge_choice(response, options, target, refusal_template)
    else:
        if not any(answer.strip() for answer in answers):
            raise InputError("no accepted answer; without one a response cannot be judged")
        outcome, rule = judge(response, answers, refusal_template)
    return Verdict(
        id=_text(row["id"], "id"),
        question=_text(row.get("question", ""), "question"),
        answers=answers,
        category=_text(row.get("category", ""), "category"),
        options=options,
        target=target,
        response=response,
        outcome=outcome,
        rule=rule,
    )


def _options(row: dict[str, Any]) -> tuple[tuple[str, ...], int | None]:
    """The options of a multiple-choice question and the index of the right one; () and None where there are none."""
    options = row.get("options") or []
    if not isinstance(options, list):
        raise InputError(f"'options' should be a list of texts, found {options!r}"[:200])
    texts = tuple(_text(option, "options") for option in options)
    if not texts:
        return (), None
    if not 2 <= len(texts) <= len(LETTERS):
        raise InputError(f"'options' holds {len(texts)}, expected 2 to {len(LETTERS)} options")
    target = find_target(row.get("target"), texts)
    if isinstance(target, str):
        raise InputError(f"'target' {target}"[:200])
    return texts, target


def _answers(row: dict[str, Any]) -> tuple[str, ...]:
    name = "answers" if "answers" in row else "answer"
    value = row.get(name, [])
    return tuple(_text(item, name) for item in (value if isinstance(value, list) else [value]))


def _text(value: Any, name: str) -> str:
    """Take text, or a whole number as text: ids and answers of files made elsewhere are often numbers."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise InputError(f"{name!r} should be text, found {value!r}"[:200])


def _outcome(value: Any) -> Outcome:
    try:
        return Outcome(value)
    except ValueError:
        raise InputError(f"'outcome' should be one of {', '.join(Outcome)}, found {value!r}"[:200]) from None
