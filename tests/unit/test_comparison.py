"""The comparison of strategies over seeds against a plain second implementation, hand-computed cases and simulation."""

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rait.errors import InputError
from rait.evaluation.comparison import METRICS, Comparison, Difference, Score, compare
from rait.evaluation.metrics import evaluate
from rait.records import JUDGED, Outcome, Verdict

LETTERS = dict(zip("cwr", JUDGED, strict=True))


def verdict(key: str, outcome: Outcome) -> Verdict:
    return Verdict(id=key, question="", answers=(), response="", outcome=outcome, rule="given")


def verdicts(letters: str) -> list[Verdict]:
    """One verdict for each letter: correct, wrong, refused; ids follow the place."""
    return [verdict(f"q{n:04}", LETTERS[letter]) for n, letter in enumerate(letters)]


def letters(rng: Random, n: int, weights: tuple[int, int, int] = (3, 4, 3)) -> str:
    return "".join(rng.choices("cwr", weights, k=n))


# A second implementation, as plain as can be


def plainly(before: str, after: str) -> dict[str, float | None]:
    def share(part: int, whole: int) -> float | None:
        return part / whole if whole else None

    n = len(after)
    known = [new for old, new in zip(before, after, strict=True) if old == "c"]
    unknown = [new for old, new in zip(before, after, strict=True) if old != "c"]
    wrong_before = before.count("w")
    return {
        "P_c": share(after.count("c"), n),
        "P_w": share(after.count("w"), n),
        "P_r": share(after.count("r"), n),
        "accuracy_on_answered": share(after.count("c"), after.count("c") + after.count("w")),
        "over_refusal": share(known.count("r"), len(known)),
        "missed_refusal": share(unknown.count("w"), len(unknown)),
        "THS": after.count("c") / n - after.count("w") / n * before.count("c") / wrong_before if wrong_before else None,
    }


def mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


RUNS = st.integers(1, 12).flatmap(
    lambda n: st.lists(st.text("cwr", min_size=n, max_size=n), min_size=6, max_size=6),
)


@settings(deadline=None, max_examples=60)
@given(RUNS)
def test_values_are_those_of_the_second_implementation(runs: list[str]) -> None:
    before, *after = runs
    grid = {"a": dict(enumerate(after[:3])), "b": {7: after[3]}, "init": {None: after[4]}}
    found = compare(
        {name: {seed: verdicts(run) for seed, run in of.items()} for name, of in grid.items()},
        verdicts(before),
        "b",
        resamples=20,
    )
    assert (found.questions, found.against) == (len(before), "b")
    expected = {name: {seed: plainly(before, run) for seed, run in of.items()} for name, of in grid.items()}
    for metric in METRICS:
        means = {}
        for name, of in expected.items():
            values = {seed: measured[metric] for seed, measured in of.items()}
            score = found.scores[name][metric]
            means[name] = mean(list(values.values()))
            assert score.values == pytest.approx(values)
            assert score.mean == pytest.approx(means[name])
            several = name == "a" and means[name] is not None
            assert score.sd == (pytest.approx(np.std(list(values.values()), ddof=1)) if several else None)  # type: ignore[arg-type]
        for name in ("a", "init"):
            mine, other = means[name], means["b"]
            difference = found.differences[name][metric]
            assert difference.mean == (None if mine is None or other is None else pytest.approx(mine - other))
    assert "b" not in found.differences


# Cases by hand


def test_a_table_of_four_questions_and_two_seeds() -> None:
    found = compare(
        {"x": {1: verdicts("crwr"), 2: verdicts("crrr")}, "y": {0: verdicts("cwww")}}, verdicts("ccww"), "y"
    )
    ths = found.scores["x"]["THS"]
    # 1/4 - 1/4 (1/2) / (1/2) = 0, and 1/4 - 0; the sample standard deviation of 0 and 1/4 is 1/4 / sqrt(2).
    assert (ths.mean, ths.values) == (0.125, {1: 0.0, 2: 0.25})
    assert ths.sd == pytest.approx(0.25 / 2**0.5)
    assert found.scores["x"]["over_refusal"].mean == 0.5
    assert found.scores["x"]["accuracy_on_answered"].values == {1: 0.5, 2: 1.0}
    # "y" has 1/4 - 3/4.
    assert found.differences["x"]["THS"].mean == 0.625


def test_the_baseline_scores_0_and_is_certain_of_it() -> None:
    before = verdicts("ccwwr" * 8)
    ths = compare({"init": {None: before}}, before, "init").scores["init"]["THS"]
    assert ths == Score(0.0, 0.0, 0.0, None, {None: 0.0})


