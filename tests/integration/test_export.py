"""A finished run, handed over: the merged model, data for other trainers, and the real harness on the real counts."""

import json
import re
import sys
from collections import namedtuple

import pytest
import torch
import yaml
from huggingface_hub import DatasetCard, ModelCard
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

from disk import largest_file
from rait.cli import main
from rait.errors import ModelError, RecipeError
from rait.export import merged
from rait.export.finished import Finished
from rait.export.run import FORMS, export
from rait.manifest import write_manifest
from rait.models.loading import load
from rait.pipeline import run
from rait.recipe import load_recipe
from rait.records import Question, Verdict
from rait.settings import Model, Recipe
from rait.tables import read_records, write_records
from tiny import random_model, save, word_tokenizer


def quiet(text: str) -> None:
    """Say nothing."""


@pytest.fixture(scope="module")
def finished(recipe_file, tmp_path_factory):
    """A run of the tiny world with one strategy."""
    folder = tmp_path_factory.mktemp("export") / "run"
    run(load_recipe(recipe_file, ["strategies=[cor_rait]"]), folder, quiet)
    return folder


@pytest.mark.parametrize("form", [form for form in FORMS if form != "merged"])
def test_every_form_is_written_with_its_card(finished, form, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["rait", "export", str(finished), "--to", form, "--out", str(tmp_path), "--json"])
    with pytest.raises(SystemExit) as leave:
        main()
    assert leave.value.code == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["format"], said["strategy"], said["out"]) == (form, "cor_rait", str(tmp_path))
    card = DatasetCard.load(tmp_path / "README.md")
    assert "cor_rait" in card.data.tags
    assert str(finished.parent) not in (tmp_path / "README.md").read_text()
    for test, found in json.loads((finished / "cor_rait/metrics.json").read_text()).items():
        if test in ("id", "ood"):
            cells = [f"{100 * found['overall'][name]['value']:.1f}" for name in ("P_c", "P_w", "P_r")]
            assert f"| {test} | {found['overall']['P_c']['n']} | {' | '.join(cells)} |" in card.text
    if form != "lm-eval":
        examples = (finished / "cor_rait/examples.jsonl").read_text().splitlines()
        assert said["examples"] == len(examples)
        assert f"{len(examples)} examples of" in card.text
        assert all((tmp_path / file).is_file() for file in said["files"])


def test_what_was_merged_is_said_in_words(finished, call, tmp_path):
    code, out, err = call("export", finished, "--to", "merged", "--out", tmp_path)
    assert code == 0, err
    assert "parameters in float32, with tokenizer and generation settings" in out
    asked = sum(len(read_records(finished / f"questions/{test}.parquet", Question)) for test in ("id", "ood"))
    assert f"read back, it answers {asked} of {asked} test questions as base and adapter do\n" in out
    assert "precise" not in out and "rounded" not in out


def test_a_trainers_own_prompts_are_told_of(finished, call, tmp_path):
    code, out, _ = call("export", finished, "--to", "axolotl", "--out", tmp_path)
    assert code == 0 and "note: the model has no chat template, and ChatML" in out
    assert "other prompts than it was tuned and measured with" in (tmp_path / "README.md").read_text()
    states = ("construct", "--initial", finished / "knowledge/initial.parquet", "--strategy", "cor_rait")
    base = ("--model", load_recipe(finished / "recipe.yaml").model.source, "--vanilla", 4, "--idk", 2)
    for form, noted in (("trl", False), ("trl-chat", True), ("axolotl", False)):  # which is the very text alone
        words = [*states, *base, "--format", form, "--out", tmp_path / f"{form}.jsonl", "--json"]
        code, out, err = call(*words)
        assert code == 0, err
        assert any("SFTConfig(chat_template_path=...)" in note for note in json.loads(out)["notes"]) == noted


