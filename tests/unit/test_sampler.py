"""The sampler against the model itself: every answer's probability enumerated, greedy decoding by `generate`."""

import itertools
from collections import Counter
from dataclasses import replace
from math import exp, log

import numpy as np
import pytest
import torch
from scipy.stats import chi2, kurtosis

from rait.errors import ModelError
from rait.models import sampler, tree
from rait.models.sampler import Sampling, draw
from tiny import random_model, word_tokenizer

WORDS = ["\n", "▁red", "▁blue", "▁old", "Q", "▁who", "▁what", ":", "A"]
KINDS = ["llama", "gemma3"]


@pytest.fixture(params=KINDS)
def model(request):
    return random_model(request.param, vocabulary=4 + len(WORDS))


@pytest.fixture(params=KINDS)
def exact_model(request):
    """In float64, so that only the float32 of the logits is left, and no token is very rare."""
    model = random_model(request.param, vocabulary=4 + len(WORDS), spread=0.12).double()
    if request.param == "gemma3":
        model.config.final_logit_softcapping = 1.0  # bends them
    return model


@pytest.fixture
def tokenizer():
    return word_tokenizer(WORDS)


def next_logits(model, ids):
    with torch.inference_mode():
        return model(torch.tensor([ids])).logits[0, -1].double()


def text_of(tokenizer, answer):
    return tokenizer.decode(answer, skip_special_tokens=True).strip().split("\n")[0].strip()


def has_ended(tokenizer, answer, max_new_tokens):
    text = tokenizer.decode(answer, skip_special_tokens=True)
    return answer[-1] == tokenizer.eos_token_id or "\n" in text.lstrip() or len(answer) == max_new_tokens


def answer_paths(model, tokenizer, prompt, max_new_tokens, temperature=1.0):
    """{answer text: [(probability, tokens) of every way to write it]}, all walked with whole forward passes."""
    found = {}

    def walk(ids, chance, answer):
        if answer and has_ended(tokenizer, answer, max_new_tokens):
            found.setdefault(text_of(tokenizer, answer), []).append((chance, len(answer)))
            return
        shares = torch.softmax(next_logits(model, ids) / temperature, dim=-1)
        for token, share in enumerate(shares.tolist()):
            walk([*ids, token], chance * share, [*answer, token])

    walk(tokenizer(prompt)["input_ids"], 1.0, [])
    return found


def answer_distribution(model, tokenizer, prompt, max_new_tokens, temperature=1.0):
    """Probability of every answer text."""
    paths = answer_paths(model, tokenizer, prompt, max_new_tokens, temperature)
    return {text: sum(chance for chance, _ in ways) for text, ways in paths.items()}


def follow_greedily(model, tokenizer, prompt, max_new_tokens):
    """The greedy answer's tokens, and the logits that each was chosen from."""
    ids, answer, steps = tokenizer(prompt)["input_ids"], [], []
    while not answer or not has_ended(tokenizer, answer, max_new_tokens):
        steps.append(next_logits(model, [*ids, *answer]))
        answer.append(int(steps[-1].argmax()))
    return answer, steps


def assert_same(one, other):
    """The same answers, up to the rounding of matrix products of other shapes."""
    assert list(one.counts.items()) == list(other.counts.items())
    assert one.log_probabilities == pytest.approx(other.log_probabilities, abs=1e-4)
    assert one.tokens == other.tokens
    assert one.greedy == other.greedy
    assert one.kurtosis == (None if other.kurtosis is None else pytest.approx(other.kurtosis, rel=1e-4))


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
        counts = drawn[index].counts
        assert sum(counts.values()) == total
        assert set(counts) <= set(chances)
        assert chi_square_p(counts, chances, total) > 1e-4


def test_many_small_draws_have_the_same_distribution(model, tokenizer):
    """Ten samples at a time, as the probe draws them, over many seeds: no dependence between the samples shows."""
    prompt, draws, samples = "Q: who\nA:", 1500, 10
    drawn = draw(model, tokenizer, [prompt] * draws, list(range(draws)), Sampling(samples, 1.0, 2))
    pooled, first_pairs = Counter(), Counter()
    for _, answers in drawn:
        pooled.update(answers.counts)
        first_pairs[len(answers.counts)] += 1
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
    assert chi_square_p(drawn[0].counts, chances, 40_000) < 1e-6


