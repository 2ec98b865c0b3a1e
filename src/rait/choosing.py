"""Which option of a multiple-choice question a written answer chooses, and what that makes of it.

    judge_choice("The answer is (B).", ("Rome", "Paris"), 1)      -> (Outcome.CORRECT, "letter")
    judge_choice("Paris", ("Rome", "Paris"), 1)                   -> (Outcome.CORRECT, "option")
    judge_choice("Rome or Paris", ("Rome", "Paris"), 1)           -> (Outcome.WRONG, "unparsable")

An answer chooses an option by its letter or its text, bare or after words that announce it; of several letters, or a
letter beside the text of another option, it chooses none. What neither chooses nor refuses is unparsable: it counts as
wrong, and is counted apart. As in `rait.judging`, the first line counts.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rait.judging import REFUSAL, match, normalise, refusal
from rait.records import LETTERS, Outcome

_ANNOUNCED = re.compile(
    r"(?:(?:so|thus|therefore|hence|well)\b\s*,?\s*)?"
    r"(?:i\s+(?:think|believe|choose|pick|would say)\b\s*(?:that\b\s*)?)?"
    r"(?:(?:it\s+is|it['’]s)\b\s*"
    r"|(?:(?:the|my)\s+)?(?:(?:correct|right|best|final)\s+)?(?:answer|option|choice|response|letter)\b"
    r"(?:\s+of\s+the\s+(?:correct|right|best)\s+(?:answer|option|choice)\b)?"
    r"(?:\s+(?:is|would be|should be|must be)\b)?(?:\s+option\b)?\s*:?\s*)?",
    re.IGNORECASE,
)
# Of emphasis and code, not of "a*b", "snake_case" or "x**2".
_MARKUP = re.compile(r"(?<!\w)[*_`]+|[*_`]+(?!\w)")
# "B", "(B)", "[B]", '"B"', and what follows.
_LETTER = re.compile(r"[(\[\"'“‘]?([A-Z])\b[)\]\"'”’]?(.*)", re.IGNORECASE)
_END = re.compile(r"[.):,;!?]*")
# What may stand between a letter and an explanation, or something that takes it back.
_GOES_ON = re.compile(
    r"(?:[.):,;]\s*|(?<=[)\]])\s*|\s+(?=because\b|since\b|as\b|-|–|is\s+(?:the\s+)?(?:correct|right|best)\b))(.*)", re.I
)
# A further letter that is offered: "B or C", "B and C", "B, C", "B / C"; in "A. I think" it is none.
_FURTHER = re.compile(
    r"(?:(?:or|and)\b|[,/&])\s*[(\[]?([A-Z])\b|[(\[]?([A-Z])(?:[)\].:,;]|\s*$|\s+(?:or|and)\b|\s*[/&])", re.I
)


@dataclass(frozen=True, slots=True)
class Choice:
    """The index of the option that is chosen, by its "letter" or as "option"; `bare` if nothing else is said."""

    option: int
    rule: str
    bare: bool


def judge_choice(
    response: str, options: Sequence[str], target: int, refusal_template: str = REFUSAL, *, by_letter: bool = True
) -> tuple[Outcome, str]:
    """Return the outcome of `response` and the rule that decided; the first that holds does.

    1. correct or wrong, "letter": it is a letter, alone or with its option's text, even one that refuses ("Unknown");
       correct, "option": it is the text of the right option and nothing else;
    2. refused, "refused" or "refused_and_answered": see `rait.judging.refusal`;
    3. correct or wrong, "letter" or "option": it chooses an option;
    4. wrong, "unparsable".

    `by_letter` is false where the model was not shown letters.
    """
    choice = parse_choice(response, options, by_letter=by_letter)
    certain = choice is not None and choice.bare and (choice.rule == "letter" or choice.option == target)
    if not certain and (refused := refusal(response, refusal_template)):
        return Outcome.REFUSED, refused
    if choice is None:
        return Outcome.WRONG, "unparsable"
    return Outcome.CORRECT if choice.option == target else Outcome.WRONG, choice.rule


def parse_choice(response: str, options: Sequence[str], *, by_letter: bool = True) -> Choice | None:
    """Return which option `response` chooses, None where it chooses none or several.

    A letter goes before an option that is a letter itself: letters are what was asked for.
    """
    lines = response.strip().splitlines()
    line = lines[0].strip() if lines else ""
    unmarked = _MARKUP.sub("", line).strip()
    announced = _ANNOUNCED.match(unmarked)
    for form in dict.fromkeys((unmarked, unmarked[announced.end() :] if announced else unmarked, line)):
        letter = _LETTER.fullmatch(form) if by_letter else None
        place = LETTERS.find(letter[1].upper()) if letter else -1
        rest = letter[2] if letter and 0 <= place < len(options) else None
        if rest is not None and (_END.fullmatch(rest) or normalise(rest) == normalise(options[place])):
            return Choice(place, "letter", bare=True)
        if (named := _named(form, options)) is not None:
            return Choice(named, "option", bare=True)
        if rest is not None and (more := _GOES_ON.fullmatch(form, len(form) - len(rest))):
            return Choice(place, "letter", bare=False) if _agrees(more[1], place, options) else None
    return None


def _named(text: str, options: Sequence[str]) -> int | None:
    """The one option that `text` is; where several are alike once normalised, it has to be spelled as it is there."""
    rules = ["same" if text == option else match(text, (option,)) for option in options]
    best = next((rule for rule in ("same", "exact", "folded") if rule in rules), None)
    return rules.index(best) if best and rules.count(best) == 1 else None


def _agrees(rest: str, place: int, options: Sequence[str]) -> bool:
    """Whether what follows a letter leaves the choice as it is: it offers neither another letter nor another option."""
    further = _FURTHER.match(rest)
    if further and LETTERS.find((further[1] or further[2]).upper(), 0, len(options)) not in (-1, place):
        return False
    given = f"{normalise(rest)} "
    begun = [text for option in options if given.startswith(text := f"{normalise(option)} ")]
    return not begun or max(begun, key=len) == f"{normalise(options[place])} "
