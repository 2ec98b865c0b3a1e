"""The command line. It reads arguments, calls the library and prints; it decides nothing.

Results go to standard output, progress and remarks to standard error. Exit codes: 0 done, 1 failed, 2 wrong use,
130 interrupted (143 by SIGTERM).
"""

import json as json_module
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rait.errors import RaitError, RecipeError

if TYPE_CHECKING:
    from rait.recipe import Recipe

app = typer.Typer(
    name="rait",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help='Teach a language model to say "I don\'t know" when it does not know, and only then.',
    epilog="Settings of a recipe can be given at the end of a command as key=value, for example probe.samples=20.",
)

Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="recipe keys to change")]
RecipeArgument = Annotated[str | None, typer.Argument(help="recipe file or name; without it the embedded default")]
Json = Annotated[bool, typer.Option("--json", help="print one JSON object and nothing else")]
ModelOption = Annotated[str, typer.Option("--model", help="hub id, folder, .gguf file, or gemma-3-270m (bundled)")]
QuestionsOption = Annotated[
    str, typer.Option("--questions", help="atlas, a file (.jsonl .json .csv .tsv .parquet), or a hub id")
]
SplitOption = Annotated[str | None, typer.Option("--split", help="split of atlas or of a hub set")]


@app.command()
def run(
    recipe: RecipeArgument = None,
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option("--out", help="run folder; an unfinished run there goes on")] = Path("rait-run"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only estimate work and memory")] = False,
    json: Json = False,
) -> None:
    """Run everything, from the first question to the comparison; resumable at any moment."""
    from rait.pipeline import run as run_recipe

    loaded = _named_recipe(recipe, overrides)
    if dry_run:
        return _show_estimate(loaded, json)
    results = run_recipe(loaded, out)
    if json:
        _print_json({"run": str(out), "results": results})
    else:
        from rait.summary import print_results

        print_results(results)
        print(f"\nEverything is in {out}")


@app.command()
def probe(
    model: ModelOption,
    questions: QuestionsOption,
    out: Annotated[Path, typer.Option("--out", help="states to write (.jsonl or .parquet)")],
    overrides: Overrides = None,
    adapter: Annotated[Path | None, typer.Option("--adapter", help="what was tuned on the model")] = None,
    split: SplitOption = None,
    json: Json = False,
) -> None:
    """Ask a model what it knows: correctness and certainty of every question."""
    from rait.commands import probe_to_file
    from rait.progress import say

    recipe = _recipe(overrides, model=model, questions=questions, split=split)
    states = probe_to_file(recipe, out, adapter, say)
    mean = sum(state.correctness for state in states) / len(states)
    certainty = sum(state.certainty for state in states) / len(states)
    _done(
        json,
        {"states": str(out), "questions": len(states), "correctness": mean, "certainty": certainty},
        f"{len(states)} questions: mean correctness {mean:.3f}, mean certainty {certainty:.3f}; written to {out}",
    )


