"""Fine-tuning a tiny model: what it learns, how it resumes, what it refuses."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from disk import largest_file
from rait.errors import ModelError, RaitError, TrainingError
from rait.models.loading import load
from rait.models.sampler import Sampling, draw
from rait.recipe import Model, Tuning
from rait.records import Example, Question, Role
from rait.tuning.sft import fine_tune
from tiny import random_model, save, word_tokenizer

WORDS = ["▁red", "▁blue", "▁old", "Q", "▁who", "▁what", ":", "A", "▁x", "▁y", "\n"]
PAIRS = {"Q: who": " red", "Q: what": " blue old", "Q: old": " old", "Q: x y": " red red"}
EXAMPLES = [
    Example(id=f"{prompt}{n}", prompt=prompt, completion=answer, role=Role.VANILLA)
    for n in range(6)
    for prompt, answer in PAIRS.items()
]
QUICK = Tuning(epochs=8, batch_size=8, learning_rate=0.02, lora_rank=8, lora_alpha=16, warmup=0.0)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    tokenizer = word_tokenizer(WORDS)
    model = random_model("llama", len(tokenizer), spread=0.1)
    return Model(source=str(save(model, tokenizer, tmp_path_factory.mktemp("model"))))


def answers(loaded):
    drawn = dict(draw(loaded.model, loaded.tokenizer, list(PAIRS), [0] * len(PAIRS), Sampling(1, 0.0, 6)))
    return [next(iter(drawn[index].counts)) for index in range(len(PAIRS))]


@pytest.mark.parametrize("method", ["lora", "full"])
def test_what_is_tuned_is_learned_saved_and_loaded(source, tmp_path, method):
    tuning = QUICK.model_copy(update={"method": method, "learning_rate": 0.02 if method == "lora" else 0.01})
    result = fine_tune(load(source), EXAMPLES, tuning, tmp_path, seed=0)
    assert result.steps == len(result.losses) == 24
    assert result.losses[-1] < 0.2 * result.losses[0]
    tuned = load(source, adapter=tmp_path / "adapter")
    assert answers(tuned) == [answer.strip() for answer in PAIRS.values()]
    assert answers(load(source)) != answers(tuned)
    assert tuned.model.dtype == torch.float32
    with pytest.raises(ModelError, match="trained on"):
        load(Model(source=str(save(random_model("llama", 15, seed=3), word_tokenizer(WORDS), tmp_path / "other"))),
             adapter=tmp_path / "adapter")  # fmt: skip


def test_bfloat16_full_tuning_comes_back_as_bfloat16(source, tmp_path):
    half = source.model_copy(update={"dtype": "bfloat16"})
    fine_tune(load(half), EXAMPLES, QUICK.model_copy(update={"method": "full"}), tmp_path, seed=0)
    assert load(half, adapter=tmp_path / "adapter").model.dtype == torch.bfloat16
    config = json.loads((tmp_path / "adapter/config.json").read_text())
    assert config["dtype"] == "bfloat16"


@pytest.mark.slow
def test_micro_batches_add_up_to_the_batch(source, tmp_path):
    whole = fine_tune(load(source), EXAMPLES, QUICK, tmp_path / "a", seed=0)
    parts = QUICK.model_copy(update={"micro_batch_size": 2})
    assert fine_tune(load(source), EXAMPLES, parts, tmp_path / "b", seed=0).losses == pytest.approx(
        whole.losses, rel=1e-3, abs=1e-4
    )


def test_the_first_loss_is_the_cross_entropy_of_answer_and_end(source, tmp_path):
    loaded = load(source)
    some = EXAMPLES[:4]
    total, count = 0.0, 0
    for example in some:
        prompt = loaded.tokenizer(example.prompt)["input_ids"]
        whole = [*loaded.tokenizer(example.prompt + example.completion)["input_ids"], loaded.tokenizer.eos_token_id]
        with torch.inference_mode():
            chances = loaded.model(torch.tensor([whole])).logits[0].log_softmax(-1)
        for place in range(len(prompt), len(whole)):
            total -= float(chances[place - 1, whole[place]])
            count += 1
    one_step = QUICK.model_copy(update={"epochs": 1, "batch_size": 4})
    result = fine_tune(load(source), some, one_step, tmp_path, seed=0)
    assert result.losses[0] == pytest.approx(total / count, rel=1e-4)


WEIGHTS = [0.25, 3.0, 0.0, 1.0]


def weighted(examples, weights):
    return [replace(example, weight=weight) for example, weight in zip(examples, weights, strict=True)]


def tuned_weights(source, examples, tuning, folder):
    """The LoRA weights after tuning, by name, and the losses."""
    losses = fine_tune(load(source), examples, tuning, folder, seed=0).losses
    return load_file(folder / "adapter/adapter_model.safetensors"), losses


def plain_loss(loaded, examples):
    """sum_i w_i sum_t ce_it / answer tokens, each text padded and read whole."""
    rows = []
    for example in examples:
        prompt = loaded.tokenizer(example.prompt)["input_ids"]
        whole = [*loaded.tokenizer(example.prompt + example.completion)["input_ids"], loaded.tokenizer.eos_token_id]
        rows.append((whole, len(prompt)))
    width = max(len(whole) for whole, _ in rows)
    ids = torch.tensor([whole + [0] * (width - len(whole)) for whole, _ in rows])
    mask = torch.tensor([[1] * len(whole) + [0] * (width - len(whole)) for whole, _ in rows])
    chances = loaded.model(ids, attention_mask=mask).logits.log_softmax(-1)
    total, count = torch.zeros(()), 0
    for number, (example, (whole, start)) in enumerate(zip(examples, rows, strict=True)):
        for place in range(start, len(whole)):
            total = total - example.weight * chances[number, place - 1, whole[place]]
            count += 1
    return total / count


@pytest.mark.parametrize("block", [1, 1 << 30])
def test_weights_multiply_the_loss_of_their_examples(source, tmp_path, monkeypatch, block):
    """One step of a full tuning against a plain padded loop: its loss, and its gradient by the clipped AdamW step."""
    from rait.tuning import loss as losses
    from rait.tuning import trainer

    monkeypatch.setattr(losses, "_LOGIT_BYTES", block)
    some = weighted(EXAMPLES[:4], WEIGHTS)
    reference = load(source)
    loss = plain_loss(reference, some)
    loss.backward()
    expected = {name: weight.grad.clone() for name, weight in reference.model.named_parameters()}
    found = {}

    def note(self, model, *rest):
        result = real(self, model, *rest)
        found.update({name: weight.grad.clone() for name, weight in model.named_parameters()})
        return result

    real = trainer.AnswerTrainer.training_step
    monkeypatch.setattr(trainer.AnswerTrainer, "training_step", note)
    one_step = QUICK.model_copy(update={"method": "full", "epochs": 1, "batch_size": 4})
    result = fine_tune(load(source), some, one_step, tmp_path, seed=0)
    assert result.losses[0] == pytest.approx(float(loss.detach()), rel=1e-5)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-6, rtol=1e-4, msg=name)


@pytest.mark.slow
def test_weights_of_one_change_no_bit(source, tmp_path, monkeypatch):
    """Against the loss as it is without any weights."""
    from rait.tuning import trainer

    found, losses = tuned_weights(source, weighted(EXAMPLES, [1.0] * len(EXAMPLES)), QUICK, tmp_path / "a")
    real = trainer.answer_loss
    monkeypatch.setattr(trainer, "answer_loss", lambda network, hidden, labels, _: real(network, hidden, labels))
    expected, expected_losses = tuned_weights(source, EXAMPLES, QUICK, tmp_path / "b")
    assert losses == expected_losses
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())


@pytest.mark.slow
def test_an_example_of_weight_zero_teaches_nothing(source, tmp_path):
    """Another answer of as many tokens in its place changes no weight, whatever it says."""
    tuning = QUICK.model_copy(update={"epochs": 2, "batch_size": 4})
    some = weighted(EXAMPLES[:4], WEIGHTS)
    other = [replace(one, completion=" blue") if one.weight == 0 else one for one in some]
    assert other != some
    found, losses = tuned_weights(source, some, tuning, tmp_path / "a")
    expected, expected_losses = tuned_weights(source, other, tuning, tmp_path / "b")
    assert losses == pytest.approx(expected_losses, rel=1e-6)
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, atol=1e-6, rtol=1e-4)


@pytest.mark.slow
def test_weights_of_duplicates_add_up(source, tmp_path):
    tuning = QUICK.model_copy(update={"epochs": 1, "batch_size": 4})
    first, second, third, _ = EXAMPLES[:4]
    some = [first, first, second, third]
    _, apart = tuned_weights(source, weighted(some, [0.5, 1.5, 1.0, 2.0]), tuning, tmp_path / "a")
    _, joined = tuned_weights(source, weighted(some, [2.0, 0.0, 1.0, 2.0]), tuning, tmp_path / "b")
    assert apart == pytest.approx(joined, rel=1e-6)


@pytest.mark.slow
def test_weighted_micro_batches_add_up_to_the_batch(source, tmp_path):
    some = weighted(EXAMPLES, WEIGHTS * 6)
    _, losses = tuned_weights(source, some, QUICK, tmp_path / "a")
    for micro in (1, 4):
        parts = QUICK.model_copy(update={"micro_batch_size": micro})
        _, found = tuned_weights(source, some, parts, tmp_path / str(micro))
        assert found == pytest.approx(losses, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("weight", [-0.5, float("nan"), float("inf")])
def test_weights_that_are_none(source, tmp_path, weight):
    wrong = [replace(EXAMPLES[0], weight=weight), *EXAMPLES[1:]]
    with pytest.raises(TrainingError, match=f"1 of 24 examples .*negative or not finite: '{EXAMPLES[0].id}'"):
        fine_tune(load(source), wrong, QUICK, tmp_path, seed=0)
    with pytest.raises(TrainingError, match="all 24 examples have weight 0"):
        fine_tune(load(source), weighted(EXAMPLES, [0.0] * 24), QUICK, tmp_path, seed=0)


def test_a_half_written_checkpoint_is_passed_over(source, tmp_path, monkeypatch):
    from rait.tuning import trainer

    whole = fine_tune(load(source), EXAMPLES, QUICK, tmp_path / "whole", seed=0)
    calls = iter(range(1000))
    real = trainer.answer_loss

    def failing(*arguments):
        if next(calls) == 15:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(trainer, "answer_loss", failing)
    with pytest.raises(KeyboardInterrupt):
        fine_tune(load(source), EXAMPLES, QUICK, tmp_path / "cut", seed=0)
    monkeypatch.undo()
    broken = tmp_path / "cut/checkpoints/checkpoint-12"
    broken.mkdir()
    (broken / "trainer_state.json").write_text('{"epo')
    result = fine_tune(load(source), EXAMPLES, QUICK, tmp_path / "cut", seed=0)
    assert not broken.exists()
    assert result.losses == pytest.approx(whole.losses, rel=1e-4, abs=1e-5)


def test_a_loss_that_is_not_finite_stops_with_the_step(source, tmp_path, monkeypatch):
    from rait.tuning import trainer

    monkeypatch.setattr(trainer, "answer_loss", lambda network, hidden, *_: hidden.sum() * float("nan"))
    with pytest.raises(TrainingError, match=r"^tune: the loss is not finite at step 1, in 8 questions \('Q: .*\.\.\."):
        fine_tune(load(source), EXAMPLES, QUICK, tmp_path, seed=0)


def with_gradient(monkeypatch, wrong):
    """Let forward passes, counted from 0, whose number is `wrong` have their loss and a gradient that is no number."""
    from rait.tuning import trainer

    real, passes = trainer.answer_loss, iter(range(1000))

    def loss(network, hidden, *others):
        found = real(network, hidden, *others)
        return found + (hidden.sum() * 0).abs().sqrt() if next(passes) == wrong else found

    monkeypatch.setattr(trainer, "answer_loss", loss)


def test_a_gradient_that_is_not_finite_stops_with_all_questions_of_the_step(source, tmp_path, monkeypatch):
    """Clipping would make every weight NaN of it. The step's questions are those of all its forward passes."""
    with_gradient(monkeypatch, wrong=5)
    tuning = QUICK.model_copy(update={"batch_size": 8, "micro_batch_size": 2})
    with pytest.raises(
        TrainingError, match=r"gradients are not finite at step 2, in 8 questions .*tuning.learning_rate"
    ):
        fine_tune(load(source), EXAMPLES, tuning, tmp_path, seed=0)


