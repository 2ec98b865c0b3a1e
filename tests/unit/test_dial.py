"""The dial: thresholds by brute force, figures by hand, and guarantees on worlds whose truth is known."""

import json
import re
from dataclasses import asdict, replace
from math import comb, inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rait.errors import InputError
from rait.evaluation.dial import (
    NEVER,
    applied,
    aurc,
    binomial_tail,
    choose,
    control,
    curve_of,
    extreme,
    in_words,
    learn_then_test,
    point_at,
    promise,
    to_json,
)
from rait.knowledge.ranking import aurc as aurc_of_ranking
from rait.records import Outcome, Verdict
from rait.sets import question_sets
from rait.settings import Dial, Questions, Recipe

C, W, R = Outcome.CORRECT, Outcome.WRONG, Outcome.REFUSED


def verdict(id, probability, correct, *, refuses=None):
    """A verdict of a model that refuses greedily from one half on, or as told."""
    refuses = probability >= 0.5 if refuses is None else refuses
    answer = "right" if correct else "wrong"
    return Verdict(
        id=str(id),
        question="?",
        answers=("right",),
        response="I don't know" if refuses else answer,
        outcome=R if refuses else C if correct else W,
        rule="",
        refusal_probability=probability,
        answer=answer,
        answer_correct=correct,
    )


def before(outcomes):
    return [
        Verdict(id=str(n), question="?", answers=("right",), response="", outcome=outcome, rule="")
        for n, outcome in enumerate(outcomes)
    ]


# Five questions by p(refuse): right, right, wrong, right, wrong; the untuned model has three right and two wrong.
FIVE = [
    verdict(n, p, ok) for n, (p, ok) in enumerate([(0.1, True), (0.2, True), (0.4, False), (0.6, True), (0.9, False)])
]
BASE = before([C, C, W, C, W])

rows = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0]),
        st.sampled_from([True, False, None]),
        st.sampled_from([C, W, R]),
    ),
    min_size=1,
    max_size=20,
)


def from_rows(drawn):
    verdicts = [
        replace(verdict(n, p, bool(correct), refuses=True if correct is None else None), answer_correct=correct)
        for n, (p, correct, _) in enumerate(drawn)
    ]
    return verdicts, before([outcome for *_, outcome in drawn])


def test_a_curve_by_hand():
    found = {point.threshold: (point.P_c, point.P_w, point.P_r, point.coverage) for point in curve_of(FIVE, BASE)}
    assert found == {
        0.1: (0, 0, 1, 0),
        0.2: (0.2, 0, 0.8, 0.2),
        0.4: (0.4, 0, 0.6, 0.4),
        0.6: (0.4, 0.2, 0.4, 0.6),
        0.9: (0.6, 0.2, 0.2, 0.8),
        NEVER: (0.6, 0.4, 0, 1),
    }
    risks = [point.risk for point in curve_of(FIVE, BASE)]
    assert risks == [None, 0, 0, pytest.approx(1 / 3), 0.25, 0.4]
    # THS = P_c - P_w * 0.6 / 0.4
    ths = [point.THS for point in curve_of(FIVE, BASE)]
    assert ths == pytest.approx([0, 0.2, 0.4, 0.1, 0.3, 0])


@given(rows, st.sampled_from([0.0, 0.05, 0.1, 0.3, 0.5, 0.75, 1.0, NEVER]))
def test_a_point_is_what_applying_its_threshold_gives(drawn, threshold):
    verdicts, baseline = from_rows(drawn)
    outcomes = [verdict.outcome for verdict in applied(verdicts, threshold)]
    point, n = point_at(verdicts, baseline, threshold), len(verdicts)
    assert (point.P_c, point.P_w, point.P_r) == tuple(outcomes.count(kind) / n for kind in (C, W, R))


def test_applying_changes_what_the_threshold_decides_and_nothing_else():
    low, high = applied(FIVE, 0.15, "No idea"), applied(FIVE, 0.7, "No idea")
    assert [v.outcome for v in low] == [C, R, R, R, R]
    assert [v.outcome for v in high] == [C, C, W, C, R]
    assert low[0] == FIVE[0] and low[3] == FIVE[3] and high[4] == FIVE[4]  # greedy decoding did the same
    assert (low[1].response, low[1].rule) == ("No idea", "dial")
    assert (high[3].response, high[3].rule) == ("right", "dial")
    stubborn = [replace(FIVE[4], answer="I don't know", answer_correct=None)]
    assert applied(stubborn, NEVER) == stubborn


