"""Load a causal language model and its tokenizer, and say exactly which one it is.

    loaded = load(Model(source="Qwen/Qwen3-0.6B"))
    tuned = load(Model(source="Qwen/Qwen3-0.6B"), adapter="run/craft/adapter")

A source is a hub id, a folder in Hugging Face form, a GGUF file, or the bundled gemma-3-270m. Everything becomes a
folder or file on this machine first, so that loading, fingerprints and errors are the same for all.
"""

import ctypes
import gc
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from rait.errors import ModelError, first_line
from rait.models import bundled
from rait.models.gguf import load_gguf
from rait.recipe import Model
from rait.settings import DIAL_FILE

BASE_FILE = "rait_base.json"  # beside an adapter: the model that it belongs to
_WINDOWS, _WINDOW = 256, 64 << 10
_PATTERNS = ["*.json", "*.model", "*.txt", "*.jinja"]
_WEIGHTS = ["*.safetensors"]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to be asked, its tokenizer, and the fingerprint of its weights."""

    model: Any
    tokenizer: Any
    source: str
    fingerprint: str


def locate(model: Model, say: Callable[[str], None] = lambda _: None, *, weights: bool = True) -> Path:
    """The folder or GGUF file of a model on this machine, fetched from the hub or converted if need be.

    Without `weights`, a model of the hub may come without them: its tokenizer and configuration are enough.

    Raises `ModelError` when there is no such model or it cannot be fetched.
    """
    if model.source == bundled.GEMMA:
        return bundled.gemma_folder(say)
    path = Path(model.source).expanduser()
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
    """A short hash that changes with the weights, the configuration or the tokenizer at `path`.

    Of large files the size and 256 windows of 64 KiB, evenly spread, count: it takes no time on a large model.
    """
    digest = sha256()
    for file in [path] if path.is_file() else sorted(item for item in path.iterdir() if item.is_file()):
        if path.is_dir() and file.suffix not in {".json", ".safetensors", ".model", ".txt", ".jinja", ".bin"}:
            continue
        if file.name == DIAL_FILE:
            continue
        size = file.stat().st_size
        digest.update(f"{file.name} {size}\n".encode())
        with file.open("rb") as stream:
            if size <= _WINDOWS * _WINDOW:
                digest.update(stream.read())
                continue
            for window in range(_WINDOWS):
                stream.seek(window * (size - _WINDOW) // (_WINDOWS - 1))
                digest.update(stream.read(_WINDOW))
    return digest.hexdigest()[:16]


def load(
    model: Model, *, adapter: str | Path | None = None, say: Callable[[str], None] = lambda _: None
) -> LoadedModel:
    """Load a model for inference, with what was tuned on it if given; on a GPU where there is one.

    `adapter` is the folder that fine-tuning wrote: a LoRA adapter, or the whole model after full fine-tuning.
    Raises `ModelError` when something is missing or damaged, or when the adapter belongs to another model.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    from rait.models.tree import check_tree

    logging.disable_progress_bar()
    path = locate(model, say)
    mark = fingerprint(path)
    if adapter is not None:
        _check_base(Path(adapter), mark)
        if (Path(adapter) / "config.json").is_file():
            path, adapter = Path(adapter), None
    with _readable(f"the model at {path}"):
        if path.is_file():
            network, tokenizer = load_gguf(path, _dtype(model.dtype))
        else:
            tokenizer = _tokenizer(model, path)
            network = AutoModelForCausalLM.from_pretrained(path, dtype=_dtype(model.dtype))
    network.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    check_tree(network)
    if adapter is not None:
        from peft import PeftModel

        with _readable(f"the adapter at {adapter}"), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of one library about another's names
            # In the base's precision, in which it was trained under autocast: no casts at every layer.
            network = PeftModel.from_pretrained(network, adapter).eval().to(network.dtype).get_base_model()
    return LoadedModel(network, tokenizer, model.source, mark)


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
        return AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    return AutoTokenizer.from_pretrained(path)


@contextmanager
def _readable(what: str) -> Iterator[None]:
    """Turn what the libraries raise over missing, damaged or foreign files into a `ModelError`."""
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise ModelError(f"cannot load {what}: {first_line(error)}") from error
    except Exception as error:
        # The safetensors and tokenizers libraries raise bare exceptions of their own.
        if type(error).__name__ != "SafetensorError" and type(error) is not Exception:
            raise
        raise ModelError(f"cannot load {what}: {first_line(error)}; fetch or make it again") from error


def _check_base(adapter: Path, mark: str) -> None:
    """Refuse a folder that holds nothing tuned, or something tuned on another model."""
    if not any((adapter / name).is_file() for name in ("adapter_config.json", "config.json")):
        raise ModelError(f"{adapter} holds no adapter_config.json; name the folder of an adapter in PEFT form")
    base = adapter / BASE_FILE
    if base.is_file():
        with _readable(str(base)):
            wanted = json.loads(base.read_text("utf-8"))
        if wanted["fingerprint"] != mark:
            raise ModelError(
                f"the adapter at {adapter} was trained on {wanted['source']} ({wanted['fingerprint']}), "
                f"this model is another one ({mark}); load the adapter on its own base model"
            )


def _dtype(name: str) -> Any:
    import torch

    return "auto" if name == "auto" else getattr(torch, name)
