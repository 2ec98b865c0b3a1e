"""Cross-entropy of answers under a vocabulary that may be large, taken at the answers' positions alone.

    total = answer_loss(network, hidden, labels)        # hidden (n, hidden): the states before the labels

A low-rank adapter leaves the vocabulary matrix as it is, so the loss needs the gradient of the states alone: it is
worked out together with the loss, a few rows at a time while they are in the processor's cache, and no logits are kept
or computed twice. Where the matrix is tuned as well, logits are taken block by block and computed again for the
backward pass.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from rait.models.tree import Head

_LOGIT_BYTES = 128 << 20  # logits, or their slopes, that are held at once


def answer_loss(network: Any, hidden: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Sum of cross-entropies, in nats, of `labels` (n,) under the vocabulary projection of `hidden` (n, hidden).

    `weights` (n,) multiply the cross-entropies; without them each counts once.
    """
    head = Head(network)
    layer = head.layer
    if type(layer) is torch.nn.Linear and layer.bias is None and not layer.weight.requires_grad:
        loss: Tensor = _FrozenHead.apply(hidden, labels, weights, head)
        return loss
    size = max(1, _LOGIT_BYTES // (4 * head.vocabulary))
    if len(labels) <= size:
        return _block_loss(head, hidden, labels, weights)
    blocks = [
        checkpoint(
            _block_loss,
            head,
            hidden[part],
            labels[part],
            None if weights is None else weights[part],
            use_reentrant=False,
        )
        for part in (slice(start, start + size) for start in range(0, len(labels), size))
    ]
    return torch.stack(blocks).sum()


def _block_loss(head: Head, hidden: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    if weights is None:
        return functional.cross_entropy(head(hidden), labels, reduction="sum")
    return (functional.cross_entropy(head(hidden), labels, reduction="none") * weights).sum()


class _FrozenHead(torch.autograd.Function):
    """The loss under a projection that is not tuned; the slope of a logit is its probability, less 1 for the label."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, labels: Tensor, weights: Tensor | None, head: Head) -> Tensor:
        """Sum of cross-entropies, with the gradient of `hidden` beside it."""
        matrix = head.layer.weight
        states = hidden.to(matrix.dtype)
        size = max(1, min(len(labels), _LOGIT_BYTES // (matrix.element_size() * head.vocabulary)))
        slopes = torch.empty(size, head.vocabulary, dtype=matrix.dtype, device=matrix.device)
        gradient = torch.empty_like(states)
        losses = []
        with torch.autocast(matrix.device.type, enabled=False):
            for first in range(0, len(labels), size):
                part = slice(first, first + size)
                row = 0
                for logits in head.blocks(states[part]):
                    here = slice(first + row, first + row + len(logits))
                    factors = None if weights is None else weights[here]
                    losses.append(_slopes_of(logits, labels[here], factors, head))
                    slopes[row : row + len(logits)].copy_(logits)
                    row += len(logits)
                torch.mm(slopes[:row], matrix, out=gradient[part])
        ctx.save_for_backward(gradient)
        ctx.dtype = hidden.dtype
        return torch.cat(losses).sum()

    @staticmethod
    def backward(ctx: Any, *slope: Tensor) -> tuple[Tensor, None, None, None]:
        """The gradient of `hidden`; labels, weights and the projection have none."""
        (gradient,) = ctx.saved_tensors
        return (gradient * slope[0]).to(ctx.dtype), None, None, None


def _slopes_of(logits: Tensor, labels: Tensor, weights: Tensor | None, head: Head) -> Tensor:
    """Cross-entropies (rows,) of `logits` (rows, vocabulary), which become the slopes of the product behind them."""
    # z = c tanh(s y / c) of a product y has the slope s (1 - (z / c)^2).
    bend = None if head.softcap is None else 1 - (logits / head.softcap).square_()
    highest = logits.amax(dim=1, keepdim=True)
    own = logits.gather(1, labels[:, None])
    logits.sub_(highest).exp_()
    total = logits.sum(dim=1, keepdim=True)
    losses = (total.log() + highest - own)[:, 0]
    logits.div_(total).scatter_add_(1, labels[:, None], torch.full_like(own, -1.0))
    if weights is not None:
        losses = losses * weights
        logits.mul_(weights[:, None])
    if bend is not None:
        logits.mul_(bend)
    if head.scale != 1.0:
        logits.mul_(head.scale)
    return losses
