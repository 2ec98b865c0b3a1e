"""Run folders made up without a model: every file that a run leaves, with contents to choose."""

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rait.evaluation.bands import over_refusal, refusal_by_band
from rait.evaluation.dial import Choice, point_at
from rait.evaluation.dial import to_json as dial_json
from rait.evaluation.metrics import evaluate, to_json
from rait.manifest import checksum
from rait.records import Answer, Decision, KnowledgeFlow, KnowledgeState, Outcome, Question, Role, Verdict, own_fields
from rait.settings import Dial
from rait.tables import read_records, write_json, write_records

TESTS = ("id", "ood")
OUTCOMES = (Outcome.CORRECT, Outcome.WRONG, Outcome.REFUSED)


def word(generator: random.Random, length: int = 9) -> str:
    return "".join(generator.choices("abcdefghijklmnopqrstuvwxyz", k=length)).capitalize()


def made_run(
    folder: Path,
    *,
    train: int = 60,
    tests: int = 20,
    strategies: Sequence[str] = ("cor_rait", "craft"),
    texts: Sequence[str] = (),
    choice: bool = False,
    seed: int = 0,
) -> Path:
    """Write a whole run of made-up questions; the first ones of every set, and their answers, are `texts`."""
    generator = random.Random(seed)
    asked = {
        name: questions(name, size, texts, choice) for name, size in (("train", train), *((t, tests) for t in TESTS))
    }
    for name, own in asked.items():
        write_records(folder / f"questions/{name}.parquet", own)
    states = {name: [state(generator, q, texts) for q in own] for name, own in asked.items()}
    write_records(folder / "knowledge/initial.parquet", states["train"])
    for name in TESTS:
        write_records(folder / f"knowledge/tests/{name}.parquet", states[name])
    flows = [flow(generator, each) for each in states["train"]]
    write_records(folder / "knowledge/flow.parquet", flows)
    write_json(folder / "rehearsal/losses.json", {"losses": [2.0, 1.0, 0.5], "steps": 3})
    basic: dict[str, list[Verdict]] = {}
    for method in ("init_basic", "init_refuse", *strategies):
        place = folder / method
        judged = {name: [verdict(generator, q, method, texts) for q in asked[name]] for name in TESTS}
        basic = basic or judged
        for name, own in judged.items():
            write_records(place / f"{name}.verdicts.parquet", own)
        write_json(place / "metrics.json", {n: to_json(evaluate(v, basic[n], resamples=50)) for n, v in judged.items()})
        if method in strategies:
            made_strategy(generator, place, asked["train"], flows, texts)
            refusals = {n: made_refusals(states[n], judged[n]) for n in TESTS}
            write_json(place / "over_refusal.json", refusals)
    recipe = {"seed": seed, "model": {"source": "made-up"}, "tests": {name: {} for name in TESTS}}
    recipe |= {"strategies": list(strategies), "probe": {"samples": 10}, "construction": {"threshold": 0.5}}
    recipe |= {"evaluation": {"resamples": 50}}
    (folder / "recipe.yaml").write_text(json.dumps(recipe), "utf-8")
    return listed(folder)


def listed(folder: Path, status: str = "complete") -> Path:
    """Write the manifest of what is in the folder."""
    steps: dict[str, Any] = {
        name: {"files": {}, "seconds": 1.5} for name in ("questions", "knowledge/initial", "rehearsal")
    }
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in ("manifest.json", "recipe.yaml", "report.html"):
            name = path.relative_to(folder).as_posix()
            steps[name.partition(".")[0]] = {"files": {name: checksum(path)}, "seconds": 1.5, "notes": [f"made {name}"]}
    versions = {"python": "3", "rait": "0"}
    write_json(
        folder / "manifest.json", {"format": 1, "status": status, "seed": 0, "versions": versions, "steps": steps}
    )
    return folder


def questions(name: str, size: int, texts: Sequence[str], choice: bool) -> list[Question]:
    generator = random.Random(name)
    made = []
    for place in range(size):
        text = (
            texts[place] if place < len(texts) else f"What do {word(generator)} and {word(generator)} have in common?"
        )
        answers = (texts[place] if place < len(texts) else word(generator),)
        options = (answers[0], "second", "third") if choice else ()
        kind = "first" if place % 2 else "second"
        target = 0 if choice else None
        made.append(
            Question(
                id=f"{name}/{place}", question=text, answers=answers, category=kind, options=options, target=target
            )
        )
    return made


def state(generator: random.Random, question: Question, texts: Sequence[str]) -> KnowledgeState:
    right = generator.randint(0, 10)
    if question.options:
        share = right / 10
        rest = (share, (1 - share) / 2, (1 - share) / 2)
        return KnowledgeState(
            **own_fields(question), correctness=share, certainty=-generator.random(), probabilities=rest
        )
    texts_of = [generator.choice(texts) if texts else word(generator) for _ in range(10)]
    responses = tuple(Answer(text=f"{text} {n}", count=1, correct=n < right) for n, text in enumerate(texts_of))
    certainty = round(generator.random(), 6)
    return KnowledgeState(**own_fields(question), correctness=right / 10, certainty=certainty, responses=responses)


