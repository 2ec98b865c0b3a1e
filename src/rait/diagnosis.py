"""Steps of a run that look at a strategy: its conflicts before anything is tuned, its over-refusal afterwards.

    found = features(work, chosen)                   # where the questions lie in the initial model's own space
    conflicts(work, "craft", place, found, flows)    # CRSS, conflicting pairs, a map, what rehearsal does to its choice
    over_refusal(work, place, verdicts, found)       # refusals by what was known, and the idk examples nearest to them

Source: CRaFT, arXiv 2410.06913v2, section 3 (static and dynamic conflict).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rait.construction.conflicts import (
    SIMILAR,
    conflict_map,
    conflicting_pairs,
    crss,
    dynamic,
    dynamic_by_role,
    project,
)
from rait.evaluation.bands import over_refusal as by_knowledge
from rait.evaluation.bands import refusal_by_band, why_refused
from rait.inert import inert
from rait.knowledge.flow import by_band
from rait.models.features import Features, last_states
from rait.progress import progress
from rait.records import Decision, Failure, KnowledgeFlow, KnowledgeState, Outcome, Question, Role, Verdict
from rait.stages import bare_states, failures_of
from rait.steps import Work
from rait.tables import atomic, check_parquet, iter_records, marked, read_records, write_data

_PAIRS = 50  # most conflicting pairs that are listed
_NEIGHBOURS = 3  # idk examples that are named for a refusal
_BANDS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # of mu


def features(work: Work, decisions: Sequence[Path]) -> Path:
    """The initial model's features of every question that a strategy takes, and of the test questions."""
    out = work.folder / "knowledge/features.parquet"
    taken = sorted({d.id for path in decisions for d in iter_records(path, Decision) if d.role is not Role.DROPPED})
    key = {
        "model": work.models.key(None),
        "train": work.book.digest(work.pool),
        "taken": taken,
        "tests": {name: work.book.digest(path) for name, path in work.tests.items()},
    }
    with work.book.step("knowledge/features", key, [out]) as todo:
        if todo:
            sets = {"train": list(iter_records(work.pool, Question, only=taken))}
            sets |= {name: read_records(path, Question) for name, path in work.tests.items()}
            asked = [(name, question) for name, questions in sets.items() for question in questions]
            with progress("features", len(asked), "question") as advance:
                ids, texts = ([q.id for _, q in asked], [q.question for _, q in asked])
                found = last_states(work.models.load(None), texts, advance, ids=ids, say=work.book.note)
            columns = {
                "set": [name for name, _ in asked],
                "id": [question.id for _, question in asked],
                "features": pa.FixedSizeListArray.from_arrays(pa.array(found.ravel()), found.shape[1]),
            }
            with atomic(out) as file:
                table = pa.table(columns)
                pq.write_table(table.cast(marked(table.schema)), file, compression="zstd", write_page_checksum=True)
    return out


def conflicts(work: Work, name: str, found: Path, flows: Path | None) -> Path:
    """Static and dynamic conflict in what the strategy `name` takes; its figures, and beside them pairs and a map."""
    place, digest = work.folder / name, work.book.digest
    outputs = [place / f"conflicts.{form}" for form in ("json", "txt", "png")]
    key = {
        "decisions": digest(place / "decisions.parquet"),
        "features": digest(found),
        "flow": digest(flows) if flows else None,
        "threshold": work.recipe.construction.threshold,
        "seed": work.recipe.seed,
        "places": "kept",  # conflicts.json of earlier versions lacks the map's places
    }
    with work.book.step(f"{name}/conflicts", key, outputs) as todo:
        if todo:
            decisions = read_records(place / "decisions.parquet", Decision)
            taken = {decision.id for decision in decisions if decision.role is not Role.DROPPED}
            text_of = {q.id: q.question for q in iter_records(work.pool, Question, only=taken)}
            changes = read_records(flows, KnowledgeFlow) if flows else None
            ids, points = read_features(found, "train", taken)
            threshold, seed = work.recipe.construction.threshold, work.recipe.seed
            work.book.say(write_conflicts(place, name, decisions, text_of, ids, points, changes, threshold, seed))
    return outputs[0]


