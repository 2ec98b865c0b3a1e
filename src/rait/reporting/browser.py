"""The questions of runs as the page holds them: once, in columns, packed.

    packed = pack(runs)
    unpack(packed.text)["runs"][0]["sets"][0]["question"][0]

The page's question browser, and its charts of single questions, are made of this alone. It is JSON, compressed (gzip)
and in base64, so that it stays small and no text of it can be taken for markup. What goes beyond `BUDGET` is cut: first
long texts, then questions; `Packed.note` says so.
"""

import gzip
import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rait.records import KnowledgeState, Question, Verdict
from rait.reporting.reading import TRAIN, Method, QuestionSet, Run
from rait.seeding import ticket

BUDGET = 4_500_000
"""Bytes, in base64."""

_DIGITS = 4
# Longest text, and most questions of a set, from the whole to the least.
_CUTS = ((None, None), (2000, None), (300, None), (100, None), (100, 5000), (100, 2000), (60, 500), (60, 100))


@dataclass(frozen=True, slots=True)
class Packed:
    """The packed data, and what was left out of it, as a sentence, or ""."""

    text: str
    note: str


def pack(runs: Sequence[Run], budget: int = BUDGET) -> Packed:
    """Pack the questions of `runs` with all that is known of each into at most `budget` bytes, if that can be."""
    for longest, most in _CUTS:
        data = {"runs": [_run(run, longest, most) for run in runs]}
        raw = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode(errors="replace")
        text = b64encode(gzip.compress(raw, mtime=0)).decode()
        if len(text) <= budget:
            break
    cut = [f"texts are cut after {longest} characters"] if longest else []
    cut += [f"{most} questions of each set are drawn"] if most else []
    return Packed(text, f"To keep this file small, {' and '.join(cut)}." if cut else "")


def unpack(text: str) -> Any:
    """Return what `pack` has packed."""
    return json.loads(gzip.decompress(b64decode(text)))


def _run(run: Run, longest: int | None, most: int | None) -> dict[str, Any]:
    strategies = run.strategies
    return {
        "name": run.name,
        "methods": list(run.methods),
        "strategies": [method.name for method in strategies],
        "thresholds": {method.name: method.dial.threshold for method in strategies if method.dial},
        "sets": [
            _set(run, each, longest, most) for each in (*run.sets, *([run.calibration] if run.calibration else []))
        ],
        "maps": {
            method.name: {
                "ids": list(method.conflicts.places),
                "x": [_number(x) for x, _ in method.conflicts.places.values()],
                "y": [_number(y) for _, y in method.conflicts.places.values()],
                "pairs": [[pair.idk, pair.vanilla, _number(pair.similarity)] for pair in method.conflicts.pairs],
            }
            for method in strategies
            if method.conflicts
        },
    }


def _set(run: Run, which: QuestionSet, longest: int | None, most: int | None) -> dict[str, Any]:
    questions = _some(which.questions, most)
    ids = [question.id for question in questions]
    states = [which.states.get(id) for id in ids]

    def text(value: str) -> str:
        if longest is None or len(value) <= longest:
            return value
        return f"{value[:longest]}… ({len(value)} characters)"

    found: dict[str, Any] = {
        "name": which.name,
        "size": which.size,
        "id": ids,
        "question": [text(question.question) for question in questions],
        "answers": [[text(answer) for answer in question.answers] for question in questions],
        "category": [question.category for question in questions],
        "mu": [state and _number(state.correctness) for state in states],
        "sigma": [state and _number(state.certainty) for state in states],
        "samples": [_samples(state, text) for state in states],
    }
    if any(question.options for question in questions):
        found["options"] = [[text(option) for option in question.options] for question in questions]
        found["target"] = [question.target for question in questions]
        found["probabilities"] = [[_number(p) for p in state.probabilities] if state else [] for state in states]
    if which.name == TRAIN:
        flows = [run.flows.get(id) for id in ids]
        found["d_mu"] = [flow and _number(flow.correctness_flow) for flow in flows]
        found["d_sigma"] = [flow and _number(flow.certainty_flow) for flow in flows]
        found["decisions"] = {method.name: _decisions(method, ids) for method in run.strategies if method.decisions}
    else:
        found["verdicts"] = {
            name: _verdicts(ids, method.verdicts[which.name], method.dial_verdicts.get(which.name), text)
            for name, method in run.methods.items()
            if which.name in method.verdicts
        }
        found["near"] = {
            method.name: {
                id: [[each.id, _number(each.cosine)] for each in near]
                for id, near in method.refusals[which.name].near.items()
            }
            for method in run.strategies
            if which.name in method.refusals
        }
    return found


def _some(questions: Sequence[Question], most: int | None) -> Sequence[Question]:
    """At most `most` of the questions, drawn by their ids, in their order."""
    if most is None or len(questions) <= most:
        return questions
    drawn = {question.id for question in sorted(questions, key=lambda each: ticket(0, "report", each.id))[:most]}
    return [question for question in questions if question.id in drawn]


def _samples(state: KnowledgeState | None, text: Any) -> list[list[Any]]:
    """Each sampled answer with its count and whether it is right, 1 or 0."""
    return [[text(each.text), each.count, int(each.correct)] for each in state.responses] if state else []


def _decisions(method: Method, ids: Iterable[str]) -> dict[str, list[Any]]:
    found = [method.decisions.get(id) for id in ids]
    return {"role": [each and each.role for each in found], "reason": [each and each.reason for each in found]}


def _verdicts(
    ids: Sequence[str], greedy: Mapping[str, Verdict], at_dial: Mapping[str, Verdict] | None, text: Any
) -> dict[str, list[Any]]:
    """Greedy verdicts; where they are known p(refuse), the answer without refusing, and the outcome at the dial."""
    found = [greedy.get(id) for id in ids]
    columns: dict[str, list[Any]] = {
        "outcome": [each and each.outcome for each in found],
        "response": [each and text(each.response) for each in found],
    }
    chances = [each and each.refusal_probability for each in found]
    if any(chance is not None for chance in chances):
        columns["p_refuse"] = [chance and float(f"{chance:.{_DIGITS}g}") for chance in chances]
        answers = [None if each is None or each.answer == each.response else each.answer for each in found]
        columns["answer"] = [None if answer is None else text(answer) for answer in answers]
    if at_dial is not None:
        columns["dial"] = [each and each.outcome for each in map(at_dial.get, ids)]
    return columns


def _number(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS) + 0.0
