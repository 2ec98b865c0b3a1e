"""Chat templates in the forms that models have: what the model reads, and what is refused."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rait.chat import answer_lead, as_text, check_template, end_of_turn
from rait.errors import RecipeError
from rait.models.scoring import letter_tokens
from rait.models.tree import encode
from rait.prompting import Renderer
from rait.recipe import Prompt
from rait.records import Question
from tiny import word_tokenizer

NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
TURNS = "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + '<|end|>' }}{% endfor %}"
PROMPT = "{% if add_generation_prompt %}<|assistant|>{% endif %}"
HEADED = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<|start|>' + m.role + '<|stop|>\\n\\n' + m.content | trim + '<|eot|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant<|stop|>\\n\\n' }}{% endif %}"
)
# The system turn goes into the first question; every question begins a text of its own; no generation prompt.
INST_FOLDING = (
    "{% if messages[0].role == 'system' %}{% set system = messages[0].content %}{% set messages = messages[1:] %}"
    "{% else %}{% set system = '' %}{% endif %}{% for m in messages %}{% if m.role == 'user' %}"
    "{{ bos_token + '[INST] ' }}{% if loop.first and system %}{{ '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' }}"
    "{% endif %}{{ m.content.strip() + ' [/INST]' }}{% else %}{{ ' ' + m.content.strip() + ' ' + eos_token }}"
    "{% endif %}{% endfor %}"
)
INST_REFUSING = NO_SYSTEM + INST_FOLDING
# One text, turns that must alternate, a blank before the answer.
INST_ONCE = (
    "{{ bos_token }}{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "{% if m.role == 'user' %}{{ '[INST] ' + m.content + '[/INST]' }}{% else %}{{ ' ' + m.content + eos_token }}"
    "{% endif %}{% endfor %}"
)
NAMED_MODEL = (
    "{{ bos_token }}"
    + NO_SYSTEM
    + "{% for m in messages %}{% set role = 'model' if m.role == 'assistant' else m.role %}"
    "{{ '<start_of_turn>' + role + '\\n' + m.content | trim + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
NAMED_MODEL_FOLDING = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{% set first = messages[0].content + '\\n\\n' %}"
    "{% set turns = messages[1:] %}{% else %}{% set first = '' %}{% set turns = messages %}{% endif %}"
    "{% for m in turns %}{% set role = 'model' if m.role == 'assistant' else m.role %}"
    "{{ '<start_of_turn>' + role + '\\n' + (first if loop.first else '') + m.content | trim + '<end_of_turn>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
# Earlier answers stand without their thoughts; the last one with them, empty as they may be.
ASKED_TO_THINK = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}"
    "{% if m.role == 'assistant' and loop.last %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}"
    "{{ m.content + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}"
    "{% endif %}"
)
ALSO_ASKED = TURNS + PROMPT + "{% if add_generation_prompt and not thinking %}</think>{% endif %}"
ALWAYS_THINKING = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}"
    "{% elif m.role == 'user' %}{{ '<|User|>' + m.content }}"
    "{% else %}{{ '<|Assistant|>' + m.content.split('</think>')[-1] + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|Assistant|><think>\\n' }}{% endif %}"
)
DROPS_SYSTEM = (
    "{{ bos_token }}{% for m in messages if m.role != 'system' %}{{ '<|' + m.role + '|>' + m.content + '<|end|>' }}"
    "{% endfor %}" + PROMPT
)
DROPS_QUESTION = "{{ bos_token }}{% for m in messages if m.role != 'user' %}{{ m.content }}{% endfor %}" + PROMPT
TWO_BEGINNINGS = "{{ bos_token }}{{ bos_token }}" + TURNS + PROMPT
LATE_BEGINNING = "{{ '\\n' + bos_token }}" + TURNS + PROMPT
UNPROMPTED = "{{ bos_token }}" + TURNS
BROKEN = "{% for m in messages %}{{ m.content.nothing.more }}{% endfor %}"

GOOD = {
    "llama3": HEADED,
    "llama2": INST_FOLDING,
    "llama2_refusing": INST_REFUSING,
    "mistral": INST_ONCE,
    "gemma2": NAMED_MODEL,
    "gemma3": NAMED_MODEL_FOLDING,
    "qwen3": ASKED_TO_THINK,
    "thinking": ALSO_ASKED,
    "system_dropped": DROPS_SYSTEM,  # where none is asked for
}
WITH_SYSTEM = {"llama3", "llama2", "gemma3", "qwen3", "thinking"}
PIECES = [*"ABCDEFGHIJ", *(f"▁{letter}" for letter in "ABCDEFGHIJ"), "▁[/INST]", "[/INST]"]
QUESTION = Question(id="q", question="Who?", answers=("Ada",))
SHOTS = [
    Question(id="s1", question="Where?", answers=("Lima",)),
    Question(id="s2", question="When?", answers=("1912",)),
]
CHOICE = Question(id="c", question="Which?", answers=("Paris",), options=("Rome", "Paris"), target=1)
HINT = "leave prompt.system empty and put what it says into prompt.instruction"


def chatting(template):
    tokenizer = word_tokenizer(PIECES)
    tokenizer.chat_template = template
    return tokenizer


def asking(template, shots=(), **settings):
    return Renderer(chatting(template), Prompt(**{"instruction": "", **settings}), {"": shots})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("llama3", "<bos><|start|>user<|stop|>\n\nWho?<|eot|><|start|>assistant<|stop|>\n\n"),
        ("llama2", "<bos>[INST] Who? [/INST]"),
        ("llama2_refusing", "<bos>[INST] Who? [/INST]"),
        ("mistral", "<bos>[INST] Who?[/INST]"),
        ("gemma2", "<bos><start_of_turn>user\nWho?<end_of_turn>\n<start_of_turn>model\n"),
        ("gemma3", "<bos><start_of_turn>user\nWho?<end_of_turn>\n<start_of_turn>model\n"),
        ("qwen3", "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"),
        ("thinking", "<|user|>Who?<|end|><|assistant|></think>"),
        ("system_dropped", "<bos><|user|>Who?<|end|><|assistant|>"),
    ],
)
def test_what_a_chat_model_reads(name, text):
    assert asking(GOOD[name])(QUESTION) == text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "llama3",
            "<bos><|start|>system<|stop|>\n\nBe kind.<|eot|><|start|>user<|stop|>\n\nWho?<|eot|>"
            "<|start|>assistant<|stop|>\n\n",
        ),
        ("llama2", "<bos>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nWho? [/INST]"),
        ("gemma3", "<bos><start_of_turn>user\nBe kind.\n\nWho?<end_of_turn>\n<start_of_turn>model\n"),
        ("thinking", "<|system|>Be kind.<|end|><|user|>Who?<|end|><|assistant|></think>"),
    ],
)
def test_a_system_turn_stands_where_the_template_has_it(name, text):
    assert asking(GOOD[name], system="Be kind.")(QUESTION) == text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "llama3",
            "<bos><|start|>user<|stop|>\n\nWhere?<|eot|><|start|>assistant<|stop|>\n\nLima<|eot|>"
            "<|start|>user<|stop|>\n\nWhen?<|eot|><|start|>assistant<|stop|>\n\n1912<|eot|>"
            "<|start|>user<|stop|>\n\nWho?<|eot|><|start|>assistant<|stop|>\n\n",
        ),
        ("llama2", "<bos>[INST] Where? [/INST] Lima <eos><bos>[INST] When? [/INST] 1912 <eos><bos>[INST] Who? [/INST]"),
        ("mistral", "<bos>[INST] Where?[/INST] Lima<eos>[INST] When?[/INST] 1912<eos>[INST] Who?[/INST]"),
        (
            "gemma2",
            "<bos><start_of_turn>user\nWhere?<end_of_turn>\n<start_of_turn>model\nLima<end_of_turn>\n"
            "<start_of_turn>user\nWhen?<end_of_turn>\n<start_of_turn>model\n1912<end_of_turn>\n"
            "<start_of_turn>user\nWho?<end_of_turn>\n<start_of_turn>model\n",
        ),
        (
            "qwen3",
            "<|im_start|>user\nWhere?<|im_end|>\n<|im_start|>assistant\nLima<|im_end|>\n"
            "<|im_start|>user\nWhen?<|im_end|>\n<|im_start|>assistant\n1912<|im_end|>\n"
            "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
        ),
    ],
)
def test_worked_examples_are_turns(name, text):
    assert asking(GOOD[name], SHOTS)(QUESTION) == text


@pytest.mark.parametrize("shots", [(), SHOTS])
@pytest.mark.parametrize("name", GOOD)
def test_tokens_begin_once(name, shots):
    tokenizer = chatting(GOOD[name])
    ids = encode(tokenizer, asking(GOOD[name], shots, system="Be kind." if name in WITH_SYSTEM else "")(QUESTION))
    assert ids[0] == tokenizer.bos_token_id
    # Llama 2 begins a text of its own with every question.
    assert ids.count(tokenizer.bos_token_id) == (1 + len(shots) if name.startswith("llama2") else 1)


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("llama3", "<|eot|>"),
        ("llama2", "<eos>"),
        ("mistral", "<eos>"),
        ("gemma2", "<end_of_turn>"),
        ("gemma3", "<end_of_turn>"),
        ("qwen3", "<|im_end|>"),
        ("thinking", "<|end|>"),
    ],
)
# Most of these stand in the templates, too.
@pytest.mark.parametrize("answer", ["Lima", "A", "E", "end", "of", "turn", "user", "im", "?", "|>"])
def test_a_completion_ends_its_turn(name, ending, answer):
    render = asking(GOOD[name])
    assert end_of_turn(chatting(GOOD[name])) == ending
    assert render.completion(answer).strip() == answer + ending


@pytest.mark.parametrize(
    ("name", "lead"),
    [
        ("llama3", ""),
        ("llama2", " "),
        ("mistral", " "),
        ("gemma2", ""),
        ("gemma3", ""),
        ("qwen3", ""),
        ("thinking", ""),
    ],
)
def test_what_stands_between_a_prompt_and_an_answer(name, lead):
    assert answer_lead(chatting(GOOD[name])) == lead


@pytest.mark.parametrize("name", ["llama3", "llama2", "mistral", "gemma2", "gemma3"])
def test_an_answer_follows_the_prompt_as_in_a_worked_example(name):
    tokenizer = chatting(GOOD[name])
    prompt = asking(GOOD[name])(SHOTS[0])
    whole = asking(GOOD[name], SHOTS[:1])(QUESTION)
    assert whole.startswith(prompt + answer_lead(tokenizer) + "Lima")
    assert whole.removeprefix(prompt + answer_lead(tokenizer) + "Lima").lstrip().startswith(end_of_turn(tokenizer))


def test_letters_are_tokens_as_the_template_has_them():
    """After [/INST] a letter comes with a blank, which is another token than the bare letter."""
    tokenizer = chatting(INST_FOLDING)
    lead = answer_lead(tokenizer)
    _, letters = letter_tokens(tokenizer, asking(INST_FOLDING)(CHOICE), [lead + "A", lead + "B"])
    assert tokenizer.convert_ids_to_tokens(letters) == ["▁A", "▁B"]


def refused(template, message, **settings):
    with pytest.raises(RecipeError, match=re.escape(message)):
        asking(template, **settings)


@pytest.mark.parametrize(
    ("template", "settings", "message"),
    [
        (NAMED_MODEL, {"system": "Be kind."}, f"turns system, user (System role not supported); {HINT}"),
        (INST_REFUSING, {"system": "Be kind."}, f"turns system, user (System role not supported); {HINT}"),
        (INST_ONCE, {"system": "Be kind."}, f"turns system, user (Conversation roles must alternate); {HINT}"),
        (DROPS_SYSTEM, {"system": "Be kind."}, f"the model's chat template drops the system turn; {HINT}"),
        (DROPS_QUESTION, {}, "drops the question; use prompt.style=plain"),
        (TWO_BEGINNINGS, {}, "writes the beginning-of-text token <bos> twice, or after other text; mend the template"),
        (TWO_BEGINNINGS, {"system": "Be kind."}, "writes the beginning-of-text token <bos> twice"),
        (LATE_BEGINNING, {}, "writes the beginning-of-text token <bos> twice, or after other text"),
        (UNPROMPTED, {}, "does not mark where the answer begins (it ignores add_generation_prompt)"),
        (
            ALWAYS_THINKING,
            {},
            "makes the model think before it answers and offers no way not to; use prompt.style=plain",
        ),
        (BROKEN, {}, "refuses the turns user ("),
        ("{% for m in", {}, "refuses the turns user ("),
        ("{{ raise_exception('One\\nTwo') }}", {}, "refuses the turns user (One); use prompt.style=plain"),
    ],
)
def test_templates_that_cannot_say_what_is_asked_are_refused(template, settings, message):
    refused(template, message, **settings)
    assert not asking(template, **settings, style="plain").chat  # the way out that the messages name


def test_a_template_that_refuses_worked_examples_says_so():
    alone = "{% if messages | length > 1 %}{{ raise_exception('one turn') }}{% endif %}" + TURNS + PROMPT
    with pytest.raises(RecipeError, match=r"refuses the turns user, assistant \(one turn\); use prompt.style=plain"):
        asking(alone, SHOTS[:1])(QUESTION)


def test_one_token_may_begin_and_end_a_text():
    """As where <|endoftext|> is both: a system turn of the template's own may end with it."""
    tokenizer = word_tokenizer(PIECES)
    tokenizer.eos_token = tokenizer.bos_token
    tokenizer.chat_template = "Be kind.{{ eos_token }}" + TURNS + PROMPT
    check_template(tokenizer, "")
    tokenizer.chat_template = TWO_BEGINNINGS
    with pytest.raises(RecipeError, match="twice"):
        check_template(tokenizer, "")


