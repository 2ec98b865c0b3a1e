"""How many rows a model will compute for prompts and texts, told from their tokens: no weights are needed.

    drawn([[2, 8, 9], [2, 8, 7]]).rows                     # what `rait.models.sampler` reads of prompts
    scored(tokenizer, ["Who?"], [(" Ann", " Bob")]).rows   # what `rait.models.scoring` reads of prompts and options
    read_rows([[2, 8, 9, 5], [2, 8, 7]])                   # what `rait.models.tree.read` reads of a training batch

A row is one token that goes through the layers. The counts follow these modules in how they put texts into windows,
groups, batches and trees, and are exact.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from rait.models.sampler import GROUP_QUESTIONS, WINDOW_QUESTIONS, _common_prefix
from rait.models.scoring import (
    PASS_ROWS,
    SPARE_ROWS,
    TREE_ROWS,
    _batches,
    _common,
    _Item,
    _shared,
    _Tree,
    continuations,
    letter_tokens,
)
from rait.models.tree import READ_ROWS, encode
from rait.tables import batched

Tokens = list[int]


def tree_rows(texts: Iterable[Sequence[int]]) -> int:
    """Distinct non-empty beginnings of the texts: the nodes of their tree."""
    return sum(len(text) - _shared(before, text) for before, text in pairwise([[], *sorted(map(list, texts))]))


@dataclass(frozen=True, slots=True)
class Read:
    """Rows that are computed, and how many of them at most are read once for all and kept below the others."""

    rows: int
    shared: int


def drawn(prompts: Iterable[Tokens]) -> Read:
    """What reading the prompts costs the sampler, in the order in which it gets them; answers come on top."""
    rows = longest = 0
    shared: Tokens = []
    for window in batched(prompts, WINDOW_QUESTIONS):
        if (common := _common_prefix(window)) != shared:
            shared = common
            rows += len(shared)
            longest = max(longest, len(shared))
        ordered = sorted(prompt[len(shared) :] for prompt in window)
        rows += sum(map(tree_rows, batched(ordered, GROUP_QUESTIONS)))
    return Read(rows, longest)


def scored(tokenizer: Any, prompts: Sequence[str], options: Sequence[Sequence[str]], *, letters: bool = False) -> Read:
    """What scoring the options of each prompt costs, by their texts or as `letters` of one token.

    Raises `ModelError` where an option has no token, or the first prompt's letters are not one each.
    """
    order = sorted(range(len(prompts)), key=prompts.__getitem__)
    items: Iterator[_Item]
    if letters:  # the last token of an option is predicted and not read: letters cost no row
        start, _ = letter_tokens(tokenizer, prompts[order[0]], options[order[0]])
        lead = start[len(encode(tokenizer, prompts[order[0]])) :]
        items = (_Item(index, encode(tokenizer, prompts[index]) + lead, [[0]]) for index in order)
    else:
        ids = ((index, encode(tokenizer, prompts[index])) for index in order)
        items = (_Item(i, own, continuations(tokenizer, prompts[i], own, options[i])) for i, own in ids)
    rows = longest = 0
    spine: Tokens = []
    for batch in _batches(items, PASS_ROWS):
        common = batch[0].prompt[: _common(batch)]
        kept = _shared(spine, common)
        if len(common) - kept >= SPARE_ROWS:
            rows += len(common) - kept
            kept = len(common)
        spine = common[:kept]
        longest = max(longest, kept)
        trees = [_Tree(kept)]
        for item in batch:
            if len(trees[-1].tokens) >= TREE_ROWS:
                trees.append(_Tree(kept))
            end = trees[-1].add(-1, item.prompt[kept:])[-1]
            for continuation in item.continuations:
                trees[-1].add(end, continuation[:-1])
        rows += sum(len(tree.tokens) for tree in trees)
    return Read(rows, longest)


def read_rows(texts: Iterable[Tokens], *, share: bool = True) -> int:
    """Rows of one forward pass over whole texts; without `share` every text keeps rows of its own."""
    rows = size = 0
    before: Tokens = []
    for text in sorted(texts):
        if size and size + len(text) > READ_ROWS:
            size, before = 0, []
        new = len(text) - (_shared(before, text) if share else 0)
        rows, size, before = rows + new, size + new, text
    return rows
