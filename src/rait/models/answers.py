"""What was drawn for one prompt: answers as paths of tokens while they grow, and as texts when all have ended.

    reader = Reader(tokenizer, ends, max_new_tokens=50)
    path = reader.longer(Path(), token, log_probability)    # path.ended: nothing follows
    answers = reader.answers([(path, 10)], kurtosis=[])     # answers.counts: {text: how many samples}

An answer ends at an end-of-text token, at the first line break after some text, or after `max_new_tokens`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log
from statistics import fmean
from typing import Any


@dataclass(frozen=True, slots=True)
class Answers:
    """What was drawn for one prompt, by answer text: the most frequent first, ties by text.

    `counts` add up to the number of samples. `log_probabilities` are natural logarithms of the probability of a text at
    the temperature of the samples (at 1 where that is 0): the sum, over the token paths that were drawn for it, of the
    product of their tokens' probabilities. The token that ended an answer counts; an answer that was cut counts what it
    has. `tokens` is the length of the likeliest of these paths, the end included.

    `greedy` is the text of greedy decoding and `kurtosis` the mean of `rait.models.drawing.kurtosis` over its tokens,
    the end included; both None where it was not followed.

    `refusal` is the natural logarithm of the probability of the refusal, None where that was not followed, and
    `instead` the answer of greedy decoding where it may not begin as the refusal does: None where it does not anyway.
    """

    counts: dict[str, int]
    log_probabilities: dict[str, float]
    tokens: dict[str, int]
    greedy: str | None = None
    kurtosis: float | None = None
    refusal: float | None = None
    instead: str | None = None


@dataclass(frozen=True, slots=True)
class Path:
    """An answer's tokens so far, the one that ends it included, and the natural logarithm of their probability.

    `greedy` says whether greedy decoding goes this way, `started` whether they show any text.
    """

    tokens: tuple[int, ...] = ()
    log_probability: float = 0.0
    greedy: bool = False
    started: bool = False
    ended: bool = False


class Reader:
    """Reads answers off their tokens; `ends` are the tokens that end a text."""

    def __init__(self, tokenizer: Any, ends: frozenset[int], max_new_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._ends = ends
        self._limit = max_new_tokens
        self._shown: dict[int, str] = {}

    def longer(self, path: Path, token: int, log_probability: float, *, greedy: bool = False) -> Path:
        """`path` and one token more."""
        if (shown := self._shown.get(token)) is None:
            shown = self._shown[token] = str(self._tokenizer.decode([token], skip_special_tokens=True))
        text = shown if path.started else shown.lstrip()
        tokens = (*path.tokens, token)
        return Path(
            tokens,
            path.log_probability + log_probability,
            greedy=greedy,
            started=path.started or bool(text),
            ended=token in self._ends or "\n" in text or len(tokens) == self._limit,
        )

    def answers(
        self, ended: Sequence[tuple[Path, int]], kurtosis: Sequence[float], refusal: float | None = None
    ) -> Answers:
        """The texts of distinct paths that so many samples took, and the kurtosis of the greedy one's steps.

        A path that no sample took and that is not the greedy one is what is answered instead of the `refusal`.
        """
        greedy = instead = None
        counts: Counter[str] = Counter()
        paths: dict[str, list[Path]] = {}
        for path, count in ended:
            text = self._text(path)
            if path.greedy:
                greedy = text
            elif not count:
                instead = text
            if count:
                counts[text] += count
                paths.setdefault(text, []).append(path)
        texts = sorted(counts, key=lambda text: (-counts[text], text))
        return Answers(
            counts={text: counts[text] for text in texts},
            log_probabilities={text: _log_sum([path.log_probability for path in paths[text]]) for text in texts},
            tokens={text: len(_likeliest(paths[text]).tokens) for text in texts},
            greedy=greedy,
            kurtosis=fmean(kurtosis) if kurtosis else None,
            refusal=refusal,
            instead=instead,
        )

    def _text(self, path: Path) -> str:
        shown = path.tokens[:-1] if path.tokens[-1] in self._ends else path.tokens
        text: str = self._tokenizer.decode(list(shown), skip_special_tokens=True)
        return text.strip().split("\n")[0].strip()


def _likeliest(paths: Sequence[Path]) -> Path:
    return max(paths, key=lambda path: (path.log_probability, -len(path.tokens)))


def _log_sum(logarithms: Sequence[float]) -> float:
    """The logarithm of the sum of what these are logarithms of."""
    highest = max(logarithms)
    return highest + log(sum(exp(one - highest) for one in logarithms))
