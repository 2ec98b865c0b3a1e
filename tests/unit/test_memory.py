"""Too little memory: passes are halved, what was under way is asked again, and the results are the same."""

import resource
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rait.errors import ModelError, RecipeError
from rait.estimate import Estimate, Memory
from rait.evaluation.answering import answer
from rait.knowledge.query import query
from rait.models import bundled, embedding
from rait.models.features import last_states
from rait.models.loading import LoadedModel
from rait.models.memory import LEAST_ROWS, data_bytes, halving, is_out_of_memory, limited
from rait.models.refusal import weigh
from rait.models.sampler import Sampling, draw
from rait.models.scoring import score_letters, score_texts
from rait.prompting import Renderer
from rait.recipe import Evaluation, Probe, Prompt
from rait.records import Question
from tiny import random_model, word_tokenizer

pytestmark = pytest.mark.slow  # many trainings and probes

NAMES = ["Ada", "Bob", "Cleo", "Dora", "Egon", "Faye", "Gus", "Hal"]
WORDS = [f"▁{word}" for word in ("no", "idea", "here", "is", "old", *NAMES)]
WORDS += ["Question:", "Who", "Answer:", "▁?", "\n", "Q:"]
PROMPTS = [f"Q: {first} {second} is ?" for first in NAMES for second in NAMES]
SAMPLING = Sampling(samples=6, temperature=1.0, max_new_tokens=4, greedy=True)


class Small:
    """A device that is full where a forward pass has more than `rows` rows: it fails as a GPU does."""

    def __init__(self, model, rows):
        self.rows, self.passes, self.handle = (
            rows,
            [],
            model.get_decoder().register_forward_pre_hook(self, with_kwargs=True),
        )

    def __call__(self, module, args, settings):
        rows = settings["input_ids"].shape[1]
        self.passes.append(rows)
        if rows > self.rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.handle.remove()


@pytest.fixture(scope="module")
def tokenizer():
    return word_tokenizer(WORDS)


@pytest.fixture(scope="module", params=["llama", "gemma3"])
def model(request, tokenizer):
    return random_model(request.param, len(tokenizer), seed=3, spread=0.2)


def told(*rows):
    return [f"out of memory with {before} rows a forward pass; going on with {after}" for before, after in rows]


def test_what_the_allocators_say_is_understood():
    """The errors are true ones: of torch on a CPU, of numpy and of Python."""
    for greedy in (lambda: torch.empty(1 << 55), lambda: np.empty(1 << 55), lambda: bytearray(1 << 60)):
        with pytest.raises((RuntimeError, MemoryError)) as failure:
            greedy()
        assert is_out_of_memory(failure.value)
    assert is_out_of_memory(torch.OutOfMemoryError())
    for other in (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("out of memory"), KeyError()):
        assert not is_out_of_memory(other)


def drawn(model, tokenizer, heard=None, **settings):
    say = (lambda line: None) if heard is None else heard.append
    return dict(draw(model, tokenizer, PROMPTS, range(len(PROMPTS)), SAMPLING, say=say, **settings))


