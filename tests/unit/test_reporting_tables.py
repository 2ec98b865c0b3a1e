"""The tables of a comparison: long ones read back as they were, those for people against text set by hand."""

import csv
import shutil
import subprocess
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rait.errors import InputError
from rait.evaluation.comparison import METRICS, compare
from rait.records import JUDGED, Verdict
from rait.reporting.tables import Row, print_comparison, rows, to_csv, to_latex, to_markdown, write_tables
from rait.tables import read_records

LETTERS = dict(zip("cwr", JUDGED, strict=True))
NAMES = {"craft": "CRaFT", "cor": "Cor-RAIT"}
NOTE = r"within noise: the 95\,\% interval of the difference, not corrected for many comparisons, holds 0"
TITLE = "held_out: 400 questions, in points; difference of THS to Cor-RAIT"
ODD = r"[x]*a_b_ %50 & #1 {$y^2$} ~\n|<i>`"


def verdicts(letters: str) -> list[Verdict]:
    return [
        Verdict(id=str(n), question="", answers=(), response="", outcome=LETTERS[letter], rule="given")
        for n, letter in enumerate(letters)
    ]


def strategy(name: str, ths: Row, test_set: str = "held_out", **shares: float | None) -> list[Row]:
    """The rows of a strategy on a test set: THS as given and what else is shown."""
    ths = replace(ths, strategy=name, test_set=test_set, metric="THS")
    shares = {"P_c": 0.5, "P_w": 0.1, "P_r": 0.4, "over_refusal": 0.0625} | shares
    return [replace(ths, metric=metric, mean=mean) for metric, mean in shares.items()] + [ths]


ROW = Row(test_set="", strategy="", metric="", questions=400, seeds=5, against="cor")
TABLE = [
    *strategy("init_basic", replace(ROW, seeds=1, mean=0.0, low=0.0, high=0.0, difference=-0.1), P_r=0.0),
    *strategy("cor", replace(ROW, mean=0.1, low=0.0512, high=0.15)),
    *strategy(
        "craft",
        replace(
            ROW,
            mean=0.1234,
            low=-0.0004,
            high=0.25,
            difference=0.0234,
            difference_low=-0.01,
            difference_high=0.05,
            within_noise=True,
        ),
        P_c=1.0,
        over_refusal=None,
    ),
    *strategy("craft", replace(ROW, questions=1), "sure", P_c=None, P_w=None, P_r=None, over_refusal=None),
]


def compared() -> list[Row]:
    runs = {"craft": {0: verdicts("crwr" * 9), 1: verdicts("crrr" * 9)}, "init": {None: verdicts("ccww" * 9)}}
    baselines = {"one": "ccww" * 9, "two": "cccr" * 9}
    against = {"one": "init", "two": "craft"}
    return rows({name: compare(runs, verdicts(baselines[name]), against[name]) for name in baselines})


# The long table


def test_rows_hold_what_was_compared() -> None:
    found = compared()
    assert [(row.test_set, row.strategy) for row in found[:: len(METRICS)]] == [
        (test_set, name) for test_set in ("one", "two") for name in ("craft", "init")
    ]
    assert [row.metric for row in found] == list(METRICS) * 4
    ths = {(row.test_set, row.strategy): row for row in found if row.metric == "THS"}
    mine = ths["one", "craft"]
    assert (mine.questions, mine.seeds, mine.mean, mine.difference, mine.against) == (36, 2, 0.125, 0.125, "init")
    assert mine.sd == pytest.approx(0.25 / 2**0.5)
    other = ths["one", "init"]
    assert (other.seeds, other.mean, other.low, other.high, other.sd) == (1, 0.0, 0.0, 0.0, None)
    # Nothing is subtracted from itself, and of "two" the baseline is never wrong.
    assert other.difference is other.difference_low is other.difference_high is other.within_noise is None
    assert ths["two", "init"].mean is ths["two", "init"].difference is ths["two", "init"].within_noise is None


def test_parquet_and_csv_read_back_as_they_were(tmp_path: Path) -> None:
    found = [*compared(), *(replace(row, strategy='a,"b"\nc', within_noise=False) for row in TABLE[:5])]
    paths = write_tables(tmp_path / "new", found, NAMES)
    assert [path.name for path in paths] == ["comparison.parquet", "comparison.csv", "comparison.md", "comparison.tex"]
    assert read_records(paths[0], Row) == found
    columns = list(asdict(found[0]))
    assert pq.read_schema(paths[0]).names == columns
    with paths[1].open(newline="") as file:
        read = list(csv.DictReader(file))
    assert list(read[0]) == columns
    kinds = {"questions": int, "seeds": int, "within_noise": lambda text: {"true": True, "false": False}[text]}
    texts = {"test_set", "strategy", "metric", "against"}
    back = [
        {
            name: text if name in texts else None if text == "" else kinds.get(name, float)(text)
            for name, text in row.items()
        }
        for row in read
    ]
    assert back == [asdict(row) for row in found]
    assert paths[2].read_text("utf-8") == to_markdown(found, NAMES)
    assert paths[3].read_text("utf-8") == to_latex(found, NAMES)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(path.name for path in paths)


def test_nothing_compared_is_a_table_without_rows(tmp_path: Path) -> None:
    paths = write_tables(tmp_path, [])
    assert read_records(paths[0], Row) == []
    assert paths[1].read_text() == to_csv([]) == ",".join(asdict(ROW)) + "\n"


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*comparison\.parquet"):
        write_tables(tmp_path / "file", TABLE)


# For people


