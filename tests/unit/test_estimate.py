"""Rows told beforehand against rows computed, counted at the input embeddings; memory against the model itself."""

import json
import math
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import get_peft_model

from rait.errors import ModelError
from rait.estimate import estimate, print_estimate
from rait.evaluation.answering import answer
from rait.knowledge.query import query
from rait.models import footprint
from rait.models.counting import drawn, read_rows, scored, tree_rows
from rait.models.loading import LoadedModel
from rait.models.sampler import GROUP_QUESTIONS, Sampling, draw
from rait.models.scoring import score_letters, score_texts
from rait.models.tree import encode, read, tree_attention
from rait.prompting import Renderer
from rait.recipe import Tuning, load_settings
from rait.sets import question_sets
from rait.tuning.sft import _lora
from tiny import random_model, save, word_tokenizer

WORDS = ["red", "blue", "old", "who", "what", "I", "don't", "know", *"ABCD"]
tokenizer = word_tokenizer([*WORDS, *(f"▁{word}" for word in WORDS), "\n", "Question:", "Answer:", "Answer", "▁Or"])
MODEL = random_model("llama", len(tokenizer))
PROMPTS = st.lists(
    st.lists(st.sampled_from(WORDS[:5]), min_size=1, max_size=7).map(" ".join), min_size=1, max_size=3 * GROUP_QUESTIONS
)
OPTIONS = st.lists(st.sampled_from([" red", " blue", " old red", " old blue who"]), min_size=2, max_size=4)


@contextmanager
def counted(model=MODEL):
    """Rows that a model computes inside the block."""
    rows = []
    hook = model.get_input_embeddings().register_forward_pre_hook(
        lambda module, arguments: rows.append(arguments[0].numel())
    )
    try:
        yield lambda: sum(rows)
    finally:
        hook.remove()


def prefixes(texts):
    """Every distinct beginning, written out."""
    return {tuple(text[:length]) for text in texts for length in range(1, len(text) + 1)}


def test_a_tree_counted_by_hand():
    # 1 - 2 - 3        1, 12, 123, 124, 5: five nodes
    #      \- 4    5
    assert tree_rows([[1, 2, 3], [1, 2, 4], [5], [1, 2]]) == 5
    assert tree_rows([]) == 0


@given(st.lists(st.lists(st.integers(1, 3), max_size=5), max_size=12))
def test_a_tree_has_a_node_for_each_distinct_beginning(texts):
    assert tree_rows(texts) == len(prefixes(texts))


@settings(deadline=None, max_examples=30)
@given(PROMPTS)
def test_rows_of_prompts_are_those_the_sampler_reads(prompts):
    one_token = Sampling(samples=1, temperature=0, max_new_tokens=1)  # drawn from the prompt's last row
    with counted() as rows:
        list(draw(MODEL, tokenizer, prompts, [0] * len(prompts), one_token))
    assert drawn([encode(tokenizer, prompt) for prompt in prompts]).rows == rows()


def test_windows_and_groups_of_the_sampler_share_only_what_they_read_once():
    prompts = [[1, 2, number % 3, 7, number] for number in range(10, 10 + 2 * GROUP_QUESTIONS)]
    found = drawn(prompts)
    groups = sorted(prompts)[:GROUP_QUESTIONS], sorted(prompts)[GROUP_QUESTIONS:]
    assert found.shared == 2
    assert found.rows == 2 + sum(len(prefixes(prompt[2:] for prompt in group)) for group in groups)


@settings(deadline=None, max_examples=30)
@given(PROMPTS, st.data(), st.integers(0, 80))
def test_rows_of_options_are_those_the_scorer_reads(prompts, data, lead):
    prompts = [" ".join(["old"] * lead + [prompt]) for prompt in prompts]
    options = [data.draw(OPTIONS) for _ in prompts]
    with counted() as rows:
        list(score_texts(MODEL, tokenizer, prompts, options))
    assert scored(tokenizer, prompts, options).rows == rows()


@settings(deadline=None, max_examples=10)
@given(PROMPTS, st.integers(2, 4))
def test_rows_of_letters_are_those_the_scorer_reads(prompts, count):
    letters = [[" A", " B", " C", " D"][:count]] * len(prompts)
    with counted() as rows:
        list(score_letters(MODEL, tokenizer, prompts, letters))
    assert scored(tokenizer, prompts, letters, letters=True).rows == rows()


