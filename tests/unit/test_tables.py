"""Tables: records to files and back, and what bad files get."""

import json
import os
from dataclasses import asdict, dataclass, replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rait.errors import InputError
from rait.records import Answer, Decision, Example, KnowledgeFlow, KnowledgeState, Outcome, Question, Role, Verdict
from rait.tables import check_readable, read_records, read_rows, report_problems, write_records, write_rows

GOOD = {"id": "a", "question": "Who?", "answers": ["me"], "correctness": 0.5, "certainty": 1}


def write_lines(path, *lines):
    """Write lines to a file: bytes as they are, anything else as JSON."""
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines))
    return path


def write_parquet(path, rows):
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def message(path, kind):
    """The error of reading `path`, line by line, with FILE for its path."""
    with pytest.raises(InputError) as failure:
        read_records(path, kind)
    return [line.strip() for line in str(failure.value).replace(str(path), "FILE").splitlines()]


# --- round trips --------------------------------------------------------------------------------------------------

texts = st.text() | st.sampled_from(
    ["a\nb\r\n", "\x00", "\u2028\x85\x1c", "\ufeff", '"\\', "日本語 🦜 e\u0301", "null", "NaN"]
)
shares = st.floats(0, 1)
sigmas = st.floats(-1, 1)
numbers = st.integers(0, 2**63 - 1)
answers = st.lists(texts, max_size=3).map(tuple)
question = {"id": texts, "question": texts, "answers": answers, "category": texts}
records = {
    Question: st.builds(Question, **question),
    KnowledgeState: st.builds(
        KnowledgeState,
        **question,
        correctness=shares,
        certainty=sigmas,
        responses=st.lists(
            st.builds(
                Answer,
                text=texts,
                count=st.integers(min_value=1, max_value=2**63 - 1),
                correct=st.booleans(),
                rule=texts,
                log_probability=st.none() | st.floats(-1e6, 0),
                tokens=st.none() | numbers,
            ),
            max_size=3,
        ).map(tuple),
        greedy=st.none() | texts,
        greedy_correct=st.none() | st.booleans(),
        kurtosis=st.none() | st.floats(0, 1e6),
    ),
    KnowledgeFlow: st.builds(
        KnowledgeFlow,
        id=texts,
        correctness_before=shares,
        correctness_after=shares,
        certainty_before=sigmas,
        certainty_after=sigmas,
    ),
    Decision: st.builds(
        Decision,
        id=texts,
        role=st.sampled_from(Role),
        reason=texts,
        rank=st.none() | st.integers(-(2**63), 2**63 - 1),
        weight=shares,
    ),
    Example: st.builds(Example, id=texts, prompt=texts, completion=texts, role=st.sampled_from(Role), weight=shares),
    Verdict: st.builds(Verdict, **question, response=texts, outcome=st.sampled_from(Outcome), rule=texts),
}
each_kind = pytest.mark.parametrize("kind", records, ids=lambda kind: kind.__name__)
each_suffix = pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])


@each_kind
@each_suffix
@given(data=st.data())
@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read(kind, suffix, tmp_path, data):
    rows = data.draw(st.lists(records[kind], max_size=4, unique_by=lambda record: record.id))
    path = tmp_path / f"rows{suffix}"

    write_records(path, rows, kind)

    assert repr(read_records(path, kind)) == repr(rows)  # the text tells 0.0 from -0.0, and a role from its name
    assert [row for _, row in read_rows(path)] == [json.loads(json.dumps(asdict(row))) for row in rows]


@each_kind
@each_suffix
def test_no_record_is_written_and_read(kind, suffix, tmp_path):
    path = tmp_path / f"none{suffix}"
    for known in (kind, None):
        write_records(path, [], known)
        assert read_records(path, kind) == []
    write_records(path, iter(()), kind)
    if suffix == ".parquet":
        assert pq.read_schema(path).names == list(kind.__dataclass_fields__)


@each_suffix
def test_half_a_surrogate_pair_is_refused_in_writing(suffix, tmp_path):
    path = tmp_path / f"rows{suffix}"
    write_records(path, [Question(id="old", question="?", answers=())])

    with pytest.raises(InputError) as failure:
        write_records(path, [Question(id="a", question="a parrot \ud83e", answers=())])

    assert str(failure.value).startswith(f"cannot write {path}: ")
    assert str(failure.value).endswith(
        "a parrot \\ud83e' ends in half of a surrogate pair, which is no character; remove it"
    )
    assert [record.id for record in read_records(path, Question)] == ["old"]


