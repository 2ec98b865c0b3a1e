"""Rehearsal selection: which questions the initial model is fine-tuned on to see where its knowledge flows.

    chosen = select(states, Rehearsal(size=1000), seed=0)
    rows = [(state.question, target(state)) for state in chosen.states]

Rehearsal adds no knowledge: the questions are those the model already answers best, and the target is its own most
frequent correct answer, not the gold spelling (CRaFT, section 3.2; arXiv 2410.06913v2); of multiple choice it is the
right option. Bounds that the recipe leaves open are those of the released code: correctness 0.995 and certainty 0.995
for open-ended questions, correctness 0.99 for multiple choice.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite

from rait.errors import InputError, ShortageError
from rait.prompting import answer_of
from rait.recipe import Rehearsal
from rait.records import KnowledgeState
from rait.seeding import ticket


@dataclass(frozen=True, slots=True)
class RehearsalSet:
    """The questions to rehearse, in an order that does not depend on the input's, and a note with the numbers."""

    states: tuple[KnowledgeState, ...]
    note: str


def select(states: Sequence[KnowledgeState], settings: Rehearsal, seed: int) -> RehearsalSet:
    """Choose the questions to rehearse; none that the model never answers correctly is ever among them.

    Where fewer than `settings.size` qualify, all of them are taken and the note says so. Raises `ShortageError` where
    none does. `seed` is read by the rule "threshold" alone, responses by neither rule.
    """
    correctness, certainty = _bounds(states, settings)
    answered = [state for state in states if _answered(state)]
    if not answered:
        raise ShortageError(
            f"the model answered none of {len(states)} questions correctly, so there is nothing to rehearse; ask "
            "questions it knows some of, use another model, or check the accepted answers"
        )
    if settings.rule == "top":
        eligible = answered
        chosen = heapq.nsmallest(settings.size, eligible, key=_from_best)
        which = "answered correctly, the best by correctness, then certainty"
    else:
        eligible = [s for s in answered if s.correctness >= correctness and s.certainty >= certainty]
        chosen = heapq.nsmallest(settings.size, eligible, key=lambda state: ticket(seed, "rehearsal", state.id))
        which = f"with correctness >= {correctness:g}{_and(certainty, '>= ')}, at random"
    if not eligible:
        best = min(answered, key=_from_best)
        raise ShortageError(
            f"none of {len(states)} questions reaches correctness {correctness:g}{_and(certainty)} for rehearsal: "
            f"the best, {best.id!r}, has correctness {best.correctness:.3g} and certainty {best.certainty:.3g}; "
            "lower rehearsal.correctness and rehearsal.certainty, "
            "take the best there are (rule=top), or ask questions the model knows"
        )
    fewer = f", fewer than the {settings.size} wanted" if len(chosen) < settings.size else ""
    return RehearsalSet(tuple(chosen), f"rehearsing {len(chosen)} of {len(eligible)} questions {which}{fewer}")


def target(state: KnowledgeState, choice: str = "letter") -> str:
    """Return the text that rehearsal trains: the model's most frequent correct answer.

    Of a multiple-choice question it is the right option's "letter" or "text", as `choice` says. Ties go to
    the shortest text, then to the first in alphabetical order. A state made elsewhere, without responses, gives its
    preferred accepted answer. Raises `InputError` where there is no right answer to rehearse.
    """
    if state.options:
        return answer_of(state, choice)
    correct = [answer for answer in state.responses if answer.correct]
    if correct:
        return min(correct, key=lambda answer: (-answer.count, len(answer.text), answer.text)).text
    if state.responses:
        raise InputError(f"none of the responses of question {state.id!r} is correct; leave it out of rehearsal")
    if not state.answers:
        raise InputError(f"question {state.id!r} has neither responses nor accepted answers; add an answer")
    return state.answers[0]


def _answered(state: KnowledgeState) -> bool:
    """Whether the model gave a right answer, or the right option is the likeliest."""
    return state.correctness > 0 and state.correctness >= max(state.probabilities, default=0.0)


def _bounds(states: Sequence[KnowledgeState], settings: Rehearsal) -> tuple[float, float]:
    """Lowest correctness and certainty; what the settings leave open depends on the kind of the questions."""
    choice = any(state.options for state in states)
    correctness = settings.correctness if settings.correctness is not None else 0.99 if choice else 0.995
    certainty = settings.certainty if settings.certainty is not None else -inf if choice else 0.995
    return correctness, certainty


def _and(certainty: float, sign: str = "") -> str:
    return f" and certainty {sign}{certainty:g}" if isfinite(certainty) else ""


def _from_best(state: KnowledgeState) -> tuple[float, float, str]:
    return -state.correctness, -state.certainty, state.id
