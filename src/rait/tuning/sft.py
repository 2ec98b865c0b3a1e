"""Fine-tune a model on prompt and completion pairs: the rehearsed model and the refusal-aware one alike.

    result = fine_tune(loaded, examples, Tuning(), Path("run/craft"), seed=0)

TRL's SFTTrainer with a PEFT adapter, or every weight. The loss is the mean cross-entropy of the completion's tokens and
of the end-of-text token after it (CRaFT, arXiv 2410.06913v2, section 4.1: loss on the answer only). That of an example
is multiplied by its weight (GRAIT, arXiv 2502.05911): sum_i w_i * sum_t ce_it / number of answer tokens in the batch.
"""

import gc
import json
import math
import os
import shutil
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from torch import Tensor
from transformers import PrinterCallback
from trl import SFTConfig

from rait.errors import InputError, TrainingError, first_line, some
from rait.formats import MARK
from rait.models.loading import LoadedModel, check_devices
from rait.models.memory import is_out_of_memory
from rait.models.saving import put, saving
from rait.models.tree import Head, encode, end_tokens, read, tree_attention
from rait.models.tuned import BASE_FILE, write_base
from rait.progress import Say, progress, say
from rait.recipe import Tuning
from rait.records import Example
from rait.tables import write_json
from rait.tuning.checkpoints import Sealed, last_whole
from rait.tuning.trainer import IGNORED, AnswerTrainer, Watch, Weighted, section

_REMEDY = "free some space there or let it be written to, and start again"
_CHECKS = 8  # prompts on which the tuned model must differ from its base


@dataclass(frozen=True, slots=True)
class TuningResult:
    """What fine-tuning did: one loss a step (nats a token), steps, seconds, and the largest change of a logit."""

    losses: tuple[float, ...]
    steps: int
    seconds: float
    change: float


def fine_tune(
    loaded: LoadedModel,
    examples: Sequence[Example],
    tuning: Tuning,
    folder: Path,
    *,
    seed: int,
    what: str = "tune",
    say: Say = say,
) -> TuningResult:
    """Tune `loaded` in place on `examples` and save to `folder`/adapter: an adapter in PEFT form, or the whole model.

    Goes on from a checkpoint in `folder`/checkpoints if there is one; the caller removes these when all is safe. `say`
    is told of one that is damaged, and removed.

    Raises `TrainingError` when there is nothing to learn from, a weight is negative or not finite, an example does not
    fit into `max_length`, a loss, gradient or weight is not finite (with the step and its questions), memory does not
    suffice, or the model has not changed; `InputError` where `folder`/adapter was made by no tuning, or the disk does
    not take it; and `ModelError` where several GPUs are visible.
    """
    check_devices()
    _check_place(folder / "adapter")
    if not examples:
        raise TrainingError(f"{what}: there are no examples to tune on; construct some first")
    _check_weights(examples)
    ends = end_tokens(loaded.model, loaded.tokenizer)
    rows = [_tokenise(loaded.tokenizer, example, ends) for example in examples]
    _check_lengths(examples, rows, tuning.max_length)
    numbered = enumerate(zip(rows, examples, strict=True))
    dataset = [{**row, "weight": example.weight, "number": number} for number, (row, example) in numbered]
    start = time.monotonic()
    checkpoints = folder / "checkpoints"
    precision = loaded.model.dtype
    if tuning.method == "full":
        _widen(loaded.model, what)
    probes = [encode(loaded.tokenizer, example.prompt) for example in examples[:_CHECKS]]
    before = _last_logits(loaded.model, probes)
    steps = tuning.steps(len(rows))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of one library about another's names
        with tree_attention(loaded.model), progress(what, steps, "step") as advance, _logs_in(folder / "tracking"):
            try:
                trainer = AnswerTrainer(
                    model=loaded.model,
                    args=_arguments(tuning, steps, checkpoints, seed, precision, loaded.model.device, what),
                    train_dataset=Dataset.from_list(dataset),
                    processing_class=loaded.tokenizer,
                    peft_config=_lora(tuning) if tuning.method == "lora" else None,
                    callbacks=[Watch(advance), Sealed()],
                )
            except ValueError as error:  # what peft and trl refuse: unknown targets, ...
                raise TrainingError(f"{what}: {str(error).strip().splitlines()[0]}") from error
            trainer.data_collator = Weighted(trainer.data_collator)
            trainer.watch([example.id for example in examples])
            trainer.pop_callback(PrinterCallback)
            trainer.processing_class = None  # or each checkpoint has the tokenizer, which may take longer than the rest
            # A shared row has one dropout mask, where the batch of separate rows would have several.
            trainer.share_prefixes = tuning.method == "full" or tuning.lora_dropout == 0
            last = last_whole(checkpoints, say)
            with saving(folder, _REMEDY), _going_on(trainer, tuning, last):
                trainer.train(resume_from_checkpoint=str(last) if last else None)
    losses = tuple(entry["loss"] for entry in trainer.state.log_history if "loss" in entry)
    change = float((_last_logits(trainer.model, probes) - before).abs().max())
    if not math.isfinite(change):
        raise TrainingError(f"{what}: the tuned model's logits are not finite; lower {section(what)}.learning_rate")
    if change == 0:
        raise TrainingError(
            f"{what}: the tuned model answers exactly as its base does, so nothing was learned; "
            f"raise {section(what)}.learning_rate or check {section(what)}.lora_targets"
        )
    if tuning.method == "full":
        trainer.model.to(precision)  # as it was loaded, so that it is compared with its base on equal terms
    with saving(folder, _REMEDY):
        _save(trainer, loaded, folder / "adapter")
    taken = trainer.state.global_step
    del trainer  # holds the optimiser's state, and itself in circles
    gc.collect()
    return TuningResult(losses, taken, time.monotonic() - start, change)