def write_conflicts(
    folder: Path,
    name: str,
    decisions: Sequence[Decision],
    text_of: Mapping[str, str],
    ids: Sequence[str],
    points: Features,
    flows: Sequence[KnowledgeFlow] | None,
    threshold: float,
    seed: int,
) -> str:
    """Write conflicts.json, conflicts.txt and conflicts.png of a choice to `folder`; the essence in a sentence.

    `points` (questions, hidden) are the features of the questions taken, of which `ids`, sorted, are the ids and
    `text_of` has the texts. Without `flows` nothing is said about dynamic conflict.
    """
    role_of = {decision.id: decision.role for decision in decisions}
    roles = [role_of[id] for id in ids]
    (kept, vanilla), (refused, idk) = (
        ([id for id, own in zip(ids, roles, strict=True) if own is role], points[[own is role for own in roles]])
        for role in (Role.VANILLA, Role.IDK)
    )
    pairs = conflicting_pairs(kept, vanilla, refused, idk, _PAIRS)
    places = project(points, seed)
    figures: dict[str, Any] = {
        "crss": [asdict(point) for point in crss(vanilla, idk)],
        "pairs": [asdict(pair) for pair in pairs],
        "map": {"id": list(ids), "x": places[:, 0].round(3).tolist(), "y": places[:, 1].round(3).tolist()},
    }
    (at,) = crss(vanilla, idk, [SIMILAR])
    rate = "n/a" if at.share is None else f"{at.share:.1%}"
    sentence = f"{name}: CRSS({SIMILAR}) {rate}"
    if flows is not None:
        by_role = dynamic_by_role(decisions, flows)
        figures["unknown"] = asdict(dynamic(flows, threshold))
        figures["dynamic"] = {role.value: asdict(moved) for role, moved in by_role.items()}
        figures["flow_by_correctness"] = [asdict(band) for band in by_band(flows, _BANDS)]
        moved = by_role[Role.IDK]
        sentence += (
            f"; of its idk questions {moved.rising} rise in rehearsal, {moved.staying} stay, {moved.falling} fall"
        )
    write_data(folder / "conflicts.json", figures)
    with atomic(folder / "conflicts.txt") as file:
        lines = [f"{p.similarity:.4f}  idk: {text_of[p.idk]}  |  vanilla: {text_of[p.vanilla]}" for p in pairs]
        file.write("".join(f"{inert(line)}\n" for line in lines).encode(errors="replace"))
    with atomic(folder / "conflicts.png") as file:
        conflict_map(file, name, places, roles, at)
    return sentence


def over_refusal(work: Work, place: Path, verdicts: Mapping[str, Path], found: Path) -> Path:
    """Refusals of each test set by what the initial model knew, and what the refused known questions are next to."""
    outputs, name = (
        [place / f"over_refusal.{form}" for form in ("json", "txt")],
        place.relative_to(work.folder).as_posix(),
    )
    states_of = {test: work.folder / f"knowledge/tests/{test}.parquet" for test in verdicts}
    digest = work.book.digest
    key = {
        "verdicts": {test: digest(path) for test, path in verdicts.items()},
        "states": {test: digest(path) for test, path in states_of.items()},
        "decisions": digest(place / "decisions.parquet"),
        "features": digest(found),
        "threshold": work.recipe.construction.threshold,
    }
    with work.book.step(f"{name}/over_refusal", key, outputs) as todo:
        if todo:
            decisions = iter_records(place / "decisions.parquet", Decision)
            idk_ids, idk = read_features(found, "train", {d.id for d in decisions if d.role is Role.IDK})
            taught = {q.id: q.question for q in iter_records(work.pool, Question, only=idk_ids)}
            figures: dict[str, Any] = {}
            lines: list[str] = []
            for test, path in verdicts.items():
                states, judged = _asked(states_of[test], path)
                figures[test] = _over_refusal(work, states, judged)
                known = {s.id for s in states if s.correctness >= work.recipe.construction.threshold}
                refused = known & {verdict.id for verdict in judged if verdict.outcome is Outcome.REFUSED}
                near = why_refused(*read_features(found, test, refused), idk_ids, idk, _NEIGHBOURS)
                figures[test]["why"] = {id: [asdict(each) for each in neighbours] for id, neighbours in near.items()}
                lines.append(f"{test}: {len(refused)} of {len(known)} known questions are refused")
                for state in (state for state in states if state.id in refused):
                    lines.append(f"{state.question}  (correctness {state.correctness:g})")
                    lines += [f"    {each.cosine:.3f}  {taught[each.id]}" for each in near[state.id]]
            write_data(outputs[0], figures)
            with atomic(outputs[1]) as file:
                file.write("".join(f"{inert(line)}\n" for line in lines).encode(errors="replace"))
    return outputs[0]


def _asked(states: Path, verdicts: Path) -> tuple[list[KnowledgeState], list[Verdict]]:
    """What is known and what was said of the questions that failed neither in the probe nor in the evaluation."""
    path = failures_of(states)
    unasked = {failure.id for failure in iter_records(path, Failure)} if path.is_file() else set()
    judged = [v for v in iter_records(verdicts, Verdict) if v.outcome is not Outcome.FAILED and v.id not in unasked]
    failed = {v.id for v in iter_records(verdicts, Verdict) if v.outcome is Outcome.FAILED}
    return [state for state in bare_states(states) if state.id not in failed], judged


def _over_refusal(work: Work, states: Sequence[KnowledgeState], judged: Sequence[Verdict]) -> dict[str, Any]:
    shares = by_knowledge(states, judged, work.recipe.construction.threshold)
    return {
        "threshold": shares.threshold,
        "known": asdict(shares.known),
        "unknown": asdict(shares.unknown),
        "over_refusal": shares.over_refusal,
        "missed_refusal": shares.missed_refusal,
        "bands": [asdict(cell) for cell in refusal_by_band(states, judged)],
    }


def read_features(path: Path, which: str, ids: Collection[str]) -> tuple[list[str], Features]:
    """Ids, sorted, and features (ids, hidden) of those of the set `which` that are among `ids`."""
    table = pq.read_table(path, page_checksum_verification=True)
    check_parquet(table.schema, path)
    rows = [
        (id, row)
        for row, (of, id) in enumerate(zip(table["set"].to_pylist(), table["id"].to_pylist(), strict=True))
        if of == which and id in ids
    ]
    rows.sort()
    column = table["features"].combine_chunks()
    matrix: Features = column.flatten().to_numpy().reshape(len(table), column.type.list_size)
    return [id for id, _ in rows], matrix[np.array([row for _, row in rows], dtype=np.int64)]
