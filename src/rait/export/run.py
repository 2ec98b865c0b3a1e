"""Hand a strategy of a finished run over in one of the known forms.

export(Path("run"), "merged", Path("out"), strategy="craft")
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rait.errors import InputError, RecipeError
from rait.export import formats, hub
from rait.export.cards import dataset_card, model_card, results_of
from rait.export.finished import MARK, Finished, new_folder, open_run
from rait.export.harness import write_tasks
from rait.export.merged import in_words, merge_into
from rait.inert import inert_markdown
from rait.models.loading import load_tokenizer
from rait.progress import Say
from rait.prompting import Renderer
from rait.tables import atomic, write_json

FORMS: Mapping[str, str] = {
    "trl": "prompt and completion, for TRL",
    "trl-chat": "the same as messages, for TRL and a chat template",
    "llama-factory": "with its dataset_info.json, for LLaMA-Factory",
    "axolotl": "with its settings, for axolotl",
    "merged": "the tuned model as one: safetensors, tokenizer, chat template, card",
    "lm-eval": "the test sets as tasks of lm-evaluation-harness",
}
"""What a run can be handed over as."""


@dataclass(frozen=True, slots=True)
class Export:
    """What was written: where, what it is, and the address on the hub if it was uploaded.

    `facts` are for a program; `lines` say them to people, and `notes` what these should know.
    """

    form: str
    strategy: str
    folder: Path
    facts: dict[str, Any]
    lines: tuple[str, ...]
    notes: tuple[str, ...]
    address: str | None = None


def export(
    run: Path,
    form: str,
    out: Path | None = None,
    *,
    strategy: str | None = None,
    repository: str | None = None,
    public: bool = False,
    say: Say,
) -> Export:
    """Write what a run made of a strategy in the form named, by default into RUN/export/STRATEGY-FORM.

    `strategy` may be left out where only one was tuned. With `repository` the folder is uploaded to the hub, privately
    unless `public`. Raises `RaitError` for what the user can mend; then nothing is written.
    """
    if form not in FORMS:
        raise RecipeError(f"unknown format {form!r}; known: {', '.join(FORMS)}")
    if public and not repository:
        raise RecipeError("--public says how to upload, and nothing is uploaded without --push")
    if out is not None and run.resolve().is_relative_to(out.resolve()):
        raise InputError(f"{out} holds the run itself; choose another --out")
    finished = open_run(run, strategy)
    if repository:
        hub.check_login()
    name = finished.name.replace("/", "-")
    out = out or run / "export" / f"{name}-{form}"
    notes: list[str] = []
    with new_folder(out) as folder:
        if form == "merged":
            facts, lines = _write_merged(finished, folder, repository, say)
        elif form == "lm-eval":
            facts, lines = _write_tasks(finished, folder)
        else:
            facts, lines, notes = _write_data(finished, form, f"rait_{name}".replace("-", "_"), folder)
        write_json(
            folder / MARK, {"format": form, "strategy": finished.name, "rait": version("rait"), **facts, "notes": notes}
        )
    address = None
    if repository:
        say(f"uploading to {repository}")
        kind: hub.Kind = "model" if form == "merged" else "dataset"
        address = hub.push(out, repository, kind, public=public, message=f"{finished.name}, as {form}, by rait")
    return Export(form, finished.name, out, facts, tuple(lines), tuple(notes), address)


Facts = tuple[dict[str, Any], list[str]]
"""What an export holds, for a program and in lines for people."""


def _write_merged(finished: Finished, folder: Path, repository: str | None, say: Say) -> Facts:
    check = merge_into(finished, folder, say)
    _write(folder / "README.md", model_card(finished, load_tokenizer(finished.recipe.model), check, repository))
    return asdict(check), in_words(check)


def _write_data(finished: Finished, form: str, name: str, folder: Path) -> tuple[dict[str, Any], list[str], list[str]]:
    tokenizer, prompt = load_tokenizer(finished.recipe.model), finished.recipe.prompt
    examples = finished.examples()
    questions = finished.questions("train", {example.id for example in examples})
    pairs = formats.taught(examples, questions, prompt, tokenizer)
    marks = formats.marks_of(tokenizer, Renderer(tokenizer, prompt, may_refuse=True))
    files = formats.write_data(form, pairs, marks, name, folder)
    notes = [*formats.notes_on(pairs), *formats.reworded(form, marks)]
    card = dataset_card(
        finished,
        title=f"{finished.name} for {form}",
        summary=(
            f'Questions that a language model knows, with their answers, and questions that it does not, with "'
            f'{inert_markdown(prompt.refusal)}": chosen for one model, '
            f"{inert_markdown(Path(finished.recipe.model.source).name)}, and of use for it."
        ),
        files={file: _ABOUT.get(_kind(file), "the examples") for file in files},
        pairs=pairs,
        first=formats.ROWS[form](pairs[0], marks),
        usage=_USAGE[form].format(name=name),
        notes=notes,
        results=results_of(finished),
    )
    _write(folder / "README.md", card)
    facts = {"examples": len(pairs), "files": files}
    return facts, [f"{len(pairs)} examples, in {', '.join(files)}"], notes


def _write_tasks(finished: Finished, folder: Path) -> Facts:
    names = write_tasks(finished, load_tokenizer(finished.recipe.model), folder)
    files = {f"{name}.yaml": f"the task {name}; its questions stand in {name}.jsonl" for name in names}
    card = dataset_card(
        finished,
        title=f"{finished.name}: tasks for lm-evaluation-harness",
        summary=(
            "The test sets of a run with its very prompts, and its rules of what is right, wrong and refused. The "
            "harness's averages correct, wrong and refused are the run's P_c, P_w and P_r."
        ),
        files={**files, "utils.py": "reads and scores, with the files in rait_scoring/; rait need not be installed"},
        usage=_USAGE["lm-eval"].format(names=",".join(names)),
        results=results_of(finished),
    )
    _write(folder / "README.md", card)
    return {"tasks": names}, [f"tasks: {', '.join(names)}"]


_ABOUT = {
    "dataset_info.json": "the entries for LLaMA-Factory",
    "chat": "the same examples as messages, for the model's chat template",
    "text.yaml": "axolotl's settings for the text",
    "chat.yaml": "axolotl's settings for the messages",
}
_USAGE = {
    "trl": """```python
from datasets import load_dataset
from trl import SFTTrainer

SFTTrainer(model=..., train_dataset=load_dataset("json", data_files="train.jsonl")["train"]).train()
```""",
    "llama-factory": """Name this folder as `dataset_dir`, or copy the entries into the `dataset_info.json` of
yours. `dataset: {name}` with `template: empty` trains on the very text, `dataset: {name}_chat` with the template of
your model on the messages.""",
    "axolotl": """Put the keys of `text.yaml` into your configuration to train on the very text, or those of
`chat.yaml` to train on the messages; the path counts from where axolotl is started.""",
    "lm-eval": """```
lm-eval run --include_path THIS_FOLDER --tasks {names} --model hf \\
    --model_args pretrained=BASE,peft=ADAPTER,dtype=float32 --log_samples --output_path results
```

Without `--apply_chat_template`: the prompts are whole. In bfloat16 a few near ties turn with the size of the batch.""",
}
_USAGE["trl-chat"] = _USAGE["trl"]


def _kind(file: str) -> str:
    return "chat" if file.endswith(("_chat.json", "_chat.jsonl")) else file


def _write(path: Path, text: str) -> None:
    with atomic(path) as file:
        file.write(text.encode())
