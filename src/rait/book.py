"""The steps of a run folder as they are done: skipped where they are whole, written down when they are.

    book = Book(folder, say)
    with locked(folder) as left:
        book.begin(recipe, left)
        with book.step("flow", {"of": [book.digest(a), book.digest(b)]}, [out]) as todo:
            if todo:
                ...                      # make `out`

A step's entry in the manifest is written last, so an entry means that its files are whole; their checksums are kept,
and a file that has changed since is made again. Entries that an earlier recipe has left stay, to be taken again if they
fit; they count once the run has come by them.

Other versions of the packages leave finished steps as they are: each is whole, made by one version, which stands in its
entry. So are shards, as each is asked by itself. A training that was interrupted begins anew, for its steps build on
each other.
"""

import json
import os
import platform
import re
import resource
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from secrets import token_hex
from typing import Any

from rait.errors import InputError, RaitError
from rait.locking import Holder, now
from rait.manifest import (
    FORMAT,
    MANIFEST,
    checksum,
    differing,
    fingerprint_of,
    flat,
    load_manifest,
    write_manifest,
)
from rait.progress import Say
from rait.recipe import Recipe, dump_recipe
from rait.tables import atomic

_STEPS = 1  # of the files of the steps; raise it when they change their meaning: all are made again
_PACKAGES = (
    *("rait", "torch", "transformers", "tokenizers", "peft", "trl", "accelerate", "datasets"),
    *("sentence-transformers", "numpy"),
)
_LEFTOVER = re.compile(r"\.(adapter|.+\.[0-9a-f]{8})\.part")  # what is left of tuned weights, and by `tables.atomic`
_SHOWN = 8  # changed keys of a recipe
_OUTSIDE = {  # parts of the steps' keys that no recipe holds
    "model.base": "the files of the model",
    "template": "the files of the model",
    "embedder": "the files of the sentence model",
    "code": "the code of the strategy",
}


@dataclass(slots=True)
class Book:
    """The manifest: which step is done, from what, with which files."""

    folder: Path
    say: Say
    manifest: dict[str, Any] = field(default_factory=dict)
    _notes: list[str] = field(default_factory=list)
    _passed: set[str] = field(default_factory=set)  # steps that this start has come by
    _made: list[Path] = field(default_factory=list)  # files and folders that this start has made
    _said: set[str] = field(default_factory=set)  # what has changed since, and is no key of the recipe
    _again: list[str] = field(default_factory=list)  # steps that were done and are not as they would be now

    def begin(self, recipe: Recipe, left: Holder | None = None) -> None:
        """Read the manifest of an earlier start, if any, sweep up after it, and write down what this one is.

        What is not as it was then is said: the recipe, the versions. `left` is the process that was killed here. Raises
        `InputError` where the manifest is damaged, or is gone and files of the run are there; then nothing has changed.
        """
        before: dict[str, Any] = {}
        if os.path.lexists(self.folder / MANIFEST):
            before = load_manifest(self.folder)
        elif (self.folder / "questions/train.parquet").exists():
            raise InputError(
                f"{self.folder} holds files of a run and no {MANIFEST}, which says what of them is whole; bring it "
                "back, choose another --out, or empty the folder to start over"
            )
        if left is not None:
            step = before.get("doing", {}).get("step")
            self.say(f"the last run here ({left}) was killed{f' in step {step}' if step else ''}; going on")
        keys = recipe.model_dump(mode="json")
        sweep(self.folder, "**/.*.part" if before or left else ".*.part")
        if before:
            for change in _changes(before, keys):
                self.say(change)
        file, written = self.folder / "recipe.yaml", dump_recipe(recipe).encode()
        same = before.get("recipe") == keys if "recipe" in before else file.is_file() and file.read_bytes() == written
        self.manifest = {
            "format": FORMAT,
            "status": "running",
            "seed": recipe.seed,
            "recipe": keys,
            "versions": versions(),
            "machine": {"system": platform.platform(), "processor": platform.machine()},
            "confirmed": sorted(before.get("confirmed", ())) if same else [],
            "steps": before.get("steps", {}),
            "set": before.get("set", {}),
        }
        self._save()  # first, so that nothing of an earlier recipe ever counts as made by this one
        with atomic(file) as out:
            out.write(written)

    def end(self) -> None:
        """Mark the run as complete."""
        self.manifest["status"] = "complete"
        unit = 1 if sys.platform == "darwin" else 1024  # bytes
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        self.manifest["peak_memory_gb"] = round(peak / 2**30, 2)
        self._save()
        if self._again:
            self.say(f"{len(self._again)} steps were done again, {len(self._passed) - len(self._again)} were not")

    def note(self, text: str) -> None:
        """Tell the user, and keep it with the step."""
        self._notes.append(text)
        self.say(text)

    @contextmanager
    def step(
        self, name: str, key: Mapping[str, Any], outputs: Sequence[Path], maybe: Sequence[Path] = ()
    ) -> Iterator[bool]:
        """Give True if the step has to be done; what the block then leaves in `outputs` is written down as whole.

        Of `maybe` the files that the block has made are. A file that is not as it was written down, or one of `maybe`
        that the block has not made, is noted, and the step done again.
        """
        mark = fingerprint_of({"format": _STEPS, **key})
        entry = self.manifest["steps"].get(name)
        if entry and entry.get("key") == mark:
            files = entry["files"]
            there = (path for path in maybe if self._name(path) in files or path.exists())
            wrong = {path: problem for path in (*outputs, *there) if (problem := self._wrong(path, files))}
            if not wrong:
                self._notes = []
                if self._confirm(name):
                    self._save()
                yield False
                return
            for path, problem in wrong.items():
                # Gone with a folder that was made again, as the dial of an adapter; or written by `rait report`.
                if not any(path.is_relative_to(folder) for folder in self._made) and name != "report":
                    self.note(f"{problem}; making it again")
        elif entry and name != "report":  # on the page nothing hangs; on this perhaps the rest
            self.manifest["confirmed"] = sorted(self._passed)
            for cause in _causes(name, entry.get("inputs", {}), key):
                if cause not in self._said:
                    self._said.add(cause)
                    self.note(f"{cause} changed since {name} was done: it is done again, and what depends on it")
        if entry and name != "report":
            self._again.append(name)
        self.manifest["steps"].pop(name, None)
        self._forget((*outputs, *maybe))
        self.manifest["doing"] = {"step": name, "since": now()}
        self._save()
        for path in (*outputs, *maybe):
            _make_room(path)
        for path in maybe:  # of an earlier recipe, or set by hand; what stands here afterwards, the block has made
            path.unlink(missing_ok=True)
        start = time.monotonic()
        yield True
        made = [*outputs, *(path for path in maybe if path.exists())]
        self._made += made
        self.manifest["steps"][name] = {
            "key": mark,
            "inputs": key,
            "files": {self._name(path): checksum(path) for path in made},
            "seconds": round(time.monotonic() - start, 3),
            "versions": self.manifest["versions"],
            "notes": self._notes,
        }
        self._notes = []
        self._confirm(name)
        self.manifest.pop("doing", None)
        self._save()

    def drop(self, name: str, paths: Sequence[Path]) -> None:
        """Strike out a step that the recipe no longer has, if it was ever done, and its files."""
        self.manifest["steps"].pop(name, None)
        self._forget(paths)
        self._save()

    def inputs(self, name: str) -> Mapping[str, Any]:
        """What a step that is done depended on; empty where it is not."""
        found: Mapping[str, Any] = self.manifest["steps"].get(name, {}).get("inputs", {})
        return found

    def _forget(self, paths: Sequence[Path]) -> None:
        """Files that were set by hand count no more."""
        for path in paths:
            self.manifest["set"].pop(self._name(path), None)

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

    def _wrong(self, path: Path, files: Mapping[str, str]) -> str:
        """What is wrong with a file that was written down; "" where it is whole."""
        name = self._name(path)
        if not path.exists():
            return f"{path} is gone"
        if files.get(name) == checksum(path):
            return ""
        how = "was set by hand" if self.manifest["set"].get(name) == checksum(path) else "has changed"
        return f"{path} {how} since the run made it" if name in files else f"{path} was not written down"

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def _save(self) -> None:
        write_manifest(self.folder, self.manifest)


