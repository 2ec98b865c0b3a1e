"""The dial of a finished run: when its tuned models refuse, and what each setting brings."""

from typing import TYPE_CHECKING, Annotated

import typer

from rait.cli.common import Json, RunFolder, app, print_json
from rait.errors import RecipeError
from rait.inert import presentable

if TYPE_CHECKING:
    from rait.recipe import Dial


@app.command()
def dial(
    run: RunFolder,
    strategy: Annotated[list[str] | None, typer.Option("--strategy", help="only this one; may be repeated")] = None,
    best_ths: Annotated[bool, typer.Option("--best-ths", help="the highest THS")] = False,
    max_error: Annotated[
        float | None, typer.Option("--max-error", help="fewest refusals with at most this share answered wrongly")
    ] = None,
    max_refusal: Annotated[
        float | None, typer.Option("--max-refusal", help="fewest wrong answers with at most this share refused")
    ] = None,
    of_answered: Annotated[
        bool, typer.Option("--of-answered", help="count --max-error among answered questions alone")
    ] = False,
    delta: Annotated[
        float | None, typer.Option("--delta", help="how probable a miss may be, of --of-answered; 0.1 if not given")
    ] = None,
    save: Annotated[
        bool, typer.Option("--save", help="keep it in RUN, beside the adapter, for evaluate and ask")
    ] = False,
    json: Json = False,
) -> None:
    """Set when a run's tuned models refuse, on its calibration questions; without a target, show how it is set."""
    from rait.commands import dial_of_run
    from rait.evaluation.dial import extreme, in_words
    from rait.progress import say

    asked = _asked(best_ths, max_error, max_refusal, of_answered, delta)
    found = dial_of_run(run, strategy, asked, save=False)
    for name, own in found.items():
        if warning := extreme(own):
            say(f"warning: {name}: {warning}")
    if save:  # once it has been said what it would do
        dial_of_run(run, strategy, asked, save=True)
    if json:
        return print_json({"run": str(run), "saved": save, "strategies": found})
    for name, own in found.items():
        print(presentable(in_words(name, own)))
    if save:
        print(
            f"Saved in {run}; `rait report {run}` brings its page up to date. A `rait run` there sets the dial as its "
            "recipe has it again."
        )


def _asked(
    best_ths: bool, max_error: float | None, max_refusal: float | None, of_answered: bool, delta: float | None
) -> "Dial | None":
    from rait.recipe import load_settings

    for option, share in (("--max-error", max_error), ("--max-refusal", max_refusal), ("--delta", delta)):
        if share is not None and not 0 < share < 1:
            meant = f"for {share:g} % give {share / 100:g}" if 1 <= share < 100 else "give for example 0.05"
            raise RecipeError(f"{option} is a share between 0 and 1, found {share:g}; {meant}")
    among = {"among": "answered"} if of_answered else {}
    sure = {} if delta is None else {"delta": delta}
    given = [
        *([{"rule": "best_ths"}] if best_ths else []),
        *([] if max_error is None else [{"rule": "max_error", "value": max_error, **among, **sure}]),
        *([] if max_refusal is None else [{"rule": "max_refusal", "value": max_refusal}]),
    ]
    if len(given) > 1:
        raise RecipeError("give one of --best-ths, --max-error and --max-refusal")
    if of_answered and max_error is None:
        raise RecipeError("--of-answered says what --max-error is counted among; give --max-error, too")
    if delta is not None and not of_answered:
        raise RecipeError("--delta is of --of-answered; give --max-error and --of-answered, too, or leave out --delta")
    return load_settings({"dial": given[0]}).dial if given else None
