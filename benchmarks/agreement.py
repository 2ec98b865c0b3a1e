"""Do two samplers answer alike? Exact tests on how many of the answers to each question are correct.

    result = agreement([(6, 10), (0, 10)], [(57, 100), (1, 100)])        # (correct, drawn) of each question

Given how many of all answers to a question are correct, whoever drew them, the number among one sampler's is
hypergeometric if both draw from the same distribution, whatever that is. So nothing is estimated, and a question that
is always or never answered correctly takes no part. Two numbers are tested: the sum over the questions, which finds a
sampler that is better or worse, and the sum of squared standardised deviations, which finds one that answers some
questions better and others worse. Their p-values come from draws of the hypergeometric distribution itself.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_DRAWS = 20_000


class Agreement(NamedTuple):
    """Mean correctness of both, in [0, 1], and two p-values: of the total, and over the questions."""

    correct: float
    reference: float
    p_total: float
    p_questions: float


def agreement(counts: Sequence[tuple[int, int]], reference: Sequence[tuple[int, int]]) -> Agreement:
    """Compare (correct, drawn) of each question with those of a reference, in the same order of questions."""
    good, drawn = np.array(counts, dtype=np.int64).T
    other_good, other_drawn = np.array(reference, dtype=np.int64).T
    all_good, all_drawn = good + other_good, drawn + other_drawn
    share = all_good / all_drawn
    expected = drawn * share
    variance = drawn * share * (1 - share) * other_drawn / np.maximum(all_drawn - 1, 1)
    open_ = variance > 0
    rng = np.random.default_rng(0)
    simulated = rng.hypergeometric(all_good, all_drawn - all_good, drawn, size=(_DRAWS, len(drawn)))

    def p_value(statistic: float, under_null: np.ndarray) -> float:
        # The margin keeps ties together that rounding would part.
        return float((1 + (under_null >= statistic - 1e-9).sum()) / (1 + _DRAWS))

    total = abs(float((good - expected).sum()))
    squares = float((((good - expected) ** 2)[open_] / variance[open_]).sum())
    return Agreement(
        correct=float((good / drawn).mean()),
        reference=float((other_good / other_drawn).mean()),
        p_total=p_value(total, np.abs((simulated - expected).sum(axis=1))),
        p_questions=p_value(squares, (((simulated - expected) ** 2)[:, open_] / variance[open_]).sum(axis=1)),
    )
