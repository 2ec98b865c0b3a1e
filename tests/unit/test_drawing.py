"""Next tokens against numpy and scipy on logits made here: no model."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rait.errors import ModelError
from rait.models.drawing import Asked, kurtosis, next_tokens


def steps(logits, count, temperature, greedy=True, seed=0):
    """The steps of rows whose logits are given, in blocks of three."""
    head = SimpleNamespace(vocabulary=logits.shape[1], blocks=lambda hidden: map(torch.clone, torch.split(hidden, 3)))
    asked = [Asked(np.random.default_rng([seed, row]), count, greedy) for row in range(len(logits))]
    return list(next_tokens(head, logits, asked, temperature))


def random_logits(rows, vocabulary, spread, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(scale=spread, size=(rows, vocabulary))).float()


@pytest.mark.parametrize("vocabulary", [1, 7, 512, 1300])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_tokens_come_with_their_probabilities(vocabulary, temperature):
    logits = random_logits(7, vocabulary, 3.0)
    exact = torch.log_softmax(logits.double() / temperature, dim=1)
    found = steps(logits, 40, temperature)
    for row, step in enumerate(found):
        tokens = [token for token, _, _ in step.tokens]
        assert tokens == sorted(set(tokens))
        assert sum(count for _, count, _ in step.tokens) == 40
        for token, _, chance in step.tokens:
            assert chance == pytest.approx(exact[row, token].item(), abs=2e-6)
        assert step.greedy == int(logits[row].argmax())
        assert step.greedy in tokens
        peak = stats.kurtosis(torch.softmax(logits[row].double(), dim=0).numpy(), fisher=False)
        assert step.kurtosis == pytest.approx(
            peak if vocabulary > 1 else 0, rel=1e-6
        )  # temperature 1 whatever is drawn
    plain = steps(logits, 40, temperature, greedy=False)
    for step, other in zip(found, plain, strict=True):
        assert [one for one in step.tokens if one[1]] == other.tokens
        assert (other.greedy, other.kurtosis) == (None, None)


def test_the_greedy_token_is_there_without_a_draw():
    logits = torch.zeros(4, 1300)
    logits[:, 700] = 0.01  # the most probable by a hair: draws go elsewhere
    for step in steps(logits, 3, 1.0):
        assert [count for token, count, _ in step.tokens if token == 700] == [0]
    for step in steps(logits, 0, 1.0):
        assert step.tokens == [(700, 0, pytest.approx(0.01 - np.log(1299 + np.exp(0.01)), abs=1e-6))]


def test_temperature_zero_takes_the_first_of_the_most_probable():
    logits = random_logits(5, 1300, 1.0)
    logits[:, [1290, 40, 600]] = 9.0
    exact = torch.log_softmax(logits.double(), dim=1)
    for row, step in enumerate(steps(logits, 6, 0.0, greedy=False)):
        assert step.tokens == [(40, 6, pytest.approx(exact[row, 40].item(), abs=2e-6))]
        assert step.greedy is None


def test_logits_that_are_not_finite_are_refused():
    logits = random_logits(4, 600, 1.0)
    logits[2, 3] = float("nan")
    with pytest.raises(ModelError, match="not finite"):
        steps(logits, 2, 1.0)


def test_masked_tokens_are_never_drawn():
    logits = random_logits(3, 1300, 1.0)
    logits[:, 1:1299] = float("-inf")
    for step in steps(logits, 200, 1.0):
        assert {token for token, _, _ in step.tokens} == {0, 1299}


@pytest.mark.parametrize("vocabulary", [2, 3, 50, 262_144])
def test_kurtosis_of_a_certain_and_of_an_even_distribution(vocabulary):
    certain = torch.zeros(vocabulary)
    certain[vocabulary // 2] = 1
    assert kurtosis(certain) == pytest.approx(vocabulary - 2 + 1 / (vocabulary - 1), rel=1e-9)
    for weight in (1.0, 1 / 3, 1e-30):
        assert kurtosis(torch.full((vocabulary,), weight)) == 0


@given(st.integers(2, 3000), st.floats(0.1, 12), st.integers(0, 1000), st.floats(1e-6, 1e6))
def test_kurtosis_against_numpy(vocabulary, spread, seed, scale):
    logits = np.random.default_rng(seed).normal(scale=spread, size=vocabulary)
    p = np.exp(logits - logits.max())
    p /= p.sum()
    deviation = (p - p.mean()) / p.std()
    expected = (deviation**4).mean()
    assert kurtosis(torch.from_numpy(scale * p)) == pytest.approx(expected, rel=1e-9)
    assert 1 - 1e-9 <= kurtosis(torch.from_numpy(p)) <= vocabulary - 2 + 1 / (vocabulary - 1) + 1e-9 * vocabulary


@pytest.mark.parametrize("spread", [0.1, 1.0, 3.0, 8.0])
def test_float32_weights_of_a_large_vocabulary_are_good_for_six_digits(spread):
    (logits,) = random_logits(1, 262_144, spread)
    weights = (logits - logits.max()).exp()
    expected = stats.kurtosis(torch.softmax(logits.double(), dim=0).numpy(), fisher=False)
    assert kurtosis(weights) == pytest.approx(expected, rel=1e-6)
