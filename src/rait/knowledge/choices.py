"""Knowledge state query of multiple-choice questions: one scoring pass over the options, nothing is sampled.

    states = list(query_choices(loaded, questions, render))

p is the softmax restricted to the options; mu = p[target], sigma = sum over the options of p log p, the negative
entropy (CRaFT, arXiv 2410.06913v2, section 3.1; the formula printed there lacks the sign that its text and range
state). The options are scored by their letters, as in the paper, or by their texts, as `render` answers them.
"""

from collections.abc import Callable, Iterable, Iterator
from math import fsum, log

from rait.errors import InputError, NotFiniteError
from rait.models.loading import LoadedModel
from rait.models.memory import TOGETHER
from rait.progress import Say, say
from rait.prompting import Renderer
from rait.records import KnowledgeState, Question, own_fields
from rait.tables import batched

_DECIMALS = 6  # of a probability: equal knowledge must tie, whatever a batch made of the last digits


def query_choices(
    loaded: LoadedModel,
    questions: Iterable[Question],
    render: Renderer,
    *,
    advance: Callable[[int], None] = lambda _: None,
    say: Say = say,
) -> Iterator[KnowledgeState]:
    """Yield the knowledge state of every question, in the order given; `advance` is told of each that is scored.

    Raises `InputError` for a question without options, `ModelError` where the options cannot be told apart, and
    `NotFiniteError` with ids where logits are not finite.
    """
    for part in batched(questions, TOGETHER):
        for question in part:
            _target(question)  # before anything is scored
        found: dict[int, tuple[float, ...]] = {}
        try:
            for index, probabilities in option_probabilities(loaded, part, render, say):
                found[index] = probabilities
                advance(1)
        except NotFiniteError as error:
            raise error.of([question.id for question in part]) from None
        yield from (state_of(question, found[index]) for index, question in enumerate(part))


def option_probabilities(
    loaded: LoadedModel, questions: list[Question], render: Renderer, say: Say = say
) -> Iterator[tuple[int, tuple[float, ...]]]:
    """Yield (index of the question, probability of each of its options), in no particular order."""
    from rait.models.scoring import score_letters, score_texts

    prompts = list(map(render, questions))
    choices = list(map(render.choices, questions))
    if render.prompt.choice == "letter":
        yield from score_letters(loaded.model, loaded.tokenizer, prompts, choices, say=say)
    else:
        for index, scores in score_texts(loaded.model, loaded.tokenizer, prompts, choices, say=say):
            yield index, scores.probabilities


def state_of(question: Question, probabilities: tuple[float, ...]) -> KnowledgeState:
    """The knowledge state that option `probabilities`, which add up to 1, amount to."""
    rounded = tuple(round(p, _DECIMALS) for p in probabilities)
    return KnowledgeState(
        **own_fields(question),
        correctness=rounded[_target(question)],
        certainty=round(negative_entropy(probabilities), _DECIMALS) + 0.0,  # no -0.0
        probabilities=rounded,
    )


def _target(question: Question) -> int:
    if question.target is None:
        raise InputError(
            f"question {question.id!r} has no options, others have; ask open-ended and multiple-choice questions in "
            "runs of their own, or set questions.options=drop"
        )
    return question.target


def negative_entropy(probabilities: tuple[float, ...]) -> float:
    """Sum of p log p, in nats: from -log(options), all alike, to 0, one alone."""
    return fsum(p * log(p) for p in probabilities if p > 0)
