"""Killed at any moment and started again, a command makes what it makes undisturbed, once, and leaves nothing else."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from nursery import Child, Nursery, nursery
from rait.cli.stopping import INTERRUPTED

pytestmark = pytest.mark.slow

KILLS = 100
EARLY = 0.3  # seconds; sweeping up after the last start, and beginning
APART = 2.5  # seconds between kills at any time, on average
HALF = re.compile(r"(<li><code>[\w/]+</code> )?The checkpoint \S+ was not finished; it is removed[^<]*(</li>)?")
TIMES = re.compile(r'^.*(Where the time went|class="time").*', re.MULTILINE)


@pytest.fixture(scope="module")
def born():
    with nursery() as found:
        yield found


@pytest.fixture(scope="module")
def recipe(world, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    path.write_text(
        f"""
seed: 0
model: {{source: {world / "model"}, dtype: float32}}
questions: {{source: {world / "train.jsonl"}}}
tests:
  id: {{source: {world / "id.jsonl"}}}
  ood: {{source: {world / "ood.jsonl"}}}
calibration: {{source: {world / "id.jsonl"}, leaked: keep}}
prompt: {{instruction: "Answer .", refusal: unknown, refusal_instruction: "Or say unknown .", shots: 2}}
probe: {{samples: 10, max_new_tokens: 4, shard: 6}}
rehearsal: {{rule: top, size: 24, tuning: {{epochs: 4, learning_rate: 0.003, lora_rank: 8}}}}
construction: {{vanilla: 40, idk: 10, shortage: shrink, flow_rule: non_positive}}
strategies: [cor_rait, craft, grait]
tuning: {{epochs: 5, batch_size: 8, learning_rate: 0.01, lora_rank: 8, lora_alpha: 16}}
evaluation: {{max_new_tokens: 4, resamples: 200}}
""",
        "utf-8",
    )
    return path


@pytest.fixture(scope="module")
def whole(born, recipe, tmp_path_factory) -> Path:
    """The folder of an undisturbed run."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    child = born.start(["run", recipe, "--out", folder], folder.parent / "log")
    assert child.wait() == 0, child.output()
    return folder


def contents(folder: Path) -> dict[str, object]:
    """Every file and folder of a run, with what may not depend on how often it was killed.

    That is all but times, and the notes of checkpoints that a kill has met.
    """
    found: dict[str, object] = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() or name.startswith(".lock"):
            found[name] = None
        elif name == "manifest.json":
            steps = json.loads(path.read_text("utf-8"))["steps"]
            notes = {step: [note for note in entry["notes"] if not HALF.match(note)] for step, entry in steps.items()}
            found[name] = {step: (entry["key"], notes[step]) for step, entry in steps.items()}
        elif name == "report.html":
            found[name] = HALF.sub("", TIMES.sub("", path.read_text("utf-8")))
        elif path.name == "losses.json":
            found[name] = json.loads(path.read_text("utf-8")) | {"seconds": None}
        else:
            found[name] = path.read_bytes()
    return found


def differing(found: dict[str, object], expected: dict[str, object]) -> set[str]:
    return {name for name in found.keys() | expected.keys() if found.get(name, "none") != expected.get(name, "none")}


def doing(folder: Path) -> str | None:
    """The step at which a run is, as its manifest says."""
    try:
        return json.loads((folder / "manifest.json").read_text("utf-8")).get("doing", {}).get("step")
    except FileNotFoundError:
        return None


def begun(child: Child) -> bool:
    """Whether a process has written to the manifest: until then an earlier one speaks from there."""
    return any(path.endswith("manifest.json") for path in child.renames())


def passed(folder: Path) -> set[str]:
    """The steps that are done."""
    path = folder / "manifest.json"
    return set(json.loads(path.read_text("utf-8"))["steps"]) if path.exists() else set()


