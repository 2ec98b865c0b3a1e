"""Knowledge state query: ask a model every question N times, match its answers, measure their agreement.

    states = list(query(loaded, questions, render, Probe(), load_embedder(), seed=0))

mu is the share of the N answers that match an accepted answer; sigma the mean cosine similarity of the answers'
sentence embeddings (CRaFT, arXiv 2410.06913v2, section 3.1; N = 10, temperature 1, full distribution). Multiple-choice
questions are not sampled but scored: see `rait.knowledge.choices`.

What other estimators of certainty need is stored as well: how probable each answer is, and the greedy answer, which is
no sample, with the kurtosis of its steps.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice, tee

from rait.errors import InputError, NotFiniteError
from rait.judging import match
from rait.knowledge.certainty import certainties, distinct_texts
from rait.knowledge.choices import query_choices
from rait.models.answers import Answers
from rait.models.embedding import Embed
from rait.models.loading import LoadedModel
from rait.progress import Say, say
from rait.prompting import Renderer
from rait.recipe import Probe
from rait.records import Answer, KnowledgeState, Question, own_fields
from rait.seeding import seed_for

_TOGETHER = 256  # questions whose answers are embedded together
_DECIMALS = 6  # of certainty: equal texts must tie, whatever the embedder's batch made of their last digits
_DIGITS = 6  # of kurtosis, which grows with the vocabulary


def query(
    loaded: LoadedModel,
    questions: Iterable[Question],
    render: Renderer,
    probe: Probe,
    embed: Embed | None,
    *,
    seed: int,
    advance: Callable[[int], None] = lambda _: None,
    say: Say = say,
) -> Iterator[KnowledgeState]:
    """Yield the knowledge state of every question, in the order given; `advance` is told of each that is answered.

    Questions are read as the work goes on, and what is held does not grow with their number. They are all open-ended or
    all multiple choice, which needs no `embed`; raises `InputError` where they are not, and `NotFiniteError` with ids
    where a model's numbers are not finite. `say` is told where memory makes for smaller forward passes.
    """
    from rait.models.sampler import Sampling, draw

    questions = iter(questions)
    if (first := next(questions, None)) is None:
        return
    questions = chain([first], questions)
    if first.options:
        yield from query_choices(loaded, questions, render, advance=advance, say=say)
        return
    if embed is None:
        raise InputError("open-ended questions need a sentence model, whose embeddings give the certainty of answers")
    prompted, seeded, asked = tee(questions, 3)
    prompts = map(render, map(_open_ended, prompted))
    seeds = (seed_for(seed, "probe", question.id) for question in seeded)
    sampling = Sampling(probe.samples, probe.temperature, probe.max_new_tokens, greedy=True)
    drawn: dict[int, Answers] = {}
    out = 0  # questions whose states have been yielded
    try:
        for index, answers in draw(loaded.model, loaded.tokenizer, prompts, seeds, sampling, say=say):
            drawn[index] = answers
            advance(1)
            if all(number in drawn for number in range(out, out + _TOGETHER)):
                yield from _states(
                    [(question, drawn.pop(out + i)) for i, question in zip(range(_TOGETHER), asked, strict=False)],
                    embed,
                )
                out += _TOGETHER
    except NotFiniteError as error:
        if all(isinstance(place, str) for place in error.places):  # of embeddings, and named
            raise
        read = islice(asked, max(int(place) for place in error.places) + 1 - out)
        raise error.of({out + place: question.id for place, question in enumerate(read)}) from None
    yield from _states([(question, drawn[out + i]) for i, question in enumerate(asked)], embed)


def _open_ended(question: Question) -> Question:
    if question.options:
        raise InputError(
            f"question {question.id!r} has options, others have none; ask open-ended and multiple-choice questions in "
            "runs of their own, or set questions.options=drop"
        )
    return question


def _states(answered: Sequence[tuple[Question, Answers]], embed: Embed) -> Iterator[KnowledgeState]:
    responses = {question.id: _responses(question, answers) for question, answers in answered}
    rows = distinct_texts(responses)
    try:
        points = embed(list(rows)) if rows else None
    except NotFiniteError as error:
        broken = {text for text, row in rows.items() if row in error.places}
        ids = [id for id, found in responses.items() if not broken.isdisjoint(answer.text for answer in found)]
        raise NotFiniteError(error.what, ids) from None
    sigma = {} if points is None else certainties(responses, rows, points)
    return (_state(question, responses[question.id], sigma[question.id], answers) for question, answers in answered)


def _responses(question: Question, answers: Answers) -> tuple[Answer, ...]:
    rules = {text: match(text, question.answers) for text in answers.counts}
    return tuple(
        Answer(
            text=text,
            count=count,
            correct=bool(rules[text]),
            rule=rules[text],
            log_probability=round(answers.log_probabilities[text], _DECIMALS),
            tokens=answers.tokens[text],
        )
        for text, count in answers.counts.items()
    )


def _state(question: Question, responses: tuple[Answer, ...], certainty: float, answers: Answers) -> KnowledgeState:
    total = sum(answer.count for answer in responses)
    correct = sum(answer.count for answer in responses if answer.correct)
    greedy, kurtosis = answers.greedy, answers.kurtosis
    return KnowledgeState(
        **own_fields(question),
        correctness=correct / total,
        certainty=round(certainty, _DECIMALS),
        responses=responses,
        greedy=greedy,
        greedy_correct=None if greedy is None else bool(match(greedy, question.answers)),
        kurtosis=None if kurtosis is None else float(f"{kurtosis:.{_DIGITS}g}"),
    )
