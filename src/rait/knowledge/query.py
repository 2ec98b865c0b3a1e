"""Knowledge state query: ask a model every question N times, match its answers, measure their agreement.

    states = list(query(loaded, questions, render, Probe(), load_embedder(), seed=0))

mu is the share of the N answers that match an accepted answer; sigma the mean cosine similarity of the answers'
sentence embeddings (CRaFT, arXiv 2410.06913v2, section 3.1; N = 10, temperature 1, full distribution). Multiple-choice
questions are not sampled but scored: see `rait.knowledge.choices`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, tee

from rait.errors import InputError
from rait.judging import match
from rait.knowledge.certainty import certainties, distinct_texts
from rait.knowledge.choices import query_choices
from rait.models.embedding import Embed
from rait.models.loading import LoadedModel
from rait.prompting import Renderer
from rait.recipe import Probe
from rait.records import Answer, KnowledgeState, Question, own_fields
from rait.seeding import seed_for

_TOGETHER = 256  # questions whose answers are embedded together
_DECIMALS = 6  # of certainty: equal texts must tie, whatever the embedder's batch made of their last digits


def query(
    loaded: LoadedModel,
    questions: Iterable[Question],
    render: Renderer,
    probe: Probe,
    embed: Embed | None,
    *,
    seed: int,
    advance: Callable[[int], None] = lambda _: None,
) -> Iterator[KnowledgeState]:
    """Yield the knowledge state of every question, in the order given; `advance` is told of each that is answered.

    Questions are read as the work goes on, and what is held does not grow with their number. They are all open-ended or
    all multiple choice, which needs no `embed`; raises `InputError` where they are not.
    """
    from rait.models.sampler import Sampling, draw

    questions = iter(questions)
    if (first := next(questions, None)) is None:
        return
    questions = chain([first], questions)
    if first.options:
        yield from query_choices(loaded, questions, render, advance=advance)
        return
    if embed is None:
        raise InputError("open-ended questions need a sentence model, whose embeddings give the certainty of answers")
    prompted, seeded, asked = tee(questions, 3)
    prompts = map(render, map(_open_ended, prompted))
    seeds = (seed_for(seed, "probe", question.id) for question in seeded)
    sampling = Sampling(probe.samples, probe.temperature, probe.max_new_tokens)
    counts: dict[int, dict[str, int]] = {}
    out = 0  # questions whose states have been yielded
    for index, counted in draw(loaded.model, loaded.tokenizer, prompts, seeds, sampling):
        counts[index] = counted
        advance(1)
        if all(number in counts for number in range(out, out + _TOGETHER)):
            yield from _states(
                [(question, counts.pop(out + i)) for i, question in zip(range(_TOGETHER), asked, strict=False)], embed
            )
            out += _TOGETHER
    yield from _states([(question, counts[out + i]) for i, question in enumerate(asked)], embed)


def _open_ended(question: Question) -> Question:
    if question.options:
        raise InputError(
            f"question {question.id!r} has options, others have none; ask open-ended and multiple-choice questions in "
            "runs of their own, or set questions.options=drop"
        )
    return question


def _states(answered: Sequence[tuple[Question, Mapping[str, int]]], embed: Embed) -> Iterator[KnowledgeState]:
    responses = {
        question.id: tuple(_answer(text, count, question.answers) for text, count in counts.items())
        for question, counts in answered
    }
    rows = distinct_texts(responses)
    sigma = certainties(responses, rows, embed(list(rows))) if rows else {}
    return (_state(question, responses[question.id], sigma[question.id]) for question, _ in answered)


def _answer(text: str, count: int, accepted: Sequence[str]) -> Answer:
    rule = match(text, accepted)
    return Answer(text=text, count=count, correct=bool(rule), rule=rule)


def _state(question: Question, responses: tuple[Answer, ...], certainty: float) -> KnowledgeState:
    total = sum(answer.count for answer in responses)
    correct = sum(answer.count for answer in responses if answer.correct)
    return KnowledgeState(
        **own_fields(question),
        correctness=correct / total,
        certainty=round(certainty, _DECIMALS),
        responses=responses,
    )
