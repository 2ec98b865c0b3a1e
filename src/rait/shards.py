"""Long work saved part by part, so that an interruption costs one part: files that prove themselves whole.

    verdicts = in_shards(folder, questions, 3497, 512, Verdict, ask, say=say, skip=advance)

A shard is a Parquet file of the records of so many questions, named after the number of the first one and the checksum
of its content: 000000512-9f86d081884c7d65.parquet. One rename makes it whole and known. A file whose content is not
what its name says is never used. What the records depend on has to stand in the folder's name.

    done, content = last_whole(folder, ".safetensors", say)     # of one result that grows
    keep(folder, 1024, ".safetensors", content)                 # instead of what was kept of it before
"""

import re
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from rait.columns import schema, to_row
from rait.errors import InputError
from rait.progress import Say
from rait.tables import atomic, batched, iter_records

Item = TypeVar("Item")
Record = TypeVar("Record")

_NAME = re.compile(r"(\d{9})-([0-9a-f]{16})\.\w+")


def in_shards(
    folder: Path,
    items: Iterable[Item],
    total: int,
    size: int,
    kind: type[Record],
    make: Callable[[Iterator[Item]], Iterator[Record]],
    *,
    say: Say,
    skip: Callable[[int], None] = lambda _: None,
) -> Iterator[Record]:
    """What `make` gives for each of `items`, `total` in number, saving a file in `folder` for every `size` of them.

    Whole files that are there already are not made again; `skip` is told how many items they hold, and `say` of files
    that are damaged, which are removed. The items of each other file are handed to `make` by themselves, which gives a
    record for each, in their order: a model's last digits depend on what it is asked at the same time, and work that
    was interrupted is to come to the same. When all files are there, the records are read from them as they are asked
    for. The caller removes the folder when all is safe elsewhere. Raises `InputError` for a folder in a file's place.
    """
    starts = range(0, total, size)
    saved = {start: path for start, path in _whole(folder, ".parquet", say) if start in starts}
    for start, part in zip(starts, batched(items, size), strict=True):
        if start in saved:
            skip(len(part))
        else:
            saved[start] = _save(folder, start, ".parquet", _table(make(iter(part)), kind))
    return chain.from_iterable(iter_records(saved[start], kind) for start in starts)


def keep(folder: Path, done: int, suffix: str, content: bytes) -> Path:
    """Save `content` as what `done` items came to, and remove what was kept in `folder` of fewer."""
    path = _save(folder, done, suffix, content)
    for older in folder.glob(f"*{suffix}"):
        if older != path:
            older.unlink()
    return path


def last_whole(folder: Path, suffix: str, say: Say) -> tuple[int, bytes]:
    """What was kept last, and of how many items; (0, b"") where nothing is whole.

    Raises `InputError` for a folder in a file's place.
    """
    done, path = max(_whole(folder, suffix, say), default=(0, None))
    return done, path.read_bytes() if path else b""


def _whole(folder: Path, suffix: str, say: Say) -> Iterator[tuple[int, Path]]:
    """The number and the path of each file whose content is as it was saved; others are removed.

    Raises `InputError` for a folder in the place of one, which is not removed: what is in it is nothing of ours.
    """
    for path in sorted(folder.glob(f"*{suffix}")):
        name = _NAME.fullmatch(path.name)
        if path.is_dir() and not path.is_symlink():
            raise InputError(f"{path} is a folder in the place of a file; move it elsewhere and start again")
        if name and path.is_file() and _checksum(path.read_bytes()) == name[2]:
            yield int(name[1]), path
        else:
            say(f"{path} is damaged: it is removed, and what it held is done again")
            path.unlink()


def _table(records: Iterable[Any], kind: type) -> bytes:
    buffer = BytesIO()
    pq.write_table(pa.Table.from_pylist(list(map(to_row, records)), schema=schema(kind)), buffer)
    return buffer.getvalue()


def _save(folder: Path, number: int, suffix: str, content: bytes) -> Path:
    path = folder / f"{number:09d}-{_checksum(content)}{suffix}"
    with atomic(path) as file:
        file.write(content)
    return path


def _checksum(content: bytes) -> str:
    return sha256(content).hexdigest()[:16]