def test_half_a_surrogate_pair_is_refused_in_reading(tmp_path):
    path = write_lines(tmp_path / "q.jsonl", rb'{"id": "a", "question": "\ud83e\udd9c", "answers": ["\ud83e"]}')

    assert message(path, Question) == [
        "FILE does not hold Question rows:",
        "FILE:1: field 'answers.0': expected no half of a surrogate pair, found '\\ud83e'",
    ]


def test_records_of_several_kinds_are_not_written(tmp_path):
    state = KnowledgeState(**GOOD | {"answers": ("me",)})

    with pytest.raises(TypeError, match="found KnowledgeState, Question"):
        write_records(tmp_path / "q.parquet", [Question(id="b", question="?", answers=()), state])
    with pytest.raises(TypeError, match="found KnowledgeState, Question"):
        write_records(tmp_path / "q.parquet", [state], Question)
    assert list(tmp_path.iterdir()) == []


# --- reading ------------------------------------------------------------------------------------------------------


def test_null_or_nothing_is_the_default_and_further_columns_are_ignored(tmp_path):
    row = GOOD | {"category": None, "responses": [{"text": "me", "count": 3, "correct": True, "rule": None}], "more": 1}
    expected = KnowledgeState(**GOOD | {"answers": ("me",)}, responses=(Answer(text="me", count=3, correct=True),))
    bare = Decision(id="a", role=Role.IDK, reason="by hand")

    for path in (write_lines(tmp_path / "s.jsonl", row), write_parquet(tmp_path / "s.parquet", [row])):
        (state,) = read_records(path, KnowledgeState)
        assert state == expected
        assert type(state.certainty) is float
    assert read_records(
        write_lines(tmp_path / "d.jsonl", {"id": "a", "role": "idk", "reason": "by hand"}), Decision
    ) == [bare]
    nulls = [{"id": "a", "role": "idk", "reason": "by hand", "rank": None}]
    assert read_records(write_parquet(tmp_path / "d.parquet", nulls), Decision) == [bare]


def test_blank_lines_and_byte_order_marks_are_no_rows(tmp_path):
    path = write_lines(tmp_path / "q.jsonl", b"", b"\xef\xbb\xbf" + json.dumps(GOOD).encode() + b"\r", b" \t", b"")

    assert [where for where, _ in read_rows(path)] == [f"{path}:2"]


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("correctness", "0.5", "'correctness': expected a finite number, found '0.5'"),
        ("correctness", True, "'correctness': expected a finite number, found True"),
        ("correctness", float("nan"), "'correctness': expected a finite number, found nan"),
        ("correctness", [0.5], "'correctness': expected a finite number, found [0.5]"),
        ("id", 7, "'id': expected text, found 7"),
        ("id", ["a"], "'id': expected text, found ['a']"),
        ("answers", "me", "'answers': expected a list (text each), found 'me'"),
        ("answers", {"0": "me"}, "'answers': expected a list (text each), found {'0': 'me'}"),
        ("answers", "x" * 99, "'answers': expected a list (text each), found '" + "x" * 56 + "..."),
        ("answers", ["me", None], "'answers.1': expected text, found None"),
        ("responses", ["me"], "'responses.0': expected an object with text, count, correct, found 'me'"),
    ],
)
def test_a_field_of_the_wrong_kind_is_a_problem(field, value, problem, tmp_path):
    path = write_lines(tmp_path / "s.jsonl", GOOD | {field: value})

    assert message(path, KnowledgeState) == ["FILE does not hold KnowledgeState rows:", f"FILE:1: field {problem}"]


@pytest.mark.parametrize("number", ["1e999", "1" + "0" * 400, "NaN", "-Infinity"])
def test_a_number_beyond_every_float_is_a_problem(number, tmp_path):
    line = json.dumps(GOOD).replace('"certainty": 1', f'"certainty": {number}').encode()

    (problem,) = message(write_lines(tmp_path / "s.jsonl", line), KnowledgeState)[1:]
    assert problem.startswith("FILE:1: field 'certainty': expected a finite number, found ")


