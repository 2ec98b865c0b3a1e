"""Records to files and back: JSON Lines or Parquet, chosen by the file's suffix, one row a record.

    states = read_records("states.parquet", KnowledgeState)
    write_records("states.jsonl", states)

A column is a field of the record. Reading is strict (neither "0.5" nor NaN is a number) and reports up to 20 problems
of a file at once, each with its line (JSON Lines) or row number (Parquet). A missing or null value is the field's
default where it has one. Columns that the record does not have are ignored, so that files made elsewhere can carry
more. Files are written beside their final name and renamed: a file that is there is whole.
"""

import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import MISSING, asdict, fields, is_dataclass
from enum import StrEnum
from functools import cache
from math import isfinite
from pathlib import Path
from types import NoneType
from typing import IO, Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq

from rait.errors import InputError

Record = TypeVar("Record")

# Where a row stands ("file:line"), and the row or what is wrong with it.
Entry = tuple[str, dict[str, Any] | str]

SUFFIXES = (".jsonl", ".parquet")
_PROBLEMS_SHOWN = 20
_SHOWN_LENGTH = 60
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")  # as of "\ud83d" in JSON: it could not be written again


def read_records(path: str | Path, kind: type[Record]) -> list[Record]:
    """Read every row of `path` as a record of `kind`; raise `InputError` with every problem of the file."""
    path = check_readable(path)
    headline = f"{path} does not hold {kind.__name__} rows"
    if _suffix(path) == ".parquet":
        # What is wrong with a whole column is said once and not for every row.
        report_problems(_column_problems(_parquet_schema(path), kind), headline)
    records: list[Record] = []
    problems: list[str] = []
    seen: dict[str, str] = {}
    for where, row in read_entries(path):
        wrong: list[str] = []
        if isinstance(row, str):
            wrong.append(row)
        elif (record := _make(kind, row, "", wrong)) is not None:
            records.append(record)
            id = getattr(record, "id", where)
            if seen.setdefault(id, where) != where:
                wrong.append(f"id {id!r} was already used at {seen[id]}")
        problems += [f"{where}: {what}" for what in wrong]
    report_problems(problems, headline)
    return records


def write_records(path: str | Path, records: Iterable[Any], kind: type | None = None) -> None:
    """Write records (dataclasses of one kind) to `path`, atomically.

    `kind` gives the columns where there may be no record. Raises `InputError` when the file cannot be written, and
    `TypeError` for records of several kinds, which have no columns in common.
    """
    records = list(records)
    kinds = {type(record) for record in records} | ({kind} if kind else set())
    if len(kinds) > 1:
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise TypeError(f"the records of {path} must be of one kind, found {names}")
    schema = _schema(kinds.pop()) if kinds else pa.schema([])
    write_rows(path, (asdict(record) for record in records), schema)


def read_rows(path: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ("file:line", row) for each row of a JSON Lines or Parquet file.

    Raises `InputError`, after the last row, with every line that is none.
    """
    problems: list[str] = []
    for where, row in read_entries(path):
        if isinstance(row, str):
            problems.append(f"{where}: {row}")
        else:
            yield where, row
    report_problems(problems, f"{path} has broken lines")


def read_entries(path: str | Path) -> Iterator[Entry]:
    """Yield ("file:line", row) as `read_rows` does, and ("file:line", what is wrong) in place of a broken line."""
    path = check_readable(path)
    read = _read_jsonl if _suffix(path) == ".jsonl" else _read_parquet
    with _reading(path):
        yield from read(path)


def write_rows(path: str | Path, rows: Iterable[dict[str, Any]], schema: pa.Schema) -> None:
    """Write rows to `path`, atomically; Parquet gets the columns of `schema`.

    Raises `InputError` when the file cannot be written or a text is no valid Unicode.
    """
    path = Path(path)
    write = _write_jsonl if _suffix(path) == ".jsonl" else _write_parquet
    try:
        with atomic(path) as file:
            write(file, rows, schema)
    except UnicodeEncodeError as error:
        text = error.object[max(0, error.start - _SHOWN_LENGTH // 2) : error.end]
        raise InputError(
            f"cannot write {path}: {text!r} ends in half of a surrogate pair, which is no character; remove it"
        ) from error


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically; raise `ValueError` for a number that is not finite."""
    with atomic(path) as file:
        file.write(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False).encode() + b"\n")


