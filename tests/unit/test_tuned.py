"""What was tuned is loaded whole, on its own base and on no other; a model whose weights are wrong is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import IA3Config, LoraConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file

from rait.errors import ModelError
from rait.models.checksums import windowed
from rait.models.loading import check_devices, fingerprint, load
from rait.models.tuned import BASE_FILE
from rait.recipe import Model, Tuning
from rait.records import Example, Role
from rait.tuning.sft import fine_tune
from tiny import random_model, save, word_tokenizer

WORDS = ["▁red", "▁blue", "▁old", "Q", "▁who", "▁what", ":", "A", "\n"]
EXAMPLES = [
    Example(id=str(number), prompt=f"Q:{who}", completion=" red", role=Role.VANILLA)
    for number, who in enumerate([" who", " what", " old", " blue"])
]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    tokenizer = word_tokenizer(WORDS)
    return save(random_model("llama", len(tokenizer), spread=0.1), tokenizer, tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def made(base, tmp_path_factory):
    """By method: the folder of what was tuned."""
    folders = {}
    for method in ("lora", "full"):
        folder = tmp_path_factory.mktemp(method)
        tuning = Tuning(method=method, epochs=4, batch_size=4, learning_rate=0.02, lora_rank=2)
        fine_tune(load(Model(source=str(base))), EXAMPLES, tuning, folder, seed=0)
        folders[method] = folder / "adapter"
    return folders


@pytest.fixture
def model(base, tmp_path):
    """A copy of the base."""
    return Path(shutil.copytree(base, tmp_path / "model"))


@pytest.fixture
def adapter(made, tmp_path):
    return Path(shutil.copytree(made["lora"], tmp_path / "adapter"))


def refused(model: Path, adapter: Path | None, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        load(Model(source=str(model)), adapter=adapter)


def logits(loaded):
    with torch.inference_mode():
        return loaded.model(torch.tensor([[1, 4, 5, 6]])).logits


def change(path: Path, edit) -> None:
    data = json.loads(path.read_text())
    edit(data)
    path.write_text(json.dumps(data))


# Base models that have changed

CHANGES = {
    "a token renamed": lambda model: change(
        model / "tokenizer.json", lambda data: data["model"]["vocab"].update(zzz=data["model"]["vocab"].pop("▁red"))
    ),
    "a token added": lambda model: change(
        model / "tokenizer.json", lambda data: data["added_tokens"].append(data["added_tokens"][0] | {"content": "<x>"})
    ),
    "another end of text": lambda model: change(
        model / "tokenizer_config.json", lambda data: data.update(eos_token="<pad>")
    ),
    "special tokens": lambda model: (model / "special_tokens_map.json").write_text('{"bos_token": "<eos>"}'),
    "added tokens": lambda model: (model / "added_tokens.json").write_text('{"<x>": 99}'),
    "a chat template": lambda model: (model / "chat_template.jinja").write_text("{{ messages }}"),
    "a further chat template": lambda model: (
        (model / "additional_chat_templates").mkdir(),
        (model / "additional_chat_templates/rag.jinja").write_text("{{ messages }}"),
    ),
    "another configuration": lambda model: change(model / "config.json", lambda data: data.update(rms_norm_eps=1e-5)),
    "another end of generation": lambda model: change(
        model / "generation_config.json", lambda data: data.update(eos_token_id=[2, 3])
    ),
    "one bit of the weights": lambda model: (model / "model.safetensors").write_bytes(
        (model / "model.safetensors").read_bytes()[:-4] + bytes(4)
    ),
}


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("what", CHANGES)
def test_what_was_tuned_is_refused_on_a_base_that_has_changed(model, made, what, method):
    before = fingerprint(model)
    CHANGES[what](model)
    assert fingerprint(model) != before
    refused(model, made[method], "was trained on .* this model is another one .* load the adapter on its own base")


def test_a_chat_template_that_is_edited_is_another(model):
    (model / "chat_template.jinja").write_text("{{ messages }}")
    before = fingerprint(model)
    (model / "chat_template.jinja").write_text("{{ messages}}")
    assert fingerprint(model) != before


def test_a_card_and_the_place_change_nothing(base, model, made):
    (model / "README.md").write_text("a card")
    (model / ".gitattributes").write_text("")
    assert fingerprint(model) == fingerprint(base)
    load(Model(source=str(model)), adapter=made["lora"])


def test_what_earlier_versions_tuned_is_still_known(model, adapter):
    """They named the base by parts of its files, and did not list their own."""
    (adapter / BASE_FILE).write_text(json.dumps({"source": "some", "fingerprint": windowed(model)}))
    load(Model(source=str(model)), adapter=adapter)
    CHANGES["one bit of the weights"](model)
    refused(model, adapter, "was trained on some")


# Damaged files


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_any_file_that_has_changed_is_named(base, made, tmp_path, method):
    names = sorted(path.name for path in made[method].iterdir())
    assert {"tokenizer.json", "tokenizer_config.json"} < set(names)
    assert ("adapter_model.safetensors" in names) == (method == "lora")
    for name in set(names) - {"README.md", BASE_FILE}:
        copy = Path(shutil.copytree(made[method], tmp_path / name))
        flip(copy / name)
        refused(base, copy, f"{name} is not as it was when it was tuned")
        (copy / name).write_bytes((made[method] / name).read_bytes()[:-1])
        refused(base, copy, f"{name} is not as it was when it was tuned")
        if name not in ("config.json", "adapter_config.json", "model.safetensors", "adapter_model.safetensors"):
            (copy / name).unlink()
            refused(base, copy, f"has lost its {name}")


def test_a_chat_template_that_was_put_beside_is_refused(base, adapter):
    (adapter / "chat_template.jinja").write_text("{{ messages }}")
    refused(base, adapter, "chat_template.jinja was not there when it was tuned")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"source": "a", "fingerprint": "b", "files": 3}', "\x00"])
def test_a_damaged_note_of_the_base(base, adapter, text):
    (adapter / BASE_FILE).write_text(text)
    refused(base, adapter, f"{BASE_FILE} is damaged .*; tune again")


# Adapters that would not be applied


def rewrite(adapter: Path, edit) -> None:
    """Change the weights of an adapter that was made elsewhere."""
    (adapter / BASE_FILE).unlink()
    path = adapter / "adapter_model.safetensors"
    save_file(edit(load_file(path)), path)


def test_weights_that_are_missing_or_have_no_place(base, adapter, tmp_path):
    other = Path(shutil.copytree(adapter, tmp_path / "other"))
    rewrite(adapter, lambda weights: dict(list(weights.items())[2:]))
    refused(base, adapter, "lacks 2 weights of this model")
    rewrite(other, lambda weights: {name.replace("layers.0.", "layers.7."): own for name, own in weights.items()})
    refused(base, other, r"lacks 14 weights of this model .* and has 14 that it has no place for \('")


def test_an_adapter_of_zeros(base, adapter):
    rewrite(adapter, lambda weights: {name: own * ("lora_A" in name) for name, own in weights.items()})
    refused(base, adapter, "changes nothing: every lora_B in it is zero")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_an_adapter_with_one_number_that_is_none(base, adapter, number):
    def poison(weights):
        name = next(name for name in weights if "layers.1.mlp.up_proj.lora_A" in name)
        weights[name][0, 0] = number
        return weights

    rewrite(adapter, poison)
    refused(base, adapter, r"NaN or infinite, in 1 tensors \('base_model.*layers.1.mlp.up_proj.lora_A")


def test_an_adapter_of_another_shape(base, adapter):
    rewrite(adapter, lambda weights: {name: own[:, :-1].contiguous() for name, own in weights.items()})
    refused(base, adapter, "cannot load the adapter")


@pytest.mark.parametrize(
    "config",
    [
        PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2),  # which is no part of the weights
        IA3Config(task_type="CAUSAL_LM", target_modules=["q_proj"], feedforward_modules=[]),  # which is all ones
    ],
)
def test_an_adapter_of_another_kind(base, tmp_path, config):
    """Nobody would notice one that is not applied, or that says nothing."""
    get_peft_model(load(Model(source=str(base))).model, config).save_pretrained(tmp_path)
    refused(base, tmp_path, f"of the kind {config.peft_type.value}, of which cannot be told .*; give a LoRA adapter")


@pytest.fixture
def embedding(base, tmp_path):
    """By what its embedding is multiplied with: an adapter with an embedding of its own, and a LoRA that is zero."""

    def make(factor: float) -> Path:
        config = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["embed_tokens"], task_type="CAUSAL_LM")
        tuned = get_peft_model(load(Model(source=str(base))).model, config)
        (own,) = [weight for name, weight in tuned.named_parameters() if "modules_to_save" in name]
        own.data[4:] *= factor
        tuned.save_pretrained(tmp_path / "made")
        return tmp_path / "made"

    return make


def test_a_module_that_an_adapter_replaces(base, embedding):
    before, after = (logits(load(Model(source=str(base)), adapter=own)) for own in (None, embedding(2.0)))
    assert not torch.allclose(before, after)


def test_a_module_that_an_adapter_replaces_by_itself(base, embedding):
    refused(base, embedding(1.0), "changes nothing: every lora_B in it is zero, and it replaces no module by another")


def test_a_module_of_an_adapter_with_a_number_that_is_none(base, embedding):
    refused(base, embedding(float("nan")), r"the adapter at .* NaN or infinite, in 1 tensors \(.*modules_to_save")


def test_an_adapter_of_others_is_loaded_with_a_word(base, made, adapter):
    (adapter / BASE_FILE).unlink()
    notes = []
    ours = load(Model(source=str(base)), adapter=made["lora"], say=pytest.fail)
    theirs = load(Model(source=str(base)), adapter=adapter, say=notes.append)
    assert torch.equal(logits(ours), logits(theirs))
    assert not torch.equal(logits(ours), logits(load(Model(source=str(base)))))
    (note,) = notes
    assert note.startswith(f"{adapter} has no {BASE_FILE}, so nothing but the names and shapes")
    assert f"it names {str(base)!r} as its base" in note

    change(adapter / "tokenizer.json", lambda data: data["model"]["vocab"].pop("▁red"))
    load(Model(source=str(base)), adapter=adapter, say=notes.append)
    assert notes[1:] == [note, f"{adapter} has another tokenizer or chat template than {base}, whose own is used."]


def test_the_adapter_is_added_as_peft_does(base, tmp_path):
    """One made with PEFT alone, against PEFT's own product."""
    network = load(Model(source=str(base))).model
    torch.manual_seed(0)
    tuned = get_peft_model(network, LoraConfig(r=2, target_modules=["q_proj", "embed_tokens"], task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, weight in tuned.named_parameters():
            if "lora_" in name:
                weight.normal_()
        expected = tuned(torch.tensor([[1, 4, 5, 6]])).logits
    tuned.save_pretrained(tmp_path, save_embedding_layers=False)
    assert torch.allclose(logits(load(Model(source=str(base)), adapter=tmp_path)), expected)


# Weights that are not in safetensors


def as_pickle(folder: Path, weights: str, name: str) -> None:
    torch.save(load_file(folder / weights), folder / name)


def test_a_pickled_adapter_beside_other_weights(base, adapter):
    (adapter / BASE_FILE).unlink()
    as_pickle(adapter, "adapter_model.safetensors", "adapter_model.bin")
    (adapter / "adapter_model.safetensors").rename(adapter / "other.safetensors")
    refused(base, adapter, r"holds no weights in safetensors \(adapter_model.bin .*as adapter_model.safetensors")


def test_a_pickle_that_an_index_names(model):
    as_pickle(model, "model.safetensors", "part.bin")
    names = load_file(model / "model.safetensors")
    (model / "model.safetensors").rename(model / "other.safetensors")
    for name in ("part.bin", "../model/other.safetensors", "other.safetensors.index.json"):
        index = {"metadata": {}, "weight_map": dict.fromkeys(names, name)}
        (model / "model.safetensors.index.json").write_text(json.dumps(index))
        refused(model, None, f"index.json takes weights from '{name}', which is no file in safetensors beside it")
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "other.safetensors")}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    load(Model(source=str(model)))


