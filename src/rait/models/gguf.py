"""GGUF files, the packed form of llama.cpp, as dense transformers models."""

from pathlib import Path
from typing import Any


def load_gguf(path: Path, dtype: Any) -> tuple[Any, Any]:
    """Model and tokenizer from a GGUF file, with dense weights that can be trained and saved."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    # Without dequantize the weights come out dense as well, but tagged as quantised: not trainable, not saved.
    network = AutoModelForCausalLM.from_pretrained(
        path.parent,
        gguf_file=path.name,
        dtype=dtype,
        quantization_config=GgufConfig(dequantize=True),
        trust_remote_code=False,  # what lies beside the file is not asked either
    )
    return network, AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, trust_remote_code=False)
