"""The JSON files of a run folder, as `rait.reporting.reading` finds them: what they hold, and how they are understood.

    scores_of(Path("run/craft/metrics.json"))["id"].overall["THS"].value

Every function raises `ValueError`, `LookupError`, `TypeError` or `AttributeError` for a file of another form.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rait.construction.conflicts import ConflictingPair, CrssPoint, Directions
from rait.evaluation.bands import Cell, KnownAndUnknown, Neighbour, Outcomes
from rait.evaluation.metrics import Metric
from rait.tables import read_data


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """The metrics of one method on one test set, as `rait.evaluation.metrics` names them."""

    overall: dict[str, Metric]
    macro: dict[str, Metric] = field(default_factory=dict)
    migration: dict[str, dict[str, int]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflicts:
    """Conflicts in what a strategy takes; `places` are those of its questions on the map, by id, none in older runs."""

    crss: list[CrssPoint]
    pairs: list[ConflictingPair]
    dynamic: dict[str, Directions]
    places: dict[str, tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusals:
    """Refusals of a test set by what the initial model knew; `near` are the idk examples nearest to a refused one."""

    split: KnownAndUnknown
    bands: list[Cell]
    near: dict[str, list[Neighbour]]


@dataclass(frozen=True, slots=True, kw_only=True)
class DialSet:
    """What the dial does on a test set: the metrics of greedy decoding and at the threshold chosen, and the curve."""

    greedy: dict[str, float | None]
    chosen: dict[str, float | None]
    aurc: float | None
    curve: list[dict[str, float | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dial:
    """A strategy's threshold on the probability of a refusal, how it was chosen, and what it does."""

    target: str
    threshold: float
    questions: int | None
    guarantee: dict[str, Any] | None
    tests: dict[str, DialSet]


def scores_of(path: Path) -> dict[str, Scores]:
    """Metrics by test set, of metrics.json."""

    def metrics(found: dict[str, Any] | None) -> dict[str, Metric]:
        return {name: Metric(**metric) for name, metric in (found or {}).items()}

    return {
        test: Scores(
            overall=metrics(found["overall"]), macro=metrics(found.get("macro")), migration=found.get("migration")
        )
        for test, found in read_data(path).items()
    }


def losses_of(path: Path) -> list[float]:
    """The loss of every step, of losses.json."""
    return [float(loss) for loss in read_data(path)["losses"]]


def conflicts_of(path: Path) -> Conflicts:
    """What conflicts.json holds."""
    found = read_data(path)
    places = found.get("map") or {"id": [], "x": [], "y": []}
    return Conflicts(
        crss=[CrssPoint(**point) for point in found["crss"]],
        pairs=[ConflictingPair(**pair) for pair in found["pairs"]],
        dynamic={role: Directions(**counts) for role, counts in found.get("dynamic", {}).items()},
        places={id: (float(x), float(y)) for id, x, y in zip(places["id"], places["x"], places["y"], strict=True)},
    )


def refusals_of(path: Path) -> dict[str, Refusals]:
    """Refusals by test set, of over_refusal.json."""
    return {
        test: Refusals(
            split=KnownAndUnknown(found["threshold"], Outcomes(**found["known"]), Outcomes(**found["unknown"])),
            bands=[Cell(**{**cell, "outcomes": Outcomes(**cell["outcomes"])}) for cell in found["bands"]],
            near={id: [Neighbour(**each) for each in near] for id, near in found.get("why", {}).items()},
        )
        for test, found in read_data(path).items()
    }


def dial_of(path: Path) -> Dial | str:
    """The dial, or why there is none."""
    found = read_data(path)
    if not found or "threshold" not in found or found["threshold"] is None:
        return str((found or {}).get("obstacle") or "its answers are worded in a way that has no single refusal")
    target, calibration = found.get("target") or {}, found.get("calibration") or {}
    return Dial(
        target=_target(target),
        threshold=float(found["threshold"]),
        questions=calibration.get("questions"),
        guarantee=found.get("guarantee"),
        tests={
            test: DialSet(
                greedy=dict(on["greedy"]), chosen=dict(on["chosen"]), aurc=on.get("aurc"), curve=list(on["curve"])
            )
            for test, on in (found.get("tests") or {}).items()
        },
    )


def _target(target: dict[str, Any]) -> str:
    rule, value = target.get("rule"), target.get("value")
    shown = "" if value is None else f" {100 * float(value):g} %"
    return {
        "best_ths": "the best THS",
        "max_error": f"at most{shown} wrong{' of the answered' if target.get('among') == 'answered' else ''}",
        "max_refusal": f"at most{shown} refused",
    }.get(str(rule), f"{rule}{shown}")
