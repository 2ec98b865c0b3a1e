"""Rows of a file or a dataset, one at a time, each with the place where it stands.

    for place, row in file_rows(Path("questions.jsonl")):
        print(where(place), row)

A row is a dictionary, or a text that says what is wrong with it. Whatever a file's length, a part of it is held at a
time: a line of .jsonl, .csv and .tsv, an object of .json, some thousand rows of .parquet.
"""

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from rait.errors import InputError
from rait.tables import check_readable, read_rows

# A file or split, up to the number of a line or row, which follows: kept apart, as one text a row would take room.
Place = tuple[str, int]
# A row, or what is wrong with it.
Row = dict[str, Any] | str

_CHUNK = 1 << 18  # characters of .json read at once
_decode = json.JSONDecoder().raw_decode
_NEAR_END = 16  # longer than what may be cut off there and still be, or look like, another value ("-Infinity", "1e+5")
_DATA = re.compile(r'\{\s*"Data"\s*:\s*')  # how the official TriviaQA files begin
# What the messages of `csv` contain, and the same for whoever made the file.
_CSV_PROBLEMS = {
    "end of data": "a quotation mark is opened and never closed",
    "expected after": "after a quoted cell, {} is expected; a quotation mark inside it is written twice",
    "field limit": "a cell has over 131072 characters; is a quotation mark not closed?",
}


def where(place: Place) -> str:
    """A place as it is shown: "file:line", or "dataset (split), row 3"."""
    return f"{place[0]}{place[1]}"


def file_rows(path: Path, header: Sequence[str] = ()) -> Iterator[tuple[Place, Row]]:
    """Yield the rows of a file, by its suffix; `header` names the columns of a .csv or .tsv file that does not.

    Raises `InputError` for a file that cannot be read at all.
    """
    check_readable(path)
    suffix = path.suffix.lower()
    if suffix in _DELIMITERS:
        return _csv_rows(path, _DELIMITERS[suffix], header)
    return _READERS[suffix](path)


def first_cells(path: Path) -> list[str]:
    """The cells of the first line of a .csv or .tsv file that holds something; [] where there is none to be read."""
    for _, cells in _cells(check_readable(path), _DELIMITERS[path.suffix.lower()]):
        return cells if isinstance(cells, list) else []
    return []


def dataset_rows(source: str, name: str | None, split: str) -> Iterator[tuple[Place, Row]]:
    """Yield the rows of a split of a Hugging Face dataset: a hub id, or a folder of the same form."""
    from datasets import load_dataset

    try:
        dataset: Iterable[dict[str, Any]] = load_dataset(source, name, split=split)
    except Exception as error:  # whatever goes wrong in there, on the network or in the data, the user has to mend it
        lines = str(error).strip().splitlines() or [type(error).__name__]
        # "Config name is missing." is followed by those there are.
        why = " ".join(line.strip() for line in lines[: 2 if "onfig" in lines[0] else 1]).rstrip(".")
        chosen = f"name {name!r} and split {split!r}" if name else f"split {split!r}"
        if Path(source).is_dir():
            what, remedy = "the folder", "check the split and its files, or give a file"
        else:
            what, remedy = "there is no such file, and the dataset", "check the name and the connection, or give a file"
        raise InputError(f"{source}: {what} cannot be loaded with {chosen} ({why}); {remedy}") from error
    place = f"{source} ({', '.join(filter(None, (name, split)))}), row "
    for number, row in enumerate(dataset, 1):
        yield (place, number), row


