"""The recipe: everything that decides a run, as one typed object.

    recipe = load_recipe("recipes/default.yaml", ["seed=1", "probe.samples=20"])

YAML in, dotted overrides on top. Every key is checked, all problems are reported at once, and an unknown key names the
nearest one that exists. The settings classes below are also what the stages take when they are called from Python.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rait.errors import RecipeError

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Model(_Settings):
    """Which model is taught."""

    source: str = Field("gemma-3-270m", description="hub id, local folder, .gguf file, or gemma-3-270m (bundled)")
    revision: str | None = Field(None, description="branch, tag or commit of a hub id")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field("auto", description="auto: as the weights are stored")


class Questions(_Settings):
    """Where questions come from."""

    source: str = Field("atlas", description="atlas (embedded), a file (.jsonl .json .csv .tsv .parquet) or a hub id")
    split: str = Field("train", description="split of atlas or of a hub set; a file has none")
    limit: Count | None = Field(None, description="take this many, drawn by the seed; none takes all")


class Prompt(_Settings):
    """How a question is put. One wording serves probe, tuning and evaluation."""

    style: Literal["auto", "plain", "chat"] = Field("auto", description="auto: chat where the tokenizer has a template")
    shots: Annotated[int, Field(ge=0)] = Field(3, description="worked examples before the question when the model is probed")
    instruction: str = Field("Answer the question as briefly as possible.", description="first line of every prompt")
    refusal: str = Field("I don't know", min_length=1, description="the answer that is taught for what is not known")
    refusal_instruction: str = Field(
        "If you don't know the answer, reply \"I don't know\".",
        description="added in tuning, for tuned models, and for Init-Refuse",
    )


class Probe(_Settings):
    """Knowledge state query (paper section 3.1)."""

    samples: Annotated[int, Field(ge=2)] = Field(10, description="answers drawn per question, N")
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(1.0, description="of the full distribution")
    max_new_tokens: Count = Field(50, description="an answer's length at most; it ends at its first line break")
    embedder: str = Field("sentence-transformers/all-MiniLM-L6-v2", description="sentence model for certainty")
    shard: Count = Field(512, description="questions saved at a time; an interruption costs one shard")


class Tuning(_Settings):
    """Fine-tuning, of the rehearsed and of the refusal-aware model alike. The defaults are tuned for a small model."""

    method: Literal["lora", "full"] = Field("lora", description="low-rank adapter, or every weight")
    epochs: Annotated[float, Field(gt=0)] = Field(3.0, description="passes over the examples")
    batch_size: Count = Field(16, description="examples per optimiser step")
    micro_batch_size: Count | None = Field(None, description="examples per forward pass; none: the whole batch")
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(2e-4, description="peak learning rate")
    schedule: Literal["cosine", "linear", "constant"] = Field("cosine", description="after the warm-up")
    warmup: Share = Field(0.03, description="share of the steps in which the learning rate rises")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.0, description="AdamW weight decay")
    max_grad_norm: Annotated[float, Field(gt=0)] = Field(1.0, description="gradient clipping")
    max_length: Count = Field(2048, description="tokens of prompt and answer; longer examples are an error")
    lora_rank: Count = Field(32, description="LoRA r")
    lora_alpha: Count = Field(64, description="LoRA alpha")
    lora_dropout: Share = Field(0.0, description="LoRA dropout")
    lora_targets: str | tuple[str, ...] = Field("all-linear", description="layers that get an adapter")


class Rehearsal(_Settings):
    """Which questions the model is rehearsed on (paper section 3.1), and how."""

    rule: Literal["threshold", "top"] = Field(
        "threshold", description="threshold: at random from those above both bounds; top: the highest"
    )
    correctness: Share = Field(0.995, description="lowest correctness, for rule threshold")
    certainty: Annotated[float, Field(ge=-1, le=1)] = Field(0.995, description="lowest certainty, for rule threshold")
    size: Count = Field(1000, description="questions at most")
    tuning: Tuning = Tuning()


class Construction(_Settings):
    """Which questions become which training examples (paper Algorithm 1)."""

    threshold: Share = Field(0.5, description="tau_mu: known from this correctness on")
    dead_band: Annotated[float, Field(ge=0, le=0.5)] = Field(0.0, description="questions nearer to the threshold than this are dropped (released code: 0.01)")
    flow_rule: Literal["negative", "non_positive"] = Field(
        "negative", description="idk needs correctness flow < 0 (paper), or <= 0 (released MCQA code)"
    )
    vanilla: Annotated[int, Field(ge=0)] = Field(8000, description="N_van, questions that keep their answer")
    idk: Annotated[int, Field(ge=0)] = Field(2000, description="N_idk, questions relabelled as refused")
    shortage: Literal["fail", "shrink"] = Field(
        "fail", description="too few questions: stop, or take what there is in the ratio asked for"
    )
    seed: int | None = Field(None, description="of random draws; none: the recipe's")

    @model_validator(mode="after")
    def _something_wanted(self) -> Self:
        if self.vanilla + self.idk == 0:
            raise ValueError("vanilla and idk must not both be 0")
        return self


class Evaluation(_Settings):
    """Greedy answers to test questions."""

    max_new_tokens: Count = Field(50, description="an answer's length at most")
    resamples: Annotated[int, Field(ge=100)] = Field(2000, description="bootstrap resamples behind every interval")


class Recipe(_Settings):
    """A whole run."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    model: Model = Model()
    questions: Questions = Questions()
    tests: dict[Name, Questions] = Field(
        {"id": Questions(split="test"), "ood": Questions(split="ood")}, description="test sets by name", min_length=1
    )
    prompt: Prompt = Prompt()
    probe: Probe = Probe()
    rehearsal: Rehearsal = Rehearsal()
    construction: Construction = Construction()
    strategies: tuple[Name, ...] = Field(("cor_rait", "craft"), min_length=1, description="methods to compare")
    tuning: Tuning = Tuning()
    evaluation: Evaluation = Evaluation()


