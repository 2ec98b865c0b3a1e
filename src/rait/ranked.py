"""Which estimate of certainty tells best what a model knows: every one that a file of states allows, ranked.

found = rank_file(Path("states.parquet"), Recipe(), entailment=None, say=print)
print_ranking(found)
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rait.errors import InputError
from rait.knowledge.estimators import ESTIMATORS, estimates, names_for
from rait.knowledge.ranking import aurc, rank, right_of
from rait.manifest import intact
from rait.models.embedding import load_embedder
from rait.models.entailment import load_entailment
from rait.progress import Say, progress
from rait.recipe import Recipe
from rait.records import KnowledgeState
from rait.tables import read_records

if TYPE_CHECKING:
    from rich.table import Table

_RIGHT = {
    "greedy": "the greedy answer is right",
    "option": "the likeliest option is right",
    "correctness": "correctness is at least 0.5",
}


def rank_file(path: Path, recipe: Recipe, entailment: str | None, say: Say) -> dict[str, Any]:
    """Rank the estimates that the states of a file allow by AUROC, best first; those without one come last.

    Needs of the recipe the sentence model, the seed and the number of resamples. The sentence model and the model named
    `entailment` are loaded where there are sampled answers. The result is plain data, None for what is undefined.
    """
    states = read_records(intact(path), KnowledgeState)
    if not states:
        raise InputError(f"{path} holds no states; give the file that rait probe wrote")
    names = names_for(states)
    sampled = any(state.responses for state in states)
    if entailment and not sampled:
        raise InputError(f"{path} holds no sampled answers for an entailment model to compare; leave --entailment out")
    embed = load_embedder(recipe.probe.embedder) if sampled else None
    entails = load_entailment(entailment) if entailment else None
    if sampled:
        say(f"comparing the answers to {len(states)} questions")
    with progress("certainty", len(states), "question") as advance:
        found = estimates(states, names, embed, entails, advance=advance)
    right, rules = zip(*map(right_of, states), strict=True)
    ranked = [_row(name, found[name], right, recipe) for name in names]
    wrong = [float(not yes) for yes in right]
    return {
        "states": str(path),
        "questions": len(states),
        "right": sum(right),
        "right_by": dict(sorted(Counter(rules).items())),
        "estimates": sorted(ranked, key=lambda row: (-_or_below(row["auroc"]["value"]), row["name"])),
        "perfect": aurc([-risk for risk in wrong], wrong),
        "random": sum(wrong) / len(wrong),
        "seed": recipe.seed,
        "resamples": recipe.evaluation.resamples,
    }


def print_ranking(found: Mapping[str, Any]) -> None:
    """The table, in points, and what to know of it: what was ranked against, and what was left out and why."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    console.print(_table(found))
    console.print("\n".join(_notes(found)), style="dim")


def _row(name: str, values: Sequence[float | None], right: Sequence[bool], recipe: Recipe) -> dict[str, Any]:
    there = [(value, yes) for value, yes in zip(values, right, strict=True) if value is not None]
    scores, truths = [value for value, _ in there], [yes for _, yes in there]
    ranking = rank(scores, truths, seed=recipe.seed, resamples=recipe.evaluation.resamples)
    return {
        "name": name,
        **asdict(ranking),
        "left_out": len(values) - len(there),
        "needs": ESTIMATORS[name].needs,
    }


def _or_below(value: float | None) -> float:
    return -1.0 if value is None else value


def _table(found: Mapping[str, Any]) -> "Table":
    from rich.table import Table

    table = Table(
        title=f"{found['questions']} questions, {found['right']} right; in points, 95 % intervals",
        title_justify="left",
        title_style="bold",
    )
    table.add_column("certainty", overflow="fold")
    for column in ("n", "AUROC", "AURC"):
        table.add_column(column, justify="right", no_wrap=True)
    rows = found["estimates"]
    for place, row in enumerate(rows, 1):
        cells = (str(row["n"]), _cell(row["auroc"]), _cell(row["aurc"]))
        table.add_row(row["name"], *cells, end_section=place == len(rows))
    for name in ("perfect", "random"):
        table.add_row(f"{name} order", str(found["questions"]), "", _points(found[name]), style="dim")
    return table


def _notes(found: Mapping[str, Any]) -> list[str]:
    notes = ["Higher is more certain. AUROC: 50 is chance, 100 tells right from wrong.", "AURC: lower is better."]
    by = found["right_by"]
    notes += [f"Right: {_RIGHT[rule]} ({count} questions)." for rule, count in by.items()]
    if "correctness" in by:
        notes.append("Correctness comes from the samples that are compared, which flatters their agreement.")
    notes += [
        f"{row['name']}: {row['left_out']} of {found['questions']} questions left out; needs {row['needs']}."
        for row in found["estimates"]
        if row["left_out"]
    ]
    return notes


def _cell(interval: Mapping[str, float | None]) -> str:
    if interval["value"] is None:
        return "n/a"
    if interval["low"] is None:
        return f"{_points(interval['value'])} [n/a]"
    return f"{_points(interval['value'])} [{_points(interval['low'])}, {_points(interval['high'])}]"


def _points(share: float | None) -> str:
    return "n/a" if share is None else f"{100 * share:.1f}"
