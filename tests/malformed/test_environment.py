# ruff: noqa: E501, RUF012  (a table of surroundings)
"""Surroundings that are wrong: variables, streams that are closed, folders that cannot be written to.

In processes of their own, because a process reads most of this once, when it begins.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

RAIT = [sys.executable, "-m", "rait.cli"]


class Case(NamedTuple):
    """A command in an environment: variables to set, None to take away, and the error; "" where there is none."""

    name: str
    words: str
    code: int
    says: str = ""
    variables: dict[str, str | None] = {}
    before: str = ""  # a script of the shell that makes the surroundings
    after: str = ""  # what follows the command on its line


PROBE = "probe --model gemma-3-270m --questions atlas --out n.jsonl"
CASES = [
    Case("cache is a file", PROBE, 1, "cannot write the model cache", {"RAIT_CACHE": "file"}, "touch file"),
    Case("cache below a file", PROBE, 1, "cannot write the model cache", {"RAIT_CACHE": "file/x"}, "touch file"),
    Case("cache in /proc", PROBE, 1, "cannot write the model cache", {"RAIT_CACHE": "/proc/x"}),
    Case("cache of a very long name", PROBE, 1, "File name too long", {"RAIT_CACHE": "x" * 300}),
    Case("cache is a link to itself", PROBE, 1, "cannot write the model cache", {"RAIT_CACHE": "loop"}, "ln -s loop loop"),
    Case("home of nobody", PROBE, 1, "set RAIT_CACHE to a folder", {"RAIT_CACHE": "~nobody-of-that-name/x"}),
    Case("no home", "recipes", 0, "", {"HOME": None, "RAIT_CACHE": None, "XDG_CACHE_HOME": None}),
    Case("C locale, other letters", "validate é.yaml", 2, "is no text in ascii; rename the file or folder, or set PYTHONUTF8=1", {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    Case("ASCII streams, a message", "validate é.yaml", 2, "no recipe", {"PYTHONIOENCODING": "ascii"}),
    Case("ASCII streams, an answer", "validate r.yaml", 0, "", {"PYTHONIOENCODING": "ascii"}, "printf 'prompt: {refusal: \"Keine Ähnung\"}' > r.yaml"),
    Case("ASCII streams, JSON", "validate r.yaml --json", 0, "", {"PYTHONIOENCODING": "ascii"}, "printf 'prompt: {refusal: \"Keine Ähnung\"}' > r.yaml"),
    Case("no columns", "strategies --help", 0, "", {"COLUMNS": "0", "TERM": "dumb"}),
    Case("columns of no number", "strategies --help", 0, "", {"COLUMNS": "many", "LINES": "-1"}),
    Case("an unknown terminal", "validate gone", 2, "no recipe 'gone'", {"TERM": "nonsense", "NO_COLOR": ""}),
    Case("output that is not read", "validate default", 1, "", after=" | true"),
    Case("closed output", "validate default", 0, "", after=" >&-"),
    Case("a full disk behind output", "validate default", 1, "cannot print what came out", after=" > /dev/full"),
    Case("closed errors", "validate gone", 2, "", after=" 2>&-"),
    Case("closed input", "validate default", 0, "", after=" <&-"),
    Case("questions on no input", "ask gone", 2, "RUN: gone does not exist", after=" <&-"),
    Case("a folder that is gone", "export ../run --to trl --out n", 2, "this was started in is gone; go to another one", before="mkdir d; cd d; rmdir ../d"),
    Case("a folder of no UTF-8", "recipes", 2, "is no text in utf-8; rename the file or folder", before="mkdir $'\\xe9'; cd $'\\xe9'"),
    Case("a file of no UTF-8", "probe --model gemma-3-270m --questions atlas --out $'n\\xff.jsonl'", 2, "is no text in utf-8"),
]  # fmt: skip
SLOW = {case.name for case in (*CASES[1:6], *CASES[12:])}  # the quick tests take one of every kind


@pytest.mark.parametrize(
    "case", [pytest.param(c, id=c.name, marks=[pytest.mark.slow] if c.name in SLOW else []) for c in CASES]
)
def test_surroundings_end_in_a_sentence_too(tmp_path: Path, case: Case) -> None:
    env: dict[str, Any] = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **case.variables}
    env = {name: value for name, value in env.items() if value is not None}
    script = f"set -o pipefail\n{case.before}\n{' '.join(RAIT)} {case.words}{case.after}"

    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=env, capture_output=True, timeout=120)
    out, err = done.stdout.decode(), done.stderr.decode()

    assert "Traceback" not in err + out and "Exception ignored" not in err, err
    assert case.says in " ".join(err.split()), err
    assert done.returncode == case.code, err
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("n")]
