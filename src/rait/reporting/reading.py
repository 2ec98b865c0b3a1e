"""What a run folder holds, read for its report: whole, half done, or of an earlier version.

    run = read_run("demo-run")
    run.methods["craft"].scores["id"].overall["THS"].value
    run.missing                                          # what is not there, or cannot be read, and why

No model is loaded and nothing is written. A file counts once the manifest lists it, which is when it is whole. What is
missing is named, never an error: only a folder without a manifest is no run. Of a set of more than `kept` questions as
many are drawn to be looked at one by one, the same in every run; all of them count in what is summed up.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import nsmallest
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml
from numpy.typing import NDArray

from rait.construction import summarise
from rait.errors import InputError, RaitError, first_line
from rait.evaluation.dial import applied
from rait.evaluation.metrics import RESAMPLES, evaluate
from rait.judging import REFUSAL
from rait.manifest import damage_of, read_manifest, recipe_of
from rait.recipe import read_yaml
from rait.records import Decision, KnowledgeFlow, KnowledgeState, Outcome, Question, Role, Verdict
from rait.reporting.parts import (
    Conflicts,
    Dial,
    Refusals,
    Scores,
    conflicts_of,
    dial_of,
    losses_of,
    refusals_of,
    scores_of,
)
from rait.reporting.tables import Row
from rait.seeding import ticket
from rait.settings import BASELINES
from rait.tables import iter_records, read_records

KEPT = 10_000
"""Questions of a set that can be looked at one by one."""

TRAIN, CALIBRATION = "train", "calibration"

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """An untuned model or a strategy, with what is known of it; `place` is its folder, below the run's.

    `decisions` and `verdicts` are by question id, the latter by set first; `taken` counts the decisions on all
    questions by role and kind of reason. `scores` and `verdicts` are of greedy decoding; where there is a dial, and
    p(refuse) was measured, `dial_scores` and `dial_verdicts` are those at its threshold.
    """

    name: str
    place: str
    scores: dict[str, Scores]
    verdicts: dict[str, dict[str, Verdict]]
    decisions: dict[str, Decision] = field(default_factory=dict)
    taken: dict[Role, dict[str, int]] | None = None
    conflicts: Conflicts | None = None
    refusals: dict[str, Refusals] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    dial: Dial | None = None
    no_dial: str = ""
    dial_scores: dict[str, Scores] = field(default_factory=dict)
    dial_verdicts: dict[str, dict[str, Verdict]] = field(default_factory=dict)

    @property
    def tuned(self) -> bool:
        """Whether it is a strategy."""
        return self.name not in BASELINES


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionSet:
    """The questions of a set that are kept, out of `size`, with the initial model's states of them by id.

    `known` (questions, 2) holds correctness and certainty of all that were probed.
    """

    name: str
    size: int
    questions: list[Question]
    states: dict[str, KnowledgeState]
    known: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Everything of a run folder that a report shows.

    `flows` are those of the questions kept, by id; `moves` (questions, 2) holds correctness before rehearsal and its
    change, of all. The questions of `calibration` are in no metric, and not probed.
    """

    folder: Path
    manifest: dict[str, Any]
    recipe: dict[str, Any]
    recipe_text: str
    sets: list[QuestionSet]
    calibration: QuestionSet | None
    flows: dict[str, KnowledgeFlow]
    moves: NDArray[np.float64]
    methods: dict[str, Method]
    rehearsal: list[float]
    comparison: list[Row]
    missing: list[str]
    damaged: list[str]

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.folder.resolve().name

    @property
    def tests(self) -> list[QuestionSet]:
        """The test sets."""
        return [each for each in self.sets if each.name != TRAIN]

    @property
    def strategies(self) -> list[Method]:
        """The methods that were tuned."""
        return [method for method in self.methods.values() if method.tuned]


@dataclass(frozen=True, slots=True)
class _Parts:
    """The finished files of a run folder, and what was looked for in vain."""

    folder: Path
    manifest: dict[str, Any]
    listed: frozenset[str]
    missing: list[str]
    damaged: list[str]

    def read(self, name: str, how: Callable[[Path], Found], *, expected: bool = True) -> Found | None:
        """What `how` makes of the file `name`, or None where it is not there or not of the form it should have."""
        if name not in self.listed:
            if expected:
                self.missing.append(f"{name}: not there")
            return None
        if problem := damage_of(self.folder, self.manifest, name):
            self.damaged.append(problem)
            self.missing.append(f"{name}: {problem}")
            return None
        try:
            return how(self.folder / name)
        except InputError as error:
            self.missing.append(f"{name}: {first_line(error)}")
        except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:
            self.missing.append(f"{name}: cannot be understood ({type(error).__name__}: {first_line(error)})")
        return None