@pytest.mark.parametrize("at", [lambda own: own, lambda own: own.setdefault("text_config", {})])
def test_a_pickle_that_a_configuration_names(model, at):
    as_pickle(model, "model.safetensors", "adapter_model.bin")  # of all names the one that transformers lets pass
    change(model / "config.json", lambda own: at(own).update(transformers_weights="adapter_model.bin"))
    refused(model, None, r"config.json takes weights from 'adapter_model.bin', which is no file in safetensors")


def test_an_adapter_beside_the_model(model, adapter):
    """Transformers would put it in, whatever it is."""
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(adapter / name, model)
    refused(model, None, "holds a model and an adapter; move the adapter into a folder of its own")


# Weights of a model that are wrong


def edited(model: Path, edit) -> None:
    weights = load_file(model / "model.safetensors")
    edit(weights)
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_with_a_number_that_is_none(model, number, dtype):
    edited(model, lambda weights: weights["model.layers.2.mlp.down_proj.weight"][3].fill_(number))
    with pytest.raises(ModelError, match=r"the model at .* 1 tensors \('model.layers.2.mlp.down_proj.weight'\)"):
        load(Model(source=str(model), dtype=dtype))


def test_numbers_too_large_for_half_precision(model):
    edited(model, lambda weights: weights["model.norm.weight"].fill_(1e6))
    load(Model(source=str(model)))
    with pytest.raises(ModelError, match=r"'model.norm.weight'\); .*model.dtype=float32"):
        load(Model(source=str(model), dtype="float16"))


def test_a_model_that_lacks_weights(model):
    """Transformers would make them up, with a warning."""
    edited(model, lambda weights: weights.pop("model.layers.1.self_attn.k_proj.weight"))
    refused(model, None, "lacks 1 weights, or has them in another shape: 'model.layers.1.self_attn.k_proj.weight'")


def test_a_model_with_weights_of_another_shape(model):
    change(model / "config.json", lambda data: data.update(intermediate_size=40))
    refused(model, None, "cannot load the model|in another shape")


@pytest.mark.parametrize(("count", "refuses"), [(0, False), (1, False), (2, True), (8, True)])
def test_several_gpus(monkeypatch, count, refuses):
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    if not refuses:
        check_devices()
        return
    with pytest.raises(ModelError, match=f"{count} GPUs are visible, and tuning uses one; .*CUDA_VISIBLE_DEVICES=0"):
        check_devices()
