"""Every prompt of a run as a reader sees it: what the stages render, nothing else, and where the answer begins."""

import re

import pytest

from rait.prompting import Renderer
from rait.recipe import load_settings
from rait.records import Question
from rait.shown import MARK, shown_prompts
from tiny import word_tokenizer

SHOT = Question(id="s", question="Who wrote Emma?", answers=("Austen",))
FIRST = Question(id="a", question="Where is Rome?", answers=("Italy", "in Italy"))
TEST = Question(id="b", question="Where is Oslo?", answers=("Norway",))
CHOICE = Question(
    id="c", question="Where is Oslo?", answers=("Norway",), options=("Italy", "Norway", "Spain"), target=1
)
TEMPLATE = (
    "{{ bos_token }}{% for turn in messages %}<{{ turn.role }}>{{ turn.content }}<end>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture
def tokenizer():
    return word_tokenizer(["Question:", "Answer:"])


def shown(tokenizer, first=FIRST, test=TEST, **changes):
    recipe = load_settings({"tests": {"held_out": {"source": "test.jsonl"}}} | changes)
    text = shown_prompts(recipe, tokenizer, {"train": first, "held_out": test}, {"": [SHOT]})
    sections = text.split("=" * 78 + "\n")[1:]
    parsed = {}
    for section in sections:
        head, prompt = section.split("-" * 78 + "\n")[:2]
        name, *about = head.splitlines()
        before, mark, after = prompt.removesuffix("\n").partition(MARK)
        assert mark
        parsed[name] = (about, before, after)
    return recipe, parsed, text


def test_each_stage_shows_the_prompt_that_it_renders(tokenizer):
    recipe, found, text = shown(tokenizer)
    assert "no chat template" in text
    asked = Renderer(tokenizer, recipe.prompt, {"": [SHOT]})
    bare = Renderer(tokenizer, recipe.prompt)
    tuned = Renderer(tokenizer, recipe.prompt, may_refuse=True)
    may_refuse = Renderer(tokenizer, recipe.prompt, {"": [SHOT]}, may_refuse=True)
    assert {name: (before, after) for name, (_, before, after) in found.items()} == {
        "probe, initial and rehearsed model, question 'a'": (asked(FIRST), ""),
        "rehearsal, question 'a'": (bare(FIRST), " Italy<eos>"),
        "tuning, vanilla example, question 'a'": (tuned(FIRST), " Italy<eos>"),
        "tuning, idk example, question 'a'": (tuned(FIRST), " I don't know<eos>"),
        "evaluation, Init-Basic on held_out, question 'b'": (asked(TEST), ""),
        "evaluation, Init-Refuse on held_out, question 'b'": (may_refuse(TEST), ""),
        "evaluation, tuned model (cor_rait, craft) on held_out, question 'b'": (tuned(TEST), ""),
    }


def test_tokens_are_counted_with_the_first_one_the_model_gets(tokenizer):
    _, found, _ = shown(tokenizer)
    about, before, _ = found["probe, initial and rehearsed model, question 'a'"]
    assert about[0] == f"{len(tokenizer(before)['input_ids'])} tokens, the first of them <bos>"
    assert about[1] == "the model writes 10 answers of at most 50 tokens"
    # "▁I", "▁don't", "▁know" are unknown words of one token each, and the end of the text
    assert found["tuning, idk example, question 'a'"][0][1] == "4 tokens are taught"


def test_a_chat_model_is_shown_its_template(tokenizer):
    tokenizer.chat_template = TEMPLATE
    _, found, text = shown(tokenizer, **{"prompt.system": "Be brief."})
    assert "the model's chat template" in text
    _, before, _ = found["probe, initial and rehearsed model, question 'a'"]
    assert before.startswith("<bos><system>Be brief.<end><user>")
    assert before.count("<assistant>") == 2  # the worked example's, and the one to be answered
    assert before.endswith("Where is Rome?<end><assistant>")
    _, before, after = found["tuning, vanilla example, question 'a'"]
    assert after == "Italy<end>"
    # A chat model is evaluated without worked examples.
    assert found["evaluation, Init-Basic on held_out, question 'b'"][1].count("<assistant>") == 1


def test_options_are_shown_as_they_are_scored(tokenizer):
    _, found, _ = shown(tokenizer, CHOICE, CHOICE, **{"prompt.choice": "text"})
    probe = found["probe, initial and rehearsed model, question 'c'"]
    assert probe[0][1] == 'scored after it: " Italy", " Norway", " Spain"'
    assert found["rehearsal, question 'c'"][2] == " Norway<eos>"
    tuned = found["evaluation, tuned model (cor_rait, craft) on held_out, question 'c'"]
    assert tuned[0][1] == 'scored after it: " Italy", " Norway", " Spain", " I don\'t know"'
    _, found, _ = shown(tokenizer, CHOICE, CHOICE)
    assert found["probe, initial and rehearsed model, question 'c'"][0][1] == 'scored after it: " A", " B", " C"'
    written = found["evaluation, Init-Basic on held_out, question 'c'"]
    assert written[0][1] == "the model writes an answer of at most 50 tokens, greedily"
    assert re.search(r"A\. Italy\nB\. Norway\nC\. Spain\nAnswer:$", written[1])


def test_nothing_is_shown_that_is_not_put(tokenizer):
    _, found, _ = shown(tokenizer, strategies=["cor_rait"])
    assert "probe, initial model, question 'a'" in found
    assert not any("rehears" in name for name in found)
