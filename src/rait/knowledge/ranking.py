"""How well certainty tells right answers from wrong ones: AUROC and AURC, with bootstrap intervals over questions.

    auroc([0.9, 0.7, 0.7, 0.1], [True, True, False, False])         # 0.875
    found = rank(scores, right, seed=0)                             # both, with 95 % intervals

AUROC is the probability that a question that is answered right has the higher certainty of a right and a wrong one
(Hanley & McNeil 1982). AURC is the area under the risk-coverage curve (Geifman & El-Yaniv 2017; El-Yaniv & Wiener
2010): questions are taken from the most certain on, and the share of wrong ones among the first k is averaged over all
k. It is low where what is wrong comes last, also depends on how much is wrong, and so is to be read between that of a
perfect and that of a random order. Equal certainties stand in no order: they count half in AUROC, and in AURC the mean
over all their orders is taken. Both depend on the questions alone, not on the order in which these are given.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rait.intervals import divide, percentile_interval
from rait.records import KnowledgeState

Floats = NDArray[np.float64]

RESAMPLES = 2000
_TOGETHER = 1 << 19  # numbers drawn at a time; 4 MB


@dataclass(frozen=True, slots=True)
class Interval:
    """A number and the ends of its 95 % interval; None is undefined."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Ranking:
    """How well `n` questions are ordered: AUROC in [0, 1], 0.5 by chance, and AURC in [0, 1], lower is better.

    `perfect` and `random` are the AURC of an order that puts everything right first, and of a random order.
    """

    n: int
    auroc: Interval
    aurc: Interval
    perfect: float | None
    random: float | None


def auroc(scores: ArrayLike, right: ArrayLike) -> float | None:
    """The area under the ROC curve of n `scores`, higher is more certain, for n truth values; ties count half.

    None where nothing is right or nothing is wrong. Raises `ValueError` for lengths that differ and for NaN.
    """
    place, values = _places(scores, right)
    yes = np.bincount(place, weights=values != 0)[None]
    no = np.bincount(place, weights=values == 0)[None]
    return _number(_auroc(yes, no)[0])


def aurc(scores: ArrayLike, risk: ArrayLike) -> float | None:
    """The area under the risk-coverage curve of n `scores`, higher is more certain, and risks; the lower the better.

    It lies between the least and the greatest risk. None for no questions. Raises `ValueError` for lengths that differ
    and for NaN.
    """
    place, risks = _places(scores, risk)
    return _number(_aurc(np.bincount(place)[None], np.bincount(place, weights=risks)[None])[0])


def rank(scores: ArrayLike, right: ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES) -> Ranking:
    """AUROC, and AURC with risk 1 for a wrong answer and 0 for a right one, with intervals.

    Intervals are percentiles of `resamples` bootstrap draws of n questions, which `seed` and the questions determine,
    in whatever order they are given; an end is None where 2.5 % of the draws or more are undefined.
    """
    place, values = _places(scores, right)
    wrong = (values == 0).astype(np.float64)
    n = len(place)
    rng = np.random.default_rng(seed)
    # Sorted: a draw depends on which questions there are, not on their order. Cells are (score, right or wrong).
    cells = np.sort(2 * place + (values == 0))
    width = 2 * (int(place.max()) + 1) if n else 0
    drawn: list[tuple[Floats, Floats]] = []
    for size in _sizes(resamples, max(1, n)) if n else ():
        picked = cells[rng.integers(n, size=(size, n))] + width * np.arange(size)[:, None]
        counts = np.bincount(picked.ravel(), minlength=width * size).reshape(size, -1, 2)
        yes, no = counts[..., 0], counts[..., 1]
        drawn.append((_auroc(yes, no), _aurc(yes + no, no)))
    return Ranking(
        n=n,
        auroc=_interval(auroc(scores, right), [areas for areas, _ in drawn]),
        aurc=_interval(aurc(scores, wrong), [areas for _, areas in drawn]),
        perfect=aurc(-wrong, wrong),
        random=_number(wrong.mean()) if n else None,
    )


def right_of(state: KnowledgeState) -> tuple[bool, str]:
    """Whether the model answers right, and by what that was told, the first there is of:

    - "greedy": the answer of greedy decoding, which is independent of the samples;
    - "option": the likeliest option is the right one, the first of equally likely ones;
    - "correctness": at least 0.5.
    """
    if state.greedy_correct is not None:
        return state.greedy_correct, "greedy"
    if state.probabilities and state.target is not None:
        return state.probabilities.index(max(state.probabilities)) == state.target, "option"
    return state.correctness >= 0.5, "correctness"


def _places(scores: ArrayLike, values: ArrayLike) -> tuple[NDArray[np.int64], Floats]:
    """The place of each score among the distinct ones, from the lowest, and the values as numbers."""
    numbers = np.asarray(scores, dtype=np.float64)
    beside = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or numbers.shape != beside.shape:
        raise ValueError(f"expected a score and a value for each question, found {numbers.shape} and {beside.shape}")
    if np.isnan(numbers).any() or np.isnan(beside).any():
        raise ValueError("a score or a value is NaN; leave out questions that have none")
    return np.unique(numbers, return_inverse=True)[1].astype(np.int64), beside


def _auroc(yes: NDArray[Any], no: NDArray[Any]) -> Floats:
    """AUROC of each row of tables (rows, distinct scores from the lowest) with the numbers of right and wrong."""
    below = np.cumsum(no, axis=1) - no
    won = (yes * (below + no / 2)).sum(axis=1)
    pairs = yes.sum(axis=1) * no.sum(axis=1)
    return divide(won, pairs)


def _aurc(counts: NDArray[Any], risks: NDArray[Any]) -> Floats:
    """AURC of each row of tables (rows, distinct scores from the lowest) with numbers of questions and sums of risk.

    Of m equal scores after s higher ones with risks that add up to R, the first j add j g on average, g their mean
    risk; the sum over j of (R + j g) / (s + j) is m g + (R - s g) (1 / (s + 1) + ... + 1 / (s + m)).
    """
    counts, risks = counts[:, ::-1].astype(np.int64), risks[:, ::-1]
    before = np.cumsum(counts, axis=1) - counts
    mean = np.nan_to_num(divide(risks, counts))
    total = counts.sum(axis=1)
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, total.max(initial=0) + 1))])
    taken = np.cumsum(risks, axis=1) - risks - before * mean
    areas = risks + taken * (harmonic[before + counts] - harmonic[before])
    return divide(areas.sum(axis=1), total)


def _sizes(resamples: int, n: int) -> list[int]:
    """How many draws of n questions are made at a time."""
    size = max(1, min(resamples, _TOGETHER // n))
    return [min(size, resamples - start) for start in range(0, resamples, size)]


def _interval(value: float | None, drawn: Sequence[Floats]) -> Interval:
    """The percentile interval of the draws; none for a number that is undefined."""
    low, high = percentile_interval(np.concatenate(drawn)) if drawn else (None, None)
    return Interval(value, None, None) if value is None else Interval(value, low, high)


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
