"""The dial of a finished run: when its tuned models refuse, and what each setting brings."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rait.cli.common import Json, app, print_json
from rait.errors import RecipeError

if TYPE_CHECKING:
    from rait.recipe import Dial


@app.command()
def dial(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="run folder")],
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
    delta: Annotated[float, typer.Option("--delta", help="how probable a miss may be, of --of-answered")] = 0.1,
    save: Annotated[
        bool, typer.Option("--save", help="keep it in RUN, beside the adapter, for evaluate and ask")
    ] = False,
    json: Json = False,
) -> None:
    """Set when a run's tuned models refuse, on its calibration questions; without a target, as its recipe has it."""
    from rait.commands import dial_of_run

    asked = _asked(best_ths, max_error, max_refusal, of_answered, delta)
    found = dial_of_run(run, strategy, asked, save=save)
    if json:
        return print_json({"run": str(run), "saved": save, "strategies": found})
    for name, own in found.items():
        print("\n".join(_lines(name, own)))
    if save:
        print(f"Saved in {run}; a `rait run` there sets it as its recipe has it again.")


def _asked(
    best_ths: bool, max_error: float | None, max_refusal: float | None, of_answered: bool, delta: float
) -> "Dial | None":
    from rait.recipe import load_settings

    among = "answered" if of_answered else "all"
    given = [
        *([{"rule": "best_ths"}] if best_ths else []),
        *([] if max_error is None else [{"rule": "max_error", "value": max_error, "among": among, "delta": delta}]),
        *([] if max_refusal is None else [{"rule": "max_refusal", "value": max_refusal}]),
    ]
    if len(given) > 1:
        raise RecipeError("give one of --best-ths, --max-error and --max-refusal")
    if of_answered and max_error is None:
        raise RecipeError("--of-answered says what --max-error is counted among; give --max-error, too")
    return load_settings({"dial": given[0]}).dial if given else None


def _lines(name: str, found: dict[str, Any]) -> list[str]:
    """What a strategy's dial says, for people."""
    if found["threshold"] is None:
        return [f"{name}: no dial: {found['obstacle']}"]
    target, guarantee, set_on = found["target"], found["guarantee"], found["calibration"]
    value = "" if target["value"] is None else f" {target['value']:g}"
    lines = [
        f"{name}: {target['rule']}{value}, set on {set_on['questions']} calibration questions",
        f"  {_refused(found['threshold'])}",
    ]
    if guarantee is not None:
        what = f"{guarantee['risk']} at most {guarantee['bound']:g}"
        how = "on average" if guarantee["confidence"] is None else f"with probability {guarantee['confidence']:g}"
        if guarantee["holds"]:
            lines += [f"  {what} {how},", f"  of questions from the same source ({guarantee['method']})"]
        else:
            lines.append(f"  no threshold keeps {what}: with that many questions")
    lines.append(f"  {'':<12} {'P_c':>6} {'P_w':>6} {'P_r':>6} {'THS':>6}  95 % interval")
    for test, ways in found["tests"].items():
        for way in ("greedy", "chosen"):
            row = ways[way]
            numbers = " ".join(f"{_points(row[key]):>6}" for key in ("P_c", "P_w", "P_r", "THS"))
            interval = f"[{_points(row['THS_low'])}, {_points(row['THS_high'])}]"
            lines.append(f"  {test[:12] if way == 'greedy' else '':<5} {way} {numbers}  {interval}")
    return lines


def _refused(threshold: float) -> str:
    if threshold > 1:
        return "nothing is refused"
    return f"refused where p(refuse) >= {threshold:.4g}" if threshold > 0 else "everything is refused"


def _points(share: float | None) -> str:
    return "n/a" if share is None else f"{100 * share:.1f}"