def _changes(before: Mapping[str, Any], keys: Mapping[str, Any]) -> Iterator[str]:
    """What is not as it was when the run was started last, a sentence each."""
    old, new = flat(before.get("recipe", {"seed": before.get("seed")})), flat(keys)
    if "recipe" not in before:  # of a run by an earlier version the seed alone is known
        new = {"seed": new["seed"]}
    changed = differing(old, new)
    for key in changed[:_SHOWN]:
        yield f"{key} was {_shown(old.get(key))}, is {_shown(new.get(key))}: what depends on it is done again"
    if len(changed) > _SHOWN:
        yield f"... and {len(changed) - _SHOWN} more keys of the recipe"
    was, own = before.get("versions", {}), versions()
    if others := [name for name in own if name in was and was[name] != own[name]]:
        then, today = (", ".join(f"{name} {of[name]}" for name in others) for of in (was, own))
        yield (f"made with {then}, now {today}: finished steps are kept, a training that was interrupted begins anew")


def _causes(step: str, old: Mapping[str, Any], key: Mapping[str, Any]) -> Iterator[str]:
    """What of a step's key has changed that is neither in the recipe nor made by the run."""
    before = flat(old)
    for name in differing(before, flat(json.loads(json.dumps(key, default=str)))):
        if name in _OUTSIDE and name in before:  # an earlier version may not have written it down
            yield _OUTSIDE[name]
        elif step == "questions":
            name = name.partition(".")[0]
            yield "the worked examples" if name == "shots" else f"the questions of {name}"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return "none" if value is None else text if len(text) <= 60 else f"{text[:57]}..."


def sweep(folder: Path, pattern: str) -> None:
    """Remove what a process that was killed left half written; not what an export at work keeps in a hidden folder."""
    for leftover in [path for path in folder.glob(pattern) if _LEFTOVER.fullmatch(path.name)]:
        if any(part.startswith(".") for part in leftover.relative_to(folder).parts[:-1]):
            continue
        shutil.rmtree(leftover) if leftover.is_dir() and not leftover.is_symlink() else leftover.unlink()


def _make_room(path: Path) -> None:
    """Set aside a folder that stands where a file is to be written, or a file where a folder is: it is the user's."""
    if path.exists() and path.is_dir() != (not path.suffix):
        path.rename(path.with_name(f"{path.name}.{token_hex(4)}.aside"))


def versions() -> dict[str, str]:
    """What numbers may hang on beside the recipe: the versions of Python and of the packages that compute."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
