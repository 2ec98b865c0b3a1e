"""Atlas as multiple choice: each question with four options, the right answer and three answers of its relation."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from rait.questions.atlas.facts import plain
from rait.records import Question
from rait.seeding import ticket

_OPTIONS = 4


def with_options(questions: Sequence[Question], answers: Mapping[str, Iterable[str]]) -> list[Question]:
    """The questions with options drawn from the `answers` of their category, none of which would be right as well.

    What is drawn, and the place of the right option, hangs on the question's id alone.
    """
    return [_with_options(question, answers[question.category]) for question in questions]


def _with_options(question: Question, answers: Iterable[str]) -> Question:
    right = question.answers[0]
    taken = set(map(plain, question.answers))
    wrong = sorted(
        (answer for answer in set(answers) if plain(answer) not in taken),
        key=lambda answer: ticket(0, "option", f"{question.id}/{answer}"),
    )
    options = sorted([right, *wrong[: _OPTIONS - 1]], key=lambda answer: ticket(0, "order", f"{question.id}/{answer}"))
    return replace(question, answers=(right,), options=tuple(options), target=options.index(right))
