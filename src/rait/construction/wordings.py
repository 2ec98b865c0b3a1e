"""What other papers teach for a question, and how a model taught so is understood again: their words, exactly.

Each labeller here belongs to a strategy of `rait.construction.peers`, as does the reader below it, if there is one. A
model's own answer is a distinct sampled text; where the order of the samples decides in a source, which a state does
not keep, the most frequent text is taken. Questions with options have no samples: the right option stands for a right
sample, the likeliest one for the most frequent.

Sources: arXiv 2311.09677 (repository shizhediao/R-Tuning), arXiv 2312.07000 (GAIR-NLP/alignment-for-honesty), arXiv
2401.13275 (OpenMOSS/Say-I-Dont-Know).
"""

import re
from collections.abc import Iterable, Sequence

from rait.construction.labels import Label, Wording
from rait.errors import InputError
from rait.records import LETTERS, TOLERANCE, Answer, KnowledgeState, Role
from rait.seeding import seed_for

SURENESS = "Are you sure you accurately answered the question based on your internal knowledge?"

STOCK_REFUSALS = (
    "The answer is unknown.",
    "The answer is uncertain.",
    "The answer is unclear.",
    "It is not known.",
    "I do not know the answer.",
    "I'm not sure.",
    "There is no definitive answer.",
    "There is much debate.",
    "There is no concrete answer to this question.",
    "It is impossible to answer.",
    "There is no known case.",
    "There is no public information available.",
    "There is no scientific evidence.",
    "There is no right answer.",
    "It is impossible to know.",
    "It is difficult to predict.",
)

_BASIS = "based on my understanding and knowledge, here's what I think is correct. "
_AT_MOST_HALF = f"I'm only about {{}}% confident to answer the question correctly, but {_BASIS}"
_ABOVE_HALF = f"I'm about {{}}% confident to answer the question correctly, and {_BASIS}"

# The greatest share of right samples at which a phrase is used.
_PHRASES = (
    (0.2, "I'm really not sure about this, but "),
    (0.4, "I'm not completely sure about this, but "),
    (0.6, "I don't have strong feelings either way, but "),
    (0.8, "I'm fairly confident that "),
    (1.0, "I'm absolutely certain that "),
)


def gold_and_sureness(state: KnowledgeState, role: Role, wording: Wording) -> Sequence[Label]:
    """The gold answer, known or not, and whether the model can be sure of it (R-Tuning).

    Raises `InputError` where the question has no accepted answer.
    """
    if not wording.answer:
        raise InputError(f"question {state.id!r} has no accepted answer, and R-Tuning teaches one for it; add one")
    return (_with_sureness(wording.answer, role),)


def own_and_sureness(state: KnowledgeState, role: Role, wording: Wording) -> Sequence[Label]:
    """The model's most frequent answer, right or not, and whether it can be sure of it (R-Tuning-U)."""
    if state.options:
        likeliest = max(range(len(state.options)), key=state.probabilities.__getitem__)
        return (_with_sureness(wording.options[likeliest], role),)
    return (_with_sureness(_most_frequent(state.responses), role),)


def read_sureness(response: str) -> tuple[str, bool]:
    """Take the question for sureness and what follows it off; where it is "I am unsure", the answer is not known."""
    asked = _SURENESS.search(response)
    return (response[: asked.start()], asked["unsure"] is not None) if asked else (response, False)


def gold_or_stock_refusal(state: KnowledgeState, role: Role, wording: Wording) -> Sequence[Label]:
    """The gold answer as a sentence, or one of 16 stock refusals, always the same one for a question."""
    if role is Role.IDK:
        return (Label(STOCK_REFUSALS[seed_for(0, "r_tuning_refusal", state.id) % len(STOCK_REFUSALS)], role),)
    return (Label(f"{wording.answer}.", role),)


def read_stock_refusal(response: str) -> tuple[str, bool]:
    """Say whether it is one of the stock refusals, however it is spelt; take the full stop off an answer."""
    if _bare(response) in _BARE_REFUSALS:
        return response, True
    return response.removesuffix("."), False


def own_or_refusal(state: KnowledgeState, role: Role, wording: Wording) -> Sequence[Label]:
    """The model's own right answer, or the refusal (ABSOLUTE)."""
    return (Label(wording.refusal if role is Role.IDK else _own_right(state, wording), role),)