def load_recipe(source: str | Path | None = None, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe: a YAML file, the name of one that comes with the package, or None for "default".

    `overrides` are "dotted.key=value" with the value in YAML. Raises `RecipeError` with every problem found.
    """
    path = _find(source)
    data = _parse(path)
    for override in overrides:
        _apply(data, override)
    return check_recipe(data, str(path))


def check_recipe(data: Mapping[str, Any], where: str) -> Recipe:
    """Validate plain data as a recipe; `where` begins the error message."""
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        problems = "\n  ".join(_explain(problem) for problem in error.errors())
        raise RecipeError(f"{where} is not a valid recipe:\n  {problems}") from error


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as YAML, every key written out."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def bundled_recipes() -> dict[str, str]:
    """Name -> first comment line of every recipe in the package."""
    folder = resources.files("rait") / "recipes"
    texts = {item.name.removesuffix(".yaml"): item.read_text("utf-8") for item in folder.iterdir() if item.name.endswith(".yaml")}
    return {name: texts[name].splitlines()[0].lstrip("# ") for name in sorted(texts)}


def _find(source: str | Path | None) -> Path:
    source = "default" if source is None else source
    if isinstance(source, str) and source in (known := bundled_recipes()):
        return Path(str(resources.files("rait") / "recipes" / f"{source}.yaml"))
    path = Path(source)
    if not path.is_file():
        known = bundled_recipes()
        near = difflib.get_close_matches(str(source), known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise RecipeError(f"no recipe {str(source)!r}: neither a file nor one of {', '.join(known)}; {hint}see `rait recipes`")
    return path


def _parse(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text("utf-8"))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise RecipeError(f"{path}:{line}: not valid YAML: {error.problem}") from error
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise RecipeError(f"{path} cannot be read as YAML: {error}") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of keys, found {type(data).__name__}")
    return data


def _apply(data: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise RecipeError(f"override {override!r} must have the form key=value, such as probe.samples=20")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"override {override!r}: the value is not valid YAML") from error
    if isinstance(value, str):  # YAML 1.1 reads 2e-4 as text; nobody means that
        try:
            value = float(value)
        except ValueError:
            pass
    _put(data, key, value)


def _put(data: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        inner = data.get(parent)
        data[parent] = data = dict(inner) if isinstance(inner, dict) else {}
    data[last] = value


def _explain(problem: Any) -> str:
    location = problem["loc"]
    key = ".".join(str(part) for part in location)
    if problem["type"] == "extra_forbidden":
        siblings = _keys(Recipe, location[:-1])
        near = difflib.get_close_matches(str(location[-1]), siblings, n=1)
        if near:
            return f"{key}: unknown key, did you mean {near[0]!r}?"
        elsewhere = [path for path in _paths(Recipe) if path.split(".")[-1] == str(location[-1])]
        hint = f"did you mean {elsewhere[0]!r}?" if elsewhere else f"known here: {', '.join(siblings)}"
        return f"{key}: unknown key; {hint}"
    message = problem["msg"][0].lower() + problem["msg"][1:]
    return f"{key}: {message}, found {problem['input']!r}"


def _keys(model: type[BaseModel], location: Sequence[Any]) -> list[str]:
    """Keys known at a place in the recipe."""
    if not location:
        return list(model.model_fields)
    field = model.model_fields.get(str(location[0]))
    if field is None:
        return []
    annotation = field.annotation
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _keys(annotation, location[1:])
    inner = [kind for kind in get_args(annotation) if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return _keys(inner[0], location[2:]) if inner else []


def _paths(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _paths(field.annotation, f"{prefix}{name}.")


def load_settings(options: Mapping[str, Any], overrides: Sequence[str] = ()) -> Recipe:
    """The defaults with `options` (dotted key -> value) and then `overrides` on top: settings of a single command."""
    data: dict[str, Any] = {}
    for key, value in options.items():
        _put(data, key, value)
    for override in overrides:
        _apply(data, override)
    return check_recipe(data, "the command line")
