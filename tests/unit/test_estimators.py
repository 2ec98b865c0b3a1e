"""Estimates of certainty: values by hand, second implementations on random states, what must not change them."""

import random
from dataclasses import replace
from math import exp, log
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rait.errors import InputError, ModelError
from rait.judging import normalise
from rait.knowledge.estimators import ESTIMATORS, estimates, names_for, with_certainty
from rait.models.entailment import Relation
from rait.records import Answer, KnowledgeState
from rait.settings import Construction

WORDS = ("Paris", "paris", "The Paris.", "Lyon", "Rome", "Roma", "in Rome", "", "Oslo")
CITY = {"Paris": 0, "paris": 0, "The Paris.": 0, "Lyon": 1, "Rome": 2, "Roma": 2, "in Rome": 2, "": 3, "Oslo": 4}
LETTERS = ("A", "B", "C")


def state(*responses, id="q", question="Where ?", certainty=0.5, **more):
    """A state of (text, count, log-probability, tokens), the last two optional."""
    answers = tuple(
        Answer(text=text, count=count, correct=False, **dict(zip(("log_probability", "tokens"), rest, strict=False)))
        for text, count, *rest in responses
    )
    return KnowledgeState(
        id=id, question=question, answers=("Paris",), correctness=0.0, certainty=certainty, responses=answers, **more
    )


def one(name, of, **more):
    """The estimate of a single state."""
    (value,) = estimates([of], [name], **more)[name]
    return value


def entropy(shares):
    return -sum(p * log(p) for p in shares if p > 0)


def by_city(pairs):
    """Entailment of "Where ? X": texts of the same city entail each other, others contradict."""
    cities = [[CITY[text.removeprefix("Where ? ")] for text in pair] for pair in pairs]
    return ["entailment" if first == second else "contradiction" for first, second in cities]


def told(relations, otherwise="contradiction"):
    """An entailment model that knows the relation of some (premise, hypothesis) by their answers alone."""
    return lambda pairs: [relations.get(tuple(t.removeprefix("Where ? ") for t in pair), otherwise) for pair in pairs]


def directions(angles):
    """A sentence model in the plane: each text points at its angle in degrees, at any length."""

    def embed(texts):
        radians = np.deg2rad([angles[text] for text in texts])
        return np.stack([np.cos(radians), np.sin(radians)], axis=1) * np.arange(1, len(texts) + 1)[:, None]

    return embed


# Values by hand


def test_exact_entropy_by_hand():
    # 4 of "paris" in three spellings, 1 of "Lyon".
    found = one("exact_entropy", state(("Paris", 2), ("paris", 1), ("The Paris.", 1), ("Lyon", 1)))

    assert found == pytest.approx(-entropy([0.8, 0.2]), abs=1e-6)
    assert one("exact_entropy", state(("Paris", 9), ("the paris", 1))) == 0
    assert one("exact_entropy", state(*[(f"{n} cats", 1) for n in range(10)])) == pytest.approx(-log(10), abs=1e-6)


def test_embedding_entropy_by_hand():
    # The largest first: "b" opens a cluster, "a" 40 degrees away joins it from cosine 0.7 on, "c" 40 degrees beyond "a"
    # is 80 away from "b" and opens its own, though it is as near to "a" as "b" is.
    three = state(("a", 2), ("b", 3), ("c", 1))
    embed = directions({"a": 40, "b": 0, "c": 80})

    assert one("embedding_entropy", three, embed=embed, same=0.7) == pytest.approx(-entropy([5 / 6, 1 / 6]), abs=1e-6)
    assert one("embedding_entropy", three, embed=embed) == pytest.approx(-entropy([1 / 2, 1 / 3, 1 / 6]), abs=1e-6)
    assert one("embedding_entropy", three, embed=embed, same=0.17) == 0


def test_answers_exactly_as_near_as_asked_mean_the_same():
    two = state(("a", 1), ("b", 1))

    assert one("embedding_entropy", two, embed=lambda texts: np.array([[1.0, 0.0], [3.0, 4.0]]), same=0.6) == 0


