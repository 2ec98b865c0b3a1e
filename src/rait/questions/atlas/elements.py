"""Chemical elements: name by symbol, and atomic number. Source: the periodic table in the package `mendeleev`."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing

from rait.errors import InputError
from rait.questions.atlas.facts import Fact, make_fact, package_folder

_OTHER_NAMES = {"Al": ["Aluminium"], "Cs": ["Caesium"], "S": ["Sulphur"], "W": ["Wolfram"]}


def element_facts() -> Iterator[Fact]:
    """Yield the facts of the relations element_name and atomic_number."""
    for number, symbol, name in _periodic_table():
        entity = f"element/{symbol}"
        names = (name, *_OTHER_NAMES.get(symbol, []))
        yield make_fact("element_name", symbol, entity, f"Which chemical element has the symbol {symbol}?", names)
        text = f"What is the atomic number of {name.lower()}?"
        yield make_fact("atomic_number", symbol, entity, text, [str(number)])


def _periodic_table() -> list[tuple[int, str, str]]:
    # The package's own interface takes seconds to import (pandas, SQLAlchemy); its table is a plain SQLite file.
    path = package_folder("mendeleev") / "elements.db"
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            return database.execute("SELECT atomic_number, symbol, name FROM elements ORDER BY 1").fetchall()
    except sqlite3.Error as error:
        raise InputError(
            f'the periodic table {path} cannot be read ({error}); install it again with: pip install "rait[demo]"'
        ) from error