def test_verdicts_without_p_refuse_are_told_apart():
    bare = [replace(FIVE[0], refusal_probability=None), FIVE[1]]
    with pytest.raises(InputError, match="1 of 2 verdicts have no refusal_probability"):
        applied(bare, 0.5)


@given(rows)
def test_best_ths_is_the_best_of_all_thresholds(drawn):
    verdicts, baseline = from_rows(drawn)
    outcomes = [v.outcome for v in baseline]
    if W not in outcomes:
        with pytest.raises(InputError, match="THS is undefined"):
            choose(verdicts, baseline, Dial())
        return

    def ths(threshold):
        made = [v.outcome for v in applied(verdicts, threshold)]
        return (made.count(C) - made.count(W) * outcomes.count(C) / outcomes.count(W)) / len(made)

    choice = choose(verdicts, baseline, Dial())
    tried = [0.0, 0.05, 0.2, 0.3, 0.6, 0.8, 1.0, NEVER]
    assert pytest.approx(max(map(ths, tried))) == choice.point.THS
    assert ths(choice.threshold) == pytest.approx(choice.point.THS)
    assert choice.guarantee is None


@given(rows, st.floats(0.01, 0.99))
def test_max_error_answers_as_many_as_the_bound_allows(drawn, bound):
    verdicts, baseline = from_rows(drawn)
    n = len(verdicts)
    choice = choose(verdicts, baseline, Dial(rule="max_error", value=bound))

    def keeps(threshold):
        wrong = sum(v.outcome is W for v in applied(verdicts, threshold))
        return wrong / (n + 1) + 1 / (n + 1) <= bound + 1e-9

    tried = [t for t in (0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, NEVER) if keeps(t)]
    assert choice.threshold == (max(tried) if tried else 0.0)
    assert choice.guarantee.holds == (choice.threshold > 0) if tried else not choice.guarantee.holds


@given(rows, st.floats(0.01, 0.99))
def test_max_refusal_refuses_as_many_as_the_bound_allows(drawn, bound):
    verdicts, baseline = from_rows(drawn)
    n = len(verdicts)
    choice = choose(verdicts, baseline, Dial(rule="max_refusal", value=bound))

    def refused(threshold):
        return sum(v.outcome is R for v in applied(verdicts, threshold))

    kept = [t for t in (0.0, 0.1, 0.25, 0.5, 0.75, 1.0, NEVER) if refused(t) / (n + 1) + 1 / (n + 1) <= bound + 1e-9]
    assert choice.guarantee.holds == bool(kept)
    assert refused(choice.threshold) == (max(map(refused, kept)) if kept else refused(NEVER))


@given(rows, st.randoms())
def test_the_order_of_the_questions_does_not_matter(drawn, random):
    verdicts, baseline = from_rows(drawn)
    shuffled = random.sample(verdicts, len(verdicts))
    for dial in (Dial(rule="max_error", value=0.3), Dial(rule="max_error", value=0.5, among="answered", delta=0.5)):
        assert choose(verdicts, baseline, dial) == choose(shuffled, baseline, dial)


@given(rows)
def test_aurc_is_that_of_the_ranking(drawn):
    verdicts, _ = from_rows(drawn)
    ranked = [v for v in verdicts if v.answer_correct is not None]
    expected = aurc_of_ranking([-v.refusal_probability for v in ranked], [float(not v.answer_correct) for v in ranked])
    assert aurc(verdicts) == (None if expected is None else pytest.approx(expected))


def test_aurc_by_hand():
    assert aurc(FIVE) == pytest.approx((0 + 0 + 1 / 3 + 1 / 4 + 2 / 5) / 5)


@pytest.mark.parametrize(
    ("k", "n", "p"), [(0, 0, 0.3), (0, 5, 0.3), (2, 5, 0.3), (5, 5, 0.3), (3, 40, 0.1), (0, 3, 0.99)]
)
def test_the_binomial_tail_is_exact(k, n, p):
    assert binomial_tail(k, n, p) == pytest.approx(sum(comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1)))


def test_the_binomial_tail_of_many_trials():
    from scipy.stats import binom

    assert binomial_tail(950, 10_000, 0.1) == pytest.approx(binom.cdf(950, 10_000, 0.1), rel=1e-8)


