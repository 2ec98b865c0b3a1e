"""Estimates of certainty, all from one stored knowledge state: its samples, its greedy answer, or its options.

    found = estimates(states, ["cosine", "exact_entropy", "kurtosis"])     # name -> a number or None for every state
    states = with_certainty(states, "exact_entropy")                       # the same states with another certainty

Always: higher is more certain. N is the number of sampled answers, H the entropy in nats, V the vocabulary's size. The
samples are those of the probe, each as often as it was drawn.

| name | range | what it is | source |
|---|---|---|---|
| cosine | [-1, 1] | the stored certainty: mean cosine over pairs of samples | CRaFT, arXiv 2410.06913 |
| exact_entropy | [-log N, 0] | -H of the samples, equal after `rait.judging.normalise` | Self-Detection, 2310.17918 |
| embedding_entropy | [-log N, 0] | -H of clusters by the cosine of sentence embeddings | the same, clusters ours |
| semantic_entropy | [-log N, 0] | -H of clusters by entailment, weighted by likelihood | Farquhar et al., Nature 2024 |
| discrete_semantic_entropy | [-log N, 0] | -H of the same clusters, weighted by count | the same |
| sequence_log_probability | (-inf, 0] | mean over samples of log-probability / tokens | Malinin & Gales, 2002.07650 |
| kurtosis | [1, V), or 0 | the stored kurtosis of greedy decoding, as it is | arXiv 2410.00423 |
| negative_entropy | [-log options, 0] | -H of the options | CRaFT |
| max_log_probability | [-log options, 0] | log-probability of the likeliest option | Hendrycks & Gimpel, 1610.02136 |

The last two are of scored options, whose stored certainty is the negative entropy, all others of sampled answers. The
scale of kurtosis depends on the vocabulary: compare it within one model. What a state lacks makes an estimate None,
never 0; entropies and log-probabilities of samples need two at least, as one sample always agrees with itself.

Clusters by embedding and by entailment are made in descending order of count, equal counts in alphabetical order: an
answer joins the first cluster whose first member it is like, or opens a new one. Two answers are alike by entailment,
as in the source's code, if neither direction contradicts and not both are neutral, each read with the question before
it. p(c) is the sum of exp(log-probability / tokens) over the samples of cluster c, and these add up to 1: a text that
was drawn three times counts three times, as in the source, which sums over samples.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp, fsum, isfinite, log

import numpy as np
from numpy.typing import NDArray

from rait.errors import InputError, ModelError, some
from rait.judging import normalise
from rait.knowledge.choices import negative_entropy
from rait.models.embedding import Embed
from rait.models.entailment import Entails, Relation
from rait.records import Answer, KnowledgeState

SAME = 0.9
"""Cosine from which the embeddings of two answers say the same."""

_DECIMALS = 6  # equal knowledge must tie, whatever a batch made of the last digits

# Which of the others are like the first of them; all are places in a list.
Alike = Callable[[int, Sequence[int]], Sequence[bool]]


@dataclass(frozen=True, slots=True)
class Context:
    """What an estimate may need besides the state.

    `vectors` maps every answer to its embedding, of length 1; `entails` relates pairs of texts (see
    `rait.models.entailment`); `same` is the least cosine of answers that say the same.
    """

    vectors: Mapping[str, NDArray[np.float64]] | None = None
    entails: Entails | None = None
    same: float = SAME


@dataclass(frozen=True, slots=True)
class Estimator:
    """`measure` gives a state's certainty, or None where the state or the context lacks what it `needs`."""

    measure: Callable[[KnowledgeState, Context], float | None]
    needs: str

    def __call__(self, state: KnowledgeState, context: Context | None = None) -> float | None:
        """The certainty of `state`, higher is more certain."""
        return self.measure(state, context or Context())


