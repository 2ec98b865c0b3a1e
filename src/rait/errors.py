"""The errors that a user sees: one sentence each that says what is wrong, where, and what to do about it.

Anything else that reaches the top is a bug and shows its traceback.
"""

from collections.abc import Mapping, Sequence
from math import ceil

from rait.inert import presentable

_LONGEST = 1500  # characters of a line; what is wrong and where stands at its beginning, what to do at its end


class RaitError(Exception):
    """The user can mend this; the message says how. The command line prints it and exits with 1.

    What others wrote may stand in the message: it is inert on a terminal, shows no password, and of a line that is
    longer than people read, as with an id of a million letters, the beginning and the end stand.
    """

    def __init__(self, message: str) -> None:
        super().__init__("\n".join(_shortened(line) for line in presentable(message).split("\n")))


class InputError(RaitError):
    """A file of the user's is missing, unreadable or not of the expected form."""


class DamagedError(InputError):
    """A finished file of a run is gone, or is no longer what the run has made."""


class UndefinedError(InputError):
    """What is asked for is not defined on this data, such as THS where nothing was answered wrongly before."""


class RecipeError(RaitError):
    """The recipe or a command-line override is not valid; exits with 2."""


class ShortageError(RaitError):
    """Fewer questions than wanted remain after a selection."""


class ModelError(RaitError):
    """A model cannot be loaded or used as asked."""


class NotFiniteError(ModelError):
    """A model's numbers are NaN or infinite: `places` are the indices of what it was asked there, or the ids."""

    def __init__(self, what: str, places: Sequence[int | str]) -> None:
        self.what = what
        self.places = tuple(places)
        ids = some([str(place) for place in self.places])
        super().__init__(
            f"the model's {what} are not finite in {len(self.places)} questions ({ids}); check its weights, or load it "
            "with model.dtype=float32"
        )

    def of(self, names: "Sequence[int] | Sequence[str] | Mapping[int, str]") -> "NotFiniteError":
        """The same of `names`, which stand at its places."""
        return NotFiniteError(self.what, list(dict.fromkeys(names[int(place)] for place in self.places)))


class TrainingError(RaitError):
    """Fine-tuning cannot go on or had no effect."""


def some(ids: Sequence[str]) -> str:
    """The first three of `ids`, for a message."""
    return ", ".join([repr(id) for id in ids[:3]] + (["..."] if len(ids) > 3 else []))


def _shortened(line: str) -> str:
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST * 2 // 3]} ... {line[-_LONGEST // 3 :]}"


def first_line(error: BaseException) -> str:
    """What a library's error says first; its name where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def check_failed(failed: Mapping[str, str], asked: int, allowed: float) -> None:
    """Raise `InputError` where more than the share `allowed` of the questions asked failed: reasons by id."""
    if len(failed) <= allowed * asked:
        return
    reasons = list(dict.fromkeys(failed.values()))
    raise InputError(
        f"{len(failed)} of {asked} questions failed, more than the share max_failed={allowed:g}: {some(list(failed))} "
        f"({'; '.join(reasons[:3])}{'; ...' if len(reasons) > 3 else ''}); mend or remove them, or set "
        f"max_failed={ceil(1000 * len(failed) / asked) / 1000:g} for numbers of the others alone"
    )
