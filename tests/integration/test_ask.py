"""A run's tuned model is asked: as its evaluation asked it, with reasons that the run and plain arithmetic confirm."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from rait.asking import ask, asked, open_run
from rait.errors import InputError, ModelError, RecipeError
from rait.explaining import background, explain, untuned
from rait.models.loading import load
from rait.pipeline import run
from rait.recipe import load_recipe
from rait.records import Decision, KnowledgeState, Outcome, Question, Role, Verdict
from rait.settings import Tuning
from rait.stages import Models, fine_tune_into
from rait.status import planned, status
from rait.tables import read_records


@pytest.fixture(scope="module")
def finished(recipe_file, world, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "asked"
    held_out = [f"calibration.source={world / 'ood.jsonl'}", "calibration.leaked=keep"]
    run(load_recipe(recipe_file, held_out), folder, lambda _: None)
    return folder


@pytest.fixture(scope="module")
def tuned(finished):
    return open_run(finished, strategy="craft", say=lambda _: None)


def greedy(tuned):
    """Without the dial."""
    return replace(tuned, threshold=None)


def test_answers_are_those_of_the_evaluation(tuned, finished):
    verdicts = read_records(finished / "craft/id.verdicts.parquet", Verdict)
    assert {verdict.outcome for verdict in verdicts} == {Outcome.CORRECT, Outcome.REFUSED}
    for verdict in verdicts:
        reply = ask(greedy(tuned), asked(verdict.question))
        assert (reply.response, reply.id, reply.found) == (verdict.response, verdict.id, "id")
        assert reply.refused == (verdict.outcome is Outcome.REFUSED)
        assert reply.correct == (None if reply.refused else True)
        assert reply.refusal_probability == pytest.approx(verdict.refusal_probability, rel=1e-3, abs=1e-6)
        assert reply.answer == verdict.answer


def test_the_dial_decides_and_a_threshold_replaces_it(tuned, finished):
    saved = json.loads((finished / "craft/dial.json").read_text("utf-8"))["threshold"]
    assert tuned.threshold == pytest.approx(saved)
    questions = read_records(finished / "questions/id.parquet", Question)
    for question in questions[:12]:
        reply = ask(tuned, asked(question.question))
        assert reply.refused == (reply.refusal_probability >= saved)
        always = ask(replace(tuned, threshold=0.0), asked(question.question))
        assert (always.refused, always.response) == (True, "unknown")
        assert ask(replace(tuned, threshold=1.0), asked(question.question)).response == reply.answer


def test_with_its_adapter_off_the_model_is_the_initial_one(tuned, world, finished):
    ids = tuned.loaded.tokenizer(tuned.render(asked("Where is City5 ?")[1]), return_tensors="pt")["input_ids"]
    base = load(load_recipe(finished / "recipe.yaml").model)

    def logits(loaded):
        with torch.inference_mode():
            return loaded.model(ids).logits

    before = logits(tuned.loaded)
    with untuned(tuned) as initial:
        assert initial.model is tuned.loaded.model
        assert torch.equal(logits(initial), logits(base))
    assert torch.equal(logits(tuned.loaded), before)
    assert not torch.equal(before, logits(base))


def test_a_question_of_the_run_has_its_recorded_state(tuned, finished):
    known = background(tuned)
    decisions = {d.id: d for d in read_records(finished / "craft/decisions.parquet", Decision)}
    for name, path in {"train": "initial", "id": "tests/id"}.items():
        for state in read_records(finished / f"knowledge/{path}.parquet", KnowledgeState)[:8]:
            why = explain(tuned, known, reply := ask(tuned, asked(state.question)))
            assert why.recorded and reply.found == name
            assert (why.correctness, why.certainty, why.greedy) == (state.correctness, state.certainty, state.greedy)
            assert [(one.text, one.weight) for one in why.said] == [(a.text, a.count) for a in state.responses]
            assert why.decision == decisions.get(state.id)


def test_the_nearest_are_those_of_brute_force(tuned, finished):
    table = pq.read_table(finished / "knowledge/features.parquet").to_pylist()
    roles = {d.id: d.role for d in read_records(finished / "craft/decisions.parquet", Decision)}
    taken = {row["id"]: row["features"] for row in table if row["set"] == "train" and roles[row["id"]] != Role.DROPPED}
    known = background(tuned)
    asked_ones = [row for row in table if row["set"] == "id"][:6]
    questions = {q.id: q.question for q in read_records(finished / "questions/id.parquet", Question)}
    for row in asked_ones:
        cosines = {id: _cosine(row["features"], other) for id, other in taken.items()}
        best = sorted(cosines.values(), reverse=True)[:5]
        why = explain(tuned, known, ask(tuned, asked(questions[row["id"]])))
        assert [each.similarity for each in why.nearest] == pytest.approx(best, abs=1e-5)
        assert all(each.similarity == pytest.approx(cosines[each.id], abs=1e-5) for each in why.nearest)
        assert all(each.role is roles[each.id] for each in why.nearest)


def test_a_training_example_is_not_its_own_neighbour(tuned):
    known = background(tuned)
    own = known.taught[0]
    why = explain(tuned, known, ask(tuned, asked(own.question)))
    assert own.id not in {each.id for each in why.nearest}
    assert len(why.nearest) == 5


def _cosine(one, other):
    one, other = np.array(one, dtype=float), np.array(other, dtype=float)
    return float(one @ other / np.sqrt((one @ one) * (other @ other)))


def test_any_other_question_is_put_now_as_the_probe_puts_it(tuned, finished):
    shot = read_records(finished / "questions/shots.parquet", Question)[0]  # never asked by the run
    known = background(tuned)
    why = explain(tuned, known, reply := ask(tuned, asked(shot.question)))
    assert reply.found is None and reply.correct is None
    assert not why.recorded
    assert why.correctness is None and why.certainty is None and why.decision is None
    assert sum(one.weight for one in why.said) == tuned.recipe.probe.samples
    assert {one.correct for one in why.said} == {None}
    base = load(tuned.recipe.model)
    prompt = base.tokenizer(known.render(asked(shot.question)[1]), return_tensors="pt")
    written = base.model.generate(**prompt, max_new_tokens=4, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    text = base.tokenizer.decode(written, skip_special_tokens=True).strip().partition("\n")[0].strip()
    assert why.greedy == text
    assert explain(tuned, known, reply) == why  # the same the next time


def test_features_that_the_run_lacks_are_computed(tuned, finished, tmp_path):
    known = background(tuned)
    for path in finished.rglob("*"):
        if path.is_file() and path.name != "features.parquet" and "checkpoints" not in path.parts:
            target = tmp_path / path.relative_to(finished)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, target)
    other = background(replace(tuned, folder=tmp_path))
    assert [question.id for question in other.taught] == [question.id for question in known.taught]
    assert other.points == pytest.approx(known.points, abs=1e-4)


def test_a_model_that_was_tuned_whole_has_its_initial_one_loaded(tuned, finished, tmp_path):
    settings = Tuning(method="full", learning_rate=0.001, epochs=1)
    from rait.records import Example

    made = read_records(finished / "craft/examples.jsonl", Example)
    fine_tune_into(Models(tuned.recipe, lambda _: None), made, settings, tmp_path, {}, seed=0, what="tune")
    whole = open_run(finished, adapter=tmp_path / "adapter", say=lambda _: None)
    known = background(whole)
    assert known.initial is not None
    assert known.taught == ()
    why = explain(whole, known, ask(whole, asked("Where is City5 ?")))
    assert why.recorded and why.nearest == ()


def test_the_best_is_taken_and_said(finished, tmp_path):
    lines: list[str] = []
    scores = {
        name: json.loads((finished / name / "metrics.json").read_text("utf-8"))["id"]["overall"]["THS"]["value"]
        for name in ("cor_rait", "craft")
    }
    assert open_run(finished, say=lines.append).name == max(scores, key=lambda name: scores[name])
    assert "THS" in lines[-1] and "on id" in lines[-1]
    with pytest.raises(RecipeError, match="it has cor_rait, craft"):
        open_run(finished, strategy="crafty")
    with pytest.raises(InputError, match="no run"):
        open_run(tmp_path)


def test_the_plan_is_what_the_run_did(finished):
    done = json.loads((finished / "manifest.json").read_text("utf-8"))["steps"]
    assert set(planned(load_recipe(finished / "recipe.yaml"))) == set(done)
    found = status(finished)
    assert (found.state, found.left, found.untimed) == ("complete", 0, ())
    assert set(found.results) == {"init_basic", "init_refuse", "cor_rait", "craft"}


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "rait.cli", *map(str, arguments)]


@pytest.mark.slow
def test_a_stream_is_answered_line_by_line(finished):
    """Each answer comes before the next question is put; Ctrl-C ends with 130."""
    process = subprocess.Popen(
        command("ask", finished, "--json", "--strategy", "craft"),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        # A shell that put the tests into the background has them, and so their children, ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert process.stdin and process.stdout and process.stderr
    for number in (90, 91):
        process.stdin.write(f'{{"id": {number}, "question": "Where is City{number} ?"}}\n'.encode())
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["id"] == str(number)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, b"")
    assert b"Traceback" not in err


def test_one_bad_line_does_not_stop_the_others(call, finished):
    lines = 'Where is City90 ?\n\n{"id": 1}\n{"id": 2, "question": "Where is City91 ?", "answers": ["x"]}\n'
    code, out, err = call("ask", finished, "--json", stdin=lines)
    found = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert [row.get("id") for row in found] == ["city/90", None, None, "2"]  # a blank line keeps its place
    assert found[2] == {"line": 3, "error": 'the JSON object has no "question"; write {"question": "..."}'}
    assert "line 3" in err
    hostile = [
        '{"question": "Where is City90 ?", "id": "\\ud800"}',
        '{"question": ' + "[" * 100_000,
        "Where is City91 ?",
    ]
    code, out, _ = call("ask", finished, "--json", stdin="\n".join(hostile))
    assert (code, [json.loads(line).get("id") for line in out.splitlines()]) == (1, ["?", None, "city/91"])


@pytest.mark.parametrize("error", [ModelError, InputError])
def test_what_a_model_cannot_be_asked_is_told_of_its_line(call, finished, monkeypatch, error):
    def fails(*_: object, **__: object) -> None:
        raise error("too long for the model")

    monkeypatch.setattr("rait.asking.answer", fails)
    code, out, err = call("ask", finished, "--json", stdin="one\ntwo\n")
    assert (code, len(out.splitlines())) == (1, 2)
    assert "line 2: too long for the model" in err


def test_one_question_is_one_object(call, finished):
    code, out, _ = call("ask", finished, "Where is City5 ?", "--why", "--json", "--threshold", 0)
    found = json.loads(out)
    assert (code, found["refused"], found["threshold"]) == (0, True, 0.0)
    assert found["why"]["recorded"] and len(found["why"]["nearest"]) == 5
    code, out, _ = call("ask", finished, "Where is City5 ?", "--why")
    assert code == 0
    assert "p(refuse)" in out.splitlines()[0] and "nearest in training" in out
    code, out, _ = call("status", finished, "--json")
    assert json.loads(out)["status"] == "complete"
    assert call("ask", finished, "Where?", "--threshold", 2)[0] == 2


@pytest.fixture(scope="module")
def choices(recipe_file, world, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("choice")
    lands = [f"Land{number}" for number in range(12)]
    for name in ("train", "id"):
        rows = []
        for line in (world / f"{name}.jsonl").read_text("utf-8").splitlines():
            row = json.loads(line)
            right = row.pop("answers")[0]
            at = lands.index(right)
            rows.append(row | {"options": [lands[(at + 3) % 12], right, lands[(at + 7) % 12]], "target": 1})
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    wanted = [
        f"questions.source={folder / 'train.jsonl'}",
        f"tests.id.source={folder / 'id.jsonl'}",
        "strategies=[cor_rait]",
    ]
    test = f"tests={{id: {{source: {folder / 'id.jsonl'}}}}}"
    run(load_recipe(recipe_file, [wanted[0], wanted[2], test, "prompt.choice=text"]), folder / "run", lambda _: None)
    return folder / "run"


@pytest.mark.slow
def test_multiple_choice_is_asked_as_the_recipe_does(choices):
    tuned = open_run(choices, say=lambda _: None)
    for verdict in read_records(choices / "cor_rait/id.verdicts.parquet", Verdict)[:10]:
        reply = ask(tuned, asked(verdict.question))
        assert (reply.response, reply.id) == (verdict.response, verdict.id)
        turned = json.dumps({"question": verdict.question, "options": [*verdict.options[::-1]]})
        other = ask(tuned, asked(turned))
        assert (other.response, other.correct) == (reply.response, reply.correct)
        assert other.question.options[other.question.target] == verdict.answers[0]
    new = ask(tuned, asked('{"question": "Where is Land3 ?", "options": ["Land1", "Land2"]}'))
    assert new.response in ("Land1", "Land2", "unknown")
    why = explain(tuned, background(tuned), new)
    assert sum(one.weight for one in why.said) == pytest.approx(1)
    assert why.correctness is None
    with pytest.raises(InputError, match="give the options"):
        ask(tuned, asked("Where is Land3 ?"))
