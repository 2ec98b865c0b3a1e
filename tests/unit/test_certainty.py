"""Certainty against the definition: a loop over all ordered pairs of the N answers."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rait.errors import InputError, ModelError
from rait.knowledge.certainty import certainties, distinct_texts, mean_pairwise_cosine
from rait.records import Answer


def by_pairs(embeddings, counts):
    """The definition, O(N^2): identical answers have cosine 1, a zero vector cosine 0 with any other text."""
    answers = [row for row, count in enumerate(counts) for _ in range(count)]
    total = 0.0
    for j, first in enumerate(answers):
        for k, second in enumerate(answers):
            if j == k:
                continue
            if first == second:
                total += 1.0
                continue
            a, b = embeddings[first], embeddings[second]
            length = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
            total += sum(x * y for x, y in zip(a, b, strict=True)) / length if length else 0.0
    return total / (len(answers) * (len(answers) - 1))


def test_by_hand():
    # 3 answers along x, 1 along y: 6 ordered pairs of cosine 1, 6 of cosine 0.
    assert mean_pairwise_cosine(np.array([[2.0, 0.0], [0.0, 5.0]]), [3, 1]) == pytest.approx(0.5)
    # 60 degrees apart, once each.
    assert mean_pairwise_cosine(np.array([[1.0, 0.0], [1.0, math.sqrt(3)]]), [1, 1]) == pytest.approx(0.5)
    # Three directions 120 degrees apart: every pair -1/2.
    corners = np.array([[1.0, 0.0], [-0.5, math.sqrt(3) / 2], [-0.5, -math.sqrt(3) / 2]])
    assert mean_pairwise_cosine(corners, [1, 1, 1]) == pytest.approx(-0.5)
    assert mean_pairwise_cosine(np.array([[1.0, 2.0], [-1.0, -2.0]]), [1, 1]) == pytest.approx(-1.0)


@pytest.mark.parametrize("count", [2, 3, 10, 1000])
@pytest.mark.parametrize("row", [[0.1, 0.2, 0.3], [1e-3, 7.0, 1e3], [0.0, 0.0, 0.0]])
def test_identical_answers_give_exactly_one(count, row):
    assert mean_pairwise_cosine(np.array([row], dtype=np.float32), [count]) == 1.0


def test_a_zero_vector_is_like_itself_alone():
    assert mean_pairwise_cosine(np.array([[0.0, 0.0], [3.0, 4.0]]), [2, 2]) == pytest.approx(4 / 12)


_rows = (
    st.integers(1, 6)
    .flatmap(
        lambda d: st.lists(
            st.tuples(st.lists(st.integers(-50, 50), min_size=d, max_size=d), st.integers(1, 7)), min_size=1, max_size=8
        )
    )
    .filter(lambda rows: sum(count for _, count in rows) >= 2)
)


@given(_rows)
@settings(deadline=None, max_examples=300)
def test_agrees_with_the_loop_over_pairs(rows):
    embeddings, counts = [row for row, _ in rows], [count for _, count in rows]
    found = mean_pairwise_cosine(np.array(embeddings), counts)

    assert found == pytest.approx(by_pairs(embeddings, counts), abs=1e-12)
    assert -1.0 <= found <= 1.0


def test_agrees_with_the_loop_on_wide_single_precision_rows():
    rng = np.random.default_rng(5)
    embeddings = rng.normal(size=(10, 384)).astype(np.float32) + 1
    counts = rng.integers(1, 20, size=10)

    assert mean_pairwise_cosine(embeddings, counts) == pytest.approx(by_pairs(embeddings.tolist(), counts), abs=1e-12)


@pytest.mark.parametrize(
    ("embeddings", "counts"),
    [
        ([[1.0, 0.0]], [1]),
        ([[1.0, 0.0]], [2, 1]),
        ([[1.0, 0.0], [0.0, 1.0]], [2, 0]),
        ([[1.0, math.nan]], [2]),
        ([[1.0, math.inf]], [2]),
    ],
)
def test_what_has_no_certainty_is_refused(embeddings, counts):
    said = "not defined for fewer than two answers" if counts == [1] else f"found counts {re.escape(str(counts))}"
    with pytest.raises(ValueError, match=said):
        mean_pairwise_cosine(np.array(embeddings), counts)


def make_answers(**counts):
    return tuple(Answer(text=text, count=count, correct=False) for text, count in counts.items())


RESPONSES = {
    "q1": make_answers(Paris=7, Lyon=3),
    "q2": make_answers(Lyon=10),
    "q3": make_answers(Rome=4, Paris=4, Bern=2),
}


def test_each_distinct_text_has_one_row():
    assert distinct_texts(RESPONSES) == {"Bern": 0, "Lyon": 1, "Paris": 2, "Rome": 3}


def test_many_questions_share_one_matrix():
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(4, 8)).astype(np.float32)
    bern, lyon, paris, rome = embeddings.tolist()
    found = certainties(RESPONSES, distinct_texts(RESPONSES), embeddings)

    assert list(found) == ["q1", "q2", "q3"]
    assert found["q1"] == pytest.approx(by_pairs([paris, lyon], [7, 3]), abs=1e-12)
    assert found["q2"] == 1.0
    assert found["q3"] == pytest.approx(by_pairs([rome, paris, bern], [4, 4, 2]), abs=1e-12)


def test_too_few_answers_name_the_question():
    with pytest.raises(InputError, match=r"2 questions have fewer than two \('q4' is one\)"):
        certainties(RESPONSES | {"q4": make_answers(Bern=1), "q5": ()}, distinct_texts(RESPONSES), np.ones((4, 2)))


def test_two_answers_are_enough():
    rows = np.array([[1.0, 0.0], [1.0, 1.0]])

    assert certainties({"q": make_answers(a=1, b=1)}, {"a": 0, "b": 1}, rows)["q"] == pytest.approx(0.5**0.5)
    assert certainties({"q": make_answers(a=2)}, {"a": 0}, rows)["q"] == 1.0


def test_opposite_answers_are_not_below_minus_one():
    opposite = np.array([[0.1, 0.7, 0.2], [-0.1, -0.7, -0.2]])

    assert mean_pairwise_cosine(opposite, [1, 1]) == pytest.approx(-1.0)
    for row in np.random.default_rng(0).normal(size=(100, 5)):  # rounding makes some of these a little longer than 1
        assert mean_pairwise_cosine(np.stack([row, -row]), [1, 1]) >= -1.0


def test_a_broken_embedding_names_the_text():
    embeddings = np.ones((4, 2))
    embeddings[2, 0] = np.nan

    with pytest.raises(ModelError, match="'Paris'"):
        certainties(RESPONSES, distinct_texts(RESPONSES), embeddings)
