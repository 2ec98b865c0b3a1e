"""What a user would otherwise run to sample N answers to many questions, each behind the same small function.

    prepare = engine("generate_batch")
    ready = prepare(job)
    answers = ready.ask(job.asked, 10)          # [{answer text: count}, ...] in the order asked

Every module here has `SETTINGS`, by the name of its engine: the settings worth trying, the fastest found first. Each
engine draws from the full distribution at the same temperature, with the same end of an answer: the first line break,
or `max_new_tokens`. `python -m engines NAME JOB OUT` runs one in a process of its own; what cannot be imported there
is reported, not run. No module imports `rait` but `ours`: an engine may live in another environment than rait.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, NamedTuple, TypedDict

Answers = list[dict[str, int]]

MODULES = {
    "rait_probe": "ours",
    "rait_draw": "ours",
    "generate_each": "generate",
    "generate_return": "generate",
    "generate_batch": "generate",
    "llamacpp": "llamacpp",
    "vllm": "vllm_cpu",
}


class Asked(TypedDict):
    """A question as every engine gets it: its prompt is rendered already."""

    id: str
    question: str
    answers: list[str]
    category: str
    prompt: str
    seed: int


@dataclass(frozen=True, slots=True)
class Job:
    """What one run of one engine is to do."""

    model: str  # a folder in Hugging Face form
    gguf: str | None  # the same model in llama.cpp's form, where there is one
    asked: list[Asked]
    warm_up: list[Asked]  # other questions, asked before the clock starts
    samples: int
    max_new_tokens: int
    setting: dict[str, Any] = field(default_factory=dict)


class Work(NamedTuple):
    """Rows that went through the layers, and rows that were projected onto the vocabulary."""

    rows: int
    head_rows: int


class Ready(NamedTuple):
    """A loaded engine: how to ask it, and its work so far, None where it does not say."""

    ask: Callable[[Sequence[Asked], int], Answers]
    work: Callable[[], Work | None]


class UnavailableError(Exception):
    """This engine cannot run here; the message says why."""


def engine(name: str) -> Callable[[Job], Ready]:
    """The function that loads an engine."""
    prepare: Callable[[Job], Ready] = getattr(_module(name), name)
    return prepare


def settings(name: str) -> list[dict[str, Any]]:
    """The settings worth trying, the fastest found first."""
    found: list[dict[str, Any]] = _module(name).SETTINGS[name]
    return found


def _module(name: str) -> Any:
    return import_module(f"engines.{MODULES[name]}")
