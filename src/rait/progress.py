"""Progress of long work on standard error: a bar with rate and time left on a terminal, a few plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[[int], None]
_SECONDS_BETWEEN_LINES = 20.0


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
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:<34}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total, rate="")

        def advance(count: int) -> None:
            bar.advance(task, count)
            speed = bar.tasks[0].speed
            bar.update(task, rate=f"{speed:.1f} {unit}/s" if speed else "")

        yield advance


@contextmanager
def _lines(what: str, total: int, unit: str) -> Iterator[Advance]:
    start = last = time.monotonic()
    done = 0

    def advance(count: int) -> None:
        nonlocal done, last
        done += count
        now = time.monotonic()
        # The first units carry the start-up of everything: no estimate is better than theirs.
        if now - last >= _SECONDS_BETWEEN_LINES and total > done > total / 50:
            last = now
            left = (now - start) / done * (total - done) if done else 0.0
            print(
                f"{what}: {done}/{total}, {done / (now - start):.2g} {unit}/s, {left:.0f} s left",
                file=sys.stderr,
                flush=True,
            )

    yield advance
    seconds = time.monotonic() - start
    print(f"{what}: {done}/{total} in {seconds:.0f} s", file=sys.stderr, flush=True)


def say(line: str) -> None:
    """Tell the user on standard error."""
    print(line, file=sys.stderr, flush=True)