def test_all_problems_of_a_file_are_reported_in_the_order_of_its_lines(tmp_path):
    answer = {"text": "me", "count": 1.0, "correct": 1}
    path = write_lines(
        tmp_path / "states.jsonl",
        GOOD,
        b'{"id": "b", ',
        GOOD | {"id": "c", "correctness": "1", "certainty": None},
        b"",
        [1, 2],
        GOOD | {"id": "d", "correctness": 1.5},
        b'{"id": "caf\xe9"}',
        GOOD | {"id": "e", "responses": [answer, answer | {"count": 2, "correct": False}, None]},
        GOOD,
        b"[" * 100_000,
        b'{"n": ' + b"9" * 5000 + b"}",
        b"7",
        {"question": "Who?"},
    )

    assert message(path, KnowledgeState) == [
        "FILE does not hold KnowledgeState rows:",
        "FILE:2: not JSON (Expecting property name enclosed in double quotes)",
        "FILE:3: field 'correctness': expected a finite number, found '1'",
        "FILE:3: field 'certainty' is missing",
        "FILE:5: expected an object with named fields, found list",
        "FILE:6: correctness 1.5 of question 'd' is outside 0 to 1",
        "FILE:7: not UTF-8 text",
        "FILE:8: field 'responses.0.count': expected a whole number, found 1.0",
        "FILE:8: field 'responses.0.correct': expected true or false, found 1",
        "FILE:8: field 'responses.2': expected an object with text, count, correct, found None",
        "FILE:9: id 'a' was already used at FILE:1",
        "FILE:10: not JSON (nested too deeply)",
        "FILE:11: not JSON (a number of too many digits)",
        "FILE:12: expected an object with named fields, found int",
        "FILE:13: field 'id' is missing",
        "FILE:13: field 'answers' is missing",
        "FILE:13: field 'correctness' is missing",
        "FILE:13: field 'certainty' is missing",
    ]


def test_twenty_problems_are_shown_and_the_rest_counted(tmp_path):
    letters = "abcdefghijklmnopqrstuvwxy"
    problems = [f"FILE:{n}: field {letter!r} is missing" for n, letter in enumerate(letters, 1)]
    with pytest.raises(InputError) as caught:
        report_problems([*problems, *problems[-1:] * 9], "FILE is wrong")
    # 25 kinds, the last of which comes nine times more.
    assert str(caught.value).split("\n  ") == ["FILE is wrong:", *problems[:20], "... and 14 more"]


def test_what_fits_is_shown_as_it_stands():
    problems = [f"FILE:{n}: field {'ab'[n % 2]!r} is missing" for n in range(20)]
    with pytest.raises(InputError) as caught:
        report_problems(problems, "FILE is wrong")
    assert str(caught.value).split("\n  ") == ["FILE is wrong:", *problems]


def test_problems_that_are_alike_stand_together(tmp_path):
    path = write_lines(tmp_path / "s.jsonl", *(b"broken" if n % 2 else GOOD | {"id": n} for n in range(40)))

    assert message(path, KnowledgeState) == [
        "FILE does not hold KnowledgeState rows:",
        "FILE:1: field 'id': expected text, found 0",
        "FILE:3: field 'id': expected text, found 2",
        "FILE:5: field 'id': expected text, found 4",
        "... and 17 more like this",
        "FILE:2: not JSON (Expecting value)",
        "FILE:4: not JSON (Expecting value)",
        "FILE:6: not JSON (Expecting value)",
        "... and 17 more like this",
    ]


def test_a_missing_field_is_not_like_another():
    rows = [f"q.jsonl:{n}: field {name!r} is missing" for n in range(1, 501) for name in ("id", "answers")]
    with pytest.raises(InputError) as caught:
        report_problems(rows, "q.jsonl is wrong")
    assert str(caught.value).split("\n  ")[1:] == [
        *(line for first in (0, 1) for line in [*rows[first:6:2], "... and 497 more like this"])
    ]


def test_an_id_that_stands_there_three_times_names_the_first(tmp_path):
    path = write_parquet(tmp_path / "s.parquet", [GOOD, GOOD, GOOD])

    assert message(path, KnowledgeState)[1:] == [f"FILE:{row}: id 'a' was already used at FILE:1" for row in (2, 3)]


def test_an_unknown_role_lists_the_known_ones(tmp_path):
    for path in (tmp_path / "d.jsonl", tmp_path / "d.parquet"):
        write_rows(
            path,
            [{"id": "a", "role": "IdK", "reason": ""}],
            pa.schema([(name, pa.string()) for name in ("id", "role", "reason")]),
        )
        assert message(path, Decision)[1:] == [
            "FILE:1: field 'role': expected one of vanilla, idk, dropped, found 'IdK'"
        ]


def test_records_without_an_id_need_none(tmp_path):
    @dataclass(frozen=True)
    class Step:
        loss: float

    write_records(tmp_path / "s.jsonl", [Step(1.0), Step(1.0)])
    assert read_records(tmp_path / "s.jsonl", Step) == [Step(1.0), Step(1.0)]


def test_a_parquet_file_with_wrong_columns_gets_a_sentence_a_column(tmp_path):
    row = {"id": 1, "question": "?", "answers": "me", "correctness": "0.5", "responses": [{"count": 1.5, "text": "me"}]}
    path = write_parquet(tmp_path / "s.parquet", [row] * 100)

    assert message(path, KnowledgeState) == [
        "FILE does not hold KnowledgeState rows:",
        "column 'id': expected text, found int64",
        "column 'answers': expected a list (text each), found string",
        "column 'correctness': expected a finite number, found string",
        "column 'certainty' is missing; found: id, question, answers, correctness, responses",
        "column 'responses': expected a list (an object with text, count, correct each), found "
        "list<element: struct<count: double, text: string>>",
    ]


