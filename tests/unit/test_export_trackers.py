"""Experiment trackers: named in the recipe, told by the trainer, and no part of what a result hangs on."""

import json
from pathlib import Path

import pytest
import torch
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from rait import settings
from rait.errors import RecipeError
from rait.models.loading import LoadedModel
from rait.recipe import check_recipe, dump_recipe
from rait.records import Example, Role
from rait.settings import TRACKERS, Recipe, Tuning
from rait.tuning.sft import _arguments, fine_tune
from tiny import random_model, word_tokenizer


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.setattr(settings, "find_spec", lambda name: object())


def arguments(tuning):
    return _arguments(tuning, 3, Path("x"), 0, torch.float32, torch.device("cpu"), "tune craft")


def test_the_trainer_is_told(installed):
    told = arguments(Tuning(report_to=("tensorboard", "wandb")))
    assert told.report_to == ["tensorboard", "wandb"] and told.run_name == "tune craft"
    assert arguments(Tuning()).report_to in ("none", [])
    assert TRACKERS.keys() <= INTEGRATION_TO_CALLBACK.keys()


def test_what_cannot_be_told_is_said_when_the_recipe_is_read(monkeypatch):
    with pytest.raises(RecipeError, match=r"tuning\.report_to.*unknown tracker 'wnadb'; known: .*wandb"):
        check_recipe({"tuning": {"report_to": ["wnadb"]}}, "here")
    monkeypatch.setattr(settings, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match="tracker tensorboard is not installed; run: pip install tensorboard"):
        check_recipe({"rehearsal": {"tuning": {"report_to": ["tensorboard"]}}}, "here")


def test_who_watches_changes_no_step(installed):
    watched = Recipe(tuning=Tuning(report_to=("wandb",)))
    assert watched.model_dump() == Recipe().model_dump()
    assert "report_to" not in dump_recipe(watched) and watched.tuning.report_to == ("wandb",)


def test_losses_reach_a_tracker(tmp_path, monkeypatch):
    """A tracker that stands in for an installed one gets every step's loss, under the name of the run."""
    from transformers import TrainerCallback

    seen = []

    class Tracker(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **_):
            seen.append((args.run_name, logs.get("loss")))

    monkeypatch.setattr(settings, "find_spec", lambda name: object())
    monkeypatch.setitem(INTEGRATION_TO_CALLBACK, "trackio", Tracker)
    tokenizer = word_tokenizer(["▁a", "▁b", "▁c"])
    loaded = LoadedModel(random_model("llama", len(tokenizer)), tokenizer, "tiny", "0")
    made = [Example(id=str(n), prompt="a b", completion=" c", role=Role.VANILLA) for n in range(4)]
    tuning = Tuning(report_to=("trackio",), epochs=3, batch_size=2, lora_rank=2)
    result = fine_tune(loaded, made, tuning, tmp_path, seed=0, what="tune mine")
    told = [(name, loss) for name, loss in seen if loss is not None]
    assert {name for name, _ in told} == {"tune mine"}
    assert tuple(loss for _, loss in told) == pytest.approx(result.losses)


def test_tensorboard_writes_beside_what_was_tuned(tmp_path):
    pytest.importorskip("tensorboard")
    tokenizer = word_tokenizer(["▁a", "▁b", "▁c"])
    loaded = LoadedModel(random_model("llama", len(tokenizer)), tokenizer, "tiny", "0")
    made = [Example(id=str(n), prompt="a b", completion=" c", role=Role.VANILLA) for n in range(4)]
    fine_tune(loaded, made, Tuning(report_to=("tensorboard",), batch_size=2, lora_rank=2), tmp_path, seed=0)
    assert list((tmp_path / "tracking").glob("events.out.tfevents.*"))
    assert json.loads((tmp_path / "adapter/adapter_config.json").read_text())["r"] == 2