def test_answers_are_the_same_in_smaller_passes(model, tokenizer):
    expected, heard = drawn(model, tokenizer), []
    with Small(model, 30) as device:
        found = drawn(model, tokenizer, heard, rows=100)
    assert {index: answers.counts for index, answers in found.items()} == {
        index: answers.counts for index, answers in expected.items()
    }
    assert {index: answers.greedy for index, answers in found.items()} == {
        index: answers.greedy for index, answers in expected.items()
    }
    halvings = [number for number, rows in enumerate(device.passes) if rows > 30]
    assert len(halvings) == len(heard) > 0
    sizes = [100 // 2**number for number in range(len(heard) + 1)]
    assert heard == told(*pairwise(sizes))


def test_the_same_greedy_answers_whatever_the_passes_and_the_order(model, tokenizer):
    def greedy(found):
        return [found[index].greedy for index in range(len(PROMPTS))]

    expected = greedy(drawn(model, tokenizer))
    assert len(set(expected)) > 4, "they are not all the same"
    for rows in (12, 50, 5000):
        assert greedy(drawn(model, tokenizer, rows=rows)) == expected
    backwards = dict(draw(model, tokenizer, PROMPTS[::-1], range(len(PROMPTS)), SAMPLING))
    assert greedy(backwards)[::-1] == expected


def test_only_what_was_under_way_is_asked_again():
    """Memory runs out once, late: what was answered by then is not asked again."""
    asked, heard = [], []

    def attempt(items, rows):
        held = []
        for number, (index, prompt) in enumerate(items):
            asked.append((rows, index))
            if rows == 48 and number == 40:
                raise torch.OutOfMemoryError("CUDA out of memory")
            if number % 2:
                held.append((index, prompt))
            else:
                yield index, prompt
        yield from held

    assert dict(halving(enumerate(PROMPTS), 48, attempt, heard.append)) == dict(enumerate(PROMPTS))
    assert [index for rows, index in asked if rows == 24] == [*range(1, 40, 2), *range(40, len(PROMPTS))]
    assert heard == told((48, 24))


def test_at_the_smallest_size_it_stops_and_says_what_to_do(model, tokenizer):
    heard = []
    with Small(model, 0), pytest.raises(ModelError, match=r"out of memory even with 12 rows .* smaller model"):
        drawn(model, tokenizer, heard, rows=50)
    assert heard == told((50, 25), (25, LEAST_ROWS))
    assert model.config._attn_implementation != "rait_tree", "the model is as it was"
    assert len(drawn(model, tokenizer)) == len(PROMPTS)


def test_another_error_is_not_taken_for_a_lack_of_memory(model, tokenizer):
    def broken(*_):
        raise RuntimeError("a bug")

    handle = model.get_decoder().register_forward_pre_hook(broken)
    try:
        with pytest.raises(RuntimeError, match="a bug"):
            drawn(model, tokenizer)
    finally:
        handle.remove()


def test_a_question_that_is_lost_in_reading_stops_it_all():
    def source():
        yield 0, "a"
        raise MemoryError

    with pytest.raises(ModelError, match="while questions were read"):
        list(halving(source(), 96, lambda items, rows: ((index, item) for index, item in items), print))


def test_scores_weighed_refusals_and_features_are_the_same_in_smaller_passes(model, tokenizer):
    options = [(" Ada", " Bob is old", " Cleo")] * len(PROMPTS)
    letters = [(" Ada", " Bob")] * len(PROMPTS)
    loaded = LoadedModel(model, tokenizer, "tiny", "tiny")

    def everything(say):
        texts = dict(score_texts(model, tokenizer, PROMPTS, options, rows=150, say=say))
        chosen = dict(score_letters(model, tokenizer, PROMPTS, letters, rows=150, say=say))
        weighed = dict(weigh(model, tokenizer, PROMPTS, " no idea here", 4, rows=150, say=say))
        points = last_states(loaded, PROMPTS, lambda _: None, say=say)
        return texts, chosen, weighed, points

    whole, heard = everything(lambda line: None), []
    with Small(model, 90):
        small = everything(heard.append)
    assert len(heard) >= 4
    for index in range(len(PROMPTS)):
        assert small[0][index].log_likelihoods == pytest.approx(whole[0][index].log_likelihoods, rel=1e-4, abs=1e-4)
        assert small[1][index] == pytest.approx(whole[1][index], rel=1e-4, abs=1e-5)
        assert small[2][index].response == whole[2][index].response
        assert small[2][index].refusal_probability == pytest.approx(whole[2][index].refusal_probability, rel=1e-4)
    np.testing.assert_allclose(small[3], whole[3], rtol=1e-4, atol=1e-5)


def test_a_probe_and_an_evaluation_go_on_to_the_same_records(model, tokenizer):
    loaded = LoadedModel(model, tokenizer, "tiny", "tiny")
    asked = [
        Question(id=str(number), question=f"Who is {prompt.split()[1]} {prompt.split()[2]} ?", answers=("Ada",))
        for number, prompt in enumerate(PROMPTS)
    ]
    render = Renderer(tokenizer, Prompt(instruction=""))

    def embed(texts):
        return np.stack([np.eye(7, dtype=np.float32)[len(text) % 7] for text in texts])

    def both(say):
        probe = Probe(samples=5, max_new_tokens=3)
        states = list(query(loaded, asked, render, probe, embed, seed=1, say=say))
        rounded = [
            replace(
                state,
                kurtosis=None,
                responses=tuple(replace(answer, log_probability=None) for answer in state.responses),
            )
            for state in states
        ]
        return rounded, list(answer(loaded, asked, render, Evaluation(max_new_tokens=3), say=say))

    whole, heard = both(print), []
    with Small(model, 180):
        assert both(heard.append) == whole
    assert heard


def test_embeddings_too_are_made_in_smaller_batches(monkeypatch):
    class Sentences:
        def __init__(self, name, **_):
            pass

        def encode(self, texts, batch_size, **_):
            sizes.append(batch_size)
            if batch_size > 40:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return np.array([[len(text), 1.0] for text in texts], dtype=np.float32)

    sizes = []
    monkeypatch.setitem(sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=Sentences))
    embed = embedding._loaded.__wrapped__(bundled.minilm_folder(), "mark")
    texts = ["a" * number for number in range(1, 60)]
    np.testing.assert_array_equal(embed(texts), [[number, 1.0] for number in range(1, 60)])
    assert sizes == [128, 64, 32]


