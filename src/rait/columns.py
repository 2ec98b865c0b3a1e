"""Rows and records: a column is a field of a record class.

    problems: list[str] = []
    state = to_record(KnowledgeState, {"id": "a", ...}, problems)       # None where there is a problem
    row = to_row(state)

Reading is strict: neither "0.5" nor NaN is a number. A missing or null value is the field's default where it has one;
columns that the record does not have are ignored. What a class asks for is worked out once, not for every row.
"""

import re
import sys
from collections.abc import Callable, Collection
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from functools import cache
from math import isfinite
from types import NoneType
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import pyarrow as pa

# Returns a value as a field has it; or None, and adds what is wrong with it, at the field named, to the problems.
Take = Callable[[Any, str, list[str]], Any]

_SHOWN_LENGTH = 60
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")  # as of "\ud83d" in JSON: it could not be written again


class Column(NamedTuple):
    """A field of a record class; of a field that may be None, `kind` is the other type."""

    name: str
    kind: Any
    required: bool
    take: Take


@cache
def columns(record: Any) -> tuple[Column, ...]:
    """The columns of a record class, in the order of its fields."""
    hints = get_type_hints(record)
    found = []
    for field in fields(record):
        kind = _not_none(hints[field.name])
        required = field.default is field.default_factory is MISSING
        # A text that may be left out is a label (a category, a rule): the few there are are kept once.
        found.append(Column(field.name, kind, required, _label if kind is str and not required else _taker(kind)))
    return tuple(found)


def to_record(record: Any, row: dict[str, Any], problems: list[str], at: str = "") -> Any:
    """Return the row as a record; or None, and add to `problems` all that is wrong with it. `at` begins field names."""
    values: dict[str, Any] = {}
    wrong: list[str] = []
    for name, _, required, take in columns(record):
        value = row.get(name)
        if value is not None:
            values[name] = take(value, at + name, wrong)
        elif required:
            wrong.append(f"field {at + name!r} is missing")
    if wrong:
        problems += wrong
        return None
    try:
        return record(**values)
    except ValueError as error:
        problems.append(str(error))
        return None


def to_row(record: Any) -> dict[str, Any]:
    """Return a record as a row: records inside it are rows too, everything else stays what it is."""
    kind: Any = type(record)
    row = {name: getattr(record, name) for name in _names(kind)}
    for name, many in _inner(kind):
        if row[name] is not None:
            row[name] = [to_row(item) for item in row[name]] if many else to_row(row[name])
    return row


def names(record: Any, without: Collection[str] = ()) -> list[str]:
    """The names of the columns of a record class, but for those in `without`."""
    return [name for name in _names(record) if name not in without]


def schema(record: Any) -> pa.Schema:
    """The Parquet columns of a record class."""
    return pa.schema([(column.name, _arrow_type(column.kind)) for column in columns(record)])


def column_problems(found: pa.Schema, record: Any) -> list[str]:
    """Return which columns are missing from `found` or of a type that no row of `record` could have."""
    problems = []
    for name, kind, required, _ in columns(record):
        if name in found.names and not _fits(found.field(name).type, kind):
            problems.append(f"column {name!r}: expected {_expected(kind)}, found {found.field(name).type}")
        elif required and found.names and name not in found.names:  # a file without columns has no row either
            problems.append(f"column {name!r} is missing; found: {', '.join(found.names)}")
    return problems


@cache
def _names(record: Any) -> tuple[str, ...]:
    return tuple(column.name for column in columns(record))


@cache
def _inner(record: Any) -> tuple[tuple[str, bool], ...]:
    """The columns that hold a record (False) or a list of them (True)."""
    return tuple(
        (column.name, get_origin(column.kind) is tuple)
        for column in columns(record)
        if _is_record((*get_args(column.kind), column.kind)[0])
    )


def _is_record(kind: Any) -> bool:
    return is_dataclass(kind)


def _not_none(hint: Any) -> Any:
    alternatives = get_args(hint)
    return next(kind for kind in alternatives if kind is not NoneType) if NoneType in alternatives else hint


