"""A run on hostile questions with secrets all around it: nothing leaves its folder, and no secret is in it."""

import json
import os
import re
import shutil
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pyarrow.parquet as pq
import pytest
import yaml
from huggingface_hub import DatasetCard, ModelCard

from rait.export.run import FORMS

pytestmark = pytest.mark.slow  # whole runs

SECRETS = {
    "HF_TOKEN": "hf_" + "Qx7" * 11,
    "HUGGING_FACE_HUB_TOKEN": "hf_" + "Zw3" * 11,
    "WANDB_API_KEY": "5ecre7" * 6 + "beef",
    "OPENAI_API_KEY": "sk-" + "planted9" * 5,
    "AWS_SECRET_ACCESS_KEY": "planted/secret+of/forty/signs" * 2,
    "RAIT_TEST_PASSWORD": "correct horse battery staple",
}
NAMES = [
    "../../x",
    "/etc/rait-planted",
    "..",
    "a\0b",
    "n" * 300,
    "same",
    "SAME",
    "CON",
    "train",
    "\x1b[2J\x1b]8;;http://x\x07link\x1b]8;;\x07",
    "<script>planted()</script>",
    "[/b][link=http://x]planted",
    "=cmd|' /C calc'!A0",
    "{{ 7 * 7 }}{% raise %}",
    "---\nlicense: planted\n---",
    "](javascript:planted())",
]