def reason(error: Exception) -> str:
    """Why a text is not JSON."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return str(getattr(error, "msg", error)).removesuffix(" starting at").removesuffix(" at")


def _jsonl_rows(path: Path) -> Iterator[tuple[Place, Row]]:
    start = f"{path}:"
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                yield (start, number), _row(json.loads(line.decode("utf-8-sig").rstrip("\r\n")))
            except UnicodeDecodeError:
                yield (start, number), "not UTF-8 text"
            except (ValueError, RecursionError) as error:
                yield (start, number), _not_json(error, getattr(error, "pos", 0) + 1)


def _json_rows(path: Path) -> Iterator[tuple[Place, Row]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from _json_items(f"{path}:", file)
    except UnicodeDecodeError:
        _raise_not_utf8(path)


class _Scan:
    """Text of a file from `at` on, read as far as it was needed; `line` is the number of the line at `at`."""

    def __init__(self, file: IO[str]) -> None:
        self.file, self.text, self.at, self.ended = file, "", 0, False
        self.line, self.column = 1, 1

    def read_on(self) -> None:
        """Read at least as much again as is held: a long object then costs no more than a few times its length."""
        more = self.file.read(max(_CHUNK, len(self.text) - self.at))
        self.text, self.at, self.ended = self.text[self.at :] + more, 0, not more

    def go(self, to: int) -> None:
        """Move on to the position `to`."""
        self.line, self.column = self.spot(to)
        self.at = to

    def sign(self) -> str:
        """Move on to the next sign that is no white space and return it; "" at the end."""
        while True:
            while self.at < len(self.text):
                if (sign := self.text[self.at]) not in " \t\r\n":
                    return sign
                self.go(self.at + 1)
            if self.ended:
                return ""
            self.read_on()

    def spot(self, position: int) -> tuple[int, int]:
        """The line and the character in it, both from 1, of a position from `at` on."""
        if lines := self.text.count("\n", self.at, position):
            return self.line + lines, position - self.text.rfind("\n", self.at, position)
        return self.line, self.column + position - self.at


def _json_items(start: str, file: IO[str]) -> Iterator[tuple[Place, Row]]:
    """Yield the objects of a JSON list, or of the list that is the "Data" of an object, holding one at a time."""
    scan = _Scan(file)
    if not (sign := scan.sign()):
        return
    data = _DATA.match(scan.text, scan.at)
    if data:
        scan.go(data.end())
        sign = scan.sign()
    if sign != "[":
        found = "an object; one object a line is .jsonl" if sign == "{" else repr(scan.text[scan.at : scan.at + 20])
        yield (start, scan.line), f"expected a list of objects, found {found}"
        return
    scan.go(scan.at + 1)
    more = scan.sign() != "]"
    number, line, same_line = 0, 0, start
    while more:
        try:
            item, end = _item(scan)
        except (ValueError, RecursionError) as error:
            at, column = scan.spot(getattr(error, "pos", scan.at))
            yield (start, at), _not_json(error, column)
            return
        number += 1
        if scan.line > line:
            line, same_line = scan.line, f"{start}{scan.line}, item "
            yield (start, line), _row(item)
        else:  # many files are a single line
            yield (same_line, number), _row(item)
        scan.go(end)
        sign = scan.sign()
        if sign not in ("]", ","):
            yield (start, scan.line), f"not JSON at character {scan.column} (Expecting ',' delimiter)"
            return
        more = sign == ","
        if more:
            scan.go(scan.at + 1)
            scan.sign()
    scan.go(scan.at + 1)
    if not data and scan.sign():
        yield (start, scan.line), f"not JSON at character {scan.column} (Extra data)"


def _item(scan: _Scan) -> tuple[Any, int]:
    """Return the value that begins at `scan.at`, and where it ends; raise what `json` raises."""
    while True:
        try:
            value, end = _decode(scan.text, scan.at)
            if scan.ended or end < len(scan.text) - _NEAR_END:
                return value, end
        except (ValueError, RecursionError) as error:
            near_end = getattr(error, "pos", 0) > len(scan.text) - _NEAR_END
            if scan.ended or not (near_end or reason(error).startswith("Unterminated string")):
                raise
        scan.read_on()


def _csv_rows(path: Path, delimiter: str, header: Sequence[str]) -> Iterator[tuple[Place, Row]]:
    columns = list(header)
    for place, cells in _cells(path, delimiter):
        if isinstance(cells, str):
            yield place, cells
            if not columns:
                return
        elif not columns:
            columns = [cell.strip() for cell in cells]
            if len(columns) == 1:
                yield place, f"expected the names of columns, {_NAMES[delimiter]} between them, found {columns[0]!r}"
                return
            if len(set(columns)) < len(columns):
                yield place, f"a column is named twice: {', '.join(columns)}"
                return
        elif len(cells) != len(columns):
            named = f"expected {len(columns)}" if header else f"but the header has {len(columns)}"
            yield place, f"{len(cells)} cells, {named}: {', '.join(columns)}"
        else:  # an empty cell is a missing value
            yield place, {name: cell if cell.strip() else None for name, cell in zip(columns, cells, strict=True)}


def _cells(path: Path, delimiter: str) -> Iterator[tuple[Place, list[str] | str]]:
    """Yield the lines that hold something, each with the number at which it begins; for a broken one, what is wrong."""
    start, line = f"{path}:", 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, delimiter=delimiter, strict=True)
            while True:
                found: list[str] | str
                try:
                    found = next(lines)
                except StopIteration:
                    return
                except csv.Error as error:
                    known = (text for part, text in _CSV_PROBLEMS.items() if part in str(error))
                    found = next(known, str(error)).format(_NAMES[delimiter])
                first, line = line, lines.line_num + 1
                if isinstance(found, str) or any(cell.strip() for cell in found):
                    yield (start, first), found
    except UnicodeDecodeError:
        _raise_not_utf8(path)


def _parquet_rows(path: Path) -> Iterator[tuple[Place, Row]]:
    start = f"{path}:"
    for number, (_, row) in enumerate(read_rows(path), 1):
        yield (start, number), row


def _row(value: Any) -> Row:
    if isinstance(value, dict):
        return value
    return f"expected an object with named fields, found {type(value).__name__}"


def _not_json(error: Exception, character: int) -> str:
    """What is said of a text that is not JSON; some errors know no place."""
    at = f" at character {character}" if hasattr(error, "pos") else ""
    return f"not JSON{at} ({reason(error)})"


def _raise_not_utf8(path: Path) -> None:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                raise InputError(f"{path}:{number}: not UTF-8 text; save the file as UTF-8") from error


_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_NAMES = {",": "a comma", "\t": "a tab"}
_READERS: dict[str, Callable[[Path], Iterator[tuple[Place, Row]]]] = {
    ".jsonl": _jsonl_rows,
    ".json": _json_rows,
    ".parquet": _parquet_rows,
}
SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
