"""What is not as it was when a run was begun: done again and said, or refused; never mixed with what was made."""

import importlib
import json
import shutil
from functools import partial
from pathlib import Path

import pytest

from rait import shards
from rait.construction import as_it_is, strategies
from rait.construction.source import code_of
from rait.construction.strategies import strategy
from rait.errors import InputError, ModelError
from rait.keys import tuning_key
from rait.manifest import read_manifest
from rait.models import bundled, embedding
from rait.pipeline import run
from rait.recipe import Tuning, load_recipe
from rait.records import Decision, Example, KnowledgeState, Role
from rait.stages import Models, clear_checkpoints, fine_tune_into
from rait.tables import read_records
from rait.tuning.trainer import AnswerTrainer

OWN = '''
from rait.construction import Plan, least_certain, most_certain

def plan(states, evidence, settings):
    """Of the known those that are so."""
    known = [state for state in states if state.correctness >= 0.5]
    unknown = [state for state in states if state.correctness < 0.5]
    return Plan({order}(known), most_certain(unknown), {{}})
'''


@pytest.fixture
def copy(whole_run, tmp_path) -> Path:
    return Path(shutil.copytree(whole_run[0], tmp_path / "copy"))


@pytest.fixture
def small(world, tmp_path, recipe_file):
    """A recipe on copies of the tiny model and of the sentence model, with one strategy, and its arguments."""
    shutil.copytree(world / "model", tmp_path / "model")
    shutil.copytree(bundled.minilm_folder(), tmp_path / "sentences")
    return load_recipe(
        recipe_file,
        [
            f"model.source={tmp_path / 'model'}",
            f"probe.embedder={tmp_path / 'sentences'}",
            "strategies=[cor_rait]",
            "tests={id: {source: " + str(world / "id.jsonl") + "}}",
            "tuning.epochs=2",
        ],
    )


def keys(folder: Path) -> dict[str, str]:
    """What every step was made from; another key tells that it was done again."""
    return {name: step["key"] for name, step in read_manifest(folder)["steps"].items() if name != "report"}


def edit(path: Path) -> None:
    """Other bytes, and the same meaning."""
    path.write_bytes(path.read_bytes() + b" ")


def test_an_edited_recipe_is_not_taken_for_that_of_the_run(copy: Path, call) -> None:
    recipe = copy / "recipe.yaml"
    recipe.write_text(recipe.read_text("utf-8").replace("instruction: Answer .", "instruction: Say ."), "utf-8")
    commands = (
        ["ask", copy],
        ["dial", copy],
        ["status", copy],
        ["export", copy, "--to", "trl"],
    )
    for words in commands:
        code, out, err = call(*words, stdin="Where is City1 ?\n")
        assert code == 1 and out == "", (words, out, err)
        assert "is not the recipe that the run was made with ('prompt.instruction')" in " ".join(err.split()), words
        assert f"rait run {recipe} --out {copy}" in " ".join(err.split())
    code, _, err = call("report", copy)
    assert code == 0 and "is not the recipe that the run was made with ('prompt.instruction')" in " ".join(err.split())
    page = (copy / "report.html").read_text("utf-8")
    assert "instruction: Answer ." in page and "instruction: Say ." not in page, "of what was done"


@pytest.mark.slow
def test_other_files_of_the_model_are_said_and_done_again(small, tmp_path: Path) -> None:
    run(small, tmp_path / "run", say=lambda _: None)
    before, said = keys(tmp_path / "run"), list[str]()
    run(small, tmp_path / "run", say=said.append)
    assert keys(tmp_path / "run") == before
    assert not [line for line in said if "changed" in line]
    edit(tmp_path / "model/generation_config.json")
    run(small, tmp_path / "run", say=said.append)
    told = [line for line in said if "changed" in line or "gone" in line]
    assert told == ["the files of the model changed since prompts was done: it is done again, and what depends on it"]
    after = keys(tmp_path / "run")
    again = {name for name in before if before[name] != after[name]}
    assert again >= {"prompts", "knowledge/initial", "init_basic/id", "cor_rait/tuning", "cor_rait/id"}


