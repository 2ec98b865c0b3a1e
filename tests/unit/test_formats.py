"""Formats: none is the first, a later one is refused, an earlier one is brought up to date or refused."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rait.diagnosis import read_features
from rait.errors import InputError
from rait.formats import FORMAT, MARK, check_format, current
from rait.records import Question
from rait.tables import read_data, read_records, write_data, write_records

ROWS = [Question(id="a", question="?", answers=("yes",))]
PATH = Path("made.json")


def test_data_are_migrated_step_by_step() -> None:
    migrations = {2: lambda data: {**data, "b": data["a"] + 1}, 3: lambda data: {"b": data["b"] * 10}}
    assert current({"form": 2, "a": 1}, PATH, mark="form", newest=4, migrations=migrations) == {"b": 20}
    assert current({"form": 3, "b": 1}, PATH, mark="form", newest=4, migrations=migrations) == {"b": 10}
    assert current({"form": 4, "b": 1}, PATH, mark="form", newest=4, migrations=migrations) == {"b": 1}
    with pytest.raises(InputError, match=r"made\.json is of format 1, which this version of rait, of format 4, no lo"):
        current({"a": 1}, PATH, mark="form", newest=4, migrations=migrations)
    with pytest.raises(InputError, match=r"made\.json is of format 5, made by a later rait; .* up to 4: update rait"):
        current({"form": 5}, PATH, mark="form", newest=4, migrations=migrations)


@pytest.mark.parametrize("found", [0, -1, 1.0, "1", True, [], {}])
def test_what_is_no_number_of_a_format_is_damage(found: object) -> None:
    with pytest.raises(InputError, match=r"made\.json is damaged: its format is"):
        check_format(found, PATH)


def test_json_carries_its_format_and_reads_without_one(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    write_data(path, {"id": {"THS": None}})
    assert json.loads(path.read_text("utf-8")) == {MARK: FORMAT, "id": {"THS": None}}
    assert read_data(path) == {"id": {"THS": None}}
    path.write_text('{"id": 1}', "utf-8")
    assert read_data(path) == {"id": 1}
    path.write_text(json.dumps({MARK: FORMAT + 1}), "utf-8")
    with pytest.raises(InputError, match="update rait"):
        read_data(path)
    for text in ("", "[]", "{", "\x00", "null", "[" * 100_000):
        path.write_text(text, "utf-8")
        with pytest.raises(InputError, match=r"metrics\.json is damaged or cannot be read"):
            read_data(path)


def test_tables_carry_their_format_and_read_without_one(tmp_path: Path) -> None:
    path = tmp_path / "questions.parquet"
    write_records(path, ROWS)
    assert pq.read_schema(path).metadata == {MARK.encode(): str(FORMAT).encode()}
    assert read_records(path, Question) == ROWS
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata(None), path)
    assert read_records(path, Question) == ROWS
    for mark, message in {str(FORMAT + 1): "update rait", "x": "is damaged: its format"}.items():
        pq.write_table(table.replace_schema_metadata({MARK: mark}), path)
        with pytest.raises(InputError, match=message):
            read_records(path, Question)


def test_features_of_a_later_format_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "features.parquet"
    points = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(2, dtype=np.float32)), 2)
    table = pa.table({"set": ["train"], "id": ["a"], "features": points})
    pq.write_table(table, path)
    assert read_features(path, "train", {"a"})[0] == ["a"]
    pq.write_table(table.replace_schema_metadata({MARK: str(FORMAT + 1)}), path)
    with pytest.raises(InputError, match="update rait"):
        read_features(path, "train", {"a"})


def test_a_flipped_bit_in_a_table_is_no_other_value(tmp_path: Path) -> None:
    """Whatever bit of the values is flipped: the page's checksum tells."""
    path = tmp_path / "questions.parquet"
    write_records(path, [Question(id=f"number {n}", question="Which?", answers=(f"{n * n}",)) for n in range(40)])
    whole, content = read_records(path, Question), path.read_bytes()
    group = pq.read_metadata(path).row_group(0)
    ends = [group.column(n).total_compressed_size for n in range(group.num_columns)]
    for place in range(4, 4 + sum(ends), 7):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            assert read_records(path, Question) == whole
        except InputError:
            continue
