"""The charts of single questions, and of how many of them are where: knowledge, flow, p(refuse), the map of conflicts.

    spec = states(known, samples=10, threshold=0.5, examples=[("q1", 0.3, 0.8)])

As `rait.reporting.charts`, of which they are a part. What is drawn of single questions names its rows (`FLOW`, `MAP`),
which the page makes of the data that it holds once.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from math import ceil, floor
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rait.records import TOLERANCE
from rait.reporting.charts import ACCENT, INK, MUTED, Spec, finished, inline

if TYPE_CHECKING:
    import altair as alt

FLOW, MAP = "flow", "map"
"""Names of the rows that the page fills in: id, question, mu, d_mu, x, y; and id, question, role, x, y."""

MOST_POINTS = 4000
"""More single questions than these are not drawn, but sampled."""

EXAMPLES = 3
"""Questions that a mark which stands for many names."""

Placed = Sequence[tuple[str, float, float]]
"""Questions as examples: id and two numbers of each, in the order in which they are taken."""

_SIGMA_BINS = 20
_CHANCE_BINS = 20


def states(known: NDArray[np.float64], samples: int | None, threshold: float | None, examples: Placed = ()) -> Spec:
    """How many questions have which correctness and certainty; `known` (questions, 2) holds both, as do `examples`.

    A bin of correctness is around one of the shares k / `samples` that can occur; None is for any value in [0, 1].
    """
    import altair as alt

    half = 0.5 / samples if samples else 0.0
    mu_edges = np.linspace(-half, 1 + half, samples + 2) if samples else np.linspace(0, 1, _SIGMA_BINS + 1)
    edges = mu_edges, _sigma_edges(known[:, 1])
    counts = Counter(zip(*(_bins(known[:, axis], edges[axis]) for axis in (0, 1)), strict=True))
    ids = _named(examples, edges)
    rows = [
        {"m0": m[0], "m1": m[1], "s0": s[0], "s1": s[1], "n": counts[i, j], "mu": _mu(m, half), "sigma": _span(s)}
        | {"ids": ids.get((i, j), [])}
        for i, m in enumerate(pairwise(np.round(edges[0], 4).tolist()))
        for j, s in enumerate(pairwise(np.round(edges[1], 4).tolist()))
        if counts[i, j]
    ]
    cells = (
        alt.Chart(inline(rows))
        .mark_rect()
        .encode(
            x=alt.X("m0:Q").title("correctness (mu)").scale(domain=[-half, 1 + half], nice=False),
            x2="m1:Q",
            y=alt.Y("s0:Q").title("certainty (sigma)").scale(domain=[edges[1][0], edges[1][-1]], nice=False),
            y2="s1:Q",
            color=alt.value(ACCENT),
            opacity=alt.Opacity("n:Q").scale(type="sqrt", range=[0.06, 1]).legend(None),
            tooltip=[alt.Tooltip("n:Q", title="questions"), alt.Tooltip("mu:N"), alt.Tooltip("sigma:N")],
        )
    )
    # Between the shares that are known and those that are not, so that it cuts no bin.
    cut = ceil(threshold * samples - TOLERANCE) / samples - half if threshold is not None and samples else threshold
    return finished(alt.layer(cells, *_threshold(cut)), 320)


def flow(
    before: NDArray[np.float64], change: NDArray[np.float64], threshold: float | None, examples: Placed = ()
) -> Spec:
    """Change of correctness in rehearsal over correctness before: points of the page's, and means by band of mu.

    `examples` have both numbers.
    """
    import altair as alt

    edges = np.linspace(0, 1, 11), np.array([-1.0, 1.0])
    bands, ids = _bins(before + TOLERANCE, edges[0]), _named([(id, mu + TOLERANCE, d) for id, mu, d in examples], edges)
    means = [
        {"mu": float(before[bands == band].mean()), "d_mu": float(change[bands == band].mean()), "n": int(n)}
        | {"ids": ids.get((band, 0), [])}
        for band in range(10)
        if (n := (bands == band).sum())
    ]
    across = alt.X("x:Q").title("correctness before rehearsal (mu)").scale(domain=[-0.04, 1.04], nice=False)
    up = alt.Y("y:Q").title("change (d_mu)").scale(domain=[-1.05, 1.05], nice=False)
    tips = ["question:N", alt.Tooltip("mu:Q", format=".2f"), alt.Tooltip("d_mu:Q", format="+.2f")]
    points = alt.Chart(alt.NamedData(name=FLOW)).mark_point(filled=True, size=16, opacity=0.35, color=ACCENT)
    zero = alt.Chart(inline([{"y": 0}])).mark_rule(color=MUTED, strokeDash=[2, 3]).encode(y="y:Q")
    mean = alt.Chart(inline(means)).encode(x="mu:Q", y="d_mu:Q")
    tips_of_mean = [
        alt.Tooltip("mu:Q", format=".2f", title="mean mu"),
        alt.Tooltip("d_mu:Q", format="+.3f", title="mean d_mu"),
        alt.Tooltip("n:Q", title="questions"),
    ]
    return finished(
        alt.layer(
            points.encode(x=across, y=up, tooltip=tips),
            zero,
            mean.mark_line(color=INK, strokeWidth=2),
            mean.mark_point(color=INK, filled=True, size=60, opacity=1).encode(tooltip=tips_of_mean),
            *_threshold(threshold),
        ),
        320,
    )


def chances(answers: Sequence[tuple[str, float, str]], threshold: float) -> Spec:
    """How many questions have which p(refuse), by what the answer without refusing is worth.

    `answers` have id, p(refuse) in [0, 1], and "right", "wrong", or "refused" where the model refuses even so.
    """
    import altair as alt

    edges = np.linspace(0, 1, _CHANCE_BINS + 1)
    bins = _bins(np.array([chance for _, chance, _ in answers]), edges)
    kinds = ["right", "wrong", "refused"]
    found: dict[tuple[int, str], list[str]] = {}
    for (id, _, kind), place in zip(answers, bins.tolist(), strict=True):
        found.setdefault((place, kind), []).append(id)
    rows = [
        {"c0": c[0], "c1": c[1], "answer": kind, "order": order, "n": len(ids), "p(refuse)": _span(c)}
        | {"ids": ids[:EXAMPLES]}
        for place, c in enumerate(pairwise(np.round(edges, 4).tolist()))
        for order, kind in enumerate(kinds)
        if (ids := found.get((place, kind), []))
    ]
    bars = (
        alt.Chart(inline(rows))
        .mark_bar(binSpacing=1)
        .encode(
            x=alt.X("c0:Q").bin("binned").title("p(refuse)").scale(domain=[0, 1]),
            x2="c1:Q",
            y=alt.Y("n:Q").title("questions").stack(True),
            color=alt.Color("answer:N").scale(domain=kinds, range=[f"var(--{kind})" for kind in kinds]).legend(None),
            order="order:Q",
            tooltip=[
                alt.Tooltip("n:Q", title="questions"),
                alt.Tooltip("p(refuse):N"),
                alt.Tooltip("answer:N", title="answer if it may not refuse"),
            ],
        )
    )
    return finished(alt.layer(bars, *_threshold(threshold if threshold <= 1 else None)), 150)


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
    return finished(chart, 360)


def _sigma_edges(certainty: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = floor(10 * certainty.min()) / 10, ceil(10 * certainty.max()) / 10
    return np.linspace(low, high if high > low else low + 0.1, _SIGMA_BINS + 1)


def _bins(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bin of each value, from 0: its lower edge belongs to it, of the last one the upper, too."""
    return np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)


def _named(
    examples: Placed, edges: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> dict[tuple[int, int], list[str]]:
    """The first ids of every bin that has any."""
    found: dict[tuple[int, int], list[str]] = {}
    values = np.array([example[1:] for example in examples], dtype=np.float64).reshape(-1, 2)
    for example, *place in zip(
        examples, *(_bins(values[:, axis], edges[axis]).tolist() for axis in (0, 1)), strict=True
    ):
        found.setdefault((place[0], place[1]), []).append(example[0])
    return {place: ids[:EXAMPLES] for place, ids in found.items()}


def _mu(ends: tuple[float, float], half: float) -> str:
    return f"{(ends[0] + ends[1]) / 2:.3g}" if half else _span(ends)


def _span(ends: tuple[float, float]) -> str:
    return f"{ends[0]:.2f} to {ends[1]:.2f}"


def _threshold(threshold: float | None) -> list["alt.Chart"]:
    """A line at tau_mu."""
    import altair as alt

    if threshold is None:
        return []
    return [alt.Chart(inline([{"at": threshold}])).mark_rule(color=MUTED, strokeDash=[4, 3]).encode(x="at:Q")]
