"""Construction around the strategies: shortage, bad input, strategies of one's own, examples and the summary."""

import functools
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from rait.construction import (
    Construction,
    Label,
    Plan,
    Wording,
    all_strategies,
    construct,
    examples,
    find_strategy,
    least_certain,
    most_certain,
    split_by_correctness,
    strategy,
    summarise,
)
from rait.construction.strategies import _STRATEGIES
from rait.errors import InputError, RecipeError, ShortageError
from rait.records import Decision, Influence, KnowledgeFlow, KnowledgeState, Role

NAMES = ("van_tuning", "cor_rait", "corcer_rait", "wo_cer", "craft")

# Five known and five unknown questions. Of the unknown, q6 stays, q7 rises and the others fall.
CORRECTNESS = (1.0, 0.9, 0.7, 0.5, 0.6, 0.4, 0.3, 0.2, 0.1, 0.4)
CERTAINTY = (0.90, 0.95, 0.40, 0.60, 0.60, 0.30, 0.50, 0.10, 0.20, 0.20)
REHEARSED = (1.0, 0.8, 0.9, 0.5, 0.2, 0.3, 0.3, 0.4, 0.0, 0.1)


def make_state(id, correctness, certainty):
    return KnowledgeState(
        id=id, question=f"What is {id}?", answers=(f"gold {id}", "alias"), correctness=correctness, certainty=certainty
    )


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
FOUR_TO_TWO = Construction(vanilla=4, idk=2)


def taken(decisions, role):
    """Ids of a role in the order taken."""
    return [d.id for d in sorted((d for d in decisions if d.role is role), key=lambda d: d.rank)]


def test_shortage_fails_with_numbers_and_remedies():
    with pytest.raises(ShortageError) as failure:
        construct("craft", STATES, FLOWS, Construction(vanilla=8, idk=4))

    assert str(failure.value) == (
        "craft found 5 candidates for the 8 vanilla and 3 for the 4 idk wanted, among 10 questions "
        "(left out: 1 rising, 1 staying); give more questions, or ask for at most 4 vanilla and 2 idk, as "
        "shortage=shrink would, or admit those that stay (flow_rule=non_positive)"
    )


def test_shortage_shrinks_at_the_ratio_asked_for_and_says_so():
    selection = construct("craft", STATES, FLOWS, Construction(vanilla=8, idk=4, shortage="shrink"))

    assert taken(selection.decisions, Role.VANILLA) == ["q1", "q0", "q3", "q4"]
    assert taken(selection.decisions, Role.IDK) == ["q8", "q9"]
    assert selection.candidates == {Role.VANILLA: 5, Role.IDK: 3}
    assert selection.notes == (
        "craft found 5 candidates for the 8 vanilla and 3 for the 4 idk wanted, among 10 questions "
        "(left out: 1 rising, 1 staying); took 4 vanilla and 2 idk, the most at this ratio",
    )


def test_a_shortage_lists_the_most_frequent_reasons_first():
    dead = [make_state("d", 0.5, 0.5)]
    rising = [make_state(f"r{i}", 0.1, 0.5) for i in range(2)]
    states = [make_state("k", 1.0, 0.5), make_state("f", 0.2, 0.5), *rising, *dead]
    flows = [make_flow(state, 0.0 if state.id == "f" else 0.9) for state in states]

    with pytest.raises(ShortageError) as failure:
        construct("craft", states, flows, Construction(vanilla=4, idk=1, dead_band=0.1))

    assert str(failure.value) == (
        "craft found 1 candidates for the 4 vanilla and 1 for the 1 idk wanted, among 5 questions (left out: 2 rising, "
        "1 inside the dead band); give more questions, or narrow dead_band"
    )