@cache
def _taker(kind: Any) -> Take:
    if get_origin(kind) is tuple:
        return _list_taker(kind)
    if _is_record(kind):
        return _record_taker(kind)
    if issubclass(kind, StrEnum):
        return _member_taker(kind)
    return {str: _text, float: _number, bool: _exactly(bool), int: _exactly(int)}[kind]


def _list_taker(kind: Any) -> Take:
    take_item = _taker(get_args(kind)[0])

    def take(value: Any, at: str, problems: list[str]) -> Any:
        if not isinstance(value, list):
            return _refuse(kind, value, at, problems)
        return tuple([take_item(item, f"{at}.{place}", problems) for place, item in enumerate(value)])

    return take


def _record_taker(kind: Any) -> Take:
    def take(value: Any, at: str, problems: list[str]) -> Any:
        if not isinstance(value, dict):
            return _refuse(kind, value, at, problems)
        return to_record(kind, value, problems, f"{at}.")

    return take


def _member_taker(kind: type[StrEnum]) -> Take:
    members = {member.value: member for member in kind}

    def take(value: Any, at: str, problems: list[str]) -> Any:
        member = members.get(value) if isinstance(value, str) else None
        return _refuse(kind, value, at, problems) if member is None else member

    return take


def _exactly(kind: type) -> Take:
    def take(value: Any, at: str, problems: list[str]) -> Any:
        return value if type(value) is kind else _refuse(kind, value, at, problems)

    return take


def _number(value: Any, at: str, problems: list[str]) -> Any:
    return float(value) if type(value) in (float, int) and _is_finite(value) else _refuse(float, value, at, problems)


def _text(value: Any, at: str, problems: list[str]) -> Any:
    if isinstance(value, str) and (value.isascii() or not _HALF_CHARACTER.search(value)):
        return value
    return _refuse(str, value, at, problems)


def _label(value: Any, at: str, problems: list[str]) -> Any:
    text = _text(value, at, problems)
    return None if text is None else sys.intern(text)


def _refuse(kind: Any, value: Any, at: str, problems: list[str]) -> None:
    expected = "no half of a surrogate pair" if kind is str and isinstance(value, str) else _expected(kind)
    shown = repr(value)
    shown = shown if len(shown) <= _SHOWN_LENGTH else f"{shown[: _SHOWN_LENGTH - 3]}..."
    problems.append(f"field {at!r}: expected {expected}, found {shown}")


def _is_finite(value: float) -> bool:
    try:
        return isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


def _expected(kind: Any) -> str:
    if get_origin(kind) is tuple:
        return f"a list ({_expected(get_args(kind)[0])} each)"
    if _is_record(kind):
        return f"an object with {', '.join(column.name for column in columns(kind) if column.required)}"
    if issubclass(kind, StrEnum):
        return f"one of {', '.join(kind)}"
    return {str: "text", bool: "true or false", int: "a whole number", float: "a finite number"}[kind]


def _fits(found: pa.DataType, kind: Any) -> bool:
    """Say whether values of the Parquet type `found` can be of `kind`; a column of nulls is looked at row by row."""
    is_a = pa.types
    if is_a.is_dictionary(found):
        found = found.value_type
    if get_origin(kind) is tuple:
        fits = is_a.is_list(found) or is_a.is_large_list(found) or is_a.is_fixed_size_list(found)
        fits = fits and _fits(found.value_type, get_args(kind)[0])
    elif _is_record(kind):
        fits = is_a.is_struct(found) and not column_problems(pa.schema(list(found)), kind)
    elif issubclass(kind, str):
        fits = is_a.is_string(found) or is_a.is_large_string(found) or is_a.is_string_view(found)
    elif kind is bool:
        fits = is_a.is_boolean(found)
    else:
        fits = is_a.is_integer(found) or (kind is float and is_a.is_floating(found))
    return bool(fits or is_a.is_null(found))


def _arrow_type(kind: Any) -> pa.DataType:
    if get_origin(kind) is tuple:
        return pa.list_(_arrow_type(get_args(kind)[0]))
    if _is_record(kind):
        return pa.struct(list(schema(kind)))
    if issubclass(kind, str):
        return pa.string()
    return {bool: pa.bool_(), int: pa.int64(), float: pa.float64()}[kind]
