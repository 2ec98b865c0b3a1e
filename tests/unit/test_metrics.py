"""The metrics against hand-computed numbers, the paper's tables and brute force."""

import json
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rait.errors import InputError
from rait.evaluation.metrics import (
    Metric,
    evaluate,
    format_metric,
    missed_refusal,
    over_refusal,
    ths,
    to_json,
    truthful_helpfulness,
)
from rait.intervals import percentile_interval, resample
from rait.records import JUDGED, Outcome, Verdict

C, W, R = Outcome.CORRECT, Outcome.WRONG, Outcome.REFUSED


def verdict(key: str, outcome: Outcome, category: str = "", rule: str = "", question: str = "") -> Verdict:
    return Verdict(
        id=key, question=question, answers=(), category=category, response="", outcome=outcome, rule=rule or outcome
    )


def verdicts(outcomes: str, category: str = "") -> list[Verdict]:
    """One verdict for each letter: c, w, r, b for refused and answered, u for unparsable; ids follow the place."""
    kinds = {"c": (C, ""), "w": (W, ""), "r": (R, "refused"), "b": (R, "refused_and_answered"), "u": (W, "unparsable")}
    return [verdict(f"{category}{n}", kinds[o][0], category, kinds[o][1]) for n, o in enumerate(outcomes)]


# THS


@pytest.mark.parametrize(
    ("tuned", "expected"), [((0.3, 0.2), 0.1), ((0.3, 0.15), 0.15), ((0.5, 0.0), 0.5), ((1.0, 0.0), 1.0)]
)
def test_ths_of_the_papers_table_1(tuned: tuple[float, float], expected: float) -> None:
    assert truthful_helpfulness(*tuned, 0.5, 0.5) == pytest.approx(expected)
    # The same shares out of twenty questions.
    right, wrong = round(tuned[0] * 20), round(tuned[1] * 20)
    after = verdicts("c" * right + "w" * wrong + "r" * (20 - right - wrong))
    metrics = evaluate(after, verdicts("cw" * 10), resamples=50)
    assert metrics.overall["THS"].value == pytest.approx(expected)


@pytest.mark.parametrize(
    ("tuned", "initial", "printed"),
    [
        ((53.3, 9.6), (66.8, 33.1), 34.0),  # MMLU
        ((74.1, 12.7), (80.6, 19.5), 21.4),  # ARC-c
        ((43.5, 10.9), (66.8, 33.2), 21.5),  # TriviaQA
        ((19.0, 27.5), (40.3, 59.7), 0.4),  # NQ
    ],
)
def test_ths_of_the_papers_table_2(tuned: tuple[float, float], initial: tuple[float, float], printed: float) -> None:
    # Each input is rounded to 0.1: the printed score lies between the extremes that leaves, rounded itself.
    half = 0.05
    lowest = truthful_helpfulness(tuned[0] - half, tuned[1] + half, initial[0] + half, initial[1] - half)
    highest = truthful_helpfulness(tuned[0] + half, tuned[1] - half, initial[0] - half, initial[1] + half)
    assert lowest is not None and highest is not None
    assert lowest - half <= printed <= highest + half
    assert truthful_helpfulness(*tuned, *initial) == pytest.approx(printed, abs=0.25)


def test_ths_is_undefined_where_the_baseline_is_never_wrong() -> None:
    assert truthful_helpfulness(0.5, 0.5, 1.0, 0.0) is None
    metrics = evaluate(verdicts("cwr"), verdicts("ccr"))
    assert metrics.overall["THS"] == Metric(None, None, None, 3)


# A table worked by hand


BEFORE = "ccccwwwwrr"
AFTER = "ccrbwwrcwr"


