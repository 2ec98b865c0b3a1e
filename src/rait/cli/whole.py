"""Commands about a whole run, from its recipe."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rait.cli.common import Json, Overrides, RecipeArgument, app, done, named_recipe, print_json
from rait.errors import RecipeError

if TYPE_CHECKING:
    from rait.recipe import Recipe


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

    loaded = named_recipe(recipe, overrides)
    if dry_run:
        return _show_estimate(loaded, json)
    results = run_recipe(loaded, out)
    if json:
        print_json({"run": str(out), "results": results})
    else:
        from rait.summary import print_run

        print_run(results, out)


@app.command()
def compare(
    recipe: Annotated[
        str | None, typer.Argument(help="recipe file or name; without it the embedded default; or two run folders")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="recipe keys to change; or more run folders")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="run folder (rait-run); for run folders the page to write (compare.html)"),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option("--seeds", min=1, help="how many seeds, counted on from the recipe's; 5 if not given")
    ] = None,
    against: Annotated[
        str | None, typer.Option("--against", help="strategy to compare with; without it the recipe's first")
    ] = None,
    json: Json = False,
) -> None:
    """Tune every strategy with several seeds on one probe, and say which differences are more than noise.

    Given run folders instead of a recipe, write one page that compares them (compare.html).
    """
    from rait.pipeline import compare as compare_seeds

    if folders := _run_folders([word for word in (recipe, *(overrides or [])) if word is not None]):
        if seeds is not None or against is not None:
            raise RecipeError("--seeds and --against are for a recipe, not for runs that are done; leave them out")
        return _compare_runs(folders, out or Path("compare.html"), json)
    loaded, folder = named_recipe(recipe, overrides), out or Path("rait-run")
    wanted = range(loaded.seed, loaded.seed + (5 if seeds is None else seeds))
    rows = compare_seeds(loaded, folder, tuple(wanted), against or loaded.strategies[0])
    if json:
        print_json({"run": str(folder), "rows": [asdict(row) for row in rows]})
    else:
        from rait.reporting.tables import print_comparison

        print_comparison(rows)
        print(
            f"\nThe tables are in {folder}/comparison.parquet, .csv, .md and .tex, the report in {folder}/report.html"
        )


@app.command()
def prompts(
    recipe: RecipeArgument = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Print every prompt that a run would put, with the first question of each set."""
    from rait.pipeline import prompts_of
    from rait.progress import say

    text = prompts_of(named_recipe(recipe, overrides), say)
    done(json, {"prompts": text}, text.rstrip("\n"))


@app.command()
def recipes(json: Json = False) -> None:
    """List the recipes that come with rait."""
    from rait.recipe import bundled_recipes

    known = bundled_recipes()
    done(json, known, "\n".join(f"{name:<24} {about}" for name, about in known.items()))


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
    done(json, loaded.model_dump(mode="json"), dump_recipe(loaded).rstrip())


def _run_folders(words: list[str]) -> list[Path]:
    """The run folders that are named; none where none of the words is one."""
    folders = [Path(word) for word in words if (Path(word) / "manifest.json").is_file()]
    others = [word for word in words if Path(word) not in folders]
    if folders and others:
        raise RecipeError(f"{others[0]!r} is no run folder, but {str(folders[0])!r} is; name run folders or a recipe")
    if len(folders) == 1:
        raise RecipeError(f"{folders[0]} is one run; name two or more to compare, or give it to `rait report`")
    return folders


def _compare_runs(folders: list[Path], out: Path, json: bool) -> None:
    from rait.reporting.report import write_report

    written = write_report(folders, out)
    done(json, {"runs": [str(each) for each in folders], "report": str(written)}, f"The report is {written}")


def _show_estimate(recipe: "Recipe", json: bool) -> None:
    from rait.estimate import estimate, print_estimate
    from rait.progress import say

    found = estimate(recipe, say)
    if json:
        print_json(found.as_json())
    else:
        print_estimate(found)