def test_identical_strategies_differ_by_exactly_0() -> None:
    rng = Random(3)
    before, runs = verdicts(letters(rng, 60)), {seed: verdicts(letters(rng, 60)) for seed in range(4)}
    found = compare({"one": runs, "two": dict(reversed(runs.items()))}, before, "one")
    assert set(found.differences["two"].values()) == {Difference(0.0, 0.0, 0.0, True)}
    assert found.scores["one"] == found.scores["two"]
    assert found.scores["one"]["P_c"].sd


def test_where_the_baseline_is_never_wrong_ths_is_undefined() -> None:
    found = compare({"a": {0: verdicts("cwr")}, "b": {0: verdicts("ccr")}}, verdicts("ccr"), "a")
    assert found.scores["a"]["THS"] == Score(None, None, None, None, {0: None})
    assert found.differences["b"]["THS"] == Difference(None, None, None, None)
    assert found.scores["a"]["P_c"].mean == pytest.approx(1 / 3)


def test_a_seed_that_answers_nothing_leaves_no_mean_accuracy() -> None:
    found = compare({"a": {0: verdicts("cw" * 9), 1: verdicts("rr" * 9)}}, verdicts("cw" * 9), "a")
    assert found.scores["a"]["accuracy_on_answered"] == Score(None, None, None, None, {0: 0.5, 1: None})


def test_a_number_that_few_questions_carry_has_a_value_and_no_interval() -> None:
    # Without the one known question, as in 37 % of the resamples, over-refusal is undefined.
    found = compare({"a": {0: verdicts("r" * 40)}, "b": {0: verdicts("w" * 40)}}, verdicts("c" + "w" * 39), "b")
    assert found.scores["a"]["over_refusal"] == Score(1.0, None, None, None, {0: 1.0})
    assert found.differences["a"]["over_refusal"] == Difference(1.0, None, None, None)


def test_a_clear_difference_is_not_noise_and_a_small_one_is() -> None:
    rng = Random(8)
    before = letters(rng, 400, (1, 1, 0))
    much = {seed: verdicts(letters(rng, 400, (6, 2, 2))) for seed in range(5)}
    some = {seed: verdicts(letters(rng, 400, (3, 4, 3))) for seed in range(5)}
    same = {seed: verdicts(letters(rng, 400, (3, 4, 3))) for seed in range(5)}
    found = compare({"much": much, "some": some, "same": same}, verdicts(before), "some")
    assert found.differences["much"]["P_c"].within_noise is False
    assert found.differences["same"]["P_c"].within_noise is True


def test_shares_stay_shares_however_much_two_seeds_differ() -> None:
    rng = Random(5)
    runs = {0: verdicts(letters(rng, 50, (1, 9, 0))), 1: verdicts(letters(rng, 50, (9, 1, 0)))}
    found = compare({"a": runs, "b": {0: verdicts("w" * 50)}}, verdicts("cw" * 25), "b")
    # t with one degree of freedom: two seeds say next to nothing.
    assert (found.scores["a"]["P_c"].low, found.scores["a"]["P_c"].high) == (0.0, 1.0)
    ths = found.scores["a"]["THS"]
    assert ths.low is not None and ths.low < -1 and ths.high == 1.0
    assert (found.differences["a"]["P_c"].low, found.differences["a"]["P_c"].high) == (-1.0, 1.0)


# Intervals


def test_a_single_run_has_the_interval_of_the_bootstrap_over_questions() -> None:
    rng = Random(2)
    before, after = verdicts(letters(rng, 400)), verdicts(letters(rng, 400))
    alone = compare({"a": {0: after}}, before, "a", resamples=8000).scores["a"]
    expected = evaluate(after, before, resamples=8000).overall
    for name in METRICS:
        assert alone[name].mean == pytest.approx(expected[name].value)
        # About four standard errors of the two bootstraps' ends.
        assert alone[name].low == pytest.approx(expected[name].low, abs=0.012), name
        assert alone[name].high == pytest.approx(expected[name].high, abs=0.012), name


def test_the_difference_of_two_single_runs_is_paired_by_question() -> None:
    rng = np.random.default_rng(4)
    mine = np.array(list(letters(Random(1), 300)))
    other = np.where(rng.random(300) < 0.1, "r", mine)
    found = compare(
        {"a": {0: verdicts("".join(mine))}, "b": {None: verdicts("".join(other))}},
        verdicts("cw" * 150),
        "b",
        resamples=8000,
    ).differences["a"]["P_c"]
    drawn = rng.integers(300, size=(8000, 300))
    apart = ((mine == "c").astype(float) - (other == "c"))[drawn].mean(1)
    assert [found.low, found.high] == pytest.approx(np.quantile(apart, [0.025, 0.975]), abs=0.004)


