"""Ask a model every test question once, greedily, and judge each answer.

    verdicts = answer(loaded, questions, render, max_new_tokens=50)

Greedy decoding, as in the paper's evaluation (CRaFT, arXiv 2410.06913v2, section 4.1).
"""

from collections.abc import Callable, Sequence

from rait.judging import REFUSAL, judge
from rait.models.loading import LoadedModel
from rait.prompting import Render
from rait.records import Question, Verdict


def answer(
    loaded: LoadedModel,
    questions: Sequence[Question],
    render: Render,
    *,
    max_new_tokens: int,
    refusal: str = REFUSAL,
    advance: Callable[[int], None] = lambda _: None,
) -> list[Verdict]:
    """A verdict for every question, in the order given; `refusal` is the wording that was taught."""
    from rait.models.sampler import Sampling, draw

    greedy = Sampling(samples=1, temperature=0, max_new_tokens=max_new_tokens)
    prompts = [render(question.question) for question in questions]
    responses: dict[int, str] = {}
    for index, counts in draw(loaded.model, loaded.tokenizer, prompts, [0] * len(prompts), greedy):
        (responses[index],) = counts
        advance(1)
    return [_verdict(question, responses[index], refusal) for index, question in enumerate(questions)]


def _verdict(question: Question, response: str, refusal: str) -> Verdict:
    outcome, rule = judge(response, question.answers, refusal)
    return Verdict(
        id=question.id,
        question=question.question,
        answers=question.answers,
        category=question.category,
        response=response,
        outcome=outcome,
        rule=rule,
    )
