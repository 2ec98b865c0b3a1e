"""Bootstrap intervals of numbers that are computed from counts of questions in cells.

    draws = resample(counts, rng, 2000)                  # (2000, *counts.shape)
    low, high = percentile_interval(statistic(draws))

Drawing n questions with replacement and counting them by cell is one multinomial draw over the cells. So the counts are
drawn directly: the distribution is exactly that of the bootstrap over questions (Efron 1979), at a cost that does not
depend on the number of questions. For a number that compares two models the cells are the pairs (before, after), which
makes the bootstrap a paired one. One draw for each category, of its own questions alone, is the bootstrap within
categories (stratified): what is computed from the categories' draws together varies as it does over test sets that hold
as many questions of each category.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Values = NDArray[np.float64]

CONFIDENCE = 0.95


def resample(counts: Counts, rng: np.random.Generator, resamples: int) -> Counts:
    """Return bootstrap tables of as many questions as `counts` holds, of shape (resamples, *counts.shape)."""
    draws = np.zeros((resamples, counts.size), dtype=np.int64)
    # Empty cells stay out, so that the last cell, which takes what the rounding of shares leaves, is never one of them.
    filled = np.flatnonzero(counts)
    if filled.size:
        total = counts.sum()
        draws[:, filled] = rng.multinomial(total, counts.flat[filled] / total, size=resamples)
    return draws.reshape(resamples, *counts.shape)


def percentile_interval(values: Values) -> tuple[float | None, float | None]:
    """Return the ends of the 95 % percentile interval of bootstrap `values`, NaN where the number is undefined.

    An undefined resample could stand for any value, so it counts as below all others for the low end and as above all
    others for the high end: it can only widen the interval. Where 2.5 % of the resamples or more are undefined there is
    no interval, and both ends are None. Ends are values of resamples, without interpolation. A share of 0 or 1 gets an
    interval without width: the bootstrap cannot know of outcomes that the sample does not hold.
    """
    tail = (1 - CONFIDENCE) / 2
    unknown = np.isnan(values)
    low = np.quantile(np.where(unknown, -np.inf, values), tail, method="lower")
    high = np.quantile(np.where(unknown, np.inf, values), 1 - tail, method="higher")
    if np.isinf(low) or np.isinf(high):
        return None, None
    return float(low), float(high)


def divide(part: NDArray[Any], whole: NDArray[Any]) -> Values:
    """Return part / whole, NaN where `whole` is 0."""
    ratio: Values = np.full(np.shape(part), np.nan)
    np.divide(part, whole, out=ratio, where=np.asarray(whole) != 0)
    return ratio
