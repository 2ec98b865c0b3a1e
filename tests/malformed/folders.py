# ruff: noqa: E501  (a table of files and messages)
"""Folders that are wrong: models, what was tuned on them, the cache of the bundled model, and runs."""

import json
import math
from collections.abc import Callable
from typing import Any

from malformed.cases import EXAMPLE, Case
from rait.manifest import fingerprint_of


def changed(**changes: Any) -> Callable[[bytes], bytes]:
    """A JSON file with other values; ... takes a key away."""

    def change(data: bytes) -> bytes:
        return json.dumps(
            {key: value for key, value in (json.loads(data) | changes).items() if value is not ...}
        ).encode()

    return change


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    return data[:-5] + bytes([data[-5] ^ 64]) + data[-4:]


def garbage(data: bytes) -> bytes:
    return b"\x80\x04 no weights \x00\xff" * 9


def no_numbers(data: bytes) -> bytes:
    """Safetensors with infinities for the second half of the weights."""
    start = 8 + int.from_bytes(data[:8], "little")
    size = (len(data) - start) // 8 * 4
    return data[: len(data) - size] + b"\x00\x00\x80\x7f" * (size // 4)


EVALUATE = "evaluate --model model --questions q.jsonl --out n.jsonl"
TUNED = f"{EVALUATE} --adapter adapter"


def model(says: str, words: str = EVALUATE, code: int = 1, **files: Any) -> Case:
    return Case(
        "models", words, code, says, {f"model/{name.replace('__', '.')}": content for name, content in files.items()}
    )


def adapter(says: str, words: str = TUNED, code: int = 1, foreign: bool = False, **files: Any) -> Case:
    """An adapter with other files; if `foreign`, one that does not say what it was tuned on."""
    changes = {f"adapter/{name.replace('__', '.')}": content for name, content in files.items()}
    return Case("adapters", words, code, says, changes | ({"adapter/rait_base.json": None} if foreign else {}))


def dial(threshold: float, refusal: str = "I don't know") -> str:
    """What `rait dial --save` writes, of any threshold."""
    own = {"threshold": threshold, "refusal": refusal, "target": None}
    return json.dumps(own | {"checksum": fingerprint_of(own)})


def run(says: str, words: str, code: int = 1, stdin: str = "", **files: Any) -> Case:
    names = {name.replace("__", ".").replace("_0_", "/"): content for name, content in files.items()}
    return Case("runs", words, code, says, {f"run/{name}": content for name, content in names.items()}, stdin)


MODELS = [
    model("model holds no config.json", config__json=None),
    model("model", config__json=""),
    model("model", config__json="{"),
    model("model", config__json=half),
    model("model", config__json="[]"),
    model("model", config__json="{}"),
    model("model", config__json=garbage),
    model("model", config__json=changed(model_type="nonsense")),
    model("model", config__json=changed(model_type=...)),
    model("model", config__json=changed(model_type="bert", architectures=["BertModel"])),
    model("model", config__json=changed(hidden_size="many")),
    model("model", config__json=changed(hidden_size=64)),
    model("model", config__json=changed(num_hidden_layers=4)),
    model("model", config__json=changed(vocab_size=7)),
    model("model", config__json=changed(num_attention_heads=0)),
    model("model", config__json=changed(auto_map={"AutoModelForCausalLM": "evil.Model"}, model_type="evil")),
    model("model holds no weights in safetensors", model__safetensors=None),
    model("model", model__safetensors=""),
    model("model", model__safetensors=half),
    model("model", model__safetensors=garbage),
    model("model", model__safetensors=lambda data: b"\xff" * 8 + data[8:]),
    model("NaN or infinite", model__safetensors=no_numbers),
    model("model", tokenizer__json=None, tokenizer_config__json=None),
    model("model", tokenizer__json=""),
    model("model", tokenizer__json="{}"),
    model("model", tokenizer__json=half),
    model("model", tokenizer__json=garbage),
    model("model", tokenizer_config__json="{"),
    model("model", tokenizer_config__json="[]"),
    model("end-of-text", "tune --model model --examples e.jsonl --out n", tokenizer_config__json=changed(eos_token=None)),
    Case("models", "evaluate --model q.jsonl --questions q.jsonl --out n.jsonl", 1, "q.jsonl is neither a model folder nor a .gguf file"),
    Case("models", "evaluate --model bad.gguf --questions q.jsonl --out n.jsonl", 1, "bad.gguf", {"bad.gguf": ""}),
    Case("models", "evaluate --model bad.gguf --questions q.jsonl --out n.jsonl", 1, "bad.gguf", {"bad.gguf": "GGUF"}),
    Case("models", "evaluate --model bad.gguf --questions q.jsonl --out n.jsonl", 1, "bad.gguf", {"bad.gguf": b"GGUF\x03\x00\x00\x00" + b"\xff" * 64}),
    Case("models", "evaluate --model bad.gguf --questions q.jsonl --out n.jsonl", 1, "bad.gguf", {"bad.gguf": b"\x00" * 512}),
    Case("models", "evaluate --model ./gone --questions q.jsonl --out n.jsonl", 2, "--model: gone does not exist"),
    Case("models", "evaluate --model gone --questions q.jsonl --out n.jsonl", 1, "no model at gone"),
    Case("models", "evaluate --model a/b/c --questions q.jsonl --out n.jsonl", 2, "--model: a/b/c does not exist"),
    Case("models", "evaluate --model '' --questions q.jsonl --out n.jsonl", 1, "model"),
    Case("models", "evaluate --model model --questions q.jsonl --out n.jsonl prompt.style=chat", 2, "prompt.style"),
    Case("models", "evaluate --model model --questions q.jsonl --out n.jsonl model.dtype=float8", 2, "model.dtype"),
    Case("models", "probe --model model --questions q.jsonl --out n.jsonl probe.embedder=./gone", 1, "gone"),
    Case("models", "probe --model model --questions q.jsonl --out n.jsonl probe.embedder=q.jsonl", 1, "q.jsonl"),
    Case("models", "certainty s.jsonl --entailment model", 1, "model"),
    Case("models", "certainty s.jsonl --entailment ./gone", 2, "--entailment: gone does not exist"),
]  # fmt: skip

ADAPTERS = [
    Case("adapters", f"{EVALUATE} --adapter gone", 2, "--adapter: gone does not exist"),
    Case("adapters", f"{EVALUATE} --adapter q.jsonl", 1, "q.jsonl"),
    Case("adapters", f"{EVALUATE} --adapter .", 1, "holds no adapter_config.json"),
    Case("adapters", "influence --model model --adapter model --initial s.jsonl --out n.jsonl", 1, "model"),
    adapter("adapter holds no adapter_config.json", adapter_config__json=None),
    adapter("adapter has lost its adapter_model.safetensors; fetch it or tune again", adapter_model__safetensors=None),
    adapter("adapter_model.safetensors is not as it was when it was tuned", adapter_model__safetensors=half),
    adapter("adapter_model.safetensors is not as it was when it was tuned", adapter_model__safetensors=flipped),
    adapter("adapter_model.safetensors is not as it was when it was tuned", adapter_model__safetensors=""),
    adapter("adapter_config.json is not as it was when it was tuned", adapter_config__json=changed(r=3)),
    adapter("added_tokens.json was not there when it was tuned", added_tokens__json="{}"),
    adapter("adapter/rait_base.json is damaged", rait_base__json="{"),
    adapter("adapter/rait_base.json is damaged", rait_base__json="[]"),
    adapter("adapter/rait_base.json is damaged", rait_base__json="{}"),
    adapter("adapter/rait_base.json is damaged", rait_base__json=b"\xff"),
    adapter("adapter/rait_base.json is damaged", rait_base__json=changed(files=3)),
    adapter("adapter/rait_base.json is damaged", rait_base__json=changed(files=["a"])),
    adapter("was trained on", rait_base__json=changed(fingerprint="0" * 16)),
    adapter("was trained on", rait_base__json=changed(fingerprint=None)),
    adapter("adapter has lost its ../gone.jsonl", rait_base__json=changed(files={"../gone.jsonl": "x"})),
    adapter("was trained on", **{"../model/generation_config__json": "{}"}),
    adapter("adapter/rait_dial.json is damaged", rait_dial__json="{"),
    adapter("adapter/rait_dial.json is damaged", rait_dial__json="{}"),
    adapter("adapter/rait_dial.json is damaged", rait_dial__json='{"threshold": "x", "refusal": "y"}'),
    adapter("adapter/rait_dial.json is damaged", rait_dial__json=dial(math.nan)),
    adapter("adapter/rait_dial.json is damaged", rait_dial__json=dial(7)),
    adapter("adapter/rait_dial.json is damaged", rait_dial__json=dial(0.5).replace("0.5", "0.6")),
    adapter("is for the refusal 'nope'", rait_dial__json=dial(0.5, "nope"), code=2),
    *[
        adapter("adapter", foreign=True, **files)
        for files in (
            {"adapter_config__json": None},
            {"adapter_config__json": ""},
            {"adapter_config__json": "{"},
            {"adapter_config__json": "[]"},
            {"adapter_config__json": "{}"},
            {"adapter_config__json": garbage},
            {"adapter_config__json": changed(peft_type="NOPE")},
            {"adapter_config__json": changed(peft_type="PROMPT_TUNING")},
            {"adapter_config__json": changed(r=0)},
            {"adapter_config__json": changed(r="x")},
            {"adapter_config__json": changed(r=7)},
            {"adapter_config__json": changed(target_modules=["nope"])},
            {"adapter_config__json": changed(target_modules=None)},
            {"adapter_model__safetensors": None},
            {"adapter_model__safetensors": ""},
            {"adapter_model__safetensors": half},
            {"adapter_model__safetensors": garbage},
            {"adapter_model__safetensors": no_numbers},
            {"adapter_model__safetensors": None, "adapter_model__bin": b"no weights"},
        )
    ],
]  # fmt: skip

# What stands in the place of a recipe, and is none.
STRANGE = ("{", "[]", "3", "\x00", "seed: 2020-13-45", "seed: !!int x", "[" * 100_000, "&a [*a]", "? [a, b]\n: 3")
STRANGE += (f"seed: {'9' * 5000}",)
LOOKS = ("status run", "report run", "dial run", "export run --to trl --strategy craft", "ask run Who?")
RUNS = [
    *[
        run("run/manifest.json is damaged", words, manifest__json=content)
        for content in ("", "{", "[]", "{}", "null", b"\xff", '{"steps": 3}', '{"steps": {"a": 3}, "status": 1}', half, flipped, changed(seed=7), changed(steps={}), "[" * 100_000)
        for words in LOOKS[:2]
    ],
    *[run("run/manifest.json is damaged", words, manifest__json="{}") for words in LOOKS[2:]],
    *[run("run holds no manifest.json", words, manifest__json=None) for words in LOOKS[:2]],
    *[run("run/manifest.json", words, manifest__json='{"format": 99, "steps": {}, "status": "complete"}') for words in LOOKS],
    *[run("run/recipe.yaml", words, code=2, recipe__yaml=content) for words in (LOOKS[0], *LOOKS[2:]) for content in (*STRANGE, "seed: x")],
    *[run("run holds no recipe.yaml", words, recipe__yaml=None) for words in (LOOKS[0], *LOOKS[2:])],
    run("craft/examples.jsonl", "export run --to trl --strategy craft", craft_0_examples__jsonl="{"),
    run("questions/train.parquet", "export run --to trl --strategy craft", questions_0_train__parquet=half, craft_0_examples__jsonl=[EXAMPLE]),
    run("craft/adapter", "ask run Who? --strategy craft", craft_0_adapter_0_adapter_model__safetensors=half),
    run("craft/adapter", "ask run Who? --strategy craft", craft_0_adapter_0_rait_base__json="{"),
    run("questions/train.parquet", "ask run Who? --strategy craft", questions_0_train__parquet="x"),
    run("questions/id.parquet", "ask run Who? --strategy craft", questions_0_id__parquet=half),
    run("craft/metrics.json", "ask run Who?", craft_0_metrics__json="{"),
    run("gone", "ask run Who? --adapter gone", code=2),
    run("adapter_config.json", "ask run Who? --adapter run"),
    run("the question is empty", "ask run ''"),
    run("the question is empty", "ask run ' '"),
    run("not a JSON object", "ask run '{\"question\": '"),
    run('has no "question"', "ask run '{}'"),
    run('has no "question"', "ask run '{\"question\": 3}'"),
    run('has no "question"', "ask run '{\"question\": \" \"}'"),
    run('"options" is not a list of texts', "ask run '{\"question\": \"Q?\", \"options\": 3}'"),
    run('"options" is not a list of texts', "ask run '{\"question\": \"Q?\", \"options\": [3]}'"),
    run('"options" has 1 texts', "ask run '{\"question\": \"Q?\", \"options\": [\"a\"]}'"),
    run('"options" has 11 texts', "ask run '{\"question\": \"Q?\", \"options\": " + json.dumps(list("abcdefghijk")) + "}'"),
    run("run", "compare run run --out n.html", manifest__json="{"),
    Case("runs", "run r.yaml --out run", 1, "run/manifest.json is damaged", {"run/manifest.json": "{", "r.yaml": "model: {source: model}"}),
    Case("runs", "run r.yaml --out run", 1, "run/manifest.json", {"run/manifest.json": '{"format": 99, "steps": {}}', "r.yaml": "model: {source: model}"}),
]  # fmt: skip

CASES = [*MODELS, *ADAPTERS, *RUNS]
