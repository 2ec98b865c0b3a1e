"""The forms in which questions are published, and how each is recognised.

    for place, entry in open_source(Questions(source="mmlu", split="val")).entries: ...

| form | what | recognised by |
|---|---|---|
| rows | a table with a column for each field | nothing else fits |
| mmlu | SUBJECT_SPLIT.csv: question, A, B, C, D, target, with a header or none; a folder of these | name and columns |
| arc | question.stem, question.choices, answerKey; or, as on the hub, question, choices, answerKey | columns |
| triviaqa | TriviaQA and Natural Questions: qid, question, answer, answers; or as published by TriviaQA | columns |
| opentriviaqa | blocks of text (see `rait.questions.opentriviaqa`); a folder of these | first line |

The category of a question of MMLU is its subject, and that of OpenTriviaQA the name of the file.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from itertools import chain, takewhile
from pathlib import Path
from typing import Any, NamedTuple

from rait.errors import InputError
from rait.questions.atlas import atlas_choices, atlas_questions
from rait.questions.files import SUFFIXES, Place, Row, dataset_rows, file_rows, first_cells
from rait.questions.layout import Layout
from rait.questions.opentriviaqa import Dropped, is_opentriviaqa, read_opentriviaqa
from rait.records import LETTERS, Question
from rait.settings import Questions
from rait.tables import check_readable

# What stands at a place: a row, what is wrong with it, a question, or why there is none.
Entry = Row | Question | Dropped
# The form of a row, and where it has its fields.
LayoutOf = Callable[[dict[str, Any]], tuple[str, Layout]]

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_MMLU_NAME = re.compile(r"(.+)_(dev|val|test|train)\.csv", re.IGNORECASE)
_MMLU_COLUMNS = ("question", "A", "B", "C", "D", "target")
_SPLIT_NAMES = {"validation": "val"}

_MMLU = Layout(answers=(), options=("A", "B", "C", "D"), target="target", target_is="letter", cells=True)
_ARC_TABLE = Layout(answers=(), options=("choices.text",), labels="choices.label", target="answerKey")
_ARC = replace(
    _ARC_TABLE, question="question.stem", options=("question.choices.text",), labels="question.choices.label"
)
_TRIVIAQA = Layout(id="qid")
_TRIVIAQA_TABLE = Layout(id="question_id", answers=("answer.value", "answer.aliases"))
_TRIVIAQA_PUBLISHED = Layout(id="QuestionId", question="Question", answers=("Answer.Value", "Answer.Aliases"))


class Source(NamedTuple):
    """What stands in a source, read as it is gone through, and how its rows are understood.

    `form` is "" where every row has to tell.
    """

    form: str
    entries: Iterable[tuple[Place, Entry]]
    layout_of: LayoutOf


def open_source(settings: Questions) -> Source:
    """Find what a recipe names; raise `InputError` for a source that is not there or of an unknown kind."""
    source, form, path = settings.source, settings.form, Path(settings.source)
    suffix = path.suffix.lower()
    if source == "atlas":
        return Source("atlas", _numbered(atlas_questions(settings.split)), _no_row)
    if source == "atlas-choice":
        return Source("atlas", _numbered(atlas_choices(settings.split)), _no_row)
    if path.is_dir():
        if files := _mmlu_files(path, settings.split, form):
            return _mmlu(files)
        if texts := _opentriviaqa_files(path, form):
            return Source("opentriviaqa", read_opentriviaqa(texts), _no_row)
        return Source("", dataset_rows(source, settings.name, settings.split), _finder(settings, cells=False))
    if form == "opentriviaqa" or (path.is_file() and suffix not in SUFFIXES and is_opentriviaqa(path)):
        return Source("opentriviaqa", read_opentriviaqa([check_readable(path)]), _no_row)
    if form == "mmlu" and suffix != ".csv":
        raise InputError(f"{source} is not of form mmlu; give SUBJECT_SPLIT.csv or a folder of such files")
    if form == "mmlu" or (form == "auto" and not settings.fields and _is_mmlu(path)):
        return _mmlu([check_readable(path)])
    if suffix in SUFFIXES:
        return Source("", file_rows(path), _finder(settings, cells=suffix in (".csv", ".tsv")))
    if path.is_file():
        raise InputError(
            f"{source} is of an unknown kind; questions can be read from {', '.join(SUFFIXES)} and OpenTriviaQA text"
        )
    if _HUB_ID.fullmatch(source):
        return Source("", dataset_rows(source, settings.name, settings.split), _finder(settings, cells=False))
    raise InputError(f"{source} does not exist; give a file, a folder, a Hugging Face dataset id, or atlas")


def _numbered(questions: Iterable[Question]) -> Iterator[tuple[Place, Question]]:
    for number, question in enumerate(questions, 1):
        yield ("atlas ", number), question


def _mmlu(files: Iterable[Path]) -> Source:
    return Source("mmlu", chain.from_iterable(map(_mmlu_rows, files)), lambda row: ("mmlu", _MMLU))


def _finder(settings: Questions, *, cells: bool) -> LayoutOf:
    """The function that finds the fields of rows, once for all rows that have the same columns."""

    @lru_cache(maxsize=256)
    def find(columns: tuple[str, ...], nested: frozenset[str]) -> tuple[str, Layout]:
        form, layout = _recognise(settings.form, columns, nested)
        named = {field: _of_field(field, given) for field, given in settings.fields.items()}
        return form, replace(layout, **named, cells=cells, separator=settings.separator, target_is=settings.target_is)

    return lambda row: find(tuple(row), frozenset(name for name in row if isinstance(row[name], dict | list)))


def _of_field(field: str, given: str | tuple[str, ...] | None) -> Any:
    if field in ("answers", "options"):
        return () if given is None else (given,) if isinstance(given, str) else given
    return given or ""


def _recognise(form: str, columns: tuple[str, ...], nested: frozenset[str]) -> tuple[str, Layout]:
    """The form of a row with these columns, of which some hold objects or lists, and its layout."""
    if form == "arc" or (form == "auto" and "answerKey" in columns and nested & {"question", "choices"}):
        return "arc", _ARC if "question" in nested else _ARC_TABLE
    if form in ("auto", "triviaqa"):
        if "Question" in columns and "Answer" in nested:
            return "triviaqa", _TRIVIAQA_PUBLISHED
        if "answer" in nested and "question_id" in columns:
            return "triviaqa", _TRIVIAQA_TABLE
        if form == "triviaqa" or {"qid", "answer", "answers"} <= set(columns):
            return "triviaqa", _TRIVIAQA
    letters = tuple(takewhile(columns.__contains__, LETTERS))
    options = next(((name,) for name in ("options", "choices") if name in columns), letters if len(letters) > 1 else ())
    return "rows", Layout(
        id=_first(columns, "id", "qid"),
        category=_first(columns, "category", "subject"),
        options=options,
        target=_first(columns, "target", "answer"),
    )


def _first(columns: tuple[str, ...], *names: str) -> str:
    return next((name for name in names if name in columns), names[0])


def _no_row(row: Mapping[str, Any]) -> tuple[str, Layout]:
    raise TypeError("OpenTriviaQA has no rows")


def _is_mmlu(path: Path) -> bool:
    """Whether a .csv file is one of MMLU by its name and its first line, be that a header or a question."""
    if not _MMLU_NAME.fullmatch(path.name) or not path.is_file():
        return False
    cells = first_cells(path)
    return set(_MMLU_COLUMNS) <= set(cells) or (len(cells) == len(_MMLU_COLUMNS) and cells[-1].strip() in _MMLU.options)


def _mmlu_files(folder: Path, split: str, form: str) -> list[Path]:
    """The files of the split in a folder of MMLU or in its folders; [] where there is no such file.

    A folder with the files of a single split is that split, as a file is.
    """
    if form not in ("auto", "mmlu"):
        return []
    by_split: dict[str, list[Path]] = {}
    for path in sorted([*folder.glob("*.csv"), *folder.glob("*/*.csv")]):
        if name := _MMLU_NAME.fullmatch(path.name):
            by_split.setdefault(name[2].lower(), []).append(path)
    if form == "auto" and not any(_is_mmlu(files[0]) for files in by_split.values()):
        return []
    if not by_split:
        raise InputError(f"{folder} holds no file named SUBJECT_SPLIT.csv, as those of MMLU are")
    wanted = _SPLIT_NAMES.get(split, split)
    if wanted not in by_split and len(by_split) > 1:
        raise InputError(f"{folder} has no split {split!r}; choose one of {', '.join(sorted(by_split))}")
    return by_split.get(wanted) or next(iter(by_split.values()))


def _mmlu_rows(path: Path) -> Iterator[tuple[Place, Row]]:
    """Rows with their subject as category, and an id if they have none: subject/split/number from 0."""
    name = _MMLU_NAME.fullmatch(path.name)
    subject, split = (name[1], name[2]) if name else (path.stem, "")
    header = () if "question" in first_cells(check_readable(path)) else _MMLU_COLUMNS
    for number, (place, row) in enumerate(file_rows(path, header)):
        if isinstance(row, dict):
            row = {"id": f"{subject}/{split}/{number}", **row, "category": subject}
        yield place, row


def _opentriviaqa_files(folder: Path, form: str) -> list[Path]:
    if form not in ("auto", "opentriviaqa"):
        return []
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.suffix and is_opentriviaqa(path)]
    if form == "opentriviaqa" and not files:
        raise InputError(f"{folder} holds no file without suffix that begins with '#Q', as those of OpenTriviaQA do")
    return files
