"""The charts of a report, as Vega-Lite specifications: plain dictionaries, which the page draws.

    spec = plane([Point(...), ...], baseline=(0.5, 0.5), looks=looks(["init_basic", "craft"]))

Shares are fractions here and points, 0 to 100, on the page. Colours are names of the page's style ("var(--m1)"), so
that light, dark and print need no other chart. Every method has a colour and a shape, the same in all charts. What is
drawn of single questions names its rows (`FLOW`, `MAP`), which the page makes of the data that it holds once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rait.construction.conflicts import SIMILAR
from rait.records import TOLERANCE

if TYPE_CHECKING:
    import altair as alt

Spec = dict[str, Any]

FLOW, MAP = "flow", "map"
"""Names of the rows that the page fills in: id, question, mu, d_mu, x, y; and id, question, role, x, y."""

MOST_POINTS = 4000
"""More single questions than these are not drawn, but sampled."""

COLOURS = 8
SHAPES = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "triangle-right", "triangle-left")

_INK, _MUTED, _ACCENT = "var(--ink)", "var(--muted)", "var(--accent)"
_ISO_STEP = 20
_LOSSES_SHOWN = 200
_SIGMA_BINS = 20


@dataclass(frozen=True, slots=True)
class Look:
    """How a method is drawn everywhere."""

    colour: str
    shape: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A method in the THS plane: shares with the ends of their intervals, and THS; fractions or None."""

    method: str
    what: str
    correct: tuple[float | None, float | None, float | None]
    wrong: tuple[float | None, float | None, float | None]
    ths: str


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
        {"method": each.method, "what": each.what, "THS": each.ths}
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
        iso = alt.Chart(_rows(lines)).mark_line(clip=True, strokeWidth=1.2).encode(x=across, y=up, detail="THS:N")
        layers.append(
            iso.transform_filter("datum.THS != 0").encode(
                color=alt.value(_MUTED), opacity=alt.value(0.45), strokeDash=alt.value([4, 3])
            )
        )
        layers.append(iso.transform_filter("datum.THS == 0").encode(color=alt.value(_MUTED)))
        text = alt.Chart(_rows(labels)).mark_text(align="left", dx=4, dy=-5, fontSize=10)
        layers.append(text.encode(x=across, y=up, text="label:N", color=alt.value(_MUTED)))
    base = alt.Chart(_rows(rows))
    colour = _colour(look_of)
    layers.append(base.mark_rule(strokeWidth=1.2, opacity=0.7).encode(x=across, y="c0:Q", y2="c1:Q", color=colour))
    layers.append(base.mark_rule(strokeWidth=1.2, opacity=0.7).encode(x="w0:Q", x2="w1:Q", y=up, color=colour))
    tips = ["method:N", "what:N", alt.Tooltip("P_c:Q", format=".1f"), alt.Tooltip("P_w:Q", format=".1f"), "THS:N"]
    marks = base.mark_point(filled=True, opacity=1, size=110).encode(
        x=across, y=up, color=colour, shape=_shape(look_of), tooltip=tips
    )
    layers.append(marks)
    return _finished(alt.layer(*layers), 360)


def refused_by_band(rows: Sequence[Mapping[str, Any]], look_of: Mapping[str, Look]) -> Spec:
    """Shares refused by band of initial correctness; a row has method, band, refused (a share or None), and n."""
    import altair as alt

    shown = [{**row, "refused": _points(row["refused"])} for row in rows]
    order = list(dict.fromkeys(row["band"] for row in rows))
    base = alt.Chart(_rows(shown)).encode(
        x=alt.X("band:O").sort(order).title("initial correctness (mu)").axis(labelAngle=0),
        y=alt.Y("refused:Q").title("refused, %").scale(domain=[0, 100]),
        color=_colour(look_of),
    )
    tips = ["method:N", alt.Tooltip("band:O", title="mu"), alt.Tooltip("refused:Q", format=".1f"), alt.Tooltip("n:Q")]
    points = base.mark_point(filled=True, opacity=1, size=60).encode(shape=_shape(look_of), tooltip=tips)
    return _finished(alt.layer(base.mark_line(strokeWidth=1.8), points), 260)


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
        return alt.Chart(_rows([{**row, "what": what} for row in defined])).encode(
            x=alt.X("coverage:Q").title("answered, %").scale(domain=[0, 100]),
            y=alt.Y("risk:Q").title("wrong among answered, %").scale(zero=True),
            color=_colour(look_of),
        )

    tips = ["method:N", "what:N", alt.Tooltip("coverage:Q", format=".1f"), alt.Tooltip("risk:Q", format=".1f")]
    points = [
        shown(rows, what)
        .mark_point(size=110, opacity=1, strokeWidth=2, filled=filled)
        .encode(shape=_shape(look_of), tooltip=tips)
        for rows, what, filled in ((greedy, "greedy decoding", False), (chosen, "chosen threshold", True))
    ]
    lines = shown(curve, "every threshold").mark_line(strokeWidth=1.8).encode(order="coverage:Q", detail="method:N")
    return _finished(alt.layer(lines, *points), 280)


