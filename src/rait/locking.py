"""Who works in a run folder: one process at a time, and others are told which.

    with locked(folder) as left:       # the process that was killed here, if one was
        ...

The lock is the kernel's (flock, by `filelock`): it ends with its process, however that ends. The file beside it only
says who holds it, so one that a dead process has left is never believed. On a network folder the lock is as good as
that of its server; the message names the host. Where a file system knows no locks, `filelock` has the file itself
stand for one, with the process in it.
"""

import json
import os
import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from rait.errors import InputError, RaitError
from rait.tables import write_json

_LOCK, _HOLDER = ".lock", ".holder.json"  # filelock may rewrite its own file, so who holds it stands in another


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that works in a run folder, or did; `since` is in UTC, in ISO 8601."""

    pid: int
    host: str
    since: str

    def __str__(self) -> str:
        """In words, in the time of this machine."""
        return f"pid {self.pid}, host {self.host}, since {datetime.fromisoformat(self.since).astimezone():%F %T}"


@contextmanager
def locked(folder: Path) -> Iterator[Holder | None]:
    """Hold the run folder, made if need be; give the process that held it last, if that one was killed.

    Raises `RaitError` when another process holds it, and `InputError` where it cannot be used.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        check_links(folder)
        lock = _acquired(folder, timeout=1)  # `is_locked` holds it for a moment
    except Timeout as error:
        raise RaitError(_at_work(folder)) from error
    except OSError as error:
        raise InputError(f"cannot use {folder} as a run folder: {error.strerror}; choose another --out") from error
    try:
        left = holder(folder)
        write_json(folder / _HOLDER, asdict(Holder(os.getpid(), platform.node(), now())))
        yield left
    finally:
        with suppress(OSError):  # then it is taken for one that was killed, and no harm is done
            (folder / _HOLDER).unlink(missing_ok=True)
        lock.release()


def _acquired(folder: Path, timeout: float) -> FileLock:
    lock = FileLock(folder / _LOCK, timeout=timeout)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="flock not supported")  # nobody has to do anything about it
        lock.acquire()
    return lock


def _at_work(folder: Path) -> str:
    who = holder(folder)
    remedy = "wait for it, or choose another --out"
    if who is not None and who.host != platform.node():  # whose end a file system may not have noticed
        remedy += f", or remove {folder / _LOCK} if that host has gone down"
    return f"another run is at work in {folder} ({who or 'it has not said which'}); {remedy}"


def check_links(folder: Path) -> None:
    """Raise `InputError` where a link in a run folder leads out of it: what is written to the run would go there."""
    root = Path(os.path.realpath(folder))
    for place, folders, files in os.walk(folder):
        for path in (Path(place, name) for name in (*folders, *files)):
            if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(root):
                raise InputError(
                    f"{path} is a link that leads out of the run folder, which is not followed; put what it points to "
                    "in its place, or link to the run folder as a whole"
                )


def is_locked(folder: Path) -> bool:
    """Whether a process holds the run folder at this moment; False where this one may not ask."""
    if not (folder / _LOCK).exists():
        return False
    try:
        lock = _acquired(folder, timeout=0)
    except Timeout:
        return True
    except OSError:  # a folder that may be read and not written, in which no process of this user works
        return False
    lock.release()
    return False


def holder(folder: Path) -> Holder | None:
    """The process that said last that it holds the run folder; whether it does, `is_locked` knows."""
    try:
        found = json.loads((folder / _HOLDER).read_text("utf-8"))
        who = Holder(int(found["pid"]), str(found["host"]), str(found["since"]))
        str(who)  # of the year 9999 this machine's time may be in the next
    except (OSError, ValueError, LookupError, TypeError, OverflowError, RecursionError):
        return None
    return who


def now() -> str:
    """This moment, in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