def test_greedy_is_what_generate_gives(model, tokenizer):
    wordings = ["Q: " + " ".join(words) + "\nA:" for words in itertools.product(["who", "what", "old"], repeat=3)]
    greedy = dict(draw(model, tokenizer, wordings, [0] * len(wordings), Sampling(1, 0.0, 12)))
    texts = set()
    for index, prompt in enumerate(wordings):
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            whole = model.generate(ids, do_sample=False, max_new_tokens=12)[0, ids.shape[1] :]
        expected = tokenizer.decode(whole, skip_special_tokens=True).strip().split("\n")[0].strip()
        assert greedy[index].counts == {expected: 1}
        texts.add(expected)
    assert len(texts) > 1  # the prompts matter


@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.8])
def test_log_probabilities_are_those_of_the_paths_that_were_drawn(exact_model, tokenizer, temperature):
    total, seldom = 20_000, 20 / 20_000  # a path that is not seldom is drawn all but surely: it is missed once in e^20
    ((_, answers),) = draw(exact_model, tokenizer, ["Q: who\nA:"], [5], Sampling(total, temperature, 2))
    paths = answer_paths(exact_model, tokenizer, "Q: who\nA:", 2, temperature)
    assert any(sum(chance > seldom for chance, _ in ways) > 1 for ways in paths.values())  # several ways to a text
    assert list(answers.log_probabilities) == list(answers.tokens) == list(answers.counts)
    exact = 0
    for text, log_probability in answers.log_probabilities.items():
        sure = sum(chance for chance, _ in paths[text] if chance > seldom)
        possible = sum(chance for chance, _ in paths[text])
        assert sure * (1 - 1e-6) <= exp(log_probability) <= possible * (1 + 1e-6)
        exact += possible == sure
        chance, length = max(paths[text])
        assert answers.tokens[text] == length or chance <= seldom
    assert exact > 2
    assert set(answers.tokens.values()) == {1, 2}
    assert answers.greedy is None


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_probabilities_of_all_texts_of_one_token_add_up_to_one(exact_model, tokenizer, temperature):
    ((_, answers),) = draw(exact_model, tokenizer, ["Q: who\nA:"], [5], Sampling(20_000, temperature, 1))
    assert set(answers.counts) == set(answer_paths(exact_model, tokenizer, "Q: who\nA:", 1))
    assert sum(map(exp, answers.log_probabilities.values())) == pytest.approx(1, abs=1e-6)
    assert set(answers.tokens.values()) == {1}


@pytest.mark.parametrize("temperature", [1.0, 0.7, 0.0])
def test_the_greedy_answer_beside_the_samples(exact_model, tokenizer, temperature):
    """Its text, the kurtosis of its steps at temperature 1, and nothing of the samples is changed by it."""
    prompts = ["Q: " + " ".join(words) + "\nA:" for words in itertools.product(["who", "what", "old"], repeat=2)]
    seeds = list(range(len(prompts)))
    sampling = Sampling(4, temperature, 6)
    plain = dict(draw(exact_model, tokenizer, prompts, seeds, sampling))
    both = dict(draw(exact_model, tokenizer, prompts, seeds, replace(sampling, greedy=True)))
    alone = dict(draw(exact_model, tokenizer, prompts, seeds, Sampling(1, 0.0, 6)))
    not_drawn = lengths = 0
    for index, prompt in enumerate(prompts):
        assert plain[index].greedy is None
        assert plain[index].kurtosis is None
        assert_same(replace(both[index], greedy=None, kurtosis=None), plain[index])
        tokens, steps = follow_greedily(exact_model, tokenizer, prompt, 6)
        text = text_of(tokenizer, tokens)
        assert both[index].greedy == text
        spread = [kurtosis(torch.softmax(logits, dim=-1).numpy(), fisher=False) for logits in steps]
        assert both[index].kurtosis == pytest.approx(np.mean(spread), rel=1e-6)
        assert alone[index].counts == {text: 1}
        assert alone[index].tokens == {text: len(tokens)}
        chances = [torch.log_softmax(one, dim=-1)[token].item() for token, one in zip(tokens, steps, strict=True)]
        assert alone[index].log_probabilities == {text: pytest.approx(sum(chances), abs=1e-6)}
        not_drawn += text not in both[index].counts
        lengths += len(tokens)
    assert lengths > len(prompts)
    assert (not_drawn > 0) == (temperature > 0)  # some greedy answers are paths of their own


