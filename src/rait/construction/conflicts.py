"""Conflicts in a strategy's choice, seen before anything is tuned.

    curve = crss(vanilla, idk, THRESHOLDS)                       # static: features of the questions taken
    pairs = conflicting_pairs(vanilla_ids, vanilla, idk_ids, idk, 20)
    counts = dynamic(flows, 0.5)                                 # dynamic: what rehearsal does to the unknown
    conflict_map("map.png", "craft", project(features, seed), roles, crss(vanilla, idk, [0.97])[0])

Static conflict: questions that the model can hardly tell apart get opposite labels. CRSS, the Conflict Rate for Similar
Samples, is the share of idk samples whose nearest vanilla sample has a cosine above tau_sim (0.97 in the paper). The
features are the last layer's hidden states at the questions' last tokens (`rait.models.features`). Dynamic conflict:
tuning itself raises knowledge of questions that are labelled as unknown. Source: CRaFT, arXiv 2410.06913v2, section 3.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from rait.errors import InputError, some
from rait.models.features import Features, nearest
from rait.records import Decision, KnowledgeFlow, Role

SIMILAR = 0.97
"""The paper's tau_sim."""

THRESHOLDS = (0.8, 0.85, 0.9, 0.92, 0.94, 0.96, SIMILAR, 0.98, 0.99, 0.995)
"""Of the curve over tau_sim."""

_LEAST_FOR_TSNE = 4  # fewer points have no neighbourhoods
_WIDTH_FOR_TSNE = 50  # principal components that t-SNE gets
_PERPLEXITY = 30.0

# Blue and orange differ for every kind of colour vision (Okabe and Ito); the markers differ as well.
_LOOKS: dict[Role, dict[str, Any]] = {
    Role.DROPPED: {"marker": ".", "s": 5, "color": "#bbbbbb", "alpha": 0.5},
    Role.VANILLA: {"marker": "o", "s": 14, "color": "#0072b2", "alpha": 0.6},
    Role.IDK: {"marker": "^", "s": 22, "color": "#d55e00", "alpha": 0.9},
}


@dataclass(frozen=True, slots=True)
class CrssPoint:
    """CRSS at one tau_sim: the share in [0, 1] of `n` idk samples; None, with n = 0, where there is nothing to compare.

    `n` counts the idk samples that have a nearest vanilla sample: all of them, or none.
    """

    threshold: float
    share: float | None
    n: int


@dataclass(frozen=True, slots=True)
class ConflictingPair:
    """Ids of an idk question and of the vanilla question nearest to it, and their cosine in [-1, 1]."""

    idk: str
    vanilla: str
    similarity: float


@dataclass(frozen=True, slots=True)
class Directions:
    """Numbers of questions whose correctness rises, stays and falls in rehearsal."""

    rising: int
    staying: int
    falling: int

    @property
    def n(self) -> int:
        """All of them."""
        return self.rising + self.staying + self.falling

    def share(self, part: int) -> float | None:
        """Return `part` of the questions as a share in [0, 1]; None where there are none."""
        return part / self.n if self.n else None


def crss(vanilla: Features, idk: Features, thresholds: Sequence[float] = THRESHOLDS) -> list[CrssPoint]:
    """Return CRSS at each of `thresholds`, in their order, of the features (n, hidden) of both roles.

    A cosine that is equal to a threshold is not above it. A vector of zeros has cosine 0.
    """
    if not len(vanilla) or not len(idk):
        return [CrssPoint(threshold, None, 0) for threshold in thresholds]
    closest = nearest(idk, vanilla, 1)[1][:, 0]
    return [CrssPoint(tau, int((closest > tau).sum()) / len(idk), len(idk)) for tau in thresholds]


def conflicting_pairs(
    vanilla_ids: Sequence[str], vanilla: Features, idk_ids: Sequence[str], idk: Features, k: int
) -> list[ConflictingPair]:
    """Return the k idk questions most similar to their nearest vanilla question, with it, the most similar first.

    Row i of the features (n, hidden) is that of the id i. An idk question comes once, a vanilla one may come again;
    ties are broken by id. There are fewer than k pairs where there are fewer idk questions, none without vanilla ones.
    """
    if not len(vanilla) or not len(idk):
        return []
    order = sorted(range(len(vanilla_ids)), key=vanilla_ids.__getitem__)
    places, cosines = nearest(idk, vanilla[order], 1)
    pairs = [
        ConflictingPair(id, vanilla_ids[order[place]], cosine)
        for id, place, cosine in zip(idk_ids, places[:, 0].tolist(), cosines[:, 0].tolist(), strict=True)
    ]
    return list(islice(sorted(pairs, key=lambda pair: (-pair.similarity, pair.idk)), k))