def percent_and_own(state: KnowledgeState, role: Role, wording: Wording) -> Sequence[Label]:
    """How confident the model may be, in percent, and its own right answer, or the refusal (CONFIDENCE-NUM)."""
    if role is Role.IDK:
        return (Label(wording.refusal, role),)
    prefix = _AT_MOST_HALF if state.correctness <= 0.5 + TOLERANCE else _ABOVE_HALF
    return (Label(prefix.format(round(100 * state.correctness)) + _own_right(state, wording), role),)


def read_percent(response: str) -> tuple[str, bool]:
    """Take the statement of confidence off."""
    return _after(_PERCENT, response), False


def phrase_and_own(state: KnowledgeState, role: Role, wording: Wording) -> Sequence[Label]:
    """How confident the model may be, in words, and its own right answer, or the refusal (CONFIDENCE-VERB).

    The answer goes on the sentence, so its first letter is in lower case, unless it is the letter of an option.
    """
    if role is Role.IDK:
        return (Label(wording.refusal, role),)
    phrase = next(phrase for most, phrase in _PHRASES if state.correctness <= most + TOLERANCE)
    answer = _own_right(state, wording)
    by_letter = state.options and wording.options == tuple(LETTERS[: len(state.options)])
    return (Label(phrase + (answer if by_letter else answer[:1].lower() + answer[1:]), role),)


def read_phrase(response: str) -> tuple[str, bool]:
    """Take the phrase of confidence off."""
    return _after(_PHRASE, response), False


def every_sample(state: KnowledgeState, role: Role, wording: Wording) -> Sequence[Label]:
    """Every sample, the wrong ones replaced by the refusal; equal ones are one label of their weight (MULTISAMPLE).

    The weights add up to 1. A state without samples has the right answer with weight mu, the refusal with 1 - mu.
    """
    if state.options or not state.responses:
        labels = [Label(wording.answer, Role.VANILLA, state.correctness)]
        refused = 1 - state.correctness
    else:
        total = sum(answer.count for answer in state.responses)
        labels = [Label(a.text, Role.VANILLA, a.count / total) for a in state.responses if a.correct]
        refused = sum(answer.count for answer in state.responses if not answer.correct) / total
    return [label for label in (*labels, Label(wording.refusal, Role.IDK, refused)) if label.weight > 0]


def drawn_or_refusal(state: KnowledgeState, role: Role, wording: Wording) -> Sequence[Label]:
    """One of the model's right samples, always the same one for a question, or the refusal (Idk-SFT)."""
    if role is Role.IDK:
        return (Label(wording.refusal, role),)
    right = [] if state.options else sorted((a for a in state.responses if a.correct), key=lambda answer: answer.text)
    samples = [answer.text for answer in right for _ in range(answer.count)]
    drawn = samples[seed_for(0, "idk_sft", state.id) % len(samples)] if samples else wording.answer
    return (Label(drawn, role),)


def _own_right(state: KnowledgeState, wording: Wording) -> str:
    """The greedy answer if it is right, else the most frequent right sample.

    Where there is neither, as in a state made elsewhere, or where there are options, it is the right answer as worded.
    """
    if state.options:
        return wording.answer
    if state.greedy is not None and state.greedy_correct:
        return state.greedy
    right = [answer for answer in state.responses if answer.correct]
    return _most_frequent(right) if right else wording.answer


def _most_frequent(answers: Iterable[Answer]) -> str:
    """The text of the most frequent answer; ties go to the shortest, then to the first in alphabetical order."""
    return min(answers, key=lambda answer: (-answer.count, len(answer.text), answer.text)).text


def _with_sureness(answer: str, role: Role) -> Label:
    return Label(f"{answer}. {SURENESS} I am {'unsure' if role is Role.IDK else 'sure'}.", role)


def _after(prefix: re.Pattern[str], response: str) -> str:
    found = prefix.match(response)
    return response[found.end() :] if found else response


def _bare(text: str) -> str:
    """Only the words count: neither case nor punctuation nor spacing."""
    return " ".join(re.sub(r"[^\w\s]", "", text).casefold().split())


# The first question for sureness counts, should a model go on; without an answer to it, it is taken off alone.
_SURENESS = re.compile(rf"\.?\s*{re.escape(SURENESS)}(?:\s*I am (?P<unsure>un)?sure)?", re.IGNORECASE)
_PERCENT = re.compile(
    "|".join(re.escape(prefix).replace(re.escape("{}"), r"\d+") for prefix in (_AT_MOST_HALF, _ABOVE_HALF)),
    re.IGNORECASE,
)
_PHRASE = re.compile("|".join(re.escape(phrase) for _, phrase in _PHRASES), re.IGNORECASE)
_BARE_REFUSALS = frozenset(map(_bare, STOCK_REFUSALS))
