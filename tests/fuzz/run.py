"""Fuzz the readers and the matcher, guided by coverage (atheris): each target for so many seconds, or one alone.

    python tests/fuzz/run.py --seconds 60
    python tests/fuzz/run.py --seconds 600 recipe

Begins with the malformed inputs of the tests. What breaks a promise of a target is shown and kept in crash-*; the exit
code is then 1. Needs `pip install atheris`, which has no wheel for every Python.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
NAMES = (
    *("questions.jsonl", "questions.json", "questions.csv", "questions.tsv", "questions.parquet", "questions.mmlu"),
    *("questions.opentriviaqa", "states.jsonl", "states.parquet", "examples.jsonl", "verdicts.jsonl"),
    *("recipe", "override", "asked", "matcher"),
)


def fuzz(target: str, seconds: int, seed: int = 0) -> tuple[bool, str]:
    """Run a target in a process of its own; whether it held, and its last line or what broke it. Seed 0 is any."""
    with tempfile.TemporaryDirectory(prefix="rait-corpus-") as corpus:
        command = [sys.executable, __file__, "--inside", target, "--", corpus]
        limits = [f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=4096", "-max_len=4096", f"-seed={seed}"]
        done = subprocess.run([*command, *limits], capture_output=True, text=True, errors="replace")
    lines = done.stderr.splitlines() + done.stdout.splitlines()
    if done.returncode:
        return False, "\n".join(lines[-40:])
    figures = [match for line in lines if (match := re.search(r"#(\d+)\s.*cov: (\d+)", line))]
    runs = [int(number) for line in lines for number in re.findall(r"Done (\d+) ", line)] or [int(figures[-1][1])]
    return True, f"{runs[-1]} executions, {figures[-1][2]} counters covered" if figures else f"{runs[-1]} executions"


def inside(target: str, arguments: list[str]) -> None:
    """Be the process that is fuzzed."""
    import atheris

    sys.path[:0] = [str(HERE.parent)]
    with atheris.instrument_imports(include=["rait", "yaml", "csv", "json"]):
        from fuzz.seeds import seeds
        from fuzz.targets import TARGETS
    seeds(target, Path(arguments[0]))
    atheris.Setup([sys.argv[0], *arguments], TARGETS[target])
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    chosen = parser.parse_args()
    failed = 0
    for target in chosen.targets or NAMES:
        held, said = fuzz(target, chosen.seconds)
        failed += not held
        print(f"{target}: {said}", flush=True)
    return bool(failed)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        inside(sys.argv[2], sys.argv[4:])
    else:
        sys.exit(main())
