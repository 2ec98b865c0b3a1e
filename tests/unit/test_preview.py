"""The look before training: what it shows is what construction does, and the rest is counted by hand."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rait.construction import Construction, Plan, construct, drawn, strategy
from rait.construction.preview import Cut, Overlap, Share, preview, to_json
from rait.construction.strategies import _STRATEGIES
from rait.errors import InputError, RecipeError
from rait.records import Answer, Influence, KnowledgeFlow, KnowledgeState, Role
from rait.summary import print_preview

NAMES = ("van_tuning", "cor_rait", "corcer_rait", "wo_cer", "craft")
CORRECTNESS = (1.0, 0.9, 0.7, 0.5, 0.6, 0.4, 0.3, 0.2, 0.1, 0.4)
CERTAINTY = (0.90, 0.95, 0.40, 0.60, 0.60, 0.30, 0.50, 0.10, 0.20, 0.20)
REHEARSED = (1.0, 0.8, 0.9, 0.5, 0.2, 0.3, 0.3, 0.4, 0.0, 0.1)
SMALL = Construction(vanilla=2, idk=2)


def make_state(id, mu, sigma, responses=()):
    return KnowledgeState(id=id, question="?", answers=("x",), correctness=mu, certainty=sigma, responses=responses)


def make_flow(state, after):
    return KnowledgeFlow(
        id=state.id,
        correctness_before=state.correctness,
        correctness_after=after,
        certainty_before=state.certainty,
        certainty_after=0.0,
    )


STATES = [make_state(f"q{i}", mu, sigma) for i, (mu, sigma) in enumerate(zip(CORRECTNESS, CERTAINTY, strict=True))]
FLOWS = [make_flow(state, after) for state, after in zip(STATES, REHEARSED, strict=True)]


@pytest.fixture
def own_strategies():
    """Strategies that the block registers are forgotten again."""
    before = dict(_STRATEGIES)
    yield
    _STRATEGIES.clear()
    _STRATEGIES.update(before)


def test_choices_by_hand():
    found = preview(STATES, FLOWS, None, SMALL, ["corcer_rait", "craft"])
    corcer, craft = found.strategies
    # Known: q1 q0 q3 q4 q2, most certain first. Unknown: q7 q8 q9 q5 q6, least certain first; q7 rises, q6 stays.
    assert corcer.vanilla == craft.vanilla == Share(5, 2, pytest.approx(0.95), pytest.approx(0.925))
    assert corcer.idk == Share(5, 2, pytest.approx(0.15), pytest.approx(0.15))
    assert craft.idk == Share(3, 2, pytest.approx(0.25), pytest.approx(0.2))
    assert craft.dropped == {
        "not among the most certain for vanilla": 3,
        "not among the least certain for idk": 1,
        "rising": 1,
        "staying": 1,
    }
    assert found.overlaps == (Overlap("corcer_rait", "craft", 1.0, 1 / 3),)  # q7 q8 against q8 q9
    assert (found.questions, found.wanted) == (10, (2, 2))
    assert craft.obstacle is None and craft.notes == ()


def test_thresholds_by_hand():
    found = preview(STATES, FLOWS, None, Construction(vanilla=2, idk=2, dead_band=0.1), ["craft"])
    assert [cut.threshold for cut in found.sweep] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    # Band 0.4 to 0.6 around 0.5: both ends are outside it, 0.5 itself is inside.
    assert found.sweep[4] == Cut(threshold=0.5, known=4, unknown=5, inside=1, rising=1, staying=1, falling=3)
    assert found.sweep[0] == Cut(threshold=0.1, known=9, unknown=0, inside=1, rising=0, staying=0, falling=0)
    without = preview(STATES, None, None, SMALL, ["cor_rait"]).sweep[4]
    assert without == Cut(threshold=0.5, known=5, unknown=5, inside=0, rising=None, staying=None, falling=None)


@st.composite
def probes(draw):
    numbers = st.tuples(st.integers(0, 10), st.integers(-2, 4), st.integers(0, 10))
    rows = draw(st.lists(numbers, min_size=1, max_size=25))
    states = [make_state(f"q{i}", mu / 10, sigma / 4) for i, (mu, sigma, _) in enumerate(rows)]
    return states, [make_flow(state, after / 10) for state, (*_, after) in zip(states, rows, strict=True)]


@given(probes(), st.integers(0, 6), st.integers(1, 6), st.sampled_from(["fail", "shrink"]), st.sampled_from([0.0, 0.1]))
def test_what_is_shown_is_what_construction_takes(probe, vanilla, idk, shortage, dead_band):
    states, flows = probe
    settings = Construction(vanilla=vanilla, idk=idk, shortage=shortage, dead_band=dead_band, seed=3)
    found = preview(states, iter(flows), None, settings, NAMES)
    taken = {}
    for one in found.strategies:
        try:
            expected = construct(one.strategy, states, flows, settings)
        except Exception as error:
            assert one.obstacle == str(error)
            assert one.vanilla.taken == one.idk.taken == 0 and one.dropped == {}
            assert f"found {one.vanilla.candidates} candidates" in one.obstacle
            assert f"vanilla and {one.idk.candidates} for the" in one.obstacle
            continue
        assert one.obstacle is None and one.notes == expected.notes
        taken[one.strategy] = ids = {
            role: {decision.id for decision in expected.decisions if decision.role is role} for role in Role
        }
        for share, role in ((one.vanilla, Role.VANILLA), (one.idk, Role.IDK)):
            chosen = [state for state in states if state.id in ids[role]]
            waiting = [
                d for d in expected.decisions if d.rank is not None and d.reason.split(":")[0].endswith(f"for {role}")
            ]
            assert share.taken == len(chosen) and share.candidates == len(waiting)
            for mean, name in ((share.correctness, "correctness"), (share.certainty, "certainty")):
                values = [getattr(state, name) for state in chosen]
                assert mean is None if not values else mean == pytest.approx(sum(values) / len(values))
        assert sum(one.dropped.values()) == len(ids[Role.DROPPED])
    assert [(pair.first, pair.second) for pair in found.overlaps] == [
        (first, second) for i, first in enumerate(taken) for second in list(taken)[i + 1 :]
    ]
    for pair in found.overlaps:
        for share, role in ((pair.vanilla, Role.VANILLA), (pair.idk, Role.IDK)):
            one, other = taken[pair.first][role], taken[pair.second][role]
            both = [id for id in one if id in other]
            assert share == (len(both) / (len(one) + len(other) - len(both)) if one or other else None)


def test_order_of_the_input_changes_nothing():
    states, flows = list(STATES), list(FLOWS)
    random.Random(1).shuffle(states)
    random.Random(2).shuffle(flows)
    assert preview(states, flows, None, SMALL, NAMES) == preview(STATES, FLOWS, None, SMALL, NAMES)


def test_missing_evidence_is_said_and_the_others_are_shown(own_strategies):
    @strategy("asks_for_influence", needs=("influences",))
    def influenced(states, evidence, settings):
        raise AssertionError("there is nothing to plan with")

    found = preview(STATES, None, None, SMALL, ["craft", "cor_rait", "asks_for_influence"])
    craft, cor_rait, asks = found.strategies
    with pytest.raises(InputError) as failure:
        construct("craft", STATES, None, SMALL)
    assert craft.obstacle == str(failure.value)
    assert craft.vanilla is craft.idk is None
    assert "influence" in asks.obstacle
    assert cor_rait.obstacle is None and cor_rait.idk.taken == 2
    assert found.overlaps == ()


def test_influences_reach_the_strategy(own_strategies):
    @strategy("highest_influence", needs=("influences",))
    def highest(states, evidence, settings):
        left = {state.id: "no influence" for state in states if state.id not in evidence.influences}
        return Plan(drawn([s for s in states if s.id not in left], Role.VANILLA, settings), None, left)

    influences = (Influence(id=f"q{i}", refusal=0.0, over_refusal=0.0) for i in range(4))
    (one,) = preview(STATES, None, influences, SMALL, ["highest_influence"]).strategies
    assert one.vanilla.taken == 4 and one.idk.candidates == 0 and one.dropped == {"no influence": 6}


def test_absent_answers_are_said_where_a_strategy_needs_them(own_strategies):
    @strategy("reads_answers", needs=("responses",))
    def reads(states, evidence, settings):
        return Plan(drawn(states, Role.VANILLA, settings), None, {})

    answered = [make_state(f"q{i}", 0.5, 0.5, (Answer(text="x", count=10, correct=True),)) for i in range(4)]
    assert preview(answered, None, None, SMALL, ["reads_answers"]).strategies[0].obstacle is None
    (one,) = preview([*answered, STATES[7]], None, None, SMALL, ["reads_answers"]).strategies
    assert one.obstacle.startswith(
        "reads_answers needs the answers of the probe, and 1 of 5 questions have none ('q7')"
    )


def test_an_unknown_strategy_is_refused():
    with pytest.raises(RecipeError, match="craft"):
        preview(STATES, FLOWS, None, SMALL, ["crafd"])


def test_json_holds_every_number():
    found = preview(STATES, FLOWS, None, Construction(vanilla=4, idk=4), NAMES)
    data = json.loads(json.dumps(to_json(found), allow_nan=False))
    assert [one["strategy"] for one in data["strategies"]] == list(NAMES)
    assert data["strategies"][1]["idk"] == {"candidates": 5, "taken": 4, "correctness": 0.25, "certainty": 0.275} | {
        name: pytest.approx(getattr(found.strategies[1].idk, name)) for name in ("correctness", "certainty")
    }
    assert "3 for the 4 idk wanted" in data["strategies"][4]["obstacle"]
    assert data["sweep"][4]["falling"] == 3


def test_tables_fit_80_columns_for_many_strategies_and_questions(own_strategies, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    names = [f"honesty_confidence_{number}" for number in range(15)]
    for name in names:

        @strategy(name)
        def one(states, evidence, settings):
            return Plan(drawn(states, Role.VANILLA, settings), None, {})

        _STRATEGIES.setdefault(name, _STRATEGIES[name])
        one.__qualname__ = name
    states = [make_state(f"q{i}", i % 11 / 10, -1.25) for i in range(12345)]
    print_preview(preview(states, [make_flow(state, 0.5) for state in states], None, Construction(), names))
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert all(number in shown for number in ("10000", "12345", "-1.25", " 100"))
    assert "…" not in shown.split("shared / all")[0]


def test_tables_show_numbers_and_obstacles(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    print_preview(preview(STATES, None, None, SMALL, ["corcer_rait", "van_tuning", "craft"]))
    shown = capsys.readouterr().out
    assert "10 questions; wanted 2 vanilla, 2 idk" in shown
    assert "craft: needs the knowledge flow; give the rehearsed states" in shown
    row = next(line for line in shown.splitlines() if "corcer_rait" in line)
    assert row.replace("│", " ").split() == ["corcer_rait", "2", "5", "0.95", "0.93", "2", "5", "0.15", "0.15"]
    assert "n/a" in shown
