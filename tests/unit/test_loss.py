"""The loss of answers: with a frozen vocabulary matrix its gradient is worked out beside it, and equals autograd's."""

import pytest
import torch
from torch.nn import functional

from rait.models.tree import Head
from rait.tuning import loss as losses
from rait.tuning.loss import answer_loss
from tiny import random_model

VOCABULARY = 67
ROWS = 23


def by_autograd(model, hidden, labels, weights):
    """Loss and gradients of the plain computation, all logits at once."""
    hidden = hidden.clone().requires_grad_()
    each = functional.cross_entropy(Head(model)(hidden), labels, reduction="none")
    total = (each if weights is None else each * weights).sum()
    total.backward()
    return total.detach(), hidden.grad


@pytest.mark.parametrize("kind", ["llama", "gemma3"])  # gemma3 has soft-capped logits
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("rows_at_once", [1, 5, 1000])
def test_equals_the_plain_computation(kind, weighted, frozen, rows_at_once, monkeypatch):
    monkeypatch.setattr(losses, "_LOGIT_BYTES", rows_at_once * 4 * VOCABULARY)
    model = random_model(kind, VOCABULARY).requires_grad_(not frozen)
    hidden = 3 * torch.randn(ROWS, 32)
    labels = torch.randint(0, VOCABULARY, (ROWS,))
    weights = torch.rand(ROWS) * (torch.arange(ROWS) != 4) if weighted else None
    expected, slope = by_autograd(model, hidden, labels, weights)
    matrix = model.get_output_embeddings().weight
    expected_matrix = None if matrix.grad is None else matrix.grad.clone()
    matrix.grad = None

    mine = hidden.clone().requires_grad_()
    found = answer_loss(model, mine, labels, weights)
    (found * 0.5).backward()

    torch.testing.assert_close(found.detach(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(mine.grad, slope * 0.5, rtol=1e-5, atol=1e-6)
    if frozen:
        assert matrix.grad is None
    else:
        torch.testing.assert_close(matrix.grad, expected_matrix * 0.5, rtol=1e-4, atol=1e-5)


def test_a_scaled_projection_is_followed():
    model = random_model("llama", VOCABULARY).requires_grad_(False)
    model.config.logit_scale = 0.25
    hidden, labels = torch.randn(ROWS, 32), torch.randint(0, VOCABULARY, (ROWS,))
    expected, slope = by_autograd(model, hidden, labels, None)
    mine = hidden.clone().requires_grad_()
    found = answer_loss(model, mine, labels)
    found.backward()
    torch.testing.assert_close(found.detach(), expected)
    torch.testing.assert_close(mine.grad, slope)


def test_in_bfloat16_it_is_as_near_as_autograd():
    """Both round; neither is nearer to the exact gradient by much."""
    exact = random_model("llama", VOCABULARY).requires_grad_(False)
    hidden, labels = torch.randn(ROWS, 32).bfloat16(), torch.randint(0, VOCABULARY, (ROWS,))
    model = random_model("llama", VOCABULARY).requires_grad_(False).bfloat16()
    exact.load_state_dict({name: value.float() for name, value in model.state_dict().items()})
    _, true = by_autograd(exact, hidden.float(), labels, None)
    _, plain = by_autograd(model, hidden, labels, None)
    mine = hidden.clone().requires_grad_()
    answer_loss(model, mine, labels).backward()
    error = (mine.grad.float() - true).norm() / true.norm()
    assert error < 2 * (plain.float() - true).norm() / true.norm() + 1e-3
