"""The dial on the verdicts of a finished run: whether its guarantees hold over random splits, and what it adds to THS.

    python benchmarks/dial.py RUN [SPLITS]

No model is loaded. Calibration and "id" questions of a run on atlas come from one source, so they are thrown together
and split at random into halves: one sets the threshold, the other tells the rate that was promised. "ood" questions are
of another kind, of which nothing is promised: the same thresholds show what becomes of them. Then, with the threshold
of the run's own calibration questions, THS minus that of greedy decoding, with bootstrap intervals over the questions,
drawn for both together. Prints Markdown.
"""

import sys
from pathlib import Path

import numpy as np
from machine import describe
from numpy.typing import NDArray

from rait.construction import find_strategy
from rait.evaluation.dial import applied, choose, control, learn_then_test, refusal_scores
from rait.evaluation.metrics import outcomes_before, ths
from rait.intervals import percentile_interval
from rait.recipe import Dial, load_recipe
from rait.records import JUDGED, Verdict
from rait.stages import dial_obstacle
from rait.tables import read_records

BOUNDS = (0.05, 0.1)
AMONG_ANSWERED = (0.1, 0.15, 0.2)
DELTA = 0.1
RESAMPLES = 2000
Scores = NDArray[np.float64]
Wrong = NDArray[np.bool_]


def main() -> None:
    folder, splits = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    recipe = load_recipe(folder / "recipe.yaml")
    names = [name for name in recipe.strategies if dial_obstacle(find_strategy(name)) is None]
    print(f"{describe()}\n\n{splits} random splits; in points.\n")
    print("| strategy | promised | bound | mean rate | above the bound | refused | mean rate, ood |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for name in names:
        read = {test: read_records(folder / name / f"{test}.verdicts.parquet", Verdict) for test in sets(folder, name)}
        pool = scores_of([*read["calibration"], *read["id"]])
        other = scores_of(read["ood"]) if "ood" in read else None
        for among, bound in [*(("all", b) for b in BOUNDS), *(("answered", b) for b in AMONG_ANSWERED)]:
            print(f"| {name} | {guarantee(*pool, among, bound, splits, other)} |", flush=True)
    print("\n| strategy | test set | greedy THS | chosen THS | gain [95 %] |\n|---|---|---:|---:|---:|")
    for name in names:
        own, base = (
            {test: read_records(folder / method / f"{test}.verdicts.parquet", Verdict) for test in sets(folder, name)}
            for method in (name, "init_basic")
        )
        threshold = choose(own["calibration"], base["calibration"], Dial()).threshold
        for test in own.keys() - {"calibration"}:
            print(f"| {name} | {test} | {gain(own[test], base[test], threshold)} |")


def sets(folder: Path, name: str) -> list[str]:
    """The sets of questions that a strategy's model has answered."""
    return sorted(path.name.partition(".")[0] for path in (folder / name).glob("*.verdicts.parquet"))


def scores_of(verdicts: list[Verdict]) -> tuple[Scores, Wrong]:
    """p(refuse) of each question, and whether its answer is wrong."""
    return np.array(refusal_scores(verdicts)), np.array([verdict.answer_correct is False for verdict in verdicts])


def guarantee(
    scores: Scores, wrong: Wrong, among: str, bound: float, splits: int, other: tuple[Scores, Wrong] | None
) -> str:
    """The rate that is bounded, over halves that did not set the threshold."""
    generator = np.random.default_rng(0)
    half = len(scores) // 2
    rates, refused, away = [], [], []
    for _ in range(splits):
        order = generator.permutation(len(scores))
        sets_it, tells = order[:half], order[half:]
        chosen = scores[sets_it][wrong[sets_it]]
        threshold = (
            control(chosen, half, bound) if among == "all" else learn_then_test(scores[sets_it], chosen, bound, DELTA)
        )
        rates.append(rate(scores[tells], wrong[tells], threshold, among))
        refused.append(float((scores[tells] >= threshold).mean()))
        if other is not None:
            away.append(rate(*other, threshold, among))
    known = [one for one in rates if one is not None]
    elsewhere = [one for one in away if one is not None]
    what = "wrong, of all, on average" if among == "all" else f"wrong, of answered, in {1 - DELTA:.0%} of splits"
    numbers = (bound, np.mean(known), np.mean([one > bound for one in known]), np.mean(refused))
    shown = " | ".join(f"{100 * number:.1f}" for number in numbers)
    return f"{what} | {shown} | {f'{100 * np.mean(elsewhere):.1f}' if elsewhere else 'n/a'}"


def rate(scores: Scores, wrong: Wrong, threshold: float, among: str) -> float | None:
    """Share wrong below the threshold, of all questions or of those answered; None for none."""
    answered = scores < threshold
    whole = len(scores) if among == "all" else int(answered.sum())
    return float((answered & wrong).sum()) / whole if whole else None


def gain(greedy: list[Verdict], base: list[Verdict], threshold: float) -> str:
    """THS of greedy decoding and at the threshold, and the difference with its paired interval."""
    kinds = JUDGED
    before = outcomes_before(greedy, base)
    pairs = [
        (kinds.index(before[one.id]), kinds.index(one.outcome), kinds.index(two.outcome))
        for one, two in zip(greedy, applied(greedy, threshold), strict=True)
    ]
    cells = np.zeros((3, 3, 3), dtype=np.int64)
    np.add.at(cells, tuple(np.array(pairs).T), 1)
    drawn = np.random.default_rng(0).multinomial(len(pairs), (cells / len(pairs)).ravel(), size=RESAMPLES)
    tables = np.concatenate([cells[None], drawn.reshape(-1, 3, 3, 3)])
    old, new = ths(tables.sum(3))[0], ths(tables.sum(2))[0]
    low, high = percentile_interval((new - old)[1:])
    interval = "n/a" if low is None or high is None else f"{100 * low:+.1f}, {100 * high:+.1f}"
    return f"{100 * old[0]:.1f} | {100 * new[0]:.1f} | {100 * (new[0] - old[0]):+.1f} [{interval}]"


if __name__ == "__main__":
    main()
