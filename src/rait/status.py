"""How far a run has come: what is done, running and missing, and how long the rest will take.

    found = status(Path("run"))
    print_status(found)                         # as_json(found) for a program

Nothing is loaded but small files of the run folder. What is done stands in the manifest; a run is at work while its
lock is held. The time left is that of done steps of the same kind, by question or training example: it is known as
soon as one of each kind has been timed. A comparison's further seeds are counted once they have begun.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from rait.construction import Strategy, find_strategy
from rait.errors import RecipeError
from rait.evaluation.metrics import Metric, format_metric
from rait.inert import inert
from rait.locking import Holder, holder, is_locked
from rait.manifest import damage_of, read_manifest, recipe_of
from rait.progress import duration
from rait.recipe import Recipe
from rait.settings import BASELINES
from rait.stages import dial_obstacle
from rait.tables import count_rows, read_data

State = Literal["complete", "running", "stopped"]
_TIMED = ("probe", "training", "evaluation", "influence")  # the kinds that take long
_HEADLINES = 2  # test sets whose THS is shown


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a run: how long it took, or has been running, in seconds; `left` is None where that is not known."""

    name: str
    state: Literal["done", "running", "missing"]
    seconds: float | None
    left: float | None

    @property
    def part(self) -> str:
        """The strategy or baseline it belongs to, with its seed if that is not the run's own; "shared" or "report"."""
        above = self.name.rpartition("/")[0]
        if self.name == "report":
            return self.name
        return "shared" if above in ("", "knowledge", "knowledge/tests") else above


@dataclass(frozen=True, slots=True)
class Status:
    """The state of a run, its steps in order, and the THS of every method on every test set, where it is measured.

    `process` is the one that works on it now. `left` is in seconds, without the steps of the kinds in `untimed`, of
    which none is done yet. `where` names what there is to look at, `damaged` says which files are gone or are no longer
    what the run has made; their steps are missing. Weights are not looked at.
    """

    folder: Path
    state: State
    process: Holder | None
    steps: tuple[Step, ...]
    left: float
    untimed: tuple[str, ...]
    results: dict[str, dict[str, Metric]]
    where: tuple[str, ...]
    damaged: tuple[str, ...] = ()


def status(folder: Path) -> Status:
    """Read how far the run in `folder` has come; raise `InputError` where there is none."""
    manifest = read_manifest(folder)
    recipe = recipe_of(folder)
    running = is_locked(folder)
    state: State = "running" if running else "complete" if manifest["status"] == "complete" else "stopped"
    entries: dict[str, Any] = manifest["steps"]
    damaged = _damaged(folder, manifest)
    done = {name: entry for name, entry in entries.items() if not damaged.keys() & entry["files"].keys()}
    if "calibration" not in done.get("questions", {}).get("inputs", {"calibration": ""}):  # none of them was left
        recipe = recipe.model_copy(update={"calibration": None})
    # What an earlier version finished is whole without the steps that came later.
    wanted = list(entries) if state == "complete" else planned(recipe, list(entries))
    names = [*wanted, *(name for name in done if name not in wanted)]
    doing = manifest.get("doing") if running else None
    speeds = _speeds(folder, recipe, done, doing)
    steps, untimed = [], []
    for name in names:
        if name in done:
            steps.append(Step(name, "done", done[name]["seconds"], 0.0))
            continue
        elapsed = _since(doing["since"]) if doing and doing["step"] == name else None
        left = _left(folder, recipe, name, speeds, elapsed)
        if left is None:
            untimed.append(_work(folder, recipe, name)[0])
        steps.append(Step(name, "missing" if elapsed is None else "running", elapsed, left))
    shown = {"report.html", *(file for entry in done.values() for file in entry["files"])}
    return Status(
        folder=folder,
        state="stopped" if state == "complete" and any(step.state != "done" for step in steps) else state,
        process=holder(folder) if running else None,
        steps=tuple(steps),
        left=sum(step.left or 0.0 for step in steps),
        untimed=tuple(dict.fromkeys(untimed)),
        results=dict(_results(folder, [n for n in (*BASELINES, *recipe.strategies) if f"{n}/metrics" in done])),
        where=tuple(name for name in ("report.html", "comparison.md") if (folder / name).exists() and name in shown),
        damaged=tuple(damaged.values()),
    )