@pytest.mark.slow
def test_other_files_of_the_sentence_model_are_said_and_probed_again(small, tmp_path: Path) -> None:
    run(small, tmp_path / "run", say=lambda _: None)
    before, said = keys(tmp_path / "run"), list[str]()
    edit(tmp_path / "sentences/config.json")
    run(small, tmp_path / "run", say=said.append)
    after = keys(tmp_path / "run")
    assert any(line.startswith("the files of the sentence model changed since knowledge/initial") for line in said)
    assert {name for name in before if before[name] != after[name]} == {"knowledge/initial", "knowledge/tests/id"}
    assert before["cor_rait/tuning"] == after["cor_rait/tuning"], "the same states come of it"
    shutil.move(tmp_path / "sentences", tmp_path / "elsewhere")
    moved = {"probe": small.probe.model_copy(update={"embedder": str(tmp_path / "elsewhere")})}
    run(small.model_copy(update=moved), tmp_path / "run", say=said.append)
    assert keys(tmp_path / "run") == after, "the place is no part of it"
    shutil.rmtree(tmp_path / "elsewhere")
    evaluation = {"evaluation": small.evaluation.model_copy(update={"resamples": 300})}
    run(small.model_copy(update=evaluation), tmp_path / "run", say=said.append)
    assert keys(tmp_path / "run")["knowledge/initial"] == after["knowledge/initial"], "it is not needed any more"
    with pytest.raises(ModelError, match="cannot load the sentence model"):
        run(small.model_copy(update={"seed": 1}), tmp_path / "run", say=said.append)


def test_a_sentence_model_has_another_fingerprint_with_any_byte(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bundled.minilm_folder(), tmp_path / "sentences"))
    first = embedding.embedder_mark(str(folder))
    assert embedding.load_embedder(str(folder), first)
    assert first == embedding.embedder_mark(bundled.MINILM), "the place is no part of it"
    for name in ("config.json", "1_Pooling/config.json", "tokenizer.json", "modules.json"):
        edit(folder / name)
        second = embedding.embedder_mark(str(folder))
        assert second != first, name
        with pytest.raises(ModelError, match="have changed since this began"):
            embedding.load_embedder(str(folder), first)
        first = second


def test_a_model_that_changes_while_the_run_is_at_work_is_refused(small, tmp_path: Path) -> None:
    models = Models(small, lambda _: None)
    models.key(None)
    edit(tmp_path / "model/generation_config.json")
    with pytest.raises(ModelError, match=r"the files of the model .* have changed since this began"):
        models.load(None)