def test_too_few_questions_guarantee_nothing():
    assert control(np.array([]), 8, 0.1) == 0  # 1 / 9 is more than 0.1
    assert control(np.array([]), 9, 0.1) == NEVER
    assert learn_then_test(np.zeros(5), np.array([]), 0.1, 0.1) == 0
    choice = choose(FIVE, BASE, Dial(rule="max_error", value=0.1))
    assert (choice.threshold, choice.guarantee.holds, choice.point.P_r) == (0, False, 1)


# A world whose truth is known: p(refuse) is uniform, and an answer is wrong with probability p(refuse) / 2. Answering
# below t, the share wrong of all is t^2 / 4, and of those answered t / 4.


def world(generator, n):
    scores = generator.random(n)
    return scores, scores[generator.random(n) < scores / 2]


def test_conformal_risk_control_keeps_its_bound_on_average_and_not_by_much():
    """Theorems 1 and 2 of arXiv 2208.02814: the mean risk lies between bound - 2 / (n + 1) and the bound."""
    generator, n, bound = np.random.default_rng(0), 60, 0.1
    risks = [min(control(world(generator, n)[1], n, bound), 1.0) ** 2 / 4 for _ in range(4000)]
    error = 3 * np.std(risks) / np.sqrt(len(risks))
    assert bound - 2 / (n + 1) - error < np.mean(risks) < bound + error
    # The plain empirical bound would not do: without the correction the mean is above it.
    naive = [min(control(world(generator, n)[1], n, bound + 1 / (n + 1)), 1.0) ** 2 / 4 for _ in range(4000)]
    assert np.mean(naive) > bound


def test_learn_then_test_misses_no_more_often_than_delta():
    generator, n, bound, delta = np.random.default_rng(1), 400, 0.15, 0.2
    found = [learn_then_test(*world(generator, n), bound, delta) for _ in range(300)]
    risks = [min(threshold, 1.0) / 4 for threshold in found]
    missed = np.mean([risk > bound for risk in risks])
    assert missed <= delta + 3 * np.sqrt(delta * (1 - delta) / len(risks))
    assert np.mean(risks) > bound / 3, "a bound that is kept by refusing everything is of no use"


def test_what_is_written_down():
    found = to_json(choose(FIVE, BASE, Dial()), Dial(), {"id": (FIVE, BASE)}, resamples=100)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["target"] == {"rule": "best_ths", "value": None}
    assert found["threshold"] == 0.4
    assert found["calibration"] == {
        "questions": 5, "P_c": 0.4, "P_w": 0, "P_r": 0.6, "THS": 0.4, "coverage": 0.4, "risk": 0
    }  # fmt: skip
    test = found["tests"]["id"]
    assert {key: test["greedy"][key] for key in ("P_c", "P_w", "P_r")} == {"P_c": 0.4, "P_w": 0.2, "P_r": 0.4}
    assert test["chosen"]["THS"] == pytest.approx(0.4)
    assert test["chosen"]["THS_low"] is None  # five questions: too many resamples have nothing wrong
    assert [point["threshold"] for point in test["curve"]] == [0.1, 0.2, 0.4, 0.6, 0.9, NEVER]


def test_a_long_curve_keeps_its_ends():
    many = [verdict(n, n / 1000, n < 500) for n in range(1000)]
    base = before([C] * 500 + [W] * 500)
    curve = to_json(choose(many, base, Dial()), Dial(), {"id": (many, base)}, resamples=100)["tests"]["id"]["curve"]
    assert len(curve) == 200
    assert (curve[0]["coverage"], curve[-1]["coverage"]) == (0, 1)


def test_the_intervals_lie_around_what_they_are_of():
    verdicts = [replace(v, id=f"{v.id}/{n}") for n in range(20) for v in FIVE]
    base = [replace(v, id=f"{v.id}/{n}") for n in range(20) for v in BASE]
    row = to_json(choose(verdicts, base, Dial()), Dial(), {"id": (verdicts, base)})["tests"]["id"]["chosen"]
    assert 0.2 < row["THS_low"] < row["THS"] < row["THS_high"] < 0.6


@settings(max_examples=20)
@given(rows)
def test_nothing_infinite_is_written_down(drawn):
    verdicts, baseline = from_rows(drawn)
    dial = Dial(rule="max_refusal", value=0.3)
    found = to_json(choose(verdicts, baseline, dial), dial, {"id": (verdicts, baseline)}, resamples=100)
    assert 0 <= found["threshold"] <= NEVER < inf
    json.dumps(found, allow_nan=False)


