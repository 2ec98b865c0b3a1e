"""What the long stages depend on: with the same key what was saved on the way is gone on with, and what is whole stays.

    key = probe_key(models.key(adapter), checksum(questions), shots, recipe, embedder_mark(recipe.probe.embedder))

A key is plain data: parts of the recipe, fingerprints of models and of code, checksums of what is read. The steps of a
run and the single commands have the same ones.
"""

from collections.abc import Mapping
from typing import Any

from rait.columns import schema
from rait.construction import Strategy
from rait.prompting import Shots
from rait.recipe import Prompt, Recipe, Tuning
from rait.records import KnowledgeState
from rait.sets import plain_shots

Key = dict[str, Any]


def probe_key(model: Mapping[str, Any], questions: str, shots: Shots, recipe: Recipe, embedder: str | None) -> Key:
    """Of the states of `questions`; `embedder` is the fingerprint of the sentence model, None where none is asked."""
    return {
        "model": model,
        "questions": questions,
        "shots": plain_shots(shots),
        "prompt": asking(recipe.prompt),
        "probe": recipe.probe.model_dump(exclude={"shard", "embedder"}),
        "embedder": embedder,
        "seed": recipe.seed,
        "stored": str(schema(KnowledgeState)),  # states that lack what is stored today are probed again
    }


def influence_key(model: Mapping[str, Any], initial: str, settings: Mapping[str, Any], prompt: Prompt) -> Key:
    """Of the influences of refusals; `settings` are the recipe's construction, as it draws."""
    drawn = {name: settings[name] for name in ("threshold", "dead_band", "idk", "seed")}
    asked = prompt.model_dump(exclude={"shots", "shots_from"})
    return {"model": model, "initial": initial, "construction": drawn, "prompt": asked}


def tuning_key(model: Mapping[str, Any], examples: str, tuning: Tuning, seed: int) -> Key:
    """Of the weights that come of `examples`."""
    # Which change no weight, or by rounding alone.
    settings = tuning.model_dump(exclude={"max_length", "micro_batch_size", "report_to"})
    return {"model": model, "examples": examples, "tuning": settings, "seed": seed}


def evaluation_key(
    model: Mapping[str, Any],
    questions: str,
    shots: Shots,
    recipe: Recipe,
    *,
    may_refuse: bool,
    strategy: Strategy | None,
    weigh: bool,
) -> Key:
    """Of the verdicts on `questions`, of a model that was tuned by `strategy`, if it was."""
    left_out = {"shots", "shots_from"} | (set() if may_refuse else {"refusal_instruction"})
    return {
        "model": model,
        "questions": questions,
        "shots": plain_shots(shots),
        "prompt": recipe.prompt.model_dump(exclude=left_out),
        "may_refuse": may_refuse,
        "evaluation": recipe.evaluation.model_dump(exclude={"resamples"}),
        "code": strategy.code["read"] if strategy else None,
        "weigh": weigh,
    }


def asking(prompt: Prompt) -> Key:
    """What of the prompt a plain question depends on; the worked examples stand in the key themselves."""
    return prompt.model_dump(include={"style", "instruction", "system", "choice"})
