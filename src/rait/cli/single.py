"""Commands for the stages one by one, from files to files."""

from pathlib import Path
from typing import Annotated

import typer

from rait.cli.common import (
    Json,
    ModelOption,
    Overrides,
    QuestionsOption,
    SplitOption,
    app,
    done,
    present,
    present_or_named,
    print_json,
    settings_of,
)
from rait.errors import RecipeError


@app.command()
def probe(
    model: ModelOption,
    questions: QuestionsOption,
    out: Annotated[Path, typer.Option("--out", help="states to write (.jsonl or .parquet)")],
    overrides: Overrides = None,
    adapter: Annotated[
        Path | None, typer.Option("--adapter", help="what was tuned on the model", callback=present)
    ] = None,
    split: SplitOption = None,
    json: Json = False,
) -> None:
    """Ask a model what it knows: correctness and certainty of every question."""
    from rait.commands import probe_to_file
    from rait.progress import say

    recipe = settings_of(overrides, model=model, questions=questions, split=split)
    states = probe_to_file(recipe, out, adapter, say)
    mean = sum(state.correctness for state in states) / len(states)
    certainty = sum(state.certainty for state in states) / len(states)
    done(
        json,
        {"states": str(out), "questions": len(states), "correctness": mean, "certainty": certainty},
        f"{len(states)} questions: mean correctness {mean:.3f}, mean certainty {certainty:.3f}; written to {out}",
    )


@app.command()
def rehearse(
    model: ModelOption,
    states: Annotated[Path, typer.Option("--states", help="initial states, from rait probe", callback=present)],
    out: Annotated[Path, typer.Option("--out", help="folder for the examples and the adapter")],
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Fine-tune a model on what it knows best, to see where its knowledge flows."""
    from rait.commands import rehearse_to_folder
    from rait.progress import say

    count = rehearse_to_folder(settings_of(overrides, model=model), states, out, say)
    done(json, {"adapter": str(out / "adapter"), "examples": count}, f"{count} examples; adapter in {out / 'adapter'}")


@app.command()
def flow(
    initial: Annotated[Path, typer.Option("--initial", help="states of the initial model", callback=present)],
    rehearsed: Annotated[Path, typer.Option("--rehearsed", help="states of the rehearsed model", callback=present)],
    out: Annotated[Path, typer.Option("--out", help="flow to write (.jsonl or .parquet)")],
    json: Json = False,
) -> None:
    """Compare two knowledge states: what rose, what stayed, what fell."""
    from rait.commands import flow_to_file
    from rait.knowledge.flow import by_band

    made = flow_to_file(initial, rehearsed, out)
    bands = by_band(made)
    lines = [
        f"correctness {band.low:.1f} to {band.high:.1f}: {band.rising} rise, {band.staying} stay, {band.falling} fall"
        for band in bands
    ]
    parts = [
        {"low": b.low, "high": b.high, "rising": b.rising, "staying": b.staying, "falling": b.falling} for b in bands
    ]
    done(json, {"flow": str(out), "questions": len(made), "bands": parts}, "\n".join(lines))


@app.command()
def influence(
    model: ModelOption,
    adapter: Annotated[
        Path, typer.Option("--adapter", help="of the rehearsed model, from rait rehearse", callback=present)
    ],
    initial: Annotated[Path, typer.Option("--initial", help="states of the initial model", callback=present)],
    out: Annotated[Path, typer.Option("--out", help="influences to write (.jsonl or .parquet)")],
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Measure what refusing a question would do to the answers to others; the strategy grait needs it."""
    from rait.commands import influence_to_file
    from rait.progress import say

    made = influence_to_file(settings_of(overrides, model=model), adapter, initial, out, say)
    done(json, {"influences": str(out), "questions": len(made)}, f"{len(made)} questions; written to {out}")


@app.command()
def construct(
    initial: Annotated[Path, typer.Option("--initial", help="states of the initial model", callback=present)],
    strategy: Annotated[str | None, typer.Option("--strategy", help="one of `rait strategies`")] = None,
    vanilla: Annotated[int | None, typer.Option("--vanilla", help="questions that keep their answer")] = None,
    idk: Annotated[int | None, typer.Option("--idk", help="questions relabelled as refused")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="examples to write (.jsonl or .parquet)")] = None,
    overrides: Overrides = None,
    rehearsed: Annotated[
        Path | None, typer.Option("--rehearsed", help="states of the rehearsed model", callback=present)
    ] = None,
    influence: Annotated[
        Path | None,
        typer.Option("--influence", help="knowledge/influence.parquet of a run, for grait", callback=present),
    ] = None,
    decisions: Annotated[
        Path | None, typer.Option("--decisions", help="file for the decision on every question")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="word the prompts for this model's chat template", callback=present_or_named),
    ] = None,
    form: Annotated[
        str, typer.Option("--format", help="rait, trl, trl-chat, llama-factory or axolotl; see rait export")
    ] = "rait",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="write nothing: show what every strategy would take, side by side")
    ] = False,
    json: Json = False,
) -> None:
    """Choose which questions keep their answer and which become "I don't know"."""
    from rait.commands import construct_to_file, preview_files

    sizes = {"construction.vanilla": vanilla, "construction.idk": idk}
    words = [*(overrides or []), *(f"{key}={size}" for key, size in sizes.items() if size is not None)]
    recipe = settings_of(words, model=model)
    if dry_run:
        found = preview_files(recipe, [strategy] if strategy else None, initial, rehearsed, influence)
        if json:
            from rait.construction.preview import to_json

            return print_json(to_json(found))
        from rait.summary import print_preview

        return print_preview(found)
    if strategy is None or vanilla is None or idk is None or out is None:
        raise RecipeError("give --strategy, --vanilla, --idk and --out, or look at all strategies with --dry-run")
    summary, notes = construct_to_file(
        recipe,
        strategy,
        initial,
        rehearsed,
        out,
        decisions,
        influence=influence,
        form=form,
        with_model=model is not None,
    )
    lines = [f"note: {note}" for note in notes]
    lines += [f"{role}: {sum(kinds.values())}" for role, kinds in summary.items()]
    lines += [f"  {kind}: {count}" for kind, count in summary.get("dropped", {}).items()]
    done(json, {"examples": str(out), "decisions": summary, "notes": notes}, "\n".join(lines))


