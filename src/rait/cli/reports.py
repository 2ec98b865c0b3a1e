"""Reports of finished and unfinished runs, as a page for the browser."""

from pathlib import Path
from typing import Annotated

import typer

from rait.cli.common import Json, app, done, present


@app.command()
def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="run folder, whole or half done", callback=present)],
    out: Annotated[Path | None, typer.Option("--out", help="page to write; without it RUN/report.html")] = None,
    json: Json = False,
) -> None:
    """Write the report of a run as one HTML file, of what there is; loads no model."""
    from rait.reporting.report import write_report

    written = write_report([run], out or run / "report.html")
    done(json, {"run": str(run), "report": str(written)}, f"The report is {written}")