def test_gradients_too_large_to_clip(source, tmp_path):
    """Their norm is infinite, so that clipping would leave nothing of them, and the step nothing learned."""
    huge = [replace(one, weight=1e25) for one in EXAMPLES]
    with pytest.raises(TrainingError, match="gradients are not finite at step 1, in 8 questions"):
        fine_tune(load(source), huge, QUICK, tmp_path, seed=0)


def test_the_question_whose_loss_is_not_finite_is_named(source, tmp_path):
    wrong = [replace(one, id="the one", weight=3e38) if n == 13 else one for n, one in enumerate(EXAMPLES)]
    tuning = QUICK.model_copy(update={"micro_batch_size": 1})
    with pytest.raises(TrainingError, match=r"the loss is not finite at step \d, in 1 questions \('the one'\)"):
        fine_tune(load(source), wrong, tuning, tmp_path, seed=0)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_weights_that_a_step_has_made_infinite(source, tmp_path, method):
    tuning = QUICK.model_copy(update={"method": method, "learning_rate": 1e39})
    with pytest.raises(
        TrainingError, match=r"rehearse: weights are not finite at step 1, in 8 .*lower rehearsal.tuning.learning_rate"
    ):
        fine_tune(load(source), EXAMPLES, tuning, tmp_path, seed=0, what="rehearse")


