"""What is wrong with a set of questions as a whole: repeated ids, contradictions, refusals, leakage from train to test.

    validation = validate(questions)
    for finding in validation.findings: print(finding)
    usable = without(questions, validation.excluded)

    test, leaked = without_leaks(test, train)

Two questions are the same when their texts are, whatever their case, spacing, quotation marks and the punctuation at
the end of words, and when they offer the same options, in whatever order. What no later stage could use is excluded;
what may be meant (a contested question, an answer "unknown") is reported and stays.
"""

import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from rait.errors import some
from rait.judging import REFUSAL, is_refusal, normalise
from rait.questions.seen import Seen, digest
from rait.records import Question

_IDS_KEPT = 4  # `some` shows three, and that there are more

# kind: (what is said of it, whether the questions are excluded)
_KINDS = {
    "duplicate_id": ("id used before", True),
    "empty_answer": ("no answer, or an empty one", True),
    "conflict": ("asked before, with another answer", False),
    "repeated": ("asked before, with the same answer", False),
    "refusal": ("an accepted answer reads as a refusal", False),
    "repeated_option": ("an option stands twice", False),
}

_QUOTES = re.compile("[\"'`´“”„‘’‚«»‹›]")
_END_OF_WORD = re.compile(r"[.,;:!?…]+(?=\s|$)")
_BLANK = re.compile(r"_+")


@dataclass(slots=True)
class Finding:
    """One kind of flaw: how many questions have it, the first of their ids, and whether they are excluded."""

    kind: str
    count: int = 0
    ids: list[str] = field(default_factory=list)

    @property
    def excluded(self) -> bool:
        """Whether the questions are left out."""
        return _KINDS[self.kind][1]

    def __str__(self) -> str:
        return self.told(some(self.ids))

    def told(self, examples: str) -> str:
        """The finding as a line, with the questions that are named."""
        return f"{_KINDS[self.kind][0]}: {self.count} ({examples}), {'left out' if self.excluded else 'kept'}"


@dataclass(frozen=True, slots=True)
class Validation:
    """What was found, by kind, and the places (from 0) of the questions to leave out."""

    findings: tuple[Finding, ...]
    excluded: frozenset[int]


def validate(questions: Iterable[Question], refusal: str = REFUSAL) -> Validation:
    """Look for flaws in questions, going through them once and holding none, however many there are.

    `refusal` is the wording of the recipe. A question may have several flaws; one that is excluded is not looked at
    further.
    """
    found = {kind: Finding(kind) for kind in _KINDS}
    excluded: set[int] = set()
    with Seen[bool]() as ids, Seen[frozenset[int]]() as answered:
        for place, question in enumerate(questions):
            for kind in _flaws(question, refusal, ids, answered):
                finding = found[kind]
                finding.count += 1
                finding.ids += [question.id] if len(finding.ids) < _IDS_KEPT else []
                if finding.excluded:
                    excluded.add(place)
    return Validation(tuple(finding for finding in found.values() if finding.count), frozenset(excluded))


def without(questions: Iterable[Question], excluded: Collection[int]) -> list[Question]:
    """The questions but for those at the places `excluded`."""
    return [question for place, question in enumerate(questions) if place not in excluded]


def without_leaks(test: Sequence[Question], train: Iterable[Question]) -> tuple[list[Question], list[Question]]:
    """Return the questions of `test` that do not stand in `train`, and those that do, both in their order."""
    trained = {question_key(question) for question in train}
    leaked = [question_key(question) in trained for question in test]
    return (
        [question for question, leak in zip(test, leaked, strict=True) if not leak],
        [question for question, leak in zip(test, leaked, strict=True) if leak],
    )


def question_key(question: Question) -> int:
    """A hash, 8 bytes, that is equal for the same question (see above)."""
    return digest(_same(question))


def _flaws(question: Question, refusal: str, ids: Seen[bool], answered: Seen[frozenset[int]]) -> list[str]:
    if ids.get(question.id):
        return ["duplicate_id"]
    ids.put(question.id, True)
    if not question.answers or not all(answer.strip() for answer in question.answers):
        return ["empty_answer"]
    flaws = []
    same, answers = _same(question), frozenset(digest(normalise(answer)) for answer in question.answers)
    if before := answered.get(same):
        flaws.append("repeated" if before & answers else "conflict")
    answered.put(same, answers | (before or frozenset()))
    if any(is_refusal(answer, refusal) for answer in question.answers):
        flaws.append("refusal")
    if len(set(question.options)) < len(question.options):
        flaws.append("repeated_option")
    return flaws


def _same(question: Question) -> str:
    return "\n".join([wording_key(question.question), *sorted(map(wording_key, question.options))])


def wording_key(text: str) -> str:
    """A text without what does not make it another one: two with the same key say the same.

    Signs between and before words stay, as in 2*2 and -4.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = _BLANK.sub("_", _END_OF_WORD.sub("", _QUOTES.sub("", folded))).split()
    return " ".join(words or folded.split())  # signs alone are all there is
