"""Who holds a run folder: told by name, believed while the process lives, recognised when it was killed."""

import json
import os
import platform
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rait.errors import InputError, RaitError
from rait.locking import Holder, holder, is_locked, locked

HOLD = """
import sys, time
from pathlib import Path
from rait.locking import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path: Path):
    """Another process that holds the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_the_second_is_told_who_holds_the_folder(tmp_path: Path, other) -> None:
    with pytest.raises(RaitError) as refusal, locked(tmp_path):
        pass
    who = holder(tmp_path)
    assert who is not None and (who.pid, who.host) == (other.pid, platform.node())
    assert abs((datetime.now(UTC) - datetime.fromisoformat(who.since)).total_seconds()) < 60
    since = f"{datetime.fromisoformat(who.since).astimezone():%Y-%m-%d %H:%M:%S}"
    assert str(refusal.value) == (
        f"another run is at work in {tmp_path} (pid {other.pid}, host {platform.node()}, since {since}); "
        "wait for it, or choose another --out"
    )
    assert is_locked(tmp_path)


def test_a_process_that_was_killed_holds_nothing_and_is_named(tmp_path: Path, other) -> None:
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert not is_locked(tmp_path)
    with locked(tmp_path) as left:
        assert left is not None and left.pid == other.pid
        own = holder(tmp_path)
        assert own is not None and own.pid == os.getpid()
    with locked(tmp_path) as left:
        assert left is None, "the one before ended well"
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_the_folder_is_free_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stop"), locked(tmp_path):
        raise ValueError("stop")
    with locked(tmp_path) as left:
        assert left is None


def saying(since: str, pid: str = "1") -> str:
    return f'{{"pid": {pid}, "host": "h", "since": "{since}"}}'


UNREAL = [saying(since) for since in ("yesterday", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00")]
UNREAL += [saying("2024-02-29T23:59:59+00:00", pid) for pid in ('"x"', "Infinity", "9" * 5000, "[" * 100_000)]


@pytest.mark.parametrize("text", ["", "[]", '{"pid": "x"}', "\x00", *UNREAL], ids=lambda text: text[:60])
def test_a_holder_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / ".holder.json").write_text(text, "utf-8")
    assert holder(tmp_path) is None
    with locked(tmp_path) as left:
        assert left is None


def test_on_another_host_the_message_names_it(tmp_path: Path, other) -> None:
    """As on a network folder, whose lock is that of its server."""
    far = {"pid": 7, "host": "far away", "since": "2024-02-29T23:59:59+00:00"}
    (tmp_path / ".holder.json").write_text(json.dumps(far), "utf-8")
    with pytest.raises(RaitError) as refusal, locked(tmp_path):
        pass
    assert "(pid 7, host far away, since 2024-0" in str(refusal.value)
    assert str(refusal.value).endswith(f"or remove {tmp_path / '.lock'} if that host has gone down")
    assert str(Holder(**far)).startswith("pid 7, host far away, since 2024-0")


def test_a_place_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="as a run folder"), locked(tmp_path / "file"):
        pass


# File systems without locks: the kernel says so by these two.

WITHOUT = """
import errno, fcntl, os
def flock(file, how):
    raise OSError(errno.{kind}, os.strerror(errno.{kind}))
fcntl.flock = flock
"""


def start(script: str, *words: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_where_locks_are_refused_nobody_is_accused(tmp_path: Path) -> None:
    other = start(WITHOUT.format(kind="ENOLCK") + HOLD, tmp_path)
    out, err = other.communicate()
    assert (out, err.splitlines()[-1]) == (
        "",
        f"rait.errors.InputError: cannot use {tmp_path} as a run folder: No locks available; choose another --out",
    )


def test_where_there_are_no_locks_a_file_stands_for_one(tmp_path: Path) -> None:
    script = WITHOUT.format(kind="ENOSYS") + HOLD
    first = start(script, tmp_path)
    assert first.stdout is not None and first.stdout.readline() == "held\n"
    _, err = start(script, tmp_path).communicate()
    assert f"another run is at work in {tmp_path} (pid {first.pid}, " in err.splitlines()[-1]
    first.kill()
    _, err = first.communicate()
    assert err == "", "no warning of a library's"
    third = start(script.replace("time.sleep(60)", ""), tmp_path)
    assert third.communicate() == ("held\n", ""), "what was left by a process that was killed is recognised"
