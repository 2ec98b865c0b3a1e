"""The charts of a report, as Vega-Lite specifications: plain dictionaries, which the page draws.

    spec = plane([Point(...), ...], baseline=(0.5, 0.5), looks=looks(["init_basic", "craft"]))

Shares are fractions here and points, 0 to 100, on the page. Colours are names of the page's style ("var(--m1)"), so
that light, dark and print need no other chart. Every method has a colour and a shape, the same in all charts. A mark
that stands for many questions has the ids of some as `ids`, and the page shows their texts. Those of the questions
themselves are in `rait.reporting.distributions`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

from rait.construction.conflicts import SIMILAR

if TYPE_CHECKING:
    pass

Spec = dict[str, Any]

COLOURS = 8
SHAPES = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "triangle-right", "triangle-left")

INK, MUTED, ACCENT = "var(--ink)", "var(--muted)", "var(--accent)"
_ISO_STEP = 20
_LOSSES_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Look:
    """How a method is drawn everywhere."""

    colour: str
    shape: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A method in the THS plane: shares with the ends of their intervals, and THS; fractions or None.

    It is drawn hollow where it is with the dial.
    """

    method: str
    what: str
    correct: tuple[float | None, float | None, float | None]
    wrong: tuple[float | None, float | None, float | None]
    ths: str
    dial: bool = False