def test_progress_is_told_of_each_state():
    told: list[int] = []
    estimates([state(("a", 2), id="x"), state(("b", 2), id="y")], ["exact_entropy"], advance=told.append)

    assert told == [1, 1]


def test_no_embedding_is_made_for_what_needs_none():
    def embed(texts):
        raise AssertionError(texts)

    assert one("exact_entropy", state(("a", 1), ("b", 1)), embed=embed) == pytest.approx(-log(2), abs=1e-6)


def test_a_sentence_model_of_too_few_rows_is_not_believed():
    with pytest.raises(ValueError):
        one("embedding_entropy", state(("a", 1), ("b", 1)), embed=lambda texts: np.array([[1.0, 0.0]]))


def test_a_zero_vector_has_cosine_0_with_every_answer():
    rows = {"": [0.0, 0.0], "Rome": [3.0, 4.0], "Oslo": [-3.0, -4.0]}

    def embed(texts):
        return np.array([rows[text] for text in texts])

    of = state(("", 2), ("Oslo", 1), ("Rome", 1))
    assert one("embedding_entropy", of, embed=embed) == pytest.approx(-entropy([0.5, 0.25, 0.25]), abs=1e-6)
    assert one("embedding_entropy", of, embed=embed, same=0.0) == 0


def test_embeddings_may_be_of_half_precision():
    def embed(texts):
        return np.array([[300.0, 0.0], [600.0, 0.0]], dtype=np.float16)  # their squares are beyond it

    assert one("embedding_entropy", state(("Rome", 1), ("Roma", 1)), embed=embed) == 0


def test_an_entailment_model_of_too_few_relations_is_not_believed():
    with pytest.raises(ValueError):
        one("semantic_entropy", state(("a", 1, -1, 1), ("b", 1, -1, 1)), entails=lambda pairs: ["neutral"])


def test_semantic_entropy_by_hand():
    # Per-token likelihoods 1/2, 1/4, 1/8, drawn 1, 2 and 4 times: 1/2 each. The first two mean the same.
    three = state(("Rome", 1, log(1 / 4), 2), ("Roma", 2, log(1 / 64), 3), ("Lyon", 4, log(1 / 8), 1))

    assert one("semantic_entropy", three, entails=by_city) == pytest.approx(-entropy([2 / 3, 1 / 3]), abs=1e-6)
    assert one("discrete_semantic_entropy", three, entails=by_city) == pytest.approx(-entropy([3 / 7, 4 / 7]), abs=1e-6)


def test_semantic_entropy_of_very_unlikely_answers():
    two = state(("Rome", 1, -9000.0, 3), ("Lyon", 1, -9000.0 - 3 * log(3), 3))

    assert one("semantic_entropy", two, entails=by_city) == pytest.approx(-entropy([3 / 4, 1 / 4]), abs=1e-6)


@pytest.mark.parametrize(
    ("there", "back", "same"),
    [
        ("entailment", "entailment", True),
        ("entailment", "neutral", True),
        ("neutral", "entailment", True),
        ("neutral", "neutral", False),
        ("entailment", "contradiction", False),
        ("contradiction", "entailment", False),
        ("neutral", "contradiction", False),
        ("contradiction", "contradiction", False),
    ],
)
def test_when_two_answers_mean_the_same(there, back, same):
    entails = told({("Rome", "Roma"): there, ("Roma", "Rome"): back})

    found = one("discrete_semantic_entropy", state(("Rome", 2), ("Roma", 2)), entails=entails)

    assert found == pytest.approx(0 if same else -log(2), abs=1e-6)


def test_an_answer_joins_the_first_cluster_whose_first_member_it_is_like():
    # c is like a and like b, which are not alike: it joins that of the more frequent b; d is like c alone.
    alike = {pair: "entailment" for x, y in ("ac", "bc", "cd") for pair in ((x, y), (y, x))}
    four = state(("a", 2), ("b", 4), ("c", 1), ("d", 1))

    found = one("discrete_semantic_entropy", four, entails=told(alike))

    assert found == pytest.approx(-entropy([5 / 8, 2 / 8, 1 / 8]), abs=1e-6)


