"""What was tuned: written so that it is known again, and put into its base only where it belongs.

    write_base(folder, source, mark)                    # beside the weights, when all of them are written
    check_base(folder, base, mark, say)                 # before it is loaded on the model at `base`
    network = with_adapter(network, folder)

`rait_base.json` names the model that it was trained on, by fingerprint, and has a checksum of every file beside it.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rait.errors import ModelError, first_line, some
from rait.models.checksums import checksum, windowed
from rait.progress import Say
from rait.settings import DIAL_FILE
from rait.tables import write_json

if TYPE_CHECKING:
    from torch import Tensor

BASE_FILE = "rait_base.json"
_WHOLE = ".modules_to_save.default."
_SUFFIXES = {".json", ".safetensors", ".model", ".txt", ".jinja"}  # a card may be written anew


def write_base(folder: Path, source: str, mark: str) -> None:
    """Write down which model the weights in `folder` were trained on, and how its files are."""
    sums = {path.name: checksum(path) for path in sorted(folder.iterdir()) if _counts(path)}
    write_json(folder / BASE_FILE, {"source": source, "fingerprint": mark, "files": sums})


def check_base(folder: Path, base: Path, mark: str, say: Say) -> None:
    """Raise `ModelError` where what is in `folder` was trained on another model than `base`, or is damaged.

    `mark` is the fingerprint of `base`. Of what was made elsewhere `say` is told what cannot be checked.
    """
    note = folder / BASE_FILE
    if not note.is_file():
        _say_foreign(folder, base, say)
        return
    try:
        known = json.loads(note.read_text("utf-8"))
        source, wanted, sums = known["source"], known["fingerprint"], dict(known.get("files", {}))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ModelError(f"{note} is damaged ({first_line(error)}); tune again") from error
    # What was tuned before files were listed has the fingerprint of its time.
    if wanted != (mark if sums else windowed(base)):
        raise ModelError(
            f"the adapter at {folder} was trained on {source} ({wanted}), this model is another one ({mark}): its "
            "weights, configuration, tokenizer or chat template differ; load the adapter on its own base model"
        )
    for name, own in sums.items():
        if not (folder / name).is_file():
            raise ModelError(f"{folder} has lost its {name}; fetch it or tune again")
        if checksum(folder / name) != own:
            raise ModelError(f"{folder / name} is not as it was when it was tuned; fetch it or tune again")
    if sums and (strange := sorted(path.name for path in folder.iterdir() if _counts(path) and path.name not in sums)):
        raise ModelError(f"{folder / strange[0]} was not there when it was tuned; remove it")


def with_adapter(network: Any, folder: Path) -> Any:
    """The network with the adapter in it, every tensor of which has found its place and says something.

    Raises `ModelError` where that is not so or, for want of a LoRA adapter, cannot be told; and what PEFT raises where
    it cannot read the files.
    """
    from peft import PeftConfig, PeftModel, PeftType

    config = PeftConfig.from_pretrained(str(folder))
    if config.peft_type != PeftType.LORA:
        raise ModelError(
            f"the adapter at {folder} is of the kind {config.peft_type.value}, of which cannot be told whether it "
            "changes anything; give a LoRA adapter, or as the model one into which it was merged"
        )
    config.inference_mode = True
    tuned = PeftModel(network, config)
    renamed = getattr(network, "_checkpoint_conversion_mapping", None) or None
    found = tuned.load_adapter(str(folder), "default", key_mapping=renamed)
    lost, strange = list(found.missing_keys), list(found.unexpected_keys)
    if lost or strange:
        what = f"lacks {len(lost)} weights of this model ({some(lost)})" if lost else ""
        what += " and " if lost and strange else ""
        what += f"has {len(strange)} that it has no place for ({some(strange)})" if strange else ""
        raise ModelError(f"the adapter at {folder} {what}; load it on the model that it was trained on")
    # In the base's precision, in which it was trained under autocast: no casts at every layer.
    tuned = tuned.eval().to(network.dtype)
    weights = dict(tuned.named_parameters(remove_duplicate=False))
    check_finite(weights.items(), f"the adapter at {folder}")  # the model's own were finite before
    if not _changes(weights):
        raise ModelError(
            f"the adapter at {folder} changes nothing: every lora_B in it is zero, and it replaces no module by "
            "another; tune again"
        )
    return tuned.get_base_model()


def _changes(weights: Mapping[str, "Tensor"]) -> bool:
    """Whether a product of a LoRA adapter is not zero, or a module that it holds as a whole is not as the model's."""
    import torch

    return any(
        bool(torch.any(weight))
        for name, weight in weights.items()
        if ".lora_B." in name or ".lora_embedding_B." in name
    ) or any(
        not torch.equal(weight, weights[name.replace(_WHOLE, ".original_module.")])
        for name, weight in weights.items()
        if _WHOLE in name
    )


def not_finite(weights: Iterable[tuple[str, "Tensor"]]) -> list[str]:
    """The names of the weights that hold a number that is NaN or infinite."""
    import torch

    # Extremes are found without a copy of the weight; they are no numbers where one of its numbers is none.
    extremes = {name: torch.stack(weight.detach().aminmax()) for name, weight in weights if weight.numel()}
    if not extremes:
        return []
    whole = torch.isfinite(torch.stack([pair.float() for pair in extremes.values()])).all(dim=1)  # waits for a GPU once
    return [name for name, finite in zip(extremes, whole.tolist(), strict=True) if not finite]


def check_finite(weights: Iterable[tuple[str, "Tensor"]], what: str) -> None:
    """Raise `ModelError` where one of the (name, weight) pairs holds a number that is NaN or infinite."""
    if wrong := not_finite(weights):
        raise ModelError(
            f"{what} has weights that are NaN or infinite, in {len(wrong)} tensors ({some(wrong)}); fetch or make it "
            "again, or load the model with model.dtype=float32"
        )


def _counts(path: Path) -> bool:
    return path.is_file() and path.suffix in _SUFFIXES and path.name not in (DIAL_FILE, BASE_FILE)


def _say_foreign(folder: Path, base: Path, say: Say) -> None:
    """Of an adapter that does not say which weights it was trained on, what may be wrong."""
    try:
        name = json.loads((folder / "adapter_config.json").read_text("utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError):
        name = None  # a whole model; or what reading the adapter will say
    trained = f"; it names {name!r} as its base" if name else ""
    say(
        f"{folder} has no {BASE_FILE}, so nothing but the names and shapes of its weights is checked against {base}"
        f"{trained}."
    )
    mine, theirs = _tokenizer(folder), _tokenizer(base)
    if (folder / "adapter_config.json").is_file() and mine and theirs and mine != theirs:
        say(f"{folder} has another tokenizer or chat template than {base}, whose own is used.")


def _tokenizer(folder: Path) -> dict[str, Any]:
    """What decides how texts become tokens, as far as files of their own say it; empty where there are none."""
    found: dict[str, Any] = {}
    try:
        whole = json.loads((folder / "tokenizer.json").read_text("utf-8"))
        found = {name: whole.get(name) for name in ("model", "added_tokens", "normalizer", "pre_tokenizer")}
        found["template"] = (folder / "chat_template.jinja").read_text("utf-8")
    except (OSError, ValueError, AttributeError):
        pass  # a GGUF file, another kind of tokenizer, no template
    return found
