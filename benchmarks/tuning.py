"""Fine-tuning side by side: rait, TRL's SFTTrainer as it comes and with its options set by hand, and a plain loop.

    python benchmarks/tuning.py [--steps 12] [--settings ours,trl] [--json FILE]

Every setting trains the same LoRA on the same examples with the same seed, order, batches and schedule, each in a
process of its own, one after the other. The examples are those of the default recipe: questions of atlas in the tuning
prompt, four answered for one refused. Prints a Markdown table; settings that cannot run stand below it with the reason.

A step is timed from the end of one optimiser step to the end of the next, by a hook of torch's optimisers, the same for
all. The losses are compared, step by step, with those of the plain loop in float32. "Of peak" is the work that a batch
without padding needs against the machine's measured matrix peak, counted the same for every setting: 4 operations a
token and frozen weight (forward, and backward to the activations), 6 a token and adapter weight, 4 an answer's token
and weight of the vocabulary matrix; attention's own products are left out. "Distinct" counts once what several examples
of a batch begin with, the least that any order of computation needs. All settings take about an hour on two cores.
"""

import argparse
import contextlib
import io
import itertools
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import machine
import torch
from datasets import Dataset, disable_progress_bars
from peft import LoraConfig, get_peft_model
from torch.nn import functional
from torch.optim.optimizer import register_optimizer_step_post_hook
from transformers import AutoConfig, AutoModelForCausalLM, DataCollatorForSeq2Seq, get_scheduler, set_seed
from trl import SFTConfig, SFTTrainer

from rait.models.loading import load, load_tokenizer, locate
from rait.prompting import Renderer
from rait.questions import atlas
from rait.recipe import Recipe, Tuning, load_recipe
from rait.records import Example, Role
from rait.seeding import ticket
from rait.sets import split_shots
from rait.tuning.sft import fine_tune

SEED = 0
IGNORED = -100
WARM_UP = 2  # steps that do not count
DEFAULTS, REFERENCE = "trl", "loop-float32"
OTHER_BATCHES = {"train_sampling_strategy", "packing"}  # options whose steps cannot be compared with the reference's
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

Row = dict[str, list[int]]  # token ids and labels


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to fine-tune: whose, with which options, from weights in which precision."""

    kind: Literal["ours", "loop", "trl"]
    options: Mapping[str, Any] = field(default_factory=dict)
    weights: Literal["bfloat16", "float32"] = "bfloat16"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a setting did: seconds of each step but the first, and of the whole run; nats; bytes at most."""

    precision: str
    steps: tuple[float, ...]
    cpu: tuple[float, ...]  # seconds of all cores together
    seconds: float
    losses: tuple[float, ...]
    memory: int


@dataclass(frozen=True, slots=True)
class Job:
    """What a setting is given; `model` is a `LoadedModel`, or its folder where TRL is to load it."""

    setting: Setting
    recipe: Recipe
    model: Any
    tokenizer: Any
    examples: list[Example]
    folder: Path


def _by_hand(**options: Any) -> Setting:
    return Setting("trl", options)