def sleep(child: Child, seconds: float) -> None:
    """Wait that long, or until the child has ended."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0 and not child.ended():
        time.sleep(min(left, 0.02))


def met(child: Child, folder: Path) -> str:
    """Where a kill meets a run: in a step, or between two, or before it has begun in the folder."""
    if not begun(child):
        return "before the beginning"
    return doing(folder) or "between steps"


def reach(child: Child, folder: Path, step: str) -> None:
    """Wait until a run is at `step` or has come by it; what an earlier process was doing does not count."""
    while not begun(child) and not child.ended():
        time.sleep(0.004)
    while doing(folder) != step and step not in passed(folder) and not child.ended():
        time.sleep(0.004)


def moments(seconds: dict[str, float], generator: random.Random, place: int) -> Iterator[tuple[str | None, float]]:
    """When to kill the starts of one run: a step to wait for, if any, and the seconds from then on."""
    yield from ((None, EARLY * generator.random()) for _ in range(3))
    if place < 2:
        for step, took in seconds.items():
            yield step, took * generator.random()
    else:
        while True:
            yield None, generator.expovariate(1 / APART)


def test_a_run_killed_a_hundred_times_equals_an_undisturbed_one(born: Nursery, recipe, whole, tmp_path, capsys):
    entries = json.loads((whole / "manifest.json").read_text("utf-8"))["steps"]
    seconds = {name: entry["seconds"] for name, entry in entries.items()}
    generator = random.Random(2)
    struck: Counter[str] = Counter()
    log, expected, place = tmp_path / "log", contents(whole), 0
    killed: set[int] = set()  # the numbers of the children
    while struck.total() < KILLS:
        folder, plan = tmp_path / str(place) / "run", moments(seconds, generator, place)
        code = None
        while code != 0:
            child = born.start(["run", recipe, "--out", folder], log)
            step, wait = next(plan, ("", 0.0)) if struck.total() < KILLS else ("", 0.0)
            if step != "":
                if step is not None:
                    reach(child, folder, step)
                sleep(child, wait)
                if not child.ended():
                    struck[met(child, folder)] += 1
                    killed.add(child.number)
                    os.kill(child.pid, signal.SIGKILL)
            code = child.wait()
            assert code in (0, -signal.SIGKILL), child.output()
        assert differing(contents(folder), expected) == set()
        place += 1
    assert shards_made_again(log.with_suffix(".renames"), killed) == set()
    with capsys.disabled():
        print(f"\n{struck.total()} kills in {place} runs:", ", ".join(f"{k} {n}" for k, n in sorted(struck.items())))


def test_a_process_that_was_not_forked_makes_the_same(recipe, whole, tmp_path):
    """It has a hash seed of its own, and has imported nothing before."""
    subprocess.run(
        [sys.executable, "-m", "rait.cli", "run", str(recipe), "--out", str(tmp_path / "run")],
        check=True,
        capture_output=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert differing(contents(tmp_path / "run"), contents(whole)) == set()


def shards_made_again(renames: Path, killed: set[int]) -> set[str]:
    """Shards that were put in their place more than once, and once more for each child that was killed just then."""
    lines = [line.split(" ", 1) for line in renames.read_text("utf-8").splitlines()]
    shards = [(number, path.rpartition("-")[0]) for number, path in lines if ".shards/" in path]  # without checksums
    last = dict(lines)  # what each child was at last about to rename
    made = Counter(path for _, path in shards)
    assert made
    in_flight = Counter(path.rpartition("-")[0] for number, path in last.items() if int(number) in killed)
    return {path for path, times in made.items() if times > 1 + in_flight[path]}


# A step of each kind; it is stopped there.
KINDS = ("questions", "knowledge/initial", "rehearsal", "knowledge/influence", "knowledge/rehearsed", "init_basic/id")
KINDS += ("craft/construction", "knowledge/features", "cor_rait/conflicts", "craft/tuning", "craft/id", "report")


def test_a_signal_stops_every_kind_of_step_in_one_sentence(born: Nursery, recipe, whole, tmp_path, capsys):
    """Each is stopped by Ctrl-C, by SIGTERM, and by Ctrl-C twice; each start goes on where the last one stopped."""
    entries = json.loads((whole / "manifest.json").read_text("utf-8"))["steps"]
    seconds = {name: entry["seconds"] for name, entry in entries.items()}
    generator, folder, log, longest, stopped = random.Random(3), tmp_path / "run", tmp_path / "log", 0.0, Counter[str]()
    for step in KINDS:
        for number, again in ((signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGINT, True)):
            child = born.start(["run", recipe, "--out", folder], log)
            reach(child, folder, step)
            sleep(child, seconds[step] / 3 * generator.random())
            if child.ended():  # the report was quicker
                assert child.wait() == 0, child.output()
                continue
            stopped[met(child, folder)] += 1
            os.kill(child.pid, number)
            since = time.monotonic()
            if again:
                time.sleep(0.02 * generator.random())
                os.kill(child.pid, number)  # it may have ended, and then waits to be asked how
            assert child.wait() == 128 + number, child.output()
            longest = max(longest, time.monotonic() - since)
            said = child.output()
            assert said.endswith(INTERRUPTED) and said.count(INTERRUPTED) == 1
            assert "Traceback" not in said and "error:" not in said
            if not again:
                assert not list(folder.rglob("*.part"))
    assert longest < 5
    assert born.run(["run", recipe, "--out", folder], log)[0] == 0
    assert differing(contents(folder), contents(whole)) == set()
    with capsys.disabled():
        print(f"\nlongest stop {longest:.2f} s:", ", ".join(f"{k} {n}" for k, n in sorted(stopped.items())))


@pytest.fixture
def commands(world, whole, tmp_path):
    """Commands that write, by name, for a folder: what to give, where a copy of the run stands if they change it."""
    probe = ["probe", "--model", world / "model", "--questions", world / "train.jsonl", "prompt.shots=0"]
    probe += ["probe.samples=5", "probe.max_new_tokens=4", "probe.shard=6"]
    return {
        "probe": lambda place: [*probe, "--out", place / "states.parquet"],
        "export": lambda place: ["export", whole, "--to", "merged", "--strategy", "craft", "--out", place / "merged"],
        "dial": lambda place: ["dial", place / "run", "--max-error", "0.2", "--save"],
        "report": lambda place: ["report", whole, "--out", place / "page.html"],
    }


@pytest.mark.parametrize("name", ["probe", "export", "dial", "report"])
def test_other_commands_leave_the_same_and_nothing_else(born: Nursery, commands, whole, tmp_path, name):
    generator, log = random.Random(4), tmp_path / "log"
    quiet, disturbed = tmp_path / "quiet" / "place", tmp_path / "disturbed" / "place"
    for place in (quiet, disturbed):
        place.mkdir(parents=True)
        if name == "dial":
            shutil.copytree(whole, place / "run")
    code, took = born.run(commands[name](quiet), log)
    assert code == 0
    for _ in range(8):
        child = born.start(commands[name](disturbed), log)
        sleep(child, took * generator.random())
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() in (0, -signal.SIGKILL), child.output()
    child = born.start(commands[name](disturbed), log)
    assert child.wait() == 0, child.output()
    assert differing(contents(disturbed), contents(quiet)) == set()
