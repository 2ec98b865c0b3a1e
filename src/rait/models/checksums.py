"""Checksums of files, of large ones by way of a note in the cache folder, so that a model is read through once.

    checksum(Path("model/model.safetensors"))       # SHA-256, 64 hexadecimal digits

A note counts as long as it is whole itself and the file has the same place, size, inode and times, of which the time of
the last change cannot be set by hand. What turns a bit of the file on the disk and leaves all of them as they were is
not noticed before the note is gone; `rait_base.json` beside what was tuned is checked the same way.
"""

import json
import os
import time
from contextlib import suppress
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

from rait.errors import InputError
from rait.settings import DIAL_FILE
from rait.tables import write_json

LARGE = 16 << 20  # bytes; a smaller file is read in no time
_WINDOW = LARGE // 256
_SETTLED = 2 * 10**9  # nanoseconds since a change; within them another one might leave the same times


def cache_folder() -> Path:
    """Where converted models and these notes lie: $RAIT_CACHE, else $XDG_CACHE_HOME/rait, else ~/.cache/rait."""
    try:
        if own := os.environ.get("RAIT_CACHE"):
            return Path(own).expanduser()
        base = os.environ.get("XDG_CACHE_HOME")
        return (Path(base).expanduser() if base else Path.home() / ".cache") / "rait"
    except RuntimeError as error:
        raise InputError("there is no home folder for the cache to lie in; set RAIT_CACHE to a folder") from error


def checksum(path: Path) -> str:
    """The SHA-256 of a file's bytes, as hexadecimal digits; raise `OSError` where it cannot be read."""
    stamp = stamp_of(path)
    if stamp[0] < LARGE:
        return read_through(path)
    place = str(path.resolve())
    note = cache_folder() / "checksums" / f"{sha256(place.encode()).hexdigest()[:32]}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(note.read_text("utf-8"))
        if known == _note(place, stamp, known["sha256"]):
            return str(known["sha256"])
    found = read_through(path)
    if stamp_of(path) == stamp and time.time_ns() - max(stamp[2:]) > _SETTLED:
        with suppress(InputError):  # a cache that cannot be written costs time alone
            write_json(note, _note(place, stamp, found))
    return found


def read_through(path: Path) -> str:
    """The same, read now."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def stamp_of(path: Path) -> list[int]:
    """What tells a file from an earlier state of it: size, inode, and the times (ns) of what it holds and of itself."""
    found = path.stat()
    return [found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns]


def _note(place: str, stamp: list[int], found: str) -> dict[str, Any]:
    """What is kept of a file, with a checksum of that."""
    plain = {"path": place, "stamp": stamp, "sha256": found}
    return plain | {"checksum": sha256(json.dumps(plain).encode()).hexdigest()}


def windowed(path: Path) -> str:
    """The fingerprint that models had in earlier versions: of large files, the size and 256 windows of 64 KiB."""
    digest = sha256()
    for file in [path] if path.is_file() else sorted(item for item in path.iterdir() if item.is_file()):
        if path.is_dir() and file.suffix not in {".json", ".safetensors", ".model", ".txt", ".jinja", ".bin"}:
            continue
        if file.name == DIAL_FILE:
            continue
        size = file.stat().st_size
        digest.update(f"{file.name} {size}\n".encode())
        with file.open("rb") as stream:
            if size <= LARGE:
                digest.update(stream.read())
                continue
            for window in range(256):
                stream.seek(window * (size - _WINDOW) // 255)
                digest.update(stream.read(_WINDOW))
    return digest.hexdigest()[:16]
