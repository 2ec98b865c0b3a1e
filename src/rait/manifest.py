"""The manifest of a run folder: which step is done, from what, with which files.

    book = Book(folder, say)
    with locked(folder):
        book.begin(recipe)
        with book.step("flow", {"of": [book.digest(a), book.digest(b)]}, [out]) as todo:
            if todo:
                ...                      # make `out`

A step's entry is written last, so an entry means that its files are whole; their checksums are kept, and a file
that has changed since is made again. Entries that an earlier recipe has left stay, to be taken again if they fit; they
count once the run has come by them, and `read_manifest` gives those that count.
"""

import json
import os
import platform
import resource
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import file_digest, sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rait.errors import InputError, RaitError
from rait.recipe import Recipe, dump_recipe, load_recipe
from rait.settings import DIAL_FILE
from rait.tables import atomic, write_json

FORMAT = 1  # of the run folder; raise it when a step's files change their meaning
_PACKAGES = ("rait", "torch", "transformers", "peft", "trl", "datasets", "sentence-transformers", "numpy")

Say = Callable[[str], None]


@dataclass(slots=True)
class Book:
    """The manifest: which step is done, from what, with which files."""

    folder: Path
    say: Say
    manifest: dict[str, Any] = field(default_factory=dict)
    _notes: list[str] = field(default_factory=list)
    _passed: set[str] = field(default_factory=set)  # steps that this start has come by

    def begin(self, recipe: Recipe) -> None:
        """Read the manifest of an earlier start, if any, sweep up after it, and write down what this one is."""
        path = self.folder / "manifest.json"
        if path.exists():
            _sweep(self.folder)
            try:
                self.manifest = json.loads(path.read_text("utf-8"))
                self.manifest["steps"].items()
            except (ValueError, KeyError, AttributeError, TypeError) as error:
                raise InputError(f"{path} is damaged; remove it to start over, or choose another --out") from error
            if self.manifest.get("format") != FORMAT:
                raise InputError(
                    f"{self.folder} was written in format {self.manifest.get('format')}, this version of rait reads "
                    f"{FORMAT}; choose another --out"
                )
        file, written = self.folder / "recipe.yaml", dump_recipe(recipe).encode()
        same = file.is_file() and file.read_bytes() == written
        self.manifest = {
            "format": FORMAT,
            "status": "running",
            "seed": recipe.seed,
            "versions": _versions(),
            "machine": {"system": platform.platform(), "processor": platform.machine()},
            "process": {"pid": os.getpid(), "host": platform.node(), "since": _now()},
            "confirmed": sorted(_confirmed(self.manifest)) if same else [],
            "steps": self.manifest.get("steps", {}),
        }
        self._save()  # first, so that nothing of an earlier recipe ever counts as made by this one
        with atomic(file) as out:
            out.write(written)

    def end(self) -> None:
        """Mark the run as complete."""
        self.manifest["status"] = "complete"
        self.manifest["peak_memory_gb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
        self._save()

    def note(self, text: str) -> None:
        """Tell the user, and keep it with the step."""
        self._notes.append(text)
        self.say(text)

    @contextmanager
    def step(self, name: str, key: Mapping[str, Any], outputs: Sequence[Path]) -> Iterator[bool]:
        """Give True if the step has to be done; what the block then leaves in `outputs` is written down as whole."""
        mark = fingerprint_of({"format": FORMAT, **key})
        entry = self.manifest["steps"].get(name)
        if entry and entry["key"] == mark and all(self._is_whole(path, entry["files"]) for path in outputs):
            self._notes = []
            if self._confirm(name):
                self._save()
            yield False
            return
        if entry and entry["key"] != mark and name != "report":  # on the page nothing hangs; on this perhaps the rest
            self.manifest["confirmed"] = sorted(self._passed)
        self.manifest["steps"].pop(name, None)
        self.manifest["doing"] = {"step": name, "since": _now()}
        self._save()
        start = time.monotonic()
        yield True
        self.manifest["steps"][name] = {
            "key": mark,
            "inputs": key,
            "files": {self._name(path): _digest(path) for path in outputs},
            "seconds": round(time.monotonic() - start, 3),
            "notes": self._notes,
        }
        self._notes = []
        self._confirm(name)
        self.manifest.pop("doing", None)
        self._save()

    def drop(self, name: str) -> None:
        """Strike out a step that the recipe no longer has, if it was ever done."""
        if self.manifest["steps"].pop(name, None) is not None:
            self._save()

    def digest(self, path: Path) -> str:
        """Checksum of a finished file of the run, as written down."""
        for entry in self.manifest["steps"].values():
            if (known := entry["files"].get(self._name(path))) is not None:
                return str(known)
        raise RaitError(f"{path} is not a finished file of this run; start the run again")

    def _confirm(self, name: str) -> bool:
        """Let a step count; whether it did not before."""
        self._passed.add(name)
        before = self.manifest["confirmed"]
        self.manifest["confirmed"] = sorted({*before, name})
        return name not in before

    def _is_whole(self, path: Path, files: Mapping[str, str]) -> bool:
        return path.exists() and files.get(self._name(path)) == _digest(path)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def _save(self) -> None:
        write_json(self.folder / "manifest.json", self.manifest)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a run folder, with the "steps" that count for its recipe.

    Those of an earlier recipe do not, before the run has come by them. Raises `InputError` where the folder holds no
    manifest, or one that is damaged.
    """
    path = folder / "manifest.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        confirmed = _confirmed(found)
        steps = {name: step for name, step in found["steps"].items() if name in confirmed}
        _ = [step.items() for step in steps.values()], found["status"]
    except OSError as error:
        raise InputError(
            f"{folder} holds no manifest.json ({error.strerror}), so it is no run folder; name one that `rait run` made"
        ) from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is damaged; start the run again, or name another folder") from error
    return found | {"steps": steps}


def recipe_of(folder: Path) -> Recipe:
    """The recipe of a run folder; raise `InputError` where there is none."""
    path = folder / "recipe.yaml"
    if not path.is_file():
        raise InputError(f"{folder} holds no recipe.yaml, so it is no run folder; name one that `rait run` made")
    return load_recipe(path)


def _confirmed(manifest: Mapping[str, Any]) -> Collection[str]:
    """The names of the steps that count: in a manifest of an earlier version all of them."""
    found: Collection[str] = manifest.get("confirmed", manifest.get("steps", {}).keys())
    return found


def _sweep(folder: Path) -> None:
    """Remove what a process that was killed left half written; not what an export at work keeps in a hidden folder."""
    for leftover in list(folder.rglob(".*.part")):
        if any(part.startswith(".") for part in leftover.relative_to(folder).parts[:-1]):
            continue
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run folder, made if need be; raise `RaitError` when another process does."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", timeout=1)  # `is_locked` holds it for a moment
        lock.acquire()
    except Timeout as error:
        raise RaitError(f"another run is at work in {folder}; wait for it, or choose another --out") from error
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise InputError(f"cannot use {folder} as a run folder: {error.strerror}; choose another --out") from error
    try:
        yield
    finally:
        lock.release()


def is_locked(folder: Path) -> bool:
    """Whether a process holds the run folder at this moment; False where this one may not ask."""
    path = folder / ".lock"
    if not path.exists():
        return False
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return True
    except OSError:  # a folder that may be read and not written, in which no process of this user works
        return False
    lock.release()
    return False


def fingerprint_of(value: Any) -> str:
    """A hash of plain data, the same in every process."""
    return sha256(_canonical(value)).hexdigest()


def fingerprint_of_all(values: Iterable[Any]) -> str:
    """What `fingerprint_of` gives for the list of `values`, which are taken one by one."""
    digest = sha256(b"[")
    for place, value in enumerate(values):
        digest.update((b", " if place else b"") + _canonical(value))
    digest.update(b"]")
    return digest.hexdigest()


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str).encode()


def _digest(path: Path) -> str:
    """Checksum of a file, or of all files of a folder but the dial, which is set when tuning is over."""
    if path.is_dir():
        files = (file for file in sorted(path.iterdir()) if file.is_file() and file.name != DIAL_FILE)
        return fingerprint_of({file.name: _digest(file) for file in files})
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
