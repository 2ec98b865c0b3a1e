"""Influences of refusals against gradients taken one example at a time."""

import itertools
import random
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn import functional

from rait.errors import TrainingError
from rait.models.loading import LoadedModel, load
from rait.models.tree import encode
from rait.recipe import Model, Tuning
from rait.records import Example, Role
from rait.tuning import influence
from rait.tuning.influence import influences
from rait.tuning.sft import fine_tune
from tiny import random_model, save, word_tokenizer

WORDS = ["▁red", "▁blue", "▁old", "Q", "▁who", "▁what", ":", "A", "▁x", "▁y", "\n"]
TOKENIZER = word_tokenizer(WORDS)


def with_lora(kind, *, b=0.3, **changes):
    """A tiny model with LoRA maps as `load` leaves them: inside it, not learned, and both of them random."""
    model = random_model(kind, len(TOKENIZER))
    config = LoraConfig(r=4, lora_alpha=6, target_modules="all-linear", task_type="CAUSAL_LM")
    network = get_peft_model(model, LoraConfig(**{**config.to_dict(), **changes})).eval().get_base_model()
    torch.manual_seed(1)
    for name, weight in network.named_parameters():
        weight.requires_grad_(False)
        if "lora_B" in name:
            weight.normal_(std=b)
    return LoadedModel(network, TOKENIZER, "tiny", "0")


def refusal(prompt, completion=" old", id=None):
    return Example(id=id or prompt, prompt=prompt, completion=completion, role=Role.IDK)


IDK = [
    refusal("Q: who x"),
    refusal("Q: who x y red A:"),
    refusal("Q: what", " old red blue"),
    refusal("blue old who"),
    refusal("Q: what y y", " old old"),
    refusal("A"),
]
KNOWN = [refusal("Q: who red"), refusal("x blue", " old y"), refusal("Q: what red red red red red")]


def measured(loaded, idk, known, folder=None, **options):
    """What `influences` gives, by default with nothing saved before."""
    with TemporaryDirectory() as empty:
        return influences(loaded, idk, known, folder or Path(empty), **options)


def unit_gradients(loaded, examples):
    """The definition: the whole gradient of each example alone, scaled to unit length, (examples, LoRA weights)."""
    weights = [weight for name, weight in loaded.model.named_parameters() if "lora_" in name]
    rows = []
    for example in examples:
        prompt = encode(loaded.tokenizer, example.prompt)
        answer = [*loaded.tokenizer(example.completion, add_special_tokens=False)["input_ids"], 2]
        for weight in weights:
            weight.requires_grad_(True)
        logits = loaded.model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        loss = functional.cross_entropy(logits, torch.tensor(answer))
        whole = torch.cat([part.flatten() for part in torch.autograd.grad(loss, weights)]).double()
        for weight in weights:
            weight.requires_grad_(False)
        rows.append(whole / whole.norm())
    return torch.stack(rows)


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "down_proj"]])
def test_influences_are_mean_inner_products_of_unit_gradients(kind, targets):
    loaded = with_lora(kind, target_modules=targets)
    of_idk, of_known = unit_gradients(loaded, IDK), unit_gradients(loaded, KNOWN)
    found = measured(loaded, IDK, KNOWN)
    assert [one.id for one in found] == [example.id for example in IDK]
    refusal_means, over_means = (of_idk @ of_idk.T).mean(dim=1), (of_idk @ of_known.T).mean(dim=1)
    assert [one.refusal for one in found] == pytest.approx(refusal_means.tolist(), abs=2e-6)
    assert [one.over_refusal for one in found] == pytest.approx(over_means.tolist(), abs=2e-6)
    assert max(refusal_means) - min(refusal_means) > 0.05  # the comparison has something to tell apart


@pytest.mark.parametrize("rows", [1, 12, 30, 4096])
def test_batches_and_the_order_of_questions_change_nothing(rows, monkeypatch):
    loaded = with_lora("gemma3")
    expected = {one.id: one for one in measured(loaded, IDK, KNOWN)}
    shuffled = random.Random(0).sample(IDK, len(IDK))
    assert measured(loaded, shuffled, KNOWN[::-1]) == [expected[example.id] for example in shuffled]
    monkeypatch.setattr(influence, "BATCH_ROWS", rows)
    for one in measured(loaded, IDK, KNOWN):
        assert one.refusal == pytest.approx(expected[one.id].refusal, abs=2e-6)
        assert one.over_refusal == pytest.approx(expected[one.id].over_refusal, abs=2e-6)


def test_duplicates_are_the_most_alike():
    """Against one other question alone, O is the mutual similarity: 1 for the same text, less for any other."""
    loaded = with_lora("llama")
    twins = [*IDK, refusal(IDK[0].prompt, id="twin")]
    for one, other in itertools.product(twins, repeat=2):
        (found,) = measured(loaded, [one], [other])
        assert found.refusal == pytest.approx(1, abs=1e-5) and found.refusal <= 1
        if (one.prompt, one.completion) == (other.prompt, other.completion):
            assert found.over_refusal == pytest.approx(1, abs=1e-5) and found.over_refusal <= 1
        else:
            assert -1 <= found.over_refusal < 0.999
    both = {one.id: one for one in measured(loaded, twins, KNOWN)}
    assert both["twin"].refusal == pytest.approx(both[IDK[0].id].refusal, abs=1e-6)


