"""Chat templates: turns as the text that a chat model reads, and what can be wrong with a template.

    text = as_text(tokenizer, [{"role": "user", "content": "Who?"}])

The text ends where the assistant's answer begins. Templates that can think are told not to: an answer is short, and
what is scored or taught is the answer itself.
"""

from collections.abc import Sequence
from typing import Any

from rait.errors import RecipeError, first_line

_Turns = Sequence[dict[str, str]]
_MARK = "rait-7f3a"  # a text that no template has of itself
_DATE = "26 Jul 2024"  # what Llama 3 tells by itself where it is not told: a prompt is the same tomorrow
_THINKING = ("<think>", "<thinking>", "<reasoning>", "<|START_THINKING|>", "[THINK]")


def as_text(tokenizer: Any, turns: _Turns, *, answered: bool = False) -> str:
    """The turns as the template has them, up to where the assistant's next answer begins.

    With `answered` the last turn is the answer, and the text ends with it. Raises `RecipeError` where the template
    refuses the turns.
    """
    try:
        text: str = tokenizer.apply_chat_template(
            list(turns),
            tokenize=False,
            add_generation_prompt=not answered,
            # The names under which templates ask whether to think; those that do not ask take no notice.
            enable_thinking=False,
            thinking=False,
            date_string=_DATE,
        )
    except Exception as error:  # templates are programs of others, run in jinja2's sandbox: they can fail in any way
        roles = ", ".join(turn["role"] for turn in turns)
        reason = first_line(error)
        raise RecipeError(
            f"the model's chat template refuses the turns {roles} ({reason}); {_remedy(turns)}"
        ) from error
    return text


def answer_lead(tokenizer: Any) -> str:
    """What the template puts between the prompt and the answer: the blank after Llama 2's [/INST], mostly ""."""
    prompt, before, _ = _around_answer(tokenizer, "")
    return before[len(prompt) :] if before.startswith(prompt) else ""


def end_of_turn(tokenizer: Any) -> str:
    """What the template puts after an answer, "" for nothing."""
    return _around_answer(tokenizer, "")[2].strip()


def check_template(tokenizer: Any, system: str) -> None:
    """Raise `RecipeError` where the template leaves out what it is given, begins a text twice, or goes on to think."""
    turns = [{"role": "system", "content": f"{_MARK} {system}"}] if system else []
    turns.append({"role": "user", "content": f"{_MARK}?"})
    text = as_text(tokenizer, turns)
    if system and f"{_MARK} {system.strip()}" not in text:
        raise RecipeError(
            "the model's chat template drops the system turn; leave prompt.system empty and put what it says into "
            "prompt.instruction"
        )
    if f"{_MARK}?" not in text:
        raise RecipeError("the model's chat template drops the question; use prompt.style=plain")
    if text == as_text(tokenizer, turns, answered=True) and not _answers_at_once(tokenizer):
        raise RecipeError(
            "the model's chat template does not mark where the answer begins (it ignores add_generation_prompt); "
            "use prompt.style=plain, or mend the template"
        )
    if _begins_twice(tokenizer, text.partition(_MARK)[0]):
        raise RecipeError(
            f"the model's chat template writes the beginning-of-text token {tokenizer.bos_token} twice, or after other "
            "text; mend the template, or use prompt.style=plain"
        )
    last = text.rstrip()
    if any(last.endswith(mark) for mark in _THINKING):
        raise RecipeError(
            "the model's chat template makes the model think before it answers and offers no way not to; "
            "use prompt.style=plain, or a model that answers at once"
        )


def _around_answer(tokenizer: Any, answer: str) -> tuple[str, str, str]:
    """A prompt, and what the template has before and after an answer to it."""
    asked = {"role": "user", "content": "?"}
    # The mark, and not the answer, is looked for: "E" is also in <|END_OF_TURN|>.
    given = {"role": "assistant", "content": f"{answer}{_MARK}"}
    before, _, after = as_text(tokenizer, [asked, given], answered=True).partition(_MARK)
    return as_text(tokenizer, [asked]), before, after


def _answers_at_once(tokenizer: Any) -> bool:
    """Whether nothing but white space comes between a question and its answer, as after Llama 2's [/INST]."""
    prompt, before, _ = _around_answer(tokenizer, "")
    return before.rstrip() == prompt.rstrip()


def _begins_twice(tokenizer: Any, head: str) -> bool:
    """Whether tokens of a text that begins with `head` have more than one beginning-of-text token there."""
    bos: str | None = tokenizer.bos_token
    if not bos:
        return False
    if bos == tokenizer.eos_token:  # which may end a default system turn
        return head.startswith(bos * 2)
    return bos in head[1:]


def _remedy(turns: _Turns) -> str:
    if turns[0]["role"] == "system":
        return "leave prompt.system empty and put what it says into prompt.instruction"
    if len(turns) > 2:
        return "use prompt.shots=0, or prompt.style=plain"
    return "use prompt.style=plain"
