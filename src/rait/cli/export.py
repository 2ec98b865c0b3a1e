"""The command that hands a run over to other tools."""

from pathlib import Path
from typing import Annotated

import typer

from rait.cli.common import Json, RunFolder, app, done


@app.command()
def export(
    run: RunFolder,
    to: Annotated[
        str, typer.Option("--to", metavar="FORMAT", help="trl, trl-chat, llama-factory, axolotl, merged or lm-eval")
    ],
    strategy: Annotated[
        str | None,
        typer.Option("--strategy", help="craft, or craft/seed-1; needed where several were tuned"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="folder to write; without it RUN/export/STRATEGY-FORMAT")
    ] = None,
    push: Annotated[
        str | None, typer.Option("--push", metavar="REPO", help="upload to this repository on the hub, privately")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="upload for all to see")] = False,
    json: Json = False,
) -> None:
    """Hand a tuned model, its data or its test sets over to other tools, or to the hub."""
    from rait.export.run import export as export_run
    from rait.progress import say

    made = export_run(run, to, out, strategy=strategy, repository=push, public=public, say=say)
    lines = [*(f"note: {note}" for note in made.notes), *made.lines]
    lines.append(f"{made.strategy} as {made.form} in {made.folder}")
    lines += [f"uploaded to {made.address}"] if made.address else []
    data = {
        "format": made.form,
        "strategy": made.strategy,
        "out": str(made.folder),
        **made.facts,
        "notes": list(made.notes),
        "address": made.address,
    }
    done(json, data, "\n".join(lines))
