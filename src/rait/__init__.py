"""Refusal-aware instruction tuning: teach a language model to say "I don't know" when it does not know, and only then.

    from rait import load_recipe, run

    results = run(load_recipe("default"), "my-run")

Names are imported when first used, so that `import rait` costs nothing.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

try:
    __version__ = version("rait")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+unknown"

_HOME = {
    "Answer": "rait.records",
    "Decision": "rait.records",
    "Example": "rait.records",
    "KnowledgeFlow": "rait.records",
    "KnowledgeState": "rait.records",
    "Outcome": "rait.records",
    "Question": "rait.records",
    "RaitError": "rait.errors",
    "Recipe": "rait.recipe",
    "Renderer": "rait.prompting",
    "Role": "rait.records",
    "Verdict": "rait.records",
    "answer": "rait.evaluation.answering",
    "construct": "rait.construction",
    "evaluate": "rait.evaluation.metrics",
    "examples": "rait.construction",
    "fine_tune": "rait.tuning.sft",
    "flows": "rait.knowledge.flow",
    "judge": "rait.judging",
    "judge_choice": "rait.choosing",
    "load": "rait.models.loading",
    "load_embedder": "rait.models.embedding",
    "load_questions": "rait.questions",
    "load_recipe": "rait.recipe",
    "query": "rait.knowledge.query",
    "question_sets": "rait.sets",
    "read_records": "rait.tables",
    "rehearsal_examples": "rait.stages",
    "run": "rait.pipeline",
    "strategy": "rait.construction",
    "tuning_examples": "rait.stages",
    "write_records": "rait.tables",
}

__all__ = [*sorted(_HOME), "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'rait' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
