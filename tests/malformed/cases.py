"""What the tables of malformed input have in common: a case, and the good files that stand beside the broken one."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq


class Case(NamedTuple):
    """A command, as it is typed in a folder with the files of `GOOD` and its own, and what the error has to hold.

    Of a file, a list is rows, a function makes its bytes of the good ones, None takes it away. `model`, `adapter` and
    `run` are good folders, there where a command or a file names them.
    """

    kind: str
    words: str
    code: int
    says: str
    files: Mapping[str, Any] = {}
    stdin: str = ""


def lines(*rows: Any) -> str:
    """Rows as JSON Lines."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def write(path: Path, content: Any) -> None:
    """Write text, bytes or rows (of a .parquet file, else as JSON Lines), or change or remove what is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if callable(content):
        path.write_bytes(content(path.read_bytes()))
    elif content is None:
        path.unlink()
    elif isinstance(content, pa.Table):
        pq.write_table(content, path)
    elif isinstance(content, list) and path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(content), path)
    elif isinstance(content, list):
        path.write_text(lines(*content), "utf-8")
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)


QUESTION = {"id": "a", "question": "Where is City1 ?", "answers": ["Land1"]}
RESPONSES = [{"text": "Land1", "count": 2, "correct": True}, {"text": "Land2", "count": 2, "correct": False}]
STATE = QUESTION | {"correctness": 0.5, "certainty": 0.5, "responses": RESPONSES}
OTHER = STATE | {"id": "b", "question": "Where is City2 ?", "correctness": 0.0}
EXAMPLE = {"id": "a", "prompt": "Where is City1 ?", "completion": " Land1", "role": "vanilla"}
DECISION = {"id": "a", "role": "vanilla", "reason": "known"}
INFLUENCE = {"id": "a", "refusal": 0.5, "over_refusal": 0.1}
VERDICT = QUESTION | {"response": "Land1", "outcome": "correct", "rule": "exact"}

GOOD: dict[str, Any] = {
    "q.jsonl": [QUESTION | {"id": str(n), "question": f"Where is City{n} ?"} for n in range(8)],
    "s.jsonl": [STATE, OTHER],
    "e.jsonl": [EXAMPLE, EXAMPLE | {"id": "b", "completion": " unknown", "role": "idk"}],
    "d.jsonl": [DECISION, DECISION | {"id": "b", "role": "idk"}],
    "i.jsonl": [INFLUENCE, INFLUENCE | {"id": "b"}],
    "v.jsonl": [VERDICT, VERDICT | {"id": "b", "outcome": "wrong"}],
}