def states(known: NDArray[np.float64], samples: int | None, threshold: float | None) -> Spec:
    """How many questions have which correctness and certainty; `known` (questions, 2) holds both.

    A bin of correctness is around one of the shares k / `samples` that can occur; None is for any value in [0, 1].
    """
    import altair as alt

    half = 0.5 / samples if samples else 0.0
    mu_edges = np.linspace(-half, 1 + half, samples + 2) if samples else np.linspace(0, 1, _SIGMA_BINS + 1)
    edges = mu_edges, _sigma_edges(known[:, 1])
    counts = np.histogram2d(known[:, 0], known[:, 1], bins=edges)[0]
    rows = [
        {"m0": m[0], "m1": m[1], "s0": s[0], "s1": s[1], "n": int(counts[i, j]), "mu": _mu(m, half), "sigma": _span(s)}
        for i, m in enumerate(pairwise(np.round(edges[0], 4).tolist()))
        for j, s in enumerate(pairwise(np.round(edges[1], 4).tolist()))
        if counts[i, j]
    ]
    cells = (
        alt.Chart(_rows(rows))
        .mark_rect()
        .encode(
            x=alt.X("m0:Q").title("correctness (mu)").scale(domain=[-half, 1 + half], nice=False),
            x2="m1:Q",
            y=alt.Y("s0:Q").title("certainty (sigma)").scale(domain=[edges[1][0], edges[1][-1]], nice=False),
            y2="s1:Q",
            color=alt.value(_ACCENT),
            opacity=alt.Opacity("n:Q").scale(type="sqrt", range=[0.06, 1]).legend(None),
            tooltip=["n:Q", alt.Tooltip("mu:N"), alt.Tooltip("sigma:N")],
        )
    )
    # Between the shares that are known and those that are not, so that it cuts no bin.
    cut = ceil(threshold * samples - TOLERANCE) / samples - half if threshold is not None and samples else threshold
    return _finished(alt.layer(cells, *_threshold(cut)), 320)


def flow(before: NDArray[np.float64], change: NDArray[np.float64], threshold: float | None) -> Spec:
    """Change of correctness in rehearsal over correctness before: points of the page's, and means by band of mu."""
    import altair as alt

    bands = np.minimum((before * 10).astype(int), 9)
    means = [
        {"mu": float(before[bands == band].mean()), "d_mu": float(change[bands == band].mean()), "n": int(n)}
        for band in range(10)
        if (n := (bands == band).sum())
    ]
    across = alt.X("x:Q").title("correctness before rehearsal (mu)").scale(domain=[-0.04, 1.04], nice=False)
    up = alt.Y("y:Q").title("change (d_mu)").scale(domain=[-1.05, 1.05], nice=False)
    tips = ["question:N", alt.Tooltip("mu:Q", format=".2f"), alt.Tooltip("d_mu:Q", format="+.2f")]
    points = alt.Chart(alt.NamedData(name=FLOW)).mark_point(filled=True, size=16, opacity=0.35, color=_ACCENT)
    zero = alt.Chart(_rows([{"y": 0}])).mark_rule(color=_MUTED, strokeDash=[2, 3]).encode(y="y:Q")
    mean = alt.Chart(_rows(means)).encode(x="mu:Q", y="d_mu:Q")
    tips_of_mean = [alt.Tooltip("mu:Q", format=".2f", title="mean mu"), alt.Tooltip("d_mu:Q", format="+.3f"), "n:Q"]
    return _finished(
        alt.layer(
            points.encode(x=across, y=up, tooltip=tips),
            zero,
            mean.mark_line(color=_INK, strokeWidth=2),
            mean.mark_point(color=_INK, filled=True, size=60, opacity=1).encode(tooltip=tips_of_mean),
            *_threshold(threshold),
        ),
        320,
    )