def test_every_number_of_a_ten_question_table() -> None:
    metrics = evaluate(verdicts(AFTER), verdicts(BEFORE), seed=3)
    values = {name: (metric.value, metric.n) for name, metric in metrics.overall.items()}
    assert values == {
        "P_c": (pytest.approx(0.3), 10),
        "P_w": (pytest.approx(0.3), 10),
        "P_r": (pytest.approx(0.4), 10),
        "refused_and_answered": (pytest.approx(0.1), 10),
        "accuracy_on_answered": (pytest.approx(0.5), 6),
        "unparsable": (None, 0),
        "failed": (0.0, 10),
        "THS": (pytest.approx(0.3 - 0.3 * 0.4 / 0.4), 10),
        "over_refusal": (pytest.approx(2 / 4), 4),
        "missed_refusal": (pytest.approx(3 / 6), 6),
    }
    assert metrics.counts == {
        "correct": 3,
        "wrong": 3,
        "refused": 4,
        "refused_and_answered": 1,
        "unparsable": 0,
        "failed": 0,
    }
    assert metrics.migration == {
        "correct": {"correct": 2, "wrong": 0, "refused": 2},
        "wrong": {"correct": 1, "wrong": 2, "refused": 1},
        "refused": {"correct": 0, "wrong": 1, "refused": 1},
    }
    assert metrics.categories == metrics.macro == metrics.groups == {}


def test_the_statistics_of_one_table_and_of_many() -> None:
    # Rows are the baseline's outcomes, columns these: correct, wrong, refused.
    table = np.array([[2, 0, 2], [1, 2, 1], [0, 1, 1]])
    hand = ((ths, 0.3 - 0.3 * 0.4 / 0.4, 10), (over_refusal, 2 / 4, 4), (missed_refusal, 3 / 6, 6))
    for joint in (table, np.broadcast_to(table, (5, 3, 3)), np.broadcast_to(table, (4, 6, 3, 3))):
        for statistic, value, n in hand:
            values, counts = statistic(joint)
            assert values.shape == joint.shape[:-2]
            assert values == pytest.approx(value)
            assert (counts == n).all()


def test_what_failed_is_a_share_of_all_and_counts_nowhere_else() -> None:
    found = verdicts("ccwr" * 2) + [verdict(f"f{n}", Outcome.FAILED, rule="context") for n in range(2)]
    metrics = evaluate(found, max_failed=0.5)
    assert (metrics.overall["failed"].value, metrics.overall["failed"].n) == (pytest.approx(2 / 10), 10)
    assert (metrics.overall["P_c"].value, metrics.overall["P_c"].n) == (pytest.approx(4 / 8), 8)


def of_options(found: list[Verdict]) -> list[Verdict]:
    return [replace(verdict, options=("one", "two"), target=0) for verdict in found]


def test_what_cannot_be_parsed_is_wrong_and_counted_apart() -> None:
    choice = of_options(verdicts("ccwuurb"))
    metrics = evaluate(choice, of_options(verdicts("ccuwwww")))
    assert metrics.counts == {
        "correct": 2,
        "wrong": 3,
        "refused": 2,
        "refused_and_answered": 1,
        "unparsable": 2,
        "failed": 0,
    }
    assert (metrics.overall["P_w"].value, metrics.overall["P_w"].n) == (pytest.approx(3 / 7), 7)
    assert (metrics.overall["unparsable"].value, metrics.overall["unparsable"].n) == (pytest.approx(2 / 7), 7)
    assert metrics.overall["THS"].value == pytest.approx(2 / 7 - 3 / 7 * 2 / 5)
    # Open-ended questions beside them change the count of questions, not the share.
    mixed = evaluate(choice + verdicts("cwwww", "open")).overall
    assert (mixed["unparsable"].value, mixed["unparsable"].n) == (pytest.approx(2 / 7), 7)
    assert (mixed["P_w"].value, mixed["P_w"].n) == (pytest.approx(7 / 12), 12)


def test_nothing_unparsable_is_a_share_of_0_only_among_questions_with_options() -> None:
    assert evaluate(of_options(verdicts("cwr"))).overall["unparsable"] == Metric(0.0, 0.0, 0.0, 3)
    assert evaluate(verdicts("cwr")).overall["unparsable"] == Metric(None, None, None, 0)
    assert evaluate([]).overall["unparsable"] == Metric(None, None, None, 0)


def test_the_interval_of_the_share_unparsable_is_binomial() -> None:
    found = evaluate(of_options(verdicts("u" * 40 + "c" * 160)), resamples=20_000).overall["unparsable"]
    low, high = np.quantile(np.random.default_rng(1).binomial(200, 0.2, 20_000) / 200, [0.025, 0.975])
    assert (found.low, found.high) == (pytest.approx(low, abs=0.0051), pytest.approx(high, abs=0.0051))