def flow(generator: random.Random, before: KnowledgeState) -> KnowledgeFlow:
    return KnowledgeFlow(
        id=before.id,
        correctness_before=before.correctness,
        correctness_after=generator.randint(0, 10) / 10,
        certainty_before=before.certainty,
        certainty_after=before.certainty,
    )


def verdict(generator: random.Random, question: Question, method: str, texts: Sequence[str]) -> Verdict:
    outcome = generator.choice(OUTCOMES[:2] if method == "init_basic" else OUTCOMES)
    response = generator.choice(texts) if texts else word(generator)
    return Verdict(**own_fields(question), response=response, outcome=outcome, rule="made")


def made_strategy(
    generator: random.Random,
    place: Path,
    asked: Sequence[Question],
    flows: Sequence[KnowledgeFlow],
    texts: Sequence[str],
) -> None:
    decisions = []
    for rank, (question, change) in enumerate(zip(asked, flows, strict=True)):
        role = generator.choice(tuple(Role))
        facts = f"correctness {change.correctness_before:.3g}, correctness flow {change.correctness_flow:+.3g}"
        reason = f"made for {role}: place {rank + 1} of {len(asked)}, {facts}"
        decisions.append(Decision(id=question.id, role=role, reason=texts[0] if texts and not rank else reason))
    write_records(place / "decisions.parquet", decisions)
    write_json(place / "losses.json", {"losses": [generator.random() for _ in range(30)]})
    taken = [decision for decision in decisions if decision.role is not Role.DROPPED][:500]
    idk, vanilla = ([d.id for d in taken if d.role is role] for role in (Role.IDK, Role.VANILLA))
    pairs = [{"idk": a, "vanilla": b, "similarity": 0.9} for a, b in zip(idk, vanilla, strict=False)][:50]
    points = [{"threshold": t, "share": 1 - t, "n": len(idk)} for t in (0.8, 0.9, 0.97)]
    places = {axis: [generator.random() for _ in taken] for axis in "xy"}
    write_json(
        place / "conflicts.json", {"crss": points, "pairs": pairs, "map": {"id": [d.id for d in taken], **places}}
    )


def made_refusals(states: Sequence[KnowledgeState], judged: Sequence[Verdict]) -> dict[str, Any]:
    split = over_refusal(states, judged, 0.5)
    return {
        "threshold": 0.5,
        "known": asdict(split.known),
        "unknown": asdict(split.unknown),
        "bands": [asdict(cell) for cell in refusal_by_band(states, judged)],
        "why": {states[0].id: [{"id": "train/0", "cosine": 0.5}]},
    }


def made_calibration(folder: Path, methods: Sequence[str], size: int = 30, threshold: float = 0.4) -> Path:
    """Give a run calibration questions, p(refuse) in all verdicts of `methods`, and a dial that fits them."""
    generator = random.Random(1)
    asked = questions("calibration", size, (), False)
    write_records(folder / "questions/calibration.parquet", asked)
    for method in ("init_basic", *methods):
        judged = [verdict(generator, question, method, ()) for question in asked]
        write_records(folder / method / "calibration.verdicts.parquet", judged)
    for method in methods:
        for name in ("calibration", *TESTS):
            path = folder / method / f"{name}.verdicts.parquet"
            write_records(path, [measured(generator, each) for each in read_records(path, Verdict)])
        judged_of = {
            name: tuple(
                read_records(folder / of / f"{name}.verdicts.parquet", Verdict) for of in (method, "init_basic")
            )
            for name in ("calibration", *TESTS)
        }
        point = point_at(*judged_of.pop("calibration"), threshold)
        choice = Choice(threshold, size, point, None)
        write_json(folder / method / "dial.json", dial_json(choice, Dial(), judged_of, resamples=50))
    return listed(folder)


def measured(generator: random.Random, made: Verdict) -> Verdict:
    """The verdict with p(refuse), and with an answer where it refuses; a few refuse even so."""
    chance = generator.random()
    if made.outcome is not Outcome.REFUSED:
        right = made.outcome is Outcome.CORRECT
        return replace(made, refusal_probability=chance, answer=made.response, answer_correct=right)
    right = generator.choice((True, False, None))
    return replace(made, refusal_probability=chance, answer=word(generator), answer_correct=right)


def made_dial(place: Path, tests: Sequence[str] = TESTS) -> dict[str, Any]:
    """Write a dial with a guarantee; what it holds."""
    shares = {"P_c": 0.5, "P_w": 0.1, "P_r": 0.4, "THS": 0.3, "THS_low": 0.2, "THS_high": 0.4}
    rest = {"P_c": 0.0, "P_w": 0.0, "P_r": 1.0, "THS": None}
    curve = [{"threshold": t / 4, "coverage": t / 4, "risk": t / 8 if t else None, **rest} for t in range(5)]
    risk = "share wrong of all questions"
    found = {
        "target": {"rule": "max_error", "value": 0.1, "among": "all"},
        "threshold": 0.25,
        "calibration": {"questions": 40},
        "guarantee": {
            "bound": 0.1,
            "method": "conformal risk control",
            "risk": risk,
            "confidence": None,
            "holds": True,
        },
        "tests": {
            t: {"greedy": shares, "chosen": {**shares, "THS": 0.35}, "aurc": 0.123, "curve": curve} for t in tests
        },
    }
    write_json(place / "dial.json", found)
    return found
