"""Questions from a file, a folder, a Hugging Face dataset or the embedded set, as records.

    load_questions("atlas", split="test")
    load_questions("questions.csv", limit=500, seed=1)
    load_questions("cais/mmlu", name="all", split="test")
    read_questions(Questions(source="pairs.jsonl", fields={"question": "prompt", "answers": "gold.texts"})).dropped

A source has a column `question`, a column `answers` (a list, or one text) or `answer` or both, and may have `id` and
`category`; other columns are ignored, other names are given as `fields`. Multiple-choice questions have `options` (or
`choices`, or the columns A, B, C ...) and `target` (or `answer`): an index from 0, a letter, or the option's text. In
.csv and .tsv files a cell of answers or options is a JSON list, or texts with "|" between them. Without an id a
question gets a hash of its text and options. Published sets are recognised (see `rait.questions.forms`).

All problems of a source are reported at once, with their lines. What is left out without being a mistake of the user's
is counted by reason. A source is gone through once, and what is held does not grow with it, beyond the questions that
are returned and their places.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from heapq import heappush, heapreplace
from operator import itemgetter
from typing import Any, Protocol

from rait.errors import InputError
from rait.questions.files import Place, where
from rait.questions.forms import open_source
from rait.questions.layout import Layout, fields_of, has_column, look_up, to_question
from rait.questions.openended import needs_options
from rait.questions.opentriviaqa import Dropped
from rait.recipe import check_recipe
from rait.records import Question
from rait.settings import Questions
from rait.tables import kind_of, report_problems

_PROBLEMS_HELD = 1000  # of the others the kind is kept


@dataclass(slots=True)
class Understood:
    """What was made of a source: its form, where the fields were found, how many rows there are, what was left out."""

    form: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    rows: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The questions of a source, of which form it is, how many it has (`limit` aside), and why others are left out."""

    questions: list[Question]
    form: str
    count: int
    dropped: dict[str, int]


class Held(Protocol):
    """Ids of the questions that are kept, and their places; a dictionary is one."""

    def get(self, id: str, /) -> Place | None:
        """Where the question stands that has the id."""


