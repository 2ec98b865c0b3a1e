"""The settings of a run: what every key of a recipe means, its default and its range.

    Recipe(seed=1, probe=Probe(samples=20))

One class a section; each is also what a stage takes when it is called from Python. `rait.recipe` reads them from YAML.
"""

from collections.abc import Iterable
from importlib.util import find_spec
from math import ceil
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidatorFunctionWrapHandler, field_validator, model_validator

from rait.inert import holds_secret
from rait.records import MAX_FAILED

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="wrap")
    @classmethod
    def _no_truth_value(cls, value: Any, taken: ValidatorFunctionWrapHandler) -> Any:
        """Refuse true and false, and the yes and no that YAML takes for them, as numbers: they would be 1 and 0."""
        found = taken(value)
        if isinstance(value, bool):
            raise ValueError(f"should be a number, found {value}")
        return found

    @field_validator("*", mode="before")
    @classmethod
    def _no_secret(cls, value: Any) -> Any:
        """Refuse a password or key: the recipe is kept in the run folder, and stands in reports and cards."""
        texts = value if isinstance(value, list | tuple) else (value,)
        if any(isinstance(each, str) and holds_secret(each) for each in texts):
            raise ValueError("holds a password or key, which would be kept; use `hf auth login` or HF_TOKEN")
        return value


class Model(_Settings):
    """Which model is taught."""

    source: str = Field(
        default="gemma-3-270m", description="hub id, local folder, .gguf file, or gemma-3-270m (bundled)"
    )
    revision: str | None = Field(default=None, description="branch, tag or commit of a hub id")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="auto: as the weights are stored"
    )


def _check_apart(names: Iterable[str]) -> None:
    """Raise `ValueError` for names that are one on file systems which do not tell capital letters from small ones."""
    seen: dict[str, str] = {}
    for name in names:
        if (other := seen.setdefault(name.lower(), name)) != name:
            raise ValueError(f"{other} and {name} differ in capital letters alone, and some disks take them for one")


Columns = str | Annotated[tuple[str, ...], Field(min_length=1)]
FieldName = Literal["question", "answers", "id", "category", "options", "labels", "target"]


class Questions(_Settings):
    """Where questions come from, and how a source is to be understood."""

    source: str = Field(
        default="atlas",
        description="atlas (embedded), atlas-choice (the same with options), a file (.jsonl .json .csv .tsv .parquet, "
        "OpenTriviaQA text), a folder of MMLU "
        "or OpenTriviaQA files, or a hub id",
    )
    name: str | None = Field(default=None, description="configuration of a hub set that has several")
    split: str = Field(default="train", description="split of atlas, of a hub set or of a folder; a file has none")
    limit: Count | None = Field(default=None, description="take this many, drawn by the seed; none takes all")
    form: Literal["auto", "rows", "mmlu", "arc", "triviaqa", "opentriviaqa"] = Field(
        default="auto", description="auto: seen from the data; rows: columns as in fields"
    )
    fields: dict[FieldName, Columns | None] = Field(
        default={},
        description="which column holds a field, nested ones with dots (choices.text); null: none does; of answers and "
        "options it may be several columns, [A, B, C, D]",
    )
    separator: str | None = Field(
        default=None, min_length=1, description="between the answers of one text; none: | in .csv and .tsv alone"
    )
    target_is: Literal["auto", "index", "number", "letter", "text"] = Field(
        default="auto", description="how target names the right option; index counts from 0, number from 1"
    )
    options: Literal["keep", "drop"] = Field(
        default="keep", description="drop: ask multiple-choice questions as open-ended ones, where they can stand alone"
    )
    leaked: Literal["exclude", "keep"] = Field(
        default="exclude", description="what becomes of questions of a test set that are also trained on"
    )

    @model_validator(mode="after")
    def _fields_of_rows(self) -> Self:
        if self.fields and self.form not in ("auto", "rows"):
            raise ValueError(f"form {self.form} has its own fields; give fields with form rows")
        for name, columns in self.fields.items():
            if not isinstance(columns, str | None) and name not in ("answers", "options"):
                raise ValueError(f"fields.{name} is one column, found {list(columns)}")
        return self