@app.command()
def rehearse(
    model: ModelOption,
    states: Annotated[Path, typer.Option("--states", help="initial states, from rait probe")],
    out: Annotated[Path, typer.Option("--out", help="folder for the examples and the adapter")],
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Fine-tune a model on what it knows best, to see where its knowledge flows."""
    from rait.commands import rehearse_to_folder
    from rait.progress import say

    count = rehearse_to_folder(_recipe(overrides, model=model), states, out, say)
    _done(json, {"adapter": str(out / "adapter"), "examples": count}, f"{count} examples; adapter in {out / 'adapter'}")


@app.command()
def flow(
    initial: Annotated[Path, typer.Option("--initial", help="states of the initial model")],
    rehearsed: Annotated[Path, typer.Option("--rehearsed", help="states of the rehearsed model")],
    out: Annotated[Path, typer.Option("--out", help="flow to write (.jsonl or .parquet)")],
    json: Json = False,
) -> None:
    """Compare two knowledge states: what rose, what stayed, what fell."""
    from rait.knowledge.flow import by_band, flows
    from rait.records import KnowledgeFlow, KnowledgeState
    from rait.tables import read_records, write_records

    made = flows(read_records(initial, KnowledgeState), read_records(rehearsed, KnowledgeState))
    write_records(out, made, KnowledgeFlow)
    bands = by_band(made)
    lines = [
        f"correctness {band.low:.1f} to {band.high:.1f}: {band.rising} rise, {band.staying} stay, {band.falling} fall"
        for band in bands
    ]
    parts = [
        {"low": b.low, "high": b.high, "rising": b.rising, "staying": b.staying, "falling": b.falling} for b in bands
    ]
    _done(json, {"flow": str(out), "questions": len(made), "bands": parts}, "\n".join(lines))


@app.command()
def construct(
    initial: Annotated[Path, typer.Option("--initial", help="states of the initial model")],
    strategy: Annotated[str, typer.Option("--strategy", help="van_tuning, cor_rait, corcer_rait, wo_cer or craft")],
    vanilla: Annotated[int, typer.Option("--vanilla", help="questions that keep their answer")],
    idk: Annotated[int, typer.Option("--idk", help="questions relabelled as refused")],
    out: Annotated[Path, typer.Option("--out", help="examples to write (.jsonl or .parquet)")],
    overrides: Overrides = None,
    rehearsed: Annotated[Path | None, typer.Option("--rehearsed", help="states of the rehearsed model")] = None,
    decisions: Annotated[
        Path | None, typer.Option("--decisions", help="file for the decision on every question")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="word the prompts for this model's chat template")
    ] = None,
    form: Annotated[str, typer.Option("--format", help="rait, or trl: prompt and completion alone")] = "rait",
    json: Json = False,
) -> None:
    """Choose which questions keep their answer and which become "I don't know"."""
    from rait.commands import construct_to_file

    words = [*(overrides or []), f"construction.vanilla={vanilla}", f"construction.idk={idk}"]
    recipe = _recipe(words, model=model)
    summary, notes = construct_to_file(
        recipe, strategy, initial, rehearsed, out, decisions, form=form, with_model=model is not None
    )
    lines = [f"note: {note}" for note in notes]
    lines += [f"{role}: {sum(kinds.values())}" for role, kinds in summary.items()]
    lines += [f"  {kind}: {count}" for kind, count in summary.get("dropped", {}).items()]
    _done(json, {"examples": str(out), "decisions": summary, "notes": notes}, "\n".join(lines))


@app.command()
def tune(
    model: ModelOption,
    examples: Annotated[Path, typer.Option("--examples", help="examples, from rait construct")],
    out: Annotated[Path, typer.Option("--out", help="folder for the adapter")],
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Fine-tune a model on prepared examples."""
    from rait.commands import tune_to_folder
    from rait.progress import say

    result = tune_to_folder(_recipe(overrides, model=model), examples, out, say)
    last = result.losses[-1]
    _done(
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
    adapter: Annotated[Path | None, typer.Option("--adapter", help="what was tuned on the model")] = None,
    split: SplitOption = None,
    basic: Annotated[bool, typer.Option("--basic", help="plain prompt: do not invite a refusal (Init-Basic)")] = False,
    shots_from: Annotated[
        str | None, typer.Option("--shots-from", help="draw worked examples from these questions (untuned base models)")
    ] = None,
    json: Json = False,
) -> None:
    """Ask a model test questions greedily and judge every answer: correct, wrong or refused."""
    from rait.commands import evaluate_to_file
    from rait.evaluation.metrics import evaluate as measure
    from rait.evaluation.metrics import format_metric, to_json
    from rait.progress import say
    from rait.questions.mmlu import groups_of

    recipe = _recipe(overrides, model=model, questions=questions, split=split)
    found = evaluate_to_file(recipe, out, adapter, shots_from, may_refuse=not basic, say=say)
    metrics = measure(found, groups=groups_of(verdict.category for verdict in found), seed=recipe.seed)
    shares = ", ".join(f"{name} {format_metric(metrics.overall[name])}" for name in ("P_c", "P_w", "P_r"))
    _done(json, {"verdicts": str(out), "metrics": to_json(metrics)}, f"{shares}; written to {out}")


@app.command()
def score(
    verdicts: Annotated[Path, typer.Argument(help="verdicts, or plain responses with accepted answers")],
    baseline: Annotated[Path | None, typer.Option("--baseline", help="the same of the initial model, for THS")] = None,
    refusal: Annotated[
        str, typer.Option("--refusal", help="the wording of a refusal that was taught")
    ] = "I don't know",
    json: Json = False,
) -> None:
    """P_c, P_w, P_r, THS and the rest, also of answers made elsewhere."""
    from rait.evaluation.metrics import evaluate as measure
    from rait.evaluation.metrics import to_json
    from rait.evaluation.verdicts import read_verdicts
    from rait.questions.mmlu import groups_of

    found = read_verdicts(verdicts, refusal)
    before = read_verdicts(baseline, refusal) if baseline else None
    metrics = measure(found, before, groups=groups_of(verdict.category for verdict in found))
    if json:
        _print_json(to_json(metrics))
    else:
        from rait.summary import print_metrics

        print_metrics(metrics)


@app.command()
def questions(
    source: Annotated[str, typer.Argument(metavar="PATH", help="atlas, a file, a folder, or a hub id")],
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

    recipe = _recipe(overrides, questions=source, split=split, form=form)
    found = overview(recipe.questions, recipe.prompt.refusal)
    _done(json, found, format_overview(found))


@app.command()
def prompts(
    recipe: RecipeArgument = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Print every prompt that a run would put, with the first question of each set."""
    from rait.pipeline import prompts_of
    from rait.progress import say

    text = prompts_of(_named_recipe(recipe, overrides), say)
    _done(json, {"prompts": text}, text.rstrip("\n"))


@app.command()
def recipes(json: Json = False) -> None:
    """List the recipes that come with rait."""
    from rait.recipe import bundled_recipes

    known = bundled_recipes()
    _done(json, known, "\n".join(f"{name:<24} {about}" for name, about in known.items()))


@app.command()
def validate(
    recipe: Annotated[str, typer.Argument(help="recipe file or name")],
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Check a recipe without running it, and print it with every key written out."""
    from rait.construction import find_strategy
    from rait.recipe import dump_recipe, load_recipe

    loaded = load_recipe(recipe, overrides or [])
    for name in loaded.strategies:
        find_strategy(name)
    _done(json, loaded.model_dump(mode="json"), dump_recipe(loaded).rstrip())


class _Stopped(BaseException):
    """The process was asked to end, by Ctrl-C (SIGINT) or SIGTERM; its argument is the signal's number."""


def _stop(number: int, frame: Any) -> None:
    raise _Stopped(number)


def main() -> None:
    """Run the command line; what the user can mend ends in one sentence, a bug in a traceback."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")  # of 1024 kernels, few would be used again
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # the libraries' own bars would fill a log
    # What one library says to another about names that will change is not for the user.
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|trl|peft")
    # Our own exception: libraries on the way turn KeyboardInterrupt into exit codes of their own.
    before = {
        number: signal.signal(number, _stop)
        for number in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        code = app(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except typer.Exit as leave:
        sys.exit(leave.exit_code)
    except _Stopped as stopped:
        print("\nInterrupted. Whatever was saved is kept: give the same command again to go on.", file=sys.stderr)
        sys.exit(128 + stopped.args[0])
    except RaitError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, RecipeError) else 1)
    except OSError as error:
        if error.errno is None or not error.filename:
            raise
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        show = getattr(error, "show", None)
        if show is None:
            raise
        show()  # wrong use, in the words of the library that reads the command line
        sys.exit(getattr(error, "exit_code", 2))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _named_recipe(recipe: str | None, overrides: list[str] | None) -> "Recipe":
    """A recipe by file or name, or the embedded default, with overrides."""
    from rait.recipe import load_recipe

    words = list(overrides or [])
    if recipe is not None and "=" in recipe:  # `rait run key=value` without a recipe
        words, recipe = [recipe, *words], None
    return load_recipe(recipe, words)


def _show_estimate(recipe: "Recipe", json: bool) -> None:
    from rait.estimate import estimate, print_estimate
    from rait.progress import say

    found = estimate(recipe, say)
    if json:
        _print_json(found.as_json())
    else:
        print_estimate(found)


def _recipe(
    overrides: list[str] | None,
    *,
    model: str | None = None,
    questions: str | None = None,
    split: str | None = None,
    form: str | None = None,
) -> "Recipe":
    """The settings of a single command: the defaults, the command's options, and the overrides."""
    from rait.recipe import load_settings

    options = {
        "model.source": model,
        "questions.source": questions,
        "questions.split": split,
        "questions.form": form,
    }
    return load_settings({key: value for key, value in options.items() if value is not None}, overrides or [])


def _done(as_json: bool, data: Any, text: str) -> None:
    if as_json:
        _print_json(data)
    else:
        print(text)


def _print_json(data: Any) -> None:
    print(json_module.dumps(data, ensure_ascii=False, indent=2))


if __name__ == "__main__":
    main()