def planned(recipe: Recipe, done: Sequence[str] = ()) -> list[str]:
    """The names of the steps that a run of `recipe` takes, in order.

    With seeds among the steps that are `done` it is a comparison, which has theirs besides.
    """
    strategies = {name: _strategy(name) for name in recipe.strategies}
    needed = {need for own in strategies.values() for need in (own.needs if own else ("flows",))}
    tests, held_out = list(recipe.tests), ["calibration"] if recipe.calibration else []
    names = ["questions", "prompts", "knowledge/initial", *(f"knowledge/tests/{test}" for test in tests)]
    names += ["rehearsal"] if needed & {"flows", "influences"} else []
    names += ["knowledge/influence"] if "influences" in needed else []
    names += ["knowledge/rehearsed", "knowledge/flow"] if "flows" in needed else []
    for baseline, may_refuse in BASELINES.items():
        names += [f"{baseline}/{test}" for test in tests + ([] if may_refuse else held_out)]
    names += [f"{name}/construction" for name in strategies]
    names += ["knowledge/features", *(f"{name}/conflicts" for name in strategies)]
    for name, strategy in strategies.items():
        dialled = held_out if strategy is None or dial_obstacle(strategy) is None else []
        own = ["tuning", *tests, *dialled, "over_refusal", *(["dial"] if held_out else [])]
        names += [f"{name}/{step}" for step in own]
    seeds = dict.fromkeys(name.split("/")[1] for name in done if "/seed-" in name)
    for seed in seeds:
        names += [f"{name}/{seed}/{step}" for name in strategies for step in ("construction", "tuning", *tests)]
    return [*names, *(f"{name}/metrics" for name in (*BASELINES, *strategies)), "report"]


def as_json(found: Status) -> dict[str, Any]:
    """The status as plain data; times in seconds, `seconds_left` None as long as some kind of step is untimed."""
    return {
        "run": str(found.folder),
        "status": found.state,
        "process": found.process and asdict(found.process),
        "seconds_left": None if found.untimed else found.left,
        "seconds_left_at_least": found.left,
        "untimed": list(found.untimed),
        "steps": [asdict(step) | {"part": step.part} for step in found.steps],
        "THS": {name: {test: asdict(ths) for test, ths in of.items()} for name, of in found.results.items()},
        "where": [str(found.folder / name) for name in found.where],
        "damaged": list(found.damaged),
    }


def print_status(found: Status) -> None:
    """Print a table, a row a strategy, in 80 columns."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False, emoji=False)  # names are text: what looks like a style is none
    console.print(inert(_headline(found), keep="\n"), soft_wrap=True)
    whole = found.state == "complete"
    tests = list(next(iter(found.results.values()), {}))[:_HEADLINES] if whole else []
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("part", overflow="fold")
    for column in ("steps", "time", *(f"THS {test}" for test in tests)):
        table.add_column(column, justify="right", no_wrap=True)
    if not whole:
        table.add_column("now, or next", overflow="fold")
    for part, own in groupby(sorted(found.steps, key=_by_part(found.steps)), key=lambda step: step.part):
        steps = list(own)
        count = sum(step.state == "done" for step in steps)
        row = [part, f"{count}/{len(steps)}", duration(sum(s.seconds or 0.0 for s in steps if s.state == "done"))]
        row += [format_metric(found.results[part][test]) if part in found.results else "" for test in tests]
        table.add_row(*row, *([] if whole else [_next(steps)]))
    console.print(table)
    for line in _advice(found):
        console.print(inert(line), soft_wrap=True)


def _headline(found: Status) -> str:
    done, total = sum(step.state == "done" for step in found.steps), len(found.steps)
    took = duration(sum(step.seconds or 0.0 for step in found.steps if step.state == "done"))
    if found.state == "running" and found.process:
        return f"{found.folder}: running ({found.process})\n{done} of {total} steps are done, in {took}"
    return f"{found.folder}: {found.state}, {done} of {total} steps done, in {took}"


def _next(steps: Sequence[Step]) -> str:
    """What of a part is running, or comes next."""
    for step in steps:
        if step.state != "done":
            name = step.name.removeprefix(f"{step.part}/").removeprefix("knowledge/")
            return f"next: {name}" if step.seconds is None else f"{name}, for {duration(step.seconds)}"
    return ""


def _advice(found: Status) -> Iterator[str]:
    """What is left, and what can be done now."""
    folder = found.folder
    yield from found.damaged
    if found.state != "complete":
        about = f"about {duration(found.left)} left, as long as such steps took so far"
        if found.untimed:
            about = f"at least {duration(found.left)} left; of {' and '.join(found.untimed)} none is timed yet"
        yield about
    if found.state == "stopped":
        command = "compare" if any("/seed-" in step.name for step in found.steps) else "run"
        yield f"go on with: rait {command} {folder / 'recipe.yaml'} --out {folder}"
    if found.results:
        yield "THS: 0 is Init-Basic itself, 100 is always right; in brackets its 95 % interval."
    yield from (f"look at: {folder / name}" for name in found.where)
    if any(step.name.endswith("/tuning") and step.state == "done" for step in found.steps):
        yield f"ask it: rait ask {folder}"


def _by_part(steps: Sequence[Step]) -> Any:
    """A key that orders steps by their part, parts as they come first."""
    parts = list(dict.fromkeys(step.part for step in steps))
    return lambda step: parts.index(step.part)


def _damaged(folder: Path, manifest: dict[str, Any]) -> dict[str, str]:
    """What is wrong with finished files, by name; folders of weights, which may be large, are only looked for."""
    found = {}
    for file in {file for entry in manifest["steps"].values() for file in entry["files"]}:
        path = folder / file
        if file == "report.html" or (path.is_dir() and not path.suffix):
            continue
        if problem := damage_of(folder, manifest, file):
            found[file] = problem
    return found


def _strategy(name: str) -> Strategy | None:
    """The strategy of this name; None for one that is registered elsewhere, in a file of the user's."""
    try:
        return find_strategy(name)
    except RecipeError:
        return None


