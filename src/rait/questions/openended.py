"""Multiple-choice questions asked without their options: which of them cannot stand alone.

if why := needs_options(question): ...
"""

import re

from rait.records import Question

_STATEMENTS = ({"true", "false"}, {"yes", "no"})
_SPEAKS_OF_OPTIONS = re.compile(
    r"\b(of|among|from|is|are|does|do) these\b|\b(following|below|listed|except)\b|\bodd (one|man) out\b|\bwhich one\b"
    r"|\b(which|select|choose|pick|find|mark) (the )?(\w+ )?(statement|sentence|option|answer|pair)\b",
    re.IGNORECASE,
)
_EXCEPTION = re.compile(r"\b(NOT|INCORRECT|WRONG|FALSE|TRUE)\b")  # in capitals: one option is unlike the others
_ANSWER_OF_OPTIONS = re.compile(
    r"\b(all|none|both|neither|any|two|either)( of)? (these|those|them|the above|above|the options|answers)\b",
    re.IGNORECASE,
)


def needs_options(question: Question) -> str:
    """Return why a multiple-choice question cannot be asked without its options; "" where it can."""
    if {option.casefold().strip(" .") for option in question.options} in _STATEMENTS:
        return "a statement to be called true or false"
    if _SPEAKS_OF_OPTIONS.search(question.question) or _EXCEPTION.search(question.question):
        return "the question speaks of its options"
    if question.options and any(map(_ANSWER_OF_OPTIONS.search, question.answers)):
        return "the answer speaks of the options"
    return ""
