"""Tiny models and tokenizers, made in the tests: real architectures, few weights, a vocabulary of words."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")


def word_tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """A tokenizer whose tokens are words with the blank or line break before them, such as "▁Paris" and "\\n"."""
    pieces = [*SPECIAL, *dict.fromkeys(words)]
    tokenizer = Tokenizer(WordLevel({piece: index for index, piece in enumerate(pieces)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.Metaspace(prepend_scheme="never")]
    )
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="never")
    from tokenizers.processors import TemplateProcessing

    tokenizer.post_processor = TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>"
    )


def random_model(kind: str, vocabulary: int, seed: int = 0, spread: float = 0.4) -> Any:
    """A random float32 model: "llama" (grouped heads) or "gemma3" (sliding window of 5, soft-capped logits)."""
    torch.manual_seed(seed)
    shape = {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "initializer_range": spread,
        "max_position_embeddings": 512,
    }
    if kind == "llama":
        return LlamaForCausalLM(LlamaConfig(**shape)).eval()
    config = Gemma3TextConfig(
        **shape,
        sliding_window=5,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        final_logit_softcapping=8.0,
        query_pre_attn_scalar=8,
    )
    return Gemma3ForCausalLM(config).eval()


def save(model: Any, tokenizer: Any, folder: Path) -> Path:
    """Write a model folder in Hugging Face form."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
