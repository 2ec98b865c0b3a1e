"""The estimate against runs of the real model: rows counted at its embeddings, memory of each part alone.

Each part runs in a process of its own, so that its peak memory is its own; this file is what that process runs.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SMALL = [
    "questions.limit=203",
    "tests.id.limit=60",
    "tests.ood.limit=60",
    "calibration.limit=60",
    "rehearsal.size=40",
    "construction.vanilla=40",
    "construction.idk=10",
    "construction.flow_rule=non_positive",
    "strategies=[craft]",
]
PARTS = ["probe initial", "rehearsal", "probe rehearsed", "craft tuning", "init_basic", "init_refuse", "craft"]
WITHIN = 0.3


def measure(part: str, folder: Path) -> dict[str, int]:
    """Run one part; its rows, its steps if it trains, rows by test set if it evaluates, and its peak in bytes."""
    import torch
    from torch.nn.modules.module import register_module_forward_pre_hook

    from rait import commands
    from rait.models.loading import load
    from rait.recipe import load_recipe
    from rait.sets import question_sets
    from rait.stages import answer_all

    rows = 0

    def count(module, arguments):
        nonlocal rows
        if isinstance(module, torch.nn.Embedding) and module.num_embeddings > 200_000:  # not the sentence model's
            rows += arguments[0].numel()

    register_module_forward_pre_hook(count)
    recipe = load_recipe("default", SMALL)
    initial, rehearsed, chosen = (folder / name for name in ("s0.parquet", "s1.parquet", "chosen.jsonl"))
    found: dict[str, int] = {}
    if part.startswith("probe"):
        out, adapter = (initial, None) if part == "probe initial" else (rehearsed, folder / "rehearsal/adapter")
        commands.probe_to_file(recipe, out, adapter, lambda line: None)
    elif part == "rehearsal":
        commands.rehearse_to_folder(recipe, initial, folder / "rehearsal", lambda line: None)
        found["steps"] = json.loads((folder / "rehearsal/losses.json").read_text("utf-8"))["steps"]
    elif part == "craft tuning":
        commands.construct_to_file(recipe, "craft", initial, rehearsed, chosen, None, form="rait", with_model=True)
        found["steps"] = commands.tune_to_folder(recipe, chosen, folder / "craft", lambda line: None).steps
    else:
        sets, shots = question_sets(recipe, lambda line: None)
        tuned = part == "craft"
        loaded = load(recipe.model, adapter=folder / "craft/adapter" if tuned else None)
        for name in (*recipe.tests, "calibration"):
            before = rows
            answer_all(
                loaded,
                sets[name],
                {} if tuned else shots,
                part != "init_basic",
                recipe,
                name,
                weigh=tuned,
                shards=folder / f"{part} {name}.shards",
                say=print,
            )
            found[name] = rows - before
    # Not getrusage, which begins with the peak of the process that started this one.
    status = Path("/proc/self/status").read_text("utf-8")
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return {**found, "rows": rows, "peak": peak * 1024}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    found = {}
    for part in PARTS:
        done = subprocess.run([sys.executable, __file__, part, folder], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found[part] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def estimated():
    from rait.estimate import estimate
    from rait.recipe import load_recipe

    return estimate(load_recipe("default", SMALL), lambda line: None)


def steps_of(estimated):
    return {step.name: step for step in estimated.steps}


def close(number):
    return pytest.approx(number, rel=WITHIN)


@pytest.mark.timeout(1800)
def test_rows_of_every_step(estimated, measured):
    rows = {name: step.rows for name, step in steps_of(estimated).items()}
    assert estimated.missing == ()
    for part in PARTS[:4]:
        assert rows[part] == close(measured[part]["rows"]), part
    for method in PARTS[4:]:
        for name in ("id", "ood", *(["calibration"] if method != "init_refuse" else [])):
            assert rows[f"{method} on {name}"] == close(measured[method][name]), (method, name)


@pytest.mark.timeout(1800)
def test_training_steps_and_questions(estimated, measured):
    steps = steps_of(estimated)
    assert steps["rehearsal"].steps == measured["rehearsal"]["steps"]
    assert steps["craft tuning"].steps == measured["craft tuning"]["steps"]
    assert steps["probe initial"].questions == 200  # three of 203 serve as worked examples
    assert steps["craft on id"].questions == 60


@pytest.mark.timeout(1800)
def test_peak_memory_of_every_part(estimated, measured):
    parts = {"probe": PARTS[0:3:2], "tuning": PARTS[1:4:2], "evaluation": PARTS[4:]}
    totals = {memory.part: memory.total for memory in estimated.memory}
    assert totals == {part: close(max(measured[one]["peak"] for one in own)) for part, own in parts.items()}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], Path(sys.argv[2]))))
