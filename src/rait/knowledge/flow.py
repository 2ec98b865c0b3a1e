"""Knowledge flow: how rehearsal changed what the model knows about each question (CRaFT, section 3.2).

    changes = flows(initial, rehearsed)
    for band in by_band(changes):
        print(band.low, band.high, band.count, band.share(band.rising))

d_mu and d_sigma are the rehearsed state minus the initial one. (The formula printed in the paper mixes correctness and
certainty: a misprint.) Questions that the model fails while its knowledge of them rises are the dynamic conflict: of
LLaMA3-8B's questions with mu < 0.5 on MMLU, 69 % rise.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rait.errors import InputError, some
from rait.records import KnowledgeFlow, KnowledgeState


def flows(initial: Iterable[KnowledgeState], rehearsed: Iterable[KnowledgeState]) -> list[KnowledgeFlow]:
    """Join the states of the two models by question id, in the order of `initial`.

    Each is gone through once, and of its states the numbers alone are kept. Raises `InputError` where a question is
    missing on either side or stands there twice.
    """
    before, repeated_before = _numbers(initial)
    after, repeated_after = _numbers(rehearsed)
    for repeated, which in ((repeated_before, "initial"), (repeated_after, "rehearsed")):
        _refuse(repeated, f"stand in the {which} states more than once", "keep one of each")
    remedy = "query both models on the same questions"
    _refuse([id for id in before if id not in after], "have no rehearsed state", remedy)
    _refuse([id for id in after if id not in before], "have no initial state", remedy)
    return [
        KnowledgeFlow(
            id=id,
            correctness_before=correctness,
            correctness_after=after[id][0],
            certainty_before=certainty,
            certainty_after=after[id][1],
        )
        for id, (correctness, certainty) in before.items()
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowBand:
    """How many questions with an initial correctness from `low` to `high` rise, stay and fall in correctness."""

    low: float
    high: float
    rising: int
    staying: int
    falling: int

    @property
    def count(self) -> int:
        """The number of questions in the band."""
        return self.rising + self.staying + self.falling

    def share(self, part: int) -> float | None:
        """Return `part` of the band's questions as a share in [0, 1]; None where the band is empty."""
        return part / self.count if self.count else None


def by_band(changes: Sequence[KnowledgeFlow], edges: Sequence[float] = (0.0, 0.5, 1.0)) -> list[FlowBand]:
    """Count rising, staying and falling questions by band of initial correctness.

    `edges` ascend from 0 to 1; a band holds low <= mu < high, the last one also mu = 1. By default the bands are the
    unknown and the known of the paper's threshold 0.5. Raises `ValueError` for other edges.
    """
    if len(edges) < 2 or edges[0] != 0 or edges[-1] != 1 or any(low >= high for low, high in pairwise(edges)):
        raise ValueError(f"edges must ascend from 0 to 1, found {edges}")
    counts = Counter(
        (min(bisect_right(edges, change.correctness_before) - 1, len(edges) - 2), change.direction)
        for change in changes
    )
    return [
        FlowBand(low=low, high=high, rising=counts[i, 1], staying=counts[i, 0], falling=counts[i, -1])
        for i, (low, high) in enumerate(pairwise(edges))
    ]


def _numbers(states: Iterable[KnowledgeState]) -> tuple[dict[str, tuple[float, float]], list[str]]:
    """Correctness and certainty by question id, and the ids that come again."""
    numbers: dict[str, tuple[float, float]] = {}
    repeated: dict[str, None] = {}
    for state in states:
        if state.id in numbers:
            repeated[state.id] = None
        numbers[state.id] = (state.correctness, state.certainty)
    return numbers, list(repeated)


def _refuse(ids: Sequence[str], fault: str, remedy: str) -> None:
    if ids:
        raise InputError(f"{len(ids)} questions {fault} ({some(ids)}); {remedy}")