def _work(folder: Path, recipe: Recipe, name: str) -> tuple[str, float]:
    """The kind of a step, and how much there is to do: questions, or training examples times epochs; else 1."""
    above, _, last = name.rpartition("/")
    if name in ("knowledge/initial", "knowledge/rehearsed"):
        return "probe", _rows(folder / "questions/train.parquet")
    if above == "knowledge/tests":
        return "probe", _rows(folder / f"questions/{last}.parquet")
    if name == "rehearsal":
        tuning = recipe.rehearsal.tuning
        return "training", tuning.steps(recipe.rehearsal.size) * tuning.batch_size
    if last == "tuning":
        made, wanted = folder / above / "examples.jsonl", recipe.construction.vanilla + recipe.construction.idk
        count = _lines(made) if made.is_file() else min(wanted, _rows(folder / "questions/train.parquet") or wanted)
        return "training", recipe.tuning.steps(count) * recipe.tuning.batch_size
    if last in (*recipe.tests, "calibration"):
        return "evaluation", _rows(folder / f"questions/{last}.parquet")
    return last, 1.0


def _rows(path: Path) -> int:
    return count_rows(path) if path.is_file() else 0


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


def _speeds(folder: Path, recipe: Recipe, done: dict[str, Any], doing: dict[str, Any] | None) -> dict[str, float]:
    """Seconds a unit of work, by kind: of what is done, and of what the running step has saved."""
    timed = [(*_work(folder, recipe, name), entry["seconds"]) for name, entry in done.items()]
    if doing:
        kind, size = _work(folder, recipe, doing["step"])
        begun = datetime.fromisoformat(doing["since"]).timestamp()
        amount, moment = _saved(folder, recipe, doing["step"], begun)
        timed.append((kind, min(size, amount), moment - begun))
    amounts: dict[str, float] = {}
    seconds: dict[str, float] = {}
    for kind, amount, took in timed:
        amounts[kind] = amounts.get(kind, 0.0) + amount
        seconds[kind] = seconds.get(kind, 0.0) + took
    return {kind: seconds[kind] / amounts[kind] for kind in seconds if amounts[kind]}


def _left(folder: Path, recipe: Recipe, name: str, speeds: dict[str, float], elapsed: float | None) -> float | None:
    """Seconds that a step still takes, given for how long it has been running; None if such steps are untimed."""
    kind, size = _work(folder, recipe, name)
    if kind not in speeds:
        return None if kind in _TIMED else 0.0  # moments
    saved, _ = _saved(folder, recipe, name)
    return max(0.0, min((size - saved) * speeds[kind], size * speeds[kind] - (elapsed or 0.0)))


def _saved(folder: Path, recipe: Recipe, name: str, since: float = 0.0) -> tuple[float, float]:
    """How much of a step is saved in shards or a checkpoint, and when the last of it was; from `since` on alone."""
    kind, _ = _work(folder, recipe, name)
    if kind == "probe":
        times = [moment for path in folder.glob(f"{name}.*.shards/*.parquet") if (moment := _time(path)) >= since]
        return len(times) * recipe.probe.shard, max(times, default=since)
    if kind == "training":
        place = folder / (name if name == "rehearsal" else name.rpartition("/")[0]) / "checkpoints"
        if _time(place / "key") < since:  # it was resumed, so that the checkpoint is partly of an earlier start
            return 0.0, since
        tuning = recipe.rehearsal.tuning if name == "rehearsal" else recipe.tuning
        found = [(int(path.name.rpartition("-")[2]), _time(path)) for path in place.glob("checkpoint-*[0-9]")]
        step, moment = max(found, default=(0, since))
        return step * tuning.batch_size, moment
    return 0.0, since


def _time(path: Path) -> float:
    """When a file was last written; 0 where there is none, as when a step has just swept up."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _since(moment: str) -> float:
    return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds())


def _results(folder: Path, names: Sequence[str]) -> Iterator[tuple[str, dict[str, Metric]]]:
    for name in names:
        path = folder / name / "metrics.json"
        if path.is_file():
            yield name, {test: Metric(**of["overall"]["THS"]) for test, of in read_data(path).items()}