def estimates(
    states: Sequence[KnowledgeState],
    names: Sequence[str],
    embed: Embed | None = None,
    entails: Entails | None = None,
    *,
    same: float = SAME,
    advance: Callable[[int], None] = lambda _: None,
) -> dict[str, list[float | None]]:
    """Map each of `names` to the estimates of all states, in their order, None where a state lacks what is needed.

    `embed` is asked once, for every distinct answer. `advance` is told of each state that is done. Raises `InputError`
    for an unknown name and `ModelError` for an embedding that is not finite.
    """
    if unknown := [name for name in names if name not in ESTIMATORS]:
        raise InputError(f"unknown estimate of certainty {unknown[0]!r}; known: {', '.join(ESTIMATORS)}")
    wanted = embed is not None and "embedding_entropy" in names
    context = Context(
        vectors=_vectors(states, embed) if embed is not None and wanted else None,
        entails=_remembering(entails) if entails is not None else None,
        same=same,
    )
    found: dict[str, list[float | None]] = {name: [] for name in names}
    for state in states:
        for name, values in found.items():
            value = ESTIMATORS[name](state, context)
            values.append(None if value is None or not isfinite(value) else round(value, _DECIMALS) + 0.0)  # no -0.0
        advance(1)
    return found


def with_certainty(states: Sequence[KnowledgeState], name: str, embed: Embed | None = None) -> list[KnowledgeState]:
    """Return the states with the estimate `name` as their certainty; "cosine" leaves them as they are.

    Raises `InputError` with the questions whose states lack what the estimate needs.
    """
    if name == "cosine":
        return list(states)
    found = estimates(states, [name], embed)[name]
    lacking = [state.id for state, value in zip(states, found, strict=True) if value is None]
    if lacking:
        raise InputError(
            f"{name} needs {ESTIMATORS[name].needs}, which {len(lacking)} of {len(states)} questions lack "
            f"({some(lacking)}); probe them again, or set construction.certainty=cosine"
        )
    return [replace(state, certainty=value) for state, value in zip(states, found, strict=True) if value is not None]


def names_for(states: Sequence[KnowledgeState]) -> tuple[str, ...]:
    """The estimates that fit the kind of `states`: of scored options, or of sampled answers.

    Raises `InputError` where there are both, whose certainties have no common scale.
    """
    scored = [bool(state.probabilities) for state in states]
    if any(scored) and not all(scored):
        other = states[scored.index(False)].id
        raise InputError(
            f"{sum(scored)} of {len(states)} questions have option probabilities, others have none ({other!r} is one); "
            "rank open-ended and multiple-choice questions in files of their own"
        )
    return tuple(name for name in ESTIMATORS if (name in _OF_OPTIONS) == any(scored))


def _stored(state: KnowledgeState, context: Context) -> float:
    return state.certainty


def _exact_entropy(state: KnowledgeState, context: Context) -> float | None:
    if not _sampled(state):
        return None
    clusters: dict[str, int] = {}
    for answer in state.responses:
        text = normalise(answer.text)
        clusters[text] = clusters.get(text, 0) + answer.count
    return _negative_entropy(list(clusters.values()))


def _embedding_entropy(state: KnowledgeState, context: Context) -> float | None:
    if not _sampled(state) or context.vectors is None:
        return None
    answers = _ordered(state)
    vectors = np.stack([context.vectors[answer.text] for answer in answers])

    def alike(first: int, others: Sequence[int]) -> Sequence[bool]:
        return [bool(cosine >= context.same) for cosine in vectors[list(others)] @ vectors[first]]

    return _negative_entropy([sum(answers[i].count for i in cluster) for cluster in _clusters(len(answers), alike)])


def _semantic_entropy(state: KnowledgeState, context: Context) -> float | None:
    rates = _log_rates(state)
    if rates is None or context.entails is None:
        return None
    top = max(rates.values())
    return _entropy_of_meanings(state, context.entails, lambda answer: answer.count * exp(rates[answer.text] - top))


def _discrete_semantic_entropy(state: KnowledgeState, context: Context) -> float | None:
    if not _sampled(state) or context.entails is None:
        return None
    return _entropy_of_meanings(state, context.entails, lambda answer: answer.count)


def _sequence_log_probability(state: KnowledgeState, context: Context) -> float | None:
    rates = _log_rates(state)
    if rates is None:
        return None
    total = sum(answer.count for answer in state.responses)
    return fsum(answer.count * rates[answer.text] for answer in state.responses) / total


def _kurtosis(state: KnowledgeState, context: Context) -> float | None:
    return state.kurtosis


def _option_entropy(state: KnowledgeState, context: Context) -> float | None:
    return negative_entropy(state.probabilities) if state.probabilities else None


def _max_log_probability(state: KnowledgeState, context: Context) -> float | None:
    best = max(state.probabilities, default=0.0)
    return log(best) if best > 0 else None


_SAMPLES = "two sampled answers or more"
_LIKELIHOODS = f"{_SAMPLES} with log-probabilities"
_ENTAILMENT = "an entailment model (--entailment)"

