"""AUROC and AURC: against scikit-learn and a walk over all orders; their intervals; `rait certainty`."""

import json
import sys
from dataclasses import replace
from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import comb
from sklearn.metrics import auc, roc_auc_score

from rait import cli
from rait.knowledge.ranking import aurc, auroc, rank, right_of
from rait.records import Answer, KnowledgeState
from rait.tables import write_records

# Few distinct scores: ties are the rule.
_questions = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=60)


def columns(rows):
    scores, right = zip(*rows, strict=True)
    return np.array(scores) / 7, np.array(right)


def aurc_of(risks):
    """The definition, for risks in their order."""
    return float(np.mean([np.mean(risks[:k]) for k in range(1, len(risks) + 1)]))


def aurc_over_all_orders(scores, risks):
    """The mean over all orders in which no score follows a lower one."""
    found = [
        aurc_of([risks[i] for i in order])
        for order in permutations(range(len(scores)))
        if all(scores[i] >= scores[j] for i, j in pairwise(order))
    ]
    return sum(found) / len(found)


# AUROC


def test_auroc_by_hand():
    assert auroc([0.9, 0.7, 0.7, 0.1], [True, True, False, False]) == 0.875  # 3.5 of 4 pairs
    assert auroc([1, 2, 3], [False, False, True]) == 1
    assert auroc([1, 2, 3], [True, False, False]) == 0
    assert auroc([5, 5, 5, 5], [True, False, True, False]) == 0.5


@pytest.mark.parametrize("right", [[], [True], [False, False]])
def test_auroc_without_both_classes_is_none(right):
    assert auroc(np.arange(len(right)), right) is None


@given(_questions.filter(lambda rows: len({right for _, right in rows}) == 2))
@settings(deadline=None, max_examples=300)
def test_auroc_agrees_with_scikit_learn(rows):
    scores, right = columns(rows)

    assert auroc(scores, right) == pytest.approx(roc_auc_score(right, scores), abs=1e-12)


# AURC


def test_aurc_by_hand():
    # Risks in order 0, 0, 1: means 0, 0, 1/3.
    assert aurc([3, 2, 1], [0, 0, 1]) == pytest.approx(1 / 9)
    assert aurc([1, 2, 3], [0, 0, 1]) == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    # The last two are tied: means 0, then 0 or 1/2, then 1/3.
    assert aurc([2, 1, 1], [0, 0, 1]) == pytest.approx((0 + 1 / 4 + 1 / 3) / 3)
    assert aurc([], []) is None
    assert aurc([4], [0.25]) == 0.25


@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0, 1)), min_size=1, max_size=6))
@settings(deadline=None, max_examples=100)
def test_aurc_is_the_mean_over_all_orders_of_ties(rows):
    scores, risks = zip(*rows, strict=True)

    assert aurc(scores, risks) == pytest.approx(aurc_over_all_orders(scores, risks), abs=1e-12)


def test_aurc_without_ties_agrees_with_the_definition_and_with_the_area_under_the_curve():
    rng = np.random.default_rng(0)
    scores, risks = rng.permutation(500) / 500, rng.random(500)
    ordered = risks[np.argsort(-scores)]

    assert aurc(scores, risks) == pytest.approx(aurc_of(ordered), abs=1e-12)
    # scikit-learn's trapezes over the same curve, of coverage k/n, leave out half of the first and of the last step.
    curve = np.cumsum(ordered) / np.arange(1, 501)
    inside = auc(np.arange(1, 501) / 500, curve)
    assert aurc(scores, risks) == pytest.approx(inside + (curve[0] + curve[-1]) / 2 / 500, abs=1e-12)


@given(_questions)
@settings(deadline=None, max_examples=200)
def test_neither_depends_on_the_order_or_the_scale(rows):
    scores, right = columns(rows)
    backwards = slice(None, None, -1)
    for measure, values in ((auroc, right), (aurc, 1.0 - right)):
        found = measure(scores, values)
        assert measure(scores[backwards], values[backwards]) == pytest.approx(found, abs=1e-12)
        assert measure(np.exp(scores), values) == pytest.approx(found, abs=1e-12)
    area, between = aurc(scores, 1.0 - right), aurc(np.zeros(len(rows)), 1.0 - right)
    assert between == pytest.approx(1 - right.mean())
    assert aurc(right, 1.0 - right) - 1e-12 <= area <= aurc(1 - right, 1.0 - right) + 1e-12


def test_lengths_and_nan_are_refused():
    with pytest.raises(ValueError, match="a score and a value for each question"):
        auroc([1.0, 2.0], [True])
    with pytest.raises(ValueError, match="is NaN"):
        aurc([1.0, float("nan")], [0, 1])


# Intervals