def texts_of(folder: Path) -> dict[str, str]:
    """What every file of a folder holds, by its path: tables as their rows, for they are compressed."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            if path.suffix == ".parquet":
                table = pq.read_table(path)
                found[name] = f"{table.schema.metadata} {table.to_pylist()}"
            else:
                found[name] = path.read_bytes().decode("latin-1")
    return found


def planted_in(texts: dict[str, str]) -> list[tuple[str, str]]:
    """Which file holds which secret."""
    return [(name, secret) for name, text in texts.items() for secret in SECRETS.values() if secret in text]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def hostile(place, world, recipe_file) -> tuple[Path, str]:
    """The folder of a run on questions with hostile ids and categories, made in a process of its own; all it said."""
    for name in ("home", "tmp", "here"):
        (place / name).mkdir()
    for name in ("train", "id"):
        rows = [json.loads(line) for line in (world / f"{name}.jsonl").read_text("utf-8").splitlines()]
        for row, hostile in zip(rows, NAMES, strict=False):
            row |= {"id": hostile, "category": hostile, "answers": [*row["answers"], hostile]}
            row["question"] += f" {hostile}"
        (place / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    recipe = yaml.safe_load(recipe_file.read_text("utf-8"))
    recipe |= {"questions": {"source": str(place / "train.jsonl")}, "strategies": ["cor_rait"]}
    recipe |= {"tests": {"id": {"source": str(place / "id.jsonl")}}}
    recipe["probe"] |= {"samples": 3}
    recipe["rehearsal"]["tuning"] |= {"epochs": 1}
    recipe["tuning"] |= {"epochs": 2}
    recipe["prompt"]["system"] = "Answer .\n```\n<script>planted()</script>\n---"
    (place / "recipe.yaml").write_text(yaml.safe_dump(recipe), "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "rait.cli", "run", str(place / "recipe.yaml"), "--out", str(place / "run")],
        cwd=place / "here",
        env=os.environ | SECRETS | {"HOME": str(place / "home"), "TMPDIR": str(place / "tmp"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return place / "run", done.stdout + done.stderr


def test_nothing_is_written_outside_the_run(hostile, place):
    run, _ = hostile
    made = {path.name for path in place.iterdir()}
    assert made == {"home", "tmp", "here", "run", "train.jsonl", "id.jsonl", "recipe.yaml"}
    assert not any((place / "tmp").iterdir()) and not any((place / "here").iterdir())
    assert not Path("/etc/rait-planted").exists()
    for path in run.rglob("*"):
        assert not path.is_symlink()
        assert all(re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", part) for part in path.relative_to(run).parts), path


def test_ids_and_categories_are_kept_as_they_are(hostile):
    run, _ = hostile
    rows = pq.read_table(run / "questions/train.parquet").to_pylist()
    asked = {row["id"] for row in rows}
    assert len(set(NAMES) - asked) <= 2  # those that became worked examples
    assert {row["category"] for row in rows} >= set(NAMES) & asked


def test_no_secret_is_in_a_run_or_in_what_it_said(hostile):
    run, said = hostile
    texts = texts_of(run)
    assert {"manifest.json", "recipe.yaml", "report.html", "cor_rait/adapter/adapter_config.json"} <= texts.keys()
    assert planted_in(texts | {"said": said}) == []
    assert not set(said) & set("\x1b\x07")


@pytest.mark.parametrize("form", FORMS)
def test_exports_hold_no_secret_no_place_and_no_markup(hostile, form, place, world, tmp_path, call, monkeypatch):
    run, _ = hostile
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)
    code, out, err = call("export", run, "--to", form, "--out", tmp_path / "out")
    assert code == 0, err
    texts = texts_of(tmp_path / "out")
    assert planted_in(texts | {"out": out, "err": err}) == []
    assert [name for name, text in texts.items() if str(place) in text or str(world) in text] == []
    card = (ModelCard if form == "merged" else DatasetCard).load(tmp_path / "out/README.md")
    assert card.data.license is None  # none was planted
    outside = re.sub(r"^(`{3,})\w*\n.*?^\1$", "", card.text, flags=re.DOTALL | re.MULTILINE)
    assert "script" not in outside and "javascript" not in outside


def test_what_is_printed_is_inert(hostile, place, world, tmp_path, call):
    run, _ = hostile
    states = run / "knowledge/initial.parquet"
    chosen = ["--initial", states, "--decisions", run / "cor_rait/decisions.parquet"]
    for words in (
        ["status", run],
        ["questions", place / "train.jsonl"],
        ["certainty", states],
        ["score", run / "cor_rait/id.verdicts.parquet"],
        ["construct", "--dry-run", "--initial", states, "--vanilla", "9", "--idk", "3"],
        ["conflicts", "--model", world / "model", *chosen, "--out", tmp_path / "look"],
        ["prompts", place / "recipe.yaml"],
        ["ask", run, "Where is \x1b[2J\x1b]0;title\x07 ?"],
        ["ask", run, '{"id": "\\u001b[2J", "question": "Where is City3 ?", "category": "\\u009b2J"}', "--json"],
        ["questions", place / "train.jsonl", "--json"],
        ["run", place / "recipe.yaml", "model.source=\x1b[2J", "--out", tmp_path / "other"],
    ):
        _, out, err = call(*words)
        assert out or err, words
        assert not set(out + err) & set("\x1b\x07\x9b"), words
    for path in (run / "cor_rait/conflicts.txt", run / "cor_rait/over_refusal.txt", tmp_path / "look/conflicts.txt"):
        assert not set(path.read_text("utf-8")) & set("\x1b\x07\x9b\r"), path


class Refusing(BaseHTTPRequestHandler):
    """A hub that knows nobody."""

    asked: ClassVar[list[str]] = []

    def answer(self):
        self.asked.append(self.path)
        self.send_response(401)
        self.send_header("X-Error-Message", "no")
        self.end_headers()

    do_GET = do_HEAD = do_POST = answer  # noqa: N815

    def log_message(self, *_):
        pass


def test_a_hub_that_refuses_is_told_without_secrets(tmp_path, hostile):
    run, _ = hostile
    server = HTTPServer(("127.0.0.1", 0), Refusing)
    Thread(target=server.serve_forever, daemon=True).start()
    hub = {"HF_ENDPOINT": f"http://me:planted-password@127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path)}
    try:
        for words in (
            ["tune", "--model", "me/none", "--examples", run / "cor_rait/examples.jsonl", "--out", tmp_path / "out"],
            ["questions", "me/none"],
            ["export", run, "--to", "trl", "--push", "me/none", "--out", tmp_path / "exported"],
        ):
            Refusing.asked.clear()
            done = subprocess.run(
                [sys.executable, "-m", "rait.cli", *map(str, words)],
                env={name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"} | SECRETS | hub,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            said = done.stdout + done.stderr
            assert done.returncode == 1 and "error: " in said and "Traceback" not in said, said
            assert Refusing.asked, "the hub was not asked"
            assert "planted-password" not in said and not any(secret in said for secret in SECRETS.values()), said
    finally:
        server.shutdown()
        server.server_close()
    shutil.rmtree(tmp_path / "exported", ignore_errors=True)