def test_seeds_that_all_agree_leave_the_questions_alone() -> None:
    rng = Random(6)
    before, run, other = (verdicts(letters(rng, 200)) for _ in range(3))
    found = compare({"five": dict.fromkeys(range(5), run), "one": {0: run}, "other": {0: other}}, before, "other")
    for name in METRICS:
        five, one = found.scores["five"][name], found.scores["one"][name]
        assert five.sd == pytest.approx(0)
        assert (five.mean, five.low, five.high) == pytest.approx((one.mean, one.low, one.high))


def test_where_questions_say_nothing_the_interval_is_students_t() -> None:
    # Seed s answers all or nothing right: resampled questions change nothing.
    runs = {seed: verdicts(("c" if seed < 2 else "w") * 300) for seed in range(5)}
    ths = compare({"a": runs}, verdicts("c" * 30 + "w" * 270), "a").scores["a"]["P_c"]
    assert ths.mean == pytest.approx(0.4)
    assert (ths.low, ths.high) == (0.0, 1.0)  # 0.4 +- 2.776 * 0.548 / sqrt(5), and a share
    few = {seed: verdicts(("c" * (150 + 10 * seed)).ljust(300, "w")) for seed in range(5)}
    base = {seed: verdicts("c" * 150 + "w" * 150) for seed in range(5)}
    # What the seeds do is 30 +- 4 standard deviations apart; most of the width is theirs.
    found = compare({"a": few, "b": base}, verdicts("c" * 30 + "w" * 270), "b").differences["a"]["P_c"]
    half = 2.776 * np.std([0, 10, 20, 30, 40], ddof=1) / 300 / 5**0.5
    assert found.mean == pytest.approx(20 / 300)
    assert found.low is not None and found.high is not None
    assert 1.0 * half <= (found.high - found.low) / 2 <= 1.4 * half


def test_other_seeds_are_independent_and_the_same_are_paired() -> None:
    rng = Random(9)
    before = verdicts(letters(rng, 200, (1, 1, 0)))
    # Seed s lifts both strategies alike.
    lifts = [letters(rng, 200, (1 + 3 * seed, 8, 1)) for seed in range(5)]
    mine = {seed: verdicts(run) for seed, run in enumerate(lifts)}
    other = {seed: verdicts(run[:20].replace("c", "r") + run[20:]) for seed, run in enumerate(lifts)}
    paired = compare({"a": mine, "b": other}, before, "b").differences["a"]["P_c"]
    apart = compare({"a": mine, "b": {seed + 5: run for seed, run in other.items()}}, before, "b").differences["a"][
        "P_c"
    ]
    assert apart.mean == pytest.approx(paired.mean)
    widths = [found.high - found.low for found in (paired, apart)]  # type: ignore[operator]
    assert widths[1] > 5 * widths[0]
    # Two independent means vary sqrt(2) times as much as one; if they moved together, twice or not at all.
    single = compare({"a": mine}, before, "a").scores["a"]["P_c"]
    assert single.low is not None and single.high is not None
    assert 1.2 < widths[1] / (single.high - single.low) < 1.65


def test_a_single_run_stands_beside_every_seed() -> None:
    rng = Random(7)
    before = verdicts(letters(rng, 200, (1, 1, 0)))
    several = {seed: verdicts(letters(rng, 200, (2 + seed, 8, 2))) for seed in range(5)}
    runs = {"several": several, "single": {None: verdicts("w" * 200)}}
    # All wrong is 0 right on any questions: what varies is the other strategy alone.
    up = compare(runs, before, "single", resamples=8000)
    down = compare(runs, before, "several", resamples=8000).differences["single"]["P_c"]
    alone, difference = up.scores["several"]["P_c"], up.differences["several"]["P_c"]
    assert (difference.mean, difference.low, difference.high) == (alone.mean, alone.low, alone.high)
    assert (down.low, down.high) == pytest.approx((-difference.high, -difference.low), abs=0.01)  # type: ignore[operator]


# Bookkeeping


def grid(rng: Random, n: int = 30) -> dict[str, dict[int | None, list[Verdict]]]:
    names = ("a", "b", "c")
    return {name: {seed: verdicts(letters(rng, n)) for seed in range(3)} for name in names} | {
        "init": {None: verdicts(letters(rng, n))}
    }


def test_order_changes_nothing() -> None:
    rng = Random(1)
    runs, before = grid(rng), verdicts(letters(rng, 30))
    found = compare(runs, before, "b")
    shuffled = {name: {seed: rng.sample(run, 30) for seed, run in reversed(of.items())} for name, of in runs.items()}
    again = compare(dict(reversed(shuffled.items())), rng.sample(before, 30), "b")
    assert again == found
    assert list(again.scores) == ["init", "c", "b", "a"]