# `model_init_kwargs` makes TRL load the model itself. Not options of SFTConfig: `full_logits`, a loss function on the
# whole logits instead of TRL's fused head; `bfloat16_adapter`. TRL's loss_type "chunked_nll" is its default, "nll".
SETTINGS: dict[str, Setting] = {
    "ours": Setting("ours"),
    "ours-float32": Setting("ours", weights="float32"),
    "loop-float32": Setting("loop", weights="float32"),
    "loop": Setting("loop", {"autocast": True}),
    "loop-answers": Setting("loop", {"autocast": True, "answers_only": True}),
    "trl": Setting("trl"),
    "trl-float32": Setting("trl", {"bf16": False}, weights="float32"),
    "trl-loads": Setting("trl", {"model_init_kwargs": {}}, weights="float32"),
    "trl-no-use_cpu": _by_hand(use_cpu=False),
    "no-checkpointing": _by_hand(gradient_checkpointing=False),
    "grouped": _by_hand(train_sampling_strategy="group_by_length"),
    "padding-free": _by_hand(padding_free=True, max_length=None),
    "packed": _by_hand(packing=True, per_device_train_batch_size=1),
    "micro-batch-4": _by_hand(per_device_train_batch_size=4, gradient_accumulation_steps=4),
    "no-autocast": _by_hand(bf16=False),
    "bfloat16-adapter": _by_hand(bf16=False, bfloat16_adapter=True),
    "float16": _by_hand(bf16=False, fp16=True),
    "full-logits": _by_hand(full_logits=True),
    "eager-attention": _by_hand(model_init_kwargs={"dtype": "bfloat16", "attn_implementation": "eager"}),
    "flash-attention": _by_hand(model_init_kwargs={"dtype": "bfloat16", "attn_implementation": "flash_attention_2"}),
    "liger": _by_hand(use_liger_kernel=True),
    "adamw_torch_8bit": _by_hand(optim="adamw_torch_8bit"),
    "compiled": _by_hand(torch_compile=True, gradient_checkpointing=False),
    "compiled-one-shape": _by_hand(torch_compile=True, gradient_checkpointing=False, pad_to_multiple_of=64),
    "combined": _by_hand(full_logits=True, padding_free=True, max_length=None),
    "combined-no-autocast": _by_hand(full_logits=True, padding_free=True, max_length=None, bf16=False),
}


def tuning_data(tokenizer: Any, recipe: Recipe, count: int) -> list[Example]:
    """`count` examples as the recipe makes them: vanilla and idk in its ratio, drawn without asking any model."""
    _, questions = split_shots(atlas.atlas_questions("train"), recipe)
    drawn = sorted(questions, key=lambda question: ticket(SEED, "tuning benchmark", question.id))[:count]
    every = 1 + recipe.construction.vanilla // recipe.construction.idk
    refused = {question.id for question in drawn[::every]}
    render = Renderer(tokenizer, recipe.prompt, may_refuse=True)
    made = []
    for one in sorted(drawn, key=lambda question: question.id):
        role, answer = (Role.IDK, recipe.prompt.refusal) if one.id in refused else (Role.VANILLA, one.answers[0])
        text = render.completion(answer)
        made.append(Example(id=one.id, prompt=render(one), completion=text, role=role))
    return made


def tokenised(tokenizer: Any, examples: Sequence[Example]) -> list[Row]:
    """Token ids and labels of each example, its end included, the way a plain loop does it."""
    rows = []
    for example in examples:
        asked = len(tokenizer(example.prompt)["input_ids"])
        ids = tokenizer(example.prompt + example.completion + tokenizer.eos_token)["input_ids"]
        rows.append({"input_ids": ids, "labels": [IGNORED] * asked + ids[asked:]})
    return rows


def batches_of(rows: Sequence[Row], size: int) -> list[list[Row]]:
    """The batches in which the Trainer's sampler takes the rows."""
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(SEED)).tolist()
    return [[rows[index] for index in order[start : start + size]] for start in range(0, len(order), size)]


