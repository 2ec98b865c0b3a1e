"""Commands about a run that is there: ask its tuned model, and see how far it has come."""

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from rait.cli.common import Json, RunFolder, app, as_json, present, print_json


@app.command()
def ask(
    run: RunFolder,
    question: Annotated[
        str | None,
        typer.Argument(
            help='what to ask, as text or as JSON {"question", "options"}; without it, one a line from standard input'
        ),
    ] = None,
    strategy: Annotated[
        str | None, typer.Option("--strategy", help="whose model; without it the best by THS on the first test set")
    ] = None,
    adapter: Annotated[
        Path | None,
        typer.Option("--adapter", help="another tuned model, such as RUN/craft/seed-1/adapter", callback=present),
    ] = None,
    why: Annotated[
        bool, typer.Option("--why", help="add what the initial model says and the nearest training examples")
    ] = False,
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", min=0, max=1, help="refuse from this p(refuse) on; else as the run's dial says"),
    ] = None,
    json: Json = False,
) -> None:
    """Ask a run's tuned model: its answer or refusal, and how probable the refusal is."""
    from rait import asking, explaining
    from rait.errors import RaitError

    tuned = asking.open_run(run, strategy=strategy, adapter=adapter, threshold=threshold)
    known = explaining.background(tuned) if why else None

    def reply_to(text: str) -> tuple[dict[str, object], str]:
        reply = asking.ask(tuned, asking.asked(text))
        data, shown = asking.as_json(reply), asking.format_reply(reply)
        if known is not None:
            reasons = explaining.explain(tuned, known, reply)
            data["why"] = explaining.as_json(reasons)
            shown += "\n" + explaining.format_why(tuned, reply, reasons)
        return data, shown

    if question is not None:
        data, shown = reply_to(question)
        return print_json(data) if json else print(shown)
    failed = False
    for number, line in _lines():
        try:
            data, shown = reply_to(line)
        except RaitError as error:  # of one question; those after it are still to be answered
            failed = True
            print(f"error: line {number}: {error}", file=sys.stderr, flush=True)
            data, shown = {"line": number, "error": str(error)}, ""  # a line all the same: answers keep their places
        if json or shown or not sys.stdin.isatty():
            print(as_json(data) if json else shown, flush=True)
    if failed and not sys.stdin.isatty():
        raise typer.Exit(1)


def _lines() -> Iterator[tuple[int, str]]:
    """Numbered lines of standard input; on a terminal those that are not blank, after a prompt, until Ctrl-D."""
    if sys.stdin.isatty():
        import readline  # noqa: F401  lines can be edited, and earlier ones come back

        print("Ask a question; Ctrl-D ends.", file=sys.stderr)
    elif isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    number = 0
    while True:
        try:
            if sys.stdin.isatty():
                if not sys.stdout.isatty():  # where the prompt of input() would go
                    print("> ", end="", file=sys.stderr, flush=True)
                line = input("> " if sys.stdout.isatty() else "")
            elif not (line := sys.stdin.readline()):
                return
        except EOFError:
            print(file=sys.stderr)
            return
        number += 1
        if line.strip() or not sys.stdin.isatty():
            yield number, line


@app.command()
def status(run: RunFolder, json: Json = False) -> None:
    """Show how far a run has come: done, running, missing, and the time left."""
    from rait import status as state

    found = state.status(run)
    if json:
        print_json(state.as_json(found))
    else:
        state.print_status(found)
