"""A path that a command is given and that is not there: wrong use, told in a sentence, the same for every command."""

from inspect import Parameter, signature
from pathlib import Path
from typing import Any, get_args

import pytest
from typer.models import ArgumentInfo, OptionInfo

from rait.cli.commands import app
from rait.cli.common import present, present_or_named

GONE = {
    "run": [["gone.yaml"]],
    "compare": [["gone.yaml"], ["gone", "gone/too"], ["made", "gone"]],
    "prompts": [["gone.yaml"]],
    "validate": [["gone.yaml"]],
    "probe": [
        ["--model", "gone/a/model", "--questions", "atlas", "--out", "s.jsonl"],
        ["--model", "./gone", "--questions", "atlas", "--out", "s.jsonl"],
        ["--model", "gone.gguf", "--questions", "atlas", "--out", "s.jsonl"],
        ["--model", "m", "--questions", "gone.jsonl", "--out", "s.jsonl"],
        ["--model", "m", "--questions", "~/gone/q", "--out", "s.jsonl"],
        ["--model", "m", "--questions", "atlas", "--adapter", "gone", "--out", "s.jsonl"],
    ],
    "rehearse": [["--model", "m", "--states", "gone.jsonl", "--out", "r"]],
    "flow": [
        ["--initial", "gone.jsonl", "--rehearsed", "made", "--out", "f.jsonl"],
        ["--initial", "made", "--rehearsed", "gone.jsonl", "--out", "f.jsonl"],
    ],
    "influence": [
        ["--model", "m", "--adapter", "gone", "--initial", "made", "--out", "i.jsonl"],
        ["--model", "m", "--adapter", "made", "--initial", "gone.jsonl", "--out", "i.jsonl"],
    ],
    "construct": [
        ["--initial", "gone.jsonl", "--strategy", "craft", "--vanilla", "4", "--idk", "1", "--out", "e.jsonl"],
        ["--initial", "gone.jsonl", "--dry-run"],
        ["--initial", "made", "--rehearsed", "gone.jsonl", "--dry-run"],
        ["--initial", "made", "--influence", "gone.jsonl", "--dry-run"],
        ["--initial", "made", "--model", "./gone", "--dry-run"],
    ],
    "conflicts": [
        ["--model", "m", "--initial", "gone.jsonl", "--decisions", "made", "--out", "c"],
        ["--model", "m", "--initial", "made", "--decisions", "gone.jsonl", "--out", "c"],
        ["--model", "m", "--initial", "made", "--decisions", "made", "--rehearsed", "gone.jsonl", "--out", "c"],
    ],
    "tune": [["--model", "m", "--examples", "gone.jsonl", "--out", "t"]],
    "evaluate": [
        ["--model", "m", "--questions", "gone.csv", "--out", "v.jsonl"],
        ["--model", "m", "--questions", "atlas", "--adapter", "gone", "--out", "v.jsonl"],
        ["--model", "m", "--questions", "atlas", "--shots-from", "gone.jsonl", "--out", "v.jsonl"],
    ],
    "questions": [["gone.parquet"]],
    "certainty": [["gone.parquet"], ["made", "--entailment", "./gone"]],
    "score": [["gone.jsonl"], ["made", "--baseline", "gone.jsonl"]],
    "report": [["gone"]],
    "ask": [["gone", "Who?"], ["gone"], ["made", "Who?", "--adapter", "gone"]],
    "status": [["gone"], ["gone", "--json"]],
    "dial": [["gone"], ["gone", "--max-error", "0.1", "--save"]],
    "export": [["gone", "--to", "trl"], ["gone", "--to", "merged", "--push", "me/model"]],
}
CASES = [(command, *words) for command, given in GONE.items() for words in given]
WRITTEN = {"out", "decisions of construct"}  # paths that need not be there
NAMED = {"model", "questions", "shots_from", "entailment", "source of questions"}  # paths, names or hub ids


@pytest.mark.parametrize("words", CASES, ids=" ".join)
def test_what_is_not_there_is_wrong_use(call, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "made").mkdir()
    (tmp_path / "made/manifest.json").write_text("{}")
    code, out, err = call(*words)
    assert code == 2, err
    assert out == "" and err.startswith("error: ") and "gone" in err and "Traceback" not in err
    assert {path.name for path in tmp_path.iterdir()} == {"made"}  # nothing was begun


def parameters(command: Any) -> list[tuple[str, Parameter, Any]]:
    declared = [(each, get_args(each.annotation)) for each in signature(command, eval_str=True).parameters.values()]
    return [(each.name, each, kinds) for each, kinds in declared if kinds]


def test_every_command_that_reads_a_path_looks_for_it():
    """Also one that is added later: each is in the table, and each of its paths is looked for or written."""
    names = set()
    for info in app.registered_commands:
        assert info.callback is not None
        name = info.name or info.callback.__name__
        for parameter, _, (kind, declared, *_) in parameters(info.callback):
            assert isinstance(declared, ArgumentInfo | OptionInfo)
            own = {parameter, f"{parameter} of {name}"}
            if kind in (Path, Path | None) and not own & WRITTEN:
                assert declared.callback is present, f"{parameter} of {name}"
                names.add(name)
            elif own & NAMED:
                assert declared.callback is present_or_named, f"{parameter} of {name}"
                names.add(name)
    assert names <= GONE.keys()


@pytest.mark.parametrize("source", ["atlas", "gemma-3-270m", "me/model", "trivia_qa", "me/model.v2", ""])
def test_a_name_is_no_path(source):
    assert present_or_named(None, source) == source  # type: ignore[arg-type]  # it is not asked what it belongs to


@pytest.mark.parametrize("words", [["status"], ["dial"], ["report"], ["export", "--to", "trl"], ["ask"]], ids=" ".join)
def test_a_folder_without_a_run_is_there_and_fails(call, tmp_path, words):
    code, _, err = call(words[0], tmp_path, *words[1:])
    assert code == 1 and "no run folder" in err