def read_run(folder: str | Path, kept: int = KEPT) -> Run:
    """Read what the run in `folder` has made so far.

    Raises `InputError` where there is no manifest, or one that cannot be read.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    steps: dict[str, Any] = manifest["steps"]
    parts = _Parts(folder, manifest, frozenset(name for step in steps.values() for name in step["files"]), [], [])
    recipe_text, recipe = _recipe(parts, manifest)
    names = [TRAIN, *(_names(recipe.get("tests")) or _tests_of(parts.listed))]
    seed = manifest.get("seed")
    seed = seed if isinstance(seed, int) else 0
    sets = [found for name in names if (found := _question_set(parts, name, kept)) is not None]
    calibration = None if CALIBRATION in names else _question_set(parts, CALIBRATION, kept)
    asked = [*sets, calibration] if calibration else sets
    kept_ids = {each.name: {question.id for question in each.questions} for each in asked}
    strategies = _names(recipe.get("strategies")) or _strategies_of(parts.listed)
    moved = parts.read(
        "knowledge/flow.parquet",
        lambda path: _flows(path, kept_ids.get(TRAIN, set())),
        expected="rehearsal" in steps,
    )
    flows, moves = moved if moved is not None else ({}, np.zeros((0, 2)))
    methods = {
        name: _method(parts, name, steps, names[1:], kept_ids, recipe, seed) for name in (*BASELINES, *strategies)
    }
    return Run(
        folder=folder,
        manifest=manifest,
        recipe=recipe,
        recipe_text=recipe_text,
        sets=sets,
        calibration=calibration,
        flows=flows,
        moves=moves,
        methods={name: method for name, method in methods.items() if method is not None},
        rehearsal=parts.read("rehearsal/losses.json", losses_of, expected=False) or [],
        comparison=parts.read("comparison.parquet", lambda path: read_records(path, Row), expected=False) or [],
        missing=parts.missing,
        damaged=parts.damaged,
    )


def _recipe(parts: _Parts, manifest: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The recipe that the run was made with; of a manifest that does not hold it, as it stands in its file."""
    if "recipe" in manifest:
        try:
            recipe_of(parts.folder)
        except RaitError as error:
            parts.damaged.append(str(error))
        return yaml.safe_dump(manifest["recipe"], sort_keys=False, allow_unicode=True), manifest["recipe"]
    path = parts.folder / "recipe.yaml"
    try:
        text = path.read_text("utf-8", errors="replace")
        found, _ = read_yaml(text)
    except OSError:
        parts.missing.append(f"{path.name}: not there")
        return "", {}
    except (yaml.YAMLError, ValueError):
        found = None
    if isinstance(found, dict):
        return text, found
    parts.damaged.append(f"{path} is no recipe, so the report is without it; `rait run` writes it again")
    parts.missing.append(f"{path.name}: cannot be understood")
    return text, {}


def _names(value: Any) -> list[str]:
    return [str(name) for name in value] if isinstance(value, list | dict) else []


def _tests_of(listed: Collection[str]) -> list[str]:
    """The test sets that a run has probed, where its recipe does not tell."""
    return sorted(Path(name).stem for name in listed if Path(name).parent == Path("knowledge/tests"))


def _strategies_of(listed: Collection[str]) -> list[str]:
    """The strategies that have chosen, where its recipe does not tell."""
    return sorted({name.partition("/")[0] for name in listed if name.endswith("/decisions.parquet")})


def _question_set(parts: _Parts, name: str, kept: int) -> QuestionSet | None:
    states_file = "knowledge/initial.parquet" if name == TRAIN else f"knowledge/tests/{name}.parquet"
    probed = name != CALIBRATION
    found = parts.read(
        f"questions/{name}.parquet", lambda path: _drawn(iter_records(path, Question), kept), expected=probed
    )
    if found is None:
        return None
    size, questions = found
    ids = {question.id for question in questions}
    read = parts.read(states_file, lambda path: _states(path, ids), expected=probed)
    states, known = read if read is not None else ({}, np.zeros((0, 2)))
    return QuestionSet(name=name, size=size, questions=questions, states=states, known=known)


def _drawn(questions: Iterator[Question], kept: int) -> tuple[int, list[Question]]:
    """The number of `questions`, and `kept` of them in their order, drawn by their ids."""
    numbered = enumerate(questions)
    size = 0

    def counted() -> Iterator[tuple[bytes, int, Question]]:
        nonlocal size
        for place, question in numbered:
            size += 1
            yield ticket(0, "report", question.id), place, question

    chosen = nsmallest(kept, counted(), key=lambda entry: entry[:2])
    return size, [question for _, _, question in sorted(chosen, key=lambda entry: entry[1])]


def _states(path: Path, ids: set[str]) -> tuple[dict[str, KnowledgeState], NDArray[np.float64]]:
    bare = iter_records(path, KnowledgeState, without=("responses",))
    known = np.array([(state.correctness, state.certainty) for state in bare]).reshape(-1, 2)
    return {state.id: state for state in iter_records(path, KnowledgeState, only=ids)}, known


def _flows(path: Path, ids: Collection[str]) -> tuple[dict[str, KnowledgeFlow], NDArray[np.float64]]:
    kept: dict[str, KnowledgeFlow] = {}
    moves = []
    for flow in iter_records(path, KnowledgeFlow):
        moves.append((flow.correctness_before, flow.correctness_flow))
        if flow.id in ids:
            kept[flow.id] = flow
    return kept, np.array(moves).reshape(-1, 2)


