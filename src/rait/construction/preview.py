"""Look before you train: what every strategy would take from a saved probe, how choices overlap, where tau cuts.

    found = preview(states, flows, None, Construction(vanilla=800, idk=200), ["cor_rait", "craft"])
    print_preview(found)                                    # `rait.summary`; to_json(found) for a program

The choices are those of `rait.construction.construct`, so that what is shown here is what a run takes. Nothing is
trained and no model is loaded.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from statistics import fmean
from typing import Any

from rait.construction.selection import candidates, construct, summarise
from rait.construction.strategies import Evidence, Strategy, find_strategy, split_by_correctness
from rait.errors import InputError, ShortageError, some
from rait.recipe import Construction
from rait.records import Influence, KnowledgeFlow, KnowledgeState, Role

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""The values of tau_mu that are swept."""


@dataclass(frozen=True, slots=True)
class Share:
    """One role of a strategy: its candidates, how many of them are taken, and what these are like.

    `correctness` and `certainty` are means over the questions taken, None where none is.
    """

    candidates: int
    taken: int
    correctness: float | None
    certainty: float | None


@dataclass(frozen=True, slots=True)
class StrategyPreview:
    """What a strategy would take.

    `notes` are those of the selection, such as what a shortage is shrunk to. `dropped` counts the other questions by
    kind of reason, the most frequent first. `obstacle` says why it takes nothing: a shortage, or evidence that is
    missing, without which there are no candidates either (`vanilla` and `idk` are None).
    """

    strategy: str
    vanilla: Share | None
    idk: Share | None
    dropped: dict[str, int]
    notes: tuple[str, ...] = ()
    obstacle: str | None = None


@dataclass(frozen=True, slots=True)
class Overlap:
    """Jaccard overlap of what two strategies take for a role: shared / all, in [0, 1]; None where both take none."""

    first: str
    second: str
    vanilla: float | None
    idk: float | None


@dataclass(frozen=True, slots=True)
class Cut:
    """How many questions are known, unknown, or inside the dead band at `threshold` (tau_mu).

    `rising`, `staying` and `falling` divide the unknown that have a flow; they are None where no flows were given.
    """

    threshold: float
    known: int
    unknown: int
    inside: int
    rising: int | None
    staying: int | None
    falling: int | None


@dataclass(frozen=True, slots=True)
class Preview:
    """Every strategy in the order asked for, every pair of those that take something, and every threshold."""

    questions: int
    wanted: tuple[int, int]
    strategies: tuple[StrategyPreview, ...]
    overlaps: tuple[Overlap, ...]
    sweep: tuple[Cut, ...]


def preview(
    states: Sequence[KnowledgeState],
    flows: Iterable[KnowledgeFlow] | None,
    influences: Iterable[Influence] | None,
    settings: Construction,
    names: Sequence[str],
) -> Preview:
    """Say what each strategy of `names` would take of the initial `states`; the inputs are those of `construct`.

    A strategy that cannot be used on them, for a shortage or for missing evidence, is listed with the reason. Raises
    `RecipeError` for an unknown strategy.
    """
    flows = None if flows is None else list(flows)
    influences = None if influences is None else list(influences)
    # Strategies order questions by id anyway; in this order that costs them nothing.
    states = sorted(states, key=lambda state: state.id)
    evidence = Evidence({flow.id: flow for flow in flows or ()}, {of.id: of for of in influences or ()})

    def one(strategy: Strategy) -> tuple[StrategyPreview, _Choice | None]:
        try:
            _check_responses(strategy, states)
            selection = construct(strategy.name, states, flows, settings, influences)
        except InputError as error:
            return StrategyPreview(strategy.name, None, None, {}, obstacle=str(error)), None
        except ShortageError as error:
            waiting = candidates(strategy.plan(states, evidence, settings))
            vanilla, idk = (_share([], waiting[role]) for role in _TAKEN)
            return StrategyPreview(strategy.name, vanilla, idk, {}, obstacle=str(error)), None
        # Decisions stand in the order of the states.
        decided = list(zip(states, selection.decisions, strict=True))
        taken = {role: [state for state, decision in decided if decision.role is role] for role in _TAKEN}
        vanilla, idk = (_share(taken[role], selection.candidates[role]) for role in _TAKEN)
        dropped = summarise(selection.decisions)[Role.DROPPED]
        ids = {role: frozenset(state.id for state in taken[role]) for role in _TAKEN}
        return StrategyPreview(strategy.name, vanilla, idk, dropped, selection.notes), ids

    seen = [one(find_strategy(name)) for name in dict.fromkeys(names)]
    chosen = {found.strategy: ids for found, ids in seen if ids is not None}
    return Preview(
        questions=len(states),
        wanted=(settings.vanilla, settings.idk),
        strategies=tuple(found for found, _ in seen),
        overlaps=tuple(
            Overlap(first, second, *(_jaccard(chosen[first][role], chosen[second][role]) for role in _TAKEN))
            for first, second in combinations(chosen, 2)
        ),
        sweep=tuple(
            _cut(states, None if flows is None else evidence.flows, settings.model_copy(update={"threshold": tau}))
            for tau in THRESHOLDS
        ),
    )


def to_json(found: Preview) -> dict[str, Any]:
    """Return the preview as JSON values, under the names of its fields."""
    return asdict(found)


_TAKEN = (Role.VANILLA, Role.IDK)
_Choice = Mapping[Role, frozenset[str]]


def _check_responses(strategy: Strategy, states: Sequence[KnowledgeState]) -> None:
    without = [state.id for state in states if not (state.responses or state.probabilities)]
    if "responses" in strategy.needs and without:
        raise InputError(
            f"{strategy.name} needs the answers of the probe, and {len(without)} of {len(states)} questions have none "
            f"({some(without)}); probe them here"
        )


def _share(taken: Sequence[KnowledgeState], waiting: int) -> Share:
    return Share(
        candidates=waiting,
        taken=len(taken),
        correctness=fmean(state.correctness for state in taken) if taken else None,
        certainty=fmean(state.certainty for state in taken) if taken else None,
    )


def _jaccard(first: frozenset[str], second: frozenset[str]) -> float | None:
    return len(first & second) / len(first | second) if first or second else None


def _cut(states: Sequence[KnowledgeState], flows: Mapping[str, KnowledgeFlow] | None, settings: Construction) -> Cut:
    known, unknown, inside = split_by_correctness(states, settings)
    rising = staying = falling = None
    if flows is not None:
        counts = Counter(flows[state.id].direction for state in unknown if state.id in flows)
        rising, staying, falling = counts[1], counts[0], counts[-1]
    return Cut(settings.threshold, len(known), len(unknown), len(inside), rising, staying, falling)
