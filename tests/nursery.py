"""Commands as processes of their own that start at once: forks of one that has imported the libraries and nothing else.

    with nursery() as born:
        child = born.start(["run", recipe, "--out", folder], tmp_path / "log")
        os.kill(child.pid, signal.SIGKILL)
        child.wait()        # -9

Every rename that a child asks for stands in the log's `renames`, before it is done, with the child's number.
"""

import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

_HEAVY = ("torch", "transformers", "peft", "datasets", "trl", "sentence_transformers", "sklearn.manifold")
_HEAVY += ("matplotlib.pyplot", "jinja2", "vl_convert", "rait.cli.commands", "rait.pipeline", "rait.tuning.sft")
_HEAVY += ("rait.models.sampler", "rait.models.scoring", "rait.export.run")


@dataclass(frozen=True, slots=True)
class Child:
    """A process that was forked: its number, from 0, and its log."""

    pid: int
    number: int
    log: Path
    nursery: subprocess.Popen[str]

    def ended(self) -> bool:
        """Whether it has ended, and only waits to be asked how."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"

    def wait(self) -> int:
        """The exit code when it has ended; that of a signal is negative."""
        return int(_ask(self.nursery, {"wait": self.pid}))

    def renames(self) -> list[str]:
        """The names that it has given to files, or was about to give, in their order."""
        path = self.log.with_suffix(".renames")
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        return [name for number, _, name in (line.partition(" ") for line in lines) if number == str(self.number)]

    def output(self, stream: str = "err") -> str:
        """What it has printed."""
        return self.log.with_suffix(f".{self.number}.{stream}").read_text("utf-8")


@dataclass(slots=True)
class Nursery:
    """Where children are born."""

    process: subprocess.Popen[str]
    born: int = 0

    def start(self, command: Sequence[object], log: Path) -> Child:
        """Give a command of rait."""
        words = {"argv": ["rait", *map(str, command)], "log": str(log), "number": self.born}
        child = Child(int(_ask(self.process, words)), self.born, log, self.process)
        self.born += 1
        return child

    def run(self, command: Sequence[object], log: Path) -> tuple[int, float]:
        """Let a command end; its exit code, and the seconds it took."""
        since = time.monotonic()
        return self.start(command, log).wait(), time.monotonic() - since


@contextmanager
def nursery() -> Iterator[Nursery]:
    """A process that forks, ended with the block. One thread each; a hash seed of its own, that its children share."""
    alone = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    process = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | alone
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        yield Nursery(process)
    finally:
        process.kill()
        process.communicate()


def _ask(process: "subprocess.Popen[str]", words: dict[str, Any]) -> str:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(json.dumps(words) + "\n")
    process.stdin.flush()
    return process.stdout.readline()


def _serve(asked: IO[str]) -> None:
    for name in _HEAVY:
        __import__(name)
    gc.collect()
    gc.freeze()  # or each child would look through all of it, and so copy it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print("ready", flush=True)
    for line in asked:
        words = json.loads(line)
        if "wait" in words:
            print(os.waitstatus_to_exitcode(os.waitpid(words["wait"], 0)[1]), flush=True)
        elif pid := os.fork():
            print(pid, flush=True)
        else:
            _be(words["argv"], Path(words["log"]), words["number"])


def _be(argv: list[str], log: Path, number: int) -> None:
    """The life of a child."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(log.with_suffix(f".{number}.{name}"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    renames = os.open(log.with_suffix(".renames"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(event: str, given: tuple[Any, ...]) -> None:
        if event == "os.rename":
            os.write(renames, f"{number} {os.fspath(given[1])}\n".encode())

    sys.addaudithook(note)
    sys.argv = argv
    from rait import cli

    code = 1
    try:
        cli.main()
    except SystemExit as leave:
        code = int(leave.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _serve(sys.stdin)
