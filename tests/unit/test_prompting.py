"""Prompts: the exact text that a model reads, and the choice of worked examples."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from rait.errors import RecipeError
from rait.prompting import Renderer, answer_of, choices_of, choose_shots, shots_by_category, uses_chat
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


def asked(text, **fields):
    return Question(id="q", question=text, answers=("x",), **fields)


PLAIN, CHAT, THINKER = tokenizer(), tokenizer(TURNS), tokenizer(THINKING)


def test_plain_prompt():
    render = Renderer(PLAIN, Prompt())

    assert render(asked("Who?")) == "Answer the question as briefly as possible.\n\nQuestion: Who?\nAnswer:"


def test_plain_prompt_with_shots_and_refusal():
    render = Renderer(PLAIN, Prompt(), shots={"": SHOTS}, may_refuse=True)

    assert render(asked("Who?")) == (
        f"Answer the question as briefly as possible. {REFUSE}\n\n"
        "Question: What is the capital of Peru?\nAnswer: Lima\n\n"
        "Question: Who wrote Emma?\nAnswer: Jane Austen\n\n"
        "Question: Who?\nAnswer:"
    )


def test_chat_prompt():
    assert Renderer(CHAT, Prompt())(asked("Who?")) == (
        "<s><user>Answer the question as briefly as possible.\nWho?</user><assistant>"
    )


def test_chat_prompt_with_shots_and_refusal():
    render = Renderer(CHAT, Prompt(instruction="Be brief."), shots={"": SHOTS[::-1]}, may_refuse=True)

    assert render(asked("Who?")) == (
        f"<s><user>Be brief. {REFUSE}\nWho wrote Emma?</user><assistant>Jane Austen</assistant>"
        f"<user>Be brief. {REFUSE}\nWhat is the capital of Peru?</user><assistant>Lima</assistant>"
        f"<user>Be brief. {REFUSE}\nWho?</user><assistant>"
    )


def test_a_model_that_can_think_is_told_not_to():
    assert Renderer(THINKER, Prompt(instruction=""))(asked("Who?")) == "<s><user>Who?</user><assistant><think></think>"


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
    assert Renderer(PLAIN, prompt, may_refuse=may_refuse)(asked("Who?")) == plain
    assert Renderer(CHAT, prompt, may_refuse=may_refuse)(asked("Who?")) == chat


@pytest.mark.parametrize("text", ["{curly} {0} %s", "a\nb", "{{ bos_token }}{% if x %}", "日本語?", '"quoted"'])
def test_a_question_is_never_read_as_a_template(text):
    prompt = Prompt(instruction="")

    assert Renderer(PLAIN, prompt)(asked(text)) == f"Question: {text}\nAnswer:"
    assert Renderer(CHAT, prompt)(asked(text)) == f"<s><user>{text}</user><assistant>"


@pytest.mark.parametrize(
    ("style", "of_plain", "of_chat"), [("auto", False, True), ("plain", False, False), ("chat", None, True)]
)
def test_the_style_chooses_the_form(style, of_plain, of_chat):
    prompt = Prompt(style=style, instruction="")

    for model, chats in ((PLAIN, of_plain), (CHAT, of_chat)):
        if chats is None:
            for use in (uses_chat, Renderer):
                with pytest.raises(RecipeError, match=r"no chat template; use prompt\.style=plain"):
                    use(model, prompt)
            continue
        assert uses_chat(model, prompt) is chats
        assert Renderer(model, prompt)(asked("Who?")).startswith("<s><user>") is chats
        # A plain prompt ends in "Answer:", so its answer begins with the blank; a chat answer ends its turn.
        assert Renderer(model, prompt).completion("Lima") == ("Lima</assistant>" if chats else " Lima")


def test_a_worked_example_reads_as_prompt_and_completion_do():
    """What is trained is what the model is shown: the same characters between question and answer."""
    prompt = Prompt()
    render = Renderer(PLAIN, prompt)

    assert Renderer(PLAIN, prompt, shots={"": SHOTS[:1]})(asked("Who?")).startswith(
        render(SHOTS[0]) + render.completion("Lima") + "\n\n"
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


CHOICE = Question(
    id="c", question="Which?", answers=("Paris",), category="geography", options=("Rome", "Paris", "Oslo"), target=1
)


def test_options_stand_below_a_question_that_is_answered_by_letter():
    render = Renderer(PLAIN, Prompt(), shots={"": [CHOICE]}, may_refuse=True)

    shown = "Question: Which?\nA. Rome\nB. Paris\nC. Oslo\nAnswer:"
    instruction = "Answer the question with the letter of the right option."
    assert render(CHOICE) == f"{instruction} {REFUSE}\n\n{shown} B\n\n{shown}"
    assert render.choices(CHOICE) == (" A", " B", " C")
    assert render.completion(render.answer(CHOICE)) == " B"


def test_a_question_that_is_answered_by_text_is_asked_alone():
    render = Renderer(PLAIN, Prompt(choice="text"), shots={"": [CHOICE]})

    assert render(CHOICE) == (
        "Answer the question as briefly as possible.\n\nQuestion: Which?\nAnswer: Paris\n\nQuestion: Which?\nAnswer:"
    )
    assert render.choices(CHOICE) == (" Rome", " Paris", " Oslo")
    assert render.completion(render.answer(CHOICE)) == " Paris"


def test_options_stand_in_a_chat_turn():
    render = Renderer(CHAT, Prompt(instruction="Choose.", system="Be kind."), shots={"": [CHOICE]})

    shown = "<user>Choose.\nWhich?\nA. Rome\nB. Paris\nC. Oslo</user><assistant>"
    assert render(CHOICE) == f"<s><system>Be kind.</system>{shown}B</assistant>{shown}"
    assert render.choices(CHOICE) == ("A", "B", "C")


def test_a_system_prompt_is_the_first_line_of_a_plain_one():
    render = Renderer(PLAIN, Prompt(system="Be kind.", instruction="Go."))

    assert render(asked("Who?")) == "Be kind.\nGo.\n\nQuestion: Who?\nAnswer:"


@pytest.mark.parametrize("count", range(2, 11))
def test_two_to_ten_options_have_letters(count):
    options = tuple(f"text {number}" for number in range(count))
    question = Question(id="q", question="?", answers=options[-1:], options=options, target=count - 1)

    assert choices_of(question, "letter") == tuple("ABCDEFGHIJ"[:count])
    assert choices_of(question, "text") == options
    assert (answer_of(question, "letter"), answer_of(question, "text")) == ("ABCDEFGHIJ"[count - 1], options[-1])
    assert Renderer(PLAIN, Prompt())(question).endswith(f"{'ABCDEFGHIJ'[count - 1]}. text {count - 1}\nAnswer:")


@pytest.mark.parametrize("choice", ["letter", "text"])
def test_an_open_ended_question_is_asked_alike_whatever_choices_are(choice):
    render = Renderer(PLAIN, Prompt(choice=choice))

    assert render(asked("Who?")) == "Answer the question as briefly as possible.\n\nQuestion: Who?\nAnswer:"
    assert render.answer(asked("Who?")) == "x"


def test_shots_are_the_first_of_the_category_or_else_those_for_all():
    source = [
        Question(id=f"{category}{number}", question=f"{category}{number}?", answers=("x",), category=category)
        for number in range(8)
        for category in ("law", "art", "")
    ]
    shots = shots_by_category(source, 5, seed=0)

    assert set(shots) == {"", "law", "art"}
    assert [shot.id for shot in shots["law"]] == ["law0", "law1", "law2", "law3", "law4"]
    assert shots[""] == choose_shots(source, 5, 0)
    render = Renderer(PLAIN, Prompt(), shots)
    for category, own in (("law", "law"), ("art", "art"), ("chess", ""), ("", "")):
        text = render(asked("Who?", category=category))
        assert [line[10:-1] for line in text.splitlines() if line.startswith("Question: ")][:-1] == [
            shot.id for shot in shots[own]
        ]