@pytest.mark.parametrize(
    ("micro", "words"),
    [
        (8, r"on 8 examples of \d+ tokens; set tuning.micro_batch_size to a divisor of 8 below 8"),
        (1, r"on 1 examples of \d+ tokens; shorten the prompt"),
    ],
)
def test_no_memory_is_said_and_what_was_saved_stays(source, tmp_path, monkeypatch, micro, words):
    """An allocation that no machine can serve, at step 12."""
    from rait.tuning import trainer

    real = trainer.answer_loss
    tuning = QUICK.model_copy(update={"micro_batch_size": micro})
    calls = iter(range(1000))

    def loss(*arguments):
        if next(calls) == 11 * 8 // micro:
            torch.empty(1 << 50)
        return real(*arguments)

    monkeypatch.setattr(trainer, "answer_loss", loss)
    with pytest.raises(TrainingError, match=f"^tune: out of memory at step 12, {words}"):
        fine_tune(load(source), EXAMPLES, tuning, tmp_path, seed=0)
    assert (tmp_path / "checkpoints/checkpoint-10/checksums.json").is_file()


def test_no_memory_for_weights_in_full_precision(source, tmp_path, monkeypatch):
    loaded = load(source)
    monkeypatch.setattr(type(loaded.model), "float", lambda _: torch.empty(1 << 50))
    with pytest.raises(TrainingError, match=r"out of memory before the first step, .*set tuning.method=lora"):
        fine_tune(loaded, EXAMPLES, QUICK.model_copy(update={"method": "full"}), tmp_path, seed=0)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_full_disk_is_said_and_tuning_goes_on_when_there_is_room(source, tmp_path, method):
    """A limit on the size of files stands for it; checkpoints are larger than it."""
    tuning = QUICK.model_copy(update={"method": method, "epochs": 4})
    for size in (4_000, 60_000):  # a file of weights, a file of the optimiser's
        words = f"cannot (save to|write) {tmp_path}.*free some space"
        with largest_file(size), pytest.raises(RaitError, match=words):
            fine_tune(load(source), EXAMPLES, tuning, tmp_path, seed=0)
        assert not (tmp_path / "adapter").exists()
    fine_tune(load(source), EXAMPLES, tuning, tmp_path, seed=0)
    load(source, adapter=tmp_path / "adapter")


