"""The whole pipeline on a tiny model that knows two thirds of the facts."""

import json
import shutil

import pytest

from rait.errors import RaitError, ShortageError
from rait.pipeline import run
from rait.recipe import load_recipe
from rait.records import Decision, Example, KnowledgeFlow, KnowledgeState, Outcome, Question, Role, Verdict
from rait.tables import read_data, read_records

STAGES = ["questions", "knowledge/initial", "rehearsal", "knowledge/rehearsed", "knowledge/flow"]


@pytest.fixture(scope="module")
def finished(whole_run):
    return whole_run


def test_it_learns_to_refuse_what_it_does_not_know(finished):
    folder, results = finished
    for method in ("cor_rait", "craft"):
        overall = results[method]["id"]["overall"]
        assert overall["P_r"]["value"] > 0.15
        assert overall["THS"]["value"] > 0
        refused = [
            v for v in read_records(folder / method / "id.verdicts.parquet", Verdict) if v.outcome is Outcome.REFUSED
        ]
        guesses = [verdict for verdict in refused if verdict.category == "guess"]
        assert len(guesses) > 2 * (len(refused) - len(guesses))
    assert results["init_basic"]["id"]["overall"]["THS"]["value"] == 0
    assert results["init_basic"]["id"]["overall"]["P_r"]["value"] == 0


def test_states_tell_the_known_from_the_guessed(finished):
    folder, _ = finished
    states = read_records(folder / "knowledge/initial.parquet", KnowledgeState)
    known = [state.correctness for state in states if state.category == "known"]
    guessed = [state.correctness for state in states if state.category == "guess"]
    assert sum(known) / len(known) > 0.8
    assert sum(guessed) / len(guessed) < 0.4
    assert all(sum(answer.count for answer in state.responses) == 10 for state in states)
    by_hand = {s.id: sum(a.count for a in s.responses if a.correct) / 10 for s in states}
    assert by_hand == {state.id: state.correctness for state in states}


def test_every_question_is_accounted_for(finished):
    folder, _ = finished
    pool = {question.id for question in read_records(folder / "questions/train.parquet", Question)}
    shots = {question.id for question in read_records(folder / "questions/shots.parquet", Question)}
    assert len(shots) == 2
    assert not shots & pool
    assert len(pool) == 82
    flows = {flow.id: flow for flow in read_records(folder / "knowledge/flow.parquet", KnowledgeFlow)}
    assert set(flows) == pool
    for method in ("cor_rait", "craft"):
        decisions = read_records(folder / method / "decisions.parquet", Decision)
        assert {decision.id for decision in decisions} == pool
        assert all(decision.reason for decision in decisions)
        examples = read_records(folder / method / "examples.jsonl", Example)
        assert len(examples) == sum(decision.role is not Role.DROPPED for decision in decisions)
        assert {example.completion for example in examples if example.role is Role.IDK} == {" unknown"}
        assert all("Or say unknown" in example.prompt for example in examples)


def test_metrics_follow_from_the_verdicts(finished):
    folder, results = finished
    verdicts = read_records(folder / "craft/id.verdicts.parquet", Verdict)
    correct = sum(verdict.outcome is Outcome.CORRECT for verdict in verdicts)
    assert results["craft"]["id"]["overall"]["P_c"]["value"] == pytest.approx(correct / len(verdicts))
    assert read_data(folder / "craft/metrics.json") == results["craft"]


def test_the_folder_holds_what_is_promised_and_nothing_else(finished):
    folder, _ = finished
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    found -= {name for name in found if "/adapter/" in name}
    expected = {
        ".lock",
        "recipe.yaml",
        "manifest.json",
        "prompts.txt",
        "report.html",
        "rehearsal/examples.jsonl",
        "rehearsal/losses.json",
    }
    expected |= {f"questions/{name}.parquet" for name in ("train", "id", "ood", "shots")}
    expected |= {f"knowledge/{name}.parquet" for name in ("initial", "rehearsed", "flow", "features")}
    expected |= {f"knowledge/tests/{name}.parquet" for name in ("id", "ood")}
    for method in ("init_basic", "init_refuse", "cor_rait", "craft"):
        expected |= {f"{method}/metrics.json", f"{method}/id.verdicts.parquet", f"{method}/ood.verdicts.parquet"}
    for method in ("cor_rait", "craft"):
        expected |= {f"{method}/{name}" for name in ("decisions.parquet", "examples.jsonl", "losses.json")}
        expected |= {f"{method}/conflicts.{form}" for form in ("json", "txt", "png")} | {
            f"{method}/over_refusal.{form}" for form in ("json", "txt")
        }
    assert found == expected
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["status"] == "complete"
    assert set(STAGES) <= set(manifest["steps"])


@pytest.fixture
def copy(finished, tmp_path):
    """The finished run, to be changed."""
    return shutil.copytree(finished[0], tmp_path / "run")


def redone(recipe_file, folder, *overrides):
    """Names of the steps that are done again when the run is started once more with other settings."""
    before = {name: path.stat().st_mtime_ns for name, path in outputs(folder)}
    run(load_recipe(recipe_file, overrides), folder)
    return {name for name, path in outputs(folder) if path.stat().st_mtime_ns != before.get(name)}


def outputs(folder):
    steps = json.loads((folder / "manifest.json").read_text())["steps"]
    return [(name, folder / next(iter(entry["files"]))) for name, entry in steps.items()]


