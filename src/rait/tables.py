"""Records to files and back: JSON Lines or Parquet, chosen by the file's suffix, one row a record.

    states = read_records("states.parquet", KnowledgeState)
    write_records("states.jsonl", states)
    write_records("states.jsonl", iter_records("states.parquet", KnowledgeState))      # of any size

A column is a field of the record (see `rait.columns`). Reading reports up to 20 problems of a file at once, each with
its line (JSON Lines) or row number (Parquet). Files are written beside their final name and renamed: a file that is
there is whole. Both directions hold a few thousand rows at a time, however long the file is.
"""

import fcntl
import json
import os
import re
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from glob import escape
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from rait.columns import column_problems, names, schema, to_record, to_row
from rait.errors import InputError
from rait.formats import FORMAT, MARK, check_format, current
from rait.records import Example

Record = TypeVar("Record")
Item = TypeVar("Item")

# Where a row stands (its line or row number from 1), and the row or what is wrong with it.
Entry = tuple[int, dict[str, Any] | str]

SUFFIXES = (".jsonl", ".parquet")
_ROWS = 8192  # read or written at once; a row group of a Parquet file
_PROBLEMS_SHOWN = 20
_ALIKE_SHOWN = 3
_PARTICULARS = re.compile(r"\bfound\b.*|\bid .* was already used\b.*|(, item )?\d+")  # of one alone
_TEXT_SHOWN = 30


def read_records(
    path: str | Path, kind: type[Record], *, without: Collection[str] = (), only: Collection[str] | None = None
) -> list[Record]:
    """Read every row of `path` as a record of `kind`, as `iter_records` does, into a list."""
    return list(iter_records(path, kind, without=without, only=only))


def iter_records(
    path: str | Path, kind: type[Record], *, without: Collection[str] = (), only: Collection[str] | None = None
) -> Iterator[Record]:
    """Yield the rows of `path` as records of `kind`, holding a few thousand of them and all ids.

    Columns named in `without` are not read: these fields get their default. Where `only` is given, rows with other ids
    are passed over. What is not read is not checked either. Raises `InputError` with every problem of the file, at its
    end: until then, what was made of the records is not to be kept (`write_records` keeps nothing).
    """
    path = check_readable(path)
    headline = f"{path} does not hold {kind.__name__} rows"
    if _suffix(path) == ".parquet":
        # What is wrong with a whole column is said once and not for every row.
        found = _parquet_schema(path)
        check_parquet(found, path)
        report_problems(column_problems(found, kind), headline)
    wanted = None if only is None else frozenset(only)
    problems: list[str] = []
    seen: dict[Any, int] = {}
    for number, row in _entries(path, names(kind, without), wanted):
        wrong: list[str] = []
        if isinstance(row, str):
            wrong.append(row)
        elif (record := to_record(kind, row, wrong)) is not None:
            id = getattr(record, "id", None)
            # A question may have several examples, which teach different things.
            entry = id if kind is not Example else (id, getattr(record, "completion", None))
            first = number if id is None else seen.setdefault(entry, number)
            if first == number:
                yield record
            else:
                wrong.append(f"id {id!r} was already used at {path}:{first}")
        if wrong:
            problems += [f"{path}:{number}: {what}" for what in wrong]
    report_problems(problems, headline)


def write_records(path: str | Path, records: Iterable[Any], kind: type | None = None) -> None:
    """Write records (dataclasses of one kind) to `path` as they come, atomically.

    `kind` gives the columns where there may be no record. Raises `InputError` when the file cannot be written, and
    `TypeError` for records of several kinds, which have no columns in common.
    """
    _suffix(Path(path))
    records = iter(records)
    if kind is None:
        first = list(islice(records, 1))
        kind = type(first[0]) if first else None
        records = chain(first, records)
    write_rows(path, _rows(path, records, kind), schema(kind) if kind else pa.schema([]))


