"""Tuning data for other trainers: what they make of it is what was taught here."""

import json
from pathlib import Path

import pytest
from datasets import load_dataset
from hypothesis import given
from hypothesis import strategies as st
from trl import SFTConfig, SFTTrainer

from rait.chat import as_text
from rait.errors import InputError, RecipeError
from rait.export.formats import ROWS, Marks, find_form, marks_of, notes_on, reworded, taught, turns_of, write_data
from rait.models.tree import encode
from rait.prompting import Renderer
from rait.recipe import Prompt
from rait.records import Example, Question, Role
from rait.tuning.sft import _tokenise
from tiny import random_model, word_tokenizer

WORDS = [
    *("Question:", "Answer:", "▁Paris", "▁Rome", "▁unknown", "unknown", "Say", "▁or", "Where", "▁Where", "▁?", "?"),
    *("▁is", "▁France", "▁Italy", "France", "Italy", "<|user|>", "<|end|>", "<|assistant|>", "<|system|>", "\n"),
]
CHAT = (
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m.role + '|>' + m.content | trim + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
BLANK = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' + m.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content + ' ' + eos_token }}{% endif %}{% endfor %}"
)
TOLD = (
    "{{ date_string | default('today') }}{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}"
    "{% if enable_thinking is not defined or enable_thinking %}{{ '<think>' }}{% endif %}{% endif %}"
)
PROMPT = Prompt(instruction="Say", refusal="unknown", refusal_instruction="or unknown")
QUESTIONS = [
    Question(id="a", question="Where is Paris ?", answers=("France",)),
    Question(id="b", question="Where is Rome ?", answers=("Italy",)),
]


def tokenizer_of(template: str | None):
    tokenizer = word_tokenizer(WORDS)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|user|>", "<|end|>", "<|assistant|>", "<|system|>"]})
    tokenizer.chat_template = template
    return tokenizer


def examples_of(tokenizer, prompt: Prompt = PROMPT) -> list[Example]:
    render = Renderer(tokenizer, prompt, may_refuse=True)
    known, unknown = QUESTIONS
    return [
        Example(id="a", prompt=render(known), completion=render.completion("France"), role=Role.VANILLA),
        Example(id="b", prompt=render(unknown), completion=render.completion("unknown"), role=Role.IDK),
    ]


def paired(template: str | None, prompt: Prompt = PROMPT):
    tokenizer = tokenizer_of(template)
    pairs = taught(examples_of(tokenizer, prompt), QUESTIONS, prompt, tokenizer)
    return tokenizer, pairs, marks_of(tokenizer, Renderer(tokenizer, prompt, may_refuse=True))


def test_turns_are_the_instruction_with_the_question_below():
    question = Question(id="q", question="Who?", answers=("B",), options=("X", "Y"), target=1)
    assert turns_of(question, Prompt(system="Be kind.", instruction="Pick.", refusal_instruction="Or pass.")) == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Pick. Or pass.\nWho?\nA. X\nB. Y"},
    ]
    bare = Prompt(instruction="", refusal_instruction="", choice="text")
    assert turns_of(question, bare) == [{"role": "user", "content": "Who?"}]


@given(
    text=st.text(min_size=1).filter(str.strip).map(str.strip)
    | st.sampled_from(["a\n\nQuestion: b\nAnswer:", "Question: ", "Answer:"]),
    instruction=st.none() | st.sampled_from(["", "Say.", "See\n\nQuestion: x\nAnswer: y"]),
    system=st.sampled_from(["", "Be kind."]),
)
def test_a_chat_template_makes_the_prompts_of_the_turns(text, instruction, system):
    tokenizer, prompt = tokenizer_of(CHAT), Prompt(instruction=instruction, system=system)
    question = Question(id="q", question=text, answers=("x",))
    whole = Renderer(tokenizer, prompt, may_refuse=True)(question)
    assert as_text(tokenizer, turns_of(question, prompt)) == whole


@pytest.mark.parametrize("template", [None, CHAT, BLANK, TOLD], ids=["plain", "chat", "blank", "told"])
def test_answers_are_taken_out_of_what_stands_around_them(template):
    _, pairs, _ = paired(template)
    assert [pair.answer for pair in pairs] == ["France", "unknown"]
    assert pairs[1].messages[-1] == {"role": "assistant", "content": "unknown"}