def count_work(recipe: Recipe, steps: int) -> dict[str, float]:
    """What an example needs on average; "distinct" counts once what several examples of a batch begin with."""
    tuning, tokenizer = recipe.tuning, load_tokenizer(recipe.model)
    rows = tokenised(tokenizer, tuning_data(tokenizer, recipe, steps * tuning.batch_size))
    batches = [[row["input_ids"] for row in batch] for batch in batches_of(rows, tuning.batch_size)]
    tokens = sum(len(ids) for batch in batches for ids in batch) / len(rows)
    padded = sum(len(batch) * max(map(len, batch)) for batch in batches) / len(rows)
    prefixes = ({tuple(ids[: end + 1]) for ids in batch for end in range(len(ids))} for batch in batches)
    distinct = sum(map(len, prefixes)) / len(rows)
    answer = sum(label != IGNORED for row in rows for label in row["labels"]) / len(rows)

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(locate(recipe.model)))
    head = model.get_output_embeddings()
    layers = [part for part in model.modules() if isinstance(part, torch.nn.Linear) and part is not head]
    frozen = sum(layer.weight.numel() for layer in layers)
    adapter = sum(tuning.lora_rank * (layer.in_features + layer.out_features) for layer in layers)
    of_token, of_answer = 4.0 * frozen + 6.0 * adapter, 4.0 * head.weight.numel() * answer
    counts = {"tokens": tokens, "padded tokens": padded, "distinct tokens": distinct, "answer tokens": answer}
    flops = {"GFLOP": tokens * of_token + of_answer, "distinct GFLOP": distinct * of_token + of_answer}
    return counts | {name: count / 1e9 for name, count in flops.items()}


def measure(name: str, recipe: Recipe, steps: int) -> Outcome:
    """Train in this process as the setting `name` says."""
    disable_progress_bars()
    setting = SETTINGS[name]
    by_name = "model_init_kwargs" in setting.options
    model = str(locate(recipe.model)) if by_name else load(recipe.model.model_copy(update={"dtype": setting.weights}))
    tokenizer = load_tokenizer(recipe.model)
    examples = tuning_data(tokenizer, recipe, steps * recipe.tuning.batch_size)
    ticks: list[tuple[float, float]] = []
    adapter: set[str] = set()

    def tick(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        adapter.update(str(one.dtype).removeprefix("torch.") for one in optimizer.param_groups[0]["params"])
        ticks.append((time.perf_counter(), time.process_time()))

    register_optimizer_step_post_hook(tick)
    run = {"ours": _ours, "loop": _loop, "trl": _trl}[setting.kind]
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        start = time.perf_counter()
        losses, autocast = run(Job(setting, recipe, model, tokenizer, examples, Path(folder)))
        seconds = time.perf_counter() - start
    return Outcome(
        f"{setting.weights}, {autocast}, adapter {'/'.join(adapter)}",
        tuple(after[0] - before[0] for before, after in itertools.pairwise(ticks)),
        tuple(after[1] - before[1] for before, after in itertools.pairwise(ticks)),
        seconds,
        tuple(losses),
        torch.cuda.max_memory_allocated() if DEVICE == "cuda" else machine.peak_memory(),
    )


def _autocast() -> str:
    dtype = str(torch.get_autocast_dtype(DEVICE)).removeprefix("torch.")
    return f"{dtype} autocast" if torch.is_autocast_enabled(DEVICE) else "no autocast"


def _ours(job: Job) -> tuple[Sequence[float], str]:
    seen: list[str] = []
    job.model.model.get_input_embeddings().register_forward_pre_hook(lambda *_: seen.append(_autocast()))
    result = fine_tune(job.model, job.examples, job.recipe.tuning, job.folder, seed=SEED)
    return result.losses, statistics.mode(seen or ["unknown"])  # most passes are training steps


def _loop(job: Job) -> tuple[Sequence[float], str]:
    """What one writes without a trainer: pad the batch, full logits unless `answers_only`, AdamW."""
    tuning, options = job.recipe.tuning, job.setting.options
    batches = batches_of(tokenised(job.tokenizer, job.examples), tuning.batch_size)
    context = torch.autocast(DEVICE, torch.bfloat16, enabled=options.get("autocast", False))
    set_seed(SEED)
    model = get_peft_model(job.model.model, _lora(tuning)).train()
    network = model.get_base_model()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=tuning.learning_rate, weight_decay=tuning.weight_decay)
    schedule = get_scheduler(tuning.schedule, optimizer, math.ceil(len(batches) * tuning.warmup), len(batches))
    job.tokenizer.padding_side = "right"
    collate = DataCollatorForSeq2Seq(job.tokenizer)
    losses = []
    for batch in batches:
        inputs = collate(batch).to(DEVICE)
        targets = inputs.pop("labels")[:, 1:]
        with context:
            if options.get("answers_only"):
                states = network.get_decoder()(**inputs, use_cache=False).last_hidden_state
                logits = network.get_output_embeddings()(states[:, :-1][targets != IGNORED])
                targets = targets[targets != IGNORED]
            else:
                logits = model(**inputs, use_cache=False).logits[:, :-1].flatten(0, 1)
                targets = targets.flatten()
            loss = functional.cross_entropy(logits.float(), targets, ignore_index=IGNORED)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, tuning.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    model.save_pretrained(job.folder)
    with context:
        return losses, _autocast()