def test_null_and_nan_in_parquet_are_told_by_row(tmp_path):
    rows = [GOOD, GOOD | {"id": "b", "correctness": None}, GOOD | {"id": "c", "correctness": float("nan")}]

    assert message(write_parquet(tmp_path / "s.parquet", rows), KnowledgeState)[1:] == [
        "FILE:2: field 'correctness' is missing",
        "FILE:3: field 'correctness': expected a finite number, found nan",
    ]


def test_columns_of_other_tools_fit(tmp_path):
    columns = {
        "id": pa.array(["a", "b"]).dictionary_encode(),
        "question": pa.array(["?", "?"], pa.large_string()),
        "answers": pa.array([["me"], []], pa.large_list(pa.string_view())),
        "category": pa.nulls(2),
        "correctness": pa.array([1, 0], pa.int8()),
        "certainty": pa.array([0.5, 1], pa.float32()),
    }
    pq.write_table(pa.table(columns), tmp_path / "s.parquet")

    assert read_records(tmp_path / "s.parquet", KnowledgeState) == [
        KnowledgeState(id="a", question="?", answers=("me",), correctness=1.0, certainty=0.5),
        KnowledgeState(id="b", question="?", answers=(), correctness=0.0, certainty=1.0),
    ]


@pytest.mark.parametrize("keep", [0, 3, 40, -1])
def test_a_damaged_parquet_file_is_told(keep, tmp_path):
    path = write_parquet(tmp_path / "s.parquet", [GOOD | {"id": str(n)} for n in range(50)])
    path.write_bytes(path.read_bytes()[:keep])

    for read in (lambda: read_records(path, KnowledgeState), lambda: list(read_rows(path))):
        with pytest.raises(InputError, match=r"s\.parquet is damaged or cannot be read \(.*\); make it again"):
            read()


def test_parquet_with_damage_inside_is_told(tmp_path):
    path = write_parquet(tmp_path / "s.parquet", [GOOD | {"id": str(n)} for n in range(500)])
    data = bytearray(path.read_bytes())
    data[4:60] = b"\xff" * 56
    path.write_bytes(data)

    with pytest.raises(InputError, match=r"s\.parquet is damaged or cannot be read"):
        read_records(path, KnowledgeState)


def test_broken_lines_follow_the_good_rows(tmp_path):
    path = write_lines(tmp_path / "r.jsonl", GOOD, b"{", {"x": 1}, b"}")
    rows = read_rows(path)

    assert [next(rows), next(rows)] == [(f"{path}:1", GOOD), (f"{path}:3", {"x": 1})]
    with pytest.raises(InputError) as failure:
        next(rows)
    assert str(failure.value).splitlines()[0] == f"{path} has broken lines:"
    assert [line.split(": ")[0].strip() for line in str(failure.value).splitlines()[1:]] == [f"{path}:2", f"{path}:4"]


def test_what_cannot_be_read_is_told(tmp_path):
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "states.csv").write_text("id")

    for name, told in {
        "none.jsonl": "does not exist; check the path",
        "folder.jsonl": "is a folder, expected a file",
        "states.csv": "must end in .jsonl or .parquet: the suffix chooses the format",
        "states.csv/x.jsonl": "cannot be read (Not a directory); check the path and its permissions",
    }.items():
        with pytest.raises(InputError) as failure:
            read_records(tmp_path / name, Question)
        assert str(failure.value) == f"{tmp_path / name} {told}"


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_forbidden_file_is_told(tmp_path):
    path = write_lines(tmp_path / "q.jsonl", GOOD)
    path.chmod(0)

    with pytest.raises(InputError, match=r"cannot be read \(Permission denied\); check the path and its permissions"):
        check_readable(path)


@each_suffix
def test_a_question_may_have_several_examples_that_teach_different_things(tmp_path, suffix):
    first = Example(id="a", prompt="Who?", completion=" me", role=Role.VANILLA, weight=0.25)
    rows = [first, replace(first, completion=" you", weight=0.75)]
    write_records(tmp_path / f"e{suffix}", rows)
    assert read_records(tmp_path / f"e{suffix}", Example) == rows
    write_records(tmp_path / f"e{suffix}", [*rows, first])
    with pytest.raises(InputError, match="id 'a' was already used"):
        read_records(tmp_path / f"e{suffix}", Example)
