"""How much memory a model takes when it is asked and when it is tuned, told from its configuration: nothing is loaded.

    shape = shape_of(folder, "auto")
    asking(shape, rows=120, shared=55, passes=6, groups=50)
    tuning(shape, Tuning(), rows=200, answer_tokens=60)

Bytes, to some 30 %. What cannot be counted was measured once, on Linux with Gemma 3 270M: the libraries, the tokenizer
and the sentence model, which stay in main memory, and what the layers keep of a row for the backward pass.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import exp
from pathlib import Path
from typing import Any

from rait.models.sampler import STEP_ROWS
from rait.models.tree import _BLOCK_BYTES, _PROJECTED_BYTES
from rait.settings import Tuning

LIBRARIES = 400 << 20  # Python, torch, transformers and the rest
SENTENCE_MODEL = 130 << 20  # all-MiniLM-L6-v2 with its library
_KERNELS = 800 << 20  # of matrix products of many shapes, which oneDNN keeps on a CPU; reached in some _SETTLED steps
_SETTLED = 16
_TOKENIZER = 6.4  # bytes in memory for one of its file
_LORA_BYTES = 16  # a float32 weight, its gradient, two moments
_FULL_BYTES = 14  # beside the weight: its gradient, two moments, and a copy in the precision of the products
_LOGIT_BYTES = 14  # a logit of an answer's token: as projected, in float32, as probabilities, as gradients
_TRAINING_LOGITS = 128 << 20  # float32 logits for which these are held at once
_KEPT = 2.0  # numbers kept for the backward pass for each that a linear layer reads or gives
_SPARE = 1.5  # a cache grows by this factor


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides a model's memory.

    `linear` holds (name, inputs + outputs) of every linear layer but the vocabulary's; `element` and `cache` are bytes,
    of a weight and of the keys and values of one token; `tokenizer` is the size of its file in bytes.
    """

    parameters: int
    linear: tuple[tuple[str, int], ...]
    vocabulary: int
    element: int
    cache: int
    tokenizer: int

    @property
    def weights(self) -> int:
        """Bytes of the weights as they are loaded."""
        return self.parameters * self.element

    @property
    def main_memory(self) -> int:
        """Bytes of libraries and tokenizer, which no GPU takes."""
        return LIBRARIES + int(self.tokenizer * _TOKENIZER)


def shape_of(path: Path, dtype: str) -> Shape:
    """The shape of the model in a folder or a GGUF file, from its configuration.

    `dtype` as in the recipe. Raises what the libraries raise over a configuration that they cannot read.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    if path.is_file():
        config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name, trust_remote_code=False)
    else:
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    with torch.device("meta"):  # every layer with its sizes, and no memory behind them
        network = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    text = config.get_text_config()
    stored = config.dtype or text.dtype or torch.float32
    precision = stored if dtype == "auto" else getattr(torch, dtype)
    if isinstance(precision, str):
        precision = getattr(torch, precision)
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    tokenizer = path if path.is_file() else path / "tokenizer.json"
    return Shape(
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        linear=tuple(_linear(network)),
        vocabulary=network.get_output_embeddings().weight.shape[0],
        element=precision.itemsize,
        cache=2 * text.num_hidden_layers * heads * width * precision.itemsize,
        tokenizer=tokenizer.stat().st_size if tokenizer.exists() and path.is_dir() else 0,
    )


def asking(shape: Shape, *, rows: float, shared: int, passes: float, groups: float) -> int:
    """Bytes of work of the sampler: caches of the groups under way, activations, and logits.

    A group has `rows` rows below `shared` tokens, and is under way for `passes` forward passes; there are `groups`.
    """
    together = min(groups, max(1.0, STEP_ROWS * passes / max(rows, 1.0)))
    caches = together * (shared + _SPARE * rows) * shape.cache
    return int(caches) + _passing(shape, STEP_ROWS) + _projected(shape, STEP_ROWS)


def scoring(shape: Shape, *, rows: int, shared: int) -> int:
    """Bytes of work of scoring passes of `rows` rows below `shared` tokens."""
    return shared * shape.cache + _passing(shape, rows) + _projected(shape, rows)


def tuning(shape: Shape, settings: Tuning, *, rows: float, answer_tokens: float) -> int:
    """Bytes of work of tuning: what is trained, what `rows` rows keep for the backward pass, the answers' logits."""
    if settings.method == "full":
        trained = shape.parameters * (_FULL_BYTES + 4 - shape.element)
    else:
        trained = lora_parameters(shape, settings) * _LORA_BYTES
    kept = rows * sum(size for _, size in shape.linear) * shape.element * _KEPT
    logits = min(answer_tokens, max(1, _TRAINING_LOGITS // (4 * shape.vocabulary))) * shape.vocabulary * _LOGIT_BYTES
    return int(trained + kept + logits)


def lora_parameters(shape: Shape, settings: Tuning) -> int:
    """How many weights the adapter has: rank x (inputs + outputs) of every layer that gets one."""
    targets = settings.lora_targets
    return settings.lora_rank * sum(size for name, size in shape.linear if _is_target(name, targets))


def kernels(steps: int) -> int:
    """Bytes of the compiled kernels that a training of so many steps leaves: its batches differ in their rows."""
    return int(_KERNELS * (1 - exp(-steps / _SETTLED)))


def over_limit(parts: Mapping[str, tuple[int, int]], gib: float) -> tuple[str, ...]:
    """A line for each part that may need more than so many GiB: bytes in all, and of those the libraries'.

    Libraries stay in main memory, so on a GPU they do not count.
    """
    import torch

    on_gpu, most = torch.cuda.is_available(), gib * 2**30
    sizes = {name: total - libraries * on_gpu for name, (total, libraries) in parts.items()}
    return tuple(
        f"{name} may take {size / 1e9:.1f} GB, and memory_limit={gib:g} GiB is {most / 1e9:.1f} GB"
        for name, size in sizes.items()
        if size > most
    )


def _is_target(name: str, targets: str | tuple[str, ...]) -> bool:
    """As PEFT reads its `target_modules`."""
    if isinstance(targets, str):
        return targets == "all-linear" or re.fullmatch(targets, name) is not None
    return any(name == target or name.endswith(f".{target}") for target in targets)


def _linear(network: Any) -> Iterator[tuple[str, int]]:
    head = network.get_output_embeddings()
    for name, module in network.named_modules():
        if type(module).__name__ in ("Linear", "Conv1D") and module is not head:
            yield name, sum(module.weight.shape)


def _passing(shape: Shape, rows: int) -> int:
    """Activations of a forward pass: those of one layer at a time."""
    return rows * 4 * max((size for _, size in shape.linear), default=0) * shape.element


def _projected(shape: Shape, rows: int) -> int:
    return min(rows * shape.vocabulary * shape.element, _PROJECTED_BYTES) + _BLOCK_BYTES
