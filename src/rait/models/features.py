"""Where questions lie in a model's own feature space, and which lie next to each other.

    points = last_states(loaded, [question.question for question in questions], advance)     # (n, hidden)
    places, cosines = nearest(points[refused], points[taught], 5)                             # (refused, 5) each

A question's features are the last layer's hidden state at its last token (CRaFT, arXiv 2410.06913, section 3): what
the model has made of it just before it would answer. The question stands alone, without prompt or worked examples,
which would make all questions alike.
"""

import sys
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from rait.errors import InputError, NotFiniteError
from rait.models.context import context_of
from rait.models.loading import LoadedModel
from rait.models.memory import Items, halving
from rait.progress import Say, say

Features = NDArray[np.float32]

# Sizes that bound memory; they change speed, and results by rounding alone.
PASS_TOKENS = 1024  # tokens of one forward pass
_QUERIES, _KEYS = 512, 2048  # rows that are compared at a time, in float64

_DIGITS = 12
"""Cosines are rounded to so many decimals, so that equal vectors tie however their products were summed up."""


def last_states(
    loaded: LoadedModel,
    texts: Sequence[str],
    advance: Callable[[int], None],
    *,
    ids: Sequence[str] | None = None,
    say: Say = say,
) -> Features:
    """Return the hidden state of the last layer, after the final norm, at the last token of each text: (n, hidden).

    `advance` is called with the number of texts just done. Texts that begin alike share the computation; of one that is
    longer than the model's context the end is read. Raises
    `InputError` for a text without a token, `NotFiniteError`, with those of `ids` or numbers of texts, where a state is
    not finite. Where memory runs out fewer texts are read at a time, which `say` is told.
    """
    import torch

    from rait.models.tree import encode, read, tree_attention

    model = loaded.model
    limit = context_of(model) or sys.maxsize
    tokens = [encode(loaded.tokenizer, text)[-limit:] for text in texts]
    empty = [index for index, text in enumerate(tokens) if not text]
    if empty:
        raise InputError(f"{len(empty)} texts have no token (the first is number {empty[0] + 1}); remove them")
    found = np.zeros((len(texts), model.config.get_text_config().hidden_size), dtype=np.float32)

    def attempt(items: Items[list[int]], size: int) -> Iterator[tuple[int, Features]]:
        places, texts = zip(*items, strict=True)
        for batch in batches(texts, size):
            with torch.inference_mode(), tree_attention(model):
                states, rows = read(model, [texts[place] for place in batch])
                last = states[torch.stack([own[-1] for own in rows])].float()
            broken = (~torch.isfinite(last).all(dim=1)).nonzero()[:, 0].tolist()
            if broken:
                raise NotFiniteError("hidden states", [places[batch[row]] for row in broken])
            yield from zip((places[place] for place in batch), last.cpu().numpy(), strict=True)

    try:
        for index, state in halving(enumerate(tokens), PASS_TOKENS, attempt, say) if tokens else ():
            found[index] = state
            advance(1)
    except NotFiniteError as error:
        raise error.of(ids) if ids is not None else error from None
    return found


def nearest(queries: Features, keys: Features, k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the k rows of `keys` with the highest cosine to each row of `queries`, the highest first.

    Both are (rows, hidden). The first result holds indices into `keys`, the second cosines in [-1, 1], rounded to 12
    decimals; both are (queries, k), or as many columns as there are keys. Equal cosines stand in the order of `keys`. A
    vector of zeros has cosine 0 to everything. A few thousand rows are held in float64 at a time. Raises `ValueError`
    for features of different widths or that are not finite.
    """
    if queries.ndim != 2 or keys.ndim != 2 or queries.shape[1] != keys.shape[1]:
        raise ValueError(f"features must be two matrices of one width, found {queries.shape} and {keys.shape}")
    of_queries, of_keys = _squares(queries), _squares(keys)
    k = min(k, len(keys))
    places = np.zeros((len(queries), k), dtype=np.int64)
    cosines = np.zeros((len(queries), k))
    for start in range(0, len(queries), _QUERIES):
        mine = slice(start, start + _QUERIES)
        wide = queries[mine].astype(np.float64)
        best, where = np.zeros((len(wide), 0)), np.zeros((len(wide), 0), dtype=np.int64)
        for first in range(0, len(keys), _KEYS):
            theirs = slice(first, first + _KEYS)
            found = _cosines(wide @ keys[theirs].astype(np.float64).T, of_queries[mine], of_keys[theirs])
            here = np.broadcast_to(np.arange(first, first + found.shape[1]), found.shape)
            # What was kept so far stands before what comes later, so that of equal cosines the first stays.
            best, where = _highest(np.hstack([best, found]), np.hstack([where, here]), k)
        cosines[mine], places[mine] = best, where
    return places, cosines


def batches(tokens: Sequence[Sequence[int]], most: int) -> Iterator[list[int]]:
    """Yield indices of texts, in the order of their tokens so that equal beginnings meet, up to so many tokens."""
    batch: list[int] = []
    size = 0
    for index in sorted(range(len(tokens)), key=lambda index: list(tokens[index])):
        if batch and size + len(tokens[index]) > most:
            yield batch
            batch, size = [], 0
        batch.append(index)
        size += len(tokens[index])
    if batch:
        yield batch


def _squares(features: Features) -> NDArray[np.float64]:
    """Squared length of each row."""
    squares: NDArray[np.float64] = np.einsum("ij,ij->i", features, features, dtype=np.float64)
    if not np.isfinite(squares).all():
        raise ValueError("features must be finite")
    return squares


def _cosines(
    products: NDArray[np.float64], of_rows: NDArray[np.float64], of_columns: NDArray[np.float64]
) -> NDArray[np.float64]:
    # One root of the product: of equal rows it is exact.
    lengths = np.sqrt(np.multiply.outer(of_rows, of_columns))
    np.divide(products, lengths, out=products, where=lengths > 0)  # products with zeros are 0 already
    return np.clip(products.round(_DIGITS), -1, 1)


def _highest(
    cosines: NDArray[np.float64], places: NDArray[np.int64], k: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The k highest of each row, or all, in descending order; of equal ones the first."""
    rows = np.arange(len(cosines))
    columns = np.empty((len(cosines), min(k, cosines.shape[1])), dtype=np.int64)
    rest = cosines.copy()
    for place in range(columns.shape[1]):
        columns[:, place] = rest.argmax(axis=1)
        rest[rows, columns[:, place]] = -np.inf
    return cosines[rows[:, None], columns], places[rows[:, None], columns]
