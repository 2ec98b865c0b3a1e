"""Draw many short answers to many questions, as counts on the tree of their distinct token prefixes.

    for index, answers in draw(model, tokenizer, prompts, seeds, Sampling(samples=10)):
        answers.counts                          # {answer text: how many of the 10 samples}

N samples of a short answer are mostly the same few texts, and a model need not be asked twice for the same prefix. The
draw walks the tree of distinct prefixes: the tokens that all prompts share are read once, each prompt once, and at
every node the next tokens of all samples that reached it are drawn together, as one multinomial count (see
`rait.models.drawing`). The counts have exactly the distribution of N independent samples from the full softmax. The
greedy answer is one more path of the same tree, which the samples mostly walk as well.

Nothing is padded. One forward pass holds one row for each new node, whatever question it belongs to and whether it
reads a prompt or extends an answer (see `rait.models.tree`). A split costs no copy: both children point at the same
parent. Logits are taken for the rows that need them, in blocks.

Each question has a random generator of its own, so a result does not depend on which questions stood beside it, beyond
the rounding of the matrix products. With temperature 0 the most probable token is taken: greedy decoding.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rait.errors import NotFiniteError
from rait.models.answers import Answers, Path, Reader
from rait.models.drawing import Asked, Step, next_tokens
from rait.models.memory import LEAST_ROWS, Items, halving
from rait.models.tree import Head, Layer, Rows, encode, end_tokens, tree_attention
from rait.progress import Say, say

# Sizes that keep two cores busy and memory small; they change speed, not results.
GROUP_QUESTIONS = 8  # questions whose rows attend together: larger means fewer, wider attention calls
STEP_ROWS = 768  # new groups are admitted while a forward pass has fewer rows than this
WINDOW_QUESTIONS = 512  # questions sorted at a time

_Item = tuple[str, int]  # a prompt and its seed


@dataclass(frozen=True, slots=True)
class Sampling:
    """How answers are drawn. `samples` >= 1; `temperature` >= 0, 0 is greedy; `max_new_tokens` >= 1.

    With `greedy` the answer of greedy decoding is followed besides; the samples are drawn as without it. With
    `refusal`, the tokens of a refusal and of its end, its probability is told besides, and where an answer begins as
    it does, what is answered otherwise; of one greedy sample alone.
    """

    samples: int = 10
    temperature: float = 1.0
    max_new_tokens: int = 50
    greedy: bool = False
    refusal: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuse to follow a refusal where answers are drawn."""
        if self.refusal and (self.samples != 1 or self.temperature != 0 or self.greedy):
            raise ValueError("a refusal is followed beside one greedy sample alone")


def draw(
    model: Any,
    tokenizer: Any,
    prompts: Iterable[str],
    seeds: Iterable[int],
    sampling: Sampling,
    *,
    rows: int | None = None,
    say: Say = say,
) -> Iterator[tuple[int, Answers]]:
    """Yield (index of the prompt, its answers) as answers are complete, in no particular order.

    `prompts` and `seeds`, as many of each, are read as the work goes on. An answer ends at an end-of-text token, at the
    first line break after some text, or after `max_new_tokens`; texts are stripped. A forward pass has about `rows`
    rows, `STEP_ROWS` if None; where memory runs out they are halved, which `say` is told. Raises `ModelError` when the
    model's attention cannot be driven this way or memory does not suffice at all, and `NotFiniteError`, with indices of
    prompts, when its logits are not finite.
    """
    reader = Reader(tokenizer, end_tokens(model, tokenizer), sampling.max_new_tokens)
    model.eval()

    def attempt(items: Items[_Item], rows: int) -> Iterator[tuple[int, Answers]]:
        return _draw(model, tokenizer, items, sampling, reader, rows)

    items = enumerate(zip(prompts, seeds, strict=True))
    yield from halving(items, STEP_ROWS if rows is None else rows, attempt, say)


