"""Progress in a log: few lines, ever more seldom, no carriage returns, and a true estimate of what is left."""

import io
import re
import sys
from itertools import pairwise

import pytest

from rait import progress
from rait.progress import duration, say


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(progress.time, "monotonic", found)
    return found


def shown(capsys: pytest.CaptureFixture[str]) -> list[str]:
    out, err = capsys.readouterr()
    assert not out
    assert not re.search("[\r\x1b]", err)
    return err.splitlines()


def test_short_work_has_one_line(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress.progress("probe id", 40, "question") as advance:
        for _ in range(40):
            clock.now += 0.2
            advance(1)
    assert shown(capsys) == ["probe id: 40/40 in 8 s"]


def test_lines_tell_rate_and_what_is_left(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress.progress("probe", 100, "question") as advance:
        for _ in range(100):
            clock.now += 0.5
            advance(1)
    lines = shown(capsys)
    assert lines[0] == "probe: 20/100 (20%), 2 question/s, 40 s left"
    assert lines[-1] == "probe: 100/100 in 50 s"


def test_slow_work_has_seconds_a_unit(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress.progress("tune", 4, "step") as advance:
        for _ in range(4):
            clock.now += 30
            advance(1)
    assert shown(capsys) == [
        "tune: 1/4 (25%)",
        "tune: 2/4 (50%), 30 s/step, 1 min left",
        "tune: 3/4 (75%), 30 s/step, 30 s left",
        "tune: 4/4 in 2 min",
    ]


def test_long_work_grows_sparse_and_never_falls_silent(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    moments = []
    hours = 10
    with progress.progress("probe", hours * 3600, "question") as advance:
        for _ in range(hours * 3600):
            clock.now += 1
            advance(1)
            if shown(capsys):
                moments.append(clock.now)
    assert 20 < len(moments) < 100
    gaps = [later - earlier for earlier, later in pairwise(moments)]
    assert min(gaps) >= 10
    assert max(gaps) <= 901
    assert gaps[0] < 15 and gaps == sorted(gaps)


def test_what_was_done_before_an_interruption_is_no_speed(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress.progress("tune", 100, "step") as advance:
        clock.now += 5
        advance(81)  # 80 of them are from a checkpoint
        for _ in range(19):
            clock.now += 5
            advance(1)
    assert shown(capsys)[0] == "tune: 82/100 (82%), 5 s/step, 1 min 30 s left"


def test_work_that_fails_is_not_said_to_be_done(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with progress.progress("tune", 3) as advance:
            advance(1)
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert not shown(capsys)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min"), (124, "2 min 4 s"), (3599.4, "59 min 59 s"), (3599.6, "1 h"),
     (3900, "1 h 5 min"), (86399, "1 day"), (90000, "1 day 1 h"), (183600, "2 days 3 h")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_remark_is_wrapped_on_a_terminal_and_whole_in_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    remark = "rehearsing 24 of 69 questions answered correctly, the best by correctness, then certainty"
    monkeypatch.setenv("COLUMNS", "60")
    for stream in (Terminal(), io.StringIO()):
        monkeypatch.setattr(sys, "stderr", stream)
        say(remark)
        lines = stream.getvalue().splitlines()
        assert " ".join(line.strip() for line in lines) == remark
        assert (len(lines) == 1) is not stream.isatty()
        assert not stream.isatty() or max(map(len, lines)) <= 60


def test_no_color_is_kept_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "stderr", stream := Terminal())
    with progress.progress("probe initial", 3, "question") as advance:
        advance(3)
    assert "probe initial" in stream.getvalue() and "3/3" in stream.getvalue()
    assert not re.search(r"\x1b\[[0-9;]*[34]\d[;m]", stream.getvalue())  # no colour; bold and the like may stay