@pytest.mark.slow
def test_the_code_of_an_own_strategy_counts(small, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(strategies, "_STRATEGIES", dict(strategies._STRATEGIES))
    recipe = small.model_copy(update={"strategies": ("own",)})
    taken = []
    for order in ("most_certain", "most_certain", "least_certain"):
        path = tmp_path / "own.py"
        path.write_text(OWN.format(order=order), "utf-8")
        scope = {"__name__": "own_strategy"}
        exec(compile(path.read_text("utf-8"), str(path), "exec"), scope)
        strategies._STRATEGIES.pop("own", None)
        strategy("own")(scope["plan"])
        run(recipe, tmp_path / "run", say=lambda _: None)
        taken.append((read_records(tmp_path / "run/own/decisions.parquet", Decision), keys(tmp_path / "run")))
    (first, before), (second, same), (third, after) = taken
    assert first == second and before == same
    assert first != third and before["own/construction"] != after["own/construction"]


def test_fewer_failures_are_permitted_than_there_were(recipe_file, world, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (world / "id.jsonl").read_text("utf-8").splitlines()]
    rows[0]["question"] = "Where is " + "City0 " * 600 + "?"
    (tmp_path / "id.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    keys = ["tests={id: {source: " + str(tmp_path / "id.jsonl") + "}}", "strategies=[van_tuning]", "tuning.epochs=1"]
    run(load_recipe(recipe_file, [*keys, "max_failed=0.5"]), tmp_path / "run", say=lambda _: None)
    with pytest.raises(InputError, match="max_failed"):
        run(load_recipe(recipe_file, [*keys, "max_failed=0.001"]), tmp_path / "run", say=lambda _: None)


def test_what_one_precision_has_saved_another_does_not_go_on_with(world, tmp_path: Path, call, monkeypatch) -> None:
    arguments = ["--model", world / "model", "--questions", world / "train.jsonl", "probe.shard=20"]
    own = ["prompt.refusal=unknown", "prompt.shots=2", "probe.max_new_tokens=4"]
    assert call("probe", *arguments, *own, "--out", tmp_path / "whole.parquet", "model.dtype=float32")[0] == 0
    saves = []

    def second(*given):
        saves.append(given)
        if len(saves) == 2:
            raise KeyboardInterrupt
        return save(*given)

    save = shards._save
    with monkeypatch.context() as patch:
        patch.setattr(shards, "_save", second)
        assert call("probe", *arguments, *own, "--out", tmp_path / "part.parquet", "model.dtype=bfloat16")[0] == 130
    assert len(list(tmp_path.glob(".part.parquet.*.shards/*"))) == 1
    assert call("probe", *arguments, *own, "--out", tmp_path / "part.parquet", "model.dtype=float32")[0] == 0
    states = [read_records(tmp_path / f"{name}.parquet", KnowledgeState) for name in ("whole", "part")]
    assert states[0] == states[1]


@pytest.fixture
def tune(world, recipe_file, tmp_path: Path, call):
    """Tune the tiny model in proj; the exit code and standard error."""
    example = {"id": "1", "prompt": "Where is City1 ?", "completion": " Land10", "role": "vanilla"}
    (tmp_path / "examples.jsonl").write_text(json.dumps(example) + "\n", "utf-8")
    words = ["tune", "--model", world / "model", "--examples", tmp_path / "examples.jsonl", "--out", tmp_path / "proj"]

    def given(*more: str) -> tuple[int, str]:
        code, _, err = call(*words, "tuning.epochs=4", "tuning.learning_rate=0.01", *more)
        return code, err

    return given


def test_checkpoints_of_others_are_left_alone(tune, tmp_path: Path) -> None:
    own = tmp_path / "proj/checkpoints/best/weights.bin"
    own.parent.mkdir(parents=True)
    own.write_text("weeks of work")
    code, err = tune()
    assert code == 1 and own.read_text() == "weeks of work"
    assert f"{tmp_path / 'proj/checkpoints'} holds 'best', which no tuning here has made; move it" in " ".join(
        err.split()
    )


@pytest.mark.parametrize("mark", [b"", b"\xff" * 64, b"0" * 64], ids=["empty", "no text", "another's"])
def test_checkpoints_of_another_key_are_not_gone_on_with(tune, tmp_path: Path, mark: bytes) -> None:
    left = tmp_path / "proj/checkpoints/checkpoint-1/weights"
    left.parent.mkdir(parents=True)
    left.write_text("of something else")
    (tmp_path / "proj/checkpoints/key").write_bytes(mark)
    code, err = tune()
    assert code == 0 and "heckpoint" not in err, err
    assert not left.exists()


@pytest.mark.slow
def test_checkpoints_of_other_versions_are_not_gone_on_with(world, recipe_file, tmp_path: Path, monkeypatch) -> None:
    recipe = load_recipe(recipe_file)
    examples = [
        Example(id=str(n), prompt=f"Where is City{n} ?", completion=" Land1", role=Role.VANILLA) for n in range(8)
    ]
    tuning = recipe.tuning.model_copy(update={"epochs": 5.0, "batch_size": 2})
    seen: list[int] = []

    def tuned(stop: int | None) -> None:
        def look(trainer, *given, **options):
            seen.append(trainer.state.global_step)
            if trainer.state.global_step == stop:
                raise KeyboardInterrupt
            return step(trainer, *given, **options)

        monkeypatch.setattr(AnswerTrainer, "training_step", look)
        fine_tune_into(Models(recipe, print), examples, tuning, tmp_path, {"a": 1}, seed=0, what="tune", say=print)

    step = AnswerTrainer.training_step
    for _ in range(2):
        seen.clear()
        with pytest.raises(KeyboardInterrupt):
            tuned(stop=15)
    assert seen[0] == 10, "with the same versions it goes on"
    seen.clear()
    monkeypatch.setattr("rait.book.version", lambda name: "99.0")
    tuned(stop=None)
    assert seen[0] == 0


def test_what_is_removed_in_part_is_still_known_as_ones_own(tmp_path: Path, monkeypatch) -> None:
    place = tmp_path / "checkpoints"
    for name in ("checkpoint-10", "checkpoint-20"):
        (place / name).mkdir(parents=True)
    (place / "key").write_text("a key")

    def stopped(path, **_):
        if path == place:
            raise KeyboardInterrupt
        remove(path)

    remove = shutil.rmtree
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", stopped)
        with pytest.raises(KeyboardInterrupt):
            clear_checkpoints(tmp_path)
    assert [path.name for path in place.iterdir()] == ["key"]
    clear_checkpoints(tmp_path)
    assert not place.exists()


def test_code_is_that_of_the_registration(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "some_own_code.py"
    path.write_text("class Called:\n    def __call__(self):\n        pass\n\ndef plan(a=1):\n    pass\n", "utf-8")
    own = importlib.import_module("some_own_code")
    marks = [
        code_of(f) for f in (own.plan, partial(own.plan, 1), partial(own.plan, 2), partial(own.plan, a=1), own.Called())
    ]
    assert len(set(marks)) == len(marks)
    path.write_text("# other code\n", "utf-8")
    assert not set(marks) & {code_of(f) for f in (own.plan, partial(own.plan, 1), own.Called())}
    assert code_of(as_it_is) == "rait.construction.labels.as_it_is"


def test_what_changes_no_weight_trains_nothing_anew() -> None:
    first = tuning_key({}, "examples", Tuning(), 0)
    same = {"max_length": 4096, "micro_batch_size": 4, "report_to": ("tensorboard",)}
    assert tuning_key({}, "examples", Tuning(**same), 0) == first
    for name, value in {"epochs": 4.0, "batch_size": 8, "lora_rank": 4, "method": "full", "warmup": 0.5}.items():
        assert tuning_key({}, "examples", Tuning(**{name: value}), 0) != first, name
