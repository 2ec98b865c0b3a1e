"""Arbitrary bytes, JSON, YAML and Parquet columns to every reader, and arbitrary texts to the matcher.

What a reader may do with them is said in `fuzz.targets`, which the fuzzer shares: take them and give them back as they
were, or raise an error for the user.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.targets import TARGETS
from rait.choosing import judge_choice
from rait.judging import judge, match, refusal
from rait.records import Outcome

FEW = settings(max_examples=25, deadline=None)
NAMES = (
    "id",
    "question",
    "answers",
    "options",
    "target",
    "correctness",
    "certainty",
    "responses",
    "category",
    "outcome",
)
KEYS = st.sampled_from([*NAMES, "response", "prompt", "completion", "role", "weight", "text", "count", "correct"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.sampled_from(["a", "A", "correct"])
)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=4), inner, max_size=6)
)
ROWS = st.lists(st.dictionaries(KEYS, JSON, max_size=8), max_size=5)
TYPES = st.recursive(
    st.sampled_from(
        [
            *(pa.null(), pa.bool_(), pa.int64(), pa.uint8(), pa.float64(), pa.string(), pa.binary(), pa.large_string()),
            *(pa.date32(), pa.timestamp("us"), pa.decimal128(5, 2), pa.dictionary(pa.int8(), pa.string())),
        ]
    ),
    lambda inner: (
        st.builds(pa.list_, inner)
        | st.builds(lambda kind: pa.struct([("text", kind), ("count", kind)]), inner)
        | st.builds(lambda kind: pa.map_(pa.string(), kind), inner)
    ),
    max_leaves=3,
)
READERS = [
    name for name in TARGETS if name.endswith((".jsonl", ".json", ".csv", ".tsv", ".parquet", ".mmlu", ".opentriviaqa"))
]
LINES = [name for name in READERS if name.endswith(".jsonl")]


def check(name: str) -> Callable[[bytes], None]:
    return TARGETS[name]


@pytest.mark.parametrize("name", [*READERS, "recipe", "override", "asked", "matcher"])
@FEW
@given(data=st.binary(max_size=200))
def test_bytes_end_in_a_sentence_or_come_back(name: str, data: bytes) -> None:
    check(name)(data)


@pytest.mark.parametrize("name", LINES)
@FEW
@given(rows=ROWS)
def test_rows_of_json_end_in_a_sentence_or_come_back(name: str, rows: list[dict[str, Any]]) -> None:
    check(name)("".join(json.dumps(row) + "\n" for row in rows).encode())


@FEW
@given(rows=ROWS | JSON)
def test_a_json_file_too(rows: Any) -> None:
    check("questions.json")(json.dumps(rows).encode())


@pytest.mark.parametrize("name", ["questions.csv", "questions.tsv"])
@FEW
@given(rows=st.lists(st.lists(st.text(max_size=6), max_size=4), max_size=5), head=st.lists(KEYS, max_size=4))
def test_tables_of_text_too(name: str, rows: list[list[str]], head: list[str]) -> None:
    comma = "," if name.endswith("csv") else "\t"
    check(name)("\n".join(comma.join(row) for row in [head, *rows]).encode("utf-8", "replace"))


@pytest.mark.parametrize("name", ["questions.parquet", "states.parquet"])
@FEW
@given(columns=st.dictionaries(KEYS, TYPES, max_size=6), rows=st.integers(0, 2))
def test_any_columns_of_parquet_too(tmp_path_factory: Any, name: str, columns: dict[str, Any], rows: int) -> None:
    path = tmp_path_factory.getbasetemp() / "any.parquet"
    pq.write_table(pa.table({key: pa.nulls(rows, kind) for key, kind in columns.items()}), path)
    check(name)(Path(path).read_bytes())


@FEW
@given(rows=ROWS)
def test_rows_of_parquet_too(tmp_path_factory: Any, rows: list[dict[str, Any]]) -> None:
    path = tmp_path_factory.getbasetemp() / "rows.parquet"
    try:
        pq.write_table(pa.Table.from_pylist(rows), path)
    except (pa.ArrowException, OverflowError, TypeError, UnicodeEncodeError):  # no column has values of several types
        return
    check("questions.parquet")(Path(path).read_bytes())
    check("states.parquet")(Path(path).read_bytes())


SECTIONS = st.sampled_from(
    ["seed", "model", "source", "tests", "probe", "samples", "tuning", "strategies", "dial", "rule"]
)


@FEW
@given(
    data=st.recursive(SCALARS, lambda i: st.lists(i, max_size=3) | st.dictionaries(SECTIONS | SCALARS, i, max_size=5))
)
def test_any_yaml_is_a_recipe_or_ends_in_a_sentence(data: Any) -> None:
    try:
        text = yaml.safe_dump(data, allow_unicode=True)
    except (yaml.YAMLError, UnicodeEncodeError):
        return
    check("recipe")(text.encode("utf-8", "replace"))


@FEW
@given(key=st.lists(SECTIONS | st.text(max_size=3), min_size=1, max_size=3), value=JSON | st.text())
def test_any_override_too(key: list[str], value: Any) -> None:
    check("override")(
        f"{'.'.join(key)}={value if isinstance(value, str) else json.dumps(value)}".encode("utf-8", "replace")
    )


# --- the matcher --------------------------------------------------------------------------------------------------

WORDS = st.sampled_from(
    [
        "I",
        "don't",
        "know",
        "not",
        "sure",
        "Paris",
        "the",
        "B",
        "(A)",
        "é",
        "C++",
        "-1",
        ",",
        ".",
        "unknown",
        "but",
        "maybe",
    ]
)
SAID = st.text(max_size=30) | st.lists(WORDS, max_size=9).map(" ".join)


@given(response=SAID, answers=st.lists(SAID, max_size=4), template=SAID)
def test_the_rules_of_judging_hold_for_any_text(response: str, answers: list[str], template: str) -> None:
    check("matcher")("\x1f".join([response, template, *answers]).encode("utf-8", "replace"))


@given(one=SAID, other=SAID)
def test_one_line_matches_another_as_the_other_matches_it(one: str, other: str) -> None:
    one, other = (" ".join(text.split()) for text in (one, other))  # of an answer all lines count, of a response one
    assert match(one, [other]) == match(other, [one])


@given(answers=st.lists(SAID, min_size=1, max_size=4), data=st.data())
def test_the_order_of_answers_does_not_count(answers: list[str], data: Any) -> None:
    response = data.draw(SAID)
    shuffled = data.draw(st.permutations(answers))
    assert match(response, answers) == match(response, shuffled)
    assert judge(response, answers) == judge(response, shuffled)


@given(answer=SAID, doubt=st.sampled_from(["I don't know", "I'm not sure", "no idea"]))
def test_a_refusal_wins_over_the_answer_beside_it(answer: str, doubt: str) -> None:
    response = f"{doubt}. {' '.join(answer.split())}"
    outcome, rule = judge(response, [answer])
    if not match(response, [answer]):
        assert outcome is Outcome.REFUSED and rule == refusal(response)
        assert judge_choice(f"{doubt}, maybe (B)", ["Rome", "Oslo"], 1)[0] is Outcome.REFUSED


@given(response=st.sampled_from(["Unknown", "I don't know", "No idea"]))
def test_an_accepted_answer_wins_over_a_refusal(response: str) -> None:
    assert judge(response, [response])[0] is Outcome.CORRECT
    assert judge(response, ["Rome"])[0] is Outcome.REFUSED


@pytest.mark.parametrize(
    "part", ["so ", "and i think ", "i dont know ", "(A) ", "answer: ", "really ", "im not sure ", "*", "the "]
)
def test_a_long_response_takes_no_longer_than_its_length(part: str) -> None:
    """Patterns that go back and forth would not end before the tests are stopped."""
    response = part * 20_000
    judge(response, ["Rome"])
    judge_choice(response, ["Rome", "Oslo"], 0)
