"""Score the options of multiple-choice questions, by their letters or by their texts.

    for index, probabilities in score_letters(model, tokenizer, prompts, [(" A", " B", " C")] * len(prompts)):
        ...                                                          # P(letter), renormalised over the options
    for index, scores in score_texts(model, tokenizer, prompts, [(" Rome", " Paris"), (" 1912", " 1915")]):
        ...                                                          # scores.probabilities, scores.log_likelihoods

The prompt is already rendered. An option is given as it stands after the prompt, the way the worked examples show it:
" A" after "Answer:", "A" after a chat template's assistant turn. Its tokens are those that tuning teaches
(`rait.tuning.sft`): what follows the prompt's own tokens when both are tokenised together, or the option's tokens alone
where the two would join at the seam.

Letters are the scoring of CRaFT (arXiv 2410.06913v2, section 3.1). Texts are for models too small to bind a letter to
its option; the score is the log-likelihood divided by the number of tokens.

Prompts are taken in the order of their texts, so that those which begin alike stand together. What they share, worked
examples above all, is read once and its keys and values are kept: the spine. Below it hang the questions as trees of
distinct prefixes (`rait.models.tree`), options sharing their question. Nothing is padded, a forward pass has a bounded
number of rows, and memory does not grow with the number of questions.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import exp, fsum
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from rait.errors import ModelError, NotFiniteError
from rait.models.memory import Items, halving
from rait.models.tree import Head, Layer, Rows, encode, log_likelihoods, logits_of, tree_attention
from rait.progress import Say, say

# Sizes that keep a machine busy and memory small; they change speed, not results.
PASS_ROWS = 1024  # rows of one forward pass
TREE_ROWS = 192  # a tree of at least this many rows attends by itself: larger means fewer calls that hide more
SPARE_ROWS = 64  # tokens in common that are cheaper to read again than to spend a forward pass of their own on

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class TextScores:
    """How likely each option's text is after the prompt: summed over its tokens, in nats, and the number of tokens."""

    log_likelihoods: tuple[float, ...]
    tokens: tuple[int, ...]

    @property
    def normalised(self) -> tuple[float, ...]:
        """Mean log-likelihood of a token for each option, in nats, at most 0."""
        return tuple(total / count for total, count in zip(self.log_likelihoods, self.tokens, strict=True))

    @property
    def probabilities(self) -> tuple[float, ...]:
        """Softmax of the normalised scores: in [0, 1], they add up to 1."""
        return _softmax(self.normalised)


def score_letters(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    options: Sequence[Sequence[str]],
    *,
    rows: int | None = None,
    say: Say = say,
) -> Iterator[tuple[int, tuple[float, ...]]]:
    """Yield (index of the prompt, probability of each of its option letters), in no particular order.

    The probabilities are the softmax over the option letters' logits alone, so they add up to 1. `options[i]` are the
    letters or other labels of prompt i; see `letter_tokens` for how they become tokens, and for the `ModelError` raised
    where they are not one token each. A forward pass has about `rows` rows, `PASS_ROWS` if None, halved where memory
    runs out, which `say` is told. Raises `NotFiniteError`, with indices of prompts, where logits are not finite.
    """
    head = Head(model)

    def item(index: int) -> _Item:
        prompt, letters = letter_tokens(tokenizer, prompts[index], options[index])
        return _Item(index, prompt, [[letter] for letter in letters])

    def finish(items: Sequence[_Item], states: Tensor, rows: Sequence[list[list[int]]]) -> list[tuple[float, ...]]:
        tokens = sorted({token for item in items for (token,) in item.continuations})
        last = torch.tensor([own[0][0] for own in rows], device=states.device)
        found = logits_of(head, states.index_select(0, last), tokens)
        _check_finite(found, [item.index for item in items])
        logits = found.tolist()
        column = {token: number for number, token in enumerate(tokens)}
        return [
            _softmax([row[column[token]] for (token,) in item.continuations])
            for item, row in zip(items, logits, strict=True)
        ]

    items = map(item, sorted(range(len(prompts)), key=prompts.__getitem__))
    return _score(model, items, finish, PASS_ROWS if rows is None else rows, say)


