"""Ask a model every test question once, and judge each answer.

    verdicts = answer(loaded, questions, render, Evaluation())

Greedy decoding, as in the paper's evaluation (CRaFT, arXiv 2410.06913v2, section 4.1). Multiple-choice questions may
be scored instead: the answer is the likeliest of the options and, where the prompt invites it, the refusal; `likeliest`
has the rule.
"""

from collections.abc import Callable, Iterator, Sequence
from math import log

from rait.choosing import judge_choice
from rait.judging import judge
from rait.models.loading import LoadedModel
from rait.prompting import Renderer, choices_of
from rait.records import Outcome, Question, Verdict, own_fields
from rait.settings import Evaluation, Prompt


def answer(
    loaded: LoadedModel,
    questions: Sequence[Question],
    render: Renderer,
    settings: Evaluation,
    read: Callable[[str], tuple[str, bool]] = lambda response: (response, False),
    *,
    advance: Callable[[int], None] = lambda _: None,
) -> list[Verdict]:
    """A verdict for every question, in the order given.

    `read` takes from what the model writes the words that it was taught to put around an answer: it gives the answer,
    and whether they say besides that the model does not know, which counts as a refusal.
    """
    verdicts: dict[int, Verdict] = {}
    scored = [number for number, question in enumerate(questions) if is_scored(question, render, settings)]
    for place, response in _best(loaded, [questions[n] for n in scored], render):
        verdicts[scored[place]] = _scored(questions[scored[place]], response, render.prompt.choice)
        advance(1)
    written = [number for number in range(len(questions)) if number not in verdicts]
    for place, response in _greedy(loaded, [questions[n] for n in written], render, settings.max_new_tokens):
        verdicts[written[place]] = _judged(questions[written[place]], response, render.prompt, *read(response))
        advance(1)
    return [verdicts[number] for number in range(len(questions))]


def is_scored(question: Question, render: Renderer, settings: Evaluation) -> bool:
    """Whether the options of a question are compared, and the model writes no answer."""
    return scores_options(settings, render.prompt) and bool(question.options)


def scores_options(settings: Evaluation, prompt: Prompt) -> bool:
    """Whether options, where a question has any, are compared."""
    return settings.choice == "score" or (settings.choice == "auto" and prompt.choice == "text")


def _greedy(
    loaded: LoadedModel, questions: Sequence[Question], render: Renderer, max_new_tokens: int
) -> Iterator[tuple[int, str]]:
    """Yield (index of the question, what the model writes)."""
    from rait.models.sampler import Sampling, draw

    greedy = Sampling(samples=1, temperature=0, max_new_tokens=max_new_tokens)
    for index, answers in draw(loaded.model, loaded.tokenizer, map(render, questions), [0] * len(questions), greedy):
        (response,) = answers.counts
        yield index, response


def _best(loaded: LoadedModel, questions: Sequence[Question], render: Renderer) -> Iterator[tuple[int, str]]:
    """Yield (index of the question, the likeliest of its options and the refusal)."""
    from rait.models.scoring import score_texts

    choice = render.prompt.choice
    candidates = list(map(render.candidates, questions))
    found = score_texts(loaded.model, loaded.tokenizer, list(map(render, questions)), candidates)
    for index, scores in found:
        answers = (*choices_of(questions[index], choice), render.prompt.refusal)
        yield index, answers[likeliest(scores.log_likelihoods, scores.tokens, len(answers) - 1, choice)]


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


def _scored(question: Question, response: str, choice: str) -> Verdict:
    """The refusal comes last among the candidates, so an option of the same text goes first."""
    choices = choices_of(question, choice)
    if response not in choices:
        outcome = Outcome.REFUSED
    else:
        outcome = Outcome.CORRECT if choices.index(response) == question.target else Outcome.WRONG
    return Verdict(**own_fields(question), response=response, outcome=outcome, rule="scored")