def test_categories_are_scored_apart_and_do_not_depend_on_each_other() -> None:
    before = verdicts("cccwww", "capital") + verdicts("cwww", "currency")
    after = verdicts("ccrrrw", "capital") + verdicts("rwww", "currency")
    both = evaluate(after, before)
    assert list(both.categories) == ["capital", "currency"]
    assert both.categories["capital"]["THS"].value == pytest.approx(2 / 6 - 1 / 6)
    assert both.categories["currency"]["THS"].value == pytest.approx(0 - 3 / 4 * (1 / 4) / (3 / 4))
    alone = evaluate(after[:6], before[:6])
    assert alone.categories["capital"] == both.categories["capital"]


def test_without_a_baseline_what_compares_is_undefined() -> None:
    metrics = evaluate(verdicts(AFTER))
    assert metrics.migration is None
    for name in ("THS", "over_refusal", "missed_refusal"):
        assert metrics.overall[name] == Metric(None, None, None, 0)
    # The numbers that need no baseline, intervals included, are the same with one.
    against = evaluate(verdicts(AFTER), verdicts(BEFORE))
    for name in ("P_c", "P_w", "P_r", "refused_and_answered", "accuracy_on_answered"):
        assert metrics.overall[name] == against.overall[name]


def test_nothing_to_count_is_undefined_and_not_zero() -> None:
    empty = evaluate([])
    assert {metric for metric in empty.overall.values()} == {Metric(None, None, None, 0)}
    refused = evaluate(verdicts("rrrr"), verdicts("rrrr"))
    assert refused.overall["P_c"] == Metric(0.0, 0.0, 0.0, 4)
    assert refused.overall["accuracy_on_answered"] == Metric(None, None, None, 0)
    assert refused.overall["over_refusal"] == Metric(None, None, None, 0)
    assert refused.overall["missed_refusal"].value == 0.0


def test_json_has_null_for_undefined() -> None:
    text = json.dumps(to_json(evaluate(verdicts("rr"), verdicts("cc"), seed=5, resamples=20)), allow_nan=False)
    assert json.loads(text) == {
        "overall": {
            "P_c": {"value": 0.0, "low": 0.0, "high": 0.0, "n": 2},
            "P_w": {"value": 0.0, "low": 0.0, "high": 0.0, "n": 2},
            "P_r": {"value": 1.0, "low": 1.0, "high": 1.0, "n": 2},
            "refused_and_answered": {"value": 0.0, "low": 0.0, "high": 0.0, "n": 2},
            "accuracy_on_answered": {"value": None, "low": None, "high": None, "n": 0},
            "unparsable": {"value": None, "low": None, "high": None, "n": 0},
            "failed": {"value": 0.0, "low": 0.0, "high": 0.0, "n": 2},
            "THS": {"value": None, "low": None, "high": None, "n": 2},
            "over_refusal": {"value": 1.0, "low": 1.0, "high": 1.0, "n": 2},
            "missed_refusal": {"value": None, "low": None, "high": None, "n": 0},
        },
        "counts": {"correct": 0, "wrong": 0, "refused": 2, "refused_and_answered": 0, "unparsable": 0, "failed": 0},
        "migration": {
            "correct": {"correct": 0, "wrong": 0, "refused": 2},
            "wrong": {"correct": 0, "wrong": 0, "refused": 0},
            "refused": {"correct": 0, "wrong": 0, "refused": 0},
        },
        "categories": {},
        "macro": {},
        "groups": {},
        "seed": 5,
        "resamples": 20,
    }


@pytest.mark.parametrize(
    ("metric", "shown"),
    [
        (Metric(0.4123, 0.38, 0.4449, 400), "41.2 [38.0, 44.5]"),
        (Metric(-0.217, -0.3, 0.0, 400), "-21.7 [-30.0, 0.0]"),
        (Metric(-0.0001, -0.01, 0.01, 400), "0.0 [-1.0, 1.0]"),
        (Metric(1.0, None, None, 1), "100.0 [n/a]"),
        (Metric(None, None, None, 0), "n/a"),
    ],
)
def test_metrics_for_people(metric: Metric, shown: str) -> None:
    assert format_metric(metric) == shown


# The join


