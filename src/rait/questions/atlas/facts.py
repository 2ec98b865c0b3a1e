"""What every relation of the atlas is made of: facts, the comparison of names, and access to the data packages."""

import string
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from rait.errors import InputError
from rait.records import Question

_UNDECOMPOSED = str.maketrans(
    {"ł": "l", "ø": "o", "đ": "d", "ð": "d", "\u0131": "i", "ß": "ss", "æ": "ae", "œ": "oe", "þ": "th"}
)
_SIGNS = str.maketrans(dict.fromkeys(string.punctuation, " ") | dict.fromkeys("'\u2018\u2019\u02bb\u02bc"))
_SHORTEST_INSIDE_A_WORD = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A question and the entity that it is about: all facts of one entity stay in one split."""

    entity: str
    question: Question


def codes(text: str) -> frozenset[str]:
    """Return the set of the codes in `text`, which are apart by spaces."""
    return frozenset(text.split())


def make_fact(relation: str, key: str, entity: str, text: str, answers: Iterable[str]) -> Fact:
    """Make the fact with the id "relation/key"; of answers that differ only in spelling marks the first one stays."""
    distinct: dict[str, str] = {}
    for answer in answers:
        distinct.setdefault(plain(answer), answer)
    kept = tuple(distinct.values())
    return Fact(
        entity=entity, question=Question(id=f"{relation}/{key}", question=text, answers=kept, category=relation)
    )


def plain(text: str) -> str:
    """Return `text` in lower case, without accents and punctuation, words apart by one space: for comparing names."""
    text = text.lower()
    if text.isascii() and text.isalpha():
        return text
    if not text.isascii():
        text = unicodedata.normalize("NFKD", text.translate(_UNDECOMPOSED))
        text = "".join(character for character in text if not unicodedata.combining(character))
    return " ".join(text.translate(_SIGNS).split())


def gives_away(question: Question) -> bool:
    """Say whether the question's text contains one of its answers: as whole words, or inside a word from 4 letters."""
    text = plain(question.question)
    for answer in map(plain, question.answers):
        if f" {answer} " in f" {text} " or (len(answer) >= _SHORTEST_INSIDE_A_WORD and answer in text):
            return True
    return False


def package_folder(name: str) -> Path:
    """Return the folder of the data package `name` without importing it; raise `InputError` if it is not installed."""
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            f'the question set "atlas" needs the package {name}; install it with: pip install "rait[demo]"'
        )
    return Path(spec.submodule_search_locations[0])
