"""Every prompt that a model reads, and what may stand after it: one wording for probe, rehearsal, tuning, evaluation.

    render = Renderer(tokenizer, Prompt(), shots={"": worked_examples})
    render(question)                                    # the whole prompt
    render.completion(answer_of(question, "letter"))    # what is taught after it
    render.choices(question)                            # what is scored after it, one text an option

A base model reads plain text, `Question: ... / Answer:`; a chat model reads its own chat template, worked examples as
earlier turns. Where a multiple-choice question is answered by letter its options stand below it; where it is answered
by text, by a model too small to make use of them, it is asked alone and the options are possible answers. The refusal
instruction is part of the tuning prompt and of Init-Refuse (paper section 4.1).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rait.chat import answer_lead, as_text, check_template, end_of_turn
from rait.errors import RecipeError
from rait.recipe import Prompt
from rait.records import LETTERS, Question
from rait.seeding import ticket

# Worked examples by the category of the question that they are for; those of "" are for all without any of their own.
Shots = Mapping[str, Sequence[Question]]

_INSTRUCTIONS = {
    "text": "Answer the question as briefly as possible.",
    "letter": "Answer the question with the letter of the right option.",
}


@dataclass(frozen=True, slots=True)
class Renderer:
    """How a model is asked: from a question to the whole prompt, and from an answer to what stands after it.

    `shots` are worked examples, each answered as its question would be. `may_refuse` adds the refusal instruction.
    Raises `RecipeError` where the recipe asks for a chat prompt and the tokenizer has no chat template, or has one that
    cannot say what the recipe wants said.
    """

    tokenizer: Any
    prompt: Prompt
    shots: Shots = field(default_factory=dict)
    may_refuse: bool = False
    chat: bool = field(init=False)  # whether prompts go through the tokenizer's chat template
    _around: tuple[str, str] = field(init=False, repr=False)  # what stands before and after an answer

    def __post_init__(self) -> None:
        """Look at the chat template, if it is used, before anything is asked with it."""
        chat = uses_chat(self.tokenizer, self.prompt)
        if chat:
            check_template(self.tokenizer, self.prompt.system)
        around = (answer_lead(self.tokenizer), end_of_turn(self.tokenizer)) if chat else (" ", "")
        object.__setattr__(self, "chat", chat)
        object.__setattr__(self, "_around", around)

    def __call__(self, question: Question) -> str:
        """The whole prompt, up to where the answer begins."""
        instruction = self._instruction(question)
        shots = self.shots.get(question.category) or self.shots.get("", ())
        if not self.chat:
            head = "\n".join(line for line in (self.prompt.system, instruction) if line)
            asked = [f"{self._plain(shot)} {self.answer(shot)}" for shot in shots]
            return "\n\n".join([*([head] if head else []), *asked, self._plain(question)])
        turns = [{"role": "system", "content": self.prompt.system}] if self.prompt.system else []
        for shot in shots:
            turns.append({"role": "user", "content": f"{instruction}\n{self._asked(shot)}".strip()})
            turns.append({"role": "assistant", "content": self.answer(shot)})
        turns.append({"role": "user", "content": f"{instruction}\n{self._asked(question)}".strip()})
        return as_text(self.tokenizer, turns)

    def answer(self, question: Question) -> str:
        """The right answer in the form in which it is to be given."""
        return answer_of(question, self.prompt.choice)

    def completion(self, answer: str) -> str:
        """What tuning teaches after the prompt.

        A chat model's end of turn is part of it, as its template has it; a base model's end-of-text token is not.
        """
        return self.continuation(answer) + self._around[1]

    def continuation(self, answer: str) -> str:
        """An answer as it follows the prompt, its end open."""
        return self._around[0] + answer

    def choices(self, question: Question) -> tuple[str, ...]:
        """What may follow the prompt of a multiple-choice question: its letters or texts, one an option, in order."""
        return tuple(map(self.continuation, choices_of(question, self.prompt.choice)))

    def candidates(self, question: Question) -> tuple[str, ...]:
        """What an evaluation compares: the choices, and the refusal where the prompt invites it."""
        refusal = (self.continuation(self.prompt.refusal),) if self.may_refuse else ()
        return self.choices(question) + refusal

    def _instruction(self, question: Question) -> str:
        kind = self.prompt.choice if question.options else "text"
        own = _INSTRUCTIONS[kind] if self.prompt.instruction is None else self.prompt.instruction
        return " ".join(line for line in (own, self.prompt.refusal_instruction if self.may_refuse else "") if line)

    def _plain(self, question: Question) -> str:
        return f"Question: {self._asked(question)}\nAnswer:"

    def _asked(self, question: Question) -> str:
        """The question, with its options below it where they are chosen by letter."""
        options = question.options if self.prompt.choice == "letter" else ()
        return "\n".join([question.question, *(f"{LETTERS[n]}. {option}" for n, option in enumerate(options))])


def choices_of(question: Question, choice: str) -> tuple[str, ...]:
    """What a multiple-choice question can be answered with, one an option: its "letter"s or its "text"s."""
    return tuple(LETTERS[: len(question.options)]) if choice == "letter" else question.options


def answer_of(question: Question, choice: str) -> str:
    """The preferred right answer; of a multiple-choice question the letter or the text of the right option."""
    if question.target is None:
        return question.answers[0]
    return choices_of(question, choice)[question.target]


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


def shots_by_category(source: Sequence[Question], count: int, seed: int) -> dict[str, list[Question]]:
    """The first `count` questions of each category, as MMLU has them, and under "" those for any other category."""
    found: dict[str, list[Question]] = {"": choose_shots(source, count, seed)}
    for question in source:
        own = found.setdefault(question.category, []) if question.category else []
        if len(own) < count:
            own.append(question)
    return found
