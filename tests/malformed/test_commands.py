"""Whatever is wrong with what is given: no traceback, 1 or 2, a message that names the place, and nothing changed."""

import re
import shlex

import pytest

from malformed import folders, recipes, tables, words
from malformed.cases import Case
from malformed.conftest import contents

CASES = [*words.CASES, *recipes.CASES, *tables.CASES, *folders.CASES]

RESIDUE = {"n/checkpoints/key"}  # tells to whom the checkpoints belong that may come


@pytest.mark.parametrize("case", CASES, ids=[f"{number}-{case.kind}" for number, case in enumerate(CASES)])
def test_what_is_wrong_is_named_and_nothing_changes(place, call, case):
    folder = place(case)
    before = contents(folder)

    code, out, err = call(shlex.split(case.words), case.stdin)
    after = contents(folder)

    said = " ".join(err.split())
    faults = {
        f"exit code {code}": code != case.code,
        f"no word of {case.says!r}": case.says.lower() not in said.lower(),
        "a traceback": "Traceback" in err,
        "something on standard output": bool(out),
        "not one message": len(re.findall(r"^error: |^Error: |╭─ Error ", err, re.MULTILINE)) != 1,
        "finished files changed": before.items() - after.items(),
        "new files": [name for name in after.keys() - before.keys() if name not in RESIDUE],
    }
    assert not (found := [fault for fault, there in faults.items() if there]), f"rait {case.words}: {found}: {err}{out}"


@pytest.mark.parametrize("content", folders.STRANGE, ids=range(len(folders.STRANGE)))
def test_a_report_does_without_a_recipe_that_is_none(place, call, content):
    folder = place(Case("runs", "report run", 0, "", {"run/recipe.yaml": content}))

    code, out, err = call(["report", "run"])

    assert (code, out) == (0, "The report is run/report.html\n")
    assert err == "run/recipe.yaml is no recipe, so the report is without it; `rait run` writes it again\n"
    assert "<li>recipe.yaml: cannot be understood</li>" in (folder / "run/report.html").read_text("utf-8")
