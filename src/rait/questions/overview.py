"""What was understood of a source of questions, for the one who gave it.

print(format_overview(overview(Questions(source="questions.csv"))))
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from rait.judging import REFUSAL
from rait.questions.files import Place, where
from rait.questions.readers import Understood, iter_questions
from rait.questions.seen import Seen
from rait.questions.validation import Finding, validate
from rait.records import LETTERS, Question
from rait.settings import Questions

_EXAMPLES = 3
_LENGTH = 300  # characters of a text that are shown
_CATEGORIES = 60


def overview(settings: Questions, refusal: str = REFUSAL) -> dict[str, Any]:
    """Read a source to its end, `limit` aside, and return as plain data what is in it.

    No more of it is held than the examples. Raises `InputError` with all problems of the source.
    """
    understood = Understood()
    examples: list[Question] = []
    options: Counter[int] = Counter()
    categories: Counter[str] = Counter()

    def looked_at(places: Seen[Place]) -> Iterator[Question]:
        for place, question in iter_questions(settings, understood, places):
            places.put(question.id, place)
            options[len(question.options)] += 1
            categories[question.category] += 1
            if len(examples) < _EXAMPLES:
                examples.append(question)
            yield question

    with Seen[Place]() as places:
        findings = [_finding(finding, places) for finding in validate(looked_at(places), refusal).findings]
    return {
        "source": settings.source,
        "form": understood.form,
        "fields": understood.fields,
        "rows": understood.rows,
        "questions": options.total(),
        "open_ended": options[0],
        "by_number_of_options": {str(number): count for number, count in sorted(options.items()) if number},
        "dropped": dict(understood.dropped.most_common()),
        "findings": findings,
        "categories": dict(sorted(categories.items())),
        "examples": [
            {
                "id": question.id,
                "question": question.question,
                "answers": list(question.answers),
                "category": question.category,
                "options": list(question.options),
                "target": question.target,
            }
            for question in examples
        ],
    }


def format_overview(found: dict[str, Any]) -> str:
    """The overview as lines of text."""
    lines = [f"{found['source']}: {found['questions']} questions of {found['rows']} rows, form {found['form']}"]
    if fields := found["fields"]:
        named = [name if name == columns else f"{name} from {columns}" for name, columns in fields.items()]
        lines.append("fields: " + "; ".join(named + ([] if "id" in fields else ["id made of the text"])))
    if found["open_ended"]:
        lines.append(f"open-ended: {found['open_ended']}")
    if found["by_number_of_options"]:
        kinds = [f"{count} with {number} options" for number, count in found["by_number_of_options"].items()]
        lines.append("multiple choice: " + ", ".join(kinds))
    if found["dropped"]:
        lines.append(f"left out: {sum(found['dropped'].values())}")
        lines += [f"  {count:>7} {reason}" for reason, count in found["dropped"].items()]
    lines += [f"note: {finding['text']}" for finding in found["findings"]]
    for example in found["examples"]:
        lines += ["", *_example(example)]
    categories = {name or "(none)": count for name, count in found["categories"].items()}
    if set(categories) - {"(none)"}:
        lines += ["", f"categories: {len(categories)}"]
        lines += [f"  {count:>7} {name}" for name, count in list(categories.items())[:_CATEGORIES]]
        lines += [f"  ... and {len(categories) - _CATEGORIES} more"] if len(categories) > _CATEGORIES else []
    return "\n".join(lines)


def _finding(finding: Finding, places: Seen[Place]) -> dict[str, Any]:
    stand = [where(place) for id in finding.ids if (place := places.get(id))]
    return {
        "kind": finding.kind,
        "count": finding.count,
        "excluded": finding.excluded,
        "ids": finding.ids,
        "places": stand,
        "text": finding.told(", ".join(stand[:3] + (["..."] if finding.count > 3 else []))),
    }


def _example(example: dict[str, Any]) -> list[str]:
    lines = [f"{example['id']}: {_short(example['question'])}"]
    for place, option in enumerate(example["options"]):
        lines.append(f"  {LETTERS[place]} {_short(option)}{'   <- right' if place == example['target'] else ''}")
    return lines if example["options"] else [*lines, f"  = {_short(' | '.join(example['answers']))}"]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LENGTH else f"{line[: _LENGTH - 3]}..."
