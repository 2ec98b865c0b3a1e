"""Strategies x seeds on one test set: means with 95 % intervals, and which differences are within noise.

    found = compare({"craft": {0: verdicts, 1: ...}, "cor_rait": {...}}, baseline, against="cor_rait")
    found.scores["craft"]["THS"].mean                    # over seeds, a fraction, or None where undefined
    found.differences["craft"]["THS"].within_noise       # True: the interval of craft - cor_rait holds 0

Pure arithmetic on verdicts; the metrics are those of `rait.evaluation.metrics`, over all questions. The mean over the
seeds that were run estimates the mean over all seeds and all questions of the kind. With S seeds, n questions, and
variances q of a question's effect, s of a seed's and e of what a seed does to one question, its variance is

    q / n  +  (s + e / n) / S

The second term is measured by how the seeds differ: the standard deviation of their values / sqrt(S). S is small, so
its uncertainty follows Student's t with S - 1 degrees of freedom. The first is the bootstrap over the questions (Efron
1979), the same drawn questions for all runs and the baseline, shrunk by the share of its variance that is e / (n S) and
stands in the second already; e / n is the variance of how a resample moves the seeds apart. An interval is the 95 %
percentile interval of the sum of both, ended where a share ends. To resample the seeds as well (the two-way bootstrap:
Owen 2007, "The pigeonhole bootstrap") does not serve here: it has the second term too small by (S - 1) / S and no t,
so that intervals are too short where seeds differ, and counts e / (n S) three times, so that they are too long where
they do not, most of all for differences. Simulated with 3 to 10 seeds and 400 questions, 93 to 98 % of the intervals
of P_r, of THS and of all differences hold the truth; of over-refusal, small and carried by few questions, 87 to 94 %.

What is run once (an untuned model, a single seed) shows no variation over seeds: its interval is over questions alone.

Many comparisons are made and the intervals are not corrected for that: of 20 differences that are all 0 about one is
expected outside the noise.
"""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rait.errors import InputError, check_failed
from rait.evaluation.metrics import RESAMPLES, failures, missed_refusal, outcomes_before, over_refusal, ths
from rait.intervals import Counts, Values, divide, percentile_interval
from rait.records import JUDGED, MAX_FAILED, Verdict

Seed = int | None
Runs = Mapping[str, Mapping[Seed, Sequence[Verdict]]]

_PLACES = {outcome: place for place, outcome in enumerate(JUDGED)}
_CELLS = len(JUDGED) ** 2
_DRAWN_AT_ONCE = 2**21  # questions; bounds the memory
_STRATA = 100


@dataclass(frozen=True, slots=True)
class Score:
    """The mean of a metric over seeds, the ends of its 95 % interval, and what it is made of; None is undefined.

    `sd` is the standard deviation over seeds (S - 1 in the denominator), None for one seed. The mean is undefined where
    the value of a seed is: a mean over the others would be of other runs than its neighbours.
    """

    mean: float | None
    low: float | None
    high: float | None
    sd: float | None
    values: dict[Seed, float | None]


