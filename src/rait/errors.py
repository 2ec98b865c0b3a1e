"""The errors that a user sees: one sentence each that says what is wrong, where, and what to do about it.

Anything else that reaches the top is a bug and shows its traceback.
"""

from collections.abc import Sequence


class RaitError(Exception):
    """The user can mend this; the message says how. The command line prints it and exits with 1."""


class InputError(RaitError):
    """A file of the user's is missing, unreadable or not of the expected form."""


class UndefinedError(InputError):
    """What is asked for is not defined on this data, such as THS where nothing was answered wrongly before."""


class RecipeError(RaitError):
    """The recipe or a command-line override is not valid; exits with 2."""


class ShortageError(RaitError):
    """Fewer questions than wanted remain after a selection."""


class ModelError(RaitError):
    """A model cannot be loaded or used as asked."""


class TrainingError(RaitError):
    """Fine-tuning cannot go on or had no effect."""


def some(ids: Sequence[str]) -> str:
    """The first three of `ids`, for a message."""
    return ", ".join([repr(id) for id in ids[:3]] + (["..."] if len(ids) > 3 else []))


def first_line(error: BaseException) -> str:
    """What a library's error says first; its name where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
