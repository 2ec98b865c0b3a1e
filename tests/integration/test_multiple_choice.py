"""The whole pipeline on the tiny model's questions with options, which are scored and not sampled."""

import json
import math
import random
import shutil
from pathlib import Path

import pytest

from rait.errors import InputError, RecipeError
from rait.pipeline import run
from rait.recipe import load_recipe
from rait.records import Decision, Example, KnowledgeState, Outcome, Question, Role, Verdict
from rait.tables import read_records

LANDS = [f"Land{number}" for number in range(12)]
OPEN = (
    "rehearsal.rule=top",
    "prompt.choice=text",
    "construction.vanilla=24",
    "construction.idk=16",
)


@pytest.fixture(scope="module")
def choices(world, tmp_path_factory):
    """The question files of the world, each question with two to six options; and overrides that name them."""
    folder = tmp_path_factory.mktemp("choices")
    generator = random.Random(5)
    for name in ("train", "id", "ood"):
        rows = []
        for line in (world / f"{name}.jsonl").read_text("utf-8").splitlines():
            row = json.loads(line)
            right = row.pop("answers")[0]
            wrong = generator.sample([land for land in LANDS if land != right], generator.randint(1, 5))
            options = generator.sample([right, *wrong], len(wrong) + 1)
            rows.append(row | {"options": options, "target": options.index(right)})
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    names = {"questions": "train", "tests.id": "id", "tests.ood": "ood"}
    return [f"{key}.source={folder / name}.jsonl" for key, name in names.items()]


