"""Attention along a tree of tokens: texts that begin alike are computed once, and nothing is padded.

    with tree_attention(model), torch.inference_mode():
        states, rows = read(model, token_sequences)

One forward pass holds one row for each distinct prefix, whatever text it belongs to, and the attention function below
lets a row see its ancestors alone. `read` serves training (gradients flow through it) and scoring;
`rait.models.sampler` grows such trees token by token. It works where every layer attends and its attention can be
replaced by name; `check_tree` tells the models that cannot be read so.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from rait.errors import ModelError

ATTENTION = "rait_tree"
# Sizes that keep two cores busy and memory small; they change speed, not results.
READ_ROWS = 1024  # texts are read in trees of about this many rows
_PROJECTED_BYTES = 128 << 20  # logits in the model's precision that one product gives
_BLOCK_BYTES = 8 << 20  # float32 logits that a processor works on at once: they should fit its cache


@dataclass(frozen=True, slots=True)
class Layer:
    """One attention layer of the model: its index, the scale of its scores, its window and soft cap if it has them."""

    index: int
    scaling: float | None
    window: int | None
    softcap: float | None


class Forest(Protocol):
    """What the model's attention layers are handed: it knows which rows see which."""

    def attend(self, layer: Layer, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attention of rows to their ancestors; query (1, heads, rows, dim) -> (1, rows, heads, dim)."""
        ...


@contextmanager
def tree_attention(model: Any) -> Iterator[None]:
    """Let the model's layers attend along trees inside the block, and give back its own attention afterwards."""
    from transformers import AttentionInterface, AttentionMaskInterface

    def attend(
        module: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        scaling: float | None = None,
        sliding_window: int | None = None,
        softcap: float | None = None,
        *,
        forest: Forest,
        **_: Any,
    ) -> tuple[Tensor, None]:
        return forest.attend(Layer(module.layer_idx, scaling, sliding_window, softcap), query, key, value), None

    no_mask: Callable[..., None] = lambda *_, **__: None  # noqa: E731  the forest masks by itself
    AttentionInterface.register(ATTENTION, attend)
    AttentionMaskInterface.register(ATTENTION, no_mask)
    own = model.config._attn_implementation
    try:
        model.set_attn_implementation(ATTENTION)
        yield
    except ValueError as error:
        if ATTENTION not in str(error):
            raise
        name = type(model).__name__
        raise ModelError(f"{name} does not let its attention be replaced, so it cannot be sampled here") from error
    finally:
        model.set_attn_implementation(own)


def read(model: Any, texts: Sequence[Sequence[int]], *, share: bool = True) -> tuple[Tensor, list[Tensor]]:
    """Hidden states of the last layer for token sequences: (rows, hidden), and for each text the rows of its tokens.

    Tokens that begin several texts alike are computed once, and their gradient is the sum over these texts. Without
    `share` each text keeps rows of its own. To be called inside `tree_attention(model)`.
    """
    order = sorted(range(len(texts)), key=lambda index: list(texts[index]))
    rows: list[list[int]] = [[] for _ in texts]
    tokens: list[int] = []
    positions: list[int] = []
    blocks: list[_Block] = []
    block = _Block(0)
    for index in order:
        if block.size and block.size + len(texts[index]) > READ_ROWS:
            blocks.append(block)
            block = _Block(len(tokens))
        for position, row in enumerate(block.add(texts[index], share)):
            rows[index].append(block.start + row)
            if block.start + row == len(tokens):
                tokens.append(texts[index][position])
                positions.append(position)
    blocks.append(block)
    decoder = model.get_decoder()
    device = model.get_output_embeddings().weight.device
    states = decoder(
        input_ids=torch.tensor([tokens], device=device),
        position_ids=torch.tensor([positions], device=device),
        use_cache=False,
        forest=_Reading([block.part(np.asarray(positions), device) for block in blocks]),
    ).last_hidden_state[0]
    return states, [torch.tensor(own, device=device) for own in rows]


class Head:
    """A model's projection of hidden states onto its vocabulary, in float32."""

    def __init__(self, model: Any) -> None:
        self.layer = model.get_output_embeddings()
        self.device: torch.device = self.layer.weight.device
        self.vocabulary: int = self.layer.weight.shape[0]
        text = model.config.get_text_config()
        self.softcap: float | None = getattr(text, "final_logit_softcapping", None)
        self._rooms: dict[str, Tensor] = {}
        self.scale: float = getattr(text, "logit_scale", None) or 1.0 / (getattr(text, "logits_scaling", None) or 1.0)

    def __call__(self, hidden: Tensor) -> Tensor:
        """Logits (rows, vocabulary) of contiguous hidden states (rows, hidden).

        Two dimensions on purpose: a slice of three would become a batched product that copies the vocabulary matrix
        once per row.
        """
        return self._finish(self.layer(hidden).float())

    def blocks(self, hidden: Tensor) -> Iterator[Tensor]:
        """Logits of `hidden` (rows, hidden) a few rows at a time, in order; each block is overwritten by the next.

        The vocabulary matrix is read once for many rows, and no memory is asked for anew: a block of this size would
        be given back to the system and cleared by it every time, which costs as much as a fifth of the product.
        """
        size = self.layer.weight.element_size()
        step = min(len(hidden), max(1, _PROJECTED_BYTES // (size * self.vocabulary)))
        few = step if self.device.type != "cpu" else min(step, max(1, _BLOCK_BYTES // (4 * self.vocabulary)))
        exact = self._room("exact", few, torch.float32)
        for start in range(0, len(hidden), step):
            logits = self._project(hidden[start : start + step])
            for some in torch.split(logits, few):
                yield self._finish(exact[: len(some)].copy_(some))

    def _project(self, hidden: Tensor) -> Tensor:
        """Logits in the model's own precision, in memory that is used again."""
        layer = self.layer
        if type(layer) is not torch.nn.Linear or layer.bias is not None or hidden.dtype != layer.weight.dtype:
            return cast(Tensor, layer(hidden))
        out = self._room("projected", len(hidden), hidden.dtype)
        return torch.mm(hidden, layer.weight.t(), out=out)

    def _room(self, name: str, rows: int, dtype: torch.dtype) -> Tensor:
        room = self._rooms.get(name)
        if room is None or len(room) < rows:
            room = self._rooms[name] = torch.empty(rows, self.vocabulary, dtype=dtype, device=self.device)
        return room[:rows]

    def _finish(self, logits: Tensor) -> Tensor:
        if self.scale != 1.0:
            logits = logits * self.scale
        if self.softcap is not None:
            logits = torch.tanh(logits / self.softcap) * self.softcap
        return logits


def logits_of(head: Head, hidden: Tensor, tokens: Sequence[int]) -> Tensor:
    """Float32 logits (rows, tokens) of a few tokens of the vocabulary after hidden states (rows, hidden)."""
    layer = head.layer
    if type(layer) is not torch.nn.Linear:  # adapters and quantised layers do more than one product
        return head(hidden)[:, tokens]
    weight = layer.weight[tokens].float()
    bias = None if layer.bias is None else layer.bias[tokens].float()
    few = copy.copy(head)  # it scales and caps as the whole head does
    few.layer = lambda states: functional.linear(states.float(), weight, bias)
    return few(hidden)


def log_likelihoods(head: Head, states: Tensor, rows: Sequence[int], tokens: Sequence[int]) -> Tensor:
    """Log-probability (n,), in nats, of each of `tokens` (n) after the state of its row; a row is projected once."""
    distinct, place = np.unique(rows, return_inverse=True)
    hidden = states.index_select(0, torch.from_numpy(distinct).to(states.device))
    wanted = torch.tensor(tokens, device=states.device)
    result = torch.empty(len(tokens), device=states.device)
    start = 0
    for logits in head.blocks(hidden):
        (found,) = np.nonzero((place >= start) & (place < start + len(logits)))
        here, row = (torch.from_numpy(numbers).to(states.device) for numbers in (found, place[found] - start))
        peak = logits.amax(dim=1, keepdim=True)
        chosen = logits[row, wanted[here]] - peak[row, 0]
        result[here] = chosen - logits.sub_(peak).exp_().sum(dim=1).log_()[row]
        start += len(logits)
    return result


def encode(tokenizer: Any, prompt: str) -> list[int]:
    """Token ids of a rendered prompt, with exactly one beginning-of-text token where the tokenizer has one."""
    bos = tokenizer.bos_token
    has_bos = bool(bos) and prompt.startswith(bos)
    ids: list[int] = tokenizer(prompt, add_special_tokens=not has_bos)["input_ids"]
    eos = tokenizer.eos_token_id
    if not has_bos and eos is not None and len(ids) > 1 and ids[-1] == eos:
        ids = ids[:-1]  # some tokenizers close a text; a prompt is to be continued
    return ids


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Ids of the tokens that end an answer: end of text, and a chat model's end of turn."""
    ends = model.generation_config.eos_token_id
    ends = [ends] if isinstance(ends, int) else list(ends or [])
    return frozenset([*ends, *([tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else [])])


def check_tree(model: Any) -> None:
    """Raise `ModelError` unless the model gives the same logits along a tree as on its own.

    Not every architecture can be driven this way: some keep a state instead of attending, place positions in the
    scores, or scale their logits in ways of their own, and would answer nonsense without an error.
    """
    texts = [[5, 6, 7, 8], [5, 6, 9]]
    with torch.inference_mode():
        ids = [torch.tensor([text], device=model.device) for text in texts]
        expected = torch.stack([model(one, use_cache=False).logits[0, -1].float() for one in ids])
        with tree_attention(model):
            states, rows = read(model, texts)
        found = Head(model)(states[torch.stack([own[-1] for own in rows])])
    allowed = (1e-3 if model.dtype == torch.float32 else 0.1) * max(1.0, float(expected.abs().max()))
    if not float((found - expected).abs().max()) <= allowed:
        raise ModelError(
            f"{type(model).__name__} cannot be read along a tree of prefixes: its logits come out different; "
            "use a model whose layers all attend, such as Llama, Qwen, Mistral, Gemma, GPT-2 or OPT"
        )


@dataclass(slots=True)
class Rows:
    """Rows of a forward pass that attend together, and what each may see."""

    rows: slice
    visible: Tensor  # (rows, keys), bool
    distance: Tensor  # (rows, keys), tokens between a row and what it sees
    masks: dict[tuple[int | None, int], Tensor] = field(default_factory=dict)

    def attend(self, layer: Layer, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attention of query (heads, rows, dim) to keys and values (key heads, keys, dim): (heads, rows, dim)."""
        heads, width, dim = query.shape
        repeat = heads // keys.shape[0]
        # Heads that share a key head become more rows of it: no key is repeated in memory.
        queries = query.reshape(1, keys.shape[0], repeat * width, dim)
        mask = self._mask(layer.window, repeat, query.dtype)
        if layer.softcap is None:
            result = functional.scaled_dot_product_attention(
                queries, keys[None], values[None], attn_mask=mask[None, None], scale=layer.scaling
            )
        else:
            scores = queries @ keys[None].transpose(2, 3) * (dim**-0.5 if layer.scaling is None else layer.scaling)
            scores = torch.tanh(scores / layer.softcap) * layer.softcap + mask
            result = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype) @ values[None]
        return result.view(heads, width, -1)

    def _mask(self, window: int | None, repeat: int, dtype: torch.dtype) -> Tensor:
        """Additive mask (repeat x rows, keys), made once a forward pass for each kind of layer."""
        if (window, repeat) not in self.masks:
            allowed = self.visible if window is None else self.visible & (self.distance < window)
            mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
            self.masks[window, repeat] = mask.masked_fill_(~allowed, float("-inf")).repeat(repeat, 1)
        return self.masks[window, repeat]


class _Block:
    """A tree of whole texts, all of whose rows are computed in one pass."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.ancestors: list[list[int]] = []
        self._child: dict[tuple[int, int], int] = {}

    @property
    def size(self) -> int:
        return len(self.ancestors)

    def add(self, text: Sequence[int], share: bool) -> list[int]:
        """Rows of the text's tokens; those that an earlier text has are used again."""
        path: list[int] = []
        parent = -1
        for token in text:
            row = self._child.get((parent, token)) if share else None
            if row is None:
                row = len(self.ancestors)
                self.ancestors.append([*path, row])
                self._child[parent, token] = row
            path.append(row)
            parent = row
        return path

    def part(self, positions: NDArray[np.int64], device: torch.device) -> "Rows":
        visible = np.zeros((self.size, self.size), dtype=bool)
        for row, seen in enumerate(self.ancestors):
            visible[row, seen] = True
        rows = slice(self.start, self.start + self.size)
        distance = positions[rows][:, None] - positions[rows]
        return Rows(rows, torch.from_numpy(visible).to(device), torch.from_numpy(distance).to(device))


@dataclass(slots=True)
class _Reading:
    """The attention of `read`: each block's rows are the keys as well."""

    blocks: list[Rows]

    def attend(self, layer: Layer, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attention of rows to their ancestors; query (1, heads, rows, dim) -> (1, rows, heads, dim)."""
        results = [
            block.attend(layer, query[0, :, block.rows], key[0, :, block.rows], value[0, :, block.rows])
            for block in self.blocks
        ]
        return torch.cat(results, dim=1).transpose(0, 1)[None].contiguous()
