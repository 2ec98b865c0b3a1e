"""The next tokens at one node of an answer: drawn from the model's own distribution, and the most probable one.

    for step in next_tokens(head, hidden, asked, temperature=1.0):
        ...         # step.tokens: how many samples take which token, and how probable it is

The samples of a node are drawn together, as one multinomial count over the whole vocabulary: no top-k, no top-p. Logits
are taken in blocks that fit the processor's cache, and all that is wanted of a block is computed while it is there.

Kurtosis measures how peaked a distribution is: E[((p - mean) / sd)^4] over the vocabulary's probabilities p (question
awareness, arXiv 2410.00423). It grows with the vocabulary: all probability on one of V tokens gives V - 2 + 1 / (V-1).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from rait.errors import NotFiniteError
from rait.models.tree import Head

_CHUNK = 512  # tokens of the vocabulary that are looked at together when one of them is searched for


@dataclass(frozen=True, slots=True)
class Asked:
    """What is wanted of one row: so many draws of its generator, and the greedy token with its kurtosis or not.

    At temperature 0 or 1 the probability of the token `follow` may be wanted too, and with `besides` the most probable
    of all other tokens.
    """

    generator: np.random.Generator
    count: int
    greedy: bool
    follow: int | None = None
    besides: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """The next tokens of one row.

    `tokens` are (token, how many draws it is, natural logarithm of its probability), by token; the greedy token is
    among them, if need be with no draws. `followed` is the natural logarithm of the probability of the token that was
    followed, `other` the most probable token besides it, with that logarithm. What was not asked for is None.
    """

    tokens: list[tuple[int, int, float]]
    greedy: int | None = None
    kurtosis: float | None = None
    followed: float | None = None
    other: tuple[int, float] | None = None


def next_tokens(head: Head, hidden: Tensor, asked: Sequence[Asked], temperature: float) -> Iterator[Step]:
    """The next tokens of each row of `hidden` (rows, hidden), in order.

    Probabilities are those at `temperature`, and at 1 where it is 0: then every draw is the most probable token, ties
    going to the first. Kurtosis is that of the model's own distribution, temperature 1, whatever the draws are made at.
    Raises `NotFiniteError`, with the numbers of rows, where logits are not finite.
    """
    start = 0
    for logits in head.blocks(hidden):
        some = asked[start : start + len(logits)]
        start += len(logits)
        chunks = _chunked(logits)
        highest, best = _highest(chunks)
        finite = torch.isfinite(highest)
        if not bool(finite.all()):
            broken = (~finite).nonzero()[:, 0].tolist()
            raise NotFiniteError("logits", [start - len(logits) + row for row in broken])
        chunks.sub_(highest[:, None, None])
        rows = chunks.view(len(chunks), -1)[:, : head.vocabulary]  # the same memory
        greedy = [row for row, one in enumerate(some) if one.greedy]
        followed = {row: float(rows[row, one.follow]) for row, one in enumerate(some) if one.follow is not None}
        others = {row: _highest_besides(rows[row], some[row].follow) for row in followed if some[row].besides}
        if temperature in (0, 1):
            chunks.exp_()
            peaks = {row: kurtosis(rows[row]) for row in greedy}
        else:
            peaks = {row: kurtosis(rows[row].exp()) for row in greedy}
            chunks.div_(temperature).exp_()
        cumulative = chunks.sum(dim=2).double().cumsum(dim=1)
        uniforms = [one.generator.random(one.count if temperature else 0) for one in some]
        drawn = _multinomial(chunks, cumulative, uniforms)
        first = (-cumulative[:, -1].log()).tolist()  # the most probable token has weight 1
        for row, (one, tokens, token, chance) in enumerate(zip(some, drawn, best.tolist(), first, strict=True)):
            if not temperature:
                tokens = [(token, one.count, chance)]
            elif one.greedy and all(token != other for other, _, _ in tokens):
                tokens = sorted([*tokens, (token, 0, chance)])
            yield Step(
                tokens,
                token if one.greedy else None,
                peaks.get(row),
                followed[row] + chance if row in followed else None,
                (others[row][0], others[row][1] + chance) if row in others else None,
            )


def kurtosis(weights: Tensor) -> float:
    """Kurtosis of probabilities in proportion to `weights` (vocabulary,), at least 1; 0 where all are equal.

    It is the same at any scale, so weights need not add up to 1. Computed in float64; weights in float32 are good for
    six digits, unless all of them lie within a few per cent of each other.
    """
    centred = weights.double()
    mean = centred.mean()
    square = centred.sub_(mean).square_()
    variance = float(square.mean())
    if variance <= (1e-13 * float(mean)) ** 2:  # rounding
        return 0.0
    return float(square.dot(square)) / len(square) / variance**2


def _chunked(logits: Tensor) -> Tensor:
    """(rows, vocabulary) as (rows, chunks, _CHUNK): the same memory, unless the last chunk has to be filled up."""
    if spare := -logits.shape[1] % _CHUNK:
        logits = functional.pad(logits, (0, spare), value=float("-inf"))
    return logits.view(len(logits), -1, _CHUNK)


def _highest(chunks: Tensor) -> tuple[Tensor, Tensor]:
    """The highest logit of each row and its first place; many times as fast as a search through whole rows."""
    highest, chunk = chunks.amax(dim=2).max(dim=1)
    inside = chunks[torch.arange(len(chunks), device=chunks.device), chunk].argmax(dim=1)
    return highest, chunk * _CHUNK + inside


def _highest_besides(row: Tensor, token: int | None) -> tuple[int, float]:
    """The first place of the highest value of `row` (vocabulary,), `token` aside, and that value."""
    own = row[token].clone()
    row[token] = float("-inf")
    value, place = row.max(dim=0)
    row[token] = own
    return int(place), float(value)


def _multinomial(
    chunks: Tensor, cumulative: Tensor, uniforms: Sequence[NDArray[np.float64]]
) -> list[list[tuple[int, int, float]]]:
    """Tokens drawn in proportion to weights (rows, chunks, _CHUNK) by inverting the distribution at each uniform.

    The vocabulary is summed in chunks first, `cumulative` (rows, chunks), so that the cumulative sum runs over the
    chunks and over one chunk a draw.
    """
    counts = [len(uniform) for uniform in uniforms]
    row = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts)).to(chunks.device)
    total = cumulative[row, -1]
    target = torch.from_numpy(np.concatenate(uniforms)).to(chunks.device) * total
    chunk = (cumulative[row] <= target[:, None]).sum(dim=1).clamp_(max=cumulative.shape[1] - 1)
    before = torch.where(chunk > 0, cumulative[row, (chunk - 1).clamp_(min=0)], 0.0)
    own = chunks[row, chunk].double()
    inside = own.cumsum(dim=1)
    # Rounding may leave the target a hair beyond the chunk's own sum: the last token with any weight is meant then.
    target = torch.minimum(target - before, inside[:, -1] * (1 - 1e-12))
    place = (inside <= target[:, None]).sum(dim=1)
    chance = (own.gather(1, place[:, None])[:, 0] / total).log()
    drawn = iter(zip((chunk * _CHUNK + place).tolist(), chance.tolist(), strict=True))
    found = [Counter(next(drawn) for _ in range(count)) for count in counts]
    return [sorted((token, count, chance) for (token, chance), count in one.items()) for one in found]
