"""What a function does, as far as its source tells: so that other code of a strategy is seen to be other code.

    mark = code_of(plan)            # "own_strategy.plan 9f86d081884c7d65"

Taken when a strategy is registered, for its file may be edited while a run is at work.
"""

import inspect
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any


def code_of(function: Callable[..., Any]) -> str:
    """The name of a function, and, of one that is not rait's own, a hash of the file or the cell that it stands in."""
    given = ""
    while isinstance(function, partial):
        given += repr((function.args, sorted(function.keywords.items())))
        function = function.func
    if not hasattr(function, "__qualname__"):  # an object that can be called: its class says what it does
        function = type(function)
    name = f"{function.__module__}.{function.__qualname__}{given}"
    if name.partition(".")[0] == "rait":
        return name
    return f"{name} {sha256(_source(function)).hexdigest()[:16]}"


def _source(function: Callable[..., Any]) -> bytes:
    """What is to be had of it: its file; its own lines, as in a notebook; nothing, where it was typed in."""
    try:
        return Path(str(inspect.getsourcefile(function))).read_bytes()
    except (OSError, TypeError):
        pass
    try:
        return inspect.getsource(function).encode()
    except (OSError, TypeError):
        return b""
