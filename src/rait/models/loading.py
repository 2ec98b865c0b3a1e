"""Load a causal language model and its tokenizer, and say exactly which one it is.

    loaded = load(Model(source="Qwen/Qwen3-0.6B"))
    tuned = load(Model(source="Qwen/Qwen3-0.6B"), adapter="run/craft/adapter")

A source is a hub id, a folder in Hugging Face form, a GGUF file, or the bundled gemma-3-270m. Everything becomes a
folder or file on this machine first, so that loading, fingerprints and errors are the same for all.
"""

import ctypes
import gc
import json
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from rait.errors import ModelError, RaitError, first_line, some
from rait.models import bundled
from rait.models.checksums import checksum
from rait.models.gguf import load_gguf
from rait.models.tuned import check_base, check_finite, with_adapter
from rait.progress import Say
from rait.recipe import Model
from rait.settings import DIAL_FILE

_SUFFIXES = {".json", ".safetensors", ".model", ".txt", ".jinja", ".bin"}
_PATTERNS = ["*.json", "*.model", "*.txt", "*.jinja"]
_WEIGHTS = ["*.safetensors"]
_UNSAFE = (".bin", ".pt", ".pth", ".ckpt", ".pkl")  # pickles


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to be asked, its tokenizer, and the fingerprint of its weights."""

    model: Any
    tokenizer: Any
    source: str
    fingerprint: str


def locate(model: Model, say: Say = lambda _: None, *, weights: bool = True) -> Path:
    """The folder or GGUF file of a model on this machine, fetched from the hub or converted if need be.

    Without `weights`, a model of the hub may come without them: its tokenizer and configuration are enough.

    Raises `ModelError` when there is no such model or it cannot be fetched.
    """
    if model.source == bundled.GEMMA:
        return bundled.gemma_folder(say)
    path = Path(os.path.expanduser(model.source))
    if path.exists():
        if path.is_dir() and not (path / "config.json").is_file():
            raise ModelError(
                f"{path} holds no config.json, so it is not a model folder; name the folder of the model itself"
            )
        if path.is_file() and path.suffix != ".gguf":
            raise ModelError(f"{path} is neither a model folder nor a .gguf file")
        return path
    if model.source.startswith((".", "/", "~")) or model.source.count("/") != 1:
        raise ModelError(f"no model at {model.source}; give a folder, a .gguf file, a hub id, or {bundled.GEMMA}")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    wanted = [*_PATTERNS, *(_WEIGHTS if weights else ())]
    try:
        return Path(snapshot_download(model.source, revision=model.revision, allow_patterns=wanted))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"cannot fetch the model {model.source} ({reason}); check the name, your access to it and the network, "
            "or give a local folder."
        ) from error


def fingerprint(path: Path) -> str:
    """A short hash that changes with any byte of the weights, the configuration, the tokenizer or its chat templates.

    `path` is a model folder or file, or what was tuned. Large files are read once, and again when they have changed
    (`checksums.checksum`).
    """
    files = [path] if path.is_file() else _parts(path)
    sums = [f"{file.relative_to(path.parent if path.is_file() else path)} {checksum(file)}\n" for file in files]
    return sha256("".join(sums).encode()).hexdigest()[:16]


def _parts(folder: Path) -> list[Path]:
    """The files of a model folder that decide what the model says; not the dial, which is set when tuning is over."""
    found = [*folder.iterdir(), *(folder / "additional_chat_templates").glob("*.jinja")]
    return sorted(path for path in found if path.is_file() and path.suffix in _SUFFIXES and path.name != DIAL_FILE)


def load(model: Model, *, adapter: str | Path | None = None, say: Say = lambda _: None) -> LoadedModel:
    """Load a model for inference, with what was tuned on it if given; on a GPU where there is one.

    `adapter` is the folder that fine-tuning wrote: a LoRA adapter, or the whole model after full fine-tuning. Of one
    that was made elsewhere `say` is told what cannot be checked.
    Raises `ModelError` when something is missing or damaged, when a weight is not finite, and when the adapter belongs
    to another model or would change nothing.
    """
    import torch
    from transformers.utils import logging

    from rait.models.tree import check_tree

    logging.disable_progress_bar()
    path = locate(model, say)
    mark = fingerprint(path)
    if adapter is not None:
        _check_tuned(Path(adapter))
        check_base(Path(adapter), path, mark, say)
        if (Path(adapter) / "config.json").is_file():  # the whole model was tuned
            path, adapter = Path(adapter), None
        else:
            _check_kind(Path(adapter))
    with _readable(f"the model at {path}"):
        if path.is_file():
            network, tokenizer = load_gguf(path, _dtype(model.dtype))
        else:
            tokenizer = _tokenizer(model, path)
            check_weights(path)
            network = _network(path, model.dtype)
    network.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    check_finite(network.named_parameters(), f"the model at {path}")
    check_tree(network)
    if adapter is not None:
        with _readable(f"the adapter at {adapter}"), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of one library about another's names
            network = with_adapter(network, Path(adapter))
    return LoadedModel(network, tokenizer, model.source, mark)


def check_devices() -> None:
    """Raise `ModelError` where more than one GPU is visible, of which a process can tune on one alone."""
    import torch

    if (count := torch.cuda.device_count()) > 1:
        raise ModelError(
            f"{count} GPUs are visible, and tuning uses one; name it in the environment, such as CUDA_VISIBLE_DEVICES=0"
        )


def release() -> None:
    """Give the memory of models that are no longer used back to the system, which the C library and CUDA would keep."""
    import torch

    gc.collect()  # a trainer holds itself, and its model, in circles
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    with suppress(OSError, AttributeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)


def load_tokenizer(model: Model) -> Any:
    """The tokenizer of a model alone; raise `ModelError` where there is none."""
    path = locate(model, weights=False)
    with _readable(f"the tokenizer at {path}"):
        return _tokenizer(model, path)


def _tokenizer(model: Model, path: Path) -> Any:
    if model.source == bundled.GEMMA:
        return bundled.gemma_tokenizer(path)
    from transformers import AutoTokenizer

    if path.is_file():
        return AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, trust_remote_code=False)
    return AutoTokenizer.from_pretrained(path, trust_remote_code=False)


@contextmanager
def _readable(what: str) -> Iterator[None]:
    """Turn what the libraries raise over missing, damaged or foreign files into a `ModelError`."""
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        if "trust_remote_code" in str(error):
            raise ModelError(
                f"{what} comes with Python code of its own, which is not run; use a model that transformers knows"
            ) from error
        raise ModelError(f"cannot load {what}: {first_line(error)}") from error
    except RaitError:
        raise
    except Exception as error:  # over a file that is not as they expect it, the libraries stumble in every way
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise ModelError(f"cannot load {what}: {reason}; fetch or make it again") from error


def check_weights(folder: Path) -> None:
    """Refuse a model folder whose weights are not all in safetensors: other files may run code when they are read."""
    _check_safe(folder, "*.safetensors")
    if (folder / "adapter_config.json").is_file():  # transformers would put it in, unchecked
        raise ModelError(f"{folder} holds a model and an adapter; move the adapter into a folder of its own")
    with _readable(f"the model at {folder}"):
        for index in folder.glob("*.safetensors.index.json"):
            _check_named(index, json.loads(index.read_text("utf-8"))["weight_map"].values(), (".safetensors",))
        explicit: list[str | None] = []  # at any depth: a model of texts and images has a configuration for either
        settings = folder / "config.json"
        known = settings.read_text("utf-8")
        json.loads(known, object_hook=lambda own: explicit.append(own.get("transformers_weights")))
        _check_named(settings, filter(None, explicit), (".safetensors", ".safetensors.index.json"))


def _check_named(file: Path, names: Iterable[str], suffixes: tuple[str, ...]) -> None:
    """Refuse names of weights that transformers would read outside of the folder, or as a pickle."""
    for name in names:
        if "/" in name or not name.endswith(suffixes):
            raise ModelError(
                f"{file} takes weights from {name!r}, which is no file in safetensors beside it; save them so, with "
                "save_pretrained"
            )


def _check_safe(folder: Path, pattern: str) -> None:
    """Refuse a folder that holds no weights in safetensors of a name of that pattern."""
    if not any(folder.glob(pattern)):
        others = sorted(path.name for path in folder.iterdir() if path.suffix in _UNSAFE)
        found = f" ({', '.join(others[:3])} could run code when read, and is left alone)" if others else ""
        raise ModelError(
            f"{folder} holds no weights in safetensors{found}; save them so, as {pattern}, with save_pretrained"
        )


def _check_tuned(adapter: Path) -> None:
    """Refuse a folder that holds nothing tuned."""
    if not any((adapter / name).is_file() for name in ("adapter_config.json", "config.json")):
        raise ModelError(f"{adapter} holds no adapter_config.json; name the folder of an adapter in PEFT form")


def _check_kind(adapter: Path) -> None:
    """Refuse an adapter of a kind that could run code."""
    _check_safe(adapter, "adapter_model.safetensors")  # without a file of that name PEFT takes a pickle
    settings = adapter / "adapter_config.json"
    with _readable(str(settings)):
        foreign = json.loads(settings.read_text("utf-8")).get("megatron_config")
    if foreign:  # PEFT would import the module that stands in it
        raise ModelError(f"{settings} is for Megatron, whose modules are not imported; use one for transformers")


def _network(path: Path, dtype: str) -> Any:
    """The model of a folder; weights that it lacks would be made up at random."""
    from transformers import AutoModelForCausalLM

    network, found = AutoModelForCausalLM.from_pretrained(
        path, dtype=_dtype(dtype), use_safetensors=True, trust_remote_code=False, output_loading_info=True
    )
    if wrong := sorted(map(str, (*found["missing_keys"], *found["mismatched_keys"]))):
        raise ModelError(
            f"the model at {path} lacks {len(wrong)} weights, or has them in another shape: {some(wrong)}; "
            "fetch or make it again"
        )
    return network


def _dtype(name: str) -> Any:
    import torch

    return "auto" if name == "auto" else getattr(torch, name)
