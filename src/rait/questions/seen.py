"""What was seen before, of any number: a table on disk, of which a few megabytes are held.

    with Seen[Place]() as places:
        if before := places.get(question.id): ...
        places.put(question.id, place)

Built on the temporary databases of SQLite: what their cache does not hold goes to a file without a name, which is gone
when they are closed.
"""

import marshal
import sqlite3
from hashlib import blake2b
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from rait.errors import InputError

Value = TypeVar("Value")

_CACHE = 8192  # KiB
_SET_UP = (
    "PRAGMA journal_mode = OFF",  # nothing is ever taken back
    f"PRAGMA cache_size = -{_CACHE}",
    "CREATE TABLE seen (key INTEGER PRIMARY KEY, value BLOB)",
    "BEGIN",
)


class Seen(Generic[Value]):
    """Values (numbers, texts, tuples and frozen sets of these) by texts, of which 8 bytes of a hash are kept."""

    def __init__(self) -> None:
        self._base = sqlite3.connect("", isolation_level=None)
        for statement in _SET_UP:
            self._base.execute(statement)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._base.close()

    def get(self, text: str) -> Value | None:
        """The value of a text; None where there is none."""
        found = self._base.execute("SELECT value FROM seen WHERE key = ?", (digest(text),)).fetchone()
        value: Value | None = marshal.loads(found[0]) if found else None
        return value

    def put(self, text: str, value: Value) -> None:
        """Set the value of a text; raise `InputError` where the disk has no room for it."""
        data: Any = value
        try:
            self._base.execute("INSERT OR REPLACE INTO seen VALUES (?, ?)", (digest(text), marshal.dumps(data)))
        except sqlite3.OperationalError as error:
            raise InputError(
                f"no room for temporary files ({error}); free some, or set TMPDIR to another disk"
            ) from error


def digest(text: str) -> int:
    """A hash of a text, 8 bytes with a sign."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), signed=True)