def _trl(job: Job) -> tuple[Sequence[float], str]:
    """SFTTrainer with the recipe's training and the setting's options; anything else as it comes."""
    tuning, options = job.recipe.tuning, dict(job.setting.options)
    loss = _full_logits if options.pop("full_logits", False) else None
    model = job.model if isinstance(job.model, str) else job.model.model
    lora = _lora(tuning)
    if options.pop("bfloat16_adapter", False):
        set_seed(SEED)
        model, lora = get_peft_model(model, lora, autocast_adapter_dtype=False), None
    common = {
        "output_dir": str(job.folder),
        "num_train_epochs": tuning.epochs,
        "per_device_train_batch_size": tuning.batch_size,
        "learning_rate": tuning.learning_rate,
        "lr_scheduler_type": tuning.schedule,
        "warmup_steps": tuning.warmup,
        "weight_decay": tuning.weight_decay,
        "max_grad_norm": tuning.max_grad_norm,
        "seed": SEED,
        "use_cpu": DEVICE == "cpu",  # left out, its default bf16=True is refused on a CPU
        "logging_steps": 1,
        "disable_tqdm": True,
        "report_to": "none",
    }
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(**common | options),
        train_dataset=Dataset.from_list([{"prompt": one.prompt, "completion": one.completion} for one in job.examples]),
        processing_class=job.tokenizer,
        peft_config=lora,
        compute_loss_func=loss,
    )
    trainer.train()  # saves a checkpoint at its end
    with trainer.accelerator.autocast():
        return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry], _autocast()


def _lora(tuning: Tuning) -> LoraConfig:
    return LoraConfig(
        r=tuning.lora_rank,
        lora_alpha=tuning.lora_alpha,
        lora_dropout=tuning.lora_dropout,
        target_modules=tuning.lora_targets,
        task_type="CAUSAL_LM",
    )


