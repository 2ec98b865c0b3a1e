"""What the page of a report says of why and how: what changed, what the model knew, what was taken, how it was made.

    changed(run, charts, 0)    from which outcome to which the questions went, and refusals by what was known
    why(run, charts, 0)        knowledge state, flow, choices and their conflicts
    how(run, charts, 0)        recipe, versions, times, losses

A section is plain data, ready for the template. Its charts stand in `Charts` by the names of their places.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from rait.construction.conflicts import SIMILAR
from rait.evaluation.bands import Cell
from rait.progress import duration
from rait.records import TOLERANCE, Outcome, Role
from rait.reporting import charts, distributions
from rait.reporting.charts import Look
from rait.reporting.outcomes import (
    SHARES,
    UNDEFINED,
    WITH_DIAL,
    WORDS,
    Charts,
    Section,
    about,
    bar,
    legend,
    mixed,
    points,
)
from rait.reporting.reading import TRAIN, Method, QuestionSet, Run

_MOST_SHARES = 20  # of sampled answers, that a histogram tells apart


def changed(run: Run, kept: Charts, place: int) -> Section:
    """From which outcome to which the test questions went, and refusals by what the initial model knew."""
    look_of = charts.looks(list(run.methods))
    sets = []
    for at, test in enumerate(run.tests):
        migrations = [
            {"method": name, "ways": ways}
            for name, method in run.methods.items()
            if name != "init_basic" and (ways := _ways(method, test.name))
        ]
        refusals = {
            method.name: method.refusals[test.name] for method in run.strategies if test.name in method.refusals
        }
        examples = {name: _refused(test, method) for name, method in run.methods.items()}
        bands = [row for name, found in refusals.items() for row in _by_band(name, found.bands, examples[name])]
        chart = charts.refused_by_band(bands, look_of) if bands else None
        sets.append(
            {
                "name": test.name,
                "size": test.size,
                "migrations": migrations,
                "known": [
                    {
                        "method": name,
                        "over": points(found.split.over_refusal),
                        "known": found.split.known.n,
                        "missed": points(found.split.missed_refusal),
                        "unknown": found.split.unknown.n,
                        "threshold": f"{found.split.threshold:g}",
                    }
                    for name, found in refusals.items()
                ],
                "chart": kept.add(f"bands-{place}-{at}", chart) if chart else "",
            }
        )
    return {"sets": sets}


def why(run: Run, kept: Charts, place: int) -> Section:
    """Knowledge state and flow of the training questions, what strategies took of them, and the conflicts in it."""
    look_of = charts.looks(list(run.methods))
    train = next((each for each in run.sets if each.name == TRAIN), None)
    choice = train is not None and _is_choice(train)
    threshold, samples = _threshold(run), None if choice else _samples(run)
    shares = samples if samples and samples <= _MOST_SHARES else None
    known = train.known if train is not None else np.zeros((0, 2))
    before, change = run.moves[:, 0], run.moves[:, 1]
    seen = [(each.id, each.correctness, each.certainty) for each in mixed(train.states.values())] if train else []
    flows = [(each.id, each.correctness_before, each.correctness_flow) for each in mixed(run.flows.values())]
    curves = [
        {"method": method.name, "threshold": point.threshold, "share": point.share}
        for method in run.strategies
        if method.conflicts
        for point in method.conflicts.crss
    ]
    return {
        "choice": choice,
        "samples": samples or "",
        "threshold": f"{threshold:g}" if threshold is not None else UNDEFINED,
        "n": len(known),
        "states": kept.add(f"states-{place}", distributions.states(known, shares, threshold, seen))
        if len(known)
        else "",
        "flows": len(before),
        "drawn": min(len(run.flows), distributions.MOST_POINTS),
        "moved": {
            "up": int((change > TOLERANCE).sum()),
            "none": int((abs(change) <= TOLERANCE).sum()),
            "down": int((change < -TOLERANCE).sum()),
        },
        "flow": kept.add(f"flow-{place}", distributions.flow(before, change, threshold, flows)) if len(before) else "",
        "choices": [_choice(method) for method in run.strategies if method.taken],
        "similar": f"{SIMILAR:g}",
        "crss": kept.add(f"crss-{place}", charts.conflicts(curves, look_of))
        if any(c["share"] is not None for c in curves)
        else "",
        "maps": [method.name for method in run.strategies if method.conflicts and method.conflicts.places],
        "pairs": [method.name for method in run.strategies if method.conflicts and method.conflicts.pairs],
        "map": kept.add(f"map-{place}", distributions.conflict_map())
        if any(method.conflicts and method.conflicts.places for method in run.strategies)
        else "",
    }


def how(run: Run, kept: Charts, place: int) -> Section:
    """Recipe, versions, the time each step took, and how the loss fell."""
    steps: dict[str, Any] = run.manifest["steps"]
    seconds = {name: float(step.get("seconds") or 0) for name, step in steps.items()}
    longest = max(seconds.values(), default=0) or 1
    curves = {"rehearsal": run.rehearsal} | {method.name: method.losses for method in run.strategies}
    curves = {name: values for name, values in curves.items() if values}
    look_of = {**charts.looks(list(run.methods)), "rehearsal": Look("var(--muted)", "circle")}
    versions = run.manifest.get("versions")
    machine = run.manifest.get("machine")
    return {
        "recipe": run.recipe_text,
        "versions": list(versions.items()) if isinstance(versions, dict) else [],
        "machine": list(machine.items()) if isinstance(machine, dict) else [],
        "seeds": _seeds(run),
        "memory": run.manifest.get("peak_memory_gb"),
        "total": duration(sum(seconds.values())),
        "steps": [
            {"name": name, "time": duration(taken), "width": round(100 * taken / longest, 1)}
            for name, taken in sorted(seconds.items(), key=lambda entry: -entry[1])
            if taken >= 0.5
        ],
        "notes": [
            {"step": name, "text": str(note)} for name, step in steps.items() for note in step.get("notes") or []
        ],
        "losses": kept.add(f"losses-{place}", charts.losses(curves, look_of)) if curves else "",
        "legend": legend({name: look_of[name] for name in curves}, {}),
    }


def _ways(method: Method, test: str) -> list[Section]:
    """Where the questions went by greedy decoding, and with the dial, as far as there are both."""
    of = {"": method.scores.get(test), WITH_DIAL: method.dial_scores.get(test)}
    return [{"way": way, "rows": _migration(found.migration)} for way, found in of.items() if found and found.migration]


def _migration(migration: Mapping[str, Mapping[str, int]]) -> list[dict[str, Any]]:
    rows = []
    for before in (Outcome.CORRECT, Outcome.WRONG, Outcome.REFUSED):
        counts = {after: migration.get(before, {}).get(after, 0) for after in SHARES}
        n = sum(counts.values())
        if n:
            parts = bar({after: count / n for after, count in counts.items()}, counts)
            rows.append({"before": WORDS[before], "n": n, "bar": parts})
    return rows


def _refused(test: QuestionSet, method: Method) -> list[tuple[str, float]]:
    """The questions of a test set that a method refuses, with their initial correctness."""
    verdicts = method.verdicts.get(test.name, {})
    return [
        (state.id, state.correctness)
        for state in mixed(test.states.values())
        if state.id in verdicts and verdicts[state.id].outcome is Outcome.REFUSED
    ]


def _by_band(name: str, bands: Sequence[Cell], refusals: Sequence[tuple[str, float]]) -> list[dict[str, Any]]:
    """Shares refused by band of correctness, over all certainties, with some of the `refusals`, (id, correctness)."""
    rows = []
    for (low, high), cells in groupby(bands, key=lambda cell: (cell.mu_low, cell.mu_high)):
        of = [cell.outcomes for cell in cells]
        n, refused = sum(each.n for each in of), sum(each.refused for each in of)
        ids = [id for id, mu in refusals if low - TOLERANCE <= mu < high - TOLERANCE or (high == 1 and mu == 1)]
        row = {"method": name, "band": f"{low:g}–{high:g}", "refused": refused / n if n else None, "n": n}
        rows.append(row | {"ids": ids[: distributions.EXAMPLES]})
    return rows


def _choice(method: Method) -> Section:
    taken = method.taken or {}
    moved = method.conflicts.dynamic if method.conflicts else {}
    return {
        "method": method.name,
        "about": about(method.name),
        "roles": [
            {
                "role": role.value,
                "n": sum(taken.get(role, {}).values()),
                "kinds": list(taken.get(role, {}).items()),
                "moved": moved.get(role.value),
            }
            for role in Role
        ],
    }


def _seeds(run: Run) -> list[int]:
    """The recipe's own seed, and those that strategies were tuned with besides it."""
    own = run.manifest.get("seed")
    found = {part for step in run.manifest["steps"] for part in step.split("/")[1:2] if part.startswith("seed-")}
    others = sorted(int(number) for part in found if (number := part.removeprefix("seed-")).isdecimal())
    return [*([own] if isinstance(own, int) else []), *(seed for seed in others if seed != own)]


def _is_choice(which: QuestionSet) -> bool:
    return any(question.options for question in which.questions)


def _threshold(run: Run) -> float | None:
    settings = run.recipe.get("construction")
    found = settings.get("threshold") if isinstance(settings, dict) else None
    return float(found) if isinstance(found, int | float) and 0 <= found <= 1 else None


def _samples(run: Run) -> int | None:
    """How many answers of a question were sampled, as the recipe has it."""
    settings = run.recipe.get("probe")
    found = settings.get("samples") if isinstance(settings, dict) else None
    return found if isinstance(found, int) and found > 0 else None
