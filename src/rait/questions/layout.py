"""From a row to a question: which column holds what, and what every value has to be.

    layout = Layout(options=("choices.text",), labels="choices.label", target="answerKey")
    question, problems = to_question(row, layout, cells=False)

A column is named by its path, with dots for what is nested; a path goes into every item of a list, so that
"choices.text" of [{"text": "a"}, {"text": "b"}] is ["a", "b"]. Everything that is wrong with a row is said at once.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rait.questions.files import reason
from rait.records import LETTERS, Question

_FEWEST_OPTIONS, _MOST_OPTIONS = 2, 10
_SHOWN_LENGTH = 60
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")  # as of "\\ud83d" in JSON: it could be neither hashed nor written
_EXPECTED = {
    "index": "an index (0 to {last})",
    "number": "a number (1 to {count})",
    "letter": "a letter (A to {letter})",
    "text": "the text of an option",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where a row has the fields of a question; "" or () for nowhere.

    Of `answers`, all columns are taken together. One column of `options` holds them all, several hold one each.
    `labels` are the names by which `target` calls the options. `rait.settings.Questions` says what `target_is` and
    `separator` are; `cells` says that values are cells of a .csv or .tsv file, all of them texts.
    """

    question: str = "question"
    answers: tuple[str, ...] = ("answer", "answers")
    id: str = "id"
    category: str = "category"
    options: tuple[str, ...] = ()
    labels: str = ""
    target: str = ""
    target_is: str = "auto"
    separator: str | None = None
    cells: bool = False

    def has_options(self, row: dict[str, Any]) -> bool:
        """Whether the row is multiple choice: it can be nothing else, has options, or names the right one."""
        if not self.options or not self.answers:
            return bool(self.options)
        if any(look_up(row, path) not in (None, []) for path in self.options):
            return True
        return self.target not in self.answers and look_up(row, self.target) is not None


def look_up(row: Any, path: str) -> Any:
    """Return what stands at a path, None for nothing and for no path; a column whose own name has dots goes first."""
    if not path:
        return None
    if path in row:
        return row[path]
    value = row
    for part in path.split("."):
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list):
            value = [item.get(part) if isinstance(item, dict) else None for item in value]
        else:
            return None
    return value


def has_column(row: dict[str, Any], path: str) -> bool:
    """Whether the row has a column, be it empty; of a nested one, whether there is something in it."""
    return path in row or look_up(row, path) is not None


def fields_of(row: dict[str, Any], layout: Layout) -> dict[str, str]:
    """The fields of a row and the columns in which they stand, for a reader."""
    columns = {"question": (layout.question,), "answers": layout.answers}
    if layout.has_options(row):
        columns["answers"] = ()
        columns |= {"options": layout.options, "labels": (layout.labels,), "target": (layout.target,)}
    columns |= {"id": (layout.id,), "category": (layout.category,)}
    found = {name: [path for path in paths if look_up(row, path) is not None] for name, paths in columns.items()}
    return {name: ", ".join(paths) for name, paths in found.items() if paths}


def to_question(row: dict[str, Any], layout: Layout) -> tuple[Question | None, list[str]]:
    """Return the row's question, or None and everything that is wrong with the row."""
    problems: list[str] = []
    text = _text(row, layout.question, problems)
    options, target, answers = list[str](), None, list[str]()
    if layout.has_options(row):
        options, target = _options(row, layout, problems)
        answers = [] if target is None else [options[target]]
    else:
        answers = _answers(row, layout, problems)
    name = look_up(row, layout.id)
    if name is not None and not (type(name) is int or (_is_text(name) and name.strip())):
        problems.append(f"{layout.id!r} must be a text or a whole number, found {_shown(name)}")
    category = look_up(row, layout.category)
    if category is not None and not _is_text(category):
        problems.append(f"{layout.category!r} must be a text, found {_shown(category)}")
    if problems:
        return None, problems
    question = Question(
        id=identity(text, options) if name is None else str(name).strip(),
        question=text,
        answers=tuple(dict.fromkeys(answers)),
        category=(category or "").strip(),
        options=tuple(options),
        target=target,
    )
    return question, []


