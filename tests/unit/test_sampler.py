"""The sampler against the model itself: every answer's probability enumerated, greedy decoding by `generate`."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from rait.errors import ModelError
from rait.models import sampler, tree
from rait.models.sampler import Sampling, draw
from tiny import random_model, word_tokenizer

WORDS = ["\n", "▁red", "▁blue", "▁old", "Q", "▁who", "▁what", ":", "A"]
KINDS = ["llama", "gemma3"]


@pytest.fixture(params=KINDS)
def model(request):
    return random_model(request.param, vocabulary=4 + len(WORDS))


@pytest.fixture
def tokenizer():
    return word_tokenizer(WORDS)


def answer_distribution(model, tokenizer, prompt, max_new_tokens, temperature=1.0):
    """Probability of every answer text, by walking all token sequences with whole forward passes."""
    chances = Counter()

    def walk(ids, chance, answer):
        text = tokenizer.decode(answer, skip_special_tokens=True)
        ended = answer and (answer[-1] == tokenizer.eos_token_id or "\n" in text.lstrip())
        if ended or len(answer) == max_new_tokens:
            chances[text.strip().split("\n")[0].strip()] += chance
            return
        with torch.inference_mode():
            logits = model(torch.tensor([ids])).logits[0, -1].double() / temperature
        for token, share in enumerate(torch.softmax(logits, dim=-1).tolist()):
            walk([*ids, token], chance * share, [*answer, token])

    walk(tokenizer(prompt)["input_ids"], 1.0, [])
    return chances


def chi_square_p(counts, chances, total):
    """p-value of the counts under the chances; rare cells are put together until 5 are expected of them."""
    observed, expected = [], []
    rare_observed, rare_expected = 0, 0.0
    for text, chance in sorted(chances.items(), key=lambda item: item[1]):
        if rare_expected < 5:
            rare_observed += counts.get(text, 0)
            rare_expected += chance * total
        else:
            observed.append(counts.get(text, 0))
            expected.append(chance * total)
    observed.append(rare_observed)
    expected.append(rare_expected)
    statistic = sum((o - e) ** 2 / e for o, e in zip(observed, expected, strict=True))
    return chi2.sf(statistic, len(expected) - 1)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_counts_have_the_distribution_of_independent_samples(model, tokenizer, temperature):
    prompts = ["Q: who\nA:", "Q: what old\nA:"]
    total = 40_000
    drawn = dict(draw(model, tokenizer, prompts, [7, 8], Sampling(total, temperature, 3)))
    for index, prompt in enumerate(prompts):
        chances = answer_distribution(model, tokenizer, prompt, 3, temperature)
        assert sum(chances.values()) == pytest.approx(1)
        assert sum(drawn[index].values()) == total
        assert set(drawn[index]) <= set(chances)
        assert chi_square_p(drawn[index], chances, total) > 1e-4


def test_many_small_draws_have_the_same_distribution(model, tokenizer):
    """Ten samples at a time, as the probe draws them, over many seeds: no dependence between the samples shows."""
    prompt, draws, samples = "Q: who\nA:", 1500, 10
    drawn = draw(model, tokenizer, [prompt] * draws, list(range(draws)), Sampling(samples, 1.0, 2))
    pooled, first_pairs = Counter(), Counter()
    for _, counts in drawn:
        pooled.update(counts)
        first_pairs[len(counts)] += 1
    chances = answer_distribution(model, tokenizer, prompt, 2)
    assert chi_square_p(pooled, chances, draws * samples) > 1e-4
    # The number of distinct answers among ten independent samples, simulated from the enumerated distribution.
    generator = np.random.default_rng(0)
    shares = np.array(list(chances.values()))
    simulated = [len(set(generator.choice(len(shares), samples, p=shares / shares.sum()))) for _ in range(20_000)]
    assert np.mean([k for k, n in first_pairs.items() for _ in range(n)]) == pytest.approx(np.mean(simulated), abs=0.1)


def test_the_chi_square_check_can_fail(model, tokenizer):
    chances = answer_distribution(model, tokenizer, "Q: who\nA:", 3)
    drawn = dict(draw(model, tokenizer, ["Q: who\nA:"], [7], Sampling(40_000, 0.8, 3)))
    assert chi_square_p(drawn[0], chances, 40_000) < 1e-6


def test_greedy_is_what_generate_gives(model, tokenizer):
    wordings = ["Q: " + " ".join(words) + "\nA:" for words in itertools.product(["who", "what", "old"], repeat=3)]
    greedy = dict(draw(model, tokenizer, wordings, [0] * len(wordings), Sampling(1, 0.0, 12)))
    texts = set()
    for index, prompt in enumerate(wordings):
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            whole = model.generate(ids, do_sample=False, max_new_tokens=12)[0, ids.shape[1] :]
        expected = tokenizer.decode(whole, skip_special_tokens=True).strip().split("\n")[0].strip()
        assert greedy[index] == {expected: 1}
        texts.add(expected)
    assert len(texts) > 1  # the prompts matter


def test_company_changes_nothing(model, tokenizer, monkeypatch):
    """A question's answers are its own: alone, in other groups, in other order, with tiny blocks of logits."""
    prompts = [f"Q: {a} {b}\nA:" for a in ("who", "what") for b in ("old", "red", "blue who", "red")]
    seeds = [seed % 7 for seed in range(len(prompts))]
    sampling = Sampling(50, 1.0, 4)
    together = dict(draw(model, tokenizer, prompts, seeds, sampling))
    for index, prompt in enumerate(prompts):
        assert dict(draw(model, tokenizer, [prompt], [seeds[index]], sampling)) == {0: together[index]}
    monkeypatch.setattr(sampler, "GROUP_QUESTIONS", 3)
    monkeypatch.setattr(sampler, "STEP_ROWS", 5)
    monkeypatch.setattr(sampler, "WINDOW_QUESTIONS", 5)
    monkeypatch.setattr(tree, "_PROJECTED_BYTES", 1)
    backwards = dict(draw(model, tokenizer, prompts[::-1], seeds[::-1], sampling))
    assert backwards == {len(prompts) - 1 - index: counts for index, counts in together.items()}