def looks(names: Sequence[str]) -> dict[str, Look]:
    """Return a look for each of `names`, no two alike up to 64 of them."""
    return {
        name: Look(f"var(--m{place % COLOURS})", SHAPES[(place + place // COLOURS) % len(SHAPES)])
        for place, name in enumerate(names)
    }


def plane(points: Sequence[Point], baseline: tuple[float, float] | None, look_of: Mapping[str, Look]) -> Spec:
    """P_c over P_w: the ray of the initial model, lines of equal THS, and every method with its intervals.

    `baseline` is (P_c, P_w) of the initial model; without it, or where it is never wrong, there are no lines. Source:
    CRaFT, arXiv 2410.06913v2, evaluation.
    """
    import altair as alt

    rows: list[Spec] = [
        {"method": each.method, "what": each.what, "THS": each.ths, "dial": each.dial}
        | dict(zip(("P_c", "c0", "c1"), map(_points, each.correct), strict=True))
        | dict(zip(("P_w", "w0", "w1"), map(_points, each.wrong), strict=True))
        for each in points
    ]
    width, height = (
        _axis_end([row[name] for row in rows for name in names]) for names in (("P_w", "w1"), ("P_c", "c1"))
    )
    across = alt.X("P_w:Q").title("wrong: P_w, %").scale(domain=[0, width], nice=False).axis(grid=False, tickCount=8)
    up = alt.Y("P_c:Q").title("right: P_c, %").scale(domain=[0, height], nice=False).axis(grid=False, tickCount=8)
    layers: list[Any] = []
    if baseline and baseline[1] > 0:
        slope = baseline[0] / baseline[1]
        lines, labels = _iso_lines(slope, width, height)
        iso = alt.Chart(inline(lines)).mark_line(clip=True, strokeWidth=1.2).encode(x=across, y=up, detail="THS:N")
        layers.append(
            iso.transform_filter("datum.THS != 0").encode(
                color=alt.value(MUTED), opacity=alt.value(0.45), strokeDash=alt.value([4, 3])
            )
        )
        layers.append(iso.transform_filter("datum.THS == 0").encode(color=alt.value(MUTED)))
        text = alt.Chart(inline(labels)).mark_text(align="left", dx=4, dy=-5, fontSize=10)
        layers.append(text.encode(x=across, y=up, text="label:N", color=alt.value(MUTED)))
    base = alt.Chart(inline(rows))
    colour = _colour(look_of)
    layers.append(base.mark_rule(strokeWidth=1.2, opacity=0.7).encode(x=across, y="c0:Q", y2="c1:Q", color=colour))
    layers.append(base.mark_rule(strokeWidth=1.2, opacity=0.7).encode(x="w0:Q", x2="w1:Q", y=up, color=colour))
    tips = ["method:N", "what:N", alt.Tooltip("P_c:Q", format=".1f"), alt.Tooltip("P_w:Q", format=".1f"), "THS:N"]
    layers += [
        base.transform_filter(f"datum.dial == {'true' if dial else 'false'}")
        .mark_point(filled=not dial, opacity=1, size=110, strokeWidth=2)
        .encode(x=across, y=up, color=colour, shape=_shape(look_of), tooltip=tips)
        for dial in (False, True)
    ]
    return finished(alt.layer(*layers), 360)


def refused_by_band(rows: Sequence[Mapping[str, Any]], look_of: Mapping[str, Look]) -> Spec:
    """Shares refused by band of initial correctness.

    A row has method, band, refused (a share or None), n, and ids: some of the refused.
    """
    import altair as alt

    shown = [{**row, "refused": _points(row["refused"]), "such": "refused, such as"} for row in rows]
    order = list(dict.fromkeys(row["band"] for row in rows))
    base = alt.Chart(inline(shown)).encode(
        x=alt.X("band:O").sort(order).title("initial correctness (mu)").axis(labelAngle=0),
        y=alt.Y("refused:Q").title("refused, %").scale(domain=[0, 100]),
        color=_colour(look_of),
    )
    tips = [
        "method:N",
        alt.Tooltip("band:O", title="mu"),
        alt.Tooltip("refused:Q", format=".1f", title="refused, %"),
        alt.Tooltip("n:Q", title="questions"),
    ]
    points = base.mark_point(filled=True, opacity=1, size=60).encode(shape=_shape(look_of), tooltip=tips)
    return finished(alt.layer(base.mark_line(strokeWidth=1.8), points), 260)


def risk_coverage(
    curve: Sequence[Mapping[str, Any]],
    chosen: Sequence[Mapping[str, Any]],
    greedy: Sequence[Mapping[str, Any]],
    look_of: Mapping[str, Look],
) -> Spec:
    """Error among answered over the share answered; rows have method, coverage and risk (shares or None).

    Rows of `curve` are of every threshold; `chosen` are the points chosen, `greedy` those without a threshold.
    """
    import altair as alt

    def shown(rows: Sequence[Mapping[str, Any]], what: str) -> Any:
        points = [{**row, "coverage": _points(row["coverage"]), "risk": _points(row["risk"])} for row in rows]
        defined = [row for row in points if row["coverage"] is not None and row["risk"] is not None]
        return alt.Chart(inline([{**row, "what": what} for row in defined])).encode(
            x=alt.X("coverage:Q").title("answered, %").scale(domain=[0, 100]),
            y=alt.Y("risk:Q").title("wrong among answered, %").scale(zero=True),
            color=_colour(look_of),
        )

    tips = ["method:N", "what:N", alt.Tooltip("coverage:Q", format=".1f"), alt.Tooltip("risk:Q", format=".1f")]
    points = [
        shown(rows, what)
        .mark_point(size=110, opacity=1, strokeWidth=2, filled=filled)
        .encode(shape=_shape(look_of), tooltip=tips)
        for rows, what, filled in ((greedy, "greedy decoding", True), (chosen, "with the dial", False))
    ]
    lines = shown(curve, "every threshold").mark_line(strokeWidth=1.8).encode(order="coverage:Q", detail="method:N")
    return finished(alt.layer(lines, *points), 280)


def conflicts(rows: Sequence[Mapping[str, Any]], look_of: Mapping[str, Look]) -> Spec:
    """CRSS over tau_sim; a row has method, threshold, and share (or None)."""
    import altair as alt

    shown = [{**row, "share": _points(row["share"])} for row in rows if row["share"] is not None]
    base = alt.Chart(inline(shown)).encode(
        x=alt.X("threshold:Q").title("similarity counted as a conflict (tau_sim)").scale(zero=False),
        y=alt.Y("share:Q").title("CRSS, %").scale(domain=[0, 100]),
        color=_colour(look_of),
    )
    tips = ["method:N", alt.Tooltip("threshold:Q", title="tau_sim"), alt.Tooltip("share:Q", format=".1f", title="CRSS")]
    points = base.mark_point(filled=True, opacity=1, size=50).encode(shape=_shape(look_of), tooltip=tips)
    paper = alt.Chart(inline([{"at": SIMILAR}])).mark_rule(color=MUTED, strokeDash=[2, 3]).encode(x="at:Q")
    return finished(alt.layer(paper, base.mark_line(strokeWidth=1.8), points), 280)


def losses(curves: Mapping[str, Sequence[float]], look_of: Mapping[str, Look]) -> Spec:
    """Loss over steps of training; of a long one the means of windows, 200 at most."""
    import altair as alt

    rows = [
        {"method": name, "step": int(part[-1]) + 1, "loss": round(float(np.mean([values[i] for i in part])), 5)}
        for name, values in curves.items()
        for part in np.array_split(np.arange(len(values)), min(len(values), _LOSSES_SHOWN))
        if len(part)
    ]
    chart = (
        alt.Chart(inline(rows))
        .mark_line(strokeWidth=1.5)
        .encode(
            x=alt.X("step:Q").title("step"),
            y=alt.Y("loss:Q").title("loss"),
            color=_colour(look_of),
            tooltip=["method:N", "step:Q", alt.Tooltip("loss:Q", format=".3f")],
        )
    )
    return finished(chart, 240)


def _iso_lines(slope: float, width: float, height: float) -> tuple[list[Spec], list[Spec]]:
    """Lines P_c = THS + slope P_w inside P_c + P_w <= 100, and a label where each enters the picture."""
    lines, labels = [], []
    for ths in range(-100, 100, _ISO_STEP):
        start = max(0.0, -ths / slope) if slope else 0.0
        end = (100 - ths) / (1 + slope)
        if end <= start or (ths < 0 and not slope):
            continue
        lines += [{"THS": ths, "P_w": x, "P_c": ths + slope * x} for x in (start, end)]
        if ths and start < 0.9 * width and max(0, ths) < 0.95 * height:
            labels.append({"P_w": start, "P_c": max(0, ths), "label": f"THS {ths}"})
    return lines, labels


def _axis_end(values: Sequence[float | None]) -> float:
    highest = max((value for value in values if value is not None), default=100)
    return min(100.0, 10 * ceil((highest + 3) / 10))


def _colour(look_of: Mapping[str, Look]) -> Any:
    import altair as alt

    scale = alt.Scale(domain=list(look_of), range=[look.colour for look in look_of.values()])
    return alt.Color("method:N", scale=scale, legend=None)


def _shape(look_of: Mapping[str, Look]) -> Any:
    import altair as alt

    scale = alt.Scale(domain=list(look_of), range=[look.shape for look in look_of.values()])
    return alt.Shape("method:N", scale=scale, legend=None)


def inline(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Rows that stand in the specification itself."""
    import altair as alt

    return alt.InlineData(values=[dict(row) for row in rows])


def _points(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 3)


def finished(chart: Any, height: int) -> Spec:
    """The specification of a chart as wide as its place, and so many pixels high."""
    spec: Spec = chart.properties(width="container", height=height).to_dict()
    del spec["config"]  # the page has one for all
    return spec
