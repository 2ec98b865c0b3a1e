"""Every prompt that a model reads: one wording for probe, rehearsal, tuning and evaluation.

A base model reads plain text, `Question: ... / Answer:`; a chat model reads its own chat template, worked examples as
earlier turns. The refusal instruction is part of the tuning prompt and of Init-Refuse (paper section 4.1).
"""

from collections.abc import Callable, Sequence
from typing import Any

from rait.errors import RecipeError
from rait.recipe import Prompt
from rait.records import Question
from rait.seeding import ticket

Render = Callable[[str], str]


def renderer(tokenizer: Any, prompt: Prompt, *, shots: Sequence[Question] = (), may_refuse: bool = False) -> Render:
    """A function from a question's text to the whole prompt.

    `shots` are worked examples, each answered with its preferred answer. `may_refuse` adds the refusal instruction.
    Raises `RecipeError` when the recipe asks for a chat prompt and the tokenizer has no chat template.
    """
    instruction = " ".join(
        line for line in (prompt.instruction, prompt.refusal_instruction if may_refuse else "") if line
    )
    if uses_chat(tokenizer, prompt):

        def chat(question: str) -> str:
            messages = []
            for shot in shots:
                messages.append({"role": "user", "content": f"{instruction}\n{shot.question}".strip()})
                messages.append({"role": "assistant", "content": shot.answers[0]})
            messages.append({"role": "user", "content": f"{instruction}\n{question}".strip()})
            text: str = tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
            return text

        return chat
    head = f"{instruction}\n\n" if instruction else ""
    head += "".join(f"Question: {shot.question}\nAnswer: {shot.answers[0]}\n\n" for shot in shots)

    def plain(question: str) -> str:
        return f"{head}Question: {question}\nAnswer:"

    return plain


def completion(tokenizer: Any, prompt: Prompt, answer: str) -> str:
    """What stands after the prompt when the answer is `answer`.

    A chat model's end of turn is part of it, as its template has it; a base model's end-of-text token is not.
    """
    if not uses_chat(tokenizer, prompt):
        return f" {answer}"
    turn = [{"role": "user", "content": "?"}, {"role": "assistant", "content": answer}]
    whole: str = tokenizer.apply_chat_template(turn, tokenize=False)
    place = whole.rfind(answer)
    return answer if place < 0 else answer + whole[place + len(answer) :].strip()


def uses_chat(tokenizer: Any, prompt: Prompt) -> bool:
    """Whether prompts go through the tokenizer's chat template."""
    has_template = bool(getattr(tokenizer, "chat_template", None))
    if prompt.style == "chat" and not has_template:
        raise RecipeError("prompt.style is chat but the model's tokenizer has no chat template; use prompt.style=plain")
    return has_template if prompt.style == "auto" else prompt.style == "chat"


def choose_shots(pool: Sequence[Question], count: int, seed: int) -> list[Question]:
    """`count` worked examples from `pool`, each of another category as far as there are any, independent of its order.

    Fewer where the pool is smaller. They must not be asked afterwards: the caller leaves them out of the pool.
    """
    ordered = sorted(pool, key=lambda question: ticket(seed, "shots", question.id))
    first_of_category: dict[str, Question] = {}
    for question in ordered:
        first_of_category.setdefault(question.category, question)
    first = list(first_of_category.values())
    taken = {question.id for question in first}
    return (first + [question for question in ordered if question.id not in taken])[:count]