class Prompt(_Settings):
    """How a question is put. One wording serves probe, tuning and evaluation."""

    style: Literal["auto", "plain", "chat"] = Field(
        default="auto", description="auto: chat where the tokenizer has a template"
    )
    shots: Annotated[int, Field(ge=0)] = Field(
        default=3, description="worked examples before the question when the model is probed"
    )
    shots_from: Questions | None = Field(
        default=None,
        description="where worked examples come from: the first ones of the question's category, if it has any there; "
        "none: they are taken out of the questions",
    )
    choice: Literal["letter", "text"] = Field(
        default="letter",
        description="multiple choice: letter shows the options and asks for a letter (paper); text asks the question "
        "alone and compares the options as answers, for models too small to bind letters",
    )
    system: str = Field(default="", description="system turn of a chat prompt, first line of a plain one")
    instruction: str | None = Field(
        default=None, description="begins every prompt; none: as fits open-ended or multiple-choice questions"
    )
    refusal: str = Field(
        default="I don't know", min_length=1, description="the answer that is taught for what is not known"
    )
    refusal_instruction: str = Field(
        default="If you don't know the answer, reply \"I don't know\".",
        description="added in tuning, for tuned models, and for Init-Refuse",
    )


class Probe(_Settings):
    """Knowledge state query (paper section 3.1)."""

    samples: Annotated[int, Field(ge=2)] = Field(default=10, description="answers drawn per question, N")
    temperature: Annotated[float, Field(gt=0)] = Field(default=1.0, description="of the full distribution")
    max_new_tokens: Count = Field(default=50, description="an answer's length at most; it ends at its first line break")
    embedder: str = Field(default="sentence-transformers/all-MiniLM-L6-v2", description="sentence model for certainty")
    shard: Count = Field(default=512, description="questions saved at a time; an interruption costs one shard")


TRACKERS = {
    **{name: (name,) for name in ("clearml", "codecarbon", "comet_ml", "dvclive", "mlflow", "neptune", "swanlab")},
    **{"tensorboard": ("tensorboard", "tensorboardX"), "trackio": ("trackio",), "wandb": ("wandb",)},
}
"""Experiment trackers that transformers' Trainer knows, and the packages of which one has to be there."""