def test_the_question_stands_before_the_answer_and_each_pair_is_asked_once():
    asked = []

    def entails(pairs):
        asked.extend(pairs)
        return ["contradiction"] * len(pairs)

    two = state(("Rome", 1, -1.0, 1), ("Lyon", 2, -1.0, 1))
    estimates([two], ["semantic_entropy", "discrete_semantic_entropy"], entails=entails)

    assert sorted(asked) == [("Where ? Lyon", "Where ? Rome"), ("Where ? Rome", "Where ? Lyon")]


def test_sequence_log_probability_by_hand():
    # (3 * -1/2 + 1 * -4) / 4
    assert one("sequence_log_probability", state(("Rome", 3, -1.0, 2), ("", 1, -4.0, 1))) == -1.375


def test_certain_is_0_and_not_minus_0():
    assert str(one("sequence_log_probability", state(("Paris", 2, -1e-9, 3)))) == "0.0"


def test_options_by_hand():
    of = state(options=LETTERS, target=0, probabilities=(0.5, 0.25, 0.25), certainty=-1.04)

    assert one("negative_entropy", of) == pytest.approx(-1.5 * log(2), abs=1e-6)
    assert one("max_log_probability", of) == pytest.approx(-log(2), abs=1e-6)
    assert one("cosine", of) == -1.04
    sure = replace(of, probabilities=(0.0, 1.0, 0.0))
    assert one("negative_entropy", sure) == one("max_log_probability", sure) == 0


def test_what_is_stored_stays_as_it_is():
    of = state(("Rome", 2), certainty=0.25, kurtosis=1234.5)

    assert one("cosine", of) == 0.25
    assert one("kurtosis", of) == 1234.5


# What is lacking


def test_what_a_state_lacks_is_none():
    full = {"embed": lambda texts: np.eye(max(len(texts), 2))[: len(texts)], "entails": by_city}
    lacking = {
        "nothing stored": (state(), {"cosine"}),
        "one sample": (state(("Rome", 1, -1.0, 1)), {"cosine"}),
        "text alone": (
            state(("Rome", 2), ("Lyon", 1)),
            {"cosine", "exact_entropy", "embedding_entropy", "discrete_semantic_entropy"},
        ),
        "one log-probability": (
            state(("Rome", 2, -1.0, 1), ("Lyon", 1)),
            {"cosine", "exact_entropy", "embedding_entropy", "discrete_semantic_entropy"},
        ),
        "no tokens": (
            state(("Rome", 2, -1.0, 0), ("Lyon", 1, -1.0, 1)),
            {"cosine", "exact_entropy", "embedding_entropy", "discrete_semantic_entropy"},
        ),
        "no greedy answer": (
            state(("Rome", 2, -1.0, 1), ("Lyon", 1, -1.0, 1)),
            ESTIMATORS.keys() - {"kurtosis", "negative_entropy", "max_log_probability"},
        ),
        "no sample": (state(kurtosis=7.0), {"cosine", "kurtosis"}),
        "no option": (
            state(options=LETTERS, target=0, probabilities=(0.0, 0.0, 1.0)),
            {"cosine", "negative_entropy", "max_log_probability"},
        ),
    }
    for what, (of, there) in lacking.items():
        found = estimates([of], list(ESTIMATORS), **full)
        assert {name for name, (value,) in found.items() if value is not None} == there, what


def test_without_a_model_the_estimates_that_need_it_are_none():
    found = estimates([state(("Rome", 2, -1.0, 1), ("Lyon", 1, -1.0, 1))], list(ESTIMATORS))

    assert found["embedding_entropy"] == found["semantic_entropy"] == found["discrete_semantic_entropy"] == [None]
    assert found["exact_entropy"] != [None]