def test_a_shortage_of_vanilla_alone_does_not_propose_to_admit_more_idk():
    states = [make_state("k", 1.0, 0.5), make_state("f", 0.2, 0.5), make_state("s", 0.3, 0.5)]
    flows = [make_flow(state, {"k": 1.0, "f": 0.0, "s": 0.3}[state.id]) for state in states]

    with pytest.raises(ShortageError) as failure:
        construct("craft", states, flows, Construction(vanilla=2, idk=1))

    assert str(failure.value).endswith("questions (left out: 1 staying); give more questions")


def test_a_shortage_where_nothing_was_left_out_gives_no_reasons():
    with pytest.raises(ShortageError) as failure:
        construct("van_tuning", STATES, None, Construction(vanilla=10, idk=5))

    assert "questions; give more questions, or ask for at most" in str(failure.value)


def test_nothing_is_noted_or_shrunk_without_a_shortage():
    selection = construct("craft", STATES, FLOWS, FOUR_TO_TWO.model_copy(update={"shortage": "shrink"}))

    assert selection == construct("craft", STATES, FLOWS, FOUR_TO_TWO)
    assert selection.notes == ()


def test_a_reason_does_not_show_rounding_noise():
    state = make_state("q", 0.3, 0.5)
    chosen = Construction(vanilla=0, idk=1, flow_rule="non_positive")

    for noise in (-3e-10, 0.0, 3e-10):
        (decision,) = construct("craft", [state], [make_flow(state, 0.3 + noise)], chosen).decisions
        assert decision.reason.endswith("correctness flow +0")


def test_orders_break_ties_by_id_whatever_the_input_order():
    states = [make_state(id, 0.5, sigma) for id, sigma in (("c", 0.5), ("a", 0.5), ("d", 0.9), ("b", 0.5), ("e", 0.1))]

    assert [state.id for state in most_certain(states).states] == ["d", "a", "b", "c", "e"]
    assert [state.id for state in least_certain(states).states] == ["e", "a", "b", "c", "d"]


@pytest.mark.parametrize("shortage", ["fail", "shrink"])
def test_no_candidate_for_a_role_is_a_shortage_under_either_policy(shortage):
    known = [state for state in STATES if state.correctness >= 0.5]

    with pytest.raises(ShortageError, match="0 for the 1 idk wanted"):
        construct("cor_rait", known, None, Construction(vanilla=4, idk=1, shortage=shortage))
    with pytest.raises(ShortageError, match="among 0 questions"):
        construct("van_tuning", [], None, Construction(vanilla=4, idk=1, shortage=shortage))


def test_van_tuning_shrinks_to_all_there_is():
    selection = construct("van_tuning", STATES, None, Construction(vanilla=10, idk=5, shortage="shrink"))

    assert len(taken(selection.decisions, Role.VANILLA)) == 10
    assert len(selection.notes) == 1


def test_a_role_of_which_none_is_wanted_sets_no_bound():
    known = [state for state in STATES if state.correctness >= 0.5]
    selection = construct("corcer_rait", known, None, Construction(vanilla=9, idk=0, shortage="shrink"))

    assert taken(selection.decisions, Role.VANILLA) == ["q1", "q0", "q3", "q4", "q2"]

    selection = construct("corcer_rait", STATES, None, Construction(vanilla=0, idk=9, shortage="shrink"))

    assert taken(selection.decisions, Role.VANILLA) == []
    assert taken(selection.decisions, Role.IDK) == ["q7", "q8", "q9", "q5", "q6"]