def conflicts(rows: Sequence[Mapping[str, Any]], look_of: Mapping[str, Look]) -> Spec:
    """CRSS over tau_sim; a row has method, threshold, and share (or None)."""
    import altair as alt

    shown = [{**row, "share": _points(row["share"])} for row in rows if row["share"] is not None]
    base = alt.Chart(_rows(shown)).encode(
        x=alt.X("threshold:Q").title("similarity counted as a conflict (tau_sim)").scale(zero=False),
        y=alt.Y("share:Q").title("CRSS, %").scale(domain=[0, 100]),
        color=_colour(look_of),
    )
    tips = ["method:N", alt.Tooltip("threshold:Q", title="tau_sim"), alt.Tooltip("share:Q", format=".1f", title="CRSS")]
    points = base.mark_point(filled=True, opacity=1, size=50).encode(shape=_shape(look_of), tooltip=tips)
    paper = alt.Chart(_rows([{"at": SIMILAR}])).mark_rule(color=_MUTED, strokeDash=[2, 3]).encode(x="at:Q")
    return _finished(alt.layer(paper, base.mark_line(strokeWidth=1.8), points), 280)


def conflict_map() -> Spec:
    """The questions that a strategy takes, near where the initial model sees them as alike; rows of the page's."""
    import altair as alt

    roles = ["vanilla", "idk"]
    chart = (
        alt.Chart(alt.NamedData(name=MAP))
        .mark_point(filled=True, opacity=0.75, size=42)
        .encode(
            x=alt.X("x:Q").axis(None).scale(zero=False, padding=12),
            y=alt.Y("y:Q").axis(None).scale(zero=False, padding=12),
            color=alt.Color("role:N").scale(domain=roles, range=["var(--right)", "var(--wrong)"]).legend(None),
            shape=alt.Shape("role:N").scale(domain=roles, range=["circle", "triangle-up"]).legend(None),
            tooltip=["question:N", "role:N"],
        )
    )
    return _finished(chart, 360)


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
        alt.Chart(_rows(rows))
        .mark_line(strokeWidth=1.5)
        .encode(
            x=alt.X("step:Q").title("step"),
            y=alt.Y("loss:Q").title("loss"),
            color=_colour(look_of),
            tooltip=["method:N", "step:Q", alt.Tooltip("loss:Q", format=".3f")],
        )
    )
    return _finished(chart, 240)


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


def _sigma_edges(certainty: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = floor(10 * certainty.min()) / 10, ceil(10 * certainty.max()) / 10
    return np.linspace(low, high if high > low else low + 0.1, _SIGMA_BINS + 1)


def _mu(ends: tuple[float, float], half: float) -> str:
    return f"{(ends[0] + ends[1]) / 2:.3g}" if half else _span(ends)


def _span(ends: tuple[float, float]) -> str:
    return f"{ends[0]:.2f} to {ends[1]:.2f}"


def _threshold(threshold: float | None) -> list["alt.Chart"]:
    """A line at tau_mu."""
    import altair as alt

    if threshold is None:
        return []
    return [alt.Chart(_rows([{"at": threshold}])).mark_rule(color=_MUTED, strokeDash=[4, 3]).encode(x="at:Q")]


def _colour(look_of: Mapping[str, Look]) -> Any:
    import altair as alt

    scale = alt.Scale(domain=list(look_of), range=[look.colour for look in look_of.values()])
    return alt.Color("method:N", scale=scale, legend=None)


def _shape(look_of: Mapping[str, Look]) -> Any:
    import altair as alt

    scale = alt.Scale(domain=list(look_of), range=[look.shape for look in look_of.values()])
    return alt.Shape("method:N", scale=scale, legend=None)


def _rows(rows: Sequence[Mapping[str, Any]]) -> Any:
    import altair as alt

    return alt.InlineData(values=[dict(row) for row in rows])


def _points(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 3)


def _finished(chart: Any, height: int) -> Spec:
    spec: Spec = chart.properties(width="container", height=height).to_dict()
    del spec["config"]  # the page has one for all
    return spec
