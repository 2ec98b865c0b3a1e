"""Stage 2: from knowledge state and flow to tuning examples (CRaFT, Algorithm 1).

`strategies` says who is a candidate for which role and in what order, `selection` takes the numbers asked for.
"""

from rait.construction.selection import Selection, construct, examples, summarise
from rait.construction.strategies import (
    Plan,
    Queue,
    Strategy,
    all_strategies,
    drawn,
    find_strategy,
    least_certain,
    most_certain,
    split_by_correctness,
    split_by_flow,
    strategy,
)
from rait.recipe import Construction

__all__ = [
    "Construction",
    "Plan",
    "Queue",
    "Selection",
    "Strategy",
    "all_strategies",
    "construct",
    "drawn",
    "examples",
    "find_strategy",
    "least_certain",
    "most_certain",
    "split_by_correctness",
    "split_by_flow",
    "strategy",
    "summarise",
]