@given(vanilla=st.integers(1, 40), idk=st.integers(1, 40), known=st.integers(0, 40), unknown=st.integers(0, 40))
@settings(deadline=None, max_examples=300)
def test_shrinking_keeps_the_ratio_and_takes_the_most(vanilla, idk, known, unknown):
    states = [make_state(f"k{i}", 1.0, 0.0) for i in range(known)]
    states += [make_state(f"u{i}", 0.0, 0.0) for i in range(unknown)]
    chosen = Construction(vanilla=vanilla, idk=idk, shortage="shrink")
    large, small = max(vanilla, idk), min(vanilla, idk)
    # Every size of the smaller role, the larger rounded down to a whole question: the greatest that fits.
    fitting = []
    for size in range(small + 1):
        pair = (size * large // small, size) if vanilla >= idk else (size, size * large // small)
        if pair[0] <= known and pair[1] <= unknown:
            fitting.append(pair)

    if fitting[-1] == (0, 0):
        with pytest.raises(ShortageError):
            construct("cor_rait", states, None, chosen)
        return
    selection = construct("cor_rait", states, None, chosen)
    sizes = (len(taken(selection.decisions, Role.VANILLA)), len(taken(selection.decisions, Role.IDK)))
    assert sizes == fitting[-1]
    assert bool(selection.notes) == (sizes != (vanilla, idk))
    if large % small == 0:
        assert sizes[0] * idk == sizes[1] * vanilla


@pytest.mark.parametrize(
    ("given_name", "near"),
    [
        ("craff", "craft"),
        ("CRaFT", "craft"),
        ("Cor-RAIT", "cor_rait"),
        ("R-T-U", "r_tuning_u"),
        ("r t u", "r_tuning_u"),
        ("van", "van_tuning"),
    ],
)
def test_unknown_strategy_names_the_known_and_the_nearest(given_name, near):
    with pytest.raises(RecipeError) as failure:
        construct(given_name, STATES, FLOWS, FOUR_TO_TWO)

    assert f"did you mean {near!r}?" in str(failure.value)
    assert all(name in str(failure.value) for name in NAMES)


def test_a_name_that_is_near_none_lists_the_known():
    with pytest.raises(RecipeError) as failure:
        find_strategy("zzz")

    assert str(failure.value) == f"unknown strategy 'zzz'; known: {', '.join(s.name for s in all_strategies())}"


def test_strategies_are_listed_with_their_needs():
    listed = {entry.name: set(entry.needs) for entry in all_strategies()}

    assert listed == {
        "van_tuning": set(),
        "cor_rait": set(),
        "corcer_rait": set(),
        "wo_cer": {"flows"},
        "craft": {"flows"},
        "r_tuning": set(),
        "r_tuning_refusal": set(),
        "r_tuning_u": {"responses"},
        "absolute": {"responses"},
        "confidence_num": {"responses"},
        "confidence_verb": {"responses"},
        "multisample": {"responses"},
        "idk_sft": {"responses"},
        "grait": {"influences"},
        "grait_unweighted": {"influences"},
    }
    assert tuple(listed)[:5] == NAMES
    assert all(entry.description.endswith(".") for entry in all_strategies())


@pytest.mark.parametrize("name", ["craft", "wo_cer"])
def test_missing_flow_is_refused(name):
    with pytest.raises(InputError, match=r"van_tuning, cor_rait, corcer_rait"):
        construct(name, STATES, None, FOUR_TO_TWO)
    with pytest.raises(InputError, match=r"4 of 10 have none \('q0', 'q1', 'q2', \.\.\.\)"):
        construct(name, STATES, FLOWS[4:], FOUR_TO_TWO)


def test_flows_of_further_questions_are_ignored():
    further = make_flow(make_state("elsewhere", 0.1, 0.1), 0.0)

    assert construct("craft", STATES, [further, *FLOWS], FOUR_TO_TWO) == construct("craft", STATES, FLOWS, FOUR_TO_TWO)


def test_flows_may_come_one_by_one():
    assert construct("craft", STATES, iter(FLOWS), FOUR_TO_TWO) == construct("craft", STATES, FLOWS, FOUR_TO_TWO)


@pytest.mark.parametrize(
    "changes", [{"correctness_before": 0.7}, {"correctness_after": float("nan")}, {"correctness_after": 1.2}]
)
def test_flows_that_do_not_fit_the_states_are_refused(changes):
    flows = [*FLOWS[:8], replace(FLOWS[8], **changes), FLOWS[9]]

    with pytest.raises(InputError, match=r"^1 flows .* \('q8'\)"):
        construct("craft", STATES, flows, FOUR_TO_TWO)


@pytest.mark.parametrize("changes", [{"correctness": 1.1}, {"correctness": float("nan")}, {"certainty": float("nan")}])
def test_a_state_that_no_strategy_could_use_cannot_be_made(changes):
    (name,) = changes
    with pytest.raises(ValueError, match=f"^{name} .* of question 'q8' is"):
        replace(STATES[8], **changes)


def test_repeated_ids_are_refused():
    with pytest.raises(InputError, match=r"states more than once \('q3'\)"):
        construct("cor_rait", [*STATES, STATES[3]], None, FOUR_TO_TWO)
    with pytest.raises(InputError, match=r"flows more than once \('q3'\)"):
        construct("craft", STATES, [*FLOWS, FLOWS[3]], FOUR_TO_TWO)


@pytest.mark.parametrize(
    "changes",
    [
        {"vanilla": -1},
        {"idk": -1},
        {"vanilla": 0, "idk": 0},
        {"threshold": 1.5},
        {"threshold": float("nan")},
        {"dead_band": -0.1},
        {"flow_rule": "positive"},
        {"shortage": "repeat"},
    ],
)
def test_settings_out_of_range_are_refused(changes):
    with pytest.raises(ValidationError) as failure:
        Construction(**({"vanilla": 4, "idk": 1} | changes))
    (problem,) = failure.value.errors()
    assert all(name in (*problem["loc"], *problem["msg"].split()) for name in changes)


@pytest.fixture
def registry(monkeypatch):
    before = dict(_STRATEGIES)
    yield _STRATEGIES
    _STRATEGIES.clear()
    _STRATEGIES.update(before)


def test_a_strategy_of_ones_own(registry):
    def timid(states, evidence, chosen):
        """The least certain of the known.

        Nobody would want these.
        """
        assert [state.id for state in states] == sorted(state.id for state in states)
        assert evidence.flows == evidence.influences == {}
        known, unknown, left_out = split_by_correctness(states, chosen)
        return Plan(least_certain(known), most_certain(unknown), left_out)

    for _ in range(2):  # as when a notebook cell is run again
        strategy("timid")(timid)
    decisions = construct("timid", STATES[::-1], FLOWS, FOUR_TO_TWO).decisions

    assert find_strategy("timid").description == "The least certain of the known."
    assert taken(decisions, Role.VANILLA) == ["q2", "q3", "q4", "q0"]
    assert taken(decisions, Role.IDK) == ["q6", "q5"]


def test_a_name_is_given_once(registry):
    with pytest.raises(RecipeError, match=r"'craft' is already defined by rait\.construction\.strategies\.craft"):
        strategy("craft")(lambda states, evidence, chosen: None)


def test_a_strategy_may_lack_a_name_and_a_docstring(registry):
    def either(states, evidence, chosen, order):
        return Plan(order(states), None, {})

    first = functools.partial(either, order=most_certain)
    first.__doc__ = None
    for _ in range(2):
        strategy("either")(first)

    assert find_strategy("either").description == ""
    with pytest.raises(RecipeError, match="'either' is already defined by functools"):
        strategy("either")(functools.partial(either, order=least_certain))


@pytest.mark.parametrize(
    "plan",
    [
        lambda states, evidence, chosen: Plan(most_certain(states[:4]), least_certain(states[5:]), {}),
        lambda states, evidence, chosen: Plan(most_certain(states[:5]), least_certain(states[4:]), {}),
        lambda states, evidence, chosen: Plan(most_certain(states[:5]), least_certain(states[5:]), {"q4": "twice"}),
    ],
)
def test_a_strategy_must_place_every_question_once(registry, plan):
    strategy("careless")(plan)

    with pytest.raises(RecipeError, match=r"'careless' must place every question exactly once.* 1 \('q4'\)"):
        construct("careless", STATES, None, FOUR_TO_TWO)


def test_a_strategy_gets_the_flows_and_influences_it_needs(registry):
    influences = [Influence(id=state.id, refusal=0.1, over_refusal=0.0) for state in STATES[5:]]
    seen = []

    def curious(states, evidence, chosen):
        """Looks at everything."""
        seen.append(evidence)
        return Plan(least_certain(states), None, {})

    strategy("curious", needs=("flows", "influences"))(curious)
    construct("curious", STATES, FLOWS, FOUR_TO_TWO, influences)

    assert seen[0].flows == {flow.id: flow for flow in FLOWS}
    assert seen[0].influences == {influence.id: influence for influence in influences}
    with pytest.raises(InputError, match="curious needs the influence"):
        construct("curious", STATES, FLOWS, FOUR_TO_TWO)
    with pytest.raises(InputError, match=r"influences more than once \('q5'\)"):
        construct("curious", STATES, FLOWS, FOUR_TO_TWO, [*influences, influences[0]])


def prompt(state):
    return f"Q: {state.question}\nA:"


def worded(state):
    return Wording(state.answers[0] if state.answers else "", "I don't know.")


def complete(text):
    return f" {text}<end>"


def test_examples_keep_the_answer_or_refuse():
    decisions = construct("craft", STATES, FLOWS, FOUR_TO_TWO).decisions
    rows = examples("craft", STATES, decisions, prompt, worded, complete)

    assert [(row.id, row.prompt, row.completion, str(row.role), row.weight) for row in rows] == [
        ("q0", "Q: What is q0?\nA:", " gold q0<end>", "vanilla", 1),
        ("q1", "Q: What is q1?\nA:", " gold q1<end>", "vanilla", 1),
        ("q3", "Q: What is q3?\nA:", " gold q3<end>", "vanilla", 1),
        ("q4", "Q: What is q4?\nA:", " gold q4<end>", "vanilla", 1),
        ("q8", "Q: What is q8?\nA:", " I don't know.<end>", "idk", 1),
        ("q9", "Q: What is q9?\nA:", " I don't know.<end>", "idk", 1),
    ]


def test_a_strategy_words_its_own_examples(registry):
    def twice(state, role, wording):
        return [Label(f"{role}: {wording.answer}", role, 0.5), Label(wording.refusal, Role.IDK, 2.0)]

    strategy("twice", label=twice)(lambda states, evidence, chosen: Plan(most_certain(states), None, {}))
    decisions = [
        Decision(id="q1", role=Role.IDK, reason="by hand: idk", weight=3.0),
        Decision(id="q0", role=Role.VANILLA, reason="by hand: vanilla"),
    ]
    rows = examples("twice", STATES, decisions, prompt, worded, complete)

    assert [(row.id, row.completion, str(row.role), row.weight) for row in rows] == [
        ("q0", " vanilla: gold q0<end>", "vanilla", 0.5),
        ("q0", " I don't know.<end>", "idk", 2.0),
        ("q1", " idk: gold q1<end>", "idk", 1.5),
        ("q1", " I don't know.<end>", "idk", 6.0),
    ]
    assert find_strategy("twice").read(" As it is. ") == (" As it is. ", False)


def test_weights_of_idk_add_up_to_half_of_those_taken(registry):
    weights = {"q5": 1.0, "q6": 3.0, "q7": 100.0}
    strategy("weighted")(
        lambda states, evidence, chosen: Plan(most_certain(states[:5]), most_certain(states[5:]), {}, weights)
    )
    decisions = {d.id: d for d in construct("weighted", STATES, None, FOUR_TO_TWO).decisions}

    # q6 and q5 are the most certain: weights 3 : 1, of a sum of 2 / 2. What is not taken, or is vanilla, has weight 1.
    assert taken(decisions.values(), Role.IDK) == ["q6", "q5"]
    assert {id: d.weight for id, d in decisions.items() if d.weight != 1} == {"q6": 0.75, "q5": 0.25}


@pytest.mark.parametrize("weights", [(0.0, 0.0), (3.0, -1.0), (-3.0, -1.0), (math.inf, 1.0), (math.nan, 1.0)])
def test_weights_that_cannot_be_scaled_are_refused(registry, weights):
    strategy("weighted")(
        lambda states, evidence, chosen: Plan(
            most_certain(states[2:]), most_certain(states[:2]), {}, dict(zip(("q0", "q1"), weights, strict=True))
        )
    )
    with pytest.raises(RecipeError, match="must be numbers >= 0 and not all 0"):
        construct("weighted", STATES, None, FOUR_TO_TWO)


def test_one_weight_may_be_0(registry):
    strategy("weighted")(
        lambda states, evidence, chosen: Plan(
            most_certain(states[2:]), most_certain(states[:2]), {}, {"q0": 0.0, "q1": 5.0}
        )
    )
    decisions = {d.id: d for d in construct("weighted", STATES, None, FOUR_TO_TWO).decisions}

    assert (decisions["q0"].weight, decisions["q1"].weight) == (0.0, 1.0)


def test_every_decision_that_is_taken_needs_a_state_but_not_every_state_a_decision():
    decisions = construct("craft", STATES, FLOWS, FOUR_TO_TWO).decisions

    with pytest.raises(InputError, match=r"1 decisions have no question \('q9'\)"):
        examples("craft", STATES[:9], decisions, prompt, worded, complete)
    # q7 is dropped and q2 not among the first: neither state is looked at.
    rest = [state for state in STATES if state.id not in ("q2", "q7")]
    assert examples("craft", rest, decisions, prompt, worded, complete) == examples(
        "craft", STATES, decisions, prompt, worded, complete
    )


def test_only_a_vanilla_question_needs_an_answer():
    states = [replace(STATES[0], answers=()), replace(STATES[8], answers=())]
    idk = [Decision(id=state.id, role=Role.IDK, reason="by hand: idk") for state in states]

    rows = examples("cor_rait", states, idk, prompt, worded, str)
    assert [row.completion for row in rows] == ["I don't know."] * 2
    with pytest.raises(InputError, match=r"1 vanilla questions have no accepted answer \('q0'\)"):
        examples("cor_rait", states, [replace(idk[0], role=Role.VANILLA), idk[1]], prompt, worded, str)


def test_summary_lists_the_most_frequent_kind_first_ties_by_name():
    reasons = ("b: x: y", "c: x", "c: y", "a")
    decisions = [Decision(id=f"q{i}", role=Role.DROPPED, reason=reason) for i, reason in enumerate(reasons)]

    assert list(summarise(decisions)[Role.DROPPED].items()) == [("c", 2), ("a", 1), ("b", 1)]


def test_a_selection_says_whose_it_is():
    assert construct("craft", STATES, FLOWS, FOUR_TO_TWO).strategy == "craft"


def test_missing_flow_names_the_strategies_that_do_without():
    without = {entry.name for entry in all_strategies() if not entry.needs & {"flows", "influences"}}
    with pytest.raises(InputError) as failure:
        construct("craft", STATES, None, FOUR_TO_TWO)

    assert set(str(failure.value).split("(")[1].rstrip(")").split(", ")) == without
    assert {"cor_rait", "r_tuning"} <= without
    assert not without & {"craft", "wo_cer", "grait"}


def test_summary_counts_by_role_and_kind():
    assert summarise(construct("craft", STATES, FLOWS, FOUR_TO_TWO).decisions) == {
        "vanilla": {"most certain for vanilla": 4},
        "idk": {"least certain for idk": 2},
        "dropped": {
            "not among the least certain for idk": 1,
            "not among the most certain for vanilla": 1,
            "rising": 1,
            "staying": 1,
        },
    }
