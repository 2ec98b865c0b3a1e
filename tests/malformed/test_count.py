"""How many kinds of malformed input there are, of every kind."""

from collections import Counter

from integration.test_cli import WRONG
from malformed.test_commands import CASES
from malformed.test_environment import CASES as ENVIRONMENT
from unit.test_malformed import CASES as QUESTIONS

AT_LEAST = {
    "words": 120, "recipes": 200, "states": 50, "examples": 15, "decisions": 10, "influences": 8, "verdicts": 30,
    "questions": 120, "models": 40, "adapters": 40, "runs": 60, "environment": 15,
}  # fmt: skip


def test_there_are_many_of_every_kind():
    found = Counter(case.kind for case in CASES)
    found["questions"] += len({repr(case) for case in QUESTIONS})
    found["words"] += len(WRONG)
    found["environment"] = len({case.name for case in ENVIRONMENT})

    assert not {kind: (found[kind], number) for kind, number in AT_LEAST.items() if found[kind] < number}
    assert found.keys() == AT_LEAST.keys()
    assert found.total() >= 300


def test_each_is_another():
    seen = Counter((case.words, repr(_told_apart(case))) for case in CASES)

    assert not [words for words, times in seen.items() if times > 1]


def _told_apart(case):
    """The files of a case; of a function that makes one its name and what it was made with."""
    return {
        name: (content.__qualname__, content.__closure__ and [cell.cell_contents for cell in content.__closure__])
        if callable(content)
        else content
        for name, content in case.files.items()
    }
