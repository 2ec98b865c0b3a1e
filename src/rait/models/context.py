"""How long a text a model can read, and which questions do not fit.

rule = obstacle(loaded, render(question), further=50)       # "too_long", or None where it can be asked
print(REASONS[rule])
"""

from collections.abc import Sequence
from typing import Any

from rait.models.loading import LoadedModel

REASONS = {"too_long": "the prompt and the answer may be longer than the model's context"}
"""Why a question fails, by the name of the rule."""

_CHARACTER = 4  # tokens that a character is at most: its bytes


def context_of(model: Any) -> int | None:
    """The number of tokens that a model can read, prompt and answer together; None where nothing says so."""
    found = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return found if isinstance(found, int) and found > 0 else None


def obstacle(loaded: LoadedModel, prompt: str, further: int = 0, texts: Sequence[str] = ()) -> str | None:
    """The rule by which a model cannot be asked `prompt` and then read `further` tokens or any of `texts`, or None."""
    limit = context_of(loaded.model)
    longest = max(map(len, texts), default=0)
    # Nearly all prompts are short: they need not be tokenised to know.
    if limit is None or _CHARACTER * (len(prompt) + longest) + further < limit:
        return None
    from rait.models.tree import encode

    beyond = max((len(loaded.tokenizer(text)["input_ids"]) for text in texts), default=0)
    return "too_long" if len(encode(loaded.tokenizer, prompt)) + max(further, beyond) > limit else None