def dynamic(flows: Iterable[KnowledgeFlow], threshold: float) -> Directions:
    """Count which unknown questions, those of initial correctness below `threshold` (tau_mu), rise, stay and fall."""
    return _directions(flow for flow in flows if flow.correctness_before < threshold)


def dynamic_by_role(decisions: Iterable[Decision], flows: Iterable[KnowledgeFlow]) -> dict[Role, Directions]:
    """Count which of the questions that a strategy gave each role rise, stay and fall.

    Raises `InputError` where a question that is decided about has no flow.
    """
    flow_of = {flow.id: flow for flow in flows}
    by_role: dict[Role, list[str]] = {role: [] for role in Role}
    for decision in decisions:
        by_role[decision.role].append(decision.id)
    missing = [id for ids in by_role.values() for id in ids if id not in flow_of]
    if missing:
        raise InputError(
            f"{len(missing)} questions that are decided about have no knowledge flow ({some(missing)}); "
            "query the rehearsed model on the same questions"
        )
    return {role: _directions(flow_of[id] for id in ids) for role, ids in by_role.items()}


def project(features: Features, seed: int, method: Literal["tsne", "pca"] = "tsne") -> NDArray[np.float64]:
    """Return a place in the plane for each row of `features` (n, hidden): (n, 2), for a map to look at.

    Rows are scaled to length 1 first, so that near means a high cosine. "tsne" is t-SNE (van der Maaten and Hinton
    2008) of up to 50 principal components, with perplexity 30, or (n - 1) / 3 where that is less; "pca" gives the first
    two principal components, which is also what fewer than 4 points get. The result is the same for the same seed, rows
    and order of rows: give them in the order of the ids. One processor works on it.
    """
    rows = features.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    np.divide(rows, lengths, out=rows, where=lengths > 0)
    if (rows == rows[:1]).all():  # one place, or none: no spread that could be scaled to
        return np.zeros((len(rows), 2))
    if method == "pca" or len(rows) < _LEAST_FOR_TSNE:
        return _components(rows, 2, seed)

    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    tsne = TSNE(init="pca", perplexity=min(_PERPLEXITY, (len(rows) - 1) / 3), random_state=seed)
    with threadpool_limits(1):  # threads would add up in any order, and t-SNE enlarges what rounding that leaves
        found = tsne.fit_transform(_components(rows, _WIDTH_FOR_TSNE, seed))
    return np.asarray(found, dtype=np.float64)


def conflict_map(
    file: str | Path | IO[bytes], strategy: str, points: NDArray[np.float64], roles: Sequence[Role], conflict: CrssPoint
) -> None:
    """Draw the questions at `points` (n, 2) by the role that `strategy` gave them.

    `file` is the path of a .png or .svg, or a file that is open for the bytes of a PNG. Dropped questions, which may be
    left out, are faint. `conflict` is stated in the title.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    counts = Counter(roles)
    figure = Figure(figsize=(7, 6), layout="constrained")  # not pyplot: no display, and nothing stays open
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for role, look in _LOOKS.items():
        mine = [index for index, of in enumerate(roles) if of is role]
        if mine:
            axes.scatter(points[mine, 0], points[mine, 1], label=f"{role} ({len(mine)})", linewidths=0, **look)
    rate = "n/a" if conflict.share is None else f"{conflict.share:.1%}"
    axes.set_title(
        f"{strategy}: {counts[Role.VANILLA]} vanilla, {counts[Role.IDK]} idk, CRSS({conflict.threshold:g}) {rate}"
    )
    axes.set(xticks=[], yticks=[])
    axes.set_aspect("equal", adjustable="datalim")
    if roles:
        axes.legend(loc="best", markerscale=1.5)
    # Neither a date nor names at random in a vector figure: the same map is the same file.
    with rc_context({"svg.hashsalt": "rait"}):
        undated = {"Date": None} if isinstance(file, str | Path) and Path(file).suffix == ".svg" else None
        figure.savefig(file, dpi=150, metadata=undated)


def _directions(flows: Iterable[KnowledgeFlow]) -> Directions:
    counts = Counter(flow.direction for flow in flows)
    return Directions(rising=counts[1], staying=counts[0], falling=counts[-1])


def _components(rows: NDArray[np.float64], count: int, seed: int) -> NDArray[np.float64]:
    """The first principal components, at most `count` of them, or exactly 2 (zeros where there are fewer)."""
    from sklearn.decomposition import PCA

    given = min(count, *rows.shape)
    found = np.zeros((len(rows), max(given, 2)))
    found[:, :given] = PCA(given, random_state=seed).fit_transform(rows)
    return found
