"""Reading texts as a tree against reading each text alone."""

import pytest
import torch

from rait.models import tree
from rait.models.tree import Head, encode, read, tree_attention
from rait.tuning.loss import answer_loss
from tiny import random_model, word_tokenizer

TEXTS = [[1, 5, 6, 7, 8], [1, 5, 6, 9], [1, 5, 6, 7, 8, 9, 10, 11, 12, 6, 7], [1, 4], [1, 5, 6, 9]]


@pytest.fixture(params=["llama", "gemma3"])
def model(request):
    return random_model(request.param, vocabulary=13)


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("block", [1, 12, 1024])
def test_states_are_those_of_each_text_alone(model, share, block, monkeypatch):
    monkeypatch.setattr(tree, "READ_ROWS", block)
    with torch.inference_mode():
        alone = [model.get_decoder()(torch.tensor([text])).last_hidden_state[0] for text in TEXTS]
        with tree_attention(model):
            states, rows = read(model, TEXTS, share=share)
    for text, own, expected in zip(TEXTS, rows, alone, strict=True):
        assert len(own) == len(text)
        torch.testing.assert_close(states[own], expected, atol=1e-5, rtol=1e-5)
    if share and block == 1024:
        assert len(states) == len({tuple(text[:n]) for text in TEXTS for n in range(1, len(text) + 1)})
    if not share:
        assert len(states) == sum(map(len, TEXTS))


def test_head_gives_the_models_own_logits(model):
    ids = torch.tensor([TEXTS[2]])
    with torch.inference_mode():
        expected = model(ids).logits[0]
        states = model.get_decoder()(ids).last_hidden_state[0]
        torch.testing.assert_close(Head(model)(states), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("block", [1, 1 << 30])
def test_loss_and_gradient_are_those_of_the_padded_batch(model, block, monkeypatch):
    """The answer loss over shared rows against transformers' own loss over padded rows."""
    from rait.tuning import loss as losses

    monkeypatch.setattr(losses, "_LOGIT_BYTES", block)
    answers = [2, 1, 4, 1, 2]
    width = max(map(len, TEXTS))
    ids = torch.tensor([text + [0] * (width - len(text)) for text in TEXTS])
    mask = torch.tensor([[1] * len(text) + [0] * (width - len(text)) for text in TEXTS])
    labels = torch.full_like(ids, -100)
    for row, (text, count) in enumerate(zip(TEXTS, answers, strict=True)):
        labels[row, len(text) - count : len(text)] = ids[row, len(text) - count : len(text)]
    expected = model(ids, attention_mask=mask, labels=labels).loss
    expected.backward()
    gradients = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    with tree_attention(model):
        states, rows = read(model, TEXTS)
    before = torch.cat([own[-count - 1 : -1] for own, count in zip(rows, answers, strict=True)])
    targets = torch.tensor([token for text, count in zip(TEXTS, answers, strict=True) for token in text[-count:]])
    loss = answer_loss(model, states[before], targets) / len(targets)
    loss.backward()
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.grad, gradients[name], atol=1e-4, rtol=1e-3, msg=name)


def test_exactly_one_beginning_of_text():
    tokenizer = word_tokenizer(["▁a", "b"])
    assert encode(tokenizer, "b a") == [1, 5, 4]
    assert encode(tokenizer, "<bos>b a") == [1, 5, 4]
