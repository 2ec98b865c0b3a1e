"""A comparison of strategies as tables: Parquet and CSV with every number, Markdown, LaTeX and a terminal for people.

    found = rows({"held_out": compare(...), "other": compare(...)})      # see rait.evaluation.comparison
    write_tables("results", found, {"cor_rait": "Cor-RAIT"})             # comparison.parquet, .csv, .md and .tex
    print_comparison(found)

The long tables have a row for each test set, strategy and metric, shares as fractions, null (CSV: nothing) for
undefined. The tables for people are in points with one decimal, "n/a" for undefined, one a test set.
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

from rait.columns import names as column_names
from rait.columns import to_row
from rait.evaluation.comparison import Comparison, Difference
from rait.tables import atomic, write_records

Names = Mapping[str, str]

_STEM = "comparison"
_NONE = Difference(None, None, None, None)
_SHARES = ("P_c", "P_w", "P_r", "over_refusal")
_COLUMNS = ("strategy", "seeds", "P_c", "P_w", "P_r", "over-refusal")
_UNDEFINED = "n/a"
_NOTE = "within noise: the 95 % interval of the difference, not corrected for many comparisons, holds 0"

_MARKDOWN_SPECIAL = re.compile(r"[\\`*|<>\[\]~&$]|(?<!\w)_|_(?!\w)")
_LATEX_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    # At the start of a line these would belong to the end of the line before, "\\[1em]" and "\\*".
    **{char: f"{{{char}}}" for char in "[]*"},
    **{char: f"\\{char}" for char in "&%$#_{}"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A metric of a strategy on a test set of so many `questions`: its mean over `seeds` runs, its 95 % interval.

    `difference` is the mean minus that of the strategy `against`, None for that one itself.
    """

    test_set: str
    strategy: str
    metric: str
    questions: int
    seeds: int
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    sd: float | None = None
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    within_noise: bool | None = None
    against: str


def rows(comparisons: Mapping[str, Comparison]) -> list[Row]:
    """Return the comparisons of test sets by name as one long table, in their order."""
    return [
        Row(
            test_set=test_set,
            strategy=strategy,
            metric=metric,
            questions=found.questions,
            seeds=len(score.values),
            mean=score.mean,
            low=score.low,
            high=score.high,
            sd=score.sd,
            difference=difference.mean,
            difference_low=difference.low,
            difference_high=difference.high,
            within_noise=difference.within_noise,
            against=found.against,
        )
        for test_set, found in comparisons.items()
        for strategy, scores in found.scores.items()
        for metric, score in scores.items()
        for difference in [found.differences.get(strategy, {}).get(metric, _NONE)]
    ]


def write_tables(folder: str | Path, found: Sequence[Row], names: Names | None = None) -> list[Path]:
    """Write comparison.parquet, .csv, .md and .tex into `folder`, each atomically, and return their paths.

    `names` maps strategies and test sets to what people are shown; the long tables keep them as they are. Raises
    InputError where a file cannot be written.
    """
    parquet = Path(folder) / f"{_STEM}.parquet"
    write_records(parquet, found, Row)
    texts = {".csv": to_csv(found), ".md": to_markdown(found, names), ".tex": to_latex(found, names)}
    for suffix, text in texts.items():
        with atomic(parquet.with_suffix(suffix)) as file:
            file.write(text.encode())
    return [parquet, *(parquet.with_suffix(suffix) for suffix in texts)]


def to_csv(found: Sequence[Row]) -> str:
    """Return the long table as CSV: a header, numbers that read back as the same floats, true and false."""
    text = io.StringIO()
    writer = csv.DictWriter(text, column_names(Row), lineterminator="\n")
    writer.writeheader()
    for row in found:
        value = row.within_noise
        writer.writerow(to_row(row) | {"within_noise": None if value is None else str(value).lower()})
    return text.getvalue()


def to_markdown(found: Sequence[Row], names: Names | None = None) -> str:
    """Return a table a test set, with a bold line above each and a note below the last."""
    lines: list[str] = []
    for shown in _by_set(found, names or {}):
        columns = [*_COLUMNS, "THS [95 %]", f"THS - {_markdown(shown.against)} [95 %]"]
        lines += [f"**{_markdown(shown.test_set)}**: {shown.what}", ""]
        lines += [_pipes(columns), "|---|" + "--:|" * (len(columns) - 1)]
        for line in shown.lines:
            difference = _joined(*line.difference, "=" if line.within_noise else "")
            lines.append(_pipes([_markdown(line.strategy), *line.numbers, _joined(*line.ths), difference]))
        lines.append("")
    return "\n".join([*lines, f"= {_NOTE}.", ""])