def test_the_model_is_left_as_it_was():
    loaded = with_lora("llama")
    names = [(name, weight.requires_grad, weight.clone()) for name, weight in loaded.model.named_parameters()]
    done = []
    measured(loaded, IDK, KNOWN, advance=done.append)
    assert sum(done) == 2 * len(IDK) + len(KNOWN)
    for (name, learned, before), (now, weight) in zip(names, loaded.model.named_parameters(), strict=True):
        assert (name, learned, None) == (now, weight.requires_grad, weight.grad)
        assert torch.equal(before, weight)
    assert not any(module._forward_hooks for module in loaded.model.modules())
    assert loaded.model.config._attn_implementation == "sdpa"


def test_a_tuned_adapter_is_measured_in_its_own_precision(tmp_path):
    """From the folder of a rehearsal, in bfloat16: close to float32, which a wrong sum would not be."""
    folder = save(random_model("llama", len(TOKENIZER)), TOKENIZER, tmp_path / "model")
    exact, half = (Model(source=str(folder), dtype=dtype) for dtype in ("float32", "bfloat16"))
    fine_tune(load(exact), IDK, Tuning(batch_size=2, learning_rate=0.01, lora_rank=4), tmp_path, seed=0)
    expected = measured(load(exact, adapter=tmp_path / "adapter"), IDK, KNOWN)
    found = measured(load(half, adapter=tmp_path / "adapter"), IDK, KNOWN)
    for one, other in zip(found, expected, strict=True):
        assert one.refusal == pytest.approx(other.refusal, abs=0.03)
        assert one.over_refusal == pytest.approx(other.over_refusal, abs=0.03)


def test_what_cannot_be_measured_is_said():
    plain = LoadedModel(random_model("llama", len(TOKENIZER)), TOKENIZER, "tiny", "0")
    with pytest.raises(TrainingError, match=r"has none; set rehearsal\.tuning\.method=lora"):
        measured(plain, IDK, KNOWN)
    loaded = with_lora("llama")
    assert measured(loaded, [], KNOWN) == []
    with pytest.raises(TrainingError, match="no known question"):
        measured(loaded, IDK, [])
    with pytest.raises(TrainingError, match="lora_magnitude_vector"):
        measured(with_lora("llama", use_dora=True), IDK, KNOWN)
    with pytest.raises(TrainingError, match="do not read every token once"):
        measured(with_lora("llama", target_modules=["lm_head", "q_proj"]), IDK, KNOWN)
    for weight in loaded.model.get_output_embeddings().parameters():
        weight.zero_()
    with pytest.raises(TrainingError, match=r"zero or not finite .*'A'"):
        measured(loaded, IDK[-1:], KNOWN)
    assert not any(module._forward_hooks for module in loaded.model.modules())


def test_a_gradient_that_is_not_finite_is_named():
    loaded = with_lora("llama")
    for weight in loaded.model.get_output_embeddings().parameters():
        weight.fill_(float("inf"))
    with pytest.raises(TrainingError, match=rf"zero or not finite for \d+ questions: .*{IDK[0].id!r}"):
        measured(loaded, IDK[:1], KNOWN[:1])


def test_no_memory_is_said(monkeypatch):
    monkeypatch.setattr(influence, "answer_loss", lambda *_: torch.empty(1 << 50))
    with pytest.raises(TrainingError, match=r"out of memory while the gradients of refusals were taken; .*bfloat16"):
        measured(with_lora("llama"), IDK, KNOWN)


EVERY = 2 * len(IDK) + len(KNOWN)


@pytest.mark.parametrize(
    "stop", [pytest.param(n, marks=[] if n % 4 == 1 else pytest.mark.slow) for n in range(1, EVERY)]
)
def test_what_was_interrupted_goes_on_to_the_same(tmp_path, monkeypatch, stop):
    reads = []
    whole = influence.read
    monkeypatch.setattr(influence, "read", lambda *given, **options: reads.append(1) or whole(*given, **options))
    monkeypatch.setattr(influence, "BATCH_ROWS", 1)  # a question at a time
    loaded = with_lora("llama")
    expected = measured(loaded, IDK, KNOWN, shard=2)
    assert len(reads) == EVERY

    def interrupt(_):
        if len(reads) == EVERY + stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measured(loaded, IDK, KNOWN, tmp_path, shard=2, advance=interrupt)
    reads.clear()
    done = []
    assert measured(loaded, IDK, KNOWN, tmp_path, shard=2, advance=done.append, say=pytest.fail) == expected
    assert EVERY - stop <= len(reads) <= EVERY - stop + 2, "a shard at most is done again"
    assert sum(done) == EVERY
    assert len(list(tmp_path.glob("*/*.safetensors"))) == 2, "a sum replaces the one before"
    assert measured(loaded, IDK, KNOWN, tmp_path, shard=2, say=pytest.fail) == expected
    assert len(reads) <= EVERY - stop + 2


def test_a_damaged_sum_is_said_and_not_used(tmp_path):
    loaded = with_lora("llama")
    expected = measured(loaded, IDK, KNOWN, tmp_path)
    for path in tmp_path.rglob("*.*"):
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    said = []
    assert measured(loaded, IDK, KNOWN, tmp_path, say=said.append) == expected
    assert len(said) == 3 and all("is damaged: it is removed, and what it held is done again" in line for line in said)
