"""Macro averages and groups against hand-computed numbers, exact arithmetic and brute force."""

from collections.abc import Mapping
from fractions import Fraction
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rait.errors import InputError
from rait.evaluation.metrics import Metric, Metrics, evaluate
from rait.records import Outcome, Verdict

OUTCOMES = {"c": Outcome.CORRECT, "w": Outcome.WRONG, "r": Outcome.REFUSED}

# Outcomes before and after, by category; a question is a pair of letters in the same place.
Table = Mapping[str, tuple[str, str]]
HAND: Table = {"a": ("ccww", "ccrw"), "b": ("ccwwwwwwww", "cccwwrrrrr"), "c": ("w", "r")}


def verdicts(table: Table, side: int) -> list[Verdict]:
    return [
        Verdict(
            id=f"{name}{n}", question="", answers=(), category=name, response="", outcome=OUTCOMES[letter], rule="given"
        )
        for name, outcomes in table.items()
        for n, letter in enumerate(outcomes[side])
    ]


def scored(table: Table, groups: Mapping[str, str] | None = None, resamples: int = 200) -> Metrics:
    return evaluate(verdicts(table, 1), verdicts(table, 0), groups=groups, resamples=resamples)


def test_macro_averages_worked_by_hand() -> None:
    # Shares before: (.5, .5), (.2, .8), (0, 1); after: (.5, .25, .25), (.3, .2, .5), (0, 0, 1).
    macro = scored(HAND).macro
    assert {name: (metric.value, metric.n) for name, metric in macro.items()} == {
        "P_c": (pytest.approx(0.8 / 3), 3),
        "P_w": (pytest.approx(0.45 / 3), 3),
        "P_r": (pytest.approx(1.75 / 3), 3),
        # Nothing of c is answered: it has no accuracy to be averaged.
        "accuracy_on_answered": (pytest.approx((2 / 3 + 3 / 5) / 2), 2),
        "THS": (pytest.approx(0.8 / 3 - 0.45 / 3 * 0.7 / 2.3), 3),
    }


def test_macro_ths_is_defined_where_that_of_a_category_is_not() -> None:
    found = scored({"known": ("cc", "cr"), "unknown": ("wwww", "crrw")})
    assert found.categories["known"]["THS"].value is None
    assert found.macro["THS"].value == pytest.approx((0.5 + 0.25) / 2 - 0.25 / 2 * 0.5 / 0.5)
    assert scored({"known": ("cc", "cr"), "better": ("ccc", "ccw")}).macro["THS"] == Metric(None, None, None, 2)


def test_without_a_baseline_macro_ths_is_undefined_and_the_rest_the_same() -> None:
    alone, against = evaluate(verdicts(HAND, 1), resamples=200).macro, scored(HAND).macro
    assert alone["THS"] == Metric(None, None, None, 0)
    assert {name: alone[name] for name in alone if name != "THS"} == {
        name: against[name] for name in against if name != "THS"
    }


def test_one_category_or_none_has_no_macro_average() -> None:
    assert scored({"": ("cw", "cr")}).macro == {}
    assert scored({"a": ("cw", "cr")}).macro == {}
    assert evaluate([]).macro == {}


def test_questions_without_a_category_are_a_category_of_their_own() -> None:
    found = scored({"a": ("cw", "cc"), "": ("wwww", "wwwc")})
    assert list(found.categories) == ["", "a"]
    assert found.macro["P_c"].value == pytest.approx((0.25 + 1) / 2)


def test_nothing_answered_has_no_macro_accuracy() -> None:
    assert scored({"a": ("cw", "rr"), "b": ("w", "r")}).macro["accuracy_on_answered"] == Metric(None, None, None, 0)


# Properties

PAIRS = st.lists(st.tuples(st.sampled_from("cwr"), st.sampled_from("cwr")), min_size=1, max_size=8)
TABLES = st.dictionaries(st.text("abc", max_size=2), PAIRS, min_size=2, max_size=5)
EQUAL_TABLES = st.integers(1, 6).flatmap(
    lambda size: st.dictionaries(
        st.text("abc", max_size=2),
        st.lists(st.tuples(st.sampled_from("cwr"), st.sampled_from("cwr")), min_size=size, max_size=size),
        min_size=2,
        max_size=5,
    )
)


def as_table(pairs: Mapping[str, list[tuple[str, str]]]) -> Table:
    return {name: ("".join(old for old, _ in rows), "".join(new for _, new in rows)) for name, rows in pairs.items()}


def mean_share(table: Table, side: int, letter: str) -> Fraction:
    return sum((Fraction(row[side].count(letter), len(row[side])) for row in table.values()), Fraction()) / len(table)


