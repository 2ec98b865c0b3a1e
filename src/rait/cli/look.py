"""Commands that look at files: questions, states, verdicts."""

from pathlib import Path
from typing import Annotated

import typer

from rait.cli.common import (
    Json,
    Overrides,
    SplitOption,
    app,
    done,
    present,
    present_or_named,
    print_json,
    settings_of,
)
from rait.records import MAX_FAILED


@app.command()
def questions(
    source: Annotated[
        str, typer.Argument(metavar="PATH", help="atlas, a file, a folder, or a hub id", callback=present_or_named)
    ],
    overrides: Overrides = None,
    form: Annotated[
        str | None,
        typer.Option("--form", help="rows, mmlu, arc, triviaqa or opentriviaqa; seen from the data if not given"),
    ] = None,
    split: SplitOption = None,
    json: Json = False,
) -> None:
    """Show what is understood of a question set: its form, counts, examples, and what is left out and why."""
    from rait.questions.overview import format_overview, overview

    recipe = settings_of(overrides, questions=source, split=split, form=form)
    found = overview(recipe.questions, recipe.prompt.refusal)
    done(json, found, format_overview(found))


@app.command()
def certainty(
    states: Annotated[Path, typer.Argument(help="states, from rait probe", callback=present)],
    overrides: Overrides = None,
    entailment: Annotated[
        str | None,
        typer.Option(
            "--entailment",
            help="hub id or folder of an entailment model, for semantic entropy",
            callback=present_or_named,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Rank estimates of certainty by how well they tell right answers from wrong ones: AUROC and AURC."""
    from rait.progress import say
    from rait.ranked import print_ranking, rank_file

    found = rank_file(states, settings_of(overrides), entailment, say)
    if json:
        print_json(found)
    else:
        print_ranking(found)


@app.command()
def score(
    verdicts: Annotated[
        Path, typer.Argument(help="verdicts, or plain responses with accepted answers", callback=present)
    ],
    baseline: Annotated[
        Path | None, typer.Option("--baseline", help="the same of the initial model, for THS", callback=present)
    ] = None,
    refusal: Annotated[
        str, typer.Option("--refusal", help="the wording of a refusal that was taught")
    ] = "I don't know",
    max_failed: Annotated[
        float, typer.Option("--max-failed", min=0, max=1, help="share of questions that may have failed")
    ] = MAX_FAILED,
    json: Json = False,
) -> None:
    """P_c, P_w, P_r, THS and the rest, also of answers made elsewhere."""
    from rait.evaluation.metrics import evaluate as measure
    from rait.evaluation.metrics import to_json
    from rait.evaluation.verdicts import read_verdicts
    from rait.questions.mmlu import groups_of

    found = read_verdicts(verdicts, refusal)
    before = read_verdicts(baseline, refusal) if baseline else None
    metrics = measure(found, before, groups=groups_of(verdict.category for verdict in found), max_failed=max_failed)
    if json:
        print_json(to_json(metrics))
    else:
        from rait.summary import print_metrics

        print_metrics(metrics)


@app.command()
def strategies(json: Json = False) -> None:
    """List the strategies that a recipe can name, and what each needs beside the initial states."""
    from rait.construction import all_strategies

    known = all_strategies()
    rows = [{"name": s.name, "needs": sorted(s.needs), "description": s.description} for s in known]
    done(json, rows, "\n".join(f"{s.name:<17} {s.description}" for s in known))