def _arguments(
    tuning: Tuning, steps: int, checkpoints: Path, seed: int, precision: torch.dtype, device: torch.device, what: str
) -> SFTConfig:
    on_cpu = device.type == "cpu"
    micro = _micro_batch(tuning)
    return SFTConfig(
        output_dir=str(checkpoints),
        num_train_epochs=tuning.epochs,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=tuning.batch_size // micro,
        learning_rate=tuning.learning_rate,
        lr_scheduler_type="constant_with_warmup" if tuning.schedule == "constant" else tuning.schedule,
        warmup_steps=tuning.warmup,
        weight_decay=tuning.weight_decay,
        max_grad_norm=tuning.max_grad_norm,
        max_length=None,
        bf16=precision == torch.bfloat16,
        fp16=precision == torch.float16,
        use_cpu=on_cpu,
        gradient_checkpointing=False,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=max(10, math.ceil(steps / 5)),
        seed=seed,
        data_seed=seed,
        remove_unused_columns=False,  # the weights are no argument of the model's, and would be dropped
        dataloader_pin_memory=not on_cpu,
        disable_tqdm=True,
        report_to=list(tuning.report_to) or "none",
        run_name=what,
    )


def _lora(tuning: Tuning) -> LoraConfig:
    return LoraConfig(
        r=tuning.lora_rank,
        lora_alpha=tuning.lora_alpha,
        lora_dropout=tuning.lora_dropout,
        target_modules=tuning.lora_targets if isinstance(tuning.lora_targets, str) else list(tuning.lora_targets),
        task_type="CAUSAL_LM",
    )


def _micro_batch(tuning: Tuning) -> int:
    micro = tuning.micro_batch
    if tuning.batch_size % micro:
        raise TrainingError(
            f"tuning.micro_batch_size {micro} does not divide tuning.batch_size {tuning.batch_size}; choose a divisor"
        )
    return micro


def _tokenise(tokenizer: Any, example: Example, ends: frozenset[int]) -> dict[str, list[int]]:
    if tokenizer.eos_token_id is None:
        raise TrainingError("the model's tokenizer has no end-of-text token, so answers could not be taught to end")
    prompt = encode(tokenizer, example.prompt)
    whole = encode(tokenizer, example.prompt + example.completion)
    if whole[: len(prompt)] == prompt and len(whole) > len(prompt):
        answer = whole[len(prompt) :]
    else:  # the text joins to other tokens at the seam; the model will be asked with the prompt's own
        answer = tokenizer(example.completion, add_special_tokens=False)["input_ids"]
    if not answer:
        raise TrainingError(f"the completion of the example {example.id!r} holds no token; give it an answer")
    if answer[-1] not in ends:  # a chat template has its own end of a turn
        answer = [*answer, tokenizer.eos_token_id]
    return {"input_ids": prompt + answer, "labels": [IGNORED] * len(prompt) + answer}


def _check_place(folder: Path) -> None:
    """Refuse a folder of that name that no tuning has made: saving would replace it."""
    if not os.path.lexists(folder):
        return
    losses = folder.parent / "losses.json"  # of a finished tuning, whose folder may have lost its own note
    made = (folder / BASE_FILE).is_file() or (losses.is_file() and MARK.encode() in losses.read_bytes())
    if folder.is_symlink() or not folder.is_dir():
        problem = "is no folder of its own"
    elif not made and any(folder.iterdir()):
        problem = f"was not made by a tuning, as it has no {BASE_FILE}"
    else:
        return
    raise InputError(f"{folder}, where the weights are to go, {problem}; move it, or choose another folder")


