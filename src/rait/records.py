"""The plain records that flow through every stage.

Stages meet only here and in the files of the run directory: a stage takes records and gives records. Field names are
the column names of the files, so that a row of a table and a record are the same thing (see `rait.tables`).
"""

from dataclasses import dataclass, fields
from enum import StrEnum
from math import isfinite
from typing import Any

TOLERANCE = 1e-9
"""Differences of correctness below this are rounding noise of k/N floats, not a change."""

MAX_FAILED = 0.01
"""The share of questions that may fail, unless the user says otherwise."""

LETTERS = "ABCDEFGHIJ"
"""The names of the options of a multiple-choice question, in their order."""


class Role(StrEnum):
    """What construction decides about a question (CRaFT, Algorithm 1)."""

    VANILLA = "vanilla"
    IDK = "idk"
    DROPPED = "dropped"


class Outcome(StrEnum):
    """How an answer was judged, or that there is none: a question that failed counts in no share but that of failed.

    The three shares P_c, P_w and P_r of the others add up to 1.
    """

    CORRECT = "correct"
    WRONG = "wrong"
    REFUSED = "refused"
    FAILED = "failed"


JUDGED = (Outcome.CORRECT, Outcome.WRONG, Outcome.REFUSED)
"""The outcomes of questions that were answered, in the order of every table of counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question and every answer that is accepted as right.

    The first of `answers` is the preferred spelling. `category` groups questions in tables (a relation, a subject). A
    multiple-choice question has 2 to 10 `options`, their texts in order; `target` is the index of the right one, and
    `answers` is that option alone. An open-ended question has neither.
    """

    id: str
    question: str
    answers: tuple[str, ...]
    category: str = ""
    options: tuple[str, ...] = ()
    target: int | None = None


def own_fields(question: Question) -> dict[str, Any]:
    """The fields of `question` as a question, for a record that is one and more."""
    return {field.name: getattr(question, field.name) for field in fields(Question)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A question that could not be asked, and why."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One distinct text among the sampled answers of a question.

    `count` says how many of the samples it is, at least 1; `rule` names the rule that matched it, or "" for none.
    `log_probability` is the natural logarithm of the probability that a sample is this text, its end included, at the
    temperature it was drawn with; `tokens` how many tokens that is (of the likeliest way to write it). Both are None
    where an answer was made elsewhere.
    """

    text: str
    count: int
    correct: bool
    rule: str = ""
    log_probability: float | None = None
    tokens: int | None = None

    def __post_init__(self) -> None:
        """Refuse an answer that none of the samples is."""
        if self.count < 1:
            raise ValueError(f"count {self.count} of the answer {self.text!r} is below 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class KnowledgeState(Question):
    """A question together with what a model knows about it (paper section 3.1).

    `correctness` (mu) lies in [0, 1]; `certainty` (sigma), higher is more certain, in [-1, 1] where answers were
    sampled and in [-log(options), 0], in nats, where options were scored. `responses` stand in descending order of
    count; `probabilities` are those of the options, in their order. Both may be empty where a state was made elsewhere.

    `greedy` is the answer of greedy decoding, `greedy_correct` whether it is right, and `kurtosis` the mean over its
    tokens, the end included, of the kurtosis of the next-token distribution; all None where options were scored or a
    state was made elsewhere.
    """

    correctness: float
    certainty: float
    responses: tuple[Answer, ...] = ()
    probabilities: tuple[float, ...] = ()
    greedy: str | None = None
    greedy_correct: bool | None = None
    kurtosis: float | None = None

    def __post_init__(self) -> None:
        """Refuse a state that no later stage could use."""
        if not 0 <= self.correctness <= 1:
            raise ValueError(f"correctness {self.correctness} of question {self.id!r} is outside 0 to 1")
        if not isfinite(self.certainty):
            raise ValueError(f"certainty {self.certainty} of question {self.id!r} is not a number")


@dataclass(frozen=True, slots=True, kw_only=True)
class KnowledgeFlow:
    """How a question's knowledge state changed from the initial to the rehearsed model (paper section 3.1)."""

    id: str
    correctness_before: float
    correctness_after: float
    certainty_before: float
    certainty_after: float

    @property
    def correctness_flow(self) -> float:
        """Delta mu = mu(rehearsed) - mu(initial), in [-1, 1]."""
        return self.correctness_after - self.correctness_before

    @property
    def certainty_flow(self) -> float:
        """Delta sigma = sigma(rehearsed) - sigma(initial), in [-2, 2], or [-log(options), log(options)]."""
        return self.certainty_after - self.certainty_before

    @property
    def direction(self) -> int:
        """1 where correctness rises, -1 where it falls, 0 where it stays."""
        return 0 if abs(self.correctness_flow) < TOLERANCE else 1 if self.correctness_flow > 0 else -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Influence:
    """How a refusal of this question would move the model's other answers, in first order (GRAIT, arXiv 2502.05911).

    `refusal` (R) is the mean inner product, in [-1, 1], of the question's gradient with those of the unknown questions,
    `over_refusal` (O) with those of the known ones: unit gradients of the loss of the refusal.
    """

    id: str
    refusal: float
    over_refusal: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a strategy did with a question, and why.

    `rank` is the place in the order in which the strategy takes questions of that role, from 0; None where the question
    never entered such an order. `weight` >= 0 multiplies the loss of its examples.
    """

    id: str
    role: Role
    reason: str
    rank: int | None = None
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One row of tuning data: the loss is taken on `completion` alone, times `weight` >= 0.

    A question may have several.
    """

    id: str
    prompt: str
    completion: str
    role: Role
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict(Question):
    """A question, a model's answer to it, and how that answer was judged by the rule named `rule`.

    Where it was measured, `refusal_probability` in [0, 1] is how probable the taught refusal is after the prompt (see
    `rait.models.refusal`), `answer` what the model answers where the refusal is not allowed, the response itself where
    that is no refusal, and `answer_correct` whether it is right: None where the model refuses even so.
    """

    response: str
    outcome: Outcome
    rule: str
    refusal_probability: float | None = None
    answer: str | None = None
    answer_correct: bool | None = None