def _full_logits(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    learned = labels[:, 1:] != IGNORED
    logits = outputs.logits[:, :-1][learned].float()
    return functional.cross_entropy(logits, labels[:, 1:][learned], reduction="sum") / num_items_in_batch


def attempt(name: str, recipe: Recipe, steps: int) -> Outcome | str:
    """`measure` in a process of its own; a sentence where it fails."""
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            result = pool.submit(measure, name, recipe, steps).result()
        print(f"{name}: {result.seconds:.0f} s", file=sys.stderr, flush=True)
        return result
    except Exception as error:
        return f"{type(error).__name__}: " + str(error).strip().partition("\n")[0]


def furthest(one: Sequence[float], other: Sequence[float]) -> float:
    """The largest difference between two curves of losses, step by step."""
    return max(abs(left - right) for left, right in zip(one, other, strict=True))


def table(outcomes: Mapping[str, Outcome], examples: int, work: Mapping[str, float], peaks: Mapping[str, float]) -> str:
    """The Markdown table, the fastest first."""
    # Examples a step on average: a setting that packs has steps of its own.
    rate = {
        name: examples / (len(outcome.steps) + 1) / statistics.median(outcome.steps[WARM_UP - 1 :])
        for name, outcome in outcomes.items()
    }
    lines = [
        "| setting | options | precision | examples/s | times defaults | whole run, s | cores busy | peak memory, GB "
        "| loss differs by | of peak | of peak, distinct |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name in sorted(outcomes, key=lambda name: -rate[name]):
        setting, outcome, speed = SETTINGS[name], outcomes[name], rate[name]
        options = ", ".join(f"{key}={value}" for key, value in setting.options.items())
        ratio = f"{speed / rate[DEFAULTS]:.2f}" if DEFAULTS in rate else "n/a"
        busy = sum(outcome.cpu) / sum(outcome.steps) / torch.get_num_threads()
        compared = REFERENCE in outcomes and not setting.options.keys() & OTHER_BATCHES
        loss = f"{furthest(outcome.losses, outcomes[REFERENCE].losses):.1e}" if compared else "n/a"
        peak = peaks["float32" if outcome.precision.startswith("float32, no autocast") else "bfloat16"]
        shares = [f"{speed * work[flops] * 1e9 / peak:.0%}" for flops in ("GFLOP", "distinct GFLOP")]
        cells = [name, options or ("defaults" if setting.kind == "trl" else ""), outcome.precision]
        cells += [f"{speed:.2f}", ratio, f"{outcome.seconds:.1f}", f"{busy:.0%}", f"{outcome.memory / 1e9:.1f}", loss]
        lines.append(f"| {' | '.join(cells + shares)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=12, help="optimiser steps of each setting, more than 3")
    parser.add_argument("--settings", default=",".join(SETTINGS), help=f"of {', '.join(SETTINGS)}")
    parser.add_argument("--json", type=Path, help="write every figure there")
    options = parser.parse_args()
    names = options.settings.split(",")
    if unknown := [name for name in names if name not in SETTINGS]:
        parser.error(f"no setting {', '.join(unknown)}; there are {', '.join(SETTINGS)}")
    if options.steps <= WARM_UP + 1:
        parser.error(f"--steps must be more than {WARM_UP + 1}")

    recipe = load_recipe("default", ["tuning.epochs=1", f"seed={SEED}"])
    work = count_work(recipe, options.steps)
    peaks = {name: machine.matrix_peak(getattr(torch, name), DEVICE) for name in ("bfloat16", "float32")}
    libraries = ", ".join(f"{name} {version(name)}" for name in ("transformers", "trl", "peft"))
    print(f"{machine.describe()}, {libraries}")
    print("matrix peak " + ", ".join(f"{name} {peak / 1e12:.2f} TFLOP/s" for name, peak in peaks.items()))
    print(f"{recipe.model.source}, {options.steps} steps of {recipe.tuning.batch_size} examples; an example has")
    print(", ".join(f"{count:.1f} {name}" for name, count in work.items()) + "\n", flush=True)
    results = {name: attempt(name, recipe, options.steps) for name in names}
    outcomes = {name: result for name, result in results.items() if isinstance(result, Outcome)}
    failed = {name: reason for name, reason in results.items() if isinstance(reason, str)}
    if options.json:
        figures = {name: asdict(outcome) for name, outcome in outcomes.items()}
        record = {"machine": machine.describe(), "libraries": libraries, "peaks": peaks, "work": work}
        options.json.write_text(json.dumps(record | {"settings": figures, "failed": failed}, indent=1) + "\n", "utf-8")
    print(table(outcomes, options.steps * recipe.tuning.batch_size, work, peaks))
    if {"ours", DEFAULTS} <= outcomes.keys():
        apart = furthest(outcomes["ours"].losses, outcomes[DEFAULTS].losses)
        print(f"\nThe losses of ours and {DEFAULTS} are {apart:.1e} apart.")
    for name, reason in failed.items():
        print(f"\nDid not run: {name} ({dict(SETTINGS[name].options)}): {reason}")


if __name__ == "__main__":
    main()