def test_wrong_use_is_a_sentence(finished, monkeypatch, capsys):
    for words, code, sentence in (
        (["--to", "onnx"], 2, "unknown format 'onnx'"),
        (["--to", "trl", "--strategy", "craft"], 2, "no tuned model 'craft'"),
        (["--to", "trl", "--out", str(finished)], 1, "holds the run itself"),
    ):
        monkeypatch.setattr(sys, "argv", ["rait", "export", str(finished), *words])
        with pytest.raises(SystemExit) as leave:
            main()
        assert leave.value.code == code
        assert sentence in capsys.readouterr().err


def test_the_merged_model_stands_alone(finished, tmp_path):
    out = tmp_path / "merged"
    made = export(finished, "merged", out, say=quiet)
    assert made.facts["changed"] == 0 and made.facts["rounded"] < 1e-5
    names = {path.name for path in out.iterdir()}
    assert {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "README.md"} <= names
    assert not any(name.startswith("adapter") for name in names)
    # It is asked as any model, and answers the whole test set as the run did.
    from rait.evaluation.answering import answer
    from rait.prompting import Renderer

    recipe = load_recipe(finished / "recipe.yaml")
    loaded = load(Model(source=str(out)))
    asked = read_records(finished / "questions/id.parquet", Question)
    render = Renderer(loaded.tokenizer, recipe.prompt, may_refuse=True)
    verdicts = list(answer(loaded, asked, render, recipe.evaluation))
    stored = read_records(finished / "cor_rait/id.verdicts.parquet", Verdict)
    assert [verdict.response for verdict in verdicts] == [verdict.response for verdict in stored]
    assert {verdict.outcome for verdict in verdicts} > {verdicts[0].outcome}  # more than one kind
    assert loaded.model.generation_config.eos_token_id == loaded.tokenizer.eos_token_id


def test_the_model_card_has_the_results(finished, tmp_path):
    export(finished, "merged", tmp_path, say=quiet)
    card = ModelCard.load(tmp_path / "README.md")
    metrics = json.loads((finished / "cor_rait/metrics.json").read_text())
    found = {(result.dataset_config, result.metric_type): result.metric_value for result in card.data.eval_results}
    for test in ("id", "ood"):
        for name in ("P_c", "P_w", "P_r", "THS"):
            assert found[test, name] == pytest.approx(metrics[test]["overall"][name]["value"], abs=5e-5)
    from importlib.metadata import version

    written = version("transformers")
    assert (
        f"It needs transformers {written.split('.')[0]} or later: the files were written by transformers {written} "
        in (card.text)
    )
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["tokenizer_class"] == "TokenizersBackend"
    assert card.data.license is None and "licence of model is not known" in card.text
    assert "base_model" not in card.data.to_dict()  # a folder is no hub id
    assert str(finished.parent) not in str(card) and "/tmp" not in str(card)


def test_a_further_seed_is_handed_over_too(finished, tmp_path):
    """Its metrics are computed from its verdicts."""
    import shutil

    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    shutil.copytree(copy / "cor_rait", copy / "cor_rait/seed-7")
    (copy / "cor_rait/seed-7/metrics.json").unlink()
    manifest = json.loads((copy / "manifest.json").read_text())
    for step in ("tuning", "id", "ood"):
        manifest["steps"][f"cor_rait/seed-7/{step}"] = manifest["steps"][f"cor_rait/{step}"]
        manifest["confirmed"].append(f"cor_rait/seed-7/{step}")
    write_manifest(copy, manifest)
    export(copy, "merged", tmp_path / "out", strategy="cor_rait/seed-7", say=quiet)
    first = json.loads((copy / "cor_rait/metrics.json").read_text())["id"]["overall"]["P_c"]["value"]
    card = ModelCard.load(tmp_path / "out/README.md")
    assert yaml.safe_load(card.text.partition("yaml\n")[2].partition("```")[0])["seed"] == 7
    results = card.data.eval_results
    assert next(r.metric_value for r in results if r.metric_type == "P_c") == pytest.approx(first, abs=5e-5)