@app.command()
def conflicts(
    model: ModelOption,
    initial: Annotated[Path, typer.Option("--initial", help="states of the initial model", callback=present)],
    decisions: Annotated[
        Path, typer.Option("--decisions", help="decisions, from rait construct --decisions", callback=present)
    ],
    out: Annotated[Path, typer.Option("--out", help="folder for conflicts.json, .txt and .png")],
    overrides: Overrides = None,
    rehearsed: Annotated[
        Path | None, typer.Option("--rehearsed", help="states of the rehearsed model", callback=present)
    ] = None,
    json: Json = False,
) -> None:
    """Look for conflicts in a choice before tuning on it: like questions with unlike labels, knowledge that rises."""
    from rait.commands import conflicts_to_folder
    from rait.progress import say

    found = conflicts_to_folder(settings_of(overrides, model=model), initial, rehearsed, decisions, out, say)
    done(json, {"conflicts": str(out / "conflicts.json")}, f"{found}; pairs and map in {out}")


@app.command()
def tune(
    model: ModelOption,
    examples: Annotated[Path, typer.Option("--examples", help="examples, from rait construct", callback=present)],
    out: Annotated[Path, typer.Option("--out", help="folder for the adapter")],
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Fine-tune a model on prepared examples."""
    from rait.commands import tune_to_folder
    from rait.progress import say

    result = tune_to_folder(settings_of(overrides, model=model), examples, out, say)
    last = result.losses[-1]
    done(
        json,
        {"adapter": str(out / "adapter"), "steps": result.steps, "loss": last, "seconds": result.seconds},
        f"{result.steps} steps, loss {last:.3f}; adapter in {out / 'adapter'}",
    )


@app.command()
def evaluate(
    model: ModelOption,
    questions: QuestionsOption,
    out: Annotated[Path, typer.Option("--out", help="verdicts to write (.jsonl or .parquet)")],
    overrides: Overrides = None,
    adapter: Annotated[
        Path | None, typer.Option("--adapter", help="what was tuned on the model", callback=present)
    ] = None,
    split: SplitOption = None,
    basic: Annotated[bool, typer.Option("--basic", help="plain prompt: do not invite a refusal (Init-Basic)")] = False,
    shots_from: Annotated[
        str | None,
        typer.Option(
            "--shots-from",
            help="draw worked examples from these questions (untuned base models)",
            callback=present_or_named,
        ),
    ] = None,
    strategy: Annotated[
        str | None, typer.Option("--strategy", help="what it was tuned by, if that teaches words around an answer")
    ] = None,
    dial: Annotated[
        bool,
        typer.Option(
            "--dial/--no-dial", help="refuse by the threshold beside the adapter, or else in the model's folder"
        ),
    ] = True,
    json: Json = False,
) -> None:
    """Ask a model test questions and judge every answer: correct, wrong or refused."""
    from rait.commands import evaluate_to_file
    from rait.evaluation.metrics import evaluate as measure
    from rait.evaluation.metrics import format_metric, to_json
    from rait.progress import say
    from rait.questions.mmlu import groups_of

    recipe = settings_of(overrides, model=model, questions=questions, split=split)
    found = evaluate_to_file(
        recipe, out, adapter, shots_from, may_refuse=not basic, strategy=strategy, say=say, dial=dial
    )
    groups = groups_of(verdict.category for verdict in found)
    metrics = measure(found, groups=groups, seed=recipe.seed, max_failed=recipe.max_failed)
    shares = ", ".join(f"{name} {format_metric(metrics.overall[name])}" for name in ("P_c", "P_w", "P_r"))
    done(json, {"verdicts": str(out), "metrics": to_json(metrics)}, f"{shares}; written to {out}")