def test_an_unknown_name_and_a_broken_embedding_are_said():
    with pytest.raises(InputError, match="unknown estimate of certainty 'entropy'; known: cosine, exact_entropy"):
        estimates([state()], ["entropy"])
    with pytest.raises(ModelError, match="of the answer 'Rome' is not finite"):
        one("embedding_entropy", state(("Lyon", 1), ("Rome", 1)), embed=lambda texts: np.array([[0, 1], [np.nan, 0]]))


# Certainty replaced


def test_every_certainty_of_a_recipe_is_an_estimate():
    assert set(get_args(Construction.model_fields["certainty"].annotation)) <= ESTIMATORS.keys()


def test_with_certainty_replaces_it_and_nothing_else():
    states = [state(("Rome", 3), ("Lyon", 1), id="a"), state(("Rome", 4), id="b")]

    found = with_certainty(states, "exact_entropy")

    assert [s.certainty for s in found] == pytest.approx([-entropy([0.75, 0.25]), 0], abs=1e-6)
    assert [replace(s, certainty=0.5) for s in found] == states
    embed = directions({"Rome": 0, "Lyon": 90})
    assert [s.certainty for s in with_certainty(states, "embedding_entropy", embed)] == [s.certainty for s in found]
    stored = [replace(s, certainty=0.123456789) for s in states]
    assert with_certainty(stored, "cosine") == stored


def test_with_certainty_names_what_lacks_it():
    states = [state(("Rome", 2), id="a", kurtosis=3.0), state(("Rome", 2), id="b"), state(id="c")]

    with pytest.raises(InputError, match=r"the kurtosis of a greedy answer, which 2 of 3 questions lack \('b', 'c'\)"):
        with_certainty(states, "kurtosis")


def test_names_for_the_kind_of_states():
    sampled = state(("Rome", 2), id="a")
    scored = state(id="b", options=LETTERS, target=0, probabilities=(0.5, 0.5, 0.0))

    assert set(names_for([scored])) == {"negative_entropy", "max_log_probability"}
    assert set(names_for([sampled])) == ESTIMATORS.keys() - {"negative_entropy", "max_log_probability"}
    with pytest.raises(
        InputError, match=r"1 of 2 questions have option probabilities, others have none \('a' is one\)"
    ):
        names_for([scored, sampled])


# Second implementations, on random states: sample by sample, in the way of the sources


def samples_of(of):
    """Every sample on its own, in the order of clustering."""
    ordered = sorted(of.responses, key=lambda answer: (-answer.count, answer.text))
    return [answer for answer in ordered for _ in range(answer.count)]


def ids_of(items, equal):
    """The number of the first cluster whose first member an item equals; O(n^2)."""
    firsts, ids = [], []
    for item in items:
        for number, first in enumerate(firsts):
            if equal(first, item):
                ids.append(number)
                break
        else:
            ids.append(len(firsts))
            firsts.append(item)
    return ids


def cluster_entropy(ids, likelihoods=None):
    likelihoods = likelihoods or [1.0] * len(ids)
    total = sum(likelihoods)
    return entropy([sum(x for i, x in zip(ids, likelihoods, strict=True) if i == c) / total for c in set(ids)])


_answers = st.dictionaries(
    st.sampled_from(WORDS),
    st.tuples(st.integers(1, 6), st.floats(-40, 0), st.integers(1, 9)),
    min_size=1,
    max_size=len(WORDS),
).filter(lambda found: sum(count for count, _, _ in found.values()) >= 2)


