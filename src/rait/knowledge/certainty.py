"""Certainty (sigma): how much the N sampled answers to a question agree with each other (CRaFT, section 3.1).

    rows = distinct_texts(responses)            # responses: question id -> its distinct answers with counts
    matrix = ...                                # one sentence embedding a row, in this order
    sigma = certainties(responses, rows, matrix)

Sigma is the mean cosine similarity over the N(N-1) ordered pairs j != k of the N answers. Most samples repeat, so it is
computed from the distinct texts and their counts c, with unit vectors u and S = sum of c u:

    sum over pairs = |S|^2 - N        (each answer's pair with itself, of cosine 1, taken off)

and each distinct text is embedded once over all questions. Pure arithmetic: embedding is done elsewhere.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rait.errors import InputError, ModelError
from rait.records import Answer

Floats = npt.NDArray[np.float64]


def distinct_texts(responses: Mapping[str, Sequence[Answer]]) -> dict[str, int]:
    """Map each distinct answer text to its row in the matrix of embeddings, in alphabetical order."""
    texts = sorted({answer.text for answers in responses.values() for answer in answers})
    return {text: row for row, text in enumerate(texts)}


def certainties(
    responses: Mapping[str, Sequence[Answer]], rows: Mapping[str, int], embeddings: npt.NDArray[Any]
) -> dict[str, float]:
    """Compute the certainty of every question, by question id, in [-1, 1].

    `responses` holds the distinct answers of each question, `rows` the row of each text in `embeddings`, of shape
    (texts, dimensions). Raises `InputError` for a question with fewer than two sampled answers, `ModelError` for an
    embedding that is not finite.
    """
    few = [id for id, answers in responses.items() if sum(answer.count for answer in answers) < 2]
    if few:
        raise InputError(
            f"certainty compares answers in pairs, and {len(few)} questions have fewer than two ({few[0]!r} is one); "
            "sample at least 2 answers a question"
        )
    finite = np.isfinite(embeddings).all(axis=1)
    broken = [text for text, row in rows.items() if not finite[row]]
    if broken:
        raise ModelError(f"the embedding of the answer {broken[0]!r} is not finite; use another embedding model")
    units = _unit_rows(embeddings)
    return {
        id: _mean_cosine(
            units[[rows[answer.text] for answer in answers]],
            np.array([answer.count for answer in answers], dtype=np.float64),
        )
        for id, answers in responses.items()
    }


def mean_pairwise_cosine(embeddings: npt.NDArray[Any], counts: Sequence[int] | npt.NDArray[Any]) -> float:
    """Mean cosine over the N(N-1) ordered pairs j != k of N answers, in [-1, 1]; exactly 1.0 for N identical ones.

    `embeddings` has shape (k, d), a row for each distinct answer, not necessarily of unit length; `counts` has shape
    (k,) and says how many of the N answers each is. A zero vector has cosine 0 with every other text. Raises
    `ValueError` for N < 2, where no pair exists, and for rows and counts that do not belong together.
    """
    weights = np.asarray(counts, dtype=np.float64)
    if weights.shape != (len(embeddings),) or (weights < 1).any() or not np.isfinite(embeddings).all():
        raise ValueError(f"expected a finite row and a count >= 1 for each answer, found counts {counts!r}")
    if weights.sum() < 2:
        raise ValueError("certainty is not defined for fewer than two answers")
    return _mean_cosine(_unit_rows(embeddings), weights)


def _unit_rows(embeddings: npt.NDArray[Any]) -> Floats:
    """Scale every row to length 1; a zero row stays zero."""
    rows = np.asarray(embeddings, dtype=np.float64)
    lengths: Floats = np.linalg.norm(rows, axis=1, keepdims=True)
    lengths[lengths == 0] = 1.0
    return rows / lengths


def _mean_cosine(units: Floats, counts: Floats) -> float:
    if len(counts) == 1:
        return 1.0
    total = counts.sum()
    weighted = counts @ units
    # c u . c u of each text is taken off and its c (c - 1) pairs of identical answers are put back as exactly 1. For
    # unit vectors this is |S|^2 - N; it differs for a zero vector, which is still identical to itself.
    own = counts**2 * (units**2).sum(axis=1)
    pairs = weighted @ weighted - own.sum() + (counts * (counts - 1)).sum()
    return float(np.clip(pairs / (total * (total - 1)), -1.0, 1.0))