def test_prompts_are_read_as_the_work_goes_on(model, tokenizer, monkeypatch):
    monkeypatch.setattr(sampler, "GROUP_QUESTIONS", 2)
    monkeypatch.setattr(sampler, "STEP_ROWS", 4)
    monkeypatch.setattr(sampler, "WINDOW_QUESTIONS", 3)
    read = []

    def prompts():
        for index in range(40):
            read.append(index)
            yield f"{'QA'[index // 20]}: who {index}\nA:"  # the later windows have another beginning in common

    drawn = {}
    for index, counts in draw(model, tokenizer, prompts(), range(40), Sampling(5, 1.0, 2)):
        if not drawn:
            assert len(read) < 20
        drawn[index] = counts
    assert sorted(drawn) == list(range(40))
    for index in (0, 19, 20, 39):
        alone = dict(draw(model, tokenizer, [f"{'QA'[index // 20]}: who {index}\nA:"], [index], Sampling(5, 1.0, 2)))
        assert drawn[index] == alone[0]


def test_equal_prompts_and_prompts_that_begin_others(model, tokenizer):
    prompts = ["Q: who", "Q: who\nA:", "Q: who\nA:", "Q"]
    drawn = dict(draw(model, tokenizer, prompts, [1, 2, 2, 4], Sampling(20, 1.0, 3)))
    assert drawn[1] == drawn[2]
    for index, prompt in enumerate(prompts):
        alone = dict(draw(model, tokenizer, [prompt], [[1, 2, 2, 4][index]], Sampling(20, 1.0, 3)))
        assert drawn[index] == alone[0]


def test_long_answers_reuse_the_slots_of_dead_ones(tokenizer, monkeypatch):
    """Memory follows the live paths, not all that was ever drawn."""
    model = random_model("llama", vocabulary=4 + len(WORDS), spread=0.02)  # close to uniform: answers go on
    sizes = []
    settle = sampler._Group.settle

    def watched(group, node):
        settle(group, node)
        sizes.append((group.used - len(group._free), group.used))

    monkeypatch.setattr(sampler._Group, "settle", watched)
    drawn = dict(draw(model, tokenizer, ["Q: who\nA:"], [0], Sampling(300, 1.0, 30)))
    assert sum(drawn[0].values()) == 300
    visited = sum(1 for _ in sizes)
    assert max(used for _, used in sizes) < 0.6 * visited


def test_counts_stand_in_descending_order_then_by_text(model, tokenizer):
    ((_, counts),) = draw(model, tokenizer, ["Q: who\nA:"], [3], Sampling(200, 1.0, 3))
    assert list(counts.items()) == sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def test_no_prompts_no_answers(model, tokenizer):
    assert list(draw(model, tokenizer, [], [], Sampling())) == []


def test_logits_that_are_not_finite_are_refused(model, tokenizer):
    with torch.no_grad():
        model.get_output_embeddings().weight[5] = float("nan")
    with pytest.raises(ModelError, match="not finite"):
        list(draw(model, tokenizer, ["Q: who\nA:"], [0], Sampling(5, 1.0, 3)))


def test_the_model_gets_its_own_attention_back(model, tokenizer):
    own = model.config._attn_implementation
    list(draw(model, tokenizer, ["Q: who\nA:"], [0], Sampling(5, 1.0, 3)))
    assert model.config._attn_implementation == own