def _draw(
    model: Any, tokenizer: Any, items: Items[_Item], sampling: Sampling, reader: Reader, most: int
) -> Iterator[tuple[int, Answers]]:
    """The same with passes of up to about so many rows."""
    with tree_attention(model), torch.inference_mode():
        forest = _Forest(model)
        groups = _groups(forest, tokenizer, items, sampling, most)
        active: list[_Group] = []
        while True:
            rows = sum(len(group.pending) for group in active)
            while rows < most and (group := next(groups, None)):
                active.append(group)
                rows += len(group.pending)
            if not active:
                return
            hidden, leaves = forest.forward(active)
            asked = [leaf.asked() for leaf in leaves]
            steps = next_tokens(forest.head, hidden, asked, sampling.temperature)
            try:
                for leaf, step in zip(leaves, steps, strict=True):
                    leaf.node.group.extend(leaf, step, reader)
            except NotFiniteError as error:
                raise error.of([leaf.walk.index for leaf in leaves]) from None
            for leaf in leaves:
                leaf.node.group.settle(leaf.node)
            for group in [group for group in active if not group.pending]:
                active.remove(group)
                for walk in group.walks:
                    refusal = walk.refusal_log_probability if walk.refusal else None
                    yield walk.index, reader.answers(walk.ended, walk.kurtosis, refusal)


