"""Weights to the disk: whole and there to stay, or one sentence that says why not.

with saving(folder, "free some space there and start again"):
    model.save_pretrained(scratch)
    put(scratch, folder / "adapter")
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rait.errors import InputError, RaitError, first_line
from rait.tables import keep_name

_DISK = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EEXIST,
    errno.ENOTDIR,
}  # fmt: skip
_UNWRITTEN = ("PytorchStreamWriter", "inline_container", "iostream error")  # how torch says that it cannot write
_ROOM = 16 << 20  # bytes; a disk with less is full, as far as weights go


@contextmanager
def saving(place: Path, remedy: str) -> Iterator[None]:
    """Raise `InputError`, which ends in `remedy`, where the disk does not take what the block saves at `place`.

    It is full, or not to be written to; the libraries that write weights say so in many ways. What fails for another
    reason is passed on as it is.
    """
    try:
        yield
    except RaitError:
        raise
    except Exception as error:
        reason = first_line(error)
        there = next(folder for folder in (place, *place.parents) if folder.exists())
        if shutil.disk_usage(there).free < _ROOM:
            reason = "no space left"
        elif isinstance(error, OSError) and error.errno in _DISK:
            reason = error.strerror or reason
        elif type(error).__name__ != "SafetensorError" and not any(sign in str(error) for sign in _UNWRITTEN):
            raise
        raise InputError(f"cannot write {place}: {reason}; {remedy}") from error


def put(scratch: Path, folder: Path) -> None:
    """Let `scratch`, a folder that is written, be `folder`, where nothing is; a power cut takes nothing of it then."""
    sync(scratch)
    scratch.rename(folder)
    keep_name(folder.parent)


def sync(folder: Path) -> None:
    """Wait until a folder with all that is in it has reached the disk, under its name."""
    for path in (*folder.rglob("*"), folder, folder.parent):
        if path.is_dir():
            keep_name(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())
