"""The status of made-up run folders: what is done, running and missing, and how long the rest takes."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rait.errors import InputError
from rait.locking import locked
from rait.recipe import Recipe, check_recipe, dump_recipe
from rait.records import Question
from rait.status import as_json, planned, print_status, status
from rait.tables import write_records

QUESTIONS = {"train": 100, "a": 10, "b": 20}


@pytest.fixture
def recipe() -> Recipe:
    return check_recipe(
        {
            "questions": {"source": "train.jsonl"},
            "tests": {"a": {"source": "a.jsonl"}, "b": {"source": "b.jsonl"}},
            "rehearsal": {"size": 16, "tuning": {"epochs": 1, "batch_size": 8}},
            "construction": {"vanilla": 24, "idk": 8},
            "tuning": {"epochs": 2, "batch_size": 8},
            "probe": {"shard": 10},
            "strategies": ["cor_rait", "craft"],
        },
        "here",
    )


@pytest.fixture
def folder(recipe: Recipe, tmp_path: Path) -> Path:
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.yaml").write_text(dump_recipe(recipe), "utf-8")
    for name, count in QUESTIONS.items():
        made = [Question(id=f"{name}{n}", question=f"{name} {n}?", answers=("x",)) for n in range(count)]
        write_records(run / f"questions/{name}.parquet", made, Question)
    return run


def write_manifest(folder: Path, seconds: dict[str, float], **more: Any) -> None:
    steps = {name: {"key": "", "files": {}, "seconds": took, "notes": []} for name, took in seconds.items()}
    found = {"format": 1, "status": "running", "steps": steps} | more
    (folder / "manifest.json").write_text(json.dumps(found), "utf-8")


def left(folder: Path) -> dict[str, float | None]:
    return {step.name: step.left for step in status(folder).steps}


def test_every_kind_that_is_timed_gives_the_time_of_the_others(folder: Path, recipe: Recipe) -> None:
    done = {"questions": 1.0, "prompts": 1.0, "knowledge/initial": 200.0, "rehearsal": 32.0, "init_basic/a": 5.0}
    write_manifest(folder, done)
    found = status(folder)
    assert found.state == "stopped"
    assert {step.name for step in found.steps if step.state == "done"} == set(done)
    assert [step.name for step in found.steps] == planned(recipe)
    assert not found.untimed
    times = left(folder)
    assert times["knowledge/tests/a"] == pytest.approx(20)  # 2 s a question
    assert times["knowledge/rehearsed"] == pytest.approx(200)
    assert times["craft/tuning"] == pytest.approx(32 / 16 * 64)  # 2 s an example, 2 epochs of 32
    assert times["craft/b"] == pytest.approx(10)  # 0.5 s a question
    # probes of a, b and the rehearsed; two tunings; a and b for init_refuse and two strategies, b for init_basic
    assert found.left == pytest.approx(20 + 40 + 200 + 2 * 128 + 3 * (5 + 10) + 10)
    assert as_json(found)["seconds_left"] == found.left


def test_what_is_not_timed_is_named_and_not_guessed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_manifest(folder, {"questions": 1.0, "knowledge/initial": 200.0})
    found = status(folder)
    assert found.untimed == ("training", "evaluation")
    assert found.left == pytest.approx(20 + 40 + 200)
    assert as_json(found)["seconds_left"] is None
    print_status(found)
    out = capsys.readouterr().out
    assert "at least 4 min 20 s left" in out and "training and evaluation" in out
    assert f"rait run {folder / 'recipe.yaml'} --out {folder}" in out
    assert "\x1b" not in out
    assert max(len(line) for line in out.splitlines() if str(folder) not in line) <= 80


def test_a_run_at_work_is_told_by_its_lock(folder: Path) -> None:
    since = (datetime.now(UTC) - timedelta(seconds=60)).isoformat()
    doing = {"step": "craft/tuning", "since": since}
    write_manifest(folder, {"rehearsal": 32.0}, doing=doing)
    with locked(folder):
        found = status(folder)
        assert found.state == "running"
        assert found.process is not None and found.process.pid == os.getpid()
        (step,) = [step for step in found.steps if step.state == "running"]
        assert step.name == "craft/tuning"
        assert step.seconds == pytest.approx(60, abs=30)
        assert step.left is not None
        assert step.left + (step.seconds or 0) == pytest.approx(128, abs=30)
    found = status(folder)
    assert (found.state, found.process) == ("stopped", None)
    assert all(step.state != "running" for step in found.steps)


def test_shards_and_checkpoints_count_as_done(folder: Path) -> None:
    write_manifest(folder, {"knowledge/initial": 200.0, "rehearsal": 32.0})
    for number in range(4):
        path = folder / f"knowledge/rehearsed.0123.shards/{number}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (folder / "craft/checkpoints/checkpoint-6").mkdir(parents=True)
    times = left(folder)
    assert times["knowledge/rehearsed"] == pytest.approx(200 * 0.6)
    assert times["craft/tuning"] == pytest.approx(128 * (1 - 6 / 8))
    assert times["cor_rait/tuning"] == pytest.approx(128)


def test_the_running_step_is_timed_by_what_it_has_saved(folder: Path) -> None:
    begun = int(datetime.now(UTC).timestamp()) - 100
    doing = {"step": "knowledge/initial", "since": datetime.fromtimestamp(begun, UTC).isoformat()}
    write_manifest(folder, {"questions": 1.0}, doing=doing)
    shards = folder / "knowledge/initial.0123.shards"
    shards.mkdir(parents=True)
    for number, moment in enumerate((begun - 500, begun + 40, begun + 80)):  # the first is of an earlier start
        (shards / f"{number}.parquet").touch()
        os.utime(shards / f"{number}.parquet", (moment, moment))
    with locked(folder):
        found = status(folder)
    # 20 questions in 80 s; 70 of 100 are left, and 10 and 20 of the tests
    assert found.left == pytest.approx(4 * (70 + 10 + 20 + 100))
    assert found.untimed == ("training", "evaluation")


def test_a_resumed_training_says_nothing_of_the_speed(folder: Path) -> None:
    begun = int(datetime.now(UTC).timestamp()) - 100
    doing = {"step": "craft/tuning", "since": datetime.fromtimestamp(begun, UTC).isoformat()}
    write_manifest(folder, {"questions": 1.0, "knowledge/initial": 200.0}, doing=doing)
    place = folder / "craft/checkpoints"
    (place / "checkpoint-4").mkdir(parents=True)
    (place / "key").touch()
    for resumed in (False, True):
        os.utime(place / "checkpoint-4", (begun + 64, begun + 64))
        os.utime(place / "key", (begun - 9, begun - 9) if resumed else (begun, begun))
        with locked(folder):
            found = status(folder)
        assert ("training" in found.untimed) is resumed
        # 4 of 8 steps, that is 32 of 64 examples, took 64 s
        if not resumed:
            assert {step.name: step.left for step in found.steps}["cor_rait/tuning"] == pytest.approx(128)


def test_lost_files_are_missing(folder: Path, recipe: Recipe) -> None:
    write_manifest(folder, dict.fromkeys(planned(recipe), 1.0), status="complete")
    assert status(folder).state == "complete"
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    manifest["steps"]["craft/a"]["files"] = {"craft/a.verdicts.parquet": "0"}
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    found = status(folder)
    assert found.state == "stopped"
    assert [step.name for step in found.steps if step.state == "missing"] == ["craft/a"]


def test_what_an_earlier_version_finished_is_complete(folder: Path, recipe: Recipe) -> None:
    names = [name for name in planned(recipe) if not name.endswith(("/conflicts", "/over_refusal"))]
    write_manifest(folder, dict.fromkeys(names, 1.0), status="complete")
    found = status(folder)
    assert found.state == "complete"
    assert found.left == 0
    assert len(found.steps) == len(names)


def test_steps_of_an_earlier_recipe_are_missing(folder: Path, recipe: Recipe) -> None:
    names = planned(recipe)
    stale = [name for name in names if name.startswith("craft/")]
    (folder / "craft").mkdir()
    ths = {"overall": {"THS": {"value": 0.9, "low": 0.8, "high": 1.0, "n": 10}}}
    for name in ("craft", "cor_rait"):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "metrics.json").write_text(json.dumps({"a": ths}), "utf-8")
    confirmed = [name for name in names if name not in stale]
    write_manifest(folder, dict.fromkeys(names, 1.0), confirmed=confirmed)
    found = status(folder)
    assert [step.name for step in found.steps if step.state == "missing"] == stale
    assert found.results.keys() == {"cor_rait"}, "craft's is that of the earlier recipe"


def test_no_calibration_questions_were_left(folder: Path, recipe: Recipe) -> None:
    given = recipe.tests["a"].model_copy(update={"source": "c.jsonl"})
    (folder / "recipe.yaml").write_text(dump_recipe(recipe.model_copy(update={"calibration": given})), "utf-8")
    write_manifest(folder, {"questions": 1.0})
    assert "craft/dial" in left(folder)
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    manifest["steps"]["questions"]["inputs"] = {"train": "", "a": "", "b": "", "shots": ""}
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    assert not [name for name in left(folder) if name.endswith(("/dial", "/calibration"))]


def test_seeds_are_parts_of_their_own(folder: Path, recipe: Recipe, capsys: pytest.CaptureFixture[str]) -> None:
    done = [name for name in planned(recipe) if not name.endswith("report")]
    write_manifest(folder, dict.fromkeys([*done, "craft/seed-1/construction", "craft/seed-1/tuning"], 1.0))
    found = status(folder)
    missing = [step.name for step in found.steps if step.state == "missing"]
    assert missing == [f"cor_rait/seed-1/{step}" for step in ("construction", "tuning", "a", "b")] + [
        *(f"craft/seed-1/{step}" for step in ("a", "b")),
        "report",
    ]
    print_status(found)
    out = capsys.readouterr().out
    assert "craft/seed-1" in out and "rait compare" in out


@pytest.mark.parametrize("text", [None, "", "{}", "[]", '{"steps": {}}'])
def test_no_run_is_told_from_a_damaged_one(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "manifest.json").write_text(text, "utf-8")
    with pytest.raises(InputError, match="holds no manifest" if text is None else "damaged"):
        status(tmp_path)
