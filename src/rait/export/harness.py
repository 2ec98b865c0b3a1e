"""A task folder for lm-evaluation-harness: a run's test sets, its very prompts, and its rules of right and refused.

    write_tasks(finished, tokenizer, folder)
    lm-eval run --include_path FOLDER --tasks rait_craft_id --model hf --model_args pretrained=...,peft=...

The harness averages correct, wrong and refused, which are P_c, P_w and P_r. Files that judge an answer are copied into
the folder, so that rait need not be installed where the harness runs. Answers are greedy and end with their turn; what
stands after the first line is not read. A stop at line breaks would lose answers that begin with one.
"""

import ast
import inspect
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

import rait
from rait.construction import Reader, as_it_is, find_strategy
from rait.errors import RecipeError
from rait.evaluation.answering import is_scored
from rait.export import task
from rait.export.finished import Finished
from rait.prompting import Renderer
from rait.records import Question
from rait.tables import atomic

_PACKAGE = Path(rait.__file__).parent
_COPIES = "rait_scoring"  # the name of the files that judge, where they are copied to
_IMPORT = re.compile(r"^(\s*)from rait\.", re.MULTILINE)

_UTILS = '''"""Reads the test sets beside this file, and scores answers as rait does."""

import sys
from pathlib import Path

_FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(_FOLDER))

from {copies}.export.task import rows, scores  # noqa: E402
{import_read}

def load(file, **_):
    return rows(_FOLDER / file)


def process_results(doc, results):
    return scores(doc, results{argument})
'''


def write_tasks(finished: Finished, tokenizer: Any, folder: Path) -> list[str]:
    """Write a task for every test set of the run into `folder`; the names of the tasks.

    Raises `RecipeError` where options are compared and nothing is written, and where what a strategy teaches around
    an answer is taken off by code that does not come with rait.
    """
    render = Renderer(tokenizer, finished.recipe.prompt, may_refuse=True)
    read = find_strategy(finished.strategy).read
    write_rules(folder, read)
    names = []
    for test in finished.tests:
        questions = finished.questions(test)
        if any(is_scored(question, render, finished.recipe.evaluation) for question in questions):
            raise RecipeError(
                f"the options of {test} are compared, and the harness can only judge what a model writes; "
                "evaluate with evaluation.choice=generate, then export"
            )
        name = f"rait_{finished.name.replace('/', '_')}_{test}"
        with atomic(folder / f"{name}.jsonl") as file:
            for question in questions:
                file.write(json.dumps(row_of(question, render), ensure_ascii=False).encode() + b"\n")
        with atomic(folder / f"{name}.yaml") as file:
            file.write(task_settings(name, finished.recipe.evaluation.max_new_tokens).encode())
        names.append(name)
    return names


def row_of(question: Question, render: Renderer) -> dict[str, Any]:
    """A question with its prompt and all that judging an answer needs."""
    return {
        "id": question.id,
        "prompt": render(question),
        "answer": render.answer(question),
        "answers": list(question.answers),
        "options": list(question.options),
        "target": question.target,
        "refusal": render.prompt.refusal,
        "by_letter": render.prompt.choice == "letter",
    }


def task_settings(name: str, max_new_tokens: int) -> str:
    """The harness's description of a task, as YAML."""
    settings = {
        "task": name,
        "metadata": {"version": 1.0, "file": f"{name}.jsonl"},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "prompt",
        "doc_to_target": "answer",
        "num_fewshot": 0,
        "generation_kwargs": {"until": [], "do_sample": False, "max_gen_toks": max_new_tokens},
        "metric_list": [
            {"metric": outcome, "aggregation": "mean", "higher_is_better": outcome == "correct"}
            for outcome in task.OUTCOMES
        ],
    }
    functions = "custom_dataset: !function utils.load\nprocess_results: !function utils.process_results\n"
    return yaml.safe_dump(settings, sort_keys=False) + functions


def write_rules(folder: Path, read: Reader) -> None:
    """Copy the files that judge an answer into `folder`, with a utils.py that uses them."""
    start = [Path(inspect.getfile(task))]
    import_read, argument = "", ""
    if read is not as_it_is:
        source = Path(inspect.getfile(read))
        if not source.is_relative_to(_PACKAGE):
            raise RecipeError(
                f"{source.name} has the words that this strategy teaches around an answer, and does not come with "
                "rait; the harness could not take them off"
            )
        start.append(source)
        import_read, argument = f"from {_module(source, _COPIES)} import {read.__name__}  # noqa: E402\n", ", "
        argument += read.__name__
    for source in _needed(start):
        text = _IMPORT.sub(rf"\1from {_COPIES}.", source.read_text("utf-8"))
        with atomic(folder / _COPIES / source.relative_to(_PACKAGE)) as file:
            file.write(text.encode())
    with atomic(folder / "utils.py") as file:
        file.write(_UTILS.format(copies=_COPIES, import_read=import_read, argument=argument).encode())


def _needed(start: Sequence[Path]) -> list[Path]:
    """These files of the package and all that they import from it."""
    found: list[Path] = []
    waiting = list(start)
    while waiting:
        source = waiting.pop()
        if source in found:
            continue
        found.append(source)
        for node in ast.walk(ast.parse(source.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("rait."):
                waiting.append((_PACKAGE / node.module.removeprefix("rait.").replace(".", "/")).with_suffix(".py"))
    return sorted(found)


def _module(source: Path, root: str) -> str:
    return ".".join([root, *source.relative_to(_PACKAGE).with_suffix("").parts])
