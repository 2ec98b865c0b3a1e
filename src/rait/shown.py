"""Every prompt that a run puts, as text for a reader: what the model reads, and where its answer begins.

    print(shown_prompts(recipe, tokenizer, {"train": first, "id": other}, shots))

Each prompt is shown with the first question of its set, character by character as the model gets it. It is what the
stages render: see `rait.prompting`. No weights are needed.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rait.construction import find_strategy
from rait.evaluation.answering import is_scored
from rait.prompting import Renderer, Shots
from rait.recipe import Recipe
from rait.records import Question

MARK = "<<ANSWER>>"
_LINE = 78


def shown_prompts(recipe: Recipe, tokenizer: Any, asked: Mapping[str, Question], shots: Shots) -> str:
    """Every prompt of a run of `recipe`, under headings that say who reads it and what becomes of it.

    `asked` holds a question of each set, "train" and the names of the test sets; `shots` are the worked examples.
    Raises `RecipeError` where the tokenizer's chat template cannot be used.
    """
    first = asked["train"]
    plain = Renderer(tokenizer, recipe.prompt, shots)
    tuned = Renderer(tokenizer, recipe.prompt, may_refuse=True)
    has_flow = any(find_strategy(name).needs & {"flows", "influences"} for name in recipe.strategies)
    parts = [_probe(recipe, plain, first, "initial and rehearsed model" if has_flow else "initial model")]
    if has_flow:
        bare = replace(plain, shots={})
        about = "the model's own most frequent right answer is taught; an accepted one stands for it here"
        if first.options:
            about = "the right option is taught"
        parts.append(_taught("rehearsal", bare, first, bare.answer(first), about))
    refusal = recipe.prompt.refusal
    parts.append(_taught("tuning, vanilla example", tuned, first, tuned.answer(first), "the right answer is taught"))
    parts.append(_taught("tuning, idk example", tuned, first, refusal, "the refusal is taught"))
    baseline = {} if plain.chat else shots
    ways = {
        "Init-Basic": replace(plain, shots=baseline),
        "Init-Refuse": replace(tuned, shots=baseline),
        f"tuned model ({', '.join(recipe.strategies)})": tuned,
    }
    for name in recipe.tests:
        parts += [_evaluation(recipe, render, asked[name], f"{way} on {name}") for way, render in ways.items()]
    form = "the model's chat template" if plain.chat else "plain text, no chat template"
    head = (
        f"Every prompt of this run, each with the first question of its set; {form}.\n"
        f"{MARK} is not part of a prompt: it marks where the answer begins. What stands after it is taught."
    )
    return "\n\n".join([head, *parts]) + "\n"


def _probe(recipe: Recipe, render: Renderer, question: Question, who: str) -> str:
    if question.options:
        about = _scored(render.choices(question))
    else:
        probe = recipe.probe
        about = [f"the model writes {probe.samples} answers of at most {probe.max_new_tokens} tokens"]
    return _section(f"probe, {who}", question, render, render(question), "", about)


def _taught(what: str, render: Renderer, question: Question, answer: str, about: str) -> str:
    completion = render.completion(answer)
    # Tuning ends what is taught with an end-of-text token, unless a template's end of turn is there already.
    if completion == render.continuation(answer):
        completion += render.tokenizer.eos_token or ""
    return _section(what, question, render, render(question), completion, [about])


def _evaluation(recipe: Recipe, render: Renderer, question: Question, what: str) -> str:
    if is_scored(question, render, recipe.evaluation):
        about = _scored(render.candidates(question))
    else:
        about = [f"the model writes an answer of at most {recipe.evaluation.max_new_tokens} tokens, greedily"]
    return _section(f"evaluation, {what}", question, render, render(question), "", about)


def _scored(candidates: Sequence[str]) -> list[str]:
    return ["scored after it: " + ", ".join(json.dumps(text, ensure_ascii=False) for text in candidates)]


def _section(what: str, question: Question, render: Renderer, prompt: str, taught: str, about: Sequence[str]) -> str:
    rule = "-" * _LINE
    lines = [f"{what}, question {question.id!r}", *_tokens(render.tokenizer, prompt, taught), *about]
    return "\n".join(["=" * _LINE, *lines, rule, f"{prompt}{MARK}{taught}", rule])


def _tokens(tokenizer: Any, prompt: str, taught: str) -> Iterator[str]:
    from rait.models.tree import encode

    ids = encode(tokenizer, prompt)
    begins = ", the first of them " + tokenizer.bos_token if ids[:1] == [tokenizer.bos_token_id] else ""
    yield f"{len(ids)} tokens{begins}"
    if taught:
        count = len(tokenizer(taught, add_special_tokens=False)["input_ids"])
        yield f"{count} tokens are taught"