def to_latex(found: Sequence[Row], names: Names | None = None) -> str:
    r"""Return a tabular a test set, to \input into a document that uses the package booktabs.

    Names may hold any ASCII text; what lies beyond it is left to the engine and its fonts.
    """
    lines = [r"% needs \usepackage{booktabs}"]
    for shown in _by_set(found, names or {}):
        percent = r"95\,\%"
        shares = [re.sub(r"P_.", r"$\g<0>$", column) for column in _COLUMNS]
        columns = [*shares, f"THS [{percent}]", f"THS $-$ {_latex(shown.against)} [{percent}]"]
        title = f"{_latex(shown.test_set)}: {shown.what}"
        lines += [rf"\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}", r"\toprule", _across(columns, title)]
        lines += [r"\midrule", _cells(columns), r"\midrule"]
        for line in shown.lines:
            numbers = [*line.numbers, _joined(*line.ths), _joined(*line.difference)]
            mark = " $^{=}$" if line.within_noise else ""
            lines.append(_cells([_latex(line.strategy), *map(_math, numbers[:-1]), _math(numbers[-1]) + mark]))
        note = rf"\footnotesize $^{{=}}$ {_NOTE.replace('95 %', percent)}"
        lines += [r"\bottomrule", _across(columns, note), r"\end{tabular}", ""]
    return "\n".join(lines)


def print_comparison(found: Sequence[Row], names: Names | None = None) -> None:
    """Print a table a test set, 80 columns wide, intervals below their numbers; no colour where it is not wanted."""
    # Names are text: what looks like a style or an emoji in one is none.
    console = Console(highlight=False, markup=False, emoji=False)
    for shown in _by_set(found, names or {}):
        title = f"{shown.test_set}: {shown.what}; difference of THS to {shown.against}"
        table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column("strategy", overflow="fold")
        for column in (*_COLUMNS[1:], "THS", "difference"):
            table.add_column(column.replace("over-", "over-\n"), justify="right", no_wrap=True)
        for line in shown.lines:
            value, interval = line.difference
            difference = f"{'= ' if line.within_noise else ''}{value}\n{interval}"
            table.add_row(line.strategy, *line.numbers, "\n".join(line.ths), difference)
        console.print(table)
    console.print(f"Means over seeds and their 95 % intervals.\n= {_NOTE}.", style="dim")


# What people are shown, before it is set in any format.


class _Line(NamedTuple):
    """A strategy: seeds and shares; THS, and its difference, as a value and its interval."""

    strategy: str
    numbers: list[str]
    ths: tuple[str, str]
    difference: tuple[str, str]
    within_noise: bool


class _Shown(NamedTuple):
    test_set: str
    what: str
    against: str
    lines: list[_Line]


def _by_set(found: Sequence[Row], names: Names) -> Iterator[_Shown]:
    for test_set in dict.fromkeys(row.test_set for row in found):
        of_set = [row for row in found if row.test_set == test_set]
        first = of_set[0]
        strategies = dict.fromkeys(row.strategy for row in of_set)
        yield _Shown(
            test_set=_named(test_set, names),
            what=f"{first.questions} question{'' if first.questions == 1 else 's'}, in points",
            against=_named(first.against, names),
            lines=[_line({row.metric: row for row in of_set if row.strategy == each}, names) for each in strategies],
        )


def _line(metrics: Mapping[str, Row], names: Names) -> _Line:
    ths = metrics["THS"]
    difference = _estimate(ths.difference, ths.difference_low, ths.difference_high, "+.1f")
    return _Line(
        strategy=_named(ths.strategy, names),
        numbers=[str(ths.seeds), *(_points(metrics[name].mean) for name in _SHARES)],
        ths=_estimate(ths.mean, ths.low, ths.high),
        difference=("--", "") if ths.strategy == ths.against else difference,
        within_noise=bool(ths.within_noise),
    )


def _named(name: str, names: Names) -> str:
    """Return what a name is shown as, on one line and without control characters."""
    shown = names.get(name, name)
    return " ".join("".join(char if char.isprintable() else " " for char in shown).split())


def _points(share: float | None, form: str = ".1f") -> str:
    if share is None:
        return _UNDEFINED
    rounded = round(100 * share, 1)
    return format(rounded, form) if rounded else "0.0"  # zero has no sign


def _estimate(value: float | None, low: float | None, high: float | None, form: str = ".1f") -> tuple[str, str]:
    if value is None:
        return _UNDEFINED, ""
    if low is None or high is None:
        return _points(value, form), f"[{_UNDEFINED}]"
    return _points(value, form), f"[{_points(low)}, {_points(high)}]"


def _joined(*parts: str) -> str:
    return " ".join(filter(None, parts))


# Markdown and LaTeX.


def _pipes(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown(name: str) -> str:
    return _MARKDOWN_SPECIAL.sub(r"\\\g<0>", name)


def _cells(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _across(columns: Sequence[str], text: str) -> str:
    return rf"\multicolumn{{{len(columns)}}}{{l}}{{{text}}} \\"


def _latex(name: str) -> str:
    return "".join(_LATEX_SPECIAL.get(char, char) for char in name)


def _math(number: str) -> str:
    """Set signed numbers in math, where "-" is a minus."""
    return re.sub(r"[+-]\d[\d.]*", r"$\g<0>$", number)
