"""Questions from a file, a Hugging Face dataset or the embedded set, as records.

    load_questions("atlas", split="test")
    load_questions("questions.csv", limit=500, seed=1)
    load_questions("org/dataset", split="validation")

A source has a column `question`, a column `answers` (a list, or one text) or `answer` or both, and may have `id` and
`category`; other columns are ignored. In .csv and .tsv files a cell of answers is a JSON list, or alternatives with "|"
between them. Without an id a question gets a hash of its text. All problems of a source are reported at once, with
their lines.
"""

import csv
import hashlib
import heapq
import io
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rait.errors import InputError
from rait.questions.atlas import atlas_questions
from rait.records import Question
from rait.tables import check_readable, read_rows, report_problems

# Where an entry stands, and the entry's columns or what is wrong with it.
Entry = tuple[str, dict[str, Any] | str]

_ANSWER_COLUMNS = ("answer", "answers")
_COLUMNS = ("id", "question", *_ANSWER_COLUMNS, "category")
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


def load_questions(source: str, *, split: str = "train", limit: int | None = None, seed: int = 0) -> list[Question]:
    """Return the questions of `source`: "atlas", a file, a folder in dataset form, or a Hugging Face dataset id.

    A file is one split by itself, so `split` does not matter to it. `limit` takes a subset that depends on `seed` and
    the ids alone: not on the order of the source, and a larger limit only adds to it. The order of the source is kept.
    Raises `InputError` with all problems found.
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit is {limit}; it must be 1 or more")
    questions = atlas_questions(split) if source == "atlas" else _to_questions(source, list(_entries(source, split)))
    return questions if limit is None else _subset(questions, limit, seed)


def _subset(questions: Sequence[Question], limit: int, seed: int) -> list[Question]:
    def place(question: Question) -> bytes:
        return hashlib.sha256(f"{seed}/{question.id}".encode()).digest()

    taken = {question.id for question in heapq.nsmallest(limit, questions, key=place)}
    return [question for question in questions if question.id in taken]


def _to_questions(source: str, entries: Sequence[Entry]) -> list[Question]:
    headline = f"{source} cannot be read as questions"
    report_problems(_missing_columns(entries), headline)
    questions, problems = [], []
    first_seen: dict[str, str] = {}
    for where, entry in entries:
        found, wrong = (None, [entry]) if isinstance(entry, str) else _to_question(entry)
        if found is not None:
            if found.id in first_seen:
                same = f"id {found.id!r} was already used" if _given(entry, "id") else "the same question was asked"
                wrong = [f"{same} at {first_seen[found.id]}; ids must differ"]
            first_seen.setdefault(found.id, where)
            questions.append(found)
        problems += [f"{where}: {what}" for what in wrong]
    report_problems(problems, headline)
    return questions


def _missing_columns(entries: Sequence[Entry]) -> list[str]:
    """Return what a source lacks as a whole, so that it is said once and not for every row."""
    rows = [entry for _, entry in entries if not isinstance(entry, str)]
    broken = [f"{where}: {entry}" for where, entry in entries if isinstance(entry, str)]
    if not rows:
        return broken or ["it holds no rows"]
    found = list(dict.fromkeys(column for row in rows for column in row))
    missing = [] if "question" in found else ["question"]
    if not set(_ANSWER_COLUMNS) & set(found):
        missing.append("answers")
    if not missing:
        return []
    columns = f"found: {', '.join(found) or 'none'}; known are {', '.join(_COLUMNS)}"
    return [f"no column {column!r}; {columns}" for column in missing] + broken


def _to_question(row: dict[str, Any]) -> tuple[Question | None, list[str]]:
    """Return the row's question, or None and everything that is wrong with the row."""
    text, problems = _text(row, "question")
    answers: list[str] = []
    for column in _ANSWER_COLUMNS:
        if _given(row, column):
            listed, wrong = _answers(row[column], column)
            answers += listed
            problems += wrong
    if not any(_given(row, column) for column in _ANSWER_COLUMNS):
        problems.append("'answers' is missing; give one answer or more")
    name = row.get("id")
    if name is not None and not (type(name) is int or (_is_text(name) and name.strip())):
        problems.append(f"'id' must be a text or a whole number, found {_shown(name)}")
    category = row.get("category")
    if category is not None and not _is_text(category):
        problems.append(f"'category' must be a text, found {_shown(category)}")
    if problems:
        return None, problems
    identity = _hash(text) if name is None else str(name).strip()
    distinct = tuple(dict.fromkeys(answers))
    return Question(id=identity, question=text, answers=distinct, category=(category or "").strip()), []


def _text(row: dict[str, Any], column: str) -> tuple[str, list[str]]:
    value = row.get(column)
    if value is None:
        found = ", ".join(name for name in row if _given(row, name)) or "nothing"
        return "", [f"{column!r} is missing; found: {found}"]
    if not _is_text(value):
        return "", [f"{column!r} must be a text, found {_shown(value)}"]
    return value.strip(), [] if value.strip() else [f"{column!r} is empty"]


