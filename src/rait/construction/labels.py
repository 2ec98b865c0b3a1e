"""What is taught for a question that a strategy has chosen, and how a tuned model's words are understood again.

A labeller words the completions of a question; a reader takes an answer in those words apart. The plain ones teach the
right answer or the refusal, and leave what is answered as it is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rait.records import KnowledgeState, Role


@dataclass(frozen=True, slots=True)
class Wording:
    """How a question may be answered: its right `answer`, the `refusal`, and each of its `options`, if it has any."""

    answer: str
    refusal: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Label:
    """A completion to be taught, the role it plays, and the weight >= 0 of its loss."""

    text: str
    role: Role
    weight: float = 1.0


Labeller = Callable[[KnowledgeState, Role, Wording], Sequence[Label]]

# From what a tuned model wrote to what it answers, and whether it says besides that it does not know.
Reader = Callable[[str], tuple[str, bool]]


def answer_or_refusal(state: KnowledgeState, role: Role, wording: Wording) -> Sequence[Label]:
    """Teach the right answer to vanilla questions and the refusal to idk ones."""
    return (Label(wording.refusal if role is Role.IDK else wording.answer, role),)


def as_it_is(response: str) -> tuple[str, bool]:
    """Take a response as it is."""
    return response, False