class Tuning(_Settings):
    """Fine-tuning, of the rehearsed and of the refusal-aware model alike. The defaults suit a small adapter."""

    method: Literal["lora", "full"] = Field(default="lora", description="low-rank adapter, or every weight")
    epochs: Annotated[float, Field(gt=0)] = Field(default=3.0, description="passes over the examples")
    batch_size: Count = Field(default=16, description="examples per optimiser step")
    micro_batch_size: Count | None = Field(default=None, description="examples per forward pass; none: the whole batch")
    learning_rate: Annotated[float, Field(gt=0)] = Field(default=2e-4, description="peak learning rate")
    schedule: Literal["cosine", "linear", "constant"] = Field(default="cosine", description="after the warm-up")
    warmup: Share = Field(default=0.03, description="share of the steps in which the learning rate rises")
    weight_decay: Annotated[float, Field(ge=0)] = Field(default=0.0, description="AdamW weight decay")
    max_grad_norm: Annotated[float, Field(gt=0)] = Field(default=1.0, description="gradient clipping")
    max_length: Count = Field(default=2048, description="tokens of prompt and answer; longer examples are an error")
    lora_rank: Count = Field(default=32, description="LoRA r")
    lora_alpha: Count = Field(default=64, description="LoRA alpha")
    lora_dropout: Share = Field(default=0.0, description="LoRA dropout")
    lora_targets: str | tuple[str, ...] = Field(default="all-linear", description="layers that get an adapter")
    # Left out of what a step is keyed by, and of the recipe in a run folder: who watches changes nothing.
    report_to: tuple[str, ...] = Field(
        default=(), exclude=True, description="experiment trackers that are told the losses: tensorboard, wandb, ..."
    )

    @field_validator("report_to")
    @classmethod
    def _installed(cls, trackers: tuple[str, ...]) -> tuple[str, ...]:
        for name in trackers:
            if name not in TRACKERS:
                raise ValueError(f"unknown tracker {name!r}; known: {', '.join(TRACKERS)}")
            if not any(map(find_spec, TRACKERS[name])):
                raise ValueError(f"the tracker {name} is not installed; run: pip install {TRACKERS[name][0]}")
        return trackers

    @property
    def micro_batch(self) -> int:
        """Examples per forward pass."""
        return min(self.micro_batch_size or self.batch_size, self.batch_size)

    def steps(self, examples: int) -> int:
        """Optimiser steps of all passes over so many examples, as the trainer counts them."""
        batches = ceil(examples / self.micro_batch)
        return ceil(self.epochs * max(1, ceil(batches / (self.batch_size // self.micro_batch))))


class Rehearsal(_Settings):
    """Which questions the model is rehearsed on (paper section 3.1), and how."""

    rule: Literal["threshold", "top"] = Field(
        default="threshold", description="threshold: at random from those above both bounds; top: the highest"
    )
    correctness: Share | None = Field(
        default=None, description="lowest correctness, for rule threshold; none: 0.995, of multiple choice 0.99"
    )
    certainty: Annotated[float, Field(le=1)] | None = Field(
        default=None, description="lowest certainty, for rule threshold; none: 0.995, of multiple choice any"
    )
    size: Count = Field(default=1000, description="questions at most")
    tuning: Tuning = Tuning()


class Construction(_Settings):
    """Which questions become which training examples (paper Algorithm 1)."""

    threshold: Share = Field(default=0.5, description="tau_mu: known from this correctness on")
    dead_band: Annotated[float, Field(ge=0, le=0.5)] = Field(
        default=0.0, description="questions nearer to the threshold than this are dropped (released code: 0.01)"
    )
    flow_rule: Literal["negative", "non_positive"] = Field(
        default="negative", description="idk needs correctness flow < 0 (paper), or <= 0 (released MCQA code)"
    )
    vanilla: Annotated[int, Field(ge=0)] = Field(default=8000, description="N_van, questions that keep their answer")
    idk: Annotated[int, Field(ge=0)] = Field(default=2000, description="N_idk, questions relabelled as refused")
    shortage: Literal["fail", "shrink"] = Field(
        default="fail", description="too few questions: stop, or take what there is in the ratio asked for"
    )
    certainty: Literal["cosine", "exact_entropy", "embedding_entropy", "sequence_log_probability", "kurtosis"] = Field(
        default="cosine", description="which estimate of certainty orders the candidates; see `rait certainty`"
    )
    known_from: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0,
        description="of the strategy idk_sft alone: correctness from which a question is known (Ik threshold)",
    )
    temperature: Annotated[float, Field(gt=0)] = Field(
        default=0.05,
        description="of the strategy grait alone: how evenly idk examples are weighted; lower is less even",
    )
    seed: int | None = Field(default=None, description="of random draws; none: the recipe's")

    @model_validator(mode="after")
    def _something_wanted(self) -> Self:
        if self.vanilla + self.idk == 0:
            raise ValueError("vanilla and idk must not both be 0")
        return self


class Evaluation(_Settings):
    """The answers to test questions: greedy, or the best scored."""

    max_new_tokens: Count = Field(default=50, description="an answer's length at most")
    choice: Literal["auto", "generate", "score"] = Field(
        default="auto",
        description="multiple choice: parse what the model writes (paper), or take the likeliest of the options "
        "and the refusal; auto: generate for letters, score for texts",
    )
    resamples: Annotated[int, Field(ge=100)] = Field(
        default=2000, description="bootstrap resamples behind every interval"
    )


class Dial(_Settings):
    """How ready a tuned model is to refuse: the threshold on p(refuse), set on the calibration questions."""

    rule: Literal["best_ths", "max_error", "max_refusal"] = Field(
        default="best_ths",
        description="highest THS; or fewest refusals with at most so many wrong answers; or fewest wrong answers with "
        "at most so many refusals",
    )
    value: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None, description="greatest share wrong or refused, for the rules that have one"
    )
    among: Literal["all", "answered"] = Field(
        default="all",
        description="max_error counts wrong answers among all questions (conformal risk control: holds on average), "
        "or among answered ones (Learn then Test: holds but with probability delta)",
    )
    delta: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.1, description="how probable it may be that a rate among answered questions is missed"
    )

    @model_validator(mode="after")
    def _value_where_used(self) -> Self:
        if (self.value is None) != (self.rule == "best_ths"):
            needed = "has no value" if self.rule == "best_ths" else "needs a value between 0 and 1, the greatest share"
            raise ValueError(f"the rule {self.rule} {needed}")
        return self


DIAL_FILE = "rait_dial.json"  # beside the weights that were tuned; it changes how they are used, not what they are
BASELINES = {"init_basic": False, "init_refuse": True}
"""The untuned model as the methods are compared with it, and whether its prompt invites a refusal (Init-Refuse)."""

_ATLAS = ("atlas", "atlas-choice")
# What a run folder has beside a test set's own files and steps, so that no test set may be named so.
_TAKEN = {"train", "shots", "calibration", "construction", "conflicts", "tuning", "over_refusal", "dial"}
_TAKEN |= {"metrics", "report"}

TESTS = {"id": Questions(split="test"), "ood": Questions(split="ood")}


def _place(questions: Any) -> tuple[Any, Any]:
    """Source and split of what a recipe says of questions, before it is checked."""
    if isinstance(questions, dict):
        return questions.get("source", "atlas"), questions.get("split", "train")
    return getattr(questions, "source", None), getattr(questions, "split", None)


class Recipe(_Settings):
    """A whole run."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(default=0, description="of everything that is drawn at random")
    max_failed: Share = Field(
        default=MAX_FAILED,
        description="share of questions that may fail, such as those longer than the model's context; with more there "
        "are no numbers",
    )
    memory_limit: Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        description="GiB that the run may take, of the GPU's memory or without one of main memory; none: what there is",
    )
    model: Model = Model()
    questions: Questions = Questions()
    tests: dict[Name, Questions] = Field(
        default=TESTS,
        min_length=1,
        description="test sets by name; id and ood keep their split where only other keys are given",
    )
    prompt: Prompt = Prompt()
    probe: Probe = Probe()
    rehearsal: Rehearsal = Rehearsal()
    construction: Construction = Construction()
    strategies: tuple[Name, ...] = Field(default=("cor_rait", "craft"), min_length=1, description="methods to compare")
    tuning: Tuning = Tuning()
    evaluation: Evaluation = Evaluation()
    calibration: Questions | None = Field(
        default=None,
        description="questions on which the dial is set, neither trained nor tested on; of atlas its split validation "
        "unless stated otherwise; none: no dial",
    )
    dial: Dial = Dial()

    @model_validator(mode="before")
    @classmethod
    def _calibrated(cls, data: Any) -> Any:
        """Calibrate a run on atlas with the split of atlas that nothing else uses, unless the recipe says otherwise.

        Where something else uses it, there is no dial; which questions those are is then for the recipe to say.
        """
        if not isinstance(data, dict):
            return data
        source, split = _place(data.get("questions", {}))
        own = {"split": "validation"} | ({"source": source} if source in _ATLAS else {})
        stated = data.get("calibration", {} if source in _ATLAS else None)
        if not isinstance(stated, dict):
            return data | {"calibration": stated}
        tests = data.get("tests")
        used = [(source, split), *map(_place, tests.values() if isinstance(tests, dict) else ())]
        if not stated.keys() & {"source", "split", "leaked"} and (source, "validation") in used:
            return data | {"calibration": None}
        return data | {"calibration": own | stated}

    @field_validator("tests", mode="before")
    @classmethod
    def _complete(cls, tests: Any) -> Any:
        """Give a test set with the name of a default one that one's keys where it does not state them."""
        if not isinstance(tests, dict):
            return tests
        return {
            name: TESTS[name].model_dump() | stated if name in TESTS and isinstance(stated, dict) else stated
            for name, stated in tests.items()
        }

    @field_validator("tests")
    @classmethod
    def _not_a_name_of_ours(cls, tests: dict[str, Questions]) -> dict[str, Questions]:
        _check_apart(tests)
        for name in tests:
            if name.lower() in _TAKEN or name.lower().startswith("seed-"):
                raise ValueError(f"a test set must not be named {name}, which is taken in the run folder")
        return tests

    @field_validator("strategies")
    @classmethod
    def _each_once(cls, strategies: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(strategies)) < len(strategies):
            raise ValueError("a strategy is named twice")
        _check_apart(strategies)
        taken = {"questions", "knowledge", "rehearsal", "init_basic", "init_refuse", "export"}
        for name in strategies:
            if name.lower() in taken:
                raise ValueError(f"a strategy must not be named {name}, which is taken in the run folder")
        return strategies