def test_atlas_is_calibrated_on_a_split_of_its_own_and_nothing_else_is():
    assert Recipe().calibration == Questions(split="validation")
    choice = Recipe.model_validate({"questions": {"source": "atlas-choice"}})
    assert choice.calibration == Questions(source="atlas-choice", split="validation")
    assert Recipe.model_validate({"calibration": {"limit": 9}}).calibration == Questions(split="validation", limit=9)
    assert Recipe.model_validate({"questions": {"source": "mine.jsonl"}}).calibration is None
    assert Recipe.model_validate({"calibration": None}).calibration is None
    for recipe in (Recipe(), choice, Recipe(questions=Questions(source="mine.jsonl"))):
        assert Recipe.model_validate(recipe.model_dump()) == recipe


@pytest.mark.parametrize("wrong", [{"rule": "max_error"}, {"rule": "best_ths", "value": 0.1}, {"value": 0.1}])
def test_a_rule_has_a_value_where_it_needs_one(wrong):
    with pytest.raises(ValueError, match=r"the rule (max_error needs|best_ths has no) "):
        Dial(**wrong)


def test_calibration_that_was_not_named_gives_way_to_sets_that_were():
    for used in ({"tests": {"id": {"split": "validation"}}}, {"questions": {"split": "validation"}}):
        for stated in ({}, {"calibration": {"limit": 400}}):  # a limit names no questions
            assert Recipe.model_validate(used | stated).calibration is None
        named = Recipe.model_validate(used | {"calibration": {"split": "ood"}})
        assert named.calibration == Questions(split="ood")
        kept = Recipe.model_validate(used | {"calibration": {"leaked": "keep"}})
        assert kept.calibration == Questions(split="validation", leaked="keep")
    other = {"tests": {"id": {"source": "mine", "split": "validation"}}}
    assert Recipe.model_validate(other).calibration == Questions(split="validation")


def test_calibration_that_was_named_and_is_used_up_is_told_with_a_remedy():
    with pytest.raises(InputError, match=r"'calibration' is empty .* calibration=null"):
        question_sets(Recipe.model_validate({"calibration": {"split": "test"}}), lambda _: None)


def told(dial):
    """What is chosen on FIVE, in words."""
    return " ".join(in_words("craft", to_json(choose(FIVE, BASE, dial), dial, {}, resamples=100)).split())


def test_what_is_done_where_nothing_can_be_promised_is_said_by_rule():
    for dial, done in (
        (Dial(rule="max_error", value=0.1), "10 % or less, so everything is refused."),
        (Dial(rule="max_refusal", value=0.1), "10 % or less, so nothing is refused that can be answered."),
    ):
        choice = choose(FIVE, BASE, dial)
        assert choice.guarantee is not None and not choice.guarantee.holds
        assert promise(asdict(choice.guarantee), choice.threshold).endswith(done)
        assert done in told(dial)
        assert ("everything" in done) == (choice.point.P_r == 1)
    assert "refusals among all questions are at most 90 %" in told(Dial(rule="max_refusal", value=0.9))
    assert "Promised" not in told(Dial()) and "0.4 or more is refused" in told(Dial())


@pytest.mark.parametrize(
    ("rule", "threshold", "coverage", "refused", "told"),
    [
        ("max_error", 0.0, 0.0, 1.0, "refuses all: the model would answer nothing of their kind; a higher --max-error"),
        ("max_refusal", 0.2, 0.0, 1.0, "refuses all: .*; a lower --max-refusal"),
        ("best_ths", 0.1, 0.0, 1.0, "refuses all: .*; --max-error or --max-refusal"),
        ("max_error", NEVER, 0.9, 0.1, "refuses none that can be answered: .*; a lower --max-error"),  # refused anyway
        ("max_refusal", 0.99, 1.0, 0.0, "refuses none .*; a higher --max-refusal"),
        ("best_ths", 0.5, 0.01, 0.99, None),
        ("best_ths", 1.0, 0.99, 0.01, None),
    ],
)
def test_a_threshold_that_is_all_or_nothing_is_told_of(rule, threshold, coverage, refused, told):
    at = {"questions": 400, "coverage": coverage, "P_r": refused}
    said = extreme({"threshold": threshold, "target": {"rule": rule}, "calibration": at})
    assert (said is None) == (told is None)
    assert said is None or re.match(f"of the 400 calibration questions it {told} gives another threshold$", said)


def test_where_there_is_no_dial_there_is_nothing_to_tell():
    assert extreme({"threshold": None, "target": None}) is None