def _groups(
    forest: "_Forest", tokenizer: Any, items: Items[_Item], sampling: Sampling, rows: int
) -> Iterator["_Group"]:
    """Prompts and seeds as groups that are ready to be read; neighbours share the tokens of their wording."""
    together = max(1, min(GROUP_QUESTIONS, GROUP_QUESTIONS * rows // STEP_ROWS))  # smaller passes, smaller groups
    shared: list[int] = []
    prefix: list[tuple[Tensor, Tensor]] = []
    while window := list(islice(items, WINDOW_QUESTIONS)):
        tokens = [encode(tokenizer, prompt) for _, (prompt, _) in window]
        if (common := _common_prefix(tokens)) != shared:
            shared, prefix = common, forest.read_prefix(common, rows)
        order = sorted(range(len(tokens)), key=tokens.__getitem__)
        for start in range(0, len(order), together):
            group = _Group(prefix, len(shared))
            for place in order[start : start + together]:
                index, (_, seed) = window[place]
                walk = _Walk(index, np.random.default_rng(seed), sampling.refusal)
                group.add_prompt(walk, tokens[place][len(shared) :], sampling)
            yield group


@dataclass(eq=False, slots=True)
class _Walk:
    """One question on its way: where its randomness comes from, the paths that have ended and how many samples each is.

    `kurtosis` has that of the greedy answer's steps so far, `refusal_log_probability` that of the refusal's tokens.
    """

    index: int
    generator: np.random.Generator
    refusal: tuple[int, ...] = ()
    ended: list[tuple[Path, int]] = field(default_factory=list)
    kurtosis: list[float] = field(default_factory=list)
    refusal_log_probability: float = 0.0

    def next_of_refusal(self, path: Path) -> int | None:
        """The token with which the refusal goes on after `path`, if it begins so and goes on."""
        place = len(path.tokens)
        return self.refusal[place] if place < len(self.refusal) and path.tokens == self.refusal[:place] else None


@dataclass(eq=False, slots=True)
class _Node:
    """A token below a parent, whose key and value are yet to be computed.

    `waiting` are the questions that draw their next tokens here, with the number of samples: none inside a prompt,
    one, with its `path`, inside an answer.
    """

    group: "_Group"
    slot: int
    token: int
    position: int
    path: Path = field(default_factory=Path)
    waiting: list[tuple[_Walk, int]] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class _Leaf:
    """A node with a known hidden state, from which one question draws `count` next tokens.

    With none it is on the way of the refusal or, off that, of what is answered instead.
    """

    node: _Node
    walk: _Walk
    count: int

    def asked(self) -> Asked:
        """What is wanted of its next tokens."""
        path, walk = self.node.path, self.walk
        follow = walk.next_of_refusal(path)
        return Asked(walk.generator, self.count, path.greedy, follow, besides=follow is not None and not path.tokens)


class _Group:
    """A few questions whose prompts and answers form one tree below the shared prefix, and the tree's key-value cache.

    A node's key and value live in a slot. A slot of an answer is free again as soon as nothing below it is alive, so
    the cache holds live paths only.
    """

    def __init__(self, prefix: list[tuple[Tensor, Tensor]], prefix_length: int) -> None:
        self.walks: list[_Walk] = []
        self.pending: list[_Node] = []
        self.prefix_length = prefix_length
        self.capacity = 0
        self.used = 0
        self.cache = list(prefix)
        self.visible: NDArray[np.bool_] = np.zeros((0, 0), dtype=bool)
        self.position: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._free: list[int] = []
        self._parent: list[int] = []
        self._alive: list[int] = []  # children alive below a slot; a prompt's slots count one more and are never freed
        self._prompts: dict[tuple[int, int], _Node] = {}

    def add_prompt(self, walk: _Walk, tokens: Sequence[int], sampling: Sampling) -> None:
        """Hang a prompt's tokens (at least one) below the shared prefix; those an earlier prompt has are used again."""
        self.walks.append(walk)
        parent = -1
        for depth, token in enumerate(tokens):
            key = (parent, token)
            if key not in self._prompts:
                self._prompts[key] = self.grow(parent, token, self.prefix_length + depth)
                self._alive[self._prompts[key].slot] = 1
            parent = self._prompts[key].slot
        self._prompts[key].path = Path(greedy=sampling.greedy)
        self._prompts[key].waiting.append((walk, sampling.samples))

    def extend(self, leaf: _Leaf, step: Step, reader: Reader) -> None:
        """Let the samples take their tokens below `leaf`: an answer ends, or a new node waits to be computed."""
        walk, node = leaf.walk, leaf.node
        if step.kurtosis is not None:
            walk.kurtosis.append(step.kurtosis)
        following = walk.next_of_refusal(node.path)
        taken = step.tokens if leaf.count or following is None else []
        if step.other is not None and taken[0][0] == following:
            taken = [*taken, (step.other[0], 0, step.other[1])]
        followed = False
        for token, count, log_probability in taken:
            path = reader.longer(node.path, token, log_probability, greedy=token == step.greedy)
            if path.ended:
                walk.ended.append((path, count))
            else:
                self._wait(node, walk, path, count)
                followed |= token == following
        if following is not None and step.followed is not None:
            walk.refusal_log_probability += step.followed
            if not followed and len(node.path.tokens) + 1 < len(walk.refusal):
                self._wait(node, walk, reader.longer(node.path, following, step.followed), 0)

    def _wait(self, node: _Node, walk: _Walk, path: Path, count: int) -> None:
        """Let a question draw so many tokens after `path`, which is a token longer than that of `node`."""
        child = self.grow(node.slot, path.tokens[-1], node.position + 1)
        child.path = path
        child.waiting.append((walk, count))

    def settle(self, node: _Node) -> None:
        """Free the slots that nothing alive needs any more, from `node` upwards."""
        slot = node.slot
        while slot >= 0 and self._alive[slot] == 0:
            self._free.append(slot)
            self._alive[slot] = -1
            slot = self._parent[slot]
            if slot >= 0:
                self._alive[slot] -= 1

    def store(self, layer: int, slots: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write keys and values (heads, rows, dim) into their slots; return all that is in use, prefix first."""
        if len(self.cache) <= layer:  # the shared prefix itself is being read
            self.cache.append((key[:, :0], value[:, :0]))
        keys, values = self.cache[layer]
        length = self.prefix_length + self.capacity
        if keys.shape[1] < length:
            keys, values = (
                torch.cat([old, old.new_empty(old.shape[0], length - old.shape[1], old.shape[2])], dim=1)
                for old in (keys, values)
            )
            self.cache[layer] = keys, values
        keys.index_copy_(1, slots, key)
        values.index_copy_(1, slots, value)
        used = self.prefix_length + self.used
        return keys[:, :used], values[:, :used]

    def grow(self, parent: int, token: int, position: int) -> _Node:
        """A new node below the slot `parent`, -1 for the shared prefix."""
        if self._free:
            slot = self._free.pop()
        else:
            slot = self.used
            self.used += 1
            self._parent.append(-1)
            self._alive.append(0)
            if slot == self.capacity:
                self._enlarge()
        self._parent[slot] = parent
        self._alive[slot] = 0
        if parent >= 0:
            self._alive[parent] += 1
            self.visible[slot] = self.visible[parent]
        else:
            self.visible[slot] = False
        self.visible[slot, slot] = True
        self.position[slot] = position
        node = _Node(self, slot, token, position)
        self.pending.append(node)
        return node

    def _enlarge(self) -> None:
        capacity = max(64, self.capacity * 3 // 2)
        visible = np.zeros((capacity, capacity), dtype=bool)
        visible[: self.capacity, : self.capacity] = self.visible
        position = np.zeros(capacity, dtype=np.int64)
        position[: self.capacity] = self.position
        self.visible, self.position, self.capacity = visible, position, capacity


@dataclass(slots=True)
class _Part:
    """The rows of one group in a forward pass, and the slots of the group's cache that they are stored in."""

    group: _Group
    slots: Tensor
    own: Rows


class _Forest:
    """The groups under way, seen by the model as rows of one forward pass."""

    def __init__(self, model: Any) -> None:
        self.decoder = model.get_decoder()
        self.head = Head(model)
        self.device = self.head.device
        self.parts: list[_Part] = []

    def read_prefix(self, tokens: Sequence[int], rows: int) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of the shared prefix for each layer, (heads, tokens, dim) each; so many rows a pass."""
        if not tokens:
            return []
        group = _Group([], 0)
        parent = -1
        for position, token in enumerate(tokens):
            parent = group.grow(parent, token, position).slot
            if len(group.pending) == max(rows, LEAST_ROWS) or position == len(tokens) - 1:
                self.forward([group])
        return [(keys[:, : len(tokens)], values[:, : len(tokens)]) for keys, values in group.cache]

    def forward(self, groups: Sequence[_Group]) -> tuple[Tensor, list[_Leaf]]:
        """Compute every pending node of `groups`; return the leaves' hidden states (leaves, hidden) and the leaves."""
        nodes: list[_Node] = []
        self.parts = []
        for group in groups:
            start = len(nodes)
            nodes += group.pending
            self.parts.append(self._part(group, slice(start, len(nodes))))
            group.pending = []
        ids = torch.tensor([[node.token for node in nodes]], device=self.device)
        positions = torch.tensor([[node.position for node in nodes]], device=self.device)
        states = self.decoder(input_ids=ids, position_ids=positions, use_cache=False, forest=self).last_hidden_state
        found = [(row, _Leaf(node, *waiting)) for row, node in enumerate(nodes) for waiting in node.waiting]
        wanted = torch.tensor([row for row, _ in found], dtype=torch.long, device=self.device)
        return states[0].index_select(0, wanted), [leaf for _, leaf in found]

    def attend(self, layer: Layer, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attention of rows to their ancestors; query (1, heads, rows, dim) -> (1, rows, heads, dim)."""
        output = query.new_empty(*query.shape[1:3], value.shape[-1])
        for part in self.parts:
            rows = part.own.rows
            keys, values = part.group.store(layer.index, part.slots, key[0, :, rows], value[0, :, rows])
            output[:, rows] = part.own.attend(layer, query[0, :, rows], keys, values)
        return output.transpose(0, 1)[None].contiguous()

    def _part(self, group: _Group, rows: slice) -> _Part:
        slots = np.fromiter((node.slot for node in group.pending), dtype=np.int64, count=len(group.pending))
        visible = np.ones((len(slots), group.prefix_length + group.used), dtype=bool)
        visible[:, group.prefix_length :] = group.visible[slots, : group.used]
        positions = np.concatenate([np.arange(group.prefix_length), group.position[: group.used]])
        distance = group.position[slots][:, None] - positions
        own = Rows(rows, torch.from_numpy(visible).to(self.device), torch.from_numpy(distance).to(self.device))
        return _Part(group, torch.from_numpy(slots + group.prefix_length).to(self.device), own)


def _common_prefix(tokens: Sequence[list[int]]) -> list[int]:
    """The tokens that all prompts begin with, leaving each prompt at least its last token."""
    low, high = min(tokens), max(tokens)
    limit = min(len(prompt) for prompt in tokens) - 1
    length = 0
    while length < limit and low[length] == high[length]:
        length += 1
    return low[:length]