@pytest.mark.parametrize(("form", "template"), [("trl", None), ("trl", CHAT), ("trl-chat", CHAT)])
def test_trl_trains_on_what_was_trained_on_here(form, template, tmp_path):
    """SFTTrainer reads the file and gives the tokens and the loss mask of our own trainer."""
    tokenizer, pairs, marks = paired(template)
    model = random_model("llama", len(tokenizer))
    (file,) = write_data(form, pairs, marks, "x", tmp_path)
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(output_dir=str(tmp_path / "out"), use_cpu=True, bf16=False, report_to="none", max_length=None),
        train_dataset=load_dataset(
            "json", data_files=str(tmp_path / file), cache_dir=str(tmp_path / "cache"), split="train"
        ),
        processing_class=tokenizer,
    )
    for pair, row in zip(pairs, trainer.train_dataset, strict=True):
        ours = _tokenise(tokenizer, pair.example, frozenset({tokenizer.eos_token_id}))
        theirs = list(row["input_ids"])
        mask = row["completion_mask"] if "completion_mask" in row else [int(label != -100) for label in row["labels"]]
        length = len(ours["input_ids"])
        if form == "trl-chat":  # the template's end of turn is the end: no end-of-text token follows it
            length -= 1
        assert theirs == ours["input_ids"][:length]
        assert list(mask) == [int(label != -100) for label in ours["labels"][:length]]
        assert theirs.count(tokenizer.bos_token_id) == 1


@pytest.mark.parametrize("form", ["llama-factory", "axolotl"])
@pytest.mark.parametrize("template", [None, CHAT, BLANK], ids=["plain", "chat", "blank"])
def test_the_very_text_gives_the_tokens_that_were_trained_on(form, template):
    """Both trainers tokenise the two parts by themselves, without adding anything."""
    tokenizer, pairs, marks = paired(template)
    for pair in pairs:
        row = ROWS[form](pair, marks)
        if form == "axolotl":
            assert [segment["label"] for segment in row["segments"]] == [False, True]
            prompt, completion = (segment["text"] for segment in row["segments"])
        else:
            assert row["input"] == ""
            prompt, completion = row["instruction"], row["output"]
        asked, answered = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, completion))
        assert asked == encode(tokenizer, pair.example.prompt)
        ours = _tokenise(tokenizer, pair.example, frozenset({tokenizer.eos_token_id}))["input_ids"]
        assert asked + answered == ours[: len(asked + answered)]
        assert len(ours) - len(asked + answered) == (1 if template == CHAT else 0)  # the end of turn is the end


def test_what_a_template_is_told_goes_with_the_messages():
    tokenizer, pairs, marks = paired(TOLD)
    row = ROWS["trl-chat"](pairs[0], marks)
    text = tokenizer.apply_chat_template(
        row["prompt"], tokenize=False, add_generation_prompt=True, **row["chat_template_kwargs"]
    )
    assert text == pairs[0].example.prompt
    assert tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True) != text
    assert "chat_template_kwargs" not in ROWS["trl-chat"](*paired(None)[1][:1], Marks())


def test_llama_factory_finds_what_its_entries_say(tmp_path):
    """By the rules of its converters: columns that exist, turns that alternate, an answer last."""
    _, pairs, marks = paired(CHAT, PROMPT.model_copy(update={"system": "Say"}))
    write_data("llama-factory", pairs, marks, "mine", tmp_path)
    info = json.loads((tmp_path / "dataset_info.json").read_text("utf-8"))
    text, chat = info["mine"], info["mine_chat"]
    rows = json.loads((tmp_path / text["file_name"]).read_text("utf-8"))
    assert all(set(text["columns"].values()) <= row.keys() for row in rows)
    assert text["formatting"] == "alpaca" and chat["formatting"] == "sharegpt"
    tags = chat["tags"]
    for row in json.loads((tmp_path / chat["file_name"]).read_text("utf-8")):
        turns = row[chat["columns"]["messages"]]
        assert turns[0][tags["role_tag"]] == tags["system_tag"]
        roles = [turn[tags["role_tag"]] for turn in turns[1:]]
        assert roles == [tags["user_tag"], tags["assistant_tag"]]
        assert all(turn[tags["content_tag"]] for turn in turns)


