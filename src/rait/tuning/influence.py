"""How the refusal of one question would move the model's other answers, from gradients (GRAIT, arXiv 2502.05911).

    loaded = load(model, adapter="run/rehearsal/adapter")
    found = influences(loaded, refusals_of_unknown_questions, refusals_of_known_questions, Path("shards"))

g(x) is the gradient of the cross-entropy of x's refusal and of the end after it, with respect to all LoRA weights,
scaled to unit length. R(x) is the mean of <g(x), g(x')> over the unknown questions x', x itself included; O(x) is the
mean of <g(x), g(x'')> over the known questions x''.

The source preconditions gradients as Adam does and projects them to 8192 dimensions. Here they are plain and whole, and
none is stored: as R(x) = <g(x), mean of g>, a first pass adds up unit gradients and a second one takes inner products
with their means. The gradient of a linear map y = W z is the sum of dy z^T over rows, so those of many texts come from
one backward pass, as long as no two texts share a row.

The model computes in its own precision, and everything is summed in float32. Of Gemma 3 270M in bfloat16, R and O came
out within 0.016 of those in float32, in nearly the same order.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from rait.errors import TrainingError, some
from rait.models.loading import LoadedModel
from rait.models.memory import is_out_of_memory
from rait.models.tree import end_tokens, read, tree_attention
from rait.progress import Advance, Say, say
from rait.records import Example, Influence
from rait.shards import in_shards, keep, last_whole
from rait.tuning.loss import answer_loss
from rait.tuning.sft import _tokenise
from rait.tuning.trainer import IGNORED

BATCH_ROWS = 512  # rows of a forward pass, about; it changes speed and memory, not results

Gradient = dict[str, Tensor]  # of the weights of each LoRA map, by name, (outputs, inputs)
Flow = tuple[str, Tensor, Tensor]  # map, what it read (rows, inputs), d loss / d output (rows, outputs)


@dataclass(frozen=True, slots=True)
class _Text:
    """A refusal as tokens; `answer` is the end of `tokens`."""

    id: str
    tokens: list[int]
    answer: list[int]


def influences(
    loaded: LoadedModel,
    idk: Sequence[Example],
    known: Sequence[Example],
    folder: Path,
    *,
    shard: int = 512,
    advance: Advance = lambda _: None,
    say: Say = say,
) -> list[Influence]:
    """R and O of every unknown question, in the order of `idk`.

    `idk` and `known` are refusals of unknown and of known questions. Gradients are taken at the LoRA adapter that
    `loaded` has; the model is left as it was. `advance` gets the questions just done, 2 * len(idk) + len(known) in all.
    What `shard` questions came to is saved in `folder`, and taken from there, see `rait.shards`; what it depends on has
    to stand in the folder's name, and the caller removes it when all is safe elsewhere.

    Raises `TrainingError` where the model has no LoRA adapter, or one whose gradients cannot be told apart by question;
    where there is no known question; where a gradient is zero or not finite; and where memory does not suffice.
    """
    if not idk:
        return []
    if not known:
        raise TrainingError("there is no known question to measure the influence of refusals on; give at least one")
    ends = end_tokens(loaded.model, loaded.tokenizer)
    idk_texts, known_texts = ([_text(loaded.tokenizer, one, ends) for one in part] for part in (idk, known))
    with _recording(loaded.model) as tape, tree_attention(loaded.model), _in_memory():
        means = [
            _mean_gradient(tape, texts, folder / part, shard, advance, say)
            for part, texts in (("unknown", idk_texts), ("known", known_texts))
        ]

        def measured(texts: Iterator[_Text]) -> Iterator[Influence]:
            return _influences(tape, list(texts), means, advance)

        count = len(idk_texts)
        return list(in_shards(folder, idk_texts, count, shard, Influence, measured, say=say, skip=advance))


@dataclass(frozen=True, slots=True)
class _Tape:
    """A model whose LoRA maps note what they read and what they give: (1, rows, ...) each."""

    network: Any
    calls: list[Flow] = field(default_factory=list)

    def flows(self, texts: Sequence[_Text]) -> list[Flow]:
        """What flows through every LoRA map for each text's loss; every text has rows of its own, text after text.

        The texts are in order of their tokens, as `_batches` gives them.
        """
        self.calls.clear()
        states, rows = read(self.network, [text.tokens for text in texts], share=False)
        before = torch.cat([own[-len(text.answer) - 1 : -1] for own, text in zip(rows, texts, strict=True)])
        targets = torch.tensor([token for text in texts for token in text.answer], device=states.device)
        loss = answer_loss(self.network, states.index_select(0, before), targets)
        calls = list(self.calls)
        self.calls.clear()
        maps = {name for name, _, _ in calls}
        if len(maps) < len(calls) or any(z.numel() != len(states) * z.shape[-1] for _, z, _ in calls):
            raise TrainingError(
                "the adapter has layers that do not read every token once, so gradients cannot be told apart by "
                "question; leave the vocabulary layer and experts out of rehearsal.tuning.lora_targets"
            )
        slopes = torch.autograd.grad(loss, [given for _, _, given in calls])
        return [(name, z.flatten(0, -2), dy.flatten(0, -2)) for (name, z, _), dy in zip(calls, slopes, strict=True)]


@contextmanager
def _recording(network: Any) -> Iterator[_Tape]:
    """Let gradients flow through the LoRA maps, and record them, inside the block."""
    lora = [name for name, _ in network.named_parameters() if ".lora_" in name]
    maps = {
        name: module for name, module in network.named_modules() if ".lora_" in name and isinstance(module, nn.Linear)
    }
    if not lora:
        raise TrainingError(
            "influences are gradients of LoRA weights, and the rehearsed model has none; "
            "set rehearsal.tuning.method=lora"
        )
    for name in lora:
        if name.removesuffix(".weight") not in maps:
            raise TrainingError(f"influences are gradients of the LoRA maps of linear layers; the adapter has {name}")
    tape = _Tape(network)

    def note(name: str, linear: nn.Linear, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        tape.calls.append((name, inputs[0].detach(), output))

    learned = [linear.weight.requires_grad for linear in maps.values()]
    hooks = [linear.register_forward_hook(partial(note, name)) for name, linear in maps.items()]
    try:
        for linear in maps.values():
            linear.weight.requires_grad_(True)
        yield tape
    finally:
        for linear, hook, was in zip(maps.values(), hooks, learned, strict=True):
            hook.remove()
            linear.weight.requires_grad_(was)
        tape.calls.clear()


@contextmanager
def _in_memory() -> Iterator[None]:
    """Say where memory does not suffice for gradients."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(
            "out of memory while the gradients of refusals were taken; shorten the prompt, lower "
            "rehearsal.tuning.lora_rank, or load the model with model.dtype=bfloat16"
        ) from error


