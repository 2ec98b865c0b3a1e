"""Tuning data in the forms that other trainers read.

    pairs = taught(examples, questions, prompt, tokenizer)
    rows = [trl_chat(pair, marks) for pair in pairs]

| form | a row | read by |
|---|---|---|
| trl | prompt and completion, as text | TRL's SFTTrainer |
| trl-chat | prompt and completion, as lists of messages | TRL's SFTTrainer |
| llama-factory | instruction, input, output: the very text, for its template "empty" | LLaMA-Factory |
| axolotl | segments with and without loss: the very text | axolotl, type input_output |

TRL adds the beginning- and the end-of-text token itself; the other two take the text as it is, so both stand in it.
Messages are a system turn, if there is one, the question below the instruction, and the answer: what a chat model is
asked here through its own template, and for a base model how a chat model would be asked. docs/export.md has the rules
of the trainers, and where they are written down.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from rait.chat import as_text
from rait.errors import InputError, RecipeError, some
from rait.prompting import Renderer
from rait.recipe import Prompt
from rait.records import Example, Question
from rait.tables import atomic, write_json

Row = dict[str, Any]
_MARK = "rait-answer"  # a text that no template has of itself


@dataclass(frozen=True, slots=True)
class Pair:
    """An example, and the same as turns of a conversation: what is asked, and the answer."""

    example: Example
    asked: tuple[dict[str, str], ...]
    answer: str

    @property
    def messages(self) -> list[dict[str, str]]:
        """The whole conversation."""
        return [*self.asked, {"role": "assistant", "content": self.answer}]


@dataclass(frozen=True, slots=True)
class Marks:
    """What stands around a text beside the text: `before` a prompt, `after` an answer.

    `before` is the beginning-of-text token where the tokenizer adds one by itself, `after` the end-of-text token unless
    a chat template ends the answer. `settings` are what a chat template has to be told to give the run's prompts, None
    where these are plain; `template` says whether the model has a chat template.
    """

    before: str = ""
    after: str = ""
    settings: Mapping[str, Any] | None = None
    template: bool = True


def taught(examples: Sequence[Example], questions: Iterable[Question], prompt: Prompt, tokenizer: Any) -> list[Pair]:
    """The examples of a run with their turns, in their order; `tokenizer` may be None where prompts are plain.

    Raises `InputError` where a question is not there, or where the tokenizer's chat template does not give the
    examples' own prompts.
    """
    render = Renderer(tokenizer, prompt, may_refuse=True)
    lead, _, end = render.completion(_MARK).partition(_MARK)
    by_id = {question.id: question for question in questions}
    missing = [example.id for example in examples if example.id not in by_id]
    if missing:
        raise InputError(f"the questions of {len(missing)} examples are not there ({some(missing)})")
    pairs = []
    for example in examples:
        question = by_id[example.id]
        if render(question) != example.prompt:
            raise InputError(
                f"the prompt of question {example.id!r} is not what this model and recipe give today; "
                "name the model and the settings that the examples were made with"
            )
        answer = example.completion.removeprefix(lead).removesuffix(end)
        pairs.append(Pair(example, tuple(turns_of(question, prompt)), answer))
    return pairs


def turns_of(question: Question, prompt: Prompt) -> list[dict[str, str]]:
    """What a chat model reads in tuning and evaluation: the system turn, if any, and the question, refusal invited.

    Taken from the plain prompt, which has the same parts: the instruction, a blank line, `Question: ...`, `Answer:`.
    """
    alone = prompt.model_copy(update={"style": "plain", "system": ""})
    body = Renderer(None, alone.model_copy(update={"instruction": ""}))(question)
    instruction = Renderer(None, alone, may_refuse=True)(question).removesuffix(body).removesuffix("\n\n")
    asked = body.removeprefix("Question: ").removesuffix("\nAnswer:")
    system = [{"role": "system", "content": prompt.system}] if prompt.system else []
    return [*system, {"role": "user", "content": f"{instruction}\n{asked}".strip()}]


def marks_of(tokenizer: Any, render: Renderer) -> Marks:
    """What the tokenizer and the chat template put around texts."""
    bos = tokenizer.bos_token or ""
    adds = bool(bos) and tokenizer("?")["input_ids"][:1] == [tokenizer.bos_token_id]
    ends = render.completion(_MARK).endswith(_MARK)  # no end of turn follows
    return Marks(
        before=bos if adds else "",
        after=(tokenizer.eos_token or "") if ends else "",
        settings=_settings() if render.chat else None,
        template=bool(tokenizer.chat_template),
    )


def trl(pair: Pair, marks: Marks) -> Row:
    """Text without its beginning-of-text token, which TRL's tokenizer would write a second time."""
    return {"prompt": pair.example.prompt.removeprefix(marks.before), "completion": pair.example.completion}


def trl_chat(pair: Pair, marks: Marks) -> Row:
    """Messages, and what the template is told beside them."""
    settings = {"chat_template_kwargs": dict(marks.settings)} if marks.settings else {}
    return {"prompt": list(pair.asked), "completion": pair.messages[-1:], **settings}


def llama_factory(pair: Pair, marks: Marks) -> Row:
    """The very text, in the columns of Alpaca."""
    prompt, completion = _whole(pair, marks)
    return {"instruction": prompt, "input": "", "output": completion}


def axolotl(pair: Pair, marks: Marks) -> Row:
    """The very text, in two segments: the loss is taken on the second."""
    prompt, completion = _whole(pair, marks)
    return {"segments": [{"label": False, "text": prompt}, {"label": True, "text": completion}]}


