"""Rehearsal selection: which questions the initial model is fine-tuned on to see where its knowledge flows.

    chosen = select(states, Rehearsal(size=1000), seed=0)
    rows = [(state.question, target(state)) for state in chosen.states]

Rehearsal adds no knowledge: the questions are those the model already answers best, and the target is its own most
frequent correct answer, not the gold spelling (CRaFT, section 3.2; arXiv 2410.06913v2).
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from rait.errors import InputError, ShortageError
from rait.recipe import Rehearsal
from rait.records import KnowledgeState
from rait.seeding import ticket


@dataclass(frozen=True, slots=True)
class RehearsalSet:
    """The questions to rehearse, in an order that does not depend on the input's, and a note with the numbers."""

    states: tuple[KnowledgeState, ...]
    note: str


def select(states: Sequence[KnowledgeState], settings: Rehearsal, seed: int) -> RehearsalSet:
    """Choose the questions to rehearse; none with correctness 0 is ever among them.

    Where fewer than `settings.size` qualify, all of them are taken and the note says so. Raises `ShortageError` where
    none does. `seed` is read by the rule "threshold" alone, responses by neither rule.
    """
    answered = [state for state in states if state.correctness > 0]
    if not answered:
        raise ShortageError(
            f"the model answered none of {len(states)} questions correctly, so there is nothing to rehearse; ask "
            "questions it knows some of, use another model, or check the accepted answers"
        )
    if settings.rule == "top":
        eligible = answered
        chosen = heapq.nsmallest(settings.size, eligible, key=_from_best)
        which = "answered correctly at least once, the best by correctness, then certainty"
    else:
        eligible = [s for s in answered if s.correctness >= settings.correctness and s.certainty >= settings.certainty]
        chosen = heapq.nsmallest(settings.size, eligible, key=lambda state: ticket(seed, "rehearsal", state.id))
        which = f"with correctness >= {settings.correctness:g} and certainty >= {settings.certainty:g}, at random"
    if not eligible:
        best = min(answered, key=_from_best)
        raise ShortageError(
            f"none of {len(states)} questions reaches correctness {settings.correctness:g} and certainty "
            f"{settings.certainty:g} for rehearsal: the best, {best.id!r}, has correctness "
            f"{best.correctness:.3g} and certainty {best.certainty:.3g}; lower correctness and certainty, "
            "take the best there are (rule=top), or ask questions the model knows"
        )
    fewer = f", fewer than the {settings.size} wanted" if len(chosen) < settings.size else ""
    return RehearsalSet(tuple(chosen), f"rehearsing {len(chosen)} of {len(eligible)} questions {which}{fewer}")


def target(state: KnowledgeState) -> str:
    """Return the text that rehearsal trains: the model's most frequent correct answer.

    Ties go to the shortest text, then to the first in alphabetical order. A state made elsewhere, without responses,
    gives its preferred accepted answer. Raises `InputError` where there is no right answer to rehearse.
    """
    correct = [answer for answer in state.responses if answer.correct]
    if correct:
        return min(correct, key=lambda answer: (-answer.count, len(answer.text), answer.text)).text
    if state.responses:
        raise InputError(f"none of the responses of question {state.id!r} is correct; leave it out of rehearsal")
    if not state.answers:
        raise InputError(f"question {state.id!r} has neither responses nor accepted answers; add an answer")
    return state.answers[0]


def _from_best(state: KnowledgeState) -> tuple[float, float, str]:
    return -state.correctness, -state.certainty, state.id