@given(_answers, st.integers(0, 2**32), st.floats(-0.5, 0.99))
@settings(deadline=None, max_examples=300)
def test_all_agree_with_a_loop_over_samples(found, seed, same):
    rng = random.Random(seed)
    of = state(*[(text, *rest) for text, rest in found.items()])
    relations = {(x, y): rng.choice(get_args(Relation)) for x in WORDS for y in WORDS}
    vectors = {text: np.array([rng.gauss(0, 1) for _ in range(3)]) for text in WORDS}

    def means_the_same(first, second):
        both = [relations[first.text, second.text], relations[second.text, first.text]]
        return first.text == second.text or ("contradiction" not in both and both != ["neutral", "neutral"])

    def points_alike(first, second):
        x, y = vectors[first.text], vectors[second.text]
        return first.text == second.text or x @ y / np.sqrt(x @ x * (y @ y)) >= same

    samples = samples_of(of)
    rates = [answer.log_probability / answer.tokens for answer in samples]
    meanings = ids_of(samples, means_the_same)
    got = estimates(
        [of], list(ESTIMATORS), lambda texts: np.stack([vectors[t] for t in texts]), told(relations), same=same
    )

    assert got["exact_entropy"] == [pytest.approx(-cluster_entropy([normalise(a.text) for a in samples]), abs=1e-6)]
    assert got["embedding_entropy"] == [pytest.approx(-cluster_entropy(ids_of(samples, points_alike)), abs=1e-6)]
    assert got["discrete_semantic_entropy"] == [pytest.approx(-cluster_entropy(meanings), abs=1e-6)]
    weighted = cluster_entropy(meanings, [exp(rate) for rate in rates])
    assert got["semantic_entropy"] == [pytest.approx(-weighted, abs=1e-6)]
    assert got["sequence_log_probability"] == [pytest.approx(sum(rates) / len(rates), abs=1e-6)]
    for name in ("exact_entropy", "embedding_entropy", "semantic_entropy", "discrete_semantic_entropy"):
        assert -log(len(samples)) - 1e-6 <= got[name][0] <= 0


@given(_answers, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=100)
def test_neither_the_order_of_answers_nor_that_of_states_matters(found, rng):
    rows = [(text, *rest) for text, rest in found.items()]
    others = [state(("Rome", 1, -1.0, 1), ("Oslo", 2, -2.0, 1), id=str(n)) for n in range(3)]
    shuffled = rng.sample(rows, len(rows))
    embed = directions({text: 30 * place for place, text in enumerate(WORDS)})
    names = list(ESTIMATORS)

    first = estimates([state(*rows), *others], names, embed, by_city)
    second = estimates([*others, state(*shuffled)], names, embed, by_city)

    assert {name: values[0] for name, values in first.items()} == {name: values[-1] for name, values in second.items()}


@given(_answers)
@settings(deadline=None, max_examples=100)
def test_an_answer_listed_twice_counts_as_both(found):
    """A file made elsewhere may list every sample on its own."""
    whole = state(*[(text, *rest) for text, rest in found.items()])
    single = state(*[(text, 1, *rest) for text, (count, *rest) in found.items() for _ in range(count)])
    names = ["exact_entropy", "sequence_log_probability"]

    assert estimates([whole], names) == estimates([single], names)


def test_texts_are_embedded_once_over_all_states():
    calls = []

    def embed(texts):
        calls.append(list(texts))
        return np.eye(len(texts))

    estimates([state(("Rome", 1), ("Lyon", 1)), state(("Rome", 2), ("Oslo", 1))], list(ESTIMATORS), embed)

    assert calls == [["Lyon", "Oslo", "Rome"]]


def test_more_agreement_is_more_certain():
    """From ten alike to ten different ones every estimate of agreement falls."""
    rng = random.Random(0)
    steps = []
    for different in range(1, len(WORDS) - 4):
        texts = ["Paris", "Lyon", "Rome", "Oslo"][:different]
        steps.append(state(*[(t, 12 // different, -different - rng.random() / 9, 1) for t in texts], id=str(different)))
    names = ["exact_entropy", "embedding_entropy", "semantic_entropy", "discrete_semantic_entropy"]
    embed = directions({"Paris": 0, "Lyon": 90, "Rome": 180, "Oslo": 270})

    for values in estimates(steps, [*names, "sequence_log_probability"], embed, by_city).values():
        assert values == sorted(values, reverse=True)
        assert len(set(values)) == len(steps) == 4