ROWS: Mapping[str, Callable[[Pair, Marks], Row]] = {
    "trl": trl,
    "trl-chat": trl_chat,
    "llama-factory": llama_factory,
    "axolotl": axolotl,
}
"""How each form words an example."""


def find_form(name: str) -> Callable[[Pair, Marks], Row]:
    """The form of that name; raise `RecipeError` for an unknown one."""
    if name not in ROWS:
        raise RecipeError(f"unknown format {name!r}; known: {', '.join(ROWS)}")
    return ROWS[name]


def write_data(form: str, pairs: Sequence[Pair], marks: Marks, name: str, folder: Path) -> list[str]:
    """Write the examples in that form into `folder`, with what the trainer reads beside them; the files' names.

    LLaMA-Factory and axolotl get the same examples twice, as the very text and as messages for their own templates.
    """
    word = find_form(form)
    rows = [word(pair, marks) for pair in pairs]
    conversations = [{"messages": pair.messages} for pair in pairs]
    if form == "llama-factory":
        write_json(folder / f"{name}.json", rows)
        write_json(folder / f"{name}_chat.json", conversations)
        write_json(folder / "dataset_info.json", dataset_info(name))
        return [f"{name}.json", f"{name}_chat.json", "dataset_info.json"]
    if form == "axolotl":
        _write_lines(folder / f"{name}.jsonl", rows)
        _write_lines(folder / f"{name}_chat.jsonl", conversations)
        for kind, settings in axolotl_settings(name, marks.template).items():
            with atomic(folder / f"{kind}.yaml") as file:
                file.write(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True).encode())
        return [f"{name}.jsonl", f"{name}_chat.jsonl", "text.yaml", "chat.yaml"]
    _write_lines(folder / "train.jsonl", rows)
    return ["train.jsonl"]


def dataset_info(name: str) -> dict[str, Any]:
    """The entries of LLaMA-Factory's dataset_info.json: the very text, and messages."""
    return {
        name: {
            "file_name": f"{name}.json",
            "formatting": "alpaca",
            "columns": {"prompt": "instruction", "query": "input", "response": "output"},
        },
        f"{name}_chat": {
            "file_name": f"{name}_chat.json",
            "formatting": "sharegpt",
            "columns": {"messages": "messages"},
            "tags": {
                "role_tag": "role",
                "content_tag": "content",
                "user_tag": "user",
                "assistant_tag": "assistant",
                "system_tag": "system",
            },
        },
    }


def axolotl_settings(name: str, template: bool) -> dict[str, dict[str, Any]]:
    """What axolotl's configuration says about the data: as "text", or as messages of a "chat".

    Messages are worded by the model's own chat template if it has one, which axolotl insists on, else by ChatML.
    """
    own = "tokenizer_default" if template else "tokenizer_default_fallback_chatml"
    text = {"path": f"{name}.jsonl", "ds_type": "json", "type": "input_output"}
    chat = {
        "path": f"{name}_chat.jsonl",
        "ds_type": "json",
        "type": "chat_template",
        "field_messages": "messages",
        "roles_to_train": ["assistant"],
        "train_on_eos": "turn",
    }
    return {
        "text": {"datasets": [text], "train_on_inputs": False},
        "chat": {"chat_template": own, "datasets": [chat], "train_on_inputs": False},
    }


def notes_on(pairs: Sequence[Pair]) -> list[str]:
    """What a form cannot carry."""
    weighted = sum(pair.example.weight != 1 for pair in pairs)
    if not weighted:
        return []
    return [
        f"{weighted} of {len(pairs)} examples have a weight other than 1, which no other trainer reads: there all "
        "count the same"
    ]


def reworded(form: str, marks: Marks) -> list[str]:
    """Where a trainer makes other prompts of messages than those that the model was tuned and measured with."""
    if form not in _WORDED or marks.settings is not None:
        return []
    template, exact = _WORDED[form]
    worded = (
        "the prompts of this run are plain, and the model's chat template will word the messages"
        if marks.template
        else f"the model has no chat template, and {template} will word the messages"
    )
    return [f"{worded}: other prompts than it was tuned and measured with; the very prompts are in {exact}"]


# What words messages for a model without a chat template, and where the very text is instead.
_WORDED: Mapping[str, tuple[str, str]] = {
    "trl-chat": (
        "the one that you name in SFTConfig(chat_template_path=...), without which TRL stops,",
        "the format trl",
    ),
    "llama-factory": (
        "the `template` that you set in LLaMA-Factory (`default` is its own for base models)",
        "the data set without _chat, with `template: empty`",
    ),
    "axolotl": (
        "ChatML, which `chat_template` in chat.yaml names for want of its own,",
        "the data set of text.yaml",
    ),
}


def _whole(pair: Pair, marks: Marks) -> tuple[str, str]:
    prompt = pair.example.prompt
    begun = prompt if prompt.startswith(marks.before) else marks.before + prompt
    return begun, pair.example.completion + marks.after


def _settings() -> dict[str, Any]:
    """What prompts tell a chat template beside the turns: not to think, and a fixed date."""
    told = SimpleNamespace(apply_chat_template=lambda turns, **given: json.dumps(given))
    given: dict[str, Any] = json.loads(as_text(told, []))
    return {key: value for key, value in given.items() if key not in ("tokenize", "add_generation_prompt")}


def _write_lines(path: Path, rows: Iterable[Row]) -> None:
    with atomic(path) as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n")
