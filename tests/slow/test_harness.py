"""The exported tasks in the real harness, on the real tuned model: the same outcome for every question."""

import json
import os
import subprocess
import sys

import pytest

from rait.evaluation.answering import answer
from rait.export.run import export
from rait.models.bundled import gemma_folder
from rait.models.loading import load
from rait.pipeline import run
from rait.prompting import Renderer
from rait.recipe import load_recipe
from rait.records import Question
from rait.tables import read_records

pytestmark = pytest.mark.slow

SMALL = [
    "questions.limit=300",
    "tests.id.limit=60",
    "tests.ood.limit=20",
    "strategies=[cor_rait]",
    "construction.vanilla=80",
    "construction.idk=40",
    "calibration=null",
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("harness") / "run"
    run(load_recipe("default", SMALL), folder)
    return folder


def test_the_harness_gives_our_outcomes(finished, tmp_path):
    """In float32, where the size of a batch turns no near tie."""
    export(finished, "lm-eval", tmp_path / "tasks", say=print)
    adapter = finished / "cor_rait/adapter"
    words = ["--include_path", str(tmp_path / "tasks"), "--tasks", "rait_cor_rait_id", "--model", "hf", "--model_args"]
    words += [f"pretrained={gemma_folder()},peft={adapter},dtype=float32", "--batch_size", "8", "--device", "cpu"]
    words += ["--log_samples", "--output_path", str(tmp_path / "results")]
    subprocess.run(
        [sys.executable, "-m", "lm_eval", "run", *words],
        check=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        cwd=tmp_path,
    )
    (samples,) = (tmp_path / "results").rglob("samples_rait_cor_rait_id_*.jsonl")
    theirs = {}
    for line in samples.read_text("utf-8").splitlines():
        row = json.loads(line)
        theirs[row["doc"]["id"]] = next(name for name in ("correct", "wrong", "refused") if row[name])
    recipe = load_recipe(finished / "recipe.yaml")
    loaded = load(recipe.model.model_copy(update={"dtype": "float32"}), adapter=adapter)
    asked = read_records(finished / "questions/id.parquet", Question)
    render = Renderer(loaded.tokenizer, recipe.prompt, may_refuse=True)
    ours = {v.id: v.outcome.value for v in answer(loaded, asked, render, recipe.evaluation)}
    assert theirs == ours
    assert len(set(ours.values())) > 1


def test_the_bundled_model_merges(finished, tmp_path):
    """It was born as GGUF and ties its embeddings."""
    made = export(finished, "merged", tmp_path / "merged", say=print)
    assert made.facts["precise"] < 1e-5 and made.facts["dtype"] == "bfloat16"
    config = json.loads((tmp_path / "merged/config.json").read_text())
    assert "quantization_config" not in config
    assert (tmp_path / "merged/model.safetensors").stat().st_size < 600e6  # embeddings once