def _method(
    parts: _Parts,
    name: str,
    steps: dict[str, Any],
    tests: Sequence[str],
    kept_ids: dict[str, set[str]],
    recipe: dict[str, Any],
    seed: int,
) -> Method | None:
    """What there is of a method; None where nothing has been made."""
    place = _place(name, steps)
    if place is None:
        parts.missing.append(f"{name}: not begun")
        return None
    judged = {
        asked: found
        for asked in dict.fromkeys([*tests, CALIBRATION])
        if (
            found := parts.read(
                f"{place}/{asked}.verdicts.parquet",
                lambda path: read_records(path, Verdict),
                expected=asked in tests,
            )
        )
    }
    scores = parts.read(f"{place}/metrics.json", scores_of, expected=False)
    if scores is None:  # written last: what stands already is counted here
        scores = {test: _scored(parts, judged[test], test, recipe, seed) for test in tests if test in judged}
    verdicts = _kept(judged, kept_ids)
    if name in BASELINES:
        return Method(name=name, place=place, scores=scores, verdicts=verdicts)
    chosen = parts.read(f"{place}/decisions.parquet", lambda path: read_records(path, Decision)) or []
    wanted = kept_ids.get(TRAIN, set())
    first = "/" not in place  # a diagnosis is made of the recipe's own seed alone
    dial = parts.read(f"{place}/dial.json", dial_of, expected=False)
    at_dial = _at_dial(judged, dial, recipe) if isinstance(dial, Dial) else {}
    return Method(
        name=name,
        place=place,
        scores=scores,
        verdicts=verdicts,
        decisions={decision.id: decision for decision in chosen if decision.id in wanted},
        taken=summarise(chosen) if chosen else None,
        conflicts=parts.read(f"{place}/conflicts.json", conflicts_of, expected=first),
        refusals=parts.read(f"{place}/over_refusal.json", refusals_of, expected=first) or {},
        losses=parts.read(f"{place}/losses.json", losses_of) or [],
        dial=dial if isinstance(dial, Dial) else None,
        no_dial=dial if isinstance(dial, str) else "",
        dial_scores={test: _scored(parts, at_dial[test], test, recipe, seed) for test in tests if test in at_dial},
        dial_verdicts=_kept(at_dial, kept_ids),
    )


def _kept(judged: Mapping[str, Sequence[Verdict]], kept_ids: Mapping[str, set[str]]) -> dict[str, dict[str, Verdict]]:
    """The verdicts on the questions kept, by set and id."""
    return {
        name: {verdict.id: verdict for verdict in found if verdict.id in kept_ids.get(name, set())}
        for name, found in judged.items()
    }


def _at_dial(judged: Mapping[str, list[Verdict]], dial: Dial, recipe: dict[str, Any]) -> dict[str, list[Verdict]]:
    """The verdicts at the threshold of the dial, of the sets of which p(refuse) was measured.

    What could not be asked stays what it is.
    """
    prompt = recipe.get("prompt")
    refusal = str(prompt.get("refusal", REFUSAL)) if isinstance(prompt, dict) else REFUSAL
    found = {}
    for name, verdicts in judged.items():
        asked = [verdict for verdict in verdicts if verdict.outcome is not Outcome.FAILED]
        if asked and all(v.refusal_probability is not None or v.outcome is Outcome.FAILED for v in asked):
            at_dial = {verdict.id: verdict for verdict in applied(asked, dial.threshold, refusal)}
            found[name] = [at_dial.get(verdict.id, verdict) for verdict in verdicts]
    return found


def _place(name: str, steps: dict[str, Any]) -> str | None:
    """The folder of a method: its own, or where only other seeds than the recipe's were run, that of the first."""
    if any(step.startswith(f"{name}/") and not step.startswith(f"{name}/seed-") for step in steps):
        return name
    seeds = sorted(
        int(number)
        for step in steps
        if step.startswith(f"{name}/seed-") and (number := step.split("/")[1].removeprefix("seed-")).isdecimal()
    )
    return f"{name}/seed-{seeds[0]}" if seeds else None


def _scored(parts: _Parts, verdicts: list[Verdict], test: str, recipe: dict[str, Any], seed: int) -> Scores:
    before = parts.read(f"init_basic/{test}.verdicts.parquet", lambda path: read_records(path, Verdict), expected=False)
    settings = recipe.get("evaluation")
    resamples = settings.get("resamples") if isinstance(settings, dict) else None
    resamples = resamples if isinstance(resamples, int) and resamples > 0 else RESAMPLES
    try:
        found = evaluate(verdicts, before, seed=seed, resamples=resamples, max_failed=1)
    except InputError:  # of other questions, as after a change of the test set
        found = evaluate(verdicts, None, seed=seed, resamples=resamples, max_failed=1)
    return Scores(overall=found.overall, macro=found.macro, migration=found.migration)
