"""A strategy of a finished run, as it is handed over, and the folder that it is handed over in.

finished = open_run(Path("run"), "craft")
finished.examples(), finished.recipe.prompt
with new_folder(Path("out")) as folder: ...
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from secrets import token_hex
from typing import Any

from filelock import FileLock, Timeout

from rait.errors import InputError, RecipeError
from rait.manifest import intact, read_manifest, recipe_of
from rait.models.checksums import checksum
from rait.models.saving import put, saving
from rait.recipe import Recipe
from rait.records import Example, Question
from rait.tables import read_data, read_records, write_json

MARK = "rait_export.json"  # in every folder that an export has written


@dataclass(frozen=True, slots=True)
class Finished:
    """What a run made of one strategy; `name` is its folder in the run: "craft", or "craft/seed-1"."""

    run: Path
    name: str
    recipe: Recipe
    manifest: dict[str, Any]

    @property
    def place(self) -> Path:
        """The strategy's folder."""
        return self.run / self.name

    @property
    def strategy(self) -> str:
        """The strategy's name, whatever the seed."""
        return self.name.partition("/")[0]

    @property
    def seed(self) -> int:
        """The seed by which it was drawn and tuned: the recipe's, or the one in its name."""
        _, further, seed = self.name.partition("/seed-")
        return int(seed) if further else self.recipe.seed

    @property
    def tests(self) -> list[str]:
        """The names of the test sets."""
        return list(self.recipe.tests)

    def examples(self) -> list[Example]:
        """What was taught, in its order."""
        return read_records(intact(self.place / "examples.jsonl"), Example)

    def questions(self, name: str, only: set[str] | None = None) -> list[Question]:
        """The questions of a set, "train" or a test set."""
        return read_records(intact(self.run / f"questions/{name}.parquet"), Question, only=only)

    def read_json(self, name: str) -> Any:
        """What a file of the strategy's holds, None where there is none."""
        path = intact(self.place / name)
        return read_data(path) if path.is_file() else None


def open_run(run: Path, name: str | None) -> Finished:
    """Open a run folder to hand over one of its strategies; without a name the only one that was tuned.

    Raises `RecipeError` where a name is needed or unknown, `InputError` where this is no run folder, where the strategy
    is not finished, or where the recipe has changed since it was tuned: the prompts that it knows would not be those of
    the recipe.
    """
    manifest, recipe = read_manifest(run), recipe_of(run)
    steps = manifest["steps"]
    tuned = [step.removesuffix("/tuning") for step in steps if step.endswith("/tuning")]
    tuned = [own for own in tuned if (run / own / "adapter").is_dir()]
    if not tuned:
        raise InputError(f"nothing was tuned in {run} yet; finish the run first")
    if name is None and len(tuned) > 1:
        raise RecipeError(f"{run} has {len(tuned)} tuned models; name one with --strategy: {', '.join(tuned)}")
    name = name or tuned[0]
    if name not in tuned:
        raise RecipeError(f"no tuned model {name!r} in {run}; there are {', '.join(tuned)}")
    for test in recipe.tests:
        if f"{name}/{test}" not in steps:
            raise InputError(f"{name} of {run} has not answered {test} yet; finish the run first")
    made_with = steps.get(f"{name}/construction", {}).get("inputs", {}).get("prompt")
    now = recipe.prompt.model_dump(mode="json")
    if made_with is not None and made_with != {key: now.get(key) for key in made_with}:
        raise InputError(f"the recipe of {run} has changed since {name} was tuned; finish the run first")
    return Finished(run, name, recipe, manifest)


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder to write into, renamed to `out` when the block ends without an error.

    An earlier export there is replaced if nobody has changed it since, and what one that was killed on its way there
    has left is cleared away. Raises `InputError` where `out` is something else that is not empty, or the disk does not
    take what is written.
    """
    out = out.resolve()  # "." has no name of its own
    if out.exists() and (foreign := _foreign(out)):
        raise InputError(
            f"{out} is no earlier export, or more than that: {foreign}; choose another --out, or remove it"
        )
    scratch = out.with_name(f".{out.name}.{token_hex(4)}.exporting")  # its own, whoever else writes here
    with saving(out, "free some space there, or choose another --out"):
        out.parent.mkdir(parents=True, exist_ok=True)
        _sweep(out)
        with _held(scratch):  # before it is there, so that nobody takes it for left over
            try:
                scratch.mkdir()
                yield scratch
                _list_files(scratch)
                if out.exists():  # set aside whole: half of it would be taken for something that is not ours
                    out.rename(out.with_name(f".{out.name}.{token_hex(4)}.exporting"))
                put(scratch, out)
                _sweep(out)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)


def _list_files(folder: Path) -> None:
    """Note in the mark of an export which files are its own, and how they are: a later one replaces these alone."""
    mark = folder / MARK
    if mark.is_file():
        sums = {name: checksum(folder / name) for name in sorted(_files(folder)) if name != MARK}
        write_json(mark, json.loads(mark.read_text("utf-8")) | {"contents": sums})


def _foreign(out: Path) -> str:
    """What no export has written in a folder, in a few words; "" where all files are as an earlier one left them."""
    if not out.is_dir():
        return "it is a file"
    try:
        own = dict(json.loads((out / MARK).read_text("utf-8"))["contents"])
    except (OSError, ValueError, LookupError, TypeError):
        own = None
    for name in sorted(_files(out)):
        if own is not None and name == MARK:
            continue
        if own is None or name not in own:
            return f"{name} is none of its files"
        if not (out / name).is_file() or checksum(out / name) != own[name]:
            return f"{name} has been changed since"
    return ""


def _files(folder: Path) -> Iterator[str]:
    found = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return (path.relative_to(folder).as_posix() for path in found)


def _sweep(out: Path) -> None:
    """Remove the folders that exports to `out` which were killed have left; not those of exports at work."""
    for leftover in out.parent.glob(f".{escape(out.name)}.{8 * '[0-9a-f]'}.exporting*"):
        scratch = leftover.with_name(leftover.name.removesuffix(".lock"))  # which may be there alone
        with suppress(Timeout), _held(scratch):
            shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _held(scratch: Path) -> Iterator[None]:
    """Hold the lock beside a folder, which ends with its process however that ends; raise `Timeout` if another does."""
    path = scratch.with_name(f"{scratch.name}.lock")
    with FileLock(path, timeout=0):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
