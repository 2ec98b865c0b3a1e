"""The real model on a slice of atlas: sampler, training, adapter and the whole method."""

import json

import pytest
import torch

from rait.models.loading import load
from rait.models.sampler import Sampling, draw
from rait.pipeline import run
from rait.prompting import Renderer, choose_shots
from rait.questions import load_questions
from rait.recipe import Model, Prompt, load_recipe
from rait.records import Decision, Role
from rait.tables import read_records

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def prompts():
    pool = load_questions("atlas", split="train")
    shots = choose_shots(pool, 3, 0)
    return lambda tokenizer, count: [
        Renderer(tokenizer, Prompt(), {"": shots})(question)
        for question in load_questions("atlas", split="validation", limit=count)
    ]


def test_greedy_is_what_generate_gives(prompts):
    loaded = load(Model(dtype="float32"))
    texts = prompts(loaded.tokenizer, 48)
    greedy = dict(draw(loaded.model, loaded.tokenizer, texts, [0] * len(texts), Sampling(1, 0.0, 16)))
    for index, prompt in enumerate(texts):
        ids = loaded.tokenizer(prompt, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            whole = loaded.model.generate(ids, do_sample=False, max_new_tokens=16)[0, ids.shape[1] :]
        expected = loaded.tokenizer.decode(whole, skip_special_tokens=True).strip().split("\n")[0].strip()
        assert greedy[index].counts == {expected: 1}


def test_memory_does_not_grow_with_the_number_of_samples(prompts):
    """4,000 samples of a 262k-token vocabulary: their logits side by side would take 4 GB a token."""
    import resource

    loaded = load(Model())
    texts = prompts(loaded.tokenizer, 16)
    list(draw(loaded.model, loaded.tokenizer, texts, [0] * 16, Sampling(10, 1.0, 16)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _, answers in draw(loaded.model, loaded.tokenizer, texts[:8], range(8), Sampling(4000, 1.0, 8)):
        assert sum(answers.counts.values()) == 4000
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < 1.5e6  # kB


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gemma") / "run"
    small = [
        "questions.limit=900",
        "tests.id.limit=250",
        "tests.ood.limit=100",
        "calibration.limit=100",
        "rehearsal.size=96",
        "construction.vanilla=240",
        "construction.idk=60",
        "construction.flow_rule=non_positive",
    ]
    return folder, run(load_recipe("default", small), folder)


def test_craft_teaches_to_refuse(finished):
    folder, results = finished
    craft = results["craft"]["id"]["overall"]
    assert results["init_basic"]["id"]["overall"]["THS"]["value"] == 0
    assert craft["THS"]["value"] > 0.1
    assert craft["THS"]["low"] > 0
    assert craft["P_r"]["value"] > 0.1
    assert craft["P_w"]["value"] < results["init_basic"]["id"]["overall"]["P_w"]["value"]
    roles = [decision.role for decision in read_records(folder / "craft/decisions.parquet", Decision)]
    assert (roles.count(Role.VANILLA), roles.count(Role.IDK)) == (240, 60)
    losses = json.loads((folder / "craft/losses.json").read_text())["losses"]
    assert losses[0] > 2 * losses[-1]


def test_the_adapter_is_plain_peft_and_merges(finished, prompts):
    """peft alone loads it, and the merged model gives the same logits."""
    from peft import PeftModel

    folder, _ = finished
    loaded = load(Model(dtype="float32"))
    tuned = PeftModel.from_pretrained(loaded.model, folder / "craft/adapter").eval()
    ids = loaded.tokenizer(prompts(loaded.tokenizer, 1)[0], return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        with tuned.disable_adapter():
            base = tuned(ids).logits[0, -1]
        before = tuned(ids).logits[0, -1]
        after = tuned.merge_and_unload(safe_merge=True)(ids).logits[0, -1]
    torch.testing.assert_close(after, before, atol=1e-3, rtol=1e-3)
    assert (base - before).abs().max() > 1


def test_a_damaged_model_cache_is_made_again(tmp_path, monkeypatch):
    from rait.models.bundled import gemma_folder

    monkeypatch.setenv("RAIT_CACHE", str(tmp_path / "cache"))
    said = []
    folder = gemma_folder(said.append)
    assert any("First use" in line for line in said)
    weights = folder / "model.safetensors"
    size = weights.stat().st_size
    with weights.open("r+b") as file:
        file.seek(size // 2)
        byte = file.read(1)
        file.seek(size // 2)
        file.write(bytes([byte[0] ^ 1]))
    said.clear()
    assert gemma_folder(said.append) == folder
    assert any("model.safetensors has changed" in line for line in said)
    said.clear()
    gemma_folder(said.append)
    assert said == []
    assert not list(folder.parent.glob(".gemma*"))  # no half-made folder is left