def test_a_second_start_does_nothing(recipe_file, copy):
    assert redone(recipe_file, copy) == set()


def test_a_changed_key_redoes_what_depends_on_it(recipe_file, copy):
    assert redone(recipe_file, copy, "evaluation.resamples=300") == {
        "report",
        *(f"{method}/metrics" for method in ("init_basic", "init_refuse", "cor_rait", "craft")),
    }
    done = redone(recipe_file, copy, "evaluation.resamples=300", "construction.idk=8", "construction.vanilla=32")
    assert "knowledge/initial" not in done
    assert {"craft/construction", "craft/tuning", "craft/id", "cor_rait/tuning"} <= done
    shared = {name for name in done if name.startswith(("init_", "knowledge", "rehearsal"))}
    assert shared == {"knowledge/features"}  # of the questions taken, which are others now


def test_a_damaged_file_is_made_again(recipe_file, copy):
    path = copy / "craft/id.verdicts.parquet"
    before = path.read_bytes()
    path.write_bytes(before[:-20])
    assert redone(recipe_file, copy) == {"craft/id"}  # made as it was, so that nothing after it is stale
    assert read_records(path, Verdict) == read_records(copy.parent / "run/craft/id.verdicts.parquet", Verdict)


@pytest.mark.slow
def test_interrupted_anywhere_it_goes_on_to_the_same_decisions(recipe_file, finished, tmp_path, monkeypatch):
    """Ctrl-C in the middle of the probe, the tuning and the evaluation: the rest is done, and equals the whole run."""
    from rait import shards, stages
    from rait.tuning import trainer

    folder = tmp_path / "run"
    real_save, real_loss, real_answer = shards._save, trainer.answer_loss, stages.answer

    def failing(function, after):
        calls = iter(range(10_000))

        def wrapped(*args, **kwargs):
            if next(calls) == after:
                raise KeyboardInterrupt
            return function(*args, **kwargs)

        return wrapped

    for patch in (
        lambda: monkeypatch.setattr(shards, "_save", failing(real_save, 2)),
        lambda: monkeypatch.setattr(trainer, "answer_loss", failing(real_loss, 45)),
        lambda: monkeypatch.setattr(stages, "answer", failing(real_answer, 2)),
    ):
        patch()
        with pytest.raises(KeyboardInterrupt):
            run(load_recipe(recipe_file), folder)
        monkeypatch.undo()
    results = run(load_recipe(recipe_file), folder)
    whole, expected = finished
    for name in ("knowledge/initial", "knowledge/rehearsed", "craft/decisions", "cor_rait/decisions"):
        assert (folder / f"{name}.parquet").read_bytes() == (whole / f"{name}.parquet").read_bytes()
    assert results == expected
    assert not list(folder.rglob("*.shards"))
    assert not list(folder.rglob("*.part"))
    assert not list(folder.rglob("checkpoints"))


def test_two_runs_do_not_share_a_folder(recipe_file, copy):
    from rait.locking import locked

    with locked(copy), pytest.raises(RaitError, match="another run is at work"):
        run(load_recipe(recipe_file), copy)


def test_a_shortage_stops_with_numbers_and_keeps_the_rest(recipe_file, tmp_path, copy):
    with pytest.raises(ShortageError, match=r"\d+ candidates for the 400 vanilla"):
        run(load_recipe(recipe_file, ["construction.vanilla=400", "construction.shortage=fail"]), copy)
    assert redone(recipe_file, copy) <= {f"{m}/{s}" for m in ("cor_rait", "craft") for s in ("construction", "metrics")}


def test_conflicts_and_over_refusal_follow_from_the_run(finished):
    folder, _ = finished
    conflicts = json.loads((folder / "craft/conflicts.json").read_text())
    decisions = {d.id: d.role for d in read_records(folder / "craft/decisions.parquet", Decision)}
    idk = {id for id, role in decisions.items() if role is Role.IDK}
    assert {point["n"] for point in conflicts["crss"]} == {len(idk)}
    for pair in conflicts["pairs"]:
        assert decisions[pair["idk"]] is Role.IDK and decisions[pair["vanilla"]] is Role.VANILLA
    flows = read_records(folder / "knowledge/flow.parquet", KnowledgeFlow)
    assert conflicts["dynamic"]["idk"]["falling"] == sum(flow.id in idk and flow.direction < 0 for flow in flows)
    assert (folder / "craft/conflicts.txt").read_text().count("\n") == len(conflicts["pairs"])

    found = json.loads((folder / "craft/over_refusal.json").read_text())["id"]
    states = {state.id: state for state in read_records(folder / "knowledge/tests/id.parquet", KnowledgeState)}
    verdicts = read_records(folder / "craft/id.verdicts.parquet", Verdict)
    known = [v for v in verdicts if states[v.id].correctness >= 0.5]
    refused = {v.id for v in known if v.outcome is Outcome.REFUSED}
    assert found["over_refusal"] == pytest.approx(len(refused) / len(known))
    assert found["why"].keys() == refused
    assert all(neighbour["id"] in idk for near in found["why"].values() for neighbour in near)
    listed = (folder / "craft/over_refusal.txt").read_text()
    assert f"id: {len(refused)} of {len(known)} known questions are refused" in listed
    assert all(states[id].question in listed for id in refused)
    assert sum(sum(cell["outcomes"].values()) for cell in found["bands"]) == len(verdicts)