def test_several_gpus_are_refused_before_anything_else(source, tmp_path, monkeypatch):
    loaded = load(source)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    with pytest.raises(ModelError, match="4 GPUs are visible"):
        fine_tune(loaded, EXAMPLES, QUICK, tmp_path, seed=0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"learning_rate": 1e-45}, "nothing was learned"),
        ({"lora_targets": ("qproj",)}, "qproj"),
        ({"micro_batch_size": 3}, "does not divide"),
        ({"max_length": 4}, "longer than tuning.max_length 4"),
    ],
)
def test_what_cannot_be_tuned_is_said(source, tmp_path, changes, words):
    with pytest.raises(TrainingError, match=words):
        fine_tune(load(source), EXAMPLES, QUICK.model_copy(update=changes), tmp_path, seed=0)


def test_no_examples(source, tmp_path):
    with pytest.raises(TrainingError, match="no examples"):
        fine_tune(load(source), [], QUICK, tmp_path, seed=0)


def test_a_chat_model_learns_to_end_its_turn(tmp_path):
    """The template's end of turn is taught, not the end of text."""
    from rait.prompting import Renderer
    from rait.recipe import Prompt

    tokenizer = word_tokenizer([*WORDS, "<user>", "<model>", "<turn>"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<user>", "<model>", "<turn>"]})
    tokenizer.chat_template = (
        "<bos>{% for m in messages %}{{ '<user>' if m.role == 'user' else '<model>' }}{{ m.content }}"
        "<turn>\n{% endfor %}"
        "{% if add_generation_prompt %}<model>{% endif %}"
    )
    model = random_model("llama", len(tokenizer), spread=0.1)
    end = tokenizer.convert_tokens_to_ids("<turn>")
    model.generation_config.eos_token_id = [2, end]
    source = Model(source=str(save(model, tokenizer, tmp_path / "model")))
    prompt = Prompt(instruction="", refusal_instruction="", shots=0)
    render = Renderer(tokenizer, prompt)

    def asked(text):
        return Question(id="q", question=text, answers=("A",))

    assert render(asked("Q: who")) == "<bos><user>Q: who<turn>\n<model>"
    assert render.completion("A") == "A<turn>"
    made = [
        Example(id=e.id, prompt=render(asked(e.prompt)), completion=render.completion("A"), role=Role.VANILLA)
        for e in EXAMPLES
    ]
    fine_tune(load(source), made, QUICK, tmp_path, seed=0)
    tuned = load(source, adapter=tmp_path / "adapter")
    ids = tokenizer(render(asked("Q: who")), return_tensors="pt", add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        whole = tuned.model.generate(ids, do_sample=False, max_new_tokens=6)[0, ids.shape[1] :].tolist()
    assert whole == [tokenizer.convert_tokens_to_ids("A"), end]


def test_models_that_do_not_fit_the_tree_are_refused(tmp_path):
    from transformers import BloomConfig, BloomForCausalLM

    tokenizer = word_tokenizer(WORDS)
    shape = {"vocab_size": len(tokenizer), "hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.4}
    torch.manual_seed(0)
    folder = save(BloomForCausalLM(BloomConfig(**shape)).eval(), tokenizer, tmp_path)
    with pytest.raises(ModelError, match="cannot be read along a tree"):
        load(Model(source=str(folder)))
