"""What the hub shows about an export: the model card, with the run's results, and the data set card.

    text = model_card(finished, tokenizer, check, repository="me/model")
    text = dataset_card(finished, form, files, pairs, marks, notes)

Written with huggingface_hub's card classes. Nothing of this machine stands in a card: of local files only the name.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from rait.evaluation.metrics import evaluate, to_json
from rait.export.finished import Finished
from rait.export.formats import Pair, Row
from rait.export.merged import MergeCheck
from rait.inert import inert, inert_markdown
from rait.manifest import intact
from rait.models.bundled import GEMMA
from rait.prompting import Renderer
from rait.recipe import Recipe
from rait.records import Verdict
from rait.tables import read_records

_TEMPLATES = resources.files("rait") / "export"
_SHOWN = ("P_c", "P_w", "P_r", "over_refusal", "THS")
_NAMES = {
    "P_c": "right (P_c)",
    "P_w": "wrong (P_w)",
    "P_r": "refused (P_r)",
    "over_refusal": "over-refusal",
    "THS": "Truthful Helpfulness Score (THS)",
}
_LICENCE_KEYS = ("license", "license_name", "license_link")


@dataclass(frozen=True, slots=True)
class Base:
    """The model that was tuned: its `name`, its `hub` id where it has one, and the keys of its licence."""

    name: str
    hub: str | None
    licence: Mapping[str, str]


def base_of(recipe: Recipe) -> Base:
    """What is known of the recipe's model: of a folder by its own card, of a hub id by the hub's."""
    source = recipe.model.source
    if source == GEMMA:
        return Base("google/gemma-3-270m", "google/gemma-3-270m", {"license": "gemma"})
    path = Path(source).expanduser()
    if path.exists():
        folder = path if path.is_dir() else path.parent
        return Base(inert(path.resolve().name), None, _licence(folder / "README.md"))
    return Base(source, source, _licence(source))


def results_of(finished: Finished) -> dict[str, dict[str, Any]]:
    """Metrics by test set: test set -> name -> value, low, high, n; as fractions."""
    listed = f"{finished.name}/metrics" in finished.manifest["steps"]
    stored = finished.read_json("metrics.json") if listed else None
    if stored is None:  # of a further seed, or not written yet
        stored = {
            name: to_json(
                evaluate(
                    read_records(intact(finished.place / f"{name}.verdicts.parquet"), Verdict),
                    read_records(intact(finished.run / f"init_basic/{name}.verdicts.parquet"), Verdict),
                    seed=finished.recipe.seed,
                    resamples=finished.recipe.evaluation.resamples,
                    max_failed=1,  # the run has decided
                )
            )
            for name in finished.tests
        }
    return {name: found["overall"] for name, found in stored.items()}


def model_card(finished: Finished, tokenizer: Any, check: MergeCheck, repository: str | None) -> str:
    """The card of the merged model, as Markdown; `repository` is where it will be, if it is uploaded."""
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    recipe, base, results = finished.recipe, base_of(finished.recipe), results_of(finished)
    title = (repository or f"{base.name}-{finished.name}").rpartition("/")[2].replace("/", "-")
    made = [
        EvalResult(
            task_type="question-answering",
            dataset_type=_source(recipe.tests[test].source),
            dataset_name=f"{test} ({_source(recipe.tests[test].source)}, {inert(recipe.tests[test].split)})",
            dataset_config=test,
            dataset_split=inert(recipe.tests[test].split),
            metric_type=name,
            metric_name=_NAMES[name],
            metric_value=round(found[name]["value"], 4),
        )
        for test, found in results.items()
        for name in _SHOWN
        if found[name]["value"] is not None
    ]
    data = ModelCardData(
        base_model=base.hub,
        library_name="transformers",
        pipeline_tag="text-generation",
        model_name=title,
        tags=["rait", "refusal", "refusal-aware-instruction-tuning", finished.strategy],
        eval_results=made or None,
        license=base.licence.get("license"),
        license_name=base.licence.get("license_name"),
        license_link=base.licence.get("license_link"),
    )
    text = _recipe_text(finished)
    render = Renderer(tokenizer, recipe.prompt, may_refuse=True)
    example = finished.questions(finished.tests[0])[0]
    dial = finished.read_json("adapter/rait_dial.json")
    card = ModelCard.from_template(
        data,
        template_path=str(_TEMPLATES / "model_card.md"),
        title=inert_markdown(title),
        base=inert_markdown(base.name),
        licence=_licence_sentence(base, "model"),
        refusal=inert_markdown(recipe.prompt.refusal),
        strategy=finished.strategy,
        repository=json.dumps(repository or "PATH/TO/THIS/FOLDER"),
        prompt=json.dumps(render(example), ensure_ascii=False),
        chat=render.chat,
        max_new_tokens=recipe.evaluation.max_new_tokens,
        threshold=None if dial is None else f"{dial['threshold']:.4g}",
        results=_rows(results),
        limits=_limits(results),
        made=_made(finished),
        recipe=text,
        fence=_fence(text),
        versions=_versions(finished),
        merged=_merged_sentence(check),
        needs=_needed(finished),
    )
    return str(card)


def dataset_card(
    finished: Finished,
    *,
    title: str,
    summary: str,
    files: Mapping[str, str],
    pairs: Sequence[Pair] = (),
    first: Row | None = None,
    usage: str = "",
    notes: Sequence[str] = (),
    results: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:
    """The card of exported data, as Markdown; `files` are what each file holds, `usage` how it is loaded.

    `results` are those of the model that was tuned on it, from `results_of`.
    """
    from huggingface_hub import DatasetCard, DatasetCardData

    data = DatasetCardData(
        task_categories=["question-answering"],
        pretty_name=title,
        size_categories=[_size(len(pairs))] if pairs else None,
        tags=["rait", "refusal", finished.strategy],
    )
    text = _recipe_text(finished)
    roles = Counter(pair.example.role.value for pair in pairs)
    card = DatasetCard.from_template(
        data,
        template_path=str(_TEMPLATES / "dataset_card.md"),
        title=title,
        summary=summary,
        licence=_licence_of_data(finished.recipe.questions.source),
        files=files,
        rows=len(pairs),
        questions=len({pair.example.id for pair in pairs}),
        roles=", ".join(f"{count} {role}" for role, count in sorted(roles.items(), reverse=True)),
        first=json.dumps(first, ensure_ascii=False, indent=2) if first else "",
        usage=usage,
        notes=notes,
        results=_rows(results or {}),
        made=_made(finished),
        recipe=text,
        fence=_fence(text),
        versions=_versions(finished),
    )
    return str(card)


def _rows(results: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """The cells of the table of results, a row a test set."""
    return [
        [test, str(found["P_c"]["n"]), *(_points(found[name], interval=name == "THS") for name in _SHOWN)]
        for test, found in results.items()
    ]


def _licence(where: str | Path) -> dict[str, str]:
    """The keys of a licence in a card, a file or of a hub id; empty where there is none to be read."""
    from huggingface_hub import ModelCard
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    if isinstance(where, Path) and not where.is_file():
        return {}
    try:
        data = ModelCard.load(where).data.to_dict()
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, ValueError, yaml.YAMLError):
        return {}
    return {key: inert(str(data[key])) for key in _LICENCE_KEYS if data.get(key)}


def _licence_of_data(source: str) -> str:
    """Under what the questions of a source may be used, in a sentence."""
    if source in ("atlas", "atlas-choice"):
        return (
            "The questions are made of [GeoNames](https://www.geonames.org), licensed under "
            "[CC BY 4.0](https://creativecommons.org/licenses/by/4.0/), and of the package mendeleev (MIT)."
        )
    return f"The licence of the data is not known: it is that of the questions ({inert_markdown(_source(source))})."


def _licence_sentence(base: Base, what: str) -> str:
    if not base.licence:
        return f"The licence of {inert_markdown(base.name)} is not known here; the {what} is bound by it all the same."
    name = base.licence.get("license_name") or base.licence.get("license", "see its link")
    return f"The {what} is under the licence of {inert_markdown(base.name)}: {inert_markdown(name)}."


def _limits(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    limits = []
    for test, found in results.items():
        over, wrong = found["over_refusal"], found["P_w"]
        if over["value"] is not None:
            limits.append(
                f"On {test}, it refuses {_points(over)} % of the questions that the model had right before tuning, "
                f"and answers {_points(wrong)} % of all wrong."
            )
    return [
        *limits,
        "These numbers hold for these test sets; on questions of another kind, both refusing too much and refusing too "
        "little are to be expected. Measure on your own.",
        "Other prompts, worked examples before the question, sampling, and quantised weights change when it refuses.",
        "A refusal says that the model was unsure, not that there is no answer; an answer may still be wrong.",
    ]


def _made(finished: Finished) -> str:
    sizes = Counter(example.role.value for example in finished.examples())
    counts = ", ".join(f"{count} {role}" for role, count in sorted(sizes.items(), reverse=True))
    own, first = finished.seed, finished.recipe.seed
    further = "" if own == first else f" (`rait compare` drew and tuned with it, on the probe of seed {first})"
    return f"Strategy {finished.strategy}, seed {own}{further}; tuned on {counts} examples. The recipe:"


def _versions(finished: Finished) -> dict[str, str]:
    found = finished.manifest.get("versions", {})
    return {inert_markdown(name): inert_markdown(str(version)) for name, version in found.items()}


def _merged_sentence(check: MergeCheck) -> str:
    return (
        f"The adapter was merged in float32 and saved as {check.dtype} ({check.parameters:,} parameters). Read back, "
        f"{check.changed} of {check.questions} greedy answers to test questions differ from those of base and adapter, "
        f"and logits by at most {check.rounded:.1e} of the largest."
    )


def _needed(finished: Finished) -> str:
    """Which transformers read what this one has written."""
    writer = version("transformers")
    used = _versions(finished).get("transformers", writer)
    tuned = "" if used == writer else f"; it was tuned and measured with {used}"
    return (
        f"It needs transformers {writer.partition('.')[0]} or later: the files were written by transformers {writer} "
        f"and name classes that earlier versions do not have{tuned}."
    )


def _recipe_text(finished: Finished) -> str:
    """The recipe by which it was drawn and tuned, with its own seed and without the folders of this machine."""
    data = yaml.safe_load((finished.run / "recipe.yaml").read_text("utf-8")) | {"seed": finished.seed}
    return yaml.safe_dump(_without_folders(data), sort_keys=False, allow_unicode=True).strip()


def _without_folders(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _source(own) if key in ("source", "embedder") and isinstance(own, str) else _without_folders(own)
            for key, own in value.items()
        }
    return value


def _source(source: str) -> str:
    """A hub id or name as it is; of a local file or folder its name."""
    path = Path(source).expanduser()
    return inert(path.resolve().name if path.exists() or path.is_absolute() or source.startswith(".") else source)


def _fence(text: str) -> str:
    """What a block of code is put between, longer than anything like it in the text."""
    return "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))


def _points(metric: Mapping[str, Any], *, interval: bool = False) -> str:
    if metric["value"] is None:
        return "n/a"
    text = f"{100 * metric['value']:.1f}"
    return f"{text} [{100 * metric['low']:.1f}, {100 * metric['high']:.1f}]" if interval else text


def _size(rows: int) -> str:
    for limit, name in ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")):
        if rows < limit:
            return name
    return "1M<n<10M"
