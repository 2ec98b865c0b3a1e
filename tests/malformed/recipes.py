# ruff: noqa: E501  (a table of files and messages)
"""Recipes that are wrong: as YAML, in their keys, types, ranges, and in what does not go together."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from malformed.cases import Case
from rait.settings import Recipe


def keys(model: type[BaseModel], before: str = "") -> Iterator[str]:
    """Every key of a recipe that is no section."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from keys(field.annotation, f"{before}{name}.")
        else:
            yield before + name


def nested(key: str, value: str) -> str:
    return "{" + ": {".join(key.split(".")) + f": {value}" + "}" * (key.count(".") + 1)


def recipe(text: Any, says: str, words: str = "validate r.yaml", code: int = 2) -> Case:
    return Case("recipes", words, code, says, {"r.yaml": text})


WRONG_TYPE = "[[3]]"  # no key takes a list of lists
TYPES = [recipe(nested(key, WRONG_TYPE), f"{key}") for key in keys(Recipe)]
SECTIONS = [recipe(f"{name}: 3", f"{name}: should have keys") for name, field in Recipe.model_fields.items() if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)]  # fmt: skip

YAML = [
    recipe("seed: [1, 2", "r.yaml:1: not valid YAML"),
    recipe("seed: 1\n  model: x", "r.yaml:2: not valid YAML"),
    recipe("seed: 1\nmodel: {source: x", "r.yaml:2: not valid YAML"),
    recipe("seed: 1\n\tmodel: x", "r.yaml:2: not valid YAML"),
    recipe("seed: 'one", "r.yaml:1: not valid YAML"),
    recipe("seed: *nowhere", "r.yaml:1: not valid YAML"),
    recipe("seed: &a\n- *b", "r.yaml:2: not valid YAML"),
    recipe("a: 1\n---\nb: 2", "r.yaml:2: not valid YAML"),
    recipe("seed: !!python/object/apply:os.system ['true']", "r.yaml:1: not valid YAML"),
    recipe("seed: !!python/name:os.system", "r.yaml:1: not valid YAML"),
    recipe("model: !mine {source: x}", "r.yaml:1: not valid YAML"),
    recipe("seed: @1", "r.yaml:1: not valid YAML"),
    recipe("seed: `1", "r.yaml:1: not valid YAML"),
    recipe("%YAML 9.0\n---\nseed: 1", "r.yaml:1: not valid YAML"),
    recipe("? [a, b]\n: 1", "r.yaml"),
    recipe("? {a: 1}\n: 1", "r.yaml:1: not valid YAML"),
    recipe("seed: 1\nseed: 2", "line 2: seed"),
    recipe("probe: {samples: 3, shard: 2, samples: 4}", "line 1: samples"),
    recipe("3: 4", "3: "),
    recipe("true: 4", "found True"),
    recipe("null: 4", "found None"),
    recipe("2026-01-01: 4", "found datetime.date(2026, 1, 1)"),
    recipe("seed: 2026-02-31", "r.yaml cannot be read as YAML"),
    recipe("seed: 0x", "seed: "),
    recipe("seed: \x00", "r.yaml cannot be read as YAML"),
    recipe(b"seed: \xff", "r.yaml:1: not UTF-8 text"),
    recipe("seed: 1\n".encode("utf-16"), "r.yaml:1: not UTF-8 text"),
    recipe("[seed, 1]", "a recipe is a mapping of keys, found list"),
    recipe("seed", "a recipe is a mapping of keys, found str"),
    recipe("3", "a recipe is a mapping of keys, found int"),
    recipe("[" * 20_000, "r.yaml"),
    recipe("{a: " * 3_000, "r.yaml"),
    recipe("a: &a [*a]", "with its aliases written out it has over 100000 values"),
    recipe("probe: &a\n  samples: *a", "with its aliases written out"),
    recipe("<<: 3", "r.yaml:1: not valid YAML"),
    recipe("a: &a {x: 1, y: 2}\n" + "".join(f"{name}: &{name} {{{', '.join(f'{n}: *{before}' for n in range(9))}}}\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)), "with its aliases written out"),
    *[recipe(f"seed: !!{tag}", "a value is not of the type that its tag names") for tag in ("int ''", "float ''", "bool x", "timestamp x")],
    recipe("seed: !!binary '=='", "seed: "),
    recipe("seed: !!set [a]", "r.yaml:1: not valid YAML"),
    recipe("seed: !!omap x", "r.yaml:1: not valid YAML"),
    recipe("seed: 1" + "0" * 5000, "a number of too many digits"),
]  # fmt: skip

UNKNOWN = [
    recipe("sed: 1", "sed: unknown key; did you mean seed?"),
    recipe("Seed: 1", "Seed: unknown key; did you mean seed?"),
    recipe("probe: {sample: 3}", "probe.sample: unknown key; did you mean probe.samples?"),
    recipe("samples: 3", "samples: unknown key; did you mean probe.samples?"),
    recipe("tuning: {lr: 1}", "tuning.lr: unknown key; known here: method, epochs"),
    recipe("tuning: {learning-rate: 1}", "did you mean tuning.learning_rate?"),
    recipe("rehearsal: {tuning: {epoch: 1}}", "did you mean rehearsal.tuning.epochs?"),
    recipe("tests: {id: {sorce: x}}", "did you mean tests.id.source?"),
    recipe("questions: {fields: {questoin: x}}", "questions.fields"),
    recipe("zzz: 1", "zzz: unknown key; known here: seed"),
    recipe("'': 1", ": unknown key"),
    recipe("model: {'': 1}", "model.: unknown key"),
    recipe("model: {source: x, \"\\ud83d\": 1}", "r.yaml"),
    recipe("calibration: {splt: x}", "did you mean calibration.split?"),
    recipe("dial: {rul: x}", "did you mean dial.rule?"),
    recipe("sed: 1\nprobe: {sample: 3}\ntuning: 3", "tuning: should have keys"),
]  # fmt: skip

RANGES = [
    recipe(nested(key, value), f"{key}: ")
    for key, values in {
        "seed": ("-1", "4294967296", "1.5", "x", "true", "off", "null"),
        "model.dtype": ("int8", "null"),
        "questions.limit": ("0", "-3", "2.5"),
        "questions.form": ("csv",),
        "questions.separator": ("''",),
        "questions.target_is": ("name",),
        "questions.options": ("hide",),
        "questions.leaked": ("maybe",),
        "prompt.style": ("html",),
        "prompt.shots": ("-1",),
        "prompt.refusal": ("''", "null"),
        "prompt.choice": ("number",),
        "probe.samples": ("1", "0", "1e9.5"),
        "probe.temperature": ("0", "-1", ".nan", ".inf"),
        "probe.max_new_tokens": ("0",),
        "probe.shard": ("0",),
        "rehearsal.rule": ("best",),
        "rehearsal.correctness": ("1.1", "-0.1"),
        "rehearsal.certainty": ("1.1",),
        "rehearsal.size": ("0",),
        "construction.threshold": ("2", "-.inf"),
        "construction.dead_band": ("0.6",),
        "construction.flow_rule": ("positive",),
        "construction.vanilla": ("-1",),
        "construction.shortage": ("skip",),
        "construction.certainty": ("entropy",),
        "construction.known_from": ("0",),
        "construction.temperature": ("0",),
        "tuning.method": ("qlora",),
        "tuning.epochs": ("0", ".nan"),
        "tuning.batch_size": ("0",),
        "tuning.learning_rate": ("0", "-1", "x"),
        "tuning.schedule": ("step",),
        "tuning.warmup": ("1.5",),
        "tuning.weight_decay": ("-1",),
        "tuning.max_grad_norm": ("0",),
        "tuning.lora_rank": ("0",),
        "tuning.lora_dropout": ("2",),
        "tuning.report_to": ("[nope]", "nope"),
        "evaluation.resamples": ("99",),
        "evaluation.choice": ("guess",),
        "dial.rule": ("worst",),
        "dial.delta": ("0", "1"),
        "dial.among": ("some",),
        "tests": ("{}", "null", "[id]"),
        "strategies": ("[]", "craft", "[3]", "[craft, craft]", "[questions]", "['../x']", "['']", f"[{'a' * 65}]"),
    }.items()
    for value in values
]  # fmt: skip

TOGETHER = [
    recipe("construction: {vanilla: 0, idk: 0}", "construction: vanilla and idk must not both be 0"),
    recipe("dial: {rule: max_error}", "dial: the rule max_error needs a value"),
    recipe("dial: {rule: best_ths, value: 0.1}", "dial: the rule best_ths has no value"),
    recipe("questions: {form: mmlu, fields: {question: q}}", "questions: form mmlu has its own fields"),
    recipe("questions: {fields: {question: [a, b]}}", "fields.question is one column"),
    recipe("questions: {fields: {answers: []}}", "questions.fields"),
    recipe("tests: {train: {}}", "must not be named train"),
    recipe("tests: {seed-1: {}}", "must not be named seed-1"),
    recipe("tests: {'../x': {}}", "tests"),
    recipe("tests: {'': {}}", "tests"),
    recipe("tests: {'a b': {}}", "tests"),
    recipe("tests: {3: {}}", "tests"),
    recipe("tests: {id: 3}", "tests.id: should have keys"),
    recipe("tests: {id: null}", "tests.id: should have keys"),
    recipe("strategies: [crafft]", "did you mean 'craft'"),
    recipe("tests: {id: {source: gone.jsonl}}\nquestions: {source: q.jsonl}\nmodel: {source: model}", "gone.jsonl", "prompts r.yaml", 1),
    recipe("questions: {source: gone.csv}\nmodel: {source: model}", "gone.csv", "prompts r.yaml", 1),
    recipe("sed: 1", "sed: unknown key", "run r.yaml --out n"),
    recipe("sed: 1", "sed: unknown key", "run r.yaml --out n --json"),
    recipe("sed: 1", "sed: unknown key", "compare r.yaml --out n"),
    recipe("sed: 1", "sed: unknown key", "prompts r.yaml"),
    recipe("strategies: [crafft]", "did you mean 'craft'", "run r.yaml --out n"),
    recipe("seed: x", "r.yaml with overrides", "validate r.yaml probe.samples=3"),
    recipe("probe: 3", "probe.x", "validate r.yaml probe.x=3"),
]  # fmt: skip

CASES = [*TYPES, *SECTIONS, *YAML, *UNKNOWN, *RANGES, *TOGETHER]