def _mean_gradient(
    tape: _Tape, texts: Sequence[_Text], folder: Path, shard: int, advance: Advance, say: Say
) -> Gradient:
    """The mean of each text's gradient scaled to unit length; its sum is kept in `folder` as it grows."""
    done, kept = last_whole(folder, ".safetensors", say)
    device = tape.network.device
    total = {name: part.to(device) for name, part in from_bytes(kept).items()} if kept else Gradient()
    advance(done)
    passed = since = 0
    for batch in _batches(texts):
        passed += len(batch)
        if passed <= done:
            continue
        part = [texts[index] for index in batch]
        flows = tape.flows(part)
        own = _lengths(part, flows)
        sizes = torch.tensor([len(text.tokens) for text in part], device=own.device)
        weights = own.reciprocal().repeat_interleave(sizes)[:, None]
        for name, z, dy in flows:
            gradient = (dy * weights).T @ z.float()
            total[name] = total[name].add_(gradient) if name in total else gradient
        advance(len(batch))
        since += len(batch)
        if since >= shard or passed == len(texts):
            keep(folder, passed, ".safetensors", to_bytes(total))
            since = 0
    return {name: gradient / len(texts) for name, gradient in total.items()}


def _lengths(texts: Sequence[_Text], flows: Sequence[Flow]) -> Tensor:
    """Length (texts,) of each text's gradient."""
    sizes = [len(text.tokens) for text in texts]
    squares = torch.zeros(len(texts), device=flows[0][1].device)
    for _, z, dy in flows:
        left, right = (pad_sequence(list(torch.split(rows.float(), sizes)), batch_first=True) for rows in (dy, z))
        squares += torch.bmm(left.transpose(1, 2), right).square().sum(dim=(1, 2))
    wrong = [text.id for text, square in zip(texts, squares.tolist(), strict=True) if not 0 < square < float("inf")]
    if wrong:
        raise TrainingError(
            f"the gradient of the refusal is zero or not finite for {len(wrong)} questions: {some(wrong)}; "
            "load the model with model.dtype=float32"
        )
    return squares.sqrt()


def _influences(
    tape: _Tape, texts: Sequence[_Text], means: Sequence[Gradient], advance: Advance
) -> Iterator[Influence]:
    """R and O of each text: inner products of its gradient, scaled to unit length, with the two means."""
    cosines = torch.zeros(len(texts), len(means))
    for batch in _batches(texts):
        part = [texts[index] for index in batch]
        flows = tape.flows(part)
        of_rows = torch.zeros(len(flows[0][1]), len(means), device=flows[0][1].device)
        for name, z, dy in flows:
            for column, mean in enumerate(means):
                of_rows[:, column] += _bilinear(dy.float(), mean[name], z.float())
        of_texts = torch.split(of_rows, [len(text.tokens) for text in part])
        products = torch.stack([rows.sum(dim=0) for rows in of_texts])
        cosines[batch] = (products / _lengths(part, flows)[:, None]).cpu()
        advance(len(batch))
    # Rounding may lead out of the range of a cosine.
    for text, (refusal, over_refusal) in zip(texts, cosines.clamp(-1, 1).tolist(), strict=True):
        yield Influence(id=text.id, refusal=refusal, over_refusal=over_refusal)


def _bilinear(left: Tensor, matrix: Tensor, right: Tensor) -> Tensor:
    """left_t . (matrix right_t) of every row t (rows,), by way of the narrower side."""
    if left.shape[1] < right.shape[1]:
        return (right @ matrix.T * left).sum(dim=1)
    return (left @ matrix * right).sum(dim=1)


def _batches(texts: Sequence[_Text]) -> Iterator[list[int]]:
    """Indices of the texts of each forward pass, all in the order of their tokens, in which `read` lays out rows."""
    batch: list[int] = []
    size = 0
    for index in sorted(range(len(texts)), key=lambda index: texts[index].tokens):
        if batch and size + len(texts[index].tokens) > BATCH_ROWS:
            yield batch
            batch, size = [], 0
        batch.append(index)
        size += len(texts[index].tokens)
    if batch:
        yield batch


def _text(tokenizer: Any, example: Example, ends: frozenset[int]) -> _Text:
    row = _tokenise(tokenizer, example, ends)
    return _Text(example.id, row["input_ids"], [token for token in row["labels"] if token != IGNORED])
