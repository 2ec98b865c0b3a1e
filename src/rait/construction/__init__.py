"""Stage 2: from knowledge state and flow to tuning examples (CRaFT, Algorithm 1).

`strategies` and `peers` say who is a candidate for which role and in what order, `selection` takes the numbers asked
for, `labels` are what is then taught.
"""

import rait.construction.peers  # noqa: F401  registers the methods of others
from rait.construction.labels import Label, Labeller, Reader, Wording, answer_or_refusal, as_it_is
from rait.construction.selection import Selection, construct, examples, summarise
from rait.construction.strategies import (
    Evidence,
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
    "Evidence",
    "Label",
    "Labeller",
    "Plan",
    "Queue",
    "Reader",
    "Selection",
    "Strategy",
    "Wording",
    "all_strategies",
    "answer_or_refusal",
    "as_it_is",
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
