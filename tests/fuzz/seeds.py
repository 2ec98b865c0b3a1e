"""What a fuzzer begins with: the malformed inputs, and good ones."""

from pathlib import Path
from typing import Any

from malformed.cases import EXAMPLE, GOOD, STATE, VERDICT, write
from malformed.recipes import CASES as RECIPES
from malformed.tables import EXAMPLES, STATES, VERDICTS
from malformed.words import CASES as WORDS
from unit.test_malformed import CASES as QUESTIONS
from unit.test_malformed import write as write_questions

_PUT = ('{"question": "Who?", "options": ["a", "b"], "id": 1}', "Who wrote Emma?", '{"question": 3}')
_SAID = (
    *("Paris\x1fI don't know\x1fParis\x1fRome", "I'm sorry, but I do not have the information\x1funknown"),
    *("I don't know, maybe Paris", "B) Rome", "The answer is (A).", "São Tomé", "A or B", "C++", "-3.5"),
    *("Unknown", "1,000,000", "No idea!"),
)


def seeds(target: str, folder: Path) -> int:
    """Write the files that the target begins with into `folder`; how many."""
    name, _, suffix = target.partition(".")
    found: list[Any]
    if name == "questions":
        own = [case for case in QUESTIONS if case.name.endswith(f".{suffix}")] if suffix != "mmlu" else []
        own += [
            case
            for case in QUESTIONS
            if case.name == {"mmlu": "anatomy_test.csv", "opentriviaqa": "history"}.get(suffix)
        ]
        for number, case in enumerate(own):
            write_questions(
                folder / f"{number}.{suffix if suffix not in ('mmlu', 'opentriviaqa') else 'txt'}", case.content
            )
        write(
            folder / f"good.{suffix}",
            GOOD["q.jsonl"] if suffix in ("jsonl", "parquet") else "question,answers\nWho?,a\n",
        )
        return len(own) + 1
    if name in ("states", "examples", "verdicts"):
        tables, row = {"states": (STATES, STATE), "examples": (EXAMPLES, EXAMPLE), "verdicts": (VERDICTS, VERDICT)}[
            name
        ]
        found = [content for case in tables for file, content in case.files.items() if file.endswith(f".{suffix}")]
        found.append([row])
    elif name == "recipe":
        found = [content for case in RECIPES for content in case.files.values()]
    elif name == "override":
        found = [word for case in WORDS for word in case.words.split() if "=" in word] + ["probe.samples=20"]
    else:
        found = list(_PUT if name == "asked" else _SAID)
    found = [content for content in found if len(repr(content)) < 10_000]
    for number, content in enumerate(found):
        write(folder / f"{number}.{suffix or 'txt'}", content)
    return len(found)