def test_markdown_by_hand() -> None:
    assert (
        to_markdown(TABLE, NAMES)
        == """\
**held_out**: 400 questions, in points

| strategy | seeds | P_c | P_w | P_r | over-refusal | THS [95 %] | THS - Cor-RAIT [95 %] |
|---|--:|--:|--:|--:|--:|--:|--:|
| init_basic | 1 | 50.0 | 10.0 | 0.0 | 6.2 | 0.0 [0.0, 0.0] | -10.0 [n/a] |
| Cor-RAIT | 5 | 50.0 | 10.0 | 40.0 | 6.2 | 10.0 [5.1, 15.0] | -- |
| CRaFT | 5 | 100.0 | 10.0 | 40.0 | n/a | 12.3 [0.0, 25.0] | +2.3 [-1.0, 5.0] = |

**sure**: 1 question, in points

| strategy | seeds | P_c | P_w | P_r | over-refusal | THS [95 %] | THS - Cor-RAIT [95 %] |
|---|--:|--:|--:|--:|--:|--:|--:|
| CRaFT | 5 | n/a | n/a | n/a | n/a | n/a | n/a |

= within noise: the 95 % interval of the difference, not corrected for many comparisons, holds 0.
"""
    )


def test_latex_by_hand() -> None:
    assert (
        to_latex(TABLE[:-5], NAMES)
        == r"""% needs \usepackage{booktabs}
\begin{tabular}{lrrrrrrr}
\toprule
\multicolumn{8}{l}{held\_out: 400 questions, in points} \\
\midrule
strategy & seeds & $P_c$ & $P_w$ & $P_r$ & over-refusal & THS [95\,\%] & THS $-$ Cor-RAIT [95\,\%] \\
\midrule
init\_basic & 1 & 50.0 & 10.0 & 0.0 & 6.2 & 0.0 [0.0, 0.0] & $-10.0$ [n/a] \\
Cor-RAIT & 5 & 50.0 & 10.0 & 40.0 & 6.2 & 10.0 [5.1, 15.0] & -- \\
CRaFT & 5 & 100.0 & 10.0 & 40.0 & n/a & 12.3 [0.0, 25.0] & $+2.3$ [$-1.0$, 5.0] $^{=}$ \\
\bottomrule
\multicolumn{8}{l}{\footnotesize NOTE} \\
\end{tabular}
""".replace("NOTE", rf"$^{{=}}$ {NOTE}")
    )


def odd_table() -> list[Row]:
    name = ODD + "\nnext\x07line"
    return [replace(row, strategy=name, test_set=name, against=name) for row in TABLE[:5]]


def test_names_are_text_in_markdown() -> None:
    shown = to_markdown(odd_table())
    escaped = r"\[x\]\*a_b\_ %50 \& #1 {\$y^2\$} \~\\n\|\<i\>\` next line"
    assert shown.splitlines()[0].startswith(f"**{escaped}**: ")
    assert f"| {escaped} | 1 |" in shown


def test_names_are_text_in_latex() -> None:
    shown = to_latex(odd_table())
    escaped = (
        r"{[}x{]}{*}a\_b\_ \%50 \& \#1 \{\$y\textasciicircum{}2\$\} "
        r"\textasciitilde{}\textbackslash{}n\textbar{}\textless{}i\textgreater{}` next line"
    )
    assert f"\n{escaped} & 1 &" in shown
    assert f"$-$ {escaped} [95" in shown
    assert f"{{l}}{{{escaped}: 400" in shown


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex here")
def test_latex_compiles(tmp_path: Path) -> None:
    pieces = {"table": to_latex([*TABLE, *odd_table()], NAMES), "main": "\\input{table}"}
    pieces["main"] = (
        f"\\documentclass{{article}}\\usepackage{{booktabs}}\\begin{{document}}{pieces['main']}\\end{{document}}"
    )
    for name, text in pieces.items():
        (tmp_path / f"{name}.tex").write_text(text, "utf-8")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "main.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-2000:]


def printed(found: list[Row], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("COLUMNS", "80")
    print_comparison(found, NAMES)
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and "…" not in shown
    assert max(map(len, shown.splitlines())) <= 80
    return shown.splitlines()


def test_the_terminal_gets_a_table_a_test_set(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [line.split() for line in printed(TABLE, capsys, monkeypatch)]
    assert lines[0] == TITLE.split()
    start = next(n for n, cells in enumerate(lines) if cells[:1] == ["Cor-RAIT"])
    assert lines[start : start + 4] == [
        ["Cor-RAIT", "5", "50.0", "10.0", "40.0", "6.2", "10.0", "--"],
        ["[5.1,", "15.0]"],
        ["CRaFT", "5", "100.0", "10.0", "40.0", "n/a", "12.3", "=", "+2.3"],
        ["[0.0,", "25.0]", "[-1.0,", "5.0]"],
    ]
    assert ["CRaFT", "5", *["n/a"] * 6] in lines
    assert ["=", "within", "noise:"] in [cells[:3] for cells in lines]


def test_a_long_name_is_folded_and_no_number_is_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = replace(ROW, mean=-1.0, low=-1.0, high=-1.0, difference=-1.0, difference_low=-1.0, difference_high=-1.0)
    name = "[bold]a_strategy[/] :smile: of a very long name"
    lines = printed(strategy(name, wide, P_c=1.0), capsys, monkeypatch)
    start = next(n for n, line in enumerate(lines) if "[bold" in line)
    assert lines[start].split()[-7:] == ["5", "100.0", "10.0", "40.0", "6.2", "-100.0", "-100.0"]
    assert lines[start + 1].count("[-100.0, -100.0]") == 2
    width = lines[start].index(" 5 ")
    folded = "".join(line[:width] for line in lines[start : lines.index("Means over seeds and their 95 % intervals.")])
    assert folded.replace(" ", "") == name.replace(" ", "")