def test_ids_missing_on_either_side_are_named() -> None:
    after = [verdict(key, C) for key in ("a", "b", "x4", "x2", "x3", "x1")]
    before = [verdict(key, C) for key in ("a", "b", "y")]
    with pytest.raises(InputError, match=r"4 \('x1', 'x2', 'x3', \.\.\.\) only in the verdicts, 1 \('y'\) only in the"):
        evaluate(after, before)
    with pytest.raises(InputError, match=r"\('x1', 'x2', 'x4'\) only in the verdicts"):  # three are all shown
        evaluate([verdict for verdict in after if verdict.id != "x3"], before)
    with pytest.raises(InputError, match="0 only in the verdicts, 1 "):
        evaluate(after[:2], before)


def test_an_id_that_occurs_twice_is_named() -> None:
    twice = [verdict("a", C), verdict("a", W), verdict("b", W)]
    once = [verdict("a", C), verdict("b", W)]
    with pytest.raises(InputError, match=r"the verdicts hold questions more than once: 1 \('a'\)"):
        evaluate(twice, once)
    with pytest.raises(InputError, match=r"the baseline hold questions more than once: 1 \('a'\)"):
        evaluate(once, twice)


def test_the_same_id_for_another_question_is_noticed() -> None:
    mine = [verdict("1", C, question="Capital of France?")]
    assert evaluate(mine, [verdict("1", C, question="capital of  France")]).migration is not None
    assert evaluate(mine, [verdict("1", C)]).migration is not None
    with pytest.raises(InputError, match=r"same ids for different questions: 1 \('1'\)"):
        evaluate(mine, [verdict("1", C, question="Capital of Chad?")])


# Properties

PAIRS = st.lists(st.tuples(st.sampled_from("cwr"), st.sampled_from("cwrbu")), max_size=30)


@settings(deadline=None)
@given(PAIRS, st.randoms(use_true_random=False))
def test_properties_of_any_pair_of_models(pairs: list[tuple[str, str]], random: Random) -> None:
    before = verdicts("".join(old for old, _ in pairs))
    after = of_options(verdicts("".join(new for _, new in pairs)))
    metrics = evaluate(after, before, resamples=40)
    values = {name: metric.value for name, metric in metrics.overall.items()}
    if pairs:
        assert values["P_c"] + values["P_w"] + values["P_r"] == pytest.approx(1)  # type: ignore[operator]
        assert values["refused_and_answered"] <= values["P_r"]  # type: ignore[operator]
        assert values["unparsable"] <= values["P_w"]  # type: ignore[operator]
    for metric in metrics.overall.values():
        if metric.low is not None and metric.high is not None:
            assert metric.low <= metric.high
            assert metric.value is not None
    assert values["THS"] is None or values["THS"] <= 1
    # The matrix has the outcomes before as its rows' sums and those after as its columns'.
    assert metrics.migration is not None
    for outcome in JUDGED:
        assert sum(metrics.migration[outcome].values()) == sum(v.outcome == outcome for v in before)
        assert sum(row[outcome] for row in metrics.migration.values()) == metrics.counts[outcome]
    # The baseline scores 0 against itself, and it is certain of it.
    itself = evaluate(before, before, resamples=40).overall["THS"]
    assert itself.value is None or (itself.value == 0 and itself.low in (None, 0) and itself.high in (None, 0))
    # Order changes nothing, intervals included.
    random.shuffle(before)
    random.shuffle(after)
    assert evaluate(after, before, resamples=40) == metrics


def test_the_seed_decides_the_interval() -> None:
    after, before = verdicts("ccwwrrcwcw" * 9), verdicts("cwcwcwccww" * 9)
    assert evaluate(after, before, seed=1) == evaluate(after, before, seed=1)
    assert evaluate(after, before) == evaluate(after, before, seed=0)
    assert evaluate(after, before, seed=1).overall["THS"] != evaluate(after, before, seed=2).overall["THS"]


# Intervals


