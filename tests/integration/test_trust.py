"""The same run twice is the same, smaller passes change no answer, and what cannot be asked is never counted."""

import json
from pathlib import Path

import pytest

from rait.errors import InputError
from rait.models import sampler, scoring
from rait.pipeline import run
from rait.recipe import load_recipe
from rait.records import Failure, KnowledgeState, Outcome, Question, Verdict
from rait.tables import read_records

pytestmark = pytest.mark.slow  # whole runs

LONG = {"train": "Where is " + "City0 " * 600 + "?", "id": "Where is " + "City1 " * 600 + "?"}


def contents(folder: Path) -> dict[str, object]:
    """Everything that a run makes but what tells of its time and place."""
    made: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.suffix in (".parquet", ".jsonl", ".txt", ".safetensors") or path.name == "metrics.json":
            made[name] = path.read_bytes()
    return made


def test_the_same_run_twice_is_the_same(whole_run, recipe_file, tmp_path):
    folder, results = whole_run
    again = run(load_recipe(recipe_file), tmp_path / "again", say=lambda line: None)
    assert again == results
    first, second = contents(folder), contents(tmp_path / "again")
    assert first.keys() == second.keys()
    assert len(first) > 20
    assert [name for name in first if first[name] != second[name]] == []


@pytest.mark.slow
def test_other_passes_shards_and_orders_give_the_same_answers(whole_run, world, recipe_file, tmp_path, monkeypatch):
    folder, _ = whole_run
    monkeypatch.setattr(sampler, "STEP_ROWS", 31)
    monkeypatch.setattr(sampler, "GROUP_QUESTIONS", 3)
    monkeypatch.setattr(scoring, "PASS_ROWS", 50)
    (tmp_path / "id.jsonl").write_text(
        "\n".join(reversed((world / "id.jsonl").read_text("utf-8").splitlines())) + "\n", "utf-8"
    )
    overrides = [f"tests.id.source={tmp_path / 'id.jsonl'}", "strategies=[van_tuning]", "probe.shard=7"]
    run(load_recipe(recipe_file, overrides), tmp_path / "other", say=lambda line: None)
    for method in ("init_basic", "init_refuse"):
        for test in ("id", "ood"):
            ours, others = (
                {verdict.id: verdict for verdict in read_records(place / f"{method}/{test}.verdicts.parquet", Verdict)}
                for place in (folder, tmp_path / "other")
            )
            assert ours == others
    mine, theirs = (
        {state.id: state for state in read_records(place / "knowledge/initial.parquet", KnowledgeState)}
        for place in (folder, tmp_path / "other")
    )
    assert {id: state.greedy for id, state in mine.items()} == {id: state.greedy for id, state in theirs.items()}


@pytest.fixture(scope="module")
def with_long(world, recipe_file, tmp_path_factory):
    """A recipe of which one question to train on and one to test on are longer than the model's context."""
    place = tmp_path_factory.mktemp("long")
    for name in ("train", "id"):
        row = json.dumps({"id": f"wide/{name}", "question": LONG[name], "answers": ["Land0"], "category": "guess"})
        (place / f"{name}.jsonl").write_text((world / f"{name}.jsonl").read_text("utf-8") + row + "\n", "utf-8")
    return [f"questions.source={place / 'train.jsonl'}", f"tests.id.source={place / 'id.jsonl'}"]


def test_more_failures_than_allowed_stop_the_run_before_anything_is_asked(with_long, recipe_file, tmp_path):
    with pytest.raises(InputError) as failure:
        run(load_recipe(recipe_file, with_long), tmp_path / "run", say=lambda line: None)
    for part in ("1 of 83 questions failed", "'wide/train'", "longer than the model's context", "set max_failed="):
        assert part in str(failure.value)
    assert not list((tmp_path / "run").rglob("*.shards/*"))


def test_what_cannot_be_asked_is_left_out_and_counted(with_long, recipe_file, tmp_path):
    folder, heard = tmp_path / "run", []
    recipe = load_recipe(recipe_file, [*with_long, "max_failed=0.05", "strategies=[cor_rait]"])
    results = run(recipe, folder, say=heard.append)

    pool = {question.id for question in read_records(folder / "questions/train.parquet", Question)}
    (failure,) = read_records(folder / "knowledge/initial.failed.jsonl", Failure)
    assert failure.id == "wide/train"
    assert "context" in failure.reason
    states = {state.id for state in read_records(folder / "knowledge/initial.parquet", KnowledgeState)}
    assert states == pool - {"wide/train"}
    assert any("1 questions cannot be asked" in line for line in heard)
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    assert "knowledge/initial.failed.jsonl" in manifest["steps"]["knowledge/initial"]["files"]

    for method in ("init_basic", "cor_rait"):
        judged = read_records(folder / method / "id.verdicts.parquet", Verdict)
        (failed,) = [verdict for verdict in judged if verdict.outcome is Outcome.FAILED]
        assert (failed.id, failed.rule) == ("wide/id", "too_long")
        found = results[method]["id"]
        assert found["counts"]["failed"] == 1
        assert found["overall"]["P_c"]["n"] == len(judged) - 1 == found["overall"]["THS"]["n"]
        assert found["overall"]["failed"]["value"] == 1 / len(judged)
        assert results[method]["ood"]["counts"]["failed"] == 0
    known = json.loads((folder / "cor_rait/over_refusal.json").read_text("utf-8"))["id"]
    asked = sum(known[part][outcome] for part in ("known", "unknown") for outcome in ("correct", "wrong", "refused"))
    assert asked == len(judged) - 1
    assert (folder / "report.html").is_file()

    before = contents(folder)
    run(recipe, folder, say=lambda line: None)
    assert contents(folder) == before


def test_an_evaluation_that_is_interrupted_goes_on_in_its_middle(recipe_file, tmp_path, monkeypatch):
    """Verdicts are saved in shards as states are; a damaged one is named and asked again."""
    from rait import commands, stages

    recipe = load_recipe(recipe_file, [f"questions.source={load_recipe(recipe_file).tests['id'].source}"])
    settings = {"adapter": None, "shots_from": None, "may_refuse": True, "strategy": None}
    whole = commands.evaluate_to_file(recipe, tmp_path / "whole.parquet", say=lambda line: None, **settings)
    small = recipe.model_copy(update={"probe": recipe.probe.model_copy(update={"shard": 8})})
    asked, heard, own = [], [], stages.answer

    def answer(*given, **more):
        for verdict in own(*given, **more):
            if len(asked) == stop:
                raise KeyboardInterrupt
            asked.append(verdict.id)
            yield verdict

    monkeypatch.setattr(stages, "answer", answer)
    out, stop = tmp_path / "again.parquet", 20
    with pytest.raises(KeyboardInterrupt):
        commands.evaluate_to_file(small, out, say=heard.append, **settings)
    first, second = sorted(tmp_path.glob(".again.parquet.*.shards/*.parquet"))
    second.write_bytes(second.read_bytes()[:-1] + b"\0")
    asked.clear()
    stop = None
    found = commands.evaluate_to_file(small, out, say=heard.append, **settings)
    assert found == whole
    assert asked == [verdict.id for verdict in whole[8:]]
    assert [line for line in heard if "damaged" in line] == [
        f"{second} is damaged: it is removed, and what it held is done again"
    ]
    assert not list(tmp_path.glob(".again*")), "the shards are gone when the file is whole"
    assert first != second