def test_a_greedy_answer_goes_on_when_the_samples_have_ended(tokenizer):
    """A hot draw of one sample ends at once; the greedy answer takes its own way, as long as it is."""
    model = random_model("llama", vocabulary=4 + len(WORDS), seed=1)
    with torch.no_grad():
        model.get_output_embeddings().weight[tokenizer.eos_token_id] = 0
    prompts = [f"Q: who {index}\nA:" for index in range(30)]
    drawn = dict(draw(model, tokenizer, prompts, range(30), Sampling(1, 50.0, 20, greedy=True)))
    longer = 0
    for index, prompt in enumerate(prompts):
        tokens, _ = follow_greedily(model, tokenizer, prompt, 20)
        assert drawn[index].greedy == text_of(tokenizer, tokens)
        assert sum(drawn[index].counts.values()) == 1
        longer += len(tokens) > max(drawn[index].tokens.values())
    assert longer


def test_texts_of_several_ends_are_one_text(exact_model, tokenizer):
    """End of text and end of turn give the same answer by two paths, whose probabilities add up."""
    exact_model.generation_config.eos_token_id = [2, 0]
    ((_, answers),) = draw(exact_model, tokenizer, ["Q: who\nA:"], [5], Sampling(5000, 1.0, 1))
    shares = torch.softmax(next_logits(exact_model, tokenizer("Q: who\nA:")["input_ids"]), dim=-1)
    silent = [0, 1, 2, 3, tokenizer.convert_tokens_to_ids("\n")]  # none of these shows a text
    assert answers.log_probabilities[""] == pytest.approx(log(sum(shares[token].item() for token in silent)), abs=1e-6)


def test_company_changes_nothing(model, tokenizer, monkeypatch):
    """A question's answers are its own: alone, in other groups, in other order, with tiny blocks of logits."""
    prompts = [f"Q: {a} {b}\nA:" for a in ("who", "what") for b in ("old", "red", "blue who", "red")]
    seeds = [seed % 7 for seed in range(len(prompts))]
    sampling = Sampling(50, 1.0, 4, greedy=True)
    together = dict(draw(model, tokenizer, prompts, seeds, sampling))
    for index, prompt in enumerate(prompts):
        ((_, alone),) = draw(model, tokenizer, [prompt], [seeds[index]], sampling)
        assert_same(alone, together[index])
    monkeypatch.setattr(sampler, "GROUP_QUESTIONS", 3)
    monkeypatch.setattr(sampler, "STEP_ROWS", 5)
    monkeypatch.setattr(sampler, "WINDOW_QUESTIONS", 5)
    monkeypatch.setattr(tree, "_PROJECTED_BYTES", 1)
    backwards = dict(draw(model, tokenizer, prompts[::-1], seeds[::-1], sampling))
    for index, answers in together.items():
        assert_same(backwards[len(prompts) - 1 - index], answers)


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
    for index, answers in draw(model, tokenizer, prompts(), range(40), Sampling(5, 1.0, 2)):
        if not drawn:
            assert len(read) < 20
        drawn[index] = answers
    assert sorted(drawn) == list(range(40))
    for index in (0, 19, 20, 39):
        alone = dict(draw(model, tokenizer, [f"{'QA'[index // 20]}: who {index}\nA:"], [index], Sampling(5, 1.0, 2)))
        assert_same(drawn[index], alone[0])


def test_equal_prompts_and_prompts_that_begin_others(model, tokenizer):
    prompts = ["Q: who", "Q: who\nA:", "Q: who\nA:", "Q"]
    drawn = dict(draw(model, tokenizer, prompts, [1, 2, 2, 4], Sampling(20, 1.0, 3, greedy=True)))
    assert_same(drawn[1], drawn[2])
    for index, prompt in enumerate(prompts):
        alone = dict(draw(model, tokenizer, [prompt], [[1, 2, 2, 4][index]], Sampling(20, 1.0, 3, greedy=True)))
        assert_same(drawn[index], alone[0])


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
    assert sum(drawn[0].counts.values()) == 300
    visited = sum(1 for _ in sizes)
    assert max(used for _, used in sizes) < 0.6 * visited


def test_counts_stand_in_descending_order_then_by_text(model, tokenizer):
    ((_, answers),) = draw(model, tokenizer, ["Q: who\nA:"], [3], Sampling(200, 1.0, 3))
    assert list(answers.counts.items()) == sorted(answers.counts.items(), key=lambda item: (-item[1], item[0]))


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
