"""Tables of any length: a few rows are held at a time, and what is read or written is what the list form gives."""

import json
import secrets
import tracemalloc
from dataclasses import dataclass, replace
from itertools import islice
from typing import ClassVar
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rait import tables
from rait.errors import InputError
from rait.records import Answer, KnowledgeState, Question
from rait.tables import batched, count_rows, iter_records, read_records, write_records

each_suffix = pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
few_rows = mock.patch.object(tables, "_ROWS", 3)  # at once, so that short tables have several row groups


def make_state(number, **changes):
    responses = tuple(Answer(text=f"{number}/{n}", count=n, correct=n == 1, rule="x") for n in (2, 1))
    state = KnowledgeState(
        id=f"q{number}",
        question=f"Q{number}?",
        answers=("a", f"b{number}"),
        category="c",
        correctness=number % 11 / 10,
        certainty=0.5,
        responses=responses,
    )
    return replace(state, **changes)


def write_plain(path, rows, group=4):
    """Rows as another tool would write them: row groups of another size, nothing checked."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=group)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def row(id, **changes):
    return {"id": id, "question": "?", "answers": ["x"], "correctness": 0.5, "certainty": 0.1} | changes


def problems(path, kind=KnowledgeState, **options):
    with pytest.raises(InputError) as failure:
        read_records(path, kind, **options)
    return [line.strip() for line in str(failure.value).replace(str(path), "FILE").splitlines()[1:]]


# --- a few at a time ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Counted:
    """A record that knows how many of its kind there are."""

    id: str
    text: str = ""
    alive: ClassVar[int] = 0
    most: ClassVar[int] = 0

    def __post_init__(self):
        Counted.alive += 1
        Counted.most = max(Counted.most, Counted.alive)

    def __del__(self):
        Counted.alive -= 1


@each_suffix
def test_records_are_let_go_of_as_soon_as_they_are_written(suffix, tmp_path):
    for name, records in (
        ("first", lambda: (Counted(str(n)) for n in range(100))),
        ("second", lambda: iter_records(tmp_path / f"first{suffix}", Counted)),
    ):
        Counted.most = Counted.alive
        with few_rows:
            write_records(tmp_path / f"{name}{suffix}", records(), Counted)
        assert Counted.most <= 3
    assert [record.id for record in iter_records(tmp_path / f"second{suffix}", Counted)] == [str(n) for n in range(100)]


@each_suffix
def test_rows_reach_the_disk_before_the_last_is_made(suffix, tmp_path):
    sizes = []

    def records():
        for number in range(40):
            sizes.append(sum(part.stat().st_size for part in tmp_path.glob(".rows*.part")))
            yield Question(id=str(number), question=secrets.token_hex(4500), answers=())

    with few_rows:
        write_records(tmp_path / f"rows{suffix}", records(), Question)
    assert sizes[-1] > sizes[20] > sizes[5] > 0
    assert sizes[-1] > 30 * 4500  # bytes of randomness, which no compression makes less


@each_suffix
def test_memory_does_not_grow_with_the_rows(suffix, tmp_path):
    """What stays of a row is its id, which must not come again."""
    peaks = []
    for count in (2_000, 8_000):
        write_records(tmp_path / f"{count}{suffix}", map(make_state, range(count)), KnowledgeState)
        with mock.patch.object(tables, "_ROWS", 100):
            tracemalloc.start()
            write_records(tmp_path / f"copy{suffix}", iter_records(tmp_path / f"{count}{suffix}", KnowledgeState))
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert (peaks[1] - peaks[0]) / 6_000 < 200  # bytes a row; a state with its row takes more than 2,000


@each_suffix
def test_reading_begins_before_the_end_is_known(suffix, tmp_path):
    path = write_plain(tmp_path / f"s{suffix}", [row(str(n)) for n in range(9)] + [row("0")])

    with few_rows:
        states = iter_records(path, KnowledgeState)
        assert [state.id for state in islice(states, 9)] == [str(n) for n in range(9)]
        with pytest.raises(InputError, match="'0' was already used"):
            next(states)


@each_suffix
def test_a_source_that_fails_late_leaves_the_old_file(suffix, tmp_path):
    source = write_plain(tmp_path / f"s{suffix}", [row(str(n)) for n in range(9)] + [row("x", correctness=7.0)])
    target = tmp_path / f"t{suffix}"
    write_records(target, [make_state(1)])

    with few_rows, pytest.raises(InputError, match=r"s\.\w+:10: correctness 7\.0 of question 'x' is outside"):
        write_records(target, iter_records(source, KnowledgeState), KnowledgeState)
    assert read_records(target, KnowledgeState) == [make_state(1)]
    assert sorted(path.name for path in tmp_path.iterdir()) == [source.name, target.name]


def test_a_record_of_another_kind_far_down_leaves_nothing(tmp_path):
    mixed = (make_state(n) if n < 9 else Question(id="q", question="?", answers=()) for n in range(10))

    with few_rows, pytest.raises(TypeError, match="found KnowledgeState, Question"):
        write_records(tmp_path / "s.parquet", mixed)
    assert list(tmp_path.iterdir()) == []


# --- the same as the list form ------------------------------------------------------------------------------------

states = st.lists(st.integers(0, 99).map(make_state), max_size=12, unique_by=lambda state: state.id)


@each_suffix
@given(rows=states, chosen=st.sets(st.integers(0, 99).map("q{}".format)))
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_streamed_or_not_and_in_whatever_groups_it_is_the_same(suffix, tmp_path, rows, chosen):
    path, again = tmp_path / f"s{suffix}", tmp_path / f"again{suffix}"
    with few_rows:
        write_records(path, rows, KnowledgeState)
        write_records(again, iter(rows), KnowledgeState)
        assert path.read_bytes() == again.read_bytes()
        assert list(iter_records(path, KnowledgeState)) == rows
        bare = list(iter_records(path, KnowledgeState, without=("responses", "category")))
        some = list(iter_records(path, KnowledgeState, only=chosen))
    assert read_records(path, KnowledgeState) == rows
    assert bare == [replace(state, responses=(), category="") for state in rows]
    assert some == [state for state in rows if state.id in chosen]
    if suffix == ".parquet":
        assert count_rows(path) == len(rows)
        assert pq.ParquetFile(path).num_row_groups == -(-len(rows) // 3)


def test_labels_that_repeat_are_kept_once(tmp_path):
    rows = [make_state(n, category=f"relation {n % 2}") for n in range(4)]
    for path in (tmp_path / "s.jsonl", tmp_path / "s.parquet"):
        write_records(path, rows)
        read = read_records(path, KnowledgeState)
        assert read == rows
        assert read[0].category is read[2].category
        assert read[0].responses[0].rule is read[3].responses[1].rule


@pytest.mark.parametrize(("count", "size"), [(0, 3), (1, 3), (3, 3), (7, 3), (7, 1)])
def test_batches_hold_everything_in_order(count, size):
    batches = list(batched(iter(range(count)), size))

    assert [item for batch in batches for item in batch] == list(range(count))
    assert [len(batch) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    assert all(0 < len(batch) <= size for batch in batches)


# --- what is wrong, wherever it stands ----------------------------------------------------------------------------


@each_suffix
def test_an_id_that_comes_again_groups_later_is_found(suffix, tmp_path):
    ids = ["a", "b", "c", "d", "e", "b", "f", "g", "h", "i", "a", "b"]
    path = write_plain(tmp_path / f"s{suffix}", [row(id) for id in ids])

    with few_rows:
        assert problems(path) == [
            "FILE:6: id 'b' was already used at FILE:2",
            "FILE:11: id 'a' was already used at FILE:1",
            "FILE:12: id 'b' was already used at FILE:2",
        ]


@each_suffix
def test_ids_of_one_hash_are_still_two(suffix, tmp_path):
    """Python hashes of distinct texts may agree; the texts decide."""

    class Same(str):
        __slots__ = ()
        __hash__ = lambda self: 1  # noqa: E731

    path = write_plain(tmp_path / f"s{suffix}", [row(str(n)) for n in range(9)])
    with mock.patch.object(tables, "to_record", lambda kind, found, wrong: Counted(Same(found["id"]))):
        assert [record.id for record in iter_records(path, Counted)] == [str(n) for n in range(9)]


@each_suffix
def test_a_broken_row_of_a_late_group_has_its_number(suffix, tmp_path):
    rows = [row(str(n)) for n in range(20)]
    rows[13]["correctness"] = float("nan")
    rows[18]["answers"] = ["x", None]
    rows[19]["certainty"] = None
    path = write_plain(tmp_path / f"s{suffix}", rows)

    expected = [
        "FILE:14: field 'correctness': expected a finite number, found nan",
        "FILE:19: field 'answers.1': expected text, found None",
        "FILE:20: field 'certainty' is missing",
    ]
    with few_rows:
        assert problems(path) == expected
        assert problems(path, only={"13", "18", "2"}) == expected[:2]
    assert problems(path) == expected


@each_suffix
def test_rows_that_are_not_asked_for_are_not_checked(suffix, tmp_path):
    broken = [{"text": None, "count": 1, "correct": True}]
    rows = [row("a", certainty=None, responses=[]), row("b", responses=[]), row("c", responses=broken)]
    path = write_plain(tmp_path / f"s{suffix}", rows)

    assert [state.id for state in iter_records(path, KnowledgeState, only=["b"])] == ["b"]
    assert [s.id for s in iter_records(path, KnowledgeState, only=["b", "c"], without=["responses"])] == ["b", "c"]
    assert problems(path, only=["b", "c"]) == ["FILE:3: field 'responses.0.text' is missing"]


def test_an_id_of_another_kind_is_not_the_one_asked_for(tmp_path):
    path = write_plain(tmp_path / "s.jsonl", [row(["a"]), row({"a": 1}), row(7), row("a")])

    assert [state.id for state in iter_records(path, KnowledgeState, only=["a", "7"])] == ["a"]
    path.write_text(path.read_text() + "{broken\n")
    assert problems(path, only=["a"]) == ["FILE:5: not JSON (Expecting property name enclosed in double quotes)"]


def test_a_column_that_is_left_out_is_not_even_read(tmp_path):
    path = tmp_path / "s.parquet"
    rows = [make_state(n) for n in range(10)]
    write_records(path, rows)
    data = bytearray(path.read_bytes())
    group = pq.read_metadata(path).row_group(0)
    for place in range(group.num_columns):
        column = group.column(place)
        if column.path_in_schema.startswith("responses"):
            start = column.dictionary_page_offset or column.data_page_offset
            data[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(data)

    assert [state.id for state in iter_records(path, KnowledgeState, without=["responses"])] == [s.id for s in rows]
    with pytest.raises(InputError, match="is damaged or cannot be read"):
        read_records(path, KnowledgeState)