def score_texts(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    options: Sequence[Sequence[str]],
    *,
    rows: int | None = None,
    say: Say = say,
) -> Iterator[tuple[int, TextScores]]:
    """Yield (index of the prompt, `TextScores` of its options), in no particular order.

    The length that scores are normalised by is the number of the option's tokens; an end-of-text token is not among
    them. Raises `ModelError` where an option has no token. `rows`, `say` and `NotFiniteError` as for letters.
    """
    head = Head(model)

    def item(index: int) -> _Item:
        prompt = encode(tokenizer, prompts[index])
        return _Item(index, prompt, continuations(tokenizer, prompts[index], prompt, options[index]))

    def finish(items: Sequence[_Item], states: Tensor, rows: Sequence[list[list[int]]]) -> list[TextScores]:
        before = [row for own in rows for path in own for row in path]
        tokens = [token for item in items for continuation in item.continuations for token in continuation]
        values = log_likelihoods(head, states, before, tokens)
        _check_finite(values, [item.index for item in items for path in item.continuations for _ in path])
        found = iter(values.tolist())
        return [
            TextScores(
                tuple(fsum(next(found) for _ in continuation) for continuation in item.continuations),
                tuple(map(len, item.continuations)),
            )
            for item in items
        ]

    items = map(item, sorted(range(len(prompts)), key=prompts.__getitem__))
    return _score(model, items, finish, PASS_ROWS if rows is None else rows, say)


def letter_tokens(tokenizer: Any, prompt: str, letters: Sequence[str]) -> tuple[list[int], list[int]]:
    """Token ids after which the letter comes, and the token of each letter.

    The letters are tried as given, the form of the worked examples, then with a leading space if they have none, or
    without it if they have one. Tokens that all letters of a form begin with, such as the bare space before a digit,
    are read as part of the prompt: this does not change the renormalised probabilities. Raises `ModelError` where in
    neither form each letter is then one token of its own.
    """
    ids = encode(tokenizer, prompt)
    problem = ""
    for form in (letters, [letter[1:] if letter.startswith(" ") else f" {letter}" for letter in letters]):
        found = continuations(tokenizer, prompt, ids, form)
        lead = min(_shared(found[0], other[:-1]) for other in found)
        tokens = [tuple(continuation[lead:]) for continuation in found]
        long = [number for number, own in enumerate(tokens) if len(own) != 1 or own[0] == tokenizer.unk_token_id]
        twice = [number for number, own in enumerate(tokens) if own in tokens[:number]]
        if not long and not twice:
            return ids + found[0][:lead], [token for (token,) in tokens]
        blame = letters[(long or twice)[0]].strip()
        fault = "is not one token" if long else "is the same token as another letter"
        problem = problem or f"the option letter {blame!r} {fault} for this model after {prompt[-20:]!r}"
    raise ModelError(f"{problem}; compare texts instead (prompt.choice=text)")


@dataclass(slots=True)
class _Item:
    """A prompt's tokens, the tokens of each continuation to score, and how many tokens it shares with its neighbour.

    `share` counts those that the item before begins with too; the last token of a prompt never counts, as its state is
    asked for.
    """

    index: int
    prompt: list[int]
    continuations: list[list[int]]
    share: int = 0

    @property
    def size(self) -> int:
        """Rows to compute when nothing is shared: the last token of a continuation is predicted, not read."""
        return len(self.prompt) + sum(len(continuation) - 1 for continuation in self.continuations)


def _score(
    model: Any,
    items: Iterable[_Item],
    finish: Callable[[Sequence[_Item], Tensor, Sequence[list[list[int]]]], list[Result]],
    rows: int,
    say: Say,
) -> Iterator[tuple[int, Result]]:
    """Read the items batch by batch, and yield what `finish` makes of their states."""
    model.eval()

    def attempt(numbered: Items[_Item], rows: int) -> Iterator[tuple[int, Result]]:
        spine = _Spine(model, rows)
        for batch in _batches((item for _, item in numbered), rows):
            # Around a batch, not around the loop: between two results the model and torch are as the caller left them.
            with tree_attention(model), torch.inference_mode():
                results = finish(batch, *spine.read(batch))
            yield from zip((item.index for item in batch), results, strict=True)

    return halving(((item.index, item) for item in items), rows, attempt, say)