@dataclass(frozen=True, slots=True)
class Difference:
    """A strategy's mean minus that of another, with the ends of its 95 % interval.

    `within_noise` says whether the interval holds 0; None where there is no interval.
    """

    mean: float | None
    low: float | None
    high: float | None
    within_noise: bool | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What `compare` finds on a test set of so many `questions`, beside those that `failed` and are left out.

    `scores[strategy][metric]` stand in the order of the strategies given; `differences[strategy][metric]`, to the
    strategy `against`, for all but that one.
    """

    questions: int
    failed: int
    against: str
    scores: dict[str, dict[str, Score]]
    differences: dict[str, dict[str, Difference]]
    seed: int
    resamples: int


def compare(
    verdicts: Runs,
    baseline: Sequence[Verdict],
    against: str,
    seed: int = 0,
    resamples: int = RESAMPLES,
    max_failed: float = MAX_FAILED,
) -> Comparison:
    """Score `verdicts[strategy][seed]` on one test set and subtract the strategy `against` from the others.

    `baseline` are the initial model's verdicts on the same questions. What has no seeds is given as one run, of any
    seed or None. Differences are paired by question, and by seed where both strategies have the same seeds. Where they
    have several other seeds each, the seeds count as independent; a single run counts as the same for every seed.

    Neither the order of verdicts nor which other strategies there are changes a number. Raises InputError naming
    strategy, seed and ids where a run holds other questions than the baseline, for an unknown `against`, and where more
    than the share `max_failed` of the questions failed. A question that failed in one run is left out of all.
    """
    _check(verdicts, baseline, against)
    failed = failures(
        [v for part in (baseline, *(r for runs in verdicts.values() for r in runs.values())) for v in part]
    )
    check_failed(failed, len(baseline), max_failed)
    if len(failed) == len(baseline):
        raise InputError("every question failed; there is nothing to compare")
    seeds = {strategy: sorted(runs, key=_order) for strategy, runs in verdicts.items()}
    cells = [
        _cells(verdicts[strategy][each], baseline, strategy, each, failed)
        for strategy in verdicts
        for each in seeds[strategy]
    ]
    counts = _resample(np.stack(cells), _generator(seed, "questions"), resamples)

    samples: dict[str, dict[str, _Sample]] = {}
    first = 0
    for strategy, its_seeds in seeds.items():
        of_strategy = counts[:, first : first + len(its_seeds)]
        first += len(its_seeds)
        t = _student(len(its_seeds), _generator(seed, ("seeds", its_seeds)), resamples)
        samples[strategy] = {name: _Sample(metric(of_strategy), t) for name, metric in _METRICS.items()}

    return Comparison(
        questions=len(baseline) - len(failed),
        failed=len(failed),
        against=against,
        scores={
            strategy: {name: _score(name, sample, seeds[strategy]) for name, sample in found.items()}
            for strategy, found in samples.items()
        },
        differences={
            strategy: {
                name: _difference(name, sample, samples[against][name], seeds[strategy] == seeds[against])
                for name, sample in found.items()
            }
            for strategy, found in samples.items()
            if strategy != against
        },
        seed=seed,
        resamples=resamples,
    )


def _check(verdicts: Runs, baseline: Sequence[Verdict], against: str) -> None:
    if against not in verdicts:
        raise InputError(
            f"there is no strategy {against!r} to compare against; known are {', '.join(verdicts) or 'none'}"
        )
    if without := [strategy for strategy, runs in verdicts.items() if not runs]:
        raise InputError(f"there are no verdicts of {', '.join(without)}; give at least one run of every strategy")
    if not baseline:
        raise InputError("the baseline holds no verdicts; there is nothing to compare")


def _order(seed: Seed) -> tuple[bool, int]:
    return seed is not None, seed or 0


# Counting. A cell is a pair of outcomes (before, after), as a number below 9.


def _cells(
    verdicts: Sequence[Verdict], baseline: Sequence[Verdict], strategy: str, seed: Seed, failed: Collection[str]
) -> NDArray[np.int8]:
    """Return the cell of each question of a run but those that `failed`, (questions,), in the order of their ids."""
    try:
        before = outcomes_before(verdicts, baseline)
    except InputError as error:
        run = strategy if seed is None else f"{strategy}, seed {seed}"
        raise InputError(f"{run}: {error}") from error
    judged = sorted((verdict for verdict in verdicts if verdict.id not in failed), key=lambda verdict: verdict.id)
    pairs = [(before[verdict.id], verdict.outcome) for verdict in judged]
    return np.array([_PLACES[old] * len(JUDGED) + _PLACES[new] for old, new in pairs], dtype=np.int8)


def _resample(cells: NDArray[np.int8], rng: np.random.Generator, resamples: int) -> Counts:
    """Return the tables of the runs' cells (runs, n) and of bootstrap samples: (1 + resamples, runs, before, after).

    A resample is a weight for each question, the same in all runs; counting is a product of matrices.
    """
    runs, n = cells.shape
    # Single precision is exact: no count exceeds 2^24.
    is_cell = (cells.T[:, :, None] == np.arange(_CELLS)).reshape(n, -1).astype(np.float32)
    tables = [is_cell.sum(0, dtype=np.int64)[None]]
    at_once = max(1, _DRAWN_AT_ONCE // n)
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        drawn = rng.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n).astype(np.float32)
        tables.append((weights @ is_cell).astype(np.int64))
    return np.concatenate(tables).reshape(1 + resamples, runs, len(JUDGED), len(JUDGED))


def _generator(seed: int, purpose: object) -> np.random.Generator:
    digest = hashlib.sha256(repr((seed, "compare", purpose)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


def _share_of(outcome: int) -> Callable[[Counts], Values]:
    return lambda joint: divide(joint[..., outcome].sum(-1), joint.sum((-2, -1)))


def _accuracy_on_answered(joint: Counts) -> Values:
    return divide(joint[..., 0].sum(-1), joint[..., :2].sum((-2, -1)))


# Each takes tables (..., before, after) and gives values (...), NaN where undefined.
_METRICS: Mapping[str, Callable[[Counts], Values]] = {
    "P_c": _share_of(0),
    "P_w": _share_of(1),
    "P_r": _share_of(2),
    "accuracy_on_answered": _accuracy_on_answered,
    "over_refusal": lambda joint: over_refusal(joint)[0],
    "missed_refusal": lambda joint: missed_refusal(joint)[0],
    "THS": lambda joint: ths(joint)[0],
}
METRICS = tuple(_METRICS)


# Intervals.


class _Sample(NamedTuple):
    """A metric's values (1 + resamples, seeds), those of the verdicts first, and deviates (resamples,) for its seeds.

    The deviates are Student's t for as many seeds, 0 for one.
    """

    values: Values
    t: Values


def _student(seeds: int, rng: np.random.Generator, resamples: int) -> Values:
    """Draw from Student's t, seeds - 1 degrees of freedom: one from each of `resamples` strata of equal probability.

    The tails are long for few seeds; a plain draw would leave them to chance.
    """
    if seeds == 1:
        return np.zeros(resamples)
    draws = np.sort(rng.standard_t(seeds - 1, size=resamples * _STRATA)).reshape(resamples, _STRATA)
    return rng.permutation(draws[:, _STRATA // 2])


def _score(name: str, sample: _Sample, seeds: Sequence[Seed]) -> Score:
    of_seeds = sample.values[0]
    mean = _number(of_seeds.mean())
    low, high = _interval([sample], *_bounds(name))
    return Score(
        mean=mean,
        low=low,
        high=high,
        sd=None if mean is None or len(seeds) == 1 else float(of_seeds.std(ddof=1)),
        values={seed: _number(value) for seed, value in zip(seeds, of_seeds, strict=True)},
    )


def _difference(name: str, mine: _Sample, other: _Sample, same_seeds: bool) -> Difference:
    if same_seeds or 1 in (mine.values.shape[1], other.values.shape[1]):
        # One run stands beside every seed; its own deviates are 0.
        parts = [_Sample(mine.values - other.values, mine.t if same_seeds else mine.t + other.t)]
    else:
        parts = [mine, _Sample(-other.values, other.t)]
    lowest, highest = _bounds(name)
    low, high = _interval(parts, lowest - highest, highest - lowest)
    return Difference(
        mean=_number(np.sum([part.values[0].mean() for part in parts])),
        low=low,
        high=high,
        within_noise=None if low is None or high is None else low <= 0 <= high,
    )


def _interval(parts: Sequence[_Sample], lowest: float, highest: float) -> tuple[float | None, float | None]:
    """Return the ends of the 95 % interval of the sum of the parts' means over seeds; parts have independent seeds."""
    means = np.sum([part.values.mean(1) for part in parts], axis=0)
    value, resampled = means[0], means[1:]
    known = ~np.isnan(resampled)
    if np.isnan(value) or not known.any():
        return None, None
    variance = resampled[known].var()
    twice = sum(_apart(part.values, known) / part.values.shape[1] for part in parts)
    shrink = np.sqrt(max(0.0, 1 - twice / variance)) if variance > 0 else 1.0
    by_seeds = np.sum([part.t * _standard_error(part.values[0]) for part in parts], axis=0)
    return percentile_interval(np.clip(value + shrink * (resampled - value) + by_seeds, lowest, highest))


def _apart(values: Values, known: NDArray[np.bool_]) -> float:
    """Return e / n: the variance of how a resample of questions moves the seeds apart, 0 for one seed."""
    seeds = values.shape[1]
    if seeds == 1:
        return 0.0
    around = values - values.mean(1, keepdims=True)
    moved = around[1:][known] - around[0]
    return float((moved**2).sum(1).mean() / (seeds - 1))


def _standard_error(of_seeds: Values) -> float:
    return 0.0 if of_seeds.size == 1 else float(of_seeds.std(ddof=1) / np.sqrt(of_seeds.size))


def _bounds(name: str) -> tuple[float, float]:
    return (-inf if name == "THS" else 0.0), 1.0


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
