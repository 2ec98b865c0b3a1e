"""The adapter merged into its base: one model that needs neither rait nor PEFT.

    check = merge_into(finished, Path("out"), say)      # safetensors, tokenizer, chat template, generation settings

The product is made in float32 and saved in the precision that the run used. Three things are checked, and the model is
refused where one fails: the merged network gives the logits of base and adapter in float32; what is read back from the
files tokenises prompts alike; it answers test questions of the run as base and adapter do. In float32 no answer may
differ; bfloat16 and float16 round the merged weights, which turns near ties.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rait.errors import ModelError
from rait.evaluation.answering import answer
from rait.export.finished import Finished
from rait.manifest import intact
from rait.models.loading import LoadedModel, load, release
from rait.progress import Say
from rait.prompting import Renderer
from rait.recipe import Model
from rait.records import Question
from rait.seeding import ticket
from rait.settings import DIAL_FILE

QUESTIONS = 64  # that are answered by both models
_PROMPTS = 8  # on which logits are compared
TOLERANCE = 1e-4
"""Largest difference of a logit in float32, as a share of the largest logit."""
ROUNDED = 0.05
"""Largest difference of a logit in half precision, as a share of the largest logit."""
CHANGED = 0.1
"""Largest share of answers that may differ in half precision."""


@dataclass(frozen=True, slots=True)
class MergeCheck:
    """How well the files agree with base and adapter.

    `precise` and `rounded` are the largest differences of a logit, as shares of the largest logit: in float32 before
    anything was written, and of what was read back, in the precision of the files. `changed` of `questions` greedy
    answers differ.
    """

    dtype: str
    parameters: int
    precise: float
    rounded: float
    questions: int
    changed: int


def merge_into(finished: Finished, folder: Path, say: Say) -> MergeCheck:
    """Write the merged model into `folder`, which is there and empty; after full fine-tuning, the tuned model.

    Raises `ModelError` where the disk has no room for it, or where what was written does not agree with base and
    adapter.
    """
    import torch

    recipe, adapter = finished.recipe, intact(finished.place / "adapter")
    intact(adapter / DIAL_FILE)
    tuned = load(recipe.model, adapter=adapter, say=say)
    render = Renderer(tuned.tokenizer, recipe.prompt, may_refuse=True)
    questions = _some(finished)
    prompts = [render(question) for question in questions[:_PROMPTS]]
    dtype = tuned.model.dtype
    say(f"answering {len(questions)} test questions with base and adapter")
    expected, logits = _answers(tuned, questions, render, finished), _logits(tuned, prompts)
    del tuned
    release()

    say("merging in float32")
    whole = load(recipe.model.model_copy(update={"dtype": "float32"}), say=say)
    network, precise = _merged(whole, adapter, prompts)
    parameters = sum(weight.numel() for weight in network.parameters())
    _check_room(folder, parameters * torch.empty(0, dtype=dtype).element_size())
    _complete_generation(network, whole.tokenizer)
    network.to(dtype).save_pretrained(folder)
    whole.tokenizer.save_pretrained(folder)
    if (adapter / DIAL_FILE).is_file():
        shutil.copyfile(adapter / DIAL_FILE, folder / DIAL_FILE)
    tokens = [whole.tokenizer(prompt)["input_ids"] for prompt in prompts]
    del whole, network
    release()

    say("reading it back, and answering again")
    read = load(Model(source=str(folder.resolve())))
    if read.model.dtype != dtype or [read.tokenizer(prompt)["input_ids"] for prompt in prompts] != tokens:
        raise ModelError("the merged model reads back with another tokenizer or precision; nothing was exported")
    again = Renderer(read.tokenizer, recipe.prompt, may_refuse=True)
    if [again(question) for question in questions] != [render(question) for question in questions]:
        raise ModelError("the merged model reads back with another chat template; nothing was exported")
    given = _answers(read, questions, again, finished)
    changed = sum(one != other for one, other in zip(given, expected, strict=True))
    rounded = _difference(_logits(read, prompts), logits)
    check = MergeCheck(str(dtype).removeprefix("torch."), parameters, precise, rounded, len(questions), changed)
    judge(check)
    return check


def in_words(check: MergeCheck) -> list[str]:
    """What was merged and how well it agrees, in lines for a terminal."""
    alike = check.questions - check.changed
    turned = "" if check.dtype == "float32" else f"; rounding to {check.dtype} turns near ties"
    return [
        f"{check.parameters:,} parameters in {check.dtype}, with tokenizer and generation settings",
        f"read back, it answers {alike} of {check.questions} test questions as base and adapter do{turned}",
    ]


def judge(check: MergeCheck) -> None:
    """Raise `ModelError` where a merged model does not agree with base and adapter."""
    exact = check.dtype == "float32"
    if not check.precise <= TOLERANCE:
        raise ModelError(
            f"the merged weights give other logits than base and adapter (by {check.precise:.2g} of the largest, "
            f"at most {TOLERANCE:.2g} is rounding); nothing was exported: use the adapter itself"
        )
    if not check.rounded <= (TOLERANCE if exact else ROUNDED) or check.changed > (
        0 if exact else CHANGED * check.questions
    ):
        raise ModelError(
            f"rounded to {check.dtype}, the merged model differs from base and adapter: logits by {check.rounded:.2g} "
            f"of the largest, {check.changed} of {check.questions} answers; nothing was exported: use the adapter "
            "itself, or tune with model.dtype=float32"
        )


def _some(finished: Finished) -> list[Question]:
    """Test questions of the run, drawn by its seed."""
    found = [question for name in finished.tests for question in finished.questions(name)]
    return sorted(found, key=lambda question: ticket(finished.recipe.seed, "merged", question.id))[:QUESTIONS]


def _answers(loaded: LoadedModel, questions: Sequence[Question], render: Renderer, finished: Finished) -> list[str]:
    return [verdict.response for verdict in answer(loaded, questions, render, finished.recipe.evaluation)]


def _logits(loaded: LoadedModel, prompts: Sequence[str]) -> Any:
    """Logits (prompts, vocabulary) of the token after each prompt, in float32 on the CPU."""
    import torch

    from rait.models.tree import encode

    found = []
    with torch.inference_mode():
        for prompt in prompts:
            ids = torch.tensor([encode(loaded.tokenizer, prompt)], device=loaded.model.device)
            found.append(loaded.model(ids).logits[0, -1].float().cpu())
    return torch.stack(found)


def _merged(whole: LoadedModel, adapter: Path, prompts: Sequence[str]) -> tuple[Any, float]:
    """The network with the adapter in its weights, and the largest difference of a logit that this made."""
    if (adapter / "config.json").is_file():  # the whole model was tuned
        from transformers import AutoModelForCausalLM

        whole_model = AutoModelForCausalLM.from_pretrained(
            adapter, dtype=whole.model.dtype, use_safetensors=True, trust_remote_code=False
        )
        return whole_model.eval(), 0.0
    from peft import PeftModel

    tuned = PeftModel.from_pretrained(whole.model, adapter).eval()
    before = _logits(LoadedModel(tuned, whole.tokenizer, whole.source, whole.fingerprint), prompts)
    network = tuned.merge_and_unload(safe_merge=True)
    after = _logits(LoadedModel(network, whole.tokenizer, whole.source, whole.fingerprint), prompts)
    return network, _difference(after, before)


def _difference(found: Any, expected: Any) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


def _complete_generation(network: Any, tokenizer: Any) -> None:
    """Let others end an answer where it is ended here."""
    from rait.models.tree import end_tokens

    ends = sorted(end_tokens(network, tokenizer))
    network.generation_config.eos_token_id = ends if len(ends) > 1 else ends[0] if ends else None
    if network.generation_config.pad_token_id is None:
        network.generation_config.pad_token_id = tokenizer.pad_token_id


def _check_room(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size * 1.05 + (64 << 20):  # the tokenizer, and what a file system takes
        raise ModelError(
            f"the merged model takes {size / 1e9:.1f} GB and {folder.parent} has {free / 1e9:.1f} GB left; "
            "free some, or choose another --out"
        )
