"""What the page of a report says of what came out: shares, bars, THS, means over seeds, and the dial.

    came_out([run], charts)        every method on every test set; with its run's name where there are several
    dials(run, charts, 0)          what a threshold on the probability of a refusal does

A section is plain data, ready for the template. Its charts stand in `Charts` by the names of their places.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, TypeVar

from rait.construction import find_strategy
from rait.errors import RaitError
from rait.evaluation.dial import promise
from rait.evaluation.metrics import Metric, format_metric
from rait.records import KnowledgeFlow, KnowledgeState, Outcome, Verdict
from rait.reporting import charts, distributions
from rait.reporting.charts import Look, Point, Spec
from rait.reporting.parts import Scores
from rait.reporting.reading import Method, Run
from rait.seeding import ticket

Section = dict[str, Any]
Identified = TypeVar("Identified", KnowledgeState, KnowledgeFlow, Verdict)

UNDEFINED = "n/a"
WITH_DIAL = "with the dial"
SHARES = {Outcome.CORRECT: "P_c", Outcome.REFUSED: "P_r", Outcome.WRONG: "P_w"}
WORDS = {Outcome.CORRECT: "right", Outcome.REFUSED: "refused", Outcome.WRONG: "wrong"}
_COLUMNS = {  # as a table heads them, in two lines
    "P_c": ("right", "P_c"),
    "P_w": ("wrong", "P_w"),
    "P_r": ("refused", "P_r"),
    "accuracy_on_answered": ("right of", "answered"),
    "unparsable": ("no option", "chosen"),
    "failed": ("not", "asked"),
    "over_refusal": ("over-", "refusal"),
    "missed_refusal": ("missed", "refusal"),
    "THS": ("THS", ""),
}
_LEAST_SHOWN = 7.0  # percent of a bar that has room for its number
_ABOUT = {
    "init_basic": "The untuned model, asked plainly.",
    "init_refuse": "The untuned model, told that it may say it does not know.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """The scores of a method of a run on a test set; `way` is "" or `WITH_DIAL`, `name` how the method is shown."""

    name: str
    method: Method
    scores: Scores
    way: str = ""


@dataclass(frozen=True, slots=True)
class Charts:
    """The charts of a page, by the names of their places."""

    specs: dict[str, Spec] = field(default_factory=dict)

    def add(self, name: str, spec: Spec) -> str:
        """Keep a chart; its name."""
        self.specs[name] = spec
        return name


def came_out(runs: Sequence[Run], kept: Charts) -> Section:
    """Shares and THS of every method of every run, by test set; methods of several runs are named with theirs."""
    label = _label(runs)
    names = [label(run, method.name) for run in runs for method in run.methods.values()]
    look_of = charts.looks(names)
    tests = list(dict.fromkeys(test.name for run in runs for test in run.tests))
    return {
        "legend": legend(look_of, {label(run, name): about(name) for run in runs for name in run.methods}),
        "sets": [_outcomes(runs, test, look_of, kept, label, place) for place, test in enumerate(tests)],
        "calibration": any(run.calibration for run in runs),
        "dial": any(method.dial_scores for run in runs for method in run.methods.values()),
    }


def _outcomes(
    runs: Sequence[Run], test: str, look_of: Mapping[str, Look], kept: Charts, label: Any, place: int
) -> Section:
    scored = [
        Scored(name=label(run, method.name), method=method, scores=of[test], way=way)
        for run in runs
        for method in run.methods.values()
        for way, of in (("", method.scores), (WITH_DIAL, method.dial_scores))
        if test in of
    ]
    points = [
        Point(
            method=each.name,
            what=each.way or "greedy decoding",
            ths=_value(each.scores, "THS"),
            correct=_ends(each.scores, "P_c"),
            wrong=_ends(each.scores, "P_w"),
            dial=bool(each.way),
        )
        for each in scored
    ]
    over_seeds = [_seed_rows(run, test, label) for run in runs]
    points += [
        Point(method=row["method"], what=row["what"], ths=row["THS"], correct=row["P_c_ends"], wrong=row["P_w_ends"])
        for rows in over_seeds
        for row in rows
        if row["seeds"] > 1
    ]
    untuned = [each.scores.overall for each in scored if each.method.name == "init_basic"]
    baselines = {(overall["P_c"].value, overall["P_w"].value) for overall in untuned}
    baseline = next(iter(baselines)) if len(baselines) == 1 else None
    ray = baseline is not None and baseline[0] is not None and bool(baseline[1])
    return {
        "name": test,
        "size": max((each.scores.overall["P_c"].n for each in scored), default=0),
        "lead": _lead(scored),
        "bars": [
            {
                "method": each.name,
                "way": each.way,
                "bar": bar({outcome: each.scores.overall[share].value for outcome, share in SHARES.items()}),
                "ths": _value(each.scores, "THS"),
                "about": about(each.method.name),
            }
            for each in scored
        ],
        "table": _table([(each, each.scores.overall) for each in scored]),
        "macro": _table([(each, each.scores.macro) for each in scored if each.scores.macro]),
        "seeds": [row for rows in over_seeds for row in rows],
        "plane": kept.add(f"plane-{place}", charts.plane(points, baseline if ray else None, look_of)) if points else "",  # type: ignore[arg-type]
        "ray": ray,
        "legend": legend({name: look_of[name] for name in dict.fromkeys(point.method for point in points)}, {}),
        "baselines": len(baselines),
        "dial": any(each.way for each in scored),
        "choice": any("unparsable" in of and of["unparsable"].n for of in (each.scores.overall for each in scored)),
    }


def _lead(scored: Sequence[Scored]) -> str:
    """The result on a test set in a sentence or two."""
    tuned = [each for each in scored if each.method.tuned and not each.way]
    ranked = _by_ths(tuned)
    if not ranked:
        return "No method has a THS here." if tuned else "Nothing has been tuned yet."
    name, of = ranked[0].name, ranked[0].scores
    low, high = of.overall["THS"].low, of.overall["THS"].high
    best = ", best by THS," if len(ranked) > 1 else ""
    if low is None or high is None:
        verdict = f"The result of tuning: {name}{best}"
    elif low > 0:
        verdict = f"Tuning helped: {name}{best}"
    elif high < 0:
        verdict = f"Tuning did harm here: even {name}{best}" if best else f"Tuning did harm here: {name}"
    else:
        verdict = f"Tuning made no clear difference: {name}{best}"
    right, wrong, refused = (points(of.overall[share].value) for share in ("P_c", "P_w", "P_r"))
    said = f"{verdict} is right on {right} %, wrong on {wrong} %, and refuses {refused} %."
    before = [each.scores.overall for each in scored if each.method.name == "init_basic"]
    if len(before) == 1:
        right, wrong = (points(before[0][share].value) for share in ("P_c", "P_w"))
        said += f" The untuned model was right on {right} % and wrong on {wrong} %."
    dialled = _by_ths([each for each in scored if each.way])
    if dialled:
        name, of = dialled[0].name, dialled[0].scores
        right, wrong, refused = (points(of.overall[share].value) for share in ("P_c", "P_w", "P_r"))
        best = " is best: it" if len(dialled) > 1 else ""
        said += f" With the dial {name}{best} is right on {right} %, wrong on {wrong} %, and refuses {refused} %."
    return said


def _by_ths(scored: Sequence[Scored]) -> list[Scored]:
    """Those that have a THS, the highest first."""
    found = [(each.scores.overall["THS"].value, each) for each in scored]
    return [each for value, each in sorted(found, key=lambda entry: -(entry[0] or 0)) if value is not None]


def _seed_rows(run: Run, test: str, label: Any) -> list[dict[str, Any]]:
    """Means over seeds, of a run whose strategies were tuned with several; its present methods alone."""
    found = [row for row in run.comparison if row.test_set == test and row.strategy in run.methods]
    lines = []
    for strategy, group in groupby(found, key=lambda row: row.strategy):
        rows = {row.metric: row for row in group}
        if not {"P_c", "P_w", "P_r", "THS"} <= rows.keys():
            continue
        ths = rows["THS"]
        lines.append(
            {
                "method": label(run, strategy),
                "what": f"mean over {ths.seeds} seeds",
                "seeds": ths.seeds,
                "against": ths.against,
                "noise": ths.within_noise,
                "difference": format_metric(Metric(ths.difference, ths.difference_low, ths.difference_high, 0)),
                "own": strategy == ths.against,
                "P_c_ends": (rows["P_c"].mean, rows["P_c"].low, rows["P_c"].high),
                "P_w_ends": (rows["P_w"].mean, rows["P_w"].low, rows["P_w"].high),
            }
            | {name: format_metric(Metric(row.mean, row.low, row.high, row.questions)) for name, row in rows.items()}
        )
    return lines


def dials(run: Run, kept: Charts, place: int) -> Section:
    """What a threshold on the probability of a refusal does, where one was chosen."""
    with_dial = [(method, method.dial) for method in run.strategies if method.dial]
    look_of = charts.looks(list(run.methods))
    sets = []
    for at, test in enumerate(run.tests):
        found = [(method.name, dial, dial.tests[test.name]) for method, dial in with_dial if test.name in dial.tests]
        if not found:
            continue
        curve = [{"method": name, **point} for name, _, on in found for point in on.curve]
        chosen, greedy = (
            [{"method": name, **_coverage(shares)} for name, shares in of.items()]
            for of in ({name: on.chosen for name, _, on in found}, {name: on.greedy for name, _, on in found})
        )
        rows = [
            {
                "method": name,
                "threshold": "never refuse" if dial.threshold > 1 else f"{dial.threshold:.3g}",
                "greedy": _dial_ths(on.greedy),
                "chosen": _dial_ths(on.chosen),
                "shares": " / ".join(points(on.chosen.get(share)) for share in ("P_c", "P_w", "P_r")),
                "aurc": UNDEFINED if on.aurc is None else f"{on.aurc:.3f}",
            }
            for name, dial, on in found
        ]
        chart = kept.add(f"dial-{place}-{at}", charts.risk_coverage(curve, chosen, greedy, look_of))
        histograms = [
            {
                "method": method.name,
                "shown": len(answers),
                "chart": kept.add(f"chances-{place}-{at}-{row}", distributions.chances(answers, dial.threshold)),
            }
            for row, (method, dial) in enumerate(with_dial)
            if test.name in method.dial_verdicts and (answers := _answers(method, test.name))
        ]
        sets.append({"name": test.name, "size": test.size, "rows": rows, "chart": chart, "histograms": histograms})
    targets = sorted({dial.target for _, dial in with_dial})
    questions = sorted({dial.questions for _, dial in with_dial if dial.questions is not None})
    return {
        "sets": sets,
        "target": " or ".join(targets),
        "questions": " or ".join(map(str, questions)),
        "guarantees": [
            {"method": method.name, "text": promise(dial.guarantee, dial.threshold)}
            for method, dial in with_dial
            if dial.guarantee
        ],
        "without": [{"method": method.name, "text": method.no_dial} for method in run.strategies if method.no_dial],
    }


def _answers(method: Method, test: str) -> list[tuple[str, float, str]]:
    """Id and p(refuse) of the questions kept, and what the answer of each is worth where it may not refuse."""
    worth = {True: "right", False: "wrong", None: "refused"}
    return [
        (each.id, each.refusal_probability, worth[each.answer_correct])
        for each in mixed(method.verdicts[test].values())
        if each.refusal_probability is not None
    ]


def mixed(records: Iterable[Identified]) -> list[Identified]:
    """The records in an order that hangs on their ids alone, and puts no kind of question first."""
    return sorted(records, key=lambda each: ticket(0, "example", each.id))


def legend(look_of: Mapping[str, Look], about_of: Mapping[str, str]) -> list[dict[str, str]]:
    """Names with their colours and shapes."""
    return [
        {"name": name, "colour": look.colour, "shape": look.shape, "about": about_of.get(name, "")}
        for name, look in look_of.items()
    ]


def about(name: str) -> str:
    """A method in one line; nothing where it is not known here."""
    if name in _ABOUT:
        return _ABOUT[name]
    try:
        return find_strategy(name).description
    except RaitError:  # one of the user's own, made elsewhere
        return ""


def points(share: float | None) -> str:
    """A share in points with one decimal, or n/a."""
    return format_metric(Metric(share, share, share, 0)).partition(" ")[0]


def _label(runs: Sequence[Run]) -> Any:
    """How methods are named: with their run where there are several."""
    names = [run.name for run in runs]
    shown = [name if names.count(name) == 1 else f"{name} {place + 1}" for place, name in enumerate(names)]
    of = {id(run): name for run, name in zip(runs, shown, strict=True)}
    return (lambda run, method: method) if len(runs) == 1 else (lambda run, method: f"{of[id(run)]} · {method}")


def bar(shares: Mapping[Outcome, float | None], counts: Mapping[Outcome, int] | None = None) -> list[dict[str, Any]]:
    """The parts of a bar; a text where there is room for it."""
    return [
        {
            "kind": WORDS[outcome],
            "width": round(100 * share, 2),
            "text": (points(share) if counts is None else str(counts[outcome])) if 100 * share >= _LEAST_SHOWN else "",
            "value": points(share),
            "count": None if counts is None else counts[outcome],
        }
        for outcome, share in shares.items()
        if share
    ]


def _table(scored: Sequence[tuple[Scored, Mapping[str, Metric]]]) -> Section:
    """Rows by method; the columns are the metrics that have anything to count, "failed" only where any did."""
    shown = [
        {name for name, metric in of.items() if metric.n and (name != "failed" or metric.value)} for _, of in scored
    ]
    columns = [name for name in _COLUMNS if any(name in names for names in shown)]
    return {
        "columns": [_COLUMNS[name] for name in columns],
        "rows": [
            {"method": each.name, "way": each.way, "cells": [_cell(of, column) for column in columns]}
            for each, of in scored
        ],
    }


def _cell(metrics: Mapping[str, Metric], name: str) -> dict[str, Any]:
    metric = metrics.get(name)
    value, _, interval = format_metric(metric).partition(" ") if metric else (UNDEFINED, "", "")
    heading = " ".join(_COLUMNS[name]).replace("- ", "-").strip()
    return {"metric": name, "heading": heading, "value": value, "interval": interval, "n": metric.n if metric else 0}


def _value(of: Scores, name: str) -> str:
    metric = of.overall.get(name)
    return format_metric(metric) if metric else UNDEFINED


def _ends(of: Scores, name: str) -> tuple[float | None, float | None, float | None]:
    metric = of.overall[name]
    return metric.value, metric.low, metric.high


def _coverage(shares: Mapping[str, float | None]) -> dict[str, float | None]:
    right, wrong = shares.get("P_c"), shares.get("P_w")
    if right is None or wrong is None:
        return {"coverage": None, "risk": None}
    answered = right + wrong
    return {"coverage": answered, "risk": wrong / answered if answered else None}


def _dial_ths(shares: Mapping[str, float | None]) -> str:
    return format_metric(Metric(shares.get("THS"), shares.get("THS_low"), shares.get("THS_high"), 0))
