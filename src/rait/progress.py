"""Progress of long work on standard error: a bar on a terminal, a few plain lines in a log.

    with progress("probe initial", total=3497, unit="question") as advance:
        advance(32)

A log gets a line after ten seconds and then ever more seldom, at least every quarter of an hour, each with the rate and
the time left, and one at the end; no carriage returns and no colour.
"""

import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rait.inert import presentable

Advance = Callable[[int], None]
Say = Callable[[str], None]  # tells the user a sentence
_SHORTEST, _LONGEST = 10.0, 900.0  # seconds between two lines
_SPARSER = 0.25  # of the time that has passed lies before the next line
_WARM_UP = 2.0  # seconds whose work says nothing of the speed: start-up, and what was done before an interruption


@contextmanager
def progress(what: str, total: int, unit: str = "it") -> Iterator[Advance]:
    """Show how far `what` has come of `total` units; the block calls the function it gets with the units just done."""
    if sys.stderr.isatty():
        with _bar(what, total, unit) as advance:
            yield advance
    else:
        with _lines(what, total, unit) as advance:
            yield advance


@contextmanager
def _bar(what: str, total: int, unit: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:<30}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total, rate="")
        start = time.monotonic()

        def advance(count: int) -> None:
            bar.advance(task, count)
            speed = bar.tasks[0].speed
            if speed and time.monotonic() - start > _WARM_UP:
                bar.update(task, rate=_rate(speed, unit))

        yield advance


@contextmanager
def _lines(what: str, total: int, unit: str) -> Iterator[Advance]:
    start = since = time.monotonic()
    due = start + _SHORTEST
    done = before = 0  # `before` were done at `since`, from which on the speed is measured

    def advance(count: int) -> None:
        nonlocal done, before, since, due
        first, now = done == 0, time.monotonic()
        done += count
        if first or now - start < _WARM_UP:
            since, before = now, done
        if now < due or done >= total:
            return
        due = now + min(_LONGEST, max(_SHORTEST, _SPARSER * (now - start)))
        line = f"{what}: {done}/{total} ({done / total:.0%})"
        if done > before and now > since:
            speed = (done - before) / (now - since)
            line += f", {_rate(speed, unit)}, {duration((total - done) / speed)} left"
        print(line, file=sys.stderr, flush=True)

    yield advance
    print(f"{what}: {done}/{total} in {duration(time.monotonic() - start)}", file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """A time for people: "8 s", "2 min 4 s", "3 h 5 min", "2 days 3 h"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return _two(*divmod(whole, 60), "min", "s")
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return _two(*divmod(minutes, 60), "h", "min")
    days, hours = divmod(round(seconds / 3600), 24)
    return _two(days, hours, "day" if days == 1 else "days", "h")


def _two(large: int, small: int, large_unit: str, small_unit: str) -> str:
    return f"{large} {large_unit}" + (f" {small} {small_unit}" if small else "")


def _rate(speed: float, unit: str) -> str:
    """Units a second, or seconds a unit where they are slow."""
    return f"{speed:.3g} {unit}/s" if speed >= 1 else f"{1 / speed:.3g} s/{unit}"


def say(line: str) -> None:
    """Tell the user on standard error: wrapped for a terminal, whole in a log."""
    line = presentable(line)
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns
        line = textwrap.fill(line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    print(line, file=sys.stderr, flush=True)
