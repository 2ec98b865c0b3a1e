"""Results as tables for a terminal: 80 columns, without colour where it is not wanted."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from rait.evaluation.metrics import Metric, Metrics, format_metric

_COLUMNS = ("P_c", "P_w", "P_r", "over_refusal", "THS")
_HEADINGS = {"over_refusal": "over-refusal"}


def print_results(results: Mapping[str, Mapping[str, Any]]) -> None:
    """One table a test set: a row a method, in points, THS with its 95 % interval."""
    console = Console(highlight=False)
    for name in next(iter(results.values())):
        count = next(iter(results.values()))[name]["overall"]["P_c"]["n"]
        table = Table(title=f"{name}: {count} questions, in points", title_justify="left", title_style="bold")
        table.add_column("method")
        for column in _COLUMNS:
            table.add_column(_HEADINGS.get(column, column), justify="right", no_wrap=True)
        for method, sets in results.items():
            overall = {key: Metric(**value) for key, value in sets[name]["overall"].items()}
            values = [_short(overall[column]) for column in _COLUMNS[:-1]]
            table.add_row(method, *values, format_metric(overall["THS"]))
        console.print(table)
    console.print(
        "P_c correct, P_w wrong, P_r refused; over-refusal: refused of what Init-Basic has right.\n"
        "THS: 0 is Init-Basic itself, 100 is always right; in brackets its 95 % interval.",
        style="dim",
    )


def print_metrics(metrics: Metrics) -> None:
    """One set of verdicts: every metric with its interval and n, and the migration from the baseline."""
    console = Console(highlight=False)
    table = Table(title="in points, with 95 % intervals", title_justify="left")
    for column in ("metric", "value", "n"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for name, metric in metrics.overall.items():
        table.add_row(name, format_metric(metric), str(metric.n))
    console.print(table)
    if metrics.migration:
        table = Table(title="questions: baseline (rows) to these verdicts (columns)", title_justify="left")
        table.add_column("")
        for after in metrics.migration:
            table.add_column(after, justify="right")
        for before, row in metrics.migration.items():
            table.add_row(before, *(str(count) for count in row.values()))
        console.print(table)


def _short(metric: Metric) -> str:
    return format_metric(metric).split(" ")[0]
