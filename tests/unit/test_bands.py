"""Refusals by what the initial model knew: by hand, and against a loop over all cells and questions."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rait.errors import InputError
from rait.evaluation.bands import (
    CORRECTNESS_EDGES,
    Neighbour,
    Outcomes,
    over_refusal,
    quantile_edges,
    refusal_by_band,
    why_refused,
)
from rait.records import KnowledgeState, Outcome, Verdict

LETTERS = {"c": Outcome.CORRECT, "w": Outcome.WRONG, "r": Outcome.REFUSED}


def state(id, mu, sigma=0.5):
    return KnowledgeState(id=id, question="?", answers=("x",), correctness=mu, certainty=sigma)


def verdict(id, letter):
    return Verdict(id=id, question="?", answers=("x",), response="", outcome=LETTERS[letter], rule="")


STATES = [
    state("a", 0.0, -0.2),
    state("b", 0.2, 0.1),
    state("c", 0.4, 0.4),
    state("d", 0.5, 0.4),
    state("e", 1.0, 1.0),
    state("f", 0.9, 0.39),
]
VERDICTS = [verdict(id, letter) for id, letter in zip("fedcba", "crrwwr", strict=True)]


def table(cells):
    return {
        (cell.mu_low, cell.mu_high, cell.sigma_low, cell.sigma_high): cell.outcomes for cell in cells if cell.outcomes.n
    }


def test_cells_by_hand():
    cells = refusal_by_band(STATES, VERDICTS, (0, 0.2, 0.5, 1), (-1, 0.4, 1))
    assert len(cells) == 6
    assert table(cells) == {
        (0, 0.2, -1, 0.4): Outcomes(correct=0, wrong=0, refused=1),
        (0.2, 0.5, -1, 0.4): Outcomes(correct=0, wrong=1, refused=0),
        (0.2, 0.5, 0.4, 1): Outcomes(correct=0, wrong=1, refused=0),
        (0.5, 1, -1, 0.4): Outcomes(correct=1, wrong=0, refused=0),
        (0.5, 1, 0.4, 1): Outcomes(correct=0, wrong=0, refused=2),
    }
    empty = cells[1].outcomes
    assert empty.n == 0 and empty.share(empty.refused) is None
    full = cells[5].outcomes
    assert full.share(full.refused) == 1 and full.share(full.wrong) == 0


def test_over_refusal_by_hand():
    found = over_refusal(STATES, VERDICTS, 0.5)
    assert found.known == Outcomes(correct=1, wrong=0, refused=2)
    assert found.unknown == Outcomes(correct=0, wrong=2, refused=1)
    assert (found.over_refusal, found.missed_refusal) == (2 / 3, 2 / 3)
    assert over_refusal(STATES, VERDICTS, 0.0).missed_refusal is None
    assert over_refusal([], [], 0.5).over_refusal is None
    assert over_refusal(STATES[:1], VERDICTS[-1:], 0.5).over_refusal is None


values = st.tuples(
    st.integers(0, 10).map(lambda k: k / 10), st.sampled_from([-0.5, 0.0, 0.25, 0.7, 1.0]), st.sampled_from("cwr")
)


@given(st.lists(values, max_size=40), st.integers(1, 6), st.randoms(use_true_random=False))
def test_every_question_is_in_the_one_cell_that_holds_it(rows, bands, random):
    states = [state(f"q{i}", mu, sigma) for i, (mu, sigma, _) in enumerate(rows)]
    verdicts = [verdict(f"q{i}", letter) for i, (*_, letter) in enumerate(rows)]
    cells = refusal_by_band(states, verdicts, CORRECTNESS_EDGES, bands)
    assert sum(cell.outcomes.n for cell in cells) == len(rows)
    top = max((sigma for _, sigma, _ in rows), default=None)
    # Whether a cell is in the last band cannot be told from its edges alone when that is one value.
    last = [cell for cell in cells if (cell.sigma_low, cell.sigma_high) == (cells[-1].sigma_low, top)]
    for cell in cells:
        expected = dict.fromkeys("cwr", 0)
        for mu, sigma, letter in rows:
            in_mu = cell.mu_low <= mu < cell.mu_high or mu == cell.mu_high == 1
            in_sigma = cell.sigma_low <= sigma < cell.sigma_high or (cell in last and sigma == top)
            expected[letter] += in_mu and in_sigma
        assert cell.outcomes == Outcomes(expected["c"], expected["w"], expected["r"])
    random.shuffle(states)
    random.shuffle(verdicts)
    assert refusal_by_band(states, verdicts, CORRECTNESS_EDGES, bands) == cells


def test_quantile_edges():
    assert quantile_edges(range(101), 4) == [0, 25, 50, 75, 100]
    assert quantile_edges([3, 1, 2, 2, 2, 2, 2, 2], 4) == [1, 2, 3]
    assert quantile_edges([0, 1, 2, 9, 9, 9, 9], 3) == [0, 2, 9, 9]  # the many highest are a band of their own
    assert quantile_edges([5], 3) == [5, 5]
    assert quantile_edges([], 3) == []
    with pytest.raises(ValueError, match="at least 1"):
        quantile_edges([1], 0)


def test_no_questions_have_no_cell_at_quantiles_and_empty_ones_at_edges():
    assert refusal_by_band([], []) == []
    assert [cell.outcomes.n for cell in refusal_by_band([], [], (0, 0.5, 1), (0, 1))] == [0, 0]


@pytest.mark.parametrize("edges", [(0, 0.5), (0.1, 1), (0, 0.5, 0.5, 1), (0,)])
def test_edges_of_correctness_must_ascend_from_0_to_1(edges):
    with pytest.raises(ValueError, match="mu_edges"):
        refusal_by_band(STATES, VERDICTS, edges)


@pytest.mark.parametrize("edges", [(-1, 0.9), (0, 1), (1, -1), (-1,), (-1, 0, 0, 1)])
def test_edges_of_certainty_must_ascend_around_all(edges):
    with pytest.raises(ValueError, match="sigma_edges"):
        refusal_by_band(STATES, VERDICTS, sigma_edges=edges)


@pytest.mark.parametrize("of", [refusal_by_band, lambda states, verdicts: over_refusal(states, verdicts, 0.5)])
def test_the_same_questions_must_be_on_both_sides(of):
    with pytest.raises(InputError, match="2 questions have no verdict \\('a', 'b'\\)"):
        of(STATES, VERDICTS[:4])
    with pytest.raises(InputError, match="1 questions have no initial state \\('a'\\)"):
        of(STATES[1:], VERDICTS)
    with pytest.raises(InputError, match="stand in the initial states more than once \\('a'\\)"):
        of([*STATES, STATES[0]], VERDICTS)
    with pytest.raises(InputError, match="stand in the verdicts more than once \\('f'\\)"):
        of(STATES, [*VERDICTS, VERDICTS[0]])


def test_why_refused_by_hand():
    examples = np.array([[0, 1], [1, 0], [2, 0], [3, 4]], dtype=np.float32)
    found = why_refused(["x", "y"], np.array([[1, 0], [0, 0]], dtype=np.float32), ["d", "c", "b", "a"], examples, 3)
    assert found == {
        "x": (Neighbour("b", 1.0), Neighbour("c", 1.0), Neighbour("a", 0.6)),
        "y": (Neighbour("a", 0.0), Neighbour("b", 0.0), Neighbour("c", 0.0)),
    }
    assert why_refused(["x"], examples[:1], ["a"], examples[:1], 5) == {"x": (Neighbour("a", 1.0),)}
    assert why_refused(["x"], examples[:1], [], examples[:0], 5) == {"x": ()}
    assert why_refused([], examples[:0], ["a"], examples[:1], 5) == {}


@pytest.mark.parametrize("seed", range(5))
def test_why_refused_is_that_of_sorting_all_cosines(seed):
    rng = np.random.default_rng(seed)
    refused, taught = rng.normal(size=(20, 6)).astype(np.float32), rng.normal(size=(50, 6)).astype(np.float32)
    ids = [f"t{number}" for number in range(50)]
    order = random.Random(seed).sample(range(50), 50)
    found = why_refused([str(i) for i in range(20)], refused, [ids[i] for i in order], taught[order], 7)
    for i, row in enumerate(refused):
        cosines = {
            id: float(row @ other / np.linalg.norm(row) / np.linalg.norm(other))
            for id, other in zip(ids, taught, strict=True)
        }
        expected = sorted(cosines, key=cosines.__getitem__, reverse=True)[:7]
        assert [near.id for near in found[str(i)]] == expected
        assert [near.cosine for near in found[str(i)]] == pytest.approx([cosines[id] for id in expected], abs=1e-5)