def test_a_tokenizer_may_have_no_beginning_of_text():
    tokenizer = word_tokenizer(PIECES)
    tokenizer.bos_token = None
    tokenizer.chat_template = HEADED
    check_template(tokenizer, "Be kind.")


def test_a_prompt_is_the_same_tomorrow():
    template = "{{ date_string if date_string is defined else strftime_now('%d %b %Y') }}" + TURNS + PROMPT
    assert asking(template)(QUESTION) == "26 Jul 2024<|user|>Who?<|end|><|assistant|>"


def test_options_stand_in_the_question_and_the_answer_is_a_letter():
    render = asking(NAMED_MODEL_FOLDING, [CHOICE], instruction=None)
    asked = "user\nAnswer the question with the letter of the right option.\nWhich?\nA. Rome\nB. Paris<end_of_turn>"
    assert render(CHOICE) == (
        f"<bos><start_of_turn>{asked}\n<start_of_turn>model\nB<end_of_turn>\n<start_of_turn>{asked}\n"
        "<start_of_turn>model\n"
    )
    assert render.completion(render.answer(CHOICE)) == "B<end_of_turn>"


@pytest.mark.parametrize("name", ["llama3", "gemma2", "gemma3", "qwen3", "thinking"])
@given(text=st.text("ab{}%<|>\n ?", min_size=1).map(str.strip).filter(bool))
def test_a_question_is_never_read_as_a_template(name, text):
    tokenizer = chatting(GOOD[name])
    one, other = (as_text(tokenizer, [{"role": "user", "content": content}]) for content in (text, "X"))
    assert one == other.replace("X", text)
