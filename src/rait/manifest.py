"""The manifest of a run folder: which step is done, from what, with which files.

    states = read_records(intact(folder / "knowledge/initial.parquet"), KnowledgeState)
    steps = read_manifest(folder)["steps"]

A step's entry holds the checksums of its files (book.py writes it); a file that has changed since is refused by whoever
reads it with `intact`. Entries that an earlier recipe has left stay, and do not count.
"""

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from rait.errors import DamagedError, InputError, some
from rait.formats import current
from rait.locking import check_links
from rait.models.checksums import read_through
from rait.recipe import Recipe, load_recipe
from rait.settings import DIAL_FILE
from rait.tables import write_json

FORMAT = 2  # of the manifest: since 2 it has a checksum of itself, and says which steps count
MANIFEST = "manifest.json"
_DEEPEST = 5  # folders between a file of a run and the run's

_Name = Annotated[  # of a step or a file: it stays in the folder
    str, StringConstraints(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*$")
]


class _Step(BaseModel):
    """What is written down of a step that is done."""

    key: str = ""
    inputs: dict[str, Any] = {}
    files: dict[_Name, str]
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    versions: dict[str, str] = {}
    notes: list[str] = []


class _Doing(BaseModel):
    step: str
    since: AwareDatetime


class _Manifest(BaseModel):
    """What a manifest has to hold for others to go by it."""

    model_config = ConfigDict(strict=True)

    status: str
    steps: dict[_Name, _Step]
    confirmed: list[str] = []
    set: dict[_Name, str] = {}
    versions: dict[str, str] = {}
    recipe: dict[str, Any] = {}
    doing: _Doing | None = None


def load_manifest(folder: Path) -> dict[str, Any]:
    """The whole manifest of a run folder, in the format of today; raise `InputError` where there is none, or damage."""
    path = folder / MANIFEST
    damaged = InputError(
        f"{path} is damaged, so it is not known what of the run is whole; bring a copy of it back, choose another "
        "folder, or empty this one to start over"
    )
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        plain = {key: value for key, value in found.items() if key != "checksum"}
        first = found.get("format", 1) == 1 and "checksum" not in found  # that format had none
        whole = first or found.get("checksum") == fingerprint_of(plain)
    except FileNotFoundError as error:
        raise InputError(
            f"{folder} holds no {MANIFEST} ({error.strerror}), so it is no run folder; name one that `rait run` made"
        ) from error
    except (NotADirectoryError, PermissionError) as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); name a folder that `rait run` made") from error
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise damaged from error
    if not whole:
        raise damaged
    try:
        made = current(plain, path, mark="format", newest=FORMAT, migrations={1: _with_what_counts})
        _Manifest.model_validate_json(json.dumps(made))
    except (ValueError, LookupError, TypeError) as error:
        raise damaged from error
    if "recipe" in made:
        with suppress(ValueError):  # what it says of keys that came later is nothing: their defaults
            made["recipe"] = Recipe.model_validate(made["recipe"]).model_dump(mode="json")
    return made


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a run folder, with the "steps" that count for its recipe.

    Those of an earlier recipe do not, before the run has come by them. Raises `InputError` where the folder holds no
    manifest, or one that is damaged.
    """
    check_links(folder)
    found = load_manifest(folder)
    confirmed = found.get("confirmed", ())
    return found | {"steps": {name: step for name, step in found["steps"].items() if name in confirmed}}


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write a manifest with a checksum of itself."""
    plain = json.loads(json.dumps({key: value for key, value in manifest.items() if key != "checksum"}))
    write_json(folder / MANIFEST, plain | {"checksum": fingerprint_of(plain)})


def intact(path: Path) -> Path:
    """Return `path`, a file of a run or anything else, if it is as the run has made it, or as it was set since.

    Raises `DamagedError` for a file that the manifest lists and that is gone or has another checksum now. What belongs
    to no run, or is not listed, is returned as it is.
    """
    # As it is named, for a link in a run folder stands for a file of the run; and where it leads to, from outside.
    for place in dict.fromkeys((Path(os.path.abspath(path)), Path(os.path.realpath(path)))):
        for folder in place.parents[:_DEEPEST]:
            if (folder / MANIFEST).is_file() and (folder / "recipe.yaml").is_file():
                check_links(folder)
                if problem := damage_of(folder, load_manifest(folder), place.relative_to(folder).as_posix()):
                    raise DamagedError(problem)
                return path
    return path


def damage_of(folder: Path, manifest: Mapping[str, Any], name: str) -> str:
    """What is wrong with the file `name` of a run, and what to do; "" where nothing is, or it is not listed."""
    path = folder / name
    known = {sum for step in manifest["steps"].values() for file, sum in step.get("files", {}).items() if file == name}
    known |= {sum for file, sum in manifest.get("set", {}).items() if file == name}
    if not known or (path.exists() and checksum(path) in known):
        return ""
    how = "has changed since the run made it, so it is not used" if path.exists() else "is gone"
    command = "compare" if "/seed-" in name or name.startswith("comparison.") else "run"
    return (
        f"{path} {how}; start the run again, and it is made anew: rait {command} {folder / 'recipe.yaml'} "
        f"--out {folder}"
    )


def write_down(folder: Path, paths: Iterable[Path]) -> None:
    """Let files that were set when the run was over, such as its dial, count as they are now; the caller has the lock.

    The run does not take them for its own: it makes them again.
    """
    manifest = load_manifest(folder)
    sums = {path.relative_to(folder).as_posix(): checksum(path) for path in paths if path.exists()}
    write_manifest(folder, manifest | {"format": FORMAT, "set": manifest.get("set", {}) | sums})


def recipe_of(folder: Path) -> Recipe:
    """The recipe of a run folder; raise `InputError` where there is none, or one that was edited since the run."""
    path = folder / "recipe.yaml"
    if not path.is_file():
        raise InputError(f"{folder} holds no recipe.yaml, so it is no run folder; name one that `rait run` made")
    check_links(folder)
    recipe = load_recipe(path)
    known = load_manifest(folder).get("recipe") if (folder / MANIFEST).is_file() else None
    own = recipe.model_dump(mode="json")
    if known is not None and (keys := differing(flat(known), flat(own))):
        raise InputError(
            f"{path} is not the recipe that the run was made with ({some(keys)}); bring it back, or let what depends "
            f"on it be done again: rait run {path} --out {folder}"
        )
    return recipe


def _with_what_counts(manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest of format 1 in format 2: at first all its steps counted."""
    return {"confirmed": list(manifest["steps"]), **manifest}


def flat(value: Any, at: str = "") -> dict[str, Any]:
    """Every key of a recipe with the sections before it, and its value."""
    if not isinstance(value, dict) or (at and not value):
        return {at: value}
    return {key: own for name, inner in value.items() for key, own in flat(inner, f"{at}.{name}".lstrip(".")).items()}


def differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The keys whose values are not the same in both, or are in one alone."""
    return [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]


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


def checksum(path: Path) -> str:
    """SHA-256 of a file, or of all files of a folder of weights but the dial, which is set when tuning is over.

    What is hidden in a folder is none of ours.
    """
    if path.is_dir():
        found = (file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
        files = (file for file in found if file.name != DIAL_FILE)
        return fingerprint_of({file.relative_to(path).as_posix(): checksum(file) for file in files})
    return read_through(path)