def _batches(items: Iterable[_Item], rows: int) -> Iterator[list[_Item]]:
    """Neighbours that are read in one forward pass of about so many rows, what they all share aside."""
    batch: list[_Item] = []
    before: list[int] = []
    for item in items:
        item.share = _shared(before, item.prompt[:-1])
        before = item.prompt[:-1]
        while batch and _rows([*batch, item]) > rows:
            cut = _cut(batch, item)
            yield batch[:cut]
            batch = batch[cut:]
        batch.append(item)
    if batch:
        yield batch


def _rows(batch: Sequence[_Item]) -> int:
    """Rows to read for a batch, what all its prompts begin with aside."""
    return sum(item.size - item.share for item in batch) + batch[0].share - _common(batch)


def _common(batch: Sequence[_Item]) -> int:
    """How many tokens all prompts of a batch begin with."""
    return min((item.share for item in batch[1:]), default=len(batch[0].prompt) - 1)


def _cut(batch: Sequence[_Item], following: _Item) -> int:
    """How many items of a full batch to read now.

    Where the next item goes on with worked examples that only the end of the batch has, that end waits for it: read
    here, they would be read again.
    """
    common = _common(batch)
    if following.share - common <= SPARE_ROWS:
        return len(batch)
    return max(number for number in range(1, len(batch)) if batch[number].share == common)