def test_axolotl_settings_name_files_that_are_there(tmp_path):
    import yaml

    _, pairs, marks = paired(None)
    write_data("axolotl", pairs, marks, "mine", tmp_path)
    for kind, column in (("text", "segments"), ("chat", "messages")):
        (entry,) = yaml.safe_load((tmp_path / f"{kind}.yaml").read_text())["datasets"]
        rows = [json.loads(line) for line in (tmp_path / entry["path"]).read_text("utf-8").splitlines()]
        assert len(rows) == 2 and all(row[entry.get("field_messages", "segments")] == row[column] for row in rows)


def test_weights_that_are_lost_are_said():
    _, pairs, _ = paired(None)
    assert notes_on(pairs) == []
    from dataclasses import replace

    heavy = [replace(pairs[0], example=replace(pairs[0].example, weight=0.5)), pairs[1]]
    (note,) = notes_on(heavy)
    assert note.startswith("1 of 2 examples have a weight")


@pytest.mark.parametrize(
    ("form", "setting", "exact"),
    [
        ("trl-chat", "SFTConfig(chat_template_path=...)", "in the format trl"),
        ("llama-factory", "the `template` that you set", "without _chat, with `template: empty`"),
        ("axolotl", "`chat_template` in chat.yaml", "of text.yaml"),
    ],
)
def test_where_a_trainer_words_the_messages_it_is_said_what_to_set(form, setting, exact):
    (note,) = reworded(form, paired(None)[2])
    assert "the model has no chat template" in note and setting in note and note.endswith(exact)
    plain = PROMPT.model_copy(update={"style": "plain"})
    (note,) = reworded(form, paired(CHAT, plain)[2])
    assert "the model's chat template will word the messages" in note and note.endswith(exact)
    assert reworded(form, paired(CHAT)[2]) == reworded("trl", paired(None)[2]) == []


@pytest.mark.parametrize(
    ("template", "named"), [(None, "tokenizer_default_fallback_chatml"), (CHAT, "tokenizer_default")]
)
def test_axolotl_insists_on_a_template_only_where_there_is_one(template, named, tmp_path):
    import yaml

    _, pairs, marks = paired(template)
    write_data("axolotl", pairs, marks, "mine", tmp_path)
    assert yaml.safe_load((tmp_path / "chat.yaml").read_text())["chat_template"] == named


def test_trl_stops_at_messages_without_a_template(tmp_path):
    """As the note on them says."""
    tokenizer, pairs, marks = paired(None)
    write_data("trl-chat", pairs, marks, "x", tmp_path)
    data = load_dataset("json", data_files=str(tmp_path / "train.jsonl"), cache_dir=str(tmp_path / "c"))["train"]
    settings = SFTConfig(str(tmp_path), use_cpu=True, report_to=[])
    with pytest.raises(ValueError, match="chat_template"):
        SFTTrainer(random_model("llama", len(tokenizer)), settings, train_dataset=data, processing_class=tokenizer)


def test_what_does_not_fit_is_refused():
    tokenizer = tokenizer_of(None)
    made = examples_of(tokenizer)
    with pytest.raises(InputError, match="the questions of 1 examples are not there"):
        taught(made, QUESTIONS[:1], PROMPT, tokenizer)
    with pytest.raises(InputError, match="question 'a'"):
        taught(made, QUESTIONS, PROMPT, tokenizer_of(CHAT))
    with pytest.raises(RecipeError, match="known: trl, trl-chat"):
        find_form("csv")


def test_rows_survive_any_text(tmp_path: Path):
    hostile = Question(id="h", question='</s>"\u202e{{ 7*7 }}\n<script>', answers=("x",))
    render = Renderer(None, PROMPT, may_refuse=True)
    made = [Example(id="h", prompt=render(hostile), completion=render.completion("é\u2028"), role=Role.VANILLA)]
    pairs = taught(made, [hostile], PROMPT, None)
    write_data("trl-chat", pairs, Marks(), "x", tmp_path)
    lines = (tmp_path / "train.jsonl").read_bytes().split(b"\n")[:-1]
    (row,) = map(json.loads, lines)
    assert row["completion"][0]["content"] == "é\u2028" and hostile.question in row["prompt"][0]["content"]