def identity(text: str, options: Sequence[str] = ()) -> str:
    """The id of a question that has none: a hash of its text and options, whatever their case, spacing and order."""
    parts = [_folded(text), *sorted(map(_folded, options))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def find_target(value: Any, options: Sequence[str], labels: Sequence[str] = (), target_is: str = "auto") -> int | str:
    """Return the index of the option that `value` names, or what is wrong with it.

    With labels it has to be one of them. Else `target_is` says what it is; "auto" takes a number as an index from 0,
    and a text as an index, a letter or the text of an option; it refuses what can be read in two ways.
    """
    if labels:
        places = [place for place, label in enumerate(labels) if label == str(value).strip()]
        return places[0] if len(places) == 1 else f"must be one of {', '.join(labels)}, found {_shown(value)}"
    kinds = (target_is,) if target_is != "auto" else ("index",) if type(value) is int else ("index", "letter", "text")
    readings = [(place, kind) for kind in kinds for place in _readings(value, kind, options)]
    found = {place for place, _ in readings}
    if len(found) == 1:
        return found.pop()
    if found:
        named = " or ".join(f"option {place + 1} ({kind})" for place, kind in readings)
        remedy = "set questions.target_is" if len({kind for _, kind in readings}) > 1 else "options must differ"
        return f"is {_shown(value)}, which may mean {named}; {remedy}"
    counts = {"last": len(options) - 1, "count": len(options), "letter": LETTERS[len(options) - 1]}
    return f"must be {' or '.join(_EXPECTED[kind].format(**counts) for kind in kinds)}, found {_shown(value)}"


def _readings(value: Any, kind: str, options: Sequence[str]) -> list[int]:
    """The options that `value` names if it is of that kind."""
    text = str(value).strip() if type(value) in (int, str) else ""
    if kind == "text":
        return [place for place, option in enumerate(options) if option == text]
    if kind == "letter":
        place = LETTERS.find(text.upper()) if len(text) == 1 else -1
    else:
        place = int(text) - (kind == "number") if re.fullmatch("[0-9]{1,3}", text) else -1
    return [place] if 0 <= place < len(options) else []


def _text(row: dict[str, Any], path: str, problems: list[str]) -> str:
    value = look_up(row, path)
    if value is None:
        found = ", ".join(name for name in row if row[name] is not None) or "nothing"
        problems.append(f"{path!r} is missing; found: {found}")
    elif not _is_text(value):
        problems.append(f"{path!r} must be a text, found {_shown(value)}")
    elif not value.strip():
        problems.append(f"{path!r} is empty")
    else:
        return str(value.strip())
    return ""


def _answers(row: dict[str, Any], layout: Layout, problems: list[str]) -> list[str]:
    answers: list[str] = []
    found = False
    for path in layout.answers:
        if (value := look_up(row, path)) is not None:
            answers += _texts(value, path, "answer", layout, problems)
            found = True
    if not found:
        problems.append(f"{layout.answers[-1] if layout.answers else 'answers'!r} is missing; give one answer or more")
    return answers


def _options(row: dict[str, Any], layout: Layout, problems: list[str]) -> tuple[list[str], int | None]:
    """The texts of the options and the index of the right one."""
    values = [look_up(row, path) for path in layout.options]
    while values and values[-1] is None:
        values.pop()
    name = layout.options[0]
    if not values:
        problems.append(f"{name!r} is missing; give {_FEWEST_OPTIONS} to {_MOST_OPTIONS} options")
        return [], None
    labels: Any = look_up(row, layout.labels)
    wrong: list[str] = []
    if len(layout.options) > 1:  # a column each
        name = " ".join(layout.options)
        options = [_text(row, path, wrong) for path in layout.options[: len(values)]]
    elif isinstance(values[0], dict):  # {"A": "one", "B": "two"}
        given = {label: text for label, text in values[0].items() if text is not None}
        labels, options = list(given), _texts(list(given.values()), name, "option", layout, wrong)
    else:
        options = _texts(values[0], name, "option", layout, wrong)
    if labels is not None:
        labels = _texts(labels, layout.labels or name, "label", layout, wrong)
    problems += wrong
    if wrong:
        return options, None
    if not _FEWEST_OPTIONS <= len(options) <= _MOST_OPTIONS:
        problems.append(f"{name!r} holds {len(options)}, expected {_FEWEST_OPTIONS} to {_MOST_OPTIONS} options")
    elif labels is not None and not len(labels) == len(set(labels)) == len(options):
        problems.append(
            f"{layout.labels or name!r} must name each of the {len(options)} options, found {_shown(labels)}"
        )
    elif (value := look_up(row, layout.target)) is None:
        problems.append(f"{layout.target!r} is missing; name the right option")
    else:
        target = find_target(value, options, labels or (), layout.target_is)
        if isinstance(target, int):
            return options, target
        problems.append(f"{layout.target!r} {target}")
    return options, None


def _texts(value: Any, path: str, what: str, layout: Layout, problems: list[str]) -> list[str]:
    """A value as a list of texts, where it is one: a list, a JSON list, texts with a separator, or a single text."""
    listed = value
    if isinstance(value, str):
        try:
            listed = _split(value, layout)
        except ValueError as error:
            problems.append(f"{path!r} begins like a JSON list but is none ({error})")
            return []
    if not isinstance(listed, list) or not all(map(_is_text, listed)):
        problems.append(f"{path!r} must be a text or a list of texts, found {_shown(value)}")
        return []
    texts = [text.strip() for text in listed]
    if not all(texts) or not texts:
        article = "an" if what[0] in "ao" else "a"
        problems.append(f"{path!r} holds {article} empty {what}" if texts else f"{path!r} is empty")
    return texts


def _split(value: str, layout: Layout) -> Any:
    """Raise `ValueError` for a cell that should be JSON; elsewhere a text may well begin with a bracket."""
    if value.lstrip().startswith("["):
        try:
            listed = json.loads(value)
            if layout.cells or (isinstance(listed, list) and all(map(_is_text, listed))):
                return listed
        except (ValueError, RecursionError) as error:
            if layout.cells:
                raise ValueError(reason(error)) from error
    separator = layout.separator or ("|" if layout.cells else None)
    return value.split(separator) if separator else [value]


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and (value.isascii() or not _HALF_CHARACTER.search(value))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_LENGTH else f"{text[: _SHOWN_LENGTH - 3]}..."


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