def load_questions(
    source: str, *, split: str = "train", limit: int | None = None, seed: int = 0, **settings: Any
) -> list[Question]:
    """Return the questions of `source`: "atlas", a file, a folder, or a Hugging Face dataset id.

    A file is one split by itself, so `split` does not matter to it. `limit` takes a subset that depends on `seed` and
    the ids alone: not on the order of the source, and a larger limit only adds to it. The order of the source is kept.
    Ids have to differ among the questions that are returned.
    `settings` are the other keys of `rait.settings.Questions` (name, form, fields ...). Raises `InputError` with all
    problems found, and `RecipeError` for settings that do not exist.
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit is {limit}; it must be 1 or more")
    given = {"source": source, "split": split, "limit": limit, **settings}
    return read_questions(check_recipe({"questions": given}, "load_questions").questions, seed).questions


def read_questions(settings: Questions, seed: int = 0) -> Reading:
    """Return the questions that a recipe names, and what was left out (reason -> number); see `load_questions`."""
    understood = Understood()
    held: dict[str, Place] = {}
    found = enumerate(iter_questions(settings, understood, held), 1)
    count, taken = 0, list[tuple[int, int, Question]]()  # a heap, whose first is the question that comes last
    questions: list[Question] = []
    for count, (place, question) in found:
        if settings.limit is None:
            questions.append(question)
        else:
            turn = -int.from_bytes(sha256(f"{seed}/{question.id}".encode()).digest())
            if len(taken) < settings.limit:
                heappush(taken, (turn, count, question))
            elif turn > taken[0][0]:
                del held[heapreplace(taken, (turn, count, question))[2].id]
            else:
                continue
        held[question.id] = place
    questions += [question for _, _, question in sorted(taken, key=itemgetter(1))]
    if not questions:
        reasons = ", ".join(f"{reason}: {number}" for reason, number in understood.dropped.items())
        raise InputError(f"{settings.source} has no question that can be used ({reasons}); give another source")
    return Reading(questions=questions, form=understood.form, count=count, dropped=dict(understood.dropped))


def iter_questions(settings: Questions, understood: Understood, held: Held) -> Iterator[tuple[Place, Question]]:
    """Yield the questions of a source as they are read, and fill in what was `understood`.

    `held` has the ids of the questions that the caller keeps, and their places; no other may have one of these. Raises
    `InputError` at the end, with every problem of the source: until then, nothing of it is sure.
    """
    source = open_source(settings)
    understood.form = source.form
    columns = _Columns(settings)
    problems, broken = list[str](), list[str]()
    for place, entry in source.entries:
        if isinstance(entry, str):
            _note(broken, place, [entry])
            _note(problems, place, [entry])
            continue
        understood.rows += 1
        if isinstance(entry, Dropped):
            understood.dropped[entry.reason] += 1
            continue
        question: Question | None
        if isinstance(entry, Question):
            question, wrong, own_id = entry, list[str](), True
        else:
            form, layout = source.layout_of(entry)
            question, wrong = to_question(entry, layout)
            own_id = look_up(entry, layout.id) is not None
            columns.look_at(entry, layout, question is not None)
            if question is not None and not understood.fields:
                understood.form, understood.fields = form, fields_of(entry, layout)
        if question is not None and (before := held.get(question.id)):
            same = f"id {question.id!r} was already used" if own_id else "the same question was asked"
            wrong = [f"{same} at {where(before)}; {'ids must differ' if own_id else 'keep one, or give each an id'}"]
        if question is None or wrong:
            _note(problems, place, wrong)
        elif settings.options == "drop" and (reason := needs_options(question)):
            understood.dropped[reason] += 1
        else:
            yield place, replace(question, options=(), target=None) if settings.options == "drop" else question
    headline = f"{settings.source} cannot be read as questions"
    if not understood.rows:
        report_problems(broken or ["it holds no rows"], headline)
    if missing := columns.missing():
        report_problems(missing + broken, headline)
    report_problems(problems, headline)


class _Columns:
    """Which columns the rows of a source have, so that what all of them lack is said once and not for every row."""

    def __init__(self, settings: Questions) -> None:
        named = {name: [paths] if isinstance(paths, str) else paths or () for name, paths in settings.fields.items()}
        self._found: dict[str, Sequence[str]] = {}  # columns, and what is in them
        self._named = {path: name for name, paths in named.items() for path in paths}
        self._unseen = set(self._named)  # of these, those that no row has
        self._needed: dict[tuple[str, tuple[str, ...]], bool] = {}  # whether a row has one of the columns of a field
        self._good = False  # whether a row gave a question
        own = settings.form in ("auto", "rows")
        self._remedy = "give yours as questions.fields.{}=COLUMN" if own else f"rows of form {settings.form} have one"

    def look_at(self, row: dict[str, Any], layout: Layout, good: bool) -> None:
        """Take note of a row, and of what it needed if it gave no question."""
        for name in row:
            if name not in self._found:
                self._found[name] = _inner(row[name])
        self._good = self._good or good
        if self._unseen:
            self._unseen -= {path for path in self._unseen if has_column(row, path)}
        if not self._good:
            needed = {"question": (layout.question,), "answers": layout.answers}
            if layout.has_options(row):
                needed |= {"answers": (), "options": layout.options, "target": (layout.target,)}
            for field in filter(itemgetter(1), needed.items()):
                self._needed[field] = self._needed.get(field, False) or any(has_column(row, path) for path in field[1])

    def missing(self) -> list[str]:
        """What is wrong with the source as a whole."""
        columns = [f"{name}.{inner}" if inner else name for name in self._found for inner in self._found[name] or [""]]
        found = f"found: {', '.join(columns) or 'none'}"
        problems = {
            path: f"no column {path!r}, named by questions.fields.{name}; {found}"
            for path, name in self._named.items()
            if path in self._unseen
        }
        for (name, paths), seen in self._needed.items():
            if not (seen or self._good):
                path = "answers" if name == "answers" and "answers" in paths else " ".join(paths)
                problems.setdefault(path, f"no column {path!r}; {found}; {self._remedy.format(name)}")
        return list(problems.values())


def _inner(value: Any) -> Sequence[str]:
    """The names in an object, or in the first object of a list."""
    first = value[0] if isinstance(value, list) and value else value
    return list(first) if isinstance(first, dict) else ()


def _note(problems: list[str], place: Place, wrong: Sequence[str]) -> None:
    for what in wrong:
        line = f"{where(place)}: {what}"
        problems.append(line if len(problems) < _PROBLEMS_HELD else sys.intern(kind_of(line)))
