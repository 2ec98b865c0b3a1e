"""A tiny model, something tuned on it and a made-up run, and the command line in this process."""

import io
import json
import shutil
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from made import made_dial, made_run
from malformed.cases import EXAMPLE, GOOD, Case, write
from rait import cli
from rait.commands import tune_to_folder
from rait.manifest import FORMAT, checksum, write_manifest
from rait.recipe import load_settings
from tiny import random_model, save, word_tokenizer

FOLDERS = ("model", "adapter", "run")


@pytest.fixture(scope="session")
def good(tmp_path_factory) -> Path:
    """A folder with model/, adapter/ (a LoRA adapter of it) and run/ (whole, of two strategies)."""
    folder = tmp_path_factory.mktemp("good")
    words = [
        f"▁{word}" for word in ("is", "?", "unknown", *(f"{kind}{n}" for kind in ("City", "Land") for n in range(9)))
    ]
    tokenizer = word_tokenizer([*words, "Question:", "▁Where", "Answer:", "\n", "▁"])
    save(random_model("llama", len(tokenizer)), tokenizer, folder / "model")
    write(folder / "e.jsonl", [EXAMPLE])
    settings = {"model.source": str(folder / "model"), "tuning.learning_rate": 0.01, "tuning.lora_rank": 2}
    tune_to_folder(load_settings(settings), folder / "e.jsonl", folder, lambda _: None)
    made_run(folder / "run", train=12, tests=4)
    for name in ("cor_rait", "craft"):
        made_dial(folder / "run" / name)
        shutil.copytree(folder / "adapter", folder / "run" / name / "adapter")
    recipe = json.loads((folder / "run/recipe.yaml").read_text("utf-8"))
    recipe |= {"model": {"source": str(folder / "model")}, "evaluation": {"resamples": 100}}
    write(folder / "run/recipe.yaml", json.dumps(recipe))
    known = json.loads((folder / "run/manifest.json").read_text("utf-8"))
    steps = known["steps"] | {f"{name}/tuning": {"files": {f"{name}/adapter": ""}} for name in ("cor_rait", "craft")}
    for step in steps.values():
        step["seconds"] = 1.0
        step["files"] = {
            name: checksum(folder / "run" / name) for name in step.get("files", {}) if "adapter/" not in name
        }
    write_manifest(folder / "run", known | {"format": FORMAT, "steps": steps, "confirmed": list(steps)})
    return folder


@pytest.fixture
def place(good, tmp_path, monkeypatch):
    """Make the folder of a case and go there."""

    def make(case: Case) -> Path:
        for name in FOLDERS:
            if any(name in word for word in (case.words, *case.files)):
                shutil.copytree(good / name, tmp_path / name)
        for name, content in {**GOOD, **case.files}.items():
            write(tmp_path / name, content)
        monkeypatch.chdir(tmp_path)
        return tmp_path

    return make


@pytest.fixture
def call(capsys, monkeypatch):
    """Give a command; its exit code, standard output and standard error."""

    def rait(words: list[str], stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rait", *words])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as leave:
            cli.main()
        return int(leave.value.code or 0), *capsys.readouterr()

    return rait


def contents(folder: Path) -> dict[str, str]:
    """The checksum of every file below a folder, but for the locks."""
    return {
        path.relative_to(folder).as_posix(): sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(".lock")
    }