ESTIMATORS: Mapping[str, Estimator] = {
    "cosine": Estimator(_stored, "a stored certainty"),
    "exact_entropy": Estimator(_exact_entropy, _SAMPLES),
    "embedding_entropy": Estimator(_embedding_entropy, f"{_SAMPLES} and a sentence model"),
    "semantic_entropy": Estimator(_semantic_entropy, f"{_LIKELIHOODS} and {_ENTAILMENT}"),
    "discrete_semantic_entropy": Estimator(_discrete_semantic_entropy, f"{_SAMPLES} and {_ENTAILMENT}"),
    "sequence_log_probability": Estimator(_sequence_log_probability, _LIKELIHOODS),
    "kurtosis": Estimator(_kurtosis, "the kurtosis of a greedy answer"),
    "negative_entropy": Estimator(_option_entropy, "option probabilities"),
    "max_log_probability": Estimator(_max_log_probability, "option probabilities"),
}
_OF_OPTIONS = frozenset({"negative_entropy", "max_log_probability"})


def _sampled(state: KnowledgeState) -> bool:
    counts = [answer.count for answer in state.responses]
    return sum(counts) >= 2 and min(counts) >= 1


def _ordered(state: KnowledgeState) -> list[Answer]:
    return sorted(state.responses, key=lambda answer: (-answer.count, answer.text))


def _log_rates(state: KnowledgeState) -> dict[str, float] | None:
    """The log-probability per token of every answer, by its text; None where one of them has none."""
    if not _sampled(state):
        return None
    rates: dict[str, float] = {}
    for answer in state.responses:
        if answer.log_probability is None or not answer.tokens or answer.tokens < 0:
            return None
        rates[answer.text] = answer.log_probability / answer.tokens
    return rates


def _negative_entropy(weights: Sequence[float]) -> float:
    """-H of the shares of `weights`, whatever their order."""
    total = fsum(weights)
    return negative_entropy(tuple(weight / total for weight in weights))


def _clusters(count: int, alike: Alike) -> list[list[int]]:
    """Cluster 0 to count - 1: each joins the first cluster whose first member it is like, or opens a new one."""
    clusters = []
    left = list(range(count))
    while left:
        first, *others = left
        joins = alike(first, others) if others else ()
        clusters.append([first, *(i for i, yes in zip(others, joins, strict=True) if yes)])
        left = [i for i, yes in zip(others, joins, strict=True) if not yes]
    return clusters


def _entropy_of_meanings(state: KnowledgeState, entails: Entails, weight: Callable[[Answer], float]) -> float:
    answers = _ordered(state)
    texts = [f"{state.question} {answer.text}" for answer in answers]

    def alike(first: int, others: Sequence[int]) -> Sequence[bool]:
        there = [(texts[first], texts[i]) for i in others]
        back = [(texts[i], texts[first]) for i in others]
        relations = entails([*there, *back])
        return [_equivalent(*both) for both in zip(relations[: len(there)], relations[len(there) :], strict=True)]

    clusters = _clusters(len(answers), alike)
    return _negative_entropy([fsum(weight(answers[i]) for i in cluster) for cluster in clusters])


def _equivalent(there: Relation, back: Relation) -> bool:
    return "contradiction" not in (there, back) and (there, back) != ("neutral", "neutral")


def _vectors(states: Sequence[KnowledgeState], embed: Embed) -> dict[str, NDArray[np.float64]]:
    """The embedding of every distinct answer, scaled to length 1; a zero vector stays zero."""
    texts = sorted({answer.text for state in states for answer in state.responses})
    if not texts:
        return {}
    rows = np.asarray(embed(texts), dtype=np.float64)
    broken = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if broken.size:
        raise ModelError(f"the embedding of the answer {texts[broken[0]]!r} is not finite; use another embedding model")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return dict(zip(texts, rows / np.where(lengths > 0, lengths, 1.0), strict=True))


def _remembering(entails: Entails) -> Entails:
    """Ask for each pair once: both semantic entropies want the same ones."""
    known: dict[tuple[str, str], Relation] = {}

    def remembered(pairs: Sequence[tuple[str, str]]) -> list[Relation]:
        new = [pair for pair in dict.fromkeys(pairs) if pair not in known]
        if new:
            known.update(zip(new, entails(new), strict=True))
        return [known[pair] for pair in pairs]

    return remembered