def test_letters_that_are_no_tokens_are_told():
    with pytest.raises(ModelError, match="letter"):
        scored(tokenizer, ["who"], [[" Z", " Y"]], letters=True)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.lists(st.integers(4, 6), min_size=1, max_size=300), min_size=1, max_size=12), st.booleans())
def test_rows_of_a_batch_are_those_that_training_reads(texts, share):
    with counted() as rows, torch.inference_mode(), tree_attention(MODEL):
        read(MODEL, texts, share=share)
    assert read_rows(texts, share=share) == rows()


@given(
    st.integers(1, 500),
    st.floats(0.1, 5),
    st.sampled_from([(16, None), (16, 4), (8, 16), (1, None), (12, 3)]),
)
def test_training_steps_are_those_of_the_trainer(examples, epochs, sizes):
    tuning = Tuning(epochs=epochs, batch_size=sizes[0], micro_batch_size=sizes[1])
    passes = len(range(0, examples, tuning.micro_batch))  # forward passes of an epoch
    updates = len(range(0, passes, tuning.batch_size // tuning.micro_batch))  # the last one may be of fewer
    assert tuning.steps(examples) == math.ceil(epochs * updates)


# --- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
@pytest.mark.parametrize("targets", ["all-linear", ("q_proj", "v_proj"), r".*\.(gate|up)_proj"])
def test_the_shape_is_the_models_own(kind, targets, tmp_path):
    model = random_model(kind, len(tokenizer))
    shape = footprint.shape_of(save(model, tokenizer, tmp_path), "auto")
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert shape.weights == 4 * shape.parameters
    assert footprint.shape_of(tmp_path, "bfloat16").weights == 2 * shape.parameters
    assert shape.cache == 2 * 3 * 2 * 8 * 4  # keys and values, layers, key heads, their width, float32
    assert shape.vocabulary == len(tokenizer)
    tuning = Tuning(lora_rank=4, lora_targets=targets)
    tuned = get_peft_model(model, _lora(tuning))
    assert footprint.lora_parameters(shape, tuning) == sum(p.numel() for p in tuned.parameters() if p.requires_grad)


def test_full_fine_tuning_holds_every_weight_with_its_gradient_and_moments(tmp_path):
    shape = footprint.shape_of(save(MODEL, tokenizer, tmp_path), "bfloat16")
    most = footprint.tuning(shape, Tuning(method="full"), rows=0, answer_tokens=0)
    assert most + shape.weights == shape.parameters * (4 + 4 + 8 + 2)  # float32 all; the last for the products


# --- whole estimates -------------------------------------------------------------------------------------------------


@pytest.fixture
def recipe_of(tmp_path):
    save(MODEL, tokenizer, tmp_path / "model")

    def rows(first, count, options):
        for number in range(first, first + count):
            asked = " ".join(WORDS[(number // place) % 5] for place in (1, 5, 25))
            choice = {"options": ["red", "old blue", "blue who"], "target": number % 3}
            yield {"id": str(number), "question": asked, **(choice if options else {"answers": ["red"]})}

    def make(options=False, **changes):
        for name, first, count in (("train", 0, 40), ("test", 60, 20)):
            lines = (json.dumps(row) + "\n" for row in rows(first, count, options))
            (tmp_path / f"{name}.jsonl").write_text("".join(lines), "utf-8")
        return load_settings(
            {
                "model.source": str(tmp_path / "model"),
                "questions.source": str(tmp_path / "train.jsonl"),
                "tests": {"test": {"source": str(tmp_path / "test.jsonl"), "split": "train"}},
                "prompt.instruction": "",
                "prompt.shots": 2,
                "rehearsal.size": 20,
                "construction.vanilla": 16,
                "construction.idk": 4,
                "construction.shortage": "shrink",
            }
            | changes
        )

    return make


def silent(line):
    pass


def step(found, name):
    return next(step for step in found.steps if step.name == name)


@pytest.mark.parametrize("choice", ["letter", "text"])
def test_multiple_choice_is_counted_exactly(recipe_of, choice):
    recipe = recipe_of(options=True, **{"prompt.choice": choice, "evaluation.choice": "score"})
    found = estimate(recipe, silent)
    assert found.missing == ()
    sets, shots = question_sets(recipe, silent)
    loaded = LoadedModel(MODEL, tokenizer, "tiny", "tiny")
    with counted() as rows:
        list(query(loaded, sets["train"], Renderer(tokenizer, recipe.prompt, shots), recipe.probe, None, seed=0))
    assert step(found, "probe initial").rows == rows()
    with counted() as rows:
        render = Renderer(tokenizer, recipe.prompt, may_refuse=True)
        list(answer(loaded, sets["test"], render, recipe.evaluation))
    assert step(found, "craft on test").rows == rows()
    assert step(found, "craft on test").questions == 20
    whole = Renderer(tokenizer, recipe.prompt, shots)
    assert step(found, "probe initial").tokens == sum(len(tokenizer(whole(q))["input_ids"]) for q in sets["train"])


def test_sampled_answers_are_prompts_and_an_assumption(recipe_of):
    found = estimate(recipe_of(**{"probe.samples": 10}), silent)
    more = estimate(recipe_of(**{"probe.samples": 100}), silent)
    initial, hundred = step(found, "probe initial"), step(more, "probe initial")
    assert initial.questions == 38  # two serve as worked examples
    # 38 answers of one token: 10 ** 0.78 and 100 ** 0.78 distinct beginnings each
    assert hundred.rows - initial.rows == pytest.approx(38 * (100**0.78 - 10**0.78), abs=1)
    assert step(found, "probe rehearsed").rows < initial.rows
    assert [memory.part for memory in found.memory] == ["probe", "tuning", "evaluation"]
    assert found.rows == sum(step.rows for step in found.steps)


def test_training_is_the_examples_wanted_or_all_there_are(recipe_of):
    found = estimate(recipe_of(), silent)
    assert (step(found, "rehearsal").questions, step(found, "rehearsal").steps) == (20, 6)  # 3 epochs of 16 and 4
    assert (step(found, "craft tuning").questions, step(found, "craft tuning").steps) == (20, 6)
    assert found.training_steps == 18
    many = estimate(recipe_of(**{"construction.vanilla": 800, "construction.idk": 200}), silent)
    assert (step(many, "craft tuning").questions, step(many, "craft tuning").steps) == (38, 9)


def test_without_a_strategy_that_looks_at_flow_nothing_is_rehearsed(recipe_of):
    found = estimate(recipe_of(strategies=["cor_rait"]), silent)
    assert {step.name for step in found.steps} == {
        "probe initial",
        "probe tests/test",
        "features",
        "init_basic on test",
        "init_refuse on test",
        "cor_rait tuning",
        "cor_rait on test",
    }


def test_a_model_that_is_not_there_leaves_what_needs_none(recipe_of, monkeypatch, capsys):
    def refuse(*arguments, **more):
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    found = estimate(recipe_of(**{"model.source": "nobody/nothing"}), silent)
    assert found.training_steps == 18
    assert step(found, "probe initial").questions == 38
    assert found.rows is None
    assert found.memory == ()
    (reason,) = found.missing
    assert "rows and memory" in reason and "nobody/nothing" in reason and "no network" in reason
    print_estimate(found)
    assert "nobody/nothing" in capsys.readouterr().out.replace("\n", "")
    assert json.loads(json.dumps(found.as_json()))["rows"] is None


def test_questions_that_are_not_there_leave_the_others_and_the_steps(recipe_of, tmp_path):
    test = {"source": str(tmp_path / "test.jsonl"), "split": "train"}
    recipe = recipe_of(tests={"test": test, "lost": {"source": str(tmp_path / "lost.jsonl"), "split": "train"}})
    found = estimate(recipe, silent)
    assert step(found, "craft on lost").questions is None
    assert step(found, "craft on test").questions == 20
    assert step(found, "probe initial").rows > 0
    assert len(found.missing) == 1 and "lost.jsonl" in found.missing[0]
    nothing = estimate(recipe_of(**{"questions.source": str(tmp_path / "none.jsonl")}), silent)
    assert nothing.training_steps == 18
    assert step(nothing, "probe initial").questions is None
    assert step(nothing, "init_basic on test").rows is None  # without worked examples its prompts are not known
    assert step(nothing, "craft on test").rows == step(found, "craft on test").rows
    assert len(nothing.missing) == 1 and "none.jsonl" in nothing.missing[0]


def test_a_set_that_would_be_used_up_is_told_beforehand(recipe_of, tmp_path):
    found = estimate(recipe_of(calibration={"source": str(tmp_path / "test.jsonl")}), silent)
    assert len(found.missing) == 1 and "'calibration' is empty" in found.missing[0]
