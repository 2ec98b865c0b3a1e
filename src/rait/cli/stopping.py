"""An end within seconds, asked for by Ctrl-C (SIGINT) or SIGTERM, whatever the process is in the middle of.

    try:
        with stoppable():
            work()
    except Stopped as stopped:
        leave(stopped.number)

The exception unwinds the work, so that what is half written is removed. Where it does not come through in time (a long
call into C, a library that waits for its threads), where a destructor swallows it, and where the signal comes again,
the process ends at once. Nothing is lost by that: a file gets its name when it is whole. A signal that whoever started
the process has it ignore (nohup) stays ignored.
"""

import os
import signal
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Lock, Thread
from typing import Any

GRACE = 4.0  # seconds that the work has to unwind
INTERRUPTED = "\nInterrupted. Whatever was saved is kept: give the same command again to go on.\n"

_leaving = Lock()  # held from then on
_SHOW_CURSOR = "\x1b[?25h"  # which a progress bar hides


class Stopped(BaseException):
    """The process was asked to end; `number` is the signal's.

    Not KeyboardInterrupt, of which libraries on the way make exit codes of their own.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise `Stopped` when SIGINT or SIGTERM comes during the block, and end the process if that does not end it."""
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
    asked: list[int] = []

    def stop(number: int, frame: Any) -> None:
        if asked:
            return leave(number)
        asked.append(number)
        raise Stopped(number)

    def swallowed(found: Any) -> None:
        if isinstance(found.exc_value, Stopped):  # by a destructor: it will not unwind the work any more
            leave(found.exc_value.number)
        hook(found)

    over = Event()
    heard, wake = os.pipe()  # a handler runs between two steps of Python alone; a byte comes here during a call into C
    os.set_blocking(wake, False)
    Thread(target=_watch, args=(heard, numbers, over), daemon=True).start()
    woken = signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    before = {number: signal.signal(number, stop) for number in numbers}
    hook, sys.unraisablehook = sys.unraisablehook, swallowed
    try:
        yield
    except BaseException as error:
        if not asked:
            raise
        # Whatever a library made of it. The watch goes on until the process has ended.
        raise Stopped(asked[0]) from error
    finally:
        if not asked:
            over.set()
            sys.unraisablehook = hook
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(woken)
            os.close(wake)


def _watch(heard: int, numbers: Collection[int], over: Event) -> None:
    """Wait for a signal, and end the process if the block is not over in time."""
    with os.fdopen(heard, "rb", buffering=0) as pipe:
        while byte := pipe.read(1):
            if byte[0] in numbers:
                if not over.wait(GRACE):
                    leave(byte[0])
                return


def leave(number: int) -> None:
    """End the process at once, with the sentence and the exit code of one that was interrupted."""
    if not _leaving.acquire(blocking=False):  # it is being done, perhaps by what this signal has interrupted
        return
    with suppress(OSError):
        os.write(2, ((_SHOW_CURSOR if os.isatty(2) else "") + INTERRUPTED).encode())
    os._exit(128 + number)
