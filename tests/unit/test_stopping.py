"""Ctrl-C and SIGTERM in small processes of their own, at the moments at which an exception alone would not do."""

import os
import signal
import subprocess
import sys
import time

import pytest

from rait.cli.stopping import GRACE, INTERRUPTED, Stopped, stoppable

# It says "ready" inside the block; what stands in WORK comes next.
PROGRAM = """
import os, signal, sys, time
from rait.cli import stopping
from rait.cli.stopping import stoppable, Stopped
GRACE
def ready():
    print("ready", flush=True)
try:
    with stoppable():
        WORK
except Stopped as stopped:
    stopping.leave(stopped.number)
"""

SLEEP = """
        ready()
        time.sleep(60)
"""
IN_C = """
        import hashlib
        ready()
        hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # looks at no signal, for minutes
"""
SWALLOWED = """
        class Late:
            def __del__(self):
                ready()
                time.sleep(60)
        Late()
        print("still here", flush=True)
        time.sleep(60)
"""
CAUGHT = """
        try:
            ready()
            time.sleep(60)
        except BaseException:
            raise ImportError("a library's own words")
"""
LEAVING = """
        try:
            ready()
            time.sleep(60)
        except BaseException:
            sys.exit(0)
"""
THREADS = """
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor() as pool:
            pool.submit(time.sleep, 60)
            ready()
            time.sleep(60)
"""
SLOW_TO_UNWIND = """
        try:
            ready()
            time.sleep(60)
        finally:
            ready()
            time.sleep(60)
"""


def start(work, grace=None, before=signal.SIG_DFL):
    code = PROGRAM.replace("GRACE", "" if grace is None else f"stopping.GRACE = {grace}", 1)
    process = subprocess.Popen(
        [sys.executable, "-c", code.replace("WORK", work.strip())],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that put the tests into the background has them, and so their children, ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, before),
    )
    assert process.stdout.readline() == "ready\n"
    return process


def ended(process, code):
    _, err = process.communicate(timeout=30)
    assert process.returncode == code
    return err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("work", [SLEEP, CAUGHT, LEAVING])
def test_it_ends_in_one_sentence(work, number, code):
    process = start(work)
    process.send_signal(number)
    assert ended(process, code) == INTERRUPTED


@pytest.mark.parametrize("work", [IN_C, THREADS])
def test_what_does_not_unwind_is_ended(work):
    process = start(work, grace=0.2)
    process.send_signal(signal.SIGINT)
    assert ended(process, 130) == INTERRUPTED


def test_a_destructor_that_swallows_it_does_not_keep_it_alive():
    process = start(SWALLOWED, grace=60)
    process.send_signal(signal.SIGTERM)
    assert ended(process, 143) == INTERRUPTED, "at once, and without a traceback of Python's own"


def test_asked_again_it_ends_at_once():
    process = start(SLOW_TO_UNWIND, grace=60)
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "ready\n"  # it unwinds, for a minute
    process.send_signal(signal.SIGINT)
    assert ended(process, 130) == INTERRUPTED


def test_what_was_ignored_before_stays_ignored():
    """As under nohup, or in the background of a script."""
    process = start(SLEEP.replace("60", "0.3"), before=signal.SIG_IGN)
    process.send_signal(signal.SIGINT)
    assert ended(process, 0) == ""


def test_the_time_to_unwind_keeps_the_promise_of_five_seconds():
    assert 1 < GRACE <= 4.5


def test_without_a_signal_nothing_is_left_behind():
    fds, handlers = set(os.listdir("/proc/self/fd")), [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    for _ in range(20):
        with stoppable():
            pass
        with pytest.raises(ValueError), stoppable():
            raise ValueError
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    deadline = time.monotonic() + 5
    while set(os.listdir("/proc/self/fd")) != fds and time.monotonic() < deadline:  # the watching threads end
        time.sleep(0.01)
    assert set(os.listdir("/proc/self/fd")) == fds


def test_no_library_takes_it_for_something_that_it_may_handle():
    assert not issubclass(Stopped, Exception) and not issubclass(Stopped, KeyboardInterrupt)