def _check_weights(examples: Sequence[Example]) -> None:
    wrong = [example.id for example in examples if not (math.isfinite(example.weight) and example.weight >= 0)]
    if wrong:
        raise TrainingError(
            f"{len(wrong)} of {len(examples)} examples have a weight that is negative or not finite: {some(wrong)}; "
            "give weights of 0 or more"
        )
    if not any(example.weight for example in examples):
        raise TrainingError(f"all {len(examples)} examples have weight 0, so there is nothing to learn from")


def _check_lengths(examples: Sequence[Example], rows: Sequence[dict[str, list[int]]], limit: int) -> None:
    lengths = {example.id: len(row["input_ids"]) for example, row in zip(examples, rows, strict=True)}
    long = [f"{name} ({length})" for name, length in lengths.items() if length > limit]
    if long:
        raise TrainingError(
            f"{len(long)} of {len(rows)} examples are longer than tuning.max_length {limit} tokens: "
            f"{', '.join(long[:5])}; raise tuning.max_length or leave these questions out"
        )


def _widen(model: Any, what: str) -> None:
    """Make the weights float32: AdamW's steps are smaller than bfloat16 can hold; the products still run in it."""
    try:
        model.float()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(
            f"{what}: out of memory before the first step, as every weight is tuned in float32; "
            f"set {section(what)}.method=lora or take a smaller model"
        ) from error


def _last_logits(model: Any, prompts: Sequence[Sequence[int]]) -> Tensor:
    """Logits (prompts, vocabulary) of the token after each prompt."""
    network = model.get_base_model() if hasattr(model, "get_base_model") else model
    training = network.training
    network.eval()
    with torch.inference_mode(), tree_attention(network):
        states, rows = read(network, prompts)
        logits = Head(network)(states[torch.stack([own[-1] for own in rows])])
    network.train(training)
    return logits


@contextmanager
def _logs_in(folder: Path) -> Iterator[None]:
    """Let TensorBoard write there; by itself it would write among the checkpoints, which are removed."""
    name = "TENSORBOARD_LOGGING_DIR"
    if name in os.environ:  # the user's choice
        yield
        return
    os.environ[name] = str(folder)
    try:
        yield
    finally:
        del os.environ[name]


@contextmanager
def _going_on(trainer: AnswerTrainer, tuning: Tuning, checkpoint: Path | None) -> Iterator[None]:
    """Say where memory did not suffice, and where a checkpoint cannot be gone on from: it may hold foreign code."""
    what = trainer.args.run_name
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            if tuning.micro_batch > 1:
                remedy = (
                    f"set {section(what)}.micro_batch_size to a divisor of {tuning.batch_size} below "
                    f"{tuning.micro_batch}, which changes results by rounding alone"
                )
            else:
                remedy = "shorten the prompt, leave the longest questions out, or load it with model.dtype=bfloat16"
            raise TrainingError(
                f"{what}: out of memory at step {trainer.state.global_step + 1}, on {tuning.micro_batch} examples of "
                f"{trainer.tokens} tokens; {remedy}, and start again: what is finished stays"
            ) from error
        if checkpoint is not None and not trainer.tokens:
            raise TrainingError(
                f"{what}: cannot go on from {checkpoint}, which does not hold what was saved here "
                f"({first_line(error)}); remove it and start again"
            ) from error
        raise


def _save(trainer: Any, loaded: LoadedModel, folder: Path) -> None:
    """Save beside and rename, so that a folder of that name is always whole, whatever stops the work."""
    scratch = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(scratch, ignore_errors=True)
    trainer.save_model(str(scratch))
    loaded.tokenizer.save_pretrained(scratch)
    (scratch / "training_args.bin").unlink(missing_ok=True)  # a pickle; the recipe says it all
    _sort_targets(scratch / "adapter_config.json")
    write_base(scratch, loaded.source, loaded.fingerprint)
    shutil.rmtree(folder, ignore_errors=True)
    put(scratch, folder)


def _sort_targets(path: Path) -> None:
    """Sort the modules that an adapter changes: peft writes them in an order that hangs on the process."""
    if path.is_file():
        found = json.loads(path.read_text("utf-8"))
        if isinstance(found["target_modules"], list):
            write_json(path, found | {"target_modules": sorted(found["target_modules"])})
