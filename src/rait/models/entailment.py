"""Entailment between texts, for semantic entropy (Farquhar et al., Nature 2024: a DeBERTa tuned on MNLI).

    entails = load_entailment("microsoft/deberta-v2-xlarge-mnli")
    entails([("It is in Paris.", "It is in France.")])          # ["entailment"]

Any three-way model for natural language inference that `transformers` loads as a sequence classifier, and whose
configuration names its labels.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

from rait.errors import ModelError, first_line
from rait.models.loading import check_weights, locate
from rait.settings import Model

Relation = Literal["entailment", "neutral", "contradiction"]
Entails = Callable[[Sequence[tuple[str, str]]], list[Relation]]
"""From k pairs (premise, hypothesis) to how each premise relates to its hypothesis."""

_BATCH = 32


def load_entailment(source: str) -> Entails:
    """The entailment model `source`, a hub id or a folder, on a GPU where there is one; the likeliest label counts.

    Texts beyond the model's length are cut. Raises `ModelError` when the model cannot be loaded, is no classifier, or
    does not name its three labels entailment, neutral and contradiction (in any order or case).
    """
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        folder = locate(Model(source=source))
        check_weights(folder)
        relations = relations_of(AutoConfig.from_pretrained(folder, trust_remote_code=False).id2label, source)
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        model, notes = AutoModelForSequenceClassification.from_pretrained(
            folder, output_loading_info=True, use_safetensors=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, ModelError) as error:
        raise ModelError(
            f"cannot load the entailment model {source}: {first_line(error)} Check its name or folder and the network"
        ) from error
    if head := [key for key in notes["missing_keys"] if not key.startswith(f"{model.base_model_prefix}.")]:
        raise ModelError(f"the entailment model {source} holds no weights for {head[0]}; give one tuned for inference")
    model.to("cuda" if torch.cuda.is_available() else "cpu").eval()

    def entails(pairs: Sequence[tuple[str, str]]) -> list[Relation]:
        found: list[Relation] = ["neutral"] * len(pairs)
        order = sorted(range(len(pairs)), key=lambda i: -sum(map(len, pairs[i])))  # like lengths together: less padding
        for start in range(0, len(order), _BATCH):
            part = order[start : start + _BATCH]
            premises, hypotheses = zip(*(pairs[i] for i in part), strict=True)
            inputs = tokenizer(
                list(premises), list(hypotheses), padding=True, truncation="longest_first", return_tensors="pt"
            ).to(model.device)
            with torch.inference_mode():
                best = model(**inputs).logits.argmax(dim=-1).tolist()
            for i, label in zip(part, best, strict=True):
                found[i] = relations[label]
        return found

    return entails


def relations_of(labels: dict[int, str], source: str) -> dict[int, Relation]:
    """Map the numbers of a model's labels to relations; raise `ModelError` where its names are not theirs."""
    known: dict[str, Relation] = {relation: relation for relation in get_args(Relation)}
    named = {int(number): label.strip().casefold() for number, label in labels.items()}
    if sorted(named.values()) != sorted(known):
        raise ModelError(
            f"the entailment model {source} has the labels {', '.join(labels.values())}, expected entailment, neutral "
            "and contradiction; give a three-way model, or name its labels in id2label of its config.json"
        )
    return {number: known[label] for number, label in named.items()}