@contextmanager
def atomic(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path` and rename it to `path` when the block ends without an error.

    After an error nothing has changed. Raises `InputError` when the disk is full or the place cannot be written to.
    """
    # A link stays a link: the file that it points to is replaced.
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}; choose another place or free some space"
        ) from error
    finally:
        with suppress(OSError):  # what went wrong before says more
            temporary.unlink(missing_ok=True)


def check_target(path: str | Path) -> None:
    """Raise `InputError` now if a table could not be written to `path` later: its suffix, its folder."""
    path = Path(path)
    _suffix(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose another place") from error
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise InputError(
            f"cannot write {path}: {'it is a folder' if path.is_dir() else 'not permitted'}; choose another place"
        )


def check_readable(path: str | Path) -> Path:
    """Return `path` as a Path, or raise `InputError` when it is not a file that can be read."""
    path = Path(path)
    try:
        path.open("rb").close()
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; check the path") from error
    except IsADirectoryError as error:
        raise InputError(f"{path} is a folder, expected a file") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check the path and its permissions") from error
    return path


def report_problems(problems: Sequence[str], headline: str) -> None:
    """Raise `InputError` with the first 20 of `problems` below `headline` and a count of the rest, if there are any."""
    if not problems:
        return
    shown = list(problems[:_PROBLEMS_SHOWN])
    if len(problems) > len(shown):
        shown.append(f"... and {len(problems) - len(shown)} more")
    raise InputError("\n  ".join([f"{headline}:", *shown]))


def _read_jsonl(path: Path) -> Iterator[Entry]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield f"{path}:{number}", _parse(line)


def _parse(line: bytes) -> dict[str, Any] | str:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return "not UTF-8 text"
    except json.JSONDecodeError as error:
        return f"not JSON ({error.msg})"
    except RecursionError:
        return "not JSON (nested too deeply)"
    except ValueError:
        return "not JSON (a number of too many digits)"
    return row if isinstance(row, dict) else f"expected an object with named fields, found {type(row).__name__}"


def _write_jsonl(file: IO[bytes], rows: Iterable[dict[str, Any]], schema: pa.Schema) -> None:
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n")


def _read_parquet(path: Path) -> Iterator[Entry]:
    number = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield f"{path}:{number}", row


def _parquet_schema(path: Path) -> pa.Schema:
    with _reading(path):
        return pq.read_schema(path)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        reason = str(getattr(error, "strerror", None) or error).partition("\n")[0].rstrip(".")
        raise InputError(f"{path} is damaged or cannot be read ({reason}); make it again or copy it again") from error


def _write_parquet(file: IO[bytes], rows: Iterable[dict[str, Any]], schema: pa.Schema) -> None:
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), file)


def _suffix(path: Path) -> str:
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path} must end in {' or '.join(SUFFIXES)}: the suffix chooses the format")
    return path.suffix


class _Column(NamedTuple):
    name: str
    kind: Any
    required: bool


@cache
def _columns(record: Any) -> tuple[_Column, ...]:
    """The fields of a record class; of a field that may be None, `kind` is the other type."""
    hints = get_type_hints(record)
    return tuple(
        _Column(field.name, _not_none(hints[field.name]), field.default is field.default_factory is MISSING)
        for field in fields(record)
    )


def _is_record(kind: Any) -> bool:
    return is_dataclass(kind)


def _not_none(hint: Any) -> Any:
    alternatives = get_args(hint)
    return next(kind for kind in alternatives if kind is not NoneType) if NoneType in alternatives else hint


def _make(record: Any, row: dict[str, Any], at: str, problems: list[str]) -> Any:
    """Return the row as a record; or None, and add to `problems` all that is wrong with it. `at` begins field names."""
    values: dict[str, Any] = {}
    wrong: list[str] = []
    for name, kind, required in _columns(record):
        if row.get(name) is not None:
            values[name] = _take(kind, row[name], at + name, wrong)
        elif required:
            wrong.append(f"field {at + name!r} is missing")
    problems += wrong
    if wrong:
        return None
    try:
        return record(**values)
    except ValueError as error:
        problems.append(str(error))
        return None


def _take(kind: Any, value: Any, at: str, problems: list[str]) -> Any:
    """Return the value of a field as `kind`; or None, and add to `problems` what was expected."""
    if get_origin(kind) is tuple and isinstance(value, list):
        return tuple(_take(get_args(kind)[0], item, f"{at}.{place}", problems) for place, item in enumerate(value))
    if _is_record(kind) and isinstance(value, dict):
        return _make(kind, value, f"{at}.", problems)
    if kind is float and type(value) in (int, float) and _is_finite(value):
        return float(value)
    if kind in (bool, int) and type(value) is kind:
        return value
    if kind is str and isinstance(value, str) and not _HALF_CHARACTER.search(value):
        return value
    if isinstance(kind, type) and issubclass(kind, StrEnum) and value in list(kind):
        return kind(value)
    expected = "no half of a surrogate pair" if kind is str and isinstance(value, str) else _expected(kind)
    shown = repr(value)
    shown = shown if len(shown) <= _SHOWN_LENGTH else f"{shown[: _SHOWN_LENGTH - 3]}..."
    problems.append(f"field {at!r}: expected {expected}, found {shown}")
    return None


def _is_finite(value: float) -> bool:
    try:
        return isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


def _expected(kind: Any) -> str:
    if get_origin(kind) is tuple:
        return f"a list ({_expected(get_args(kind)[0])} each)"
    if _is_record(kind):
        return f"an object with {', '.join(column.name for column in _columns(kind))}"
    if issubclass(kind, StrEnum):
        return f"one of {', '.join(kind)}"
    return {str: "text", bool: "true or false", int: "a whole number", float: "a finite number"}[kind]


def _column_problems(schema: pa.Schema, record: Any) -> list[str]:
    """Return which columns are missing or of a type that no row of `record` could have."""
    problems = []
    for name, kind, required in _columns(record):
        if name in schema.names and not _fits(schema.field(name).type, kind):
            problems.append(f"column {name!r}: expected {_expected(kind)}, found {schema.field(name).type}")
        elif required and schema.names and name not in schema.names:  # a file without columns has no row either
            problems.append(f"column {name!r} is missing; found: {', '.join(schema.names)}")
    return problems


def _fits(found: pa.DataType, kind: Any) -> bool:
    """Say whether values of the Parquet type `found` can be of `kind`; a column of nulls is looked at row by row."""
    is_a = pa.types
    if is_a.is_dictionary(found):
        found = found.value_type
    if get_origin(kind) is tuple:
        fits = is_a.is_list(found) or is_a.is_large_list(found) or is_a.is_fixed_size_list(found)
        fits = fits and _fits(found.value_type, get_args(kind)[0])
    elif _is_record(kind):
        fits = is_a.is_struct(found) and not _column_problems(pa.schema(list(found)), kind)
    elif issubclass(kind, str):
        fits = is_a.is_string(found) or is_a.is_large_string(found) or is_a.is_string_view(found)
    elif kind is bool:
        fits = is_a.is_boolean(found)
    else:
        fits = is_a.is_integer(found) or (kind is float and is_a.is_floating(found))
    return bool(fits or is_a.is_null(found))


def _schema(record: Any) -> pa.Schema:
    return pa.schema([(column.name, _arrow_type(column.kind)) for column in _columns(record)])


def _arrow_type(kind: Any) -> pa.DataType:
    if get_origin(kind) is tuple:
        return pa.list_(_arrow_type(get_args(kind)[0]))
    if _is_record(kind):
        return pa.struct(list(_schema(kind)))
    if issubclass(kind, str):
        return pa.string()
    return {bool: pa.bool_(), int: pa.int64(), float: pa.float64()}[kind]