def read_rows(path: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ("file:line", row) for each row of a JSON Lines or Parquet file.

    Raises `InputError`, after the last row, with every line that is none.
    """
    path = check_readable(path)
    problems: list[str] = []
    for number, row in _entries(path):
        if isinstance(row, str):
            problems.append(f"{path}:{number}: {row}")
        else:
            yield f"{path}:{number}", row
    report_problems(problems, f"{path} has broken lines")


def write_rows(path: str | Path, rows: Iterable[dict[str, Any]], columns: pa.Schema) -> None:
    """Write rows to `path` as they come, atomically; Parquet gets `columns`.

    Raises `InputError` when the file cannot be written or a text is no valid Unicode.
    """
    path = Path(path)
    write = _write_jsonl if _suffix(path) == ".jsonl" else _write_parquet
    try:
        with atomic(path) as file:
            write(file, rows, columns)
    except UnicodeEncodeError as error:
        text = error.object[max(0, error.start - _TEXT_SHOWN) : error.end]
        raise InputError(
            f"cannot write {path}: {text!r} ends in half of a surrogate pair, which is no character; remove it"
        ) from error


def count_rows(path: str | Path) -> int:
    """The number of rows of a Parquet file, which stands at its end."""
    path = check_readable(path)
    with _reading(path):
        return int(pq.read_metadata(path).num_rows)


def read_data(path: str | Path) -> dict[str, Any]:
    """What `write_data` wrote; raise `InputError` for a file that is damaged, or of a format that is not known."""
    path = check_readable(path)
    with _reading(path):
        found = json.loads(path.read_text("utf-8"))
        if not isinstance(found, dict):
            raise ValueError("expected a JSON object")
    return current(found, path)


def write_data(path: str | Path, data: Mapping[str, Any]) -> None:
    """Write results as `write_json` does, with the number of their format."""
    write_json(path, {MARK: FORMAT, **data})


def check_parquet(found: pa.Schema, path: Path) -> None:
    """Raise `InputError` for a Parquet file with the columns `found` of a format that is not known."""
    mark = (found.metadata or {}).get(MARK.encode())
    check_format(None if mark is None else int(mark) if mark.isdigit() else mark, path)


def marked(columns: pa.Schema) -> pa.Schema:
    """The columns with the number of their format, as Parquet files have it."""
    return columns.with_metadata({**(columns.metadata or {}), MARK.encode(): str(FORMAT).encode()})


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
            with suppress(OSError):  # some file systems know no locks
                _hold(file)
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        keep_name(target.parent)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}; choose another place or free some space"
        ) from error
    finally:
        with suppress(OSError):  # what went wrong before says more
            temporary.unlink(missing_ok=True)


def _hold(file: IO[bytes]) -> None:
    """Mark a file as one that a process writes at this moment; raise `OSError` where another does."""
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def keep_name(folder: Path) -> None:
    """Let the names in `folder` outlive a crash of the machine, as far as its file system can."""
    with suppress(OSError):  # some file systems know no fsync of a folder; the file itself is safe
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def prepare_target(path: str | Path) -> None:
    """Make room for a table at `path`: its folder is made, what killed processes have left half written is removed.

    Raises `InputError` if it could not be written there later: its suffix, its folder.
    """
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
    target = Path(os.path.realpath(path))
    for leftover in target.parent.glob(f".{escape(target.name)}.{8 * '[0-9a-f]'}.part"):
        with suppress(OSError), leftover.open("rb") as file:
            _hold(file)
            leftover.unlink()


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield `items` in lists of `size`, the last one shorter."""
    source = iter(items)
    while batch := list(islice(source, size)):
        yield batch


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


def kind_of(problem: str) -> str:
    """A problem without what tells it from others like it: lines, ids, what was found."""
    return _PARTICULARS.sub("", problem)


def report_problems(problems: Sequence[str], headline: str) -> None:
    """Raise `InputError` with `problems` below `headline`, if there are any.

    Up to 20 are shown as they are. Where there are more, those that differ in line, id or value alone stand together,
    the first 3 of them, and the others are counted.
    """
    if not problems:
        return
    lines = [(problem, 1) for problem in problems]  # what is shown, and for how many problems it stands
    if len(problems) > _PROBLEMS_SHOWN:
        groups: dict[str, list[str]] = {}
        for problem in problems:
            groups.setdefault(kind_of(problem), []).append(problem)
        lines = [line for alike in groups.values() for line in _shortened(alike)]
    shown = [line for line, _ in lines[:_PROBLEMS_SHOWN]]
    if rest := sum(count for _, count in lines[_PROBLEMS_SHOWN:]):
        shown.append(f"... and {rest} more")
    raise InputError("\n  ".join([f"{headline}:", *shown]))


def _shortened(alike: Sequence[str]) -> list[tuple[str, int]]:
    """The first of problems alike and a count of the others, each with the number of problems it stands for."""
    more = len(alike) - _ALIKE_SHOWN
    if more <= 1:
        return [(problem, 1) for problem in alike]
    return [*((problem, 1) for problem in alike[:_ALIKE_SHOWN]), (f"... and {more} more like this", more)]


def _rows(path: str | Path, records: Iterator[Any], kind: type | None) -> Iterator[dict[str, Any]]:
    for record in records:
        if type(record) is not kind:
            names = sorted(each.__name__ for each in (type(record), kind) if each)
            raise TypeError(f"the records of {path} must be of one kind, found {', '.join(names)}")
        yield to_row(record)


def _entries(path: Path, columns: Sequence[str] | None = None, only: frozenset[str] | None = None) -> Iterator[Entry]:
    """Yield the rows of a file with `columns`, all if None, and in place of a broken line what is wrong."""
    read = _read_jsonl if _suffix(path) == ".jsonl" else _read_parquet
    with _reading(path):
        yield from read(path, columns, only)


def _read_jsonl(path: Path, columns: Sequence[str] | None, only: frozenset[str] | None) -> Iterator[Entry]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            row = _parse(line)
            if isinstance(row, str):
                yield number, row
            elif only is None or (isinstance(id := row.get("id"), str) and id in only):
                yield number, row if columns is None else {name: row[name] for name in columns if name in row}


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


def _write_jsonl(file: IO[bytes], rows: Iterable[dict[str, Any]], columns: pa.Schema) -> None:
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n")


def _read_parquet(path: Path, columns: Sequence[str] | None, only: frozenset[str] | None) -> Iterator[Entry]:
    before = 0
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        there = None if columns is None else [name for name in columns if name in file.schema_arrow.names]
        for batch in file.iter_batches(_ROWS, columns=there):
            if only is None:
                yield from enumerate(batch.to_pylist(), before + 1)
            else:
                for place, id in enumerate(batch.column("id").to_pylist()):
                    if id in only:
                        yield before + place + 1, batch.slice(place, 1).to_pylist()[0]
            before += batch.num_rows
        if before != file.metadata.num_rows:  # the head of a page is in no checksum
            raise ValueError(f"{before} of its {file.metadata.num_rows} rows can be read")


def _parquet_schema(path: Path) -> pa.Schema:
    with _reading(path):
        return pq.read_schema(path)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, OverflowError, RecursionError) as error:
        reason = str(getattr(error, "strerror", None) or error).partition("\n")[0].rstrip(".")
        raise InputError(f"{path} is damaged or cannot be read ({reason}); make it again or copy it again") from error


def _write_parquet(file: IO[bytes], rows: Iterable[dict[str, Any]], columns: pa.Schema) -> None:
    with pq.ParquetWriter(file, marked(columns), write_page_checksum=True) as writer:
        for batch in batched(rows, _ROWS):
            writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=columns))


def _suffix(path: Path) -> str:
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path} must end in {' or '.join(SUFFIXES)}: the suffix chooses the format")
    return path.suffix