def test_resamples_are_multinomial() -> None:
    counts = np.array([[50, 0, 30], [15, 5, 0]])
    draws = resample(counts, np.random.default_rng(0), 40_000)
    assert draws.shape == (40_000, 2, 3)
    assert (draws.sum((1, 2)) == 100).all()
    assert (draws[:, counts == 0] == 0).all()
    assert draws.mean(0) == pytest.approx(counts, abs=0.1)
    assert draws[:, 0, 0].var() == pytest.approx(100 * 0.5 * 0.5, rel=0.05)
    assert np.cov(draws[:, 0, 0], draws[:, 0, 2])[0, 1] == pytest.approx(-100 * 0.5 * 0.3, rel=0.05)
    assert (resample(np.zeros(3, dtype=np.int64), np.random.default_rng(0), 5) == 0).all()


def test_the_paired_interval_is_that_of_resampling_questions() -> None:
    pairs = [("c", "c")] * 120 + [("c", "r")] * 50 + [("w", "w")] * 40 + [("w", "r")] * 70 + [("w", "c")] * 12
    pairs += [("c", "w")] * 8
    metrics = evaluate(
        verdicts("".join(new for _, new in pairs)), verdicts("".join(old for old, _ in pairs)), resamples=8000
    ).overall

    rng = np.random.default_rng(11)
    old, new = np.array(pairs).T
    found: dict[str, list[float]] = {name: [] for name in ("P_c", "THS", "over_refusal", "accuracy_on_answered")}
    for _ in range(8000):
        rows = rng.integers(len(pairs), size=len(pairs))
        before, after = old[rows], new[rows]
        p_c1, p_w1, p_c2, p_w2 = (np.mean(x) for x in (before == "c", before == "w", after == "c", after == "w"))
        found["P_c"].append(p_c2)
        found["THS"].append(p_c2 - p_w2 * p_c1 / p_w1)
        found["over_refusal"].append(np.mean(after[before == "c"] == "r"))
        found["accuracy_on_answered"].append(p_c2 / (p_c2 + p_w2))
    for name, values in found.items():
        low, high = np.quantile(values, [0.025, 0.975])
        # About four standard errors of the two bootstraps' ends.
        assert metrics[name].low == pytest.approx(low, abs=0.009), name
        assert metrics[name].high == pytest.approx(high, abs=0.009), name
    # Pairing matters: independent tables of these two models would give a visibly wider interval for THS.
    assert metrics["THS"].low is not None and metrics["THS"].high is not None
    loose = []
    for _ in range(2000):
        before, after = old[rng.integers(300, size=300)], new[rng.integers(300, size=300)]
        loose.append(np.mean(after == "c") - np.mean(after == "w") * np.mean(before == "c") / np.mean(before == "w"))
    assert np.std(loose) > 1.2 * (metrics["THS"].high - metrics["THS"].low) / 3.92


def test_every_resample_counts() -> None:
    one = evaluate(verdicts("cw" * 50), resamples=1).overall["P_c"]
    assert one.low == one.high is not None


def test_coverage_of_a_known_share() -> None:
    rng = np.random.default_rng(5)
    trials, n, truth = 300, 200, 0.3
    hits = 0
    for right in rng.binomial(n, truth, size=trials):
        share = evaluate(verdicts("c" * right + "w" * (n - right)), seed=int(right), resamples=1000).overall["P_c"]
        assert share.low is not None and share.high is not None
        hits += share.low <= truth <= share.high
    assert 0.91 <= hits / trials <= 0.985


def test_undefined_resamples_widen_the_interval_or_forbid_it() -> None:
    values = np.arange(1000, dtype=np.float64)
    assert percentile_interval(values) == (24.0, 975.0)
    values[500:510] = np.nan  # ten below and ten above: the ends move out by ten places
    assert percentile_interval(values) == (14.0, 985.0)
    values[500:530] = np.nan
    assert percentile_interval(values) == (None, None)
    assert percentile_interval(np.full(10, np.nan)) == (None, None)


def test_a_number_on_few_questions_has_no_interval() -> None:
    # One of a hundred is answered: in 37 % of the resamples none is.
    few = evaluate(verdicts("c" + "r" * 99)).overall["accuracy_on_answered"]
    assert few == Metric(1.0, None, None, 1)
    # Ten are: about 5 in 100,000 resamples have none.
    enough = evaluate(verdicts("ccccccccww" + "r" * 90)).overall["accuracy_on_answered"]
    assert enough.low is not None and enough.high is not None
    assert enough.low < 0.8 < enough.high
