"""Ask a model every test question once, and judge each answer.

    verdicts = list(answer(loaded, questions, render, Evaluation()))
    verdicts = list(answer(loaded, questions, render, Evaluation(), weigh=True))      # with p(refuse), for the dial

Greedy decoding, as in the paper's evaluation (CRaFT, arXiv 2410.06913v2, section 4.1). Multiple-choice questions may
be scored instead: the answer is the likeliest of the options and, where the prompt invites it, the refusal; `likeliest`
has the rule.

Weighed, a verdict also says how probable the refusal is and what is answered without it. Of a written answer that is
`rait.models.refusal`; of scored options the refusal's probability, the one that `likeliest` compares: among the
candidates for letters, of everything that could be written for texts. The best option is then the answer.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import exp, fsum, log

from rait.choosing import judge_choice
from rait.errors import NotFiniteError
from rait.judging import judge
from rait.models.context import obstacle
from rait.models.loading import LoadedModel
from rait.models.memory import TOGETHER
from rait.progress import Say, say
from rait.prompting import Renderer, choices_of
from rait.records import Outcome, Question, Verdict, own_fields
from rait.settings import Evaluation, Prompt
from rait.tables import batched


def answer(
    loaded: LoadedModel,
    questions: Sequence[Question],
    render: Renderer,
    settings: Evaluation,
    read: Callable[[str], tuple[str, bool]] = lambda response: (response, False),
    *,
    weigh: bool = False,
    advance: Callable[[int], None] = lambda _: None,
    say: Say = say,
) -> Iterator[Verdict]:
    """Yield a verdict for every question, in the order given, as soon as all before it are there.

    A question whose prompt and answer may not fit the model's context is not asked: its outcome is `Outcome.FAILED`,
    its rule says why. Raises `NotFiniteError` with ids where logits are not finite; `say` is told where memory makes
    for smaller forward passes.

    `read` takes from what the model writes the words that it was taught to put around an answer: it gives the answer,
    and whether they say besides that the model does not know, which counts as a refusal. `weigh` fills in the fields
    of a verdict about the refusal, which must be invited and constant: not one of many wordings that `read` knows.
    """
    verdicts: dict[int, Verdict] = {}
    scored: list[int] = []
    written: list[int] = []
    for number, question in enumerate(questions):
        if rule := _obstacle(loaded, question, render, settings, weigh=weigh):
            failed = Verdict(**own_fields(question), response="", outcome=Outcome.FAILED, rule=rule)
            verdicts[number] = failed
            advance(1)
        else:
            (scored if is_scored(question, render, settings) else written).append(number)

    def judged(question: Question, response: str) -> Verdict:
        if is_scored(question, render, settings):
            return _scored(question, response, render.prompt.choice)
        return _judged(question, response, render.prompt, *read(response))

    out = 0  # verdicts that have been yielded
    for numbers, answered in (
        *((part, _best(loaded, [questions[n] for n in part], render, say)) for part in batched(scored, TOGETHER)),
        (written, _written(loaded, [questions[n] for n in written], render, settings.max_new_tokens, weigh, say)),
    ):
        try:
            for place, found in answered:
                question = questions[numbers[place]]
                verdict = judged(question, found.response)
                if weigh:
                    instead = verdict if found.instead is None else judged(question, found.instead)
                    verdict = _weighed(verdict, found, instead)
                verdicts[numbers[place]] = verdict
                advance(1)
                while out in verdicts:
                    yield verdicts.pop(out)
                    out += 1
        except NotFiniteError as error:
            raise error.of([questions[number].id for number in numbers]) from None
    yield from (verdicts[number] for number in range(out, len(questions)))  # those that failed at the end


def _obstacle(
    loaded: LoadedModel, question: Question, render: Renderer, settings: Evaluation, *, weigh: bool
) -> str | None:
    """The rule by which a question cannot be asked, or None."""
    if is_scored(question, render, settings):
        return obstacle(loaded, render(question), texts=render.candidates(question))
    refusal = (render.completion(render.prompt.refusal),) if weigh else ()
    return obstacle(loaded, render(question), settings.max_new_tokens, refusal)


@dataclass(frozen=True, slots=True)
class _Answered:
    """What a model answers, the probability of a refusal, and what it answers instead of one, if that is another."""

    response: str
    refusal_probability: float | None = None
    instead: str | None = None


def is_scored(question: Question, render: Renderer, settings: Evaluation) -> bool:
    """Whether the options of a question are compared, and the model writes no answer."""
    return scores_options(settings, render.prompt) and bool(question.options)


def scores_options(settings: Evaluation, prompt: Prompt) -> bool:
    """Whether options, where a question has any, are compared."""
    return settings.choice == "score" or (settings.choice == "auto" and prompt.choice == "text")


def _written(
    loaded: LoadedModel,
    questions: Sequence[Question],
    render: Renderer,
    max_new_tokens: int,
    weigh: bool,
    say: Say,
) -> Iterator[tuple[int, _Answered]]:
    """Yield (index of the question, what the model writes)."""
    from rait.models.refusal import weigh as weighed
    from rait.models.sampler import Sampling, draw

    if weigh:
        refusal = render.completion(render.prompt.refusal)
        prompts = list(map(render, questions))
        for index, found in weighed(loaded.model, loaded.tokenizer, prompts, refusal, max_new_tokens, say=say):
            yield index, _Answered(found.response, found.refusal_probability, found.instead)
        return
    greedy = Sampling(samples=1, temperature=0, max_new_tokens=max_new_tokens)
    seeds = [0] * len(questions)
    for index, answers in draw(loaded.model, loaded.tokenizer, map(render, questions), seeds, greedy, say=say):
        (response,) = answers.counts
        yield index, _Answered(response)


def _best(
    loaded: LoadedModel, questions: Sequence[Question], render: Renderer, say: Say
) -> Iterator[tuple[int, _Answered]]:
    """Yield (index of the question, the likeliest of its options and the refusal)."""
    from rait.models.scoring import score_texts

    choice = render.prompt.choice
    candidates = list(map(render.candidates, questions))
    found = score_texts(loaded.model, loaded.tokenizer, list(map(render, questions)), candidates, say=say)
    for index, scores in found:
        options = choices_of(questions[index], choice)
        best, instead = (
            likeliest(scores.log_likelihoods[:count], scores.tokens[:count], len(options), choice)
            for count in (len(scores.tokens), len(options))
        )
        yield (
            index,
            _Answered(
                (*options, render.prompt.refusal)[best],
                _share_of_refusal(scores.log_likelihoods, choice) if render.may_refuse else None,
                options[instead],
            ),
        )


def _share_of_refusal(log_likelihoods: Sequence[float], choice: str) -> float:
    """The probability of the last candidate: among all for letters, of everything that could be written for texts."""
    own = log_likelihoods[-1]
    if choice != "letter":
        return min(1.0, exp(own))
    return 1 / fsum(exp(min(700.0, other - own)) for other in log_likelihoods)


def likeliest(log_likelihoods: Sequence[float], tokens: Sequence[int], options: int, choice: str) -> int:
    """The index of the answer among candidates: so many `options`, and then a refusal or nothing.

    `log_likelihoods` are in nats, summed over each candidate's `tokens`. Letters and the refusal exclude each other, so
    the most probable is taken. Texts are compared by the mean of a token; but not with the refusal, whose tokens after
    the first are certain once it was taught, so that its mean would win even where the model seldom refuses: it is
    taken where it is more probable than everything else that the model could write together.
    """
    by_letter = choice == "letter"
    scores = list(log_likelihoods) if by_letter else [s / n for s, n in zip(log_likelihoods, tokens, strict=True)]
    best = max(range(options), key=scores.__getitem__)
    if len(scores) == options:
        return best
    bar = scores[best] if by_letter else log(0.5)
    return options if log_likelihoods[options] > bar else best


def _judged(question: Question, response: str, prompt: Prompt, answer: str, unsure: bool) -> Verdict:
    if unsure:
        outcome, rule = Outcome.REFUSED, "refused" if answer == response else "refused_and_answered"
    elif question.target is None:
        outcome, rule = judge(answer, question.answers, prompt.refusal)
    else:
        by_letter = prompt.choice == "letter"
        outcome, rule = judge_choice(answer, question.options, question.target, prompt.refusal, by_letter=by_letter)
    return Verdict(**own_fields(question), response=response, outcome=outcome, rule=rule)


def _weighed(verdict: Verdict, found: _Answered, instead: Verdict) -> Verdict:
    """`verdict` with what is known of its refusal; `instead` is that of the answer without one."""
    other = instead if verdict.outcome is Outcome.REFUSED else verdict
    correct = None if other.outcome is Outcome.REFUSED else other.outcome is Outcome.CORRECT
    return replace(
        verdict, refusal_probability=found.refusal_probability, answer=other.response, answer_correct=correct
    )


def _scored(question: Question, response: str, choice: str) -> Verdict:
    """The refusal comes last among the candidates, so an option of the same text goes first."""
    choices = choices_of(question, choice)
    if response not in choices:
        outcome = Outcome.REFUSED
    else:
        outcome = Outcome.CORRECT if choices.index(response) == question.target else Outcome.WRONG
    return Verdict(**own_fields(question), response=response, outcome=outcome, rule="scored")