def _answers(value: Any, column: str) -> tuple[list[str], list[str]]:
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(map(_is_text, listed)):
        return [], [f"{column!r} must be a text or a list of texts, found {_shown(value)}"]
    answers = [answer.strip() for answer in listed]
    if not answers:
        return [], [f"{column!r} is empty"]
    return answers, [] if all(answers) else [f"{column!r} holds an empty answer"]


def _is_text(value: Any) -> bool:
    # Half of a surrogate pair ("\\ud83d" in JSON) is no character: it could be neither hashed nor written to a file.
    return isinstance(value, str) and not re.search("[\ud800-\udfff]", value)


def _given(row: dict[str, Any] | str, column: str) -> bool:
    return isinstance(row, dict) and row.get(column) is not None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _hash(text: str) -> str:
    normalised = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return hashlib.sha256(normalised.encode()).hexdigest()[:16]


def _entries(source: str, split: str) -> Iterator[Entry]:
    path = Path(source)
    if reader := _READERS.get(path.suffix):
        return reader(check_readable(path))
    if path.is_file():
        raise InputError(f"{source} is of an unknown kind; questions can be read from {', '.join(_READERS)}")
    if path.is_dir() or _HUB_ID.fullmatch(source):
        return _read_dataset(source, split)
    raise InputError(f"{source} does not exist; give a file, a folder, a Hugging Face dataset id, or atlas")


def _read_jsonl(path: Path) -> Iterator[Entry]:
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            yield where, _row(json.loads(line))
        except UnicodeDecodeError:
            yield where, "not UTF-8 text"
        except (ValueError, RecursionError) as error:
            yield where, f"not JSON ({_reason(error)})"


def _read_json(path: Path) -> Iterator[Entry]:
    text = _decoded(path)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        yield f"{path}:{getattr(error, 'lineno', 1)}", f"not JSON ({_reason(error)})"
        return
    if not isinstance(value, list):
        yield f"{path}:1", f"expected a list of objects, found {type(value).__name__}; one object a line is .jsonl"
        return
    decoder, line, end = json.JSONDecoder(), 1, 0
    start = text.index("[") + 1
    for item in value:
        while text[start] in " \t\r\n,":
            start += 1
        line += text.count("\n", end, start)
        yield f"{path}:{line}", _row(item)
        end, start = start, decoder.raw_decode(text, start)[1]


def _read_csv(path: Path, delimiter: str = ",") -> Iterator[Entry]:
    lines = csv.reader(io.StringIO(_decoded(path), newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    line = 1
    try:
        for cells in lines:
            where, line = f"{path}:{line}", lines.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = [cell.strip() for cell in cells]
                if len(set(header)) < len(header):
                    yield where, f"a column is named twice: {', '.join(header)}"
                    return
            elif len(cells) != len(header):
                yield where, f"{len(cells)} cells, but the header has {len(header)}: {', '.join(header)}"
            else:
                yield where, _csv_row(dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        yield f"{path}:{line}", f"not {path.suffix[1:]} ({error})"


def _read_tsv(path: Path) -> Iterator[Entry]:
    return _read_csv(path, "\t")


def _csv_row(cells: dict[str, str]) -> dict[str, Any] | str:
    """Return the row with its answers as lists; an empty cell is a missing value."""
    row: dict[str, Any] = {column: cell if cell.strip() else None for column, cell in cells.items()}
    for column in _ANSWER_COLUMNS:
        cell = row.get(column)
        if cell is not None and cell.lstrip().startswith("["):
            try:
                row[column] = json.loads(cell)
            except (ValueError, RecursionError) as error:
                return f"{column!r} begins like a JSON list but is none ({_reason(error)})"
        elif cell is not None:
            row[column] = cell.split("|")
    return row


def _read_parquet(path: Path) -> Iterator[Entry]:
    yield from read_rows(path)


def _read_dataset(source: str, split: str) -> Iterator[Entry]:
    from datasets import load_dataset

    try:
        dataset: Iterable[dict[str, Any]] = load_dataset(source, split=split)
    except Exception as error:  # whatever goes wrong in there, on the network or in the data, the user has to mend it
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise InputError(
            f"the dataset {source} cannot be loaded with split {split!r} ({reason}); check its name, the split and the "
            "connection, or give a file"
        ) from error
    for number, row in enumerate(dataset, 1):
        yield f"{source} ({split}), row {number}", row


def _row(value: Any) -> dict[str, Any] | str:
    if isinstance(value, dict):
        return value
    return f"expected an object with named fields, found {type(value).__name__}"


def _reason(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else getattr(error, "msg", str(error))


def _decoded(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}:{line}: not UTF-8 text; save the file as UTF-8") from error


_READERS: dict[str, Callable[[Path], Iterator[Entry]]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".parquet": _read_parquet,
}
