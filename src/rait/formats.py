"""The formats of what rait writes, and what becomes of files that an earlier or a later version has written.

    data = current(json.loads(text), path)         # as this version has it, without the number of its format

Every Parquet table and every JSON file of results carries the number of its format under `MARK`; the manifest has its
own. What carries none was made before there were numbers, and is of format 1. JSON Lines carry none: rows are for other
tools, too, and their columns are checked one by one.

A new format comes with a function that makes it of the one before; where there is none, the file is refused.
"""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from rait.errors import InputError

MARK = "rait_format"
FORMAT = 1
"""Of tables and of JSON files of results."""

Data = dict[str, Any]
Migrations = Mapping[int, Callable[[Data], Data]]
"""By format: what makes the next one of it."""


def current(
    data: Data, path: Path, *, mark: str = MARK, newest: int = FORMAT, migrations: Migrations | None = None
) -> Data:
    """What the file `path` holds, brought from the format that it has under `mark` to the `newest`; without the mark.

    Raises `InputError` as `check_format` does.
    """
    migrations = migrations or {}
    found = check_format(data.get(mark), path, newest=newest, migrated=migrations)
    data = {key: value for key, value in data.items() if key != mark}
    for number in range(found, newest):
        data = migrations[number](data)
    return data


def check_format(found: object, path: Path, *, newest: int = FORMAT, migrated: Collection[int] = ()) -> int:
    """The number of a file's format, 1 for None.

    Raises `InputError` for one above the `newest`, or an earlier one from which there is no way to it: all on the way
    must be in `migrated`.
    """
    number = 1 if found is None else found
    if type(number) is not int or number < 1:
        raise InputError(f"{path} is damaged: its format is {found!r}, expected a number; make it again")
    if number > newest:
        raise InputError(
            f"{path} is of format {number}, made by a later rait; this one knows formats up to {newest}: update rait"
        )
    if not all(each in migrated for each in range(number, newest)):
        raise InputError(
            f"{path} is of format {number}, which this version of rait, of format {newest}, no longer reads; make it "
            "again, or use the rait that made it"
        )
    return number
