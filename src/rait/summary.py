"""Results as tables for a terminal: 80 columns, without colour where it is not wanted."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from rait.construction.preview import Overlap, Preview, StrategyPreview
from rait.evaluation.metrics import Metric, Metrics, format_metric
from rait.manifest import intact
from rait.tables import read_data

_SHARES = ("P_c", "P_w", "P_r")
_HEADINGS = {"over_refusal": "over-refusal"}
_NARROW = {"over_refusal": "over-\nrefusal", "unparsable": "unpars-\nable"}
_MICRO = "micro (over questions)"
_MACRO = "macro (over subjects)"


def print_run(results: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """The results of a run, what its dials add, and where to look next."""
    dials = {name: read_data(intact(path)) for name in results if (path := folder / name / "dial.json").is_file()}
    print_results(results, dials)
    console = Console(highlight=False, markup=False, emoji=False)
    console.print()
    report = folder / "report.html"
    lines = [f"see it:  {report}"] if report.is_file() else []
    lines += [f"ask it:  rait ask {folder}", f"Everything is in {folder}"]
    console.print("\n".join(lines), markup=False, soft_wrap=True)


def print_results(
    results: Mapping[str, Mapping[str, Any]], dials: Mapping[str, Mapping[str, Any]] | None = None
) -> None:
    """One table a test set: a row a method, in points, THS with its 95 % interval.

    Of multiple-choice questions the share unparsable is shown, too, and if they are of several subjects, a second row a
    method with the macro averages. `dials` has what dial.json holds of a strategy: a further row, where it has a test.
    """
    console = Console(highlight=False, markup=False, emoji=False)
    first = next(iter(results.values()))
    dials = dials or {}
    for name in first:
        sets = {method: of_method[name] for method, of_method in results.items()}
        chosen = {method: dial["tests"][name]["chosen"] for method, dial in dials.items() if name in dial["tests"]}
        console.print(_set_table(name, sets, chosen))
    notes = ["P_c correct, P_w wrong, P_r refused.", "Over-refusal: refused of what Init-Basic has right."]
    if any(dial["tests"] for dial in dials.values()):
        notes.append("dial: the same model, refused where p(refuse) reaches the threshold of its dial.")
    if any(map(_is_choice, first.values())):
        notes.append("Unparsable: the answer chooses no option; a part of P_w.")
    if any(map(_has_macro, first.values())):
        notes.append(f"First row of a method: {_MICRO}; second: {_MACRO}.")
    notes.append("THS: 0 is Init-Basic itself, 100 is always right; in brackets its 95 % interval.")
    console.print("\n".join(notes), style="dim")


def _set_table(name: str, sets: Mapping[str, Any], chosen: Mapping[str, Any]) -> Table:
    """One test set: what each method makes of it, and what it makes of it at the threshold of its dial."""
    first = next(iter(sets.values()))
    choice, macro = _is_choice(first), _has_macro(first)
    columns = (*_SHARES, *(["unparsable"] if choice else []), "over_refusal", "THS")
    of = f" of {first['macro']['P_c']['n']} subjects" if macro else ""
    table = Table(
        title=f"{name}: {first['overall']['P_c']['n']} questions{of}, in points",
        title_justify="left",
        title_style="bold",
    )
    table.add_column("method", overflow="fold")
    for column in columns:
        table.add_column((_NARROW if choice else _HEADINGS).get(column, column), justify="right", no_wrap=True)
    for method, found in sets.items():
        table.add_row(method, *(_cell(found["overall"], column) for column in columns))
        if macro:
            table.add_row(
                "  macro", *(_cell(found["macro"], column) for column in columns), end_section=method not in chosen
            )
        if method in chosen:
            dialled = _dialled(chosen[method], found["overall"]["P_c"]["n"])
            table.add_row("  dial", *(_cell(dialled, column) for column in columns), end_section=macro)
    return table


def _dialled(chosen: Mapping[str, Any], n: int) -> dict[str, Any]:
    """What a dial brings on a test set of n questions, in the form of metrics; what it does not tell is left out."""
    shares = {name: {"value": chosen[name], "low": None, "high": None, "n": n} for name in _SHARES}
    return shares | {"THS": {"value": chosen["THS"], "low": chosen["THS_low"], "high": chosen["THS_high"], "n": n}}


def _is_choice(metrics: Mapping[str, Any]) -> bool:
    """Say whether a set holds multiple-choice questions; results of earlier versions do not tell."""
    overall = metrics["overall"]
    return "unparsable" in overall and bool(overall["unparsable"]["n"])


def _has_macro(metrics: Mapping[str, Any]) -> bool:
    return _is_choice(metrics) and bool(metrics.get("macro"))


def _cell(metrics: Mapping[str, Any], column: str) -> str:
    if column not in metrics:
        return ""
    metric = Metric(**metrics[column])
    return format_metric(metric) if column == "THS" else _short(metric)


def print_metrics(metrics: Metrics) -> None:
    """One set of verdicts: every metric with its interval and n, averages, and the migration from the baseline."""
    console = Console(highlight=False, markup=False, emoji=False)
    overall = {name: metric for name, metric in metrics.overall.items() if name != "unparsable" or metric.n}
    if metrics.macro:
        console.print(_metrics_table(f"{_MICRO}: points, 95 % intervals", overall, "n"))
        console.print(_metrics_table(f"{_MACRO}: points, 95 % intervals", metrics.macro, "subjects"))
    else:
        console.print(_metrics_table("in points, with 95 % intervals", overall, "n"))
    if metrics.groups:
        console.print(_groups_table(metrics.groups))
    if metrics.migration:
        table = Table(title="questions: baseline (rows) to these verdicts (columns)", title_justify="left")
        table.add_column("")
        for after in metrics.migration:
            table.add_column(after, justify="right")
        for before, row in metrics.migration.items():
            table.add_row(before, *(str(count) for count in row.values()))
        console.print(table)


def _metrics_table(title: str, metrics: Mapping[str, Metric], of: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in ("metric", "value", of):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for name, metric in metrics.items():
        table.add_row(name, format_metric(metric), str(metric.n))
    return table


def _groups_table(groups: Mapping[str, Mapping[str, Metric]]) -> Table:
    table = Table(title=f"by group, {_MICRO}, in points", title_justify="left")
    table.add_column("group")
    for column in (*_SHARES, "THS", "n"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, found in groups.items():
        shares = [_short(found[column]) for column in _SHARES]
        table.add_row(name, *shares, format_metric(found["THS"]), str(found["P_c"].n))
    return table


def _short(metric: Metric) -> str:
    return format_metric(metric).split(" ")[0]


def print_preview(preview: Preview) -> None:
    """What every strategy would take, how the choices overlap, and what every threshold would cut."""
    console = Console(highlight=False, markup=False, emoji=False)
    vanilla, idk = preview.wanted
    title = f"{preview.questions} questions; wanted {vanilla} vanilla, {idk} idk"
    console.print(_choices_table(title, preview.strategies))
    for one in preview.strategies:
        left = ", ".join(f"{count} {kind}" for kind, count in one.dropped.items())
        for line in (*one.notes, *([one.obstacle] if one.obstacle else []), *([f"dropped: {left}"] if left else [])):
            console.print(f"{one.strategy}: {line.removeprefix(f'{one.strategy} ')}", style="dim")
    if preview.overlaps:
        console.print(_overlap_table(preview.overlaps))
    table = Table(title="questions by threshold (tau_mu)", title_justify="left")
    for column in ("threshold", "known", "unknown", "dead band", "rising", "staying", "falling"):
        table.add_column(column, justify="right")
    for cut in preview.sweep:
        flow = [_number(count) for count in (cut.rising, cut.staying, cut.falling)]
        table.add_row(f"{cut.threshold:g}", str(cut.known), str(cut.unknown), str(cut.inside), *flow)
    console.print(table)
    console.print("Rising, staying, falling: the unknown, by what rehearsal does to their correctness.", style="dim")


def _choices_table(title: str, strategies: Sequence[StrategyPreview]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("strategy", overflow="fold")
    for role in ("vanilla", "idk"):
        table.add_column(f"{role}\ntaken", justify="right", no_wrap=True)
        for column in ("of", "mu", "sigma"):
            table.add_column(f"\n{column}", justify="right", no_wrap=True)
    for one in strategies:
        cells: list[str] = []
        for share in (one.vanilla, one.idk):
            if share is None:
                cells += ["n/a"] * 4
            else:
                means = (_number(share.correctness, ".2f"), _number(share.certainty, ".2f"))
                cells += [str(share.taken), str(share.candidates), *means]
        table.add_row(one.strategy, *cells)
    return table


def _overlap_table(overlaps: Sequence[Overlap]) -> Table:
    """Both roles in one square, which leaves room for many strategies."""
    names = list(dict.fromkeys(name for pair in overlaps for name in (pair.first, pair.second)))
    values = {(pair.first, pair.second): pair.idk for pair in overlaps}
    values |= {(pair.second, pair.first): pair.vanilla for pair in overlaps}
    title = "shared / all of what two take, in %: idk above, vanilla below the diagonal"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True, max_width=max(8, 80 - 4 * len(names)))
    for number, _ in enumerate(names, start=1):
        table.add_column(str(number), justify="right", no_wrap=True)
    for number, row in enumerate(names, start=1):
        cells = ["-" if row == column else _percent(values[row, column]) for column in names]
        table.add_row(f"{number} {row}", *cells)
    return table


def _number(value: float | None, form: str = "") -> str:
    return "n/a" if value is None else format(value, form)


def _percent(share: float | None) -> str:
    return "n/a" if share is None else f"{100 * share:.0f}"