class _Tree:
    """A tree of tokens below the spine: one row for each distinct prefix."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.tokens: list[int] = []
        self.positions: list[int] = []
        self._parents: list[int] = []
        self._child: dict[tuple[int, int], int] = {}

    def add(self, parent: int, tokens: Sequence[int]) -> list[int]:
        """Rows of `tokens` below the row `parent`, -1 for the spine; those that are there are used again."""
        path: list[int] = []
        for token in tokens:
            row = self._child.setdefault((parent, token), len(self.tokens))
            if row == len(self.tokens):
                self.tokens.append(token)
                self.positions.append(self.positions[parent] + 1 if parent >= 0 else self.depth)
                self._parents.append(parent)
            path.append(row)
            parent = row
        return path

    def attention(self, start: int, device: torch.device) -> Rows:
        """What the rows see: keys are the spine's tokens, then the tree's own rows, which begin at row `start`."""
        size = len(self.tokens)
        visible = np.zeros((size, self.depth + size), dtype=bool)
        visible[:, : self.depth] = True
        for row, parent in enumerate(self._parents):
            if parent >= 0:
                visible[row] = visible[parent]
            visible[row, self.depth + row] = True
        positions = np.array([*range(self.depth), *self.positions], dtype=np.int32)
        distance = positions[self.depth :, None] - positions
        rows = slice(start, start + size)
        return Rows(rows, torch.from_numpy(visible).to(device), torch.from_numpy(distance).to(device))


class _Spine:
    """The tokens that prompts under way begin with, the keys and values of each layer, and the trees below them."""

    def __init__(self, model: Any, rows: int) -> None:
        self._rows = rows
        self._decoder = model.get_decoder()
        self._device: torch.device = model.get_input_embeddings().weight.device
        self._tokens: list[int] = []
        self._cache: dict[int, tuple[Tensor, Tensor]] = {}  # layer -> keys, values: (key heads, tokens, dim) each
        self._growing = False
        self._parts: dict[int, list[Rows]] = {}  # how many tokens of the spine are left out -> what the trees see

    def read(self, batch: Sequence[_Item]) -> tuple[Tensor, list[list[list[int]]]]:
        """States (rows, hidden), and for each item and continuation the rows that its tokens are predicted from."""
        self._move(batch[0].prompt[: _common(batch)])
        trees: list[_Tree] = []
        rows: list[list[list[int]]] = []
        start = 0
        for item in batch:
            if not trees or len(trees[-1].tokens) >= TREE_ROWS:
                start += len(trees[-1].tokens) if trees else 0
                trees.append(_Tree(len(self._tokens)))
            end = trees[-1].add(-1, item.prompt[len(self._tokens) :])[-1]
            paths = [[end, *trees[-1].add(end, continuation[:-1])] for continuation in item.continuations]
            rows.append([[start + row for row in path] for path in paths])
        return self._forward(trees), rows

    def attend(self, layer: Layer, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attention of rows to the spine and their ancestors; query (1, heads, rows, dim) -> (1, rows, heads, dim)."""
        query, key, value = query[0], key[0], value[0]
        keys, values = self._cache.get(layer.index, (key[:, :0], value[:, :0]))
        # What lies before a layer's window for every row is left out.
        skip = max(0, len(self._tokens) + 1 - layer.window) if layer.window is not None else 0
        if skip not in self._parts:
            self._parts[skip] = [
                Rows(part.rows, part.visible[:, skip:], part.distance[:, skip:]) for part in self._parts[0]
            ]
        results = [
            part.attend(
                layer,
                query[:, part.rows],
                torch.cat([keys[:, skip:], key[:, part.rows]], dim=1),
                torch.cat([values[:, skip:], value[:, part.rows]], dim=1),
            )
            for part in self._parts[skip]
        ]
        if self._growing:
            self._cache[layer.index] = torch.cat([keys, key], dim=1), torch.cat([values, value], dim=1)
        return torch.cat(results, dim=1).transpose(0, 1)[None].contiguous()

    def _move(self, tokens: Sequence[int]) -> None:
        """Keep what the spine has of `tokens`, and read on to their end where that is worth a forward pass."""
        kept = _shared(self._tokens, tokens)
        self._tokens = self._tokens[:kept]
        self._cache = {layer: (keys[:, :kept], values[:, :kept]) for layer, (keys, values) in self._cache.items()}
        if len(tokens) - kept < SPARE_ROWS:
            return
        self._growing = True
        for start in range(kept, len(tokens), self._rows):
            tree = _Tree(start)
            tree.add(-1, tokens[start : start + self._rows])
            self._forward([tree])
            self._tokens += tree.tokens
        self._growing = False

    def _forward(self, trees: Sequence[_Tree]) -> Tensor:
        """States (rows, hidden) of the trees' tokens."""
        tokens: list[int] = []
        positions: list[int] = []
        self._parts = {0: []}
        for tree in trees:
            self._parts[0].append(tree.attention(len(tokens), self._device))
            tokens += tree.tokens
            positions += tree.positions
        states: Tensor = self._decoder(
            input_ids=torch.tensor([tokens], device=self._device),
            position_ids=torch.tensor([positions], device=self._device),
            use_cache=False,
            forest=self,
        ).last_hidden_state[0]
        return states


def _check_finite(values: Tensor, indices: Sequence[int]) -> None:
    """Raise `NotFiniteError` with those of `indices`, one a row of `values`, whose row is not finite."""
    broken = (~torch.isfinite(values.reshape(len(indices), -1)).all(dim=1)).nonzero()[:, 0].tolist()
    if broken:
        raise NotFiniteError("logits", sorted({indices[row] for row in broken}))


def continuations(tokenizer: Any, prompt: str, ids: Sequence[int], options: Sequence[str]) -> list[list[int]]:
    """Token ids of each option after the prompt, whose own are `ids`; raises `ModelError` for one without a token."""
    found = []
    for option in options:
        whole = encode(tokenizer, prompt + option)
        if len(whole) > len(ids) and whole[: len(ids)] == ids:
            found.append(whole[len(ids) :])
        else:  # the option joins to other tokens at the seam; the model is asked with the prompt's own
            found.append(tokenizer(option, add_special_tokens=False)["input_ids"])
        if not found[-1]:
            raise ModelError(f"the option {option!r} after {prompt[-20:]!r} has no token; give it a text")
    return found


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (left, right) in pairs if left != right), min(len(one), len(other)))


def _softmax(scores: Sequence[float]) -> tuple[float, ...]:
    peak = max(scores)
    weights = [exp(score - peak) for score in scores]
    total = fsum(weights)
    return tuple(weight / total for weight in weights)
