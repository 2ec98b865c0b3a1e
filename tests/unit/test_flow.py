"""Knowledge flow: the join of two models' states, and its summary by band."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rait.errors import InputError
from rait.knowledge.flow import FlowBand, by_band, flows
from rait.records import KnowledgeState


def make_state(id, correctness, certainty=0.5):
    return KnowledgeState(id=id, question=f"{id}?", answers=("x",), correctness=correctness, certainty=certainty)


def test_flow_is_the_rehearsed_state_minus_the_initial_one():
    initial = [make_state("a", 0.2, 0.9), make_state("b", 1.0, 0.4)]
    rehearsed = [make_state("b", 0.7, 0.6), make_state("a", 0.5, 0.8)]

    found = flows(initial, rehearsed)

    assert [flow.id for flow in found] == ["a", "b"]
    assert [flow.correctness_flow for flow in found] == pytest.approx([0.3, -0.3])
    assert [flow.certainty_flow for flow in found] == pytest.approx([-0.1, 0.2])


def test_states_may_come_one_by_one():
    initial, rehearsed = ([make_state(id, mu) for id, mu in rows] for rows in ((("a", 0.2),), (("a", 0.5),)))

    assert flows(iter(initial), iter(rehearsed)) == flows(initial, rehearsed)


def test_questions_missing_on_either_side_are_counted_and_named():
    states = [make_state(id, 0.5) for id in "abcdef"]

    with pytest.raises(InputError, match=r"^5 questions have no rehearsed state \('b', 'c', 'd', \.\.\.\)"):
        flows(states, states[:1])
    with pytest.raises(InputError, match=r"^1 questions have no initial state \('f'\)"):
        flows(states[:5], states)


@pytest.mark.parametrize("changes", [{"correctness": 1.5}, {"correctness": float("nan")}, {"certainty": float("inf")}])
def test_a_state_that_has_no_flow_cannot_be_made(changes):
    (name,) = changes
    with pytest.raises(ValueError, match=f"^{name} .* of question 'b' is"):
        replace(make_state("b", 0.5), **changes)


@pytest.mark.parametrize(
    ("before", "after", "direction"),
    [(0.2, 0.3, 1), (0.3, 0.2, -1), (0.3, 0.1 + 0.2, 0), (0.1 + 0.2, 0.3, 0), (0.0, 0.001, 1), (1.0, 1.0, 0)],
)
def test_direction_of_a_flow_ignores_rounding_noise(before, after, direction):
    (flow,) = flows([make_state("a", before)], [make_state("a", after)])

    assert flow.direction == direction


def test_repeated_ids_are_refused():
    states = [make_state("a", 0.5)]

    with pytest.raises(InputError, match=r"initial states more than once \('a'\)"):
        flows(states * 2, states)
    with pytest.raises(InputError, match=r"rehearsed states more than once \('a'\); keep one of each$"):
        flows(states, states * 2)


def test_states_of_other_questions_are_refused_with_the_remedy():
    a, b = [make_state("a", 0.5)], [make_state("b", 0.5)]

    for initial, rehearsed, fault in ((a + b, a, "no rehearsed state"), (a, a + b, "no initial state")):
        with pytest.raises(InputError) as failure:
            flows(initial, rehearsed)
        assert str(failure.value) == f"1 questions have {fault} ('b'); query both models on the same questions"


def test_one_band_holds_all():
    (band,) = by_band(changes((0.0, 0.2), (1.0, 0.5)), (0.0, 1.0))

    assert (band.rising, band.staying, band.falling) == (1, 0, 1)


def changes(*pairs):
    initial = [make_state(str(i), before) for i, (before, _) in enumerate(pairs)]
    rehearsed = [make_state(str(i), after) for i, (_, after) in enumerate(pairs)]
    return flows(initial, rehearsed)


def test_bands_by_hand():
    found = by_band(
        changes((0.0, 0.0), (0.0, 0.2), (0.3, 0.1 + 0.2), (0.1 + 0.2, 0.3), (0.4, 0.3), (0.5, 0.6), (1.0, 1.0), (1, 0))
    )

    assert found == [
        FlowBand(low=0.0, high=0.5, rising=1, staying=3, falling=1),
        FlowBand(low=0.5, high=1.0, rising=1, staying=1, falling=1),
    ]
    assert [band.count for band in found] == [5, 3]
    assert found[0].share(found[0].rising) == pytest.approx(0.2)


def test_the_share_of_an_empty_band_is_undefined():
    (low, high) = by_band(changes((0.9, 0.9)))

    assert (low.count, low.share(low.rising)) == (0, None)
    assert high.share(high.rising) == 0.0


@given(st.lists(st.tuples(st.integers(0, 10), st.integers(0, 10)), max_size=40))
def test_bands_count_every_question_once(pairs):
    edges = (0.0, 0.1, 0.3, 0.5, 0.9, 1.0)
    found = by_band(changes(*((before / 10, after / 10) for before, after in pairs)), edges)

    for band in found:
        low, high = round(band.low * 10), round(band.high * 10)
        inside = [(b, a) for b, a in pairs if low <= b < high or b == high == 10]
        assert band.rising == sum(a > b for b, a in inside)
        assert band.staying == sum(a == b for b, a in inside)
        assert band.falling == sum(a < b for b, a in inside)
    assert sum(band.count for band in found) == len(pairs)


@pytest.mark.parametrize("edges", [(), (0.0,), (0.1, 1.0), (0.0, 0.9), (0.0, 0.5, 0.5, 1.0), (0.0, 0.7, 0.5, 1.0)])
def test_edges_must_cover_the_range(edges):
    with pytest.raises(ValueError, match="edges"):
        by_band([], edges)
