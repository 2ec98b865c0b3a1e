"""OpenTriviaQA: multiple-choice questions in blocks of text, gathered by hand.

    for place, found in read_opentriviaqa([Path("history")]): ...

    #Q In which US state is the active Mount Rainier volcano located?
    ^ Washington
    A Michigan
    B Ohio
    C Washington
    D New York

A question may go over several lines and blank ones; there are two options or four. Lines are UTF-8, some with single
bytes of Windows-1252. A closing quote that an earlier conversion broke (its last byte a question mark) is mended; other
characters broken in this way are lost, and their questions are left out, as are those whose options cannot be used and
those that stand there again. Source: https://github.com/uberspot/OpenTriviaQA, CC BY-SA 4.0.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from rait.questions.files import Place
from rait.questions.layout import find_target, identity
from rait.records import LETTERS, Question
from rait.tables import check_readable

_OPTIONS = range(2, 11)
_HEAD = 4096  # bytes in which the first question has to begin
_ESCAPED = re.compile("[\udc80-\udcff]")
_BROKEN_QUOTE = "\udce2\udc80?"  # of E2 80 9D: Windows-1252 has no character 9D
_BROKEN = re.compile("[\udcc2-\udcdf]\\?|[\udce0-\udcef][\udc80-\udcbf]\\?")  # of another character, cut in this way
_UNDEFINED = re.compile("[\udc81\udc8d\udc8f\udc90\udc9d]")  # in Windows-1252


class Dropped(NamedTuple):
    """Why there is no question."""

    reason: str


def is_opentriviaqa(path: Path) -> bool:
    """Whether the first line of a file that holds something begins a question."""
    with check_readable(path).open("rb") as file:
        return file.read(_HEAD).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"#Q")


def read_opentriviaqa(paths: Iterable[Path]) -> Iterator[tuple[Place, Question | Dropped | str]]:
    """Yield each question with the place where it begins, or why it is left out; a text is what is wrong with a file.

    A question is left out that stands before with the same answer, in whichever file.
    """
    answered: set[tuple[str, str]] = set()
    seen: set[str] = set()
    for path in paths:
        for place, block in _blocks(path):
            found = _question(block, path.stem) if isinstance(block, list) else block
            if isinstance(found, Question):
                key = identity(found.question), identity(found.answers[0])
                if key in answered:
                    found = Dropped("the same question with the same answer stands before")
                elif found.id in seen:
                    found = Dropped("the same question and options with another answer stand before")
                else:
                    answered.add(key)
                    seen.add(found.id)
            yield place, found


def _blocks(path: Path) -> Iterator[tuple[Place, list[str] | str]]:
    """Yield the lines of each block from "#Q" on; what is wrong for lines before the first."""
    start = f"{path}:"
    first, block = 0, list[str]()
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            text = _decoded(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line).rstrip()
            if text.startswith("#Q"):
                if block:
                    yield (start, first), block
                first, block = number, [text]
            elif block:
                block.append(text)
            elif text:
                yield (start, number), f"expected '#Q' and a question, found {text[:40]!r}"
    if block:
        yield (start, first), block


def _question(block: list[str], category: str) -> Question | Dropped:
    marks = [place for place, line in enumerate(block) if line.startswith("^")]
    if len(marks) != 1:
        return Dropped("it has no answer" if not marks else "it has several answers")
    if any(map(_ESCAPED.search, block)):
        return Dropped("a character is lost")
    text = "\n".join(block[: marks[0]])[2:].strip()
    answer = block[marks[0]][1:].strip()
    lines = [line for line in block[marks[0] + 1 :] if line]
    options = [line[1:].strip() for line in lines]
    if not text:
        return Dropped("the question is empty")
    if [line[0] for line in lines] != list(LETTERS[: len(lines)]) or any(line[1:2].strip() for line in lines):
        return Dropped("the options are not marked A, B, C ...")
    if len(options) not in _OPTIONS:
        return Dropped("there are not 2 to 10 options")
    if not all(options):
        return Dropped("an option is empty")
    target = find_target(answer, options, target_is="text")
    if isinstance(target, str):
        return Dropped(
            "the answer stands twice among the options" if answer in options else "the answer is none of the options"
        )
    return Question(
        id=identity(text, options),
        question=text,
        answers=(answer,),
        category=category,
        options=tuple(options),
        target=target,
    )


def _decoded(line: bytes) -> str:
    """A line as text; what is lost in it stays a half of a surrogate pair."""
    text = line.decode("utf-8", "surrogateescape").replace(_BROKEN_QUOTE, "”")
    if not _ESCAPED.search(text) or _BROKEN.search(text) or _UNDEFINED.search(text):
        return text
    return _ESCAPED.sub(lambda byte: bytes([ord(byte[0]) - 0xDC00]).decode("cp1252"), text)
