"""Commands about a whole run, from its recipe."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rait.cli.common import Json, Overrides, RecipeArgument, app, done, named_recipe, print_json

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
        from rait.summary import print_results

        print_results(results)
        print(f"\nEverything is in {out}")


@app.command()
def compare(
    recipe: RecipeArgument = None,
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option("--out", help="run folder; what is done there is used")] = Path("rait-run"),
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="how many seeds, counted on from the recipe's")] = 5,
    against: Annotated[
        str | None, typer.Option("--against", help="strategy to compare with; without it the recipe's first")
    ] = None,
    json: Json = False,
) -> None:
    """Tune every strategy with several seeds on one probe, and say which differences are more than noise."""
    from rait.pipeline import compare as compare_seeds

    loaded = named_recipe(recipe, overrides)
    wanted = range(loaded.seed, loaded.seed + seeds)
    rows = compare_seeds(loaded, out, tuple(wanted), against or loaded.strategies[0])
    if json:
        print_json({"run": str(out), "rows": [asdict(row) for row in rows]})
    else:
        from rait.reporting.tables import print_comparison

        print_comparison(rows)
        print(f"\nThe tables are in {out}/comparison.parquet, .csv, .md and .tex")


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


def _show_estimate(recipe: "Recipe", json: bool) -> None:
    from rait.estimate import estimate, print_estimate
    from rait.progress import say

    found = estimate(recipe, say)
    if json:
        print_json(found.as_json())
    else:
        print_estimate(found)
