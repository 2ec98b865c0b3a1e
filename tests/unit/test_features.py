"""Questions in the model's feature space against a plain forward pass, and neighbours against exact arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing

from rait.errors import InputError, ModelError
from rait.models import features
from rait.models.features import last_states, nearest
from rait.models.loading import LoadedModel
from tiny import random_model, word_tokenizer

WORDS = [f"▁{letter}" for letter in "abcdefgh"]
TEXTS = [" a b c", " a b", " a b c d e f g h a b c", " h", " a b c", " b b b b", " a b d"]


@pytest.fixture(params=["llama", "gemma3"])
def loaded(request):
    tokenizer = word_tokenizer(WORDS)
    return LoadedModel(random_model(request.param, len(tokenizer)), tokenizer, "tiny", "none")


def plain(loaded, text):
    """The same from the library alone: one text, no tree, all layers' states."""
    ids = torch.tensor([loaded.tokenizer(text)["input_ids"]])
    with torch.inference_mode():
        return loaded.model(ids, output_hidden_states=True).hidden_states[-1][0, -1].numpy()


@pytest.mark.parametrize("tokens", [1, 9, 1024])
def test_states_are_those_of_a_plain_forward_pass_whatever_the_batch(loaded, tokens, monkeypatch):
    monkeypatch.setattr(features, "PASS_TOKENS", tokens)
    done = []
    found = last_states(loaded, TEXTS, done.append)

    assert found.dtype == np.float32 and found.shape == (len(TEXTS), 32)
    assert sum(done) == len(TEXTS)
    for text, state in zip(TEXTS, found, strict=True):
        np.testing.assert_allclose(state, plain(loaded, text), atol=1e-5, rtol=1e-5)


def test_other_texts_and_their_order_change_nothing_but_rounding(loaded):
    together = last_states(loaded, TEXTS, lambda _: None)
    reversed_ = last_states(loaded, TEXTS[::-1], lambda _: None)
    np.testing.assert_allclose(reversed_[::-1], together, atol=1e-5, rtol=1e-5)
    np.testing.assert_array_equal(together[0], together[4])  # the same text is the same rows of the tree
    assert np.abs(together[0] - together[1]).max() > 0.01


def test_the_model_keeps_its_own_attention(loaded):
    own = loaded.model.config._attn_implementation
    last_states(loaded, TEXTS, lambda _: None)
    assert loaded.model.config._attn_implementation == own


def test_no_texts_have_no_states(loaded):
    assert last_states(loaded, [], lambda _: None).shape == (0, 32)


def test_a_text_without_tokens_is_named(loaded):
    loaded.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A", special_tokens=[])
    with pytest.raises(InputError, match="the first is number 2"):
        last_states(loaded, [" a", ""], lambda _: None)


def test_states_that_are_not_finite_are_refused(loaded):
    with torch.no_grad():
        loaded.model.get_input_embeddings().weight[5] = float("nan")
    with pytest.raises(ModelError, match="not finite"):
        last_states(loaded, TEXTS, lambda _: None)


def exact(a, b):
    """A number that orders as the cosine of integer vectors does, without rounding: its square with its sign."""
    dot, lengths = sum(x * y for x, y in zip(a, b, strict=True)), sum(x * x for x in a) * sum(y * y for y in b)
    return Fraction(dot * abs(dot), lengths) if lengths else Fraction(0)


@st.composite
def matrices(draw):
    width = draw(st.integers(1, 4))
    row = st.lists(st.integers(-3, 3), min_size=width, max_size=width)
    return draw(st.lists(row, max_size=12)), draw(st.lists(row, max_size=12)), width


@given(matrices(), st.integers(0, 5), st.integers(1, 4), st.integers(1, 4))
def test_nearest_is_that_of_exact_arithmetic_with_zeros_and_duplicates(of, k, query_block, key_block):
    queries, keys, width = of
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "_QUERIES", query_block)
        patch.setattr(features, "_KEYS", key_block)
        places, cosines = nearest(
            np.array(queries, dtype=np.float32).reshape(-1, width),
            np.array(keys, dtype=np.float32).reshape(-1, width),
            k,
        )
    assert places.shape == cosines.shape == (len(queries), min(k, len(keys)))
    for query, where, near in zip(queries, places.tolist(), cosines.tolist(), strict=True):
        expected = sorted(range(len(keys)), key=lambda index: (-exact(query, keys[index]), index))[:k]
        assert where == expected
        for index, cosine in zip(expected, near, strict=True):
            assert cosine * abs(cosine) == pytest.approx(float(exact(query, keys[index])), abs=1e-11)
            assert -1 <= cosine <= 1


def test_equal_vectors_tie_at_exactly_1_wherever_they_stand():
    rng = np.random.default_rng(0)
    row = (100 * rng.normal(size=641)).astype(np.float32)
    keys = rng.normal(size=(5000, 641)).astype(np.float32)
    keys[[7, 2047, 2048, 4999]] = row, row * 2, row * 0.5, row
    places, cosines = nearest(np.stack([row, row * 4]), keys, 4)
    assert places.tolist() == [[7, 2047, 2048, 4999]] * 2
    assert (cosines == 1).all()


def test_very_small_and_very_large_vectors_keep_their_direction():
    small, large = 2.0**-145, 2.0**125
    keys = np.array([[3 * small, 4 * small], [3 * large, -4 * large]], dtype=np.float32)
    places, cosines = nearest(np.array([[small, 0], [large, 0]], dtype=np.float32), keys, 2)
    assert places.tolist() == [[0, 1], [0, 1]]
    assert (cosines == 0.6).all()


def test_features_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="one width"):
        nearest(np.zeros((2, 3), np.float32), np.zeros((2, 4), np.float32), 1)
    with pytest.raises(ValueError, match="finite"):
        nearest(np.array([[np.nan]], np.float32), np.ones((1, 1), np.float32), 1)
