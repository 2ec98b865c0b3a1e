"""Prompts: the exact text that a model reads, and the choice of worked examples."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from rait.errors import RecipeError
from rait.prompting import choose_shots, completion, renderer, uses_chat
from rait.recipe import Prompt
from rait.records import Question

TURNS = (
    "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
THINKING = TURNS + "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"

REFUSE = "If you don't know the answer, reply \"I don't know\"."
SHOTS = [
    Question(id="s1", question="What is the capital of Peru?", answers=("Lima", "City of Kings")),
    Question(id="s2", question="Who wrote Emma?", answers=("Jane Austen",)),
]


def tokenizer(template=None):
    words = Tokenizer(WordLevel({"<s>": 0, "?": 1}, unk_token="?"))
    return PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", chat_template=template)


PLAIN, CHAT, THINKER = tokenizer(), tokenizer(TURNS), tokenizer(THINKING)


def test_plain_prompt():
    render = renderer(PLAIN, Prompt())

    assert render("Who?") == "Answer the question as briefly as possible.\n\nQuestion: Who?\nAnswer:"


def test_plain_prompt_with_shots_and_refusal():
    render = renderer(PLAIN, Prompt(), shots=SHOTS, may_refuse=True)

    assert render("Who?") == (
        f"Answer the question as briefly as possible. {REFUSE}\n\n"
        "Question: What is the capital of Peru?\nAnswer: Lima\n\n"
        "Question: Who wrote Emma?\nAnswer: Jane Austen\n\n"
        "Question: Who?\nAnswer:"
    )


def test_chat_prompt():
    assert renderer(CHAT, Prompt())("Who?") == (
        "<s><user>Answer the question as briefly as possible.\nWho?</user><assistant>"
    )


def test_chat_prompt_with_shots_and_refusal():
    render = renderer(CHAT, Prompt(instruction="Be brief."), shots=SHOTS[::-1], may_refuse=True)

    assert render("Who?") == (
        f"<s><user>Be brief. {REFUSE}\nWho wrote Emma?</user><assistant>Jane Austen</assistant>"
        f"<user>Be brief. {REFUSE}\nWhat is the capital of Peru?</user><assistant>Lima</assistant>"
        f"<user>Be brief. {REFUSE}\nWho?</user><assistant>"
    )


def test_a_model_that_can_think_is_told_not_to():
    assert renderer(THINKER, Prompt(instruction=""))("Who?") == "<s><user>Who?</user><assistant><think></think>"


@pytest.mark.parametrize(
    ("prompt", "may_refuse", "plain", "chat"),
    [
        (Prompt(instruction=""), False, "Question: Who?\nAnswer:", "<s><user>Who?</user><assistant>"),
        (
            Prompt(instruction="", refusal_instruction="Or pass."),
            True,
            "Or pass.\n\nQuestion: Who?\nAnswer:",
            "<s><user>Or pass.\nWho?</user><assistant>",
        ),
        (
            Prompt(instruction="Go.", refusal_instruction=""),
            True,
            "Go.\n\nQuestion: Who?\nAnswer:",
            "<s><user>Go.\nWho?</user><assistant>",
        ),
    ],
)
def test_an_instruction_left_empty_leaves_no_trace(prompt, may_refuse, plain, chat):
    assert renderer(PLAIN, prompt, may_refuse=may_refuse)("Who?") == plain
    assert renderer(CHAT, prompt, may_refuse=may_refuse)("Who?") == chat


@pytest.mark.parametrize("text", ["{curly} {0} %s", "a\nb", "{{ bos_token }}{% if x %}", "日本語?", '"quoted"'])
def test_a_question_is_never_read_as_a_template(text):
    prompt = Prompt(instruction="")

    assert renderer(PLAIN, prompt)(text) == f"Question: {text}\nAnswer:"
    assert renderer(CHAT, prompt)(text) == f"<s><user>{text}</user><assistant>"


@pytest.mark.parametrize(
    ("style", "of_plain", "of_chat"), [("auto", False, True), ("plain", False, False), ("chat", None, True)]
)
def test_the_style_chooses_the_form(style, of_plain, of_chat):
    prompt = Prompt(style=style, instruction="")

    for model, chats in ((PLAIN, of_plain), (CHAT, of_chat)):
        if chats is None:
            for use in (uses_chat, renderer, lambda *args: completion(*args, "x")):
                with pytest.raises(RecipeError, match=r"no chat template; use prompt\.style=plain"):
                    use(model, prompt)
            continue
        assert uses_chat(model, prompt) is chats
        assert renderer(model, prompt)("Who?").startswith("<s><user>") is chats
        # A plain prompt ends in "Answer:", so its answer begins with the blank; a chat answer ends its turn.
        assert completion(model, prompt, "Lima") == ("Lima</assistant>" if chats else " Lima")


def test_a_worked_example_reads_as_prompt_and_completion_do():
    """What is trained is what the model is shown: the same characters between question and answer."""
    prompt = Prompt()
    render = renderer(PLAIN, prompt)

    assert renderer(PLAIN, prompt, shots=SHOTS[:1])("Who?").startswith(
        render(SHOTS[0].question) + completion(PLAIN, prompt, "Lima") + "\n\n"
    )


rows = st.dictionaries(st.text(max_size=3), st.text("abc", max_size=1), max_size=12)
pools = rows.map(
    lambda rows: [Question(id=id, question="?", answers=("x",), category=category) for id, category in rows.items()]
)


@given(pool=pools, count=st.integers(0, 6), seed=st.integers(0, 9), rng=st.randoms())
def test_shots_are_of_distinct_categories_and_independent_of_the_order(pool, count, seed, rng):
    shots = choose_shots(pool, count, seed)

    assert len(shots) == len({shot.id for shot in shots}) == min(count, len(pool))
    assert all(shot in pool for shot in shots)
    assert len({shot.category for shot in shots}) == min(count, len({question.category for question in pool}))
    assert choose_shots(rng.sample(pool, len(pool)), count, seed) == shots
    assert choose_shots(pool, count + 1, seed)[:count] == shots


def test_shots_are_drawn_by_the_seed():
    pool = [Question(id=str(number), question="?", answers=("x",)) for number in range(10)]
    first = [choose_shots(pool, 1, seed)[0].id for seed in range(1000)]

    # 1000 draws of one in ten: 100 each, standard deviation 9.5.
    assert all(abs(first.count(str(number)) - 100) < 48 for number in range(10))