@pytest.fixture(scope="module")
def finished(recipe_file, choices, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "choices"
    return folder, run(load_recipe(recipe_file, [*choices, *OPEN]), folder)


def test_states_are_those_of_the_options(finished):
    folder, _ = finished
    states = read_records(folder / "knowledge/initial.parquet", KnowledgeState)
    assert len({len(state.options) for state in states}) > 2
    for state in states:
        assert len(state.probabilities) == len(state.options)
        assert sum(state.probabilities) == pytest.approx(1, abs=1e-5)
        assert state.correctness == state.probabilities[state.target]
        entropy = -sum(p * math.log(p) for p in state.probabilities if p)
        assert state.certainty == pytest.approx(-entropy, abs=1e-4)
        assert not state.responses
    known = [state.correctness for state in states if state.category == "known"]
    guessed = [state.correctness for state in states if state.category == "guess"]
    assert sum(known) / len(known) > sum(guessed) / len(guessed) + 0.1


def test_the_answer_is_the_text_of_the_right_option(finished):
    folder, _ = finished
    pool = {question.id: question for question in read_records(folder / "questions/train.parquet", Question)}
    for path in ("rehearsal/examples.jsonl", "craft/examples.jsonl"):
        examples = read_records(folder / path, Example)
        assert examples
        for example in examples:
            question = pool[example.id]
            assert example.completion == (" unknown" if example.role is Role.IDK else f" {question.answers[0]}")
            assert example.prompt.endswith(f"Question: {question.question}\nAnswer:")
    decisions = read_records(folder / "craft/decisions.parquet", Decision)
    assert {decision.id for decision in decisions} == set(pool)


def test_verdicts_are_of_the_likeliest_candidate(finished):
    folder, results = finished
    for method in results:
        verdicts = read_records(folder / method / "id.verdicts.parquet", Verdict)
        for verdict in verdicts:
            assert verdict.rule == "scored"
            assert verdict.response in (*verdict.options, "unknown")
            right = verdict.response == verdict.options[verdict.target]
            assert (verdict.outcome is Outcome.CORRECT) == right
            assert (verdict.outcome is Outcome.REFUSED) == (verdict.response == "unknown")
        overall = results[method]["id"]["overall"]
        assert overall["unparsable"]["n"] == len(verdicts)
        assert overall["unparsable"]["value"] == 0
        assert results[method]["id"]["macro"]["P_c"]["n"] == 2  # known, guess


def test_parsing_what_is_written_repeats_the_evaluation_alone(finished, recipe_file, choices):
    folder, _ = finished
    before = json.loads((folder / "manifest.json").read_text())
    again = run(load_recipe(recipe_file, [*choices, *OPEN, "evaluation.choice=generate"]), folder)
    after = json.loads((folder / "manifest.json").read_text())
    done = {step for step in after["steps"] if after["steps"][step] != before["steps"].get(step)}
    assert all(step.endswith(("/id", "/ood", "/metrics", "/over_refusal")) for step in done - {"prompts", "report"})
    verdicts = read_records(folder / "craft/id.verdicts.parquet", Verdict)
    assert {verdict.rule for verdict in verdicts} <= {"option", "unparsable", "refused", "refused_and_answered"}
    unparsable = [verdict for verdict in verdicts if verdict.rule == "unparsable"]
    assert all(verdict.outcome is Outcome.WRONG for verdict in unparsable)
    assert all(verdict.response not in verdict.options for verdict in unparsable)
    # What it cannot know it refuses, and what it knew it answers.
    refused = [verdict.category for verdict in verdicts if verdict.outcome is Outcome.REFUSED]
    assert refused.count("guess") > 2 * refused.count("known")
    assert refused.count("guess") > 0.5 * sum(verdict.category == "guess" for verdict in verdicts)
    assert again["craft"]["id"]["overall"]["unparsable"]["value"] == pytest.approx(len(unparsable) / len(verdicts))


def test_a_pool_of_both_kinds_is_refused(recipe_file, choices, world, tmp_path):
    mixed = tmp_path / "mixed.jsonl"
    both = [Path(choices[0].partition("=")[2]), world / "train.jsonl"]
    lines = [line for path in both for line in path.read_text("utf-8").splitlines()[:30]]
    mixed.write_text("".join(line.replace('"city/', f'"{n}/') + "\n" for n, line in enumerate(lines)), "utf-8")
    recipe = load_recipe(recipe_file, [*choices, *OPEN, f"questions.source={mixed}", "prompt.shots=0"])
    with pytest.raises(InputError, match=r"30 multiple-choice questions .* and 30 open-ended ones"):
        run(recipe, tmp_path / "run")


@pytest.mark.slow
def test_methods_of_others_take_options(finished, recipe_file, choices, tmp_path):
    """What they teach of a question without samples: the right option for a right sample, probabilities for shares."""
    names = ["r_tuning", "r_tuning_u", "absolute", "confidence_verb", "multisample", "grait"]
    words = [*choices, *OPEN, f"strategies={names}", "tuning.epochs=1"]
    with pytest.raises(RecipeError, match="r_tuning, r_tuning_u, confidence_verb teach more words than an answer"):
        run(load_recipe(recipe_file, words), tmp_path / "run")
    folder = shutil.copytree(finished[0], tmp_path / "run")
    results = run(load_recipe(recipe_file, [*words, "evaluation.choice=generate"]), folder)
    assert set(names) <= results.keys()
    states = {state.id: state for state in read_records(folder / "knowledge/initial.parquet", KnowledgeState)}
    weights: dict[str, float] = {}
    for example in read_records(folder / "multisample/examples.jsonl", Example):
        right = example.role is Role.VANILLA
        mu = states[example.id].correctness
        assert example.weight == pytest.approx(mu if right else 1 - mu)
        assert example.completion == (f" {states[example.id].answers[0]}" if right else " unknown")
        weights[example.id] = weights.get(example.id, 0) + example.weight
    assert list(weights.values()) == pytest.approx([1] * len(weights))
    for example in read_records(folder / "r_tuning_u/examples.jsonl", Example):
        state = states[example.id]
        likeliest = state.options[state.probabilities.index(max(state.probabilities))]
        assert example.completion.startswith(f" {likeliest}. Are you sure")
