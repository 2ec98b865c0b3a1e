"""Where a tuned model refuses: by what the initial model knew, and next to which training examples.

    cells = refusal_by_band(states, verdicts)          # states of the test questions, probed on the initial model
    found = over_refusal(states, verdicts, 0.5)        # found.over_refusal, found.missed_refusal
    why = why_refused(ids, features, idk_ids, idk_features, 5)

The `over_refusal` of `rait.evaluation.metrics` asks what the initial model had right in one greedy answer; here known
is what it has right in a share mu >= tau of its sampled answers, which is how construction divides the training
questions (CRaFT, arXiv 2410.06913v2, section 4).
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from rait.errors import InputError, some
from rait.models.features import Features, nearest
from rait.records import JUDGED, KnowledgeState, Verdict

CORRECTNESS_EDGES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Numbers of questions by what became of them; those that failed are none of them."""

    correct: int
    wrong: int
    refused: int

    @property
    def n(self) -> int:
        """All of them."""
        return self.correct + self.wrong + self.refused

    def share(self, part: int) -> float | None:
        """Return `part` of the questions as a share in [0, 1]; None where there are none."""
        return part / self.n if self.n else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """The questions of one band of initial correctness (mu) and one of certainty (sigma), and their outcomes.

    A band holds low <= x < high, the last one also x = high.
    """

    mu_low: float
    mu_high: float
    sigma_low: float
    sigma_high: float
    outcomes: Outcomes


@dataclass(frozen=True, slots=True)
class KnownAndUnknown:
    """Outcomes of what the initial model knew (mu >= threshold) and did not know (mu < threshold)."""

    threshold: float
    known: Outcomes
    unknown: Outcomes

    @property
    def over_refusal(self) -> float | None:
        """Share of the known that is refused; None where nothing is known."""
        return self.known.share(self.known.refused)

    @property
    def missed_refusal(self) -> float | None:
        """Share of the unknown that is answered, and wrongly; None where nothing is unknown."""
        return self.unknown.share(self.unknown.wrong)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A training example near a question, and the cosine of the two in [-1, 1]."""

    id: str
    cosine: float


def refusal_by_band(
    states: Sequence[KnowledgeState],
    verdicts: Sequence[Verdict],
    mu_edges: Sequence[float] = CORRECTNESS_EDGES,
    sigma_edges: Sequence[float] | int = 4,
) -> list[Cell]:
    """Count the outcomes of `verdicts` by band of the correctness and certainty of `states`, joined by id.

    The result goes through the bands of correctness, and within each through those of certainty, from the lowest; empty
    cells are there too. `mu_edges` ascend from 0 to 1. `sigma_edges` ascend and enclose every certainty, or are the
    number of bands to make at its quantiles (see `quantile_edges`); no questions have none, and no cell.

    Raises `InputError` where the two do not hold the same questions or hold one twice, `ValueError` for other edges.
    """
    if len(mu_edges) < 2 or mu_edges[0] != 0 or mu_edges[-1] != 1 or any(a >= b for a, b in pairwise(mu_edges)):
        raise ValueError(f"mu_edges must ascend from 0 to 1, found {mu_edges}")
    joined = _join(states, verdicts)
    sigmas = [state.certainty for state, _ in joined]
    edges = quantile_edges(sigmas, sigma_edges) if isinstance(sigma_edges, int) else list(sigma_edges)
    if not isinstance(sigma_edges, int) and (len(edges) < 2 or any(a >= b for a, b in pairwise(edges))):
        raise ValueError(f"sigma_edges must ascend, found {sigma_edges}")
    if sigmas and not edges[0] <= min(sigmas) <= max(sigmas) <= edges[-1]:
        raise ValueError(
            f"sigma_edges must enclose every certainty, {min(sigmas):g} to {max(sigmas):g}, found {sigma_edges}"
        )
    counts = Counter(
        (_band(mu_edges, state.correctness), _band(edges, state.certainty), verdict.outcome)
        for state, verdict in joined
    )
    return [
        Cell(
            mu_low=mu_low,
            mu_high=mu_high,
            sigma_low=sigma_low,
            sigma_high=sigma_high,
            outcomes=Outcomes(*(counts[i, j, outcome] for outcome in JUDGED)),
        )
        for i, (mu_low, mu_high) in enumerate(pairwise(mu_edges))
        for j, (sigma_low, sigma_high) in enumerate(pairwise(edges))
    ]


def quantile_edges(values: Sequence[float], bands: int) -> list[float]:
    """Return edges, which are values themselves, of up to `bands` bands with about as many of `values` each.

    Where a band's share of the values or more equal the highest, that one comes twice: the last band is it alone. No
    values have no edges.
    """
    if bands < 1:
        raise ValueError(f"at least 1 band is needed, found {bands}")
    if not len(values):
        return []
    found = np.quantile(values, np.linspace(0, 1, bands + 1), method="lower").tolist()
    return sorted(set(found)) + ([found[-1]] if found[-2] == found[-1] else [])


def over_refusal(states: Sequence[KnowledgeState], verdicts: Sequence[Verdict], threshold: float) -> KnownAndUnknown:
    """Divide the outcomes of `verdicts` by whether the initial `states` are known from `threshold` (tau_mu) on.

    Raises `InputError` where the two do not hold the same questions or hold one twice.
    """
    joined = _join(states, verdicts)
    known = (verdict for state, verdict in joined if state.correctness >= threshold)
    unknown = (verdict for state, verdict in joined if state.correctness < threshold)
    return KnownAndUnknown(threshold, _outcomes(known), _outcomes(unknown))


def why_refused(
    ids: Sequence[str], features: Features, idk_ids: Sequence[str], idk_features: Features, k: int
) -> dict[str, tuple[Neighbour, ...]]:
    """Return for each refused question the k idk training examples nearest to it, the nearest first.

    Row i of the features (n, hidden) is that of the id i. Ties are broken by id; there are fewer than k where there are
    fewer examples.
    """
    order = sorted(range(len(idk_ids)), key=idk_ids.__getitem__)
    places, cosines = nearest(features, idk_features[order], k)
    return {
        id: tuple(Neighbour(idk_ids[order[place]], cosine) for place, cosine in zip(where, near, strict=True))
        for id, where, near in zip(ids, places.tolist(), cosines.tolist(), strict=True)
    }


def _band(edges: Sequence[float], value: float) -> int:
    return min(bisect_right(edges, value) - 1, len(edges) - 2)


def _outcomes(verdicts: Iterable[Verdict]) -> Outcomes:
    counts = Counter(verdict.outcome for verdict in verdicts)
    return Outcomes(*(counts[outcome] for outcome in JUDGED))


def _join(states: Sequence[KnowledgeState], verdicts: Sequence[Verdict]) -> list[tuple[KnowledgeState, Verdict]]:
    """Pair each state with the verdict on its question."""
    for records, name in ((states, "initial states"), (verdicts, "verdicts")):
        repeated = [id for id, count in Counter(record.id for record in records).items() if count > 1]
        _refuse(repeated, f"stand in the {name} more than once", "keep one of each")
    verdict_of = {verdict.id: verdict for verdict in verdicts}
    known = {state.id for state in states}
    _refuse([id for id in known if id not in verdict_of], "have no verdict", "evaluate the tuned model on all of them")
    _refuse([id for id in verdict_of if id not in known], "have no initial state", "probe the initial model on them")
    return [(state, verdict_of[state.id]) for state in states]


def _refuse(ids: Sequence[str], fault: str, remedy: str) -> None:
    if ids:
        raise InputError(f"{len(ids)} questions {fault} ({some(sorted(ids))}); {remedy}")