def test_an_interval_has_the_quantiles_of_plain_resampling():
    """Against a bootstrap written as a loop over draws, with the definition of AURC."""
    rng = np.random.default_rng(2)
    right = rng.random(60) < 0.5
    scores = np.round(right + rng.normal(size=60), 1)
    areas, curves = [], []
    for _ in range(4000):
        drawn = rng.integers(60, size=60)
        if len(set(right[drawn])) == 2:
            areas.append(auroc(scores[drawn], right[drawn]))
        order = sorted(drawn, key=lambda i: (-scores[i], rng.random()))
        curves.append(aurc_of(1.0 - right[order]))

    found = rank(scores, right, resamples=4000)

    assert (found.auroc.low, found.auroc.high) == pytest.approx(np.quantile(areas, [0.025, 0.975]), abs=0.015)
    # Ties of the loop are in random order, which adds a little spread to its areas.
    assert (found.aurc.low, found.aurc.high) == pytest.approx(np.quantile(curves, [0.025, 0.975]), abs=0.02)
    assert found.auroc.value == pytest.approx(roc_auc_score(right, scores))


@given(_questions, st.integers(0, 5), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_a_ranking_depends_on_seed_and_questions_alone(rows, seed, rng):
    scores, right = columns(rows)
    found = rank(scores, right, seed=seed, resamples=200)

    assert rank(*columns(rng.sample(rows, len(rows))), seed=seed, resamples=200) == found
    assert found.n == len(rows)
    for part in (found.auroc, found.aurc):
        assert part.low is None or 0 <= part.low <= part.high <= 1 + 1e-12
    assert found.random == pytest.approx(1 - right.mean())
    assert found.perfect == pytest.approx(aurc_of(np.sort(1.0 - right)))


def test_another_seed_draws_anew():
    scores, right = np.arange(40.0), np.arange(40) % 3 > 0

    assert rank(scores, right, seed=1).auroc != rank(scores, right, seed=2).auroc


def test_draws_in_parts_are_as_many_as_asked_for(monkeypatch):
    scores, right = np.arange(50.0), np.arange(50) % 3 > 0
    whole = rank(scores, right, resamples=301)
    monkeypatch.setattr("rait.knowledge.ranking._TOGETHER", 1)

    assert rank(scores, right, resamples=301) == whole


def test_undefined_is_none():
    nothing = rank([], [])
    assert (nothing.n, nothing.auroc.value, nothing.aurc.value, nothing.perfect, nothing.random) == (0, *[None] * 4)
    alike = rank([1, 2, 3], [False] * 3)
    assert (alike.auroc.value, alike.auroc.low, alike.auroc.high) == (None, None, None)
    assert (alike.aurc.value, alike.aurc.low, alike.aurc.high) == (1, 1, 1)
    # Of 3 questions with one right a third of the draws hold a single class: no interval of AUROC.
    few = rank([1, 2, 3], [False, False, True])
    assert (few.auroc.value, few.auroc.low, few.auroc.high) == (1, None, None)
    assert few.aurc.low is not None


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    """Normal scores one standard deviation apart: AUROC is Phi(1 / sqrt(2)) = 0.7602."""
    rng = np.random.default_rng(3)
    held = 0
    for trial in range(200):
        right = np.arange(120) % 2 == 0
        found = rank(rng.normal(size=120) + right, right, seed=trial, resamples=400).auroc
        held += found.low <= 0.7602 <= found.high
    assert comb(200, held) * 0.93**held * 0.07 ** (200 - held) > 1e-4  # of the order of 93 %


# What is right


def state(id, correctness=0.0, certainty=0.0, responses=(), **more):
    answers = tuple(
        Answer(text=text, count=count, correct=False, log_probability=logp, tokens=tokens)
        for text, count, logp, tokens in responses
    )
    return KnowledgeState(
        id=id,
        question="Where ?",
        answers=("x",),
        correctness=correctness,
        certainty=certainty,
        responses=answers,
        **more,
    )


def test_what_tells_that_the_model_is_right():
    assert right_of(state("a", 0.9, greedy="y", greedy_correct=False)) == (False, "greedy")
    assert right_of(state("a", 0.1, greedy="x", greedy_correct=True)) == (True, "greedy")
    assert right_of(state("a", 0.5)) == (True, "correctness")
    assert right_of(state("a", 0.49)) == (False, "correctness")
    choice = {"options": ("x", "y", "z"), "target": 0}
    assert right_of(state("a", 0.4, probabilities=(0.4, 0.3, 0.3), **choice)) == (True, "option")
    assert right_of(state("a", 0.4, probabilities=(0.4, 0.6, 0.0), **choice)) == (False, "option")


# The command


@pytest.fixture
def call(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    words = {"Rome": 0, "Roma": 0, "Lyon": 1, "Oslo": 2}
    monkeypatch.setattr(
        "rait.ranked.load_embedder", lambda name: lambda texts: np.eye(3)[[words[text] for text in texts]]
    )
    monkeypatch.setattr(
        "rait.ranked.load_entailment",
        lambda name: (
            lambda pairs: [
                "entailment" if len({words[t.split()[-1]] for t in pair}) == 1 else "neutral" for pair in pairs
            ]
        ),
    )

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["rait", "certainty", *map(str, arguments)])
        with pytest.raises(SystemExit) as leave:
            cli.main()
        return leave.value.code or 0, *capsys.readouterr()

    return run


SAMPLED = [
    state("a", 1.0, 1.0, [("Rome", 4, -0.4, 2)], greedy_correct=True, kurtosis=90.0),
    state("b", 0.5, 0.6, [("Rome", 3, -0.8, 2), ("Roma", 1, -2.0, 2)], greedy_correct=True, kurtosis=50.0),
    state("c", 0.5, 0.2, [("Lyon", 2, -1.0, 1), ("Rome", 2, -1.0, 2)], greedy_correct=False, kurtosis=70.0),
    state("d", 0.0, 0.4, [("Oslo", 2, -3.0, 2), ("Rome", 1, -3.0, 2), ("Lyon", 1, -3.0, 2)], greedy_correct=False),
]


def test_the_command_ranks_what_a_file_allows(call, tmp_path):
    write_records(tmp_path / "s.jsonl", SAMPLED)

    code, out, _ = call(tmp_path / "s.jsonl", "--entailment", "some/model", "--json", "evaluation.resamples=100")

    assert code == 0
    found = json.loads(out)
    assert (found["questions"], found["right"], found["right_by"], found["random"]) == (4, 2, {"greedy": 4}, 0.5)
    assert found["perfect"] == pytest.approx((1 / 3 + 1 / 2) / 4)
    by_name = {row["name"]: row for row in found["estimates"]}
    assert {name: row["auroc"]["value"] for name, row in by_name.items()} == {
        "cosine": 1.0,  # 1.0 and 0.6 over 0.4 and 0.2
        "exact_entropy": 1.0,  # 0 and -0.56 over -0.69 and -1.04
        "embedding_entropy": 1.0,
        "semantic_entropy": 1.0,
        "discrete_semantic_entropy": 1.0,
        "sequence_log_probability": 1.0,  # -0.2, -0.55 over -0.75, -1.5
        "kurtosis": 0.5,  # 90 and 50 against 70
    }
    assert found["estimates"][-1]["name"] == "kurtosis"
    assert (by_name["kurtosis"]["n"], by_name["kurtosis"]["left_out"]) == (3, 1)
    assert by_name["kurtosis"]["aurc"]["value"] == pytest.approx((0 + 1 / 2 + 1 / 3) / 3)


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_the_table_says_what_was_left_out_and_why(call, tmp_path, suffix):
    bare = [
        replace(of, greedy_correct=None, kurtosis=None, responses=tuple(replace(a, tokens=None) for a in of.responses))
        for of in SAMPLED
    ]
    write_records(tmp_path / f"s.{suffix}", bare)

    code, out, _ = call(tmp_path / f"s.{suffix}", "evaluation.resamples=100")

    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    words = " ".join(out.split())
    assert "4 questions, 3 right" in words
    assert "Right: correctness is at least 0.5 (4 questions)." in words
    assert "kurtosis: 4 of 4 questions left out; needs the kurtosis of a greedy answer." in words
    assert "sequence_log_probability: 4 of 4 questions left out" in words
    assert "an entailment model (--entailment)" in words
    rows = {cells[1]: cells for line in out.splitlines() if len(cells := line.split()) > 5 and cells[0] == "│"}
    assert rows["cosine"][3:5] == ["4", "│"]
    assert rows["kurtosis"][3:8:2] == ["0", "n/a", "n/a"]


def test_options_need_no_model(call, tmp_path, monkeypatch):
    monkeypatch.delattr("rait.ranked.load_embedder")
    states = [
        state(str(n), p, options=("x", "y"), target=0, probabilities=(p, 1 - p))
        for n, p in enumerate((0.9, 0.8, 0.3, 0.6))
    ]
    write_records(tmp_path / "s.jsonl", states)

    code, out, _ = call(tmp_path / "s.jsonl", "--json")

    assert code == 0
    found = json.loads(out)
    assert found["right_by"] == {"option": 4}
    # Certain of 0.9, 0.8, 0.7 (wrong), 0.6.
    assert {row["name"]: row["auroc"]["value"] for row in found["estimates"]} == {
        "negative_entropy": pytest.approx(2 / 3),
        "max_log_probability": pytest.approx(2 / 3),
    }
    code, _, err = call(tmp_path / "s.jsonl", "--entailment", "some/model")
    assert code == 1
    assert "holds no sampled answers for an entailment model" in err


def test_an_empty_file_is_an_error_in_one_sentence(call, tmp_path):
    (tmp_path / "s.jsonl").write_text("")

    code, out, err = call(tmp_path / "s.jsonl")

    assert (code, out) == (1, "")
    assert "holds no states" in err