def test_a_limit_that_cannot_hold_is_refused():
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with pytest.raises(RecipeError, match=r"memory_limit=0\.001 GiB cannot be set"), limited(0.001):
        pass
    for problem in (MemoryError(), SystemError("error return without exception set")):
        with pytest.raises(ModelError, match=r"memory_limit=\d+ GiB is too little"), limited(4096):
            raise problem
    with pytest.raises(RuntimeError, match="a bug"), limited(4096):
        raise RuntimeError("a bug")
    with limited(None):
        assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


@pytest.mark.parametrize(
    ("on_gpu", "over"), [(False, ("probe may take 3.0 GB, and memory_limit=2 GiB is 2.1 GB",)), (True, ())]
)
def test_an_estimate_is_compared_with_the_limit(on_gpu, over, monkeypatch):
    """Libraries stay in main memory, which a limit of the GPU's memory does not count."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: on_gpu)
    parts = (Memory("probe", 10**9, 10**9, 10**9), Memory("tuning", 10**9, 0, 10**9))
    found = Estimate((), parts, (), 2.0)
    assert found.over == over == tuple(found.as_json()["over"])
    assert Estimate((), parts, ()).over == ()


CHILD = """
import sys
import torch
from rait.models.memory import data_bytes, limited
from rait.models.sampler import Sampling, draw
from tiny import word_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

torch.set_num_threads(1)
names = [f"n{number}" for number in range(40)]
tokenizer = word_tokenizer([f"▁{word}" for word in (*names, "is")] + ["Q:", "\\n"])
torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(
    vocab_size=len(tokenizer), hidden_size=16, intermediate_size=150_000, num_hidden_layers=1, num_attention_heads=2,
    num_key_value_heads=2, initializer_range=0.3, bos_token_id=1, eos_token_id=2, pad_token_id=0)).eval()
prompts = [f"Q: {a} {b} is" for a in names[:20] for b in names]
sampling = Sampling(samples=4, temperature=1.0, max_new_tokens=2)

def counts(say):
    return [answers.counts for _, answers in sorted(
        draw(model, tokenizer, prompts, range(len(prompts)), sampling, rows=48, say=say), key=lambda pair: pair[0])]

free = counts(print)
heard = []
with limited((data_bytes() + int(sys.argv[1])) / 2**30):
    held = [answers.counts for _, answers in sorted(
        draw(model, tokenizer, prompts, range(len(prompts)), sampling, say=heard.append), key=lambda pair: pair[0])]
assert held == free
print(*heard, sep="\\n")
"""


@pytest.mark.slow
def test_a_real_limit_halves_the_passes_and_the_answers_stay(tmp_path):
    """768 rows of 150,000 float32 numbers are 440 MiB, three times over; 500 MiB are left."""
    script = tmp_path / "child.py"
    script.write_text(CHILD, "utf-8")
    path = [entry for entry in sys.path if entry]
    done = subprocess.run(
        [sys.executable, str(script), str(500 << 20)],
        capture_output=True,
        text=True,
        timeout=300,
        env={"PYTHONPATH": ":".join(path), "PATH": "/usr/bin:/bin", "MALLOC_MMAP_THRESHOLD_": "65536"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert lines[:1] == ["out of memory with 768 rows a forward pass; going on with 384"]
    assert data_bytes() > 0