@pytest.fixture
def adapted(tmp_path):
    """Make a run folder around a random model and a random adapter: kind, precision, targets -> Finished."""

    def make(kind: str, dtype: torch.dtype, targets, spread: float = 0.05) -> Finished:
        words = [f"▁w{n}" for n in range(40)]
        tokenizer = word_tokenizer([*words, "Question:", "Answer:", "\n"])
        base = random_model(kind, len(tokenizer)).to(dtype)
        folder = save(base, tokenizer, tmp_path / "base")
        tuned = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, target_modules=targets, task_type="CAUSAL_LM"))
        generator = torch.Generator().manual_seed(1)
        for name, weight in tuned.named_parameters():
            if "lora_B" in name:
                weight.data = (torch.randn(weight.shape, generator=generator) * spread).to(weight.dtype)
        tuned.save_pretrained(tmp_path / "run/x/adapter")
        asked = [Question(id=str(n), question=f"w{n} w{n + 1}", answers=("w3",)) for n in range(30)]
        write_records(tmp_path / "run/questions/id.parquet", asked, Question)
        recipe = Recipe.model_validate(
            {"model": {"source": str(folder)}, "tests": {"id": {}}, "evaluation": {"max_new_tokens": 6}}
        )
        return Finished(tmp_path / "run", "x", recipe, {})

    return make


@pytest.mark.parametrize("kind", ["llama", "gemma3"])  # gemma3 ties its embeddings
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_merged_weights_are_the_product(adapted, kind, dtype, tmp_path, monkeypatch):
    """W + (alpha / r) B A, summed in float32 and rounded once; embeddings stay tied, and all else is as it was."""
    if dtype == torch.bfloat16:  # a random model has near ties everywhere, which rounding turns
        monkeypatch.setattr(merged, "judge", lambda check: None)
    (tmp_path / "out").mkdir()
    check = merged.merge_into(adapted(kind, dtype, "all-linear"), tmp_path / "out", quiet)
    assert check.dtype == str(dtype).removeprefix("torch.")
    assert check.precise < 1e-5
    read = load(Model(source=str(tmp_path / "out"))).model
    tied = read.get_input_embeddings().weight.data_ptr() == read.get_output_embeddings().weight.data_ptr()
    assert tied == (kind == "gemma3")
    base = dict(load(Model(source=str(tmp_path / "base"))).model.named_parameters())
    lora = load_file(tmp_path / "run/x/adapter/adapter_model.safetensors")
    moved = 0
    for name, weight in read.named_parameters():
        key = f"base_model.model.{name.removesuffix('.weight')}.lora_{{}}.weight"
        expected = base[name].float()
        if key.format("A") in lora:
            expected = expected + 8 / 4 * lora[key.format("B")].float() @ lora[key.format("A")].float()
            moved += 1
        torch.testing.assert_close(
            weight, expected.to(dtype), atol=1e-6, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5
        )
    assert moved == len(lora) // 2 > 0


def test_a_merge_that_went_wrong_is_refused(adapted, tmp_path, monkeypatch):
    """Weights that change between the product and the disk are noticed by what the files answer."""
    finished = adapted("llama", torch.float32, "all-linear")
    honest = merged._merged

    def spoilt(whole, adapter, prompts):
        network, difference = honest(whole, adapter, prompts)
        network.get_output_embeddings().weight.data[7] += 3
        return network, difference

    monkeypatch.setattr(merged, "_merged", spoilt)
    (tmp_path / "out").mkdir()
    with pytest.raises(ModelError, match="the merged model differs from base and adapter"):
        merged.merge_into(finished, tmp_path / "out", quiet)


def test_a_disk_without_room_is_seen_before_writing(adapted, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(merged.shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 10**6, 10**6))
    (tmp_path / "out").mkdir()
    with pytest.raises(ModelError, match=r"takes 0\.0 GB and .* has 0\.0 GB left"):
        merged.merge_into(adapted("llama", torch.float32, "all-linear"), tmp_path / "out", quiet)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("size", [100, 60_000])  # other files, weights