def test_other_strategies_change_nothing() -> None:
    rng = Random(1)
    runs, before = grid(rng), verdicts(letters(rng, 30))
    found = compare(runs, before, "b")
    alone = compare({"b": runs["b"], "c": runs["c"]}, before, "b")
    assert alone.scores["c"] == found.scores["c"]
    assert alone.differences["c"] == found.differences["c"]


def test_the_seed_decides_the_interval() -> None:
    rng = Random(1)
    runs, before = grid(rng), verdicts(letters(rng, 30))
    assert compare(runs, before, "b", seed=1).scores["a"] != compare(runs, before, "b", seed=2).scores["a"]


def test_many_questions_are_drawn_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = Random(1)
    runs, before = grid(rng), verdicts(letters(rng, 30))
    found = compare(runs, before, "b", resamples=101)
    monkeypatch.setattr("rait.evaluation.comparison._DRAWN_AT_ONCE", 7 * 30)
    assert compare(runs, before, "b", resamples=101) == found


def test_runs_of_other_questions_are_named() -> None:
    run = verdicts("cwr")
    with pytest.raises(
        InputError, match=r"^craft, seed 3: .* 1 \('q0003'\) only in the verdicts, 0 only in the baseline"
    ):
        compare({"a": {0: run}, "craft": {2: run, 3: verdicts("cwrc")}}, run, "a")
    with pytest.raises(InputError, match=r"^init: the verdicts hold questions more than once: 1 \('q0000'\)"):
        compare({"init": {None: [*run, run[0]]}}, run, "init")


def test_what_cannot_be_compared_is_said() -> None:
    run = verdicts("cwr")
    with pytest.raises(InputError, match="no strategy 'craft' to compare against; known are a, b"):
        compare({"a": {0: run}, "b": {0: run}}, run, "craft")
    with pytest.raises(InputError, match="no verdicts of b; give"):
        compare({"a": {0: run}, "b": {}}, run, "a")
    with pytest.raises(InputError, match="baseline holds no verdicts"):
        compare({"a": {0: []}}, [], "a")


# Coverage

N, SEEDS, TRIALS = 400, 5, 250
READY = [[verdict(f"q{n:04}", outcome) for outcome in JUDGED] for n in range(N)]


def simulate(rng: np.random.Generator, n: int, seeds: int, spread: float) -> list[np.ndarray]:
    """Outcomes (seeds, n) of two strategies: refused where doubt exceeds a bound that questions and seeds move.

    Half of the variance of a seed, spread^2, is shared by the strategies.
    """
    doubt, shared = rng.normal(size=n), rng.normal(0, spread / 2**0.5, (seeds, 1))
    runs = []
    for shift in (0.0, 0.3):
        own = rng.normal(0, spread / 2**0.5, (seeds, 1))
        refused = doubt + shared + own + shift + rng.normal(0, 0.7, (seeds, n)) > 0.2
        runs.append(np.where(refused, 2, np.where(doubt + 0.3 * rng.normal(size=(seeds, n)) < -0.3, 0, 1)))
    return runs


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_coverage_over_seeds_and_questions(spread: float) -> None:
    rng = np.random.default_rng(12)
    everyone = [simulate(rng, 2000, 200, spread) for _ in range(20)]
    truth = np.array([[(run == 2).mean() for run in runs] for runs in everyone]).mean(0)
    expected = [truth[1], truth[1] - truth[0]]

    baseline = [outcomes[0] for outcomes in READY]
    hits, widths, means = [], [], []
    for trial in range(TRIALS):
        tables = [
            {seed: [row[code] for row, code in zip(READY, run, strict=True)] for seed, run in enumerate(runs)}
            for runs in simulate(rng, N, SEEDS, spread)
        ]
        found: Comparison = compare({"a": tables[0], "b": tables[1]}, baseline, "a", seed=trial, resamples=300)
        ends = (found.scores["b"]["P_r"], found.differences["b"]["P_r"])
        hits.append([end.low <= value <= end.high for end, value in zip(ends, expected, strict=True)])  # type: ignore[operator]
        widths.append([end.high - end.low for end in ends])  # type: ignore[operator]
        means.append([end.mean for end in ends])
    # 95 % and two and a half standard errors of 250 trials. Where seeds differ, intervals over questions alone reach
    # 32 and 25 %, and with resampled seeds (the two-way bootstrap) 84 and 85 %.
    coverage = np.mean(hits, 0)
    assert (coverage > 0.915).all() and (coverage < 0.985).all(), coverage
    # No wider than it takes: t with 4 degrees of freedom is 1.42 times as wide as the normal. The two-way bootstrap of
    # a difference is 1.5 times as wide as needed where seeds do not differ, and 2.1 times once it is widened to 95 %
    # where they do.
    needed = 2 * 1.96 * np.std(means, axis=0)
    assert (np.mean(widths, 0) < 1.5 * needed).all(), np.mean(widths, 0) / needed
