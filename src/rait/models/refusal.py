"""How probable the taught refusal is, and what a model answers where it may not refuse.

    for index, answered in weigh(model, tokenizer, prompts, " I don't know", max_new_tokens=16):
        answered.response, answered.refusal_probability, answered.instead

The probability is that of the whole completion that tuning teaches (`rait.tuning.sft`), its end token included, by
teacher forcing: the product of the probabilities of its tokens, each after the prompt and those before it, at
temperature 1. Greedy decoding refuses where it is above one half, and otherwise mostly does not; as a score it orders
questions by how near the model is to a refusal.

All three come from one walk along the tree of an answer's tokens (`rait.models.sampler`): the prompt is read once.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp
from typing import Any

from rait.errors import NotFiniteError
from rait.models.sampler import Sampling, draw
from rait.models.scoring import continuations
from rait.models.tree import encode, end_tokens
from rait.progress import Say, say


@dataclass(frozen=True, slots=True)
class Weighed:
    """What greedy decoding writes, the probability of the refusal in [0, 1], and what would be written instead.

    `instead` is the greedy answer whose first token is not that of the refusal; None where that is the response itself.
    """

    response: str
    refusal_probability: float
    instead: str | None


def weigh(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    refusal: str,
    max_new_tokens: int,
    *,
    rows: int | None = None,
    say: Say = say,
) -> Iterator[tuple[int, Weighed]]:
    """Yield (index of the prompt, what is answered and how probable the completion `refusal` is), in no order.

    `rows` and `say` as for `draw`. Raises `ModelError` where the refusal has no token, or as `draw` does.
    """
    alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, prompt in enumerate(prompts):  # a tokenizer may join the seam in more ways than one
        alike[refusal_tokens(model, tokenizer, prompt, refusal)].append(index)
    for tokens, indices in alike.items():
        sampling = Sampling(samples=1, temperature=0, max_new_tokens=max_new_tokens, refusal=tokens)
        asked = (prompts[index] for index in indices)
        try:
            for place, found in draw(model, tokenizer, asked, [0] * len(indices), sampling, rows=rows, say=say):
                (response,) = found.counts
                probability = min(1.0, exp(found.refusal or 0.0))  # rounding may leave a hair above 1
                yield indices[place], Weighed(response, probability, found.instead)
        except NotFiniteError as error:
            raise error.of(indices) from None


def refusal_tokens(model: Any, tokenizer: Any, prompt: str, refusal: str) -> tuple[int, ...]:
    """Token ids of the completion `refusal` after a rendered prompt, as tuning teaches them: the last one ends it."""
    (tokens,) = continuations(tokenizer, prompt, encode(tokenizer, prompt), [refusal])
    ended = tokens[-1] in end_tokens(model, tokenizer) or tokenizer.eos_token_id is None
    return tuple(tokens) if ended else (*tokens, tokenizer.eos_token_id)