def test_a_full_disk_ends_a_merge_with_a_sentence(finished, call, tmp_path, size):
    with largest_file(size):
        code, _, err = call("export", finished, "--to", "merged", "--out", tmp_path / "out")
    assert code == 1 and "Traceback" not in err
    assert re.search(rf"cannot write {tmp_path}.*; (free some space|choose another place)", err), err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the harness's own
def test_the_real_harness_counts_as_we_do(finished, tmp_path, monkeypatch):
    """Every question by itself, through lm-eval's Hugging Face model, base and adapter as users name them."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    lm_eval = pytest.importorskip("lm_eval")
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    names = export(finished, "lm-eval", tmp_path, say=quiet).facts["tasks"]
    assert names == ["rait_cor_rait_id", "rait_cor_rait_ood"]
    base = load_recipe(finished / "recipe.yaml").model.source
    model = HFLM(base, peft=str(finished / "cor_rait/adapter"), device="cpu", dtype="float32", batch_size=7)
    found = lm_eval.simple_evaluate(
        model, tasks=names, task_manager=TaskManager(include_path=str(tmp_path)), log_samples=True, bootstrap_iters=0
    )
    seen = set()
    for test in ("id", "ood"):
        name = f"rait_cor_rait_{test}"
        stored = read_records(finished / f"cor_rait/{test}.verdicts.parquet", Verdict)
        theirs = {
            sample["doc"]["id"]: next(outcome for outcome in ("correct", "wrong", "refused") if sample[outcome])
            for sample in found["samples"][name]
        }
        assert theirs == {verdict.id: verdict.outcome.value for verdict in stored}
        metrics = json.loads((finished / "cor_rait/metrics.json").read_text())[test]["overall"]
        for outcome, share in (("correct", "P_c"), ("wrong", "P_w"), ("refused", "P_r")):
            assert found["results"][name][f"{outcome},none"] == pytest.approx(metrics[share]["value"])
        seen |= set(theirs.values())
    assert seen >= {"correct", "refused"}


@pytest.mark.parametrize("form", ["trl", "trl-chat", "llama-factory", "axolotl"])
def test_construct_writes_the_same_rows(finished, form, tmp_path):
    """What `rait construct` makes of the run's states is what the run's export has."""
    from rait.commands import construct_to_file
    from rait.tables import read_rows

    recipe = load_recipe(finished / "recipe.yaml")
    initial, out = finished / "knowledge/initial.parquet", tmp_path / "rows.jsonl"
    construct_to_file(recipe, "cor_rait", initial, None, out, None, form=form, with_model=True)
    export(finished, form, tmp_path / "out", say=quiet)
    name = {"llama-factory": "rait_cor_rait.json", "axolotl": "rait_cor_rait.jsonl"}.get(form, "train.jsonl")
    text = (tmp_path / "out" / name).read_text("utf-8")
    exported = json.loads(text) if name.endswith(".json") else [json.loads(line) for line in text.splitlines()]
    assert [row for _, row in read_rows(out)] == exported
    assert len(exported) > 4


def test_compared_options_are_no_task(tmp_path):
    from rait.export.harness import write_tasks

    asked = [Question(id="1", question="Where?", answers=("Y",), options=("X", "Y"), target=1)]
    write_records(tmp_path / "run/questions/id.parquet", asked, Question)
    for prompt, sentence in (({"choice": "text"}, "the options of id are compared"), ({}, "")):
        recipe = Recipe.model_validate({"tests": {"id": {}}, "prompt": prompt})
        finished = Finished(tmp_path / "run", "craft", recipe, {})
        if sentence:
            with pytest.raises(RecipeError, match=sentence):
                write_tasks(finished, None, tmp_path / "tasks")
        else:
            (name,) = write_tasks(finished, None, tmp_path / "tasks")
            (row,) = map(json.loads, (tmp_path / f"tasks/{name}.jsonl").read_text().splitlines())
            assert row["prompt"].endswith("Where?\nA. X\nB. Y\nAnswer:") and row["answer"] == "B"