@settings(deadline=None)
@given(TABLES, st.randoms(use_true_random=False))
def test_macro_averages_of_any_table(pairs: dict[str, list[tuple[str, str]]], random: Random) -> None:
    table = as_table(pairs)
    found = scored(table, resamples=30)
    p_c1, p_w1 = mean_share(table, 0, "c"), mean_share(table, 0, "w")
    p_c2, p_w2, p_r2 = (mean_share(table, 1, letter) for letter in "cwr")
    answered = {name: new.count("c") + new.count("w") for name, (_, new) in table.items()}
    accuracies = [Fraction(table[name][1].count("c"), n) for name, n in answered.items() if n]
    expected = {
        "P_c": (p_c2, len(table)),
        "P_w": (p_w2, len(table)),
        "P_r": (p_r2, len(table)),
        "accuracy_on_answered": (sum(accuracies) / len(accuracies) if accuracies else None, len(accuracies)),
        "THS": (p_c2 - p_w2 * p_c1 / p_w1 if p_w1 else None, len(table)),
    }
    assert {name: (metric.value, metric.n) for name, metric in found.macro.items()} == {
        name: (None if value is None else pytest.approx(float(value)), n) for name, (value, n) in expected.items()
    }
    for metric in found.macro.values():
        assert metric.low is None or metric.high is None or metric.low <= metric.high
    # The baseline scores exactly 0 against itself.
    itself = evaluate(verdicts(table, 0), verdicts(table, 0), resamples=30).macro["THS"]
    assert {itself.value, itself.low, itself.high} <= {0.0, None}
    # A category's size does not weigh, and order changes nothing, intervals included.
    name, (old, new) = next(iter(table.items()))
    larger = scored({**table, name: (old * 5, new * 5)}, resamples=30).macro
    assert larger["P_c"].value == pytest.approx(float(p_c2))
    after, before = verdicts(table, 1), verdicts(table, 0)
    random.shuffle(after)
    random.shuffle(before)
    assert evaluate(after, before, resamples=30) == found


@settings(deadline=None)
@given(EQUAL_TABLES)
def test_macro_is_micro_where_all_categories_have_one_size(pairs: dict[str, list[tuple[str, str]]]) -> None:
    found = scored(as_table(pairs), resamples=10)
    for name in ("P_c", "P_w", "P_r", "THS"):
        micro, macro = found.overall[name].value, found.macro[name].value
        assert macro == (None if micro is None else pytest.approx(micro))


# Intervals


def test_resamples_keep_the_questions_of_each_category() -> None:
    found = scored({"easy": ("w" * 30, "c" * 30), "hard": ("w" * 10, "w" * 10)})
    assert found.macro["P_c"] == Metric(0.5, 0.5, 0.5, 2)
    # Over all questions it is chance how many of the easy ones a test set holds.
    assert found.overall["P_c"].low is not None and found.overall["P_c"].low < 0.7


def test_equal_categories_are_resampled_apart() -> None:
    # Four independent halves: the mean's interval is half as wide as each one's own.
    found = scored(dict.fromkeys("abcd", ("c" * 50 + "w" * 50,) * 2), resamples=4000)
    widths = [p.high - p.low for p in (found.macro["P_c"], found.categories["a"]["P_c"]) if p.high and p.low]
    assert widths[0] == pytest.approx(widths[1] / 2, rel=0.1)


def test_the_interval_is_that_of_resampling_questions_within_categories() -> None:
    kinds = ("cc", "cr", "ww", "wr", "wc", "cw")
    shares = {"large": (60, 20, 20, 40, 6, 4), "small": (4, 6, 8, 18, 2, 2), "other": (30, 6, 30, 9, 15, 0)}
    rows = {name: [kind for kind, n in zip(kinds, ns, strict=True) for _ in range(n)] for name, ns in shares.items()}
    table = {name: ("".join(r[0] for r in found), "".join(r[1] for r in found)) for name, found in rows.items()}
    macro = scored(table, resamples=8000).macro

    rng = np.random.default_rng(7)
    pairs = {name: np.array([list(old), list(new)]) for name, (old, new) in table.items()}
    drawn: dict[str, list[float]] = {name: [] for name in macro}
    for _ in range(8000):
        parts = [both[:, rng.integers(both.shape[1], size=both.shape[1])] for both in pairs.values()]
        c1, w1, c2, w2, r2 = (
            np.mean([np.mean(part[side] == letter) for part in parts])
            for side, letter in ((0, "c"), (0, "w"), (1, "c"), (1, "w"), (1, "r"))
        )
        drawn["P_c"].append(float(c2))
        drawn["P_w"].append(float(w2))
        drawn["P_r"].append(float(r2))
        drawn["THS"].append(float(c2 - w2 * c1 / w1))
        correct, answered = ([np.sum(np.isin(part[1], list(x))) for part in parts] for x in ("c", "cw"))
        drawn["accuracy_on_answered"].append(float(np.mean(np.divide(correct, answered))))
    for name, values in drawn.items():
        low, high = np.quantile(values, [0.025, 0.975])
        # About four standard errors of the two bootstraps' ends.
        assert macro[name].low == pytest.approx(low, abs=0.009), name
        assert macro[name].high == pytest.approx(high, abs=0.009), name


# Groups


def test_a_group_is_scored_over_its_questions() -> None:
    found = scored(HAND, {"a": "arts", "b": "science", "c": "arts", "absent": "sport"})
    assert list(found.groups) == ["arts", "science"]
    both = scored({name: HAND[name] for name in "ac"}).overall
    assert {name: (m.value, m.n) for name, m in found.groups["arts"].items()} == {
        name: (m.value, m.n) for name, m in both.items()
    }
    # 4 and 1 questions: 2 of 5 right, not the mean of 1/2 and 0.
    assert found.groups["arts"]["P_c"].value == pytest.approx(2 / 5)
    assert found.groups["arts"]["THS"].value == pytest.approx(2 / 5 - 1 / 5 * (2 / 5) / (3 / 5))
    assert (found.overall, found.categories, found.macro) == (
        (rest := scored(HAND)).overall,
        rest.categories,
        rest.macro,
    )
    assert rest.groups == scored(HAND, {}).groups == {}


def test_a_category_without_a_group_is_named() -> None:
    with pytest.raises(InputError, match=r"categories of the verdicts belong: 2 \('b', 'c'\); give every category"):
        scored(HAND, {"a": "arts"})
