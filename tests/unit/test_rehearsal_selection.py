"""Rehearsal selection: who is rehearsed, in what order, and with which target."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from rait.errors import InputError, ShortageError
from rait.knowledge.rehearsal import select, target
from rait.recipe import Rehearsal
from rait.records import Answer, KnowledgeState


def make_state(id, correctness, certainty, responses=(), answers=("gold",)):
    return KnowledgeState(
        id=id, question=f"{id}?", answers=answers, correctness=correctness, certainty=certainty, responses=responses
    )


STATES = [
    make_state("a", 1.0, 1.0),
    make_state("b", 1.0, 0.99),
    make_state("c", 0.9, 1.0),
    make_state("d", 1.0, 0.995),
    make_state("e", 0.0, 1.0),
    make_state("f", 0.9, 1.0),
    make_state("g", 0.2, 0.1),
    make_state("h", 1.0, 1.0),
]


def ids(chosen):
    return [state.id for state in chosen.states]


def test_threshold_takes_those_at_or_above_both():
    chosen = select(STATES, Rehearsal(size=3), seed=0)

    assert sorted(ids(chosen)) == ["a", "d", "h"]
    assert chosen.note == ("rehearsing 3 of 3 questions with correctness >= 0.995 and certainty >= 0.995, at random")


def test_fewer_than_wanted_are_taken_and_noted():
    chosen = select(STATES, Rehearsal(size=1000), seed=0)

    assert sorted(ids(chosen)) == ["a", "d", "h"]
    assert chosen.note.startswith("rehearsing 3 of 3 questions")
    assert chosen.note.endswith(", fewer than the 1000 wanted")


def test_top_takes_the_best_by_correctness_then_certainty_then_id():
    assert ids(select(STATES, Rehearsal(size=5, rule="top"), seed=0)) == ["a", "h", "d", "b", "c"]
    assert ids(select(STATES, Rehearsal(size=99, rule="top"), seed=0)) == ["a", "h", "d", "b", "c", "f", "g"]


def test_threshold_draws_evenly_and_by_seed():
    states = [make_state(f"q{i}", 1.0, 1.0) for i in range(20)]
    draws = [frozenset(ids(select(states, Rehearsal(size=5), seed=seed))) for seed in range(2000)]

    # Each is drawn 500 times in expectation, standard deviation 19.
    assert all(abs(sum(state.id in draw for draw in draws) - 500) < 100 for state in states)
    assert len(set(draws)) > 1500
    assert draws[3] == frozenset(ids(select(states, Rehearsal(size=5), seed=3)))


def test_a_larger_draw_holds_the_smaller_one():
    states = [make_state(f"q{i}", 1.0, 1.0) for i in range(20)]

    assert ids(select(states, Rehearsal(size=12), seed=1))[:5] == ids(select(states, Rehearsal(size=5), seed=1))


@given(
    rows=st.dictionaries(
        st.text("abcd", min_size=1, max_size=3),
        st.tuples(st.integers(0, 10).map(lambda k: k / 10), st.sampled_from([-0.1, 0.0, 0.5, 1.0])),
        max_size=20,
    ),
    chosen=st.builds(
        Rehearsal,
        correctness=st.sampled_from([0.0, 0.3, 0.995]),
        certainty=st.sampled_from([-1.0, 0.5]),
        size=st.integers(1, 12),
        rule=st.sampled_from(["threshold", "top"]),
    ),
    seed=st.integers(0, 5),
    rng=st.randoms(),
)
@settings(deadline=None, max_examples=300)
def test_invariants(rows, chosen, seed, rng):
    states = [make_state(id, mu, sigma) for id, (mu, sigma) in rows.items()]
    allowed = {
        id
        for id, (mu, sigma) in rows.items()
        if mu > 0 and (chosen.rule == "top" or (mu >= chosen.correctness and sigma >= chosen.certainty))
    }
    if not allowed:
        with pytest.raises(ShortageError):
            select(states, chosen, seed)
        return
    found = select(states, chosen, seed)

    assert set(ids(found)) <= allowed
    assert len(found.states) == len(set(ids(found))) == min(chosen.size, len(allowed))
    assert select(rng.sample(states, len(states)), chosen, seed) == found
    if chosen.rule == "top":
        worst = min((rows[id] for id in ids(found)), default=None)
        assert all(rows[id] <= worst for id in allowed - set(ids(found)))


def test_none_qualified_says_what_the_best_was_and_what_to_change():
    with pytest.raises(ShortageError) as failure:
        select([make_state("x", 0.6, 0.7), make_state("y", 0.6, 0.4)], Rehearsal(), seed=0)

    assert str(failure.value) == (
        "none of 2 questions reaches correctness 0.995 and certainty 0.995 for rehearsal: the best, 'x', has "
        "correctness 0.6 and certainty 0.7; lower rehearsal.correctness and rehearsal.certainty, "
        "take the best there are (rule=top), or ask questions the model knows"
    )


@pytest.mark.parametrize("rule", ["threshold", "top"])
def test_a_model_that_knows_nothing_has_nothing_to_rehearse(rule):
    chosen = Rehearsal(rule=rule, correctness=0.0, certainty=-1.0)

    with pytest.raises(ShortageError, match="answered none of 1 questions correctly"):
        select([make_state("x", 0.0, 1.0)], chosen, seed=0)
    with pytest.raises(ShortageError, match="none of 0 questions"):
        select([], chosen, seed=0)


@pytest.mark.parametrize(
    "changes", [{"rule": "best"}, {"size": 0}, {"correctness": 1.5}, {"certainty": 2.0}, {"certainty": float("nan")}]
)
def test_settings_out_of_range_are_refused(changes):
    with pytest.raises(ValidationError) as failure:
        Rehearsal(**changes)
    assert [problem["loc"] for problem in failure.value.errors()] == [tuple(changes)]


def answers(*rows):
    rows = list(rows)
    random.Random(0).shuffle(rows)
    return tuple(Answer(text=text, count=count, correct=correct) for text, count, correct in rows)


def test_target_is_the_most_frequent_correct_answer():
    responses = answers(("Lyon", 5, False), ("the city of Paris", 3, True), ("Paris", 2, True))

    assert target(make_state("x", 0.5, 0.5, responses)) == "the city of Paris"


def test_target_ties_go_to_the_shortest_then_the_alphabet():
    responses = answers(("Kingdom of the Netherlands", 3, True), ("Netherlandz", 3, True), ("Netherlands", 3, True))

    assert target(make_state("x", 0.9, 0.5, responses)) == "Netherlands"


def test_target_without_responses_is_the_preferred_answer():
    assert target(make_state("x", 1.0, 1.0, (), ("Kyiv", "Kiev"))) == "Kyiv"


def test_target_wants_something_right():
    with pytest.raises(InputError, match="'x'"):
        target(make_state("x", 0.0, 1.0, answers(("Lyon", 10, False))))
    with pytest.raises(InputError, match="'x'"):
        target(make_state("x", 1.0, 1.0, (), ()))
