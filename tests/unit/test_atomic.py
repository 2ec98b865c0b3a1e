"""Writing: a file is whole or as it was before, whatever goes wrong."""

import errno
import json
import os
import stat

import pytest

from disk import largest_file
from rait.errors import InputError
from rait.records import Question
from rait.tables import atomic, prepare_target, read_records, write_json, write_records

OLD = [Question(id="old", question="?", answers=("yes",))]
NEW = [Question(id=str(n), question="?" * 1000, answers=("no",)) for n in range(1000)]
each_suffix = pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "new" / "folder" / "note.txt"
    with atomic(path) as file:
        file.write(b"whole")
        assert not path.exists()

    assert path.read_bytes() == b"whole"
    assert names(path.parent) == ["note.txt"]


@pytest.mark.parametrize("error", [ValueError, InputError, KeyboardInterrupt, SystemExit])
def test_an_error_in_the_block_leaves_the_old_file_and_no_other(error, tmp_path):
    path = tmp_path / "note.txt"
    path.write_bytes(b"old")

    def write_half():
        with atomic(path) as file:
            file.write(b"half")
            file.flush()
            raise error("stop")

    with pytest.raises(error):
        write_half()

    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["note.txt"]


@each_suffix
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_no_other(call, suffix, tmp_path, monkeypatch):
    path = tmp_path / f"questions{suffix}"
    write_records(path, OLD)

    def fail(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(InputError) as failure:
        write_records(path, NEW)
    monkeypatch.undo()

    assert str(failure.value) == (
        f"cannot write {path}: No space left on device; choose another place or free some space"
    )
    assert names(tmp_path) == [path.name]
    assert read_records(path, Question) == OLD


@each_suffix
def test_a_write_that_fails_halfway_leaves_the_old_file_and_no_other(suffix, tmp_path):
    path = tmp_path / f"questions{suffix}"
    write_records(path, OLD)

    with largest_file(2048), pytest.raises(InputError) as failure:
        write_records(path, NEW)

    assert str(failure.value) == f"cannot write {path}: File too large; choose another place or free some space"
    assert names(tmp_path) == [path.name]
    assert read_records(path, Question) == OLD


def test_rows_that_end_in_an_error_leave_the_old_file(tmp_path):
    path = tmp_path / "metrics.json"
    write_json(path, {"ths": None, "name": "é"})
    before = path.read_text("utf-8")

    for bad in ({"ths": float("nan")}, {"ths": object()}):
        with pytest.raises((ValueError, TypeError)):
            write_json(path, bad)

    assert path.read_text("utf-8") == before == '{\n  "ths": null,\n  "name": "é"\n}\n'
    assert json.loads(before) == {"ths": None, "name": "é"}
    assert names(tmp_path) == ["metrics.json"]


def test_a_place_that_cannot_be_written_to_is_told(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder.jsonl").mkdir()

    for place, reason in {"file/q.jsonl": "File exists", "folder.jsonl": "Is a directory"}.items():
        with pytest.raises(InputError) as failure:
            write_records(tmp_path / place, OLD)
        assert str(failure.value) == (
            f"cannot write {tmp_path / place}: {reason}; choose another place or free some space"
        )
    with pytest.raises(InputError, match=r"q\.csv must end in \.jsonl or \.parquet"):
        write_records(tmp_path / "q.csv", OLD)
    assert names(tmp_path) == ["file", "folder.jsonl"]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
@each_suffix
def test_permissions_follow_the_mask_as_for_any_file(suffix, mask, mode, tmp_path):
    path = tmp_path / f"questions{suffix}"
    before = os.umask(mask)
    try:
        write_records(path, OLD)
        assert os.umask(mask) == mask  # and writing leaves the mask alone
    finally:
        os.umask(before)

    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    link = tmp_path / "questions.jsonl"
    link.symlink_to(tmp_path / "disk" / "questions.jsonl")

    write_records(link, OLD)
    write_records(link, NEW[:1])

    assert link.is_symlink()
    assert read_records(tmp_path / "disk" / "questions.jsonl", Question) == NEW[:1]
    assert names(tmp_path / "disk") == ["questions.jsonl"]


def test_what_a_killed_process_left_is_removed_and_what_one_at_work_writes_is_not(tmp_path):
    out = tmp_path / "a[1].jsonl"  # no pattern
    dead, other = tmp_path / ".a[1].jsonl.0123abcd.part", tmp_path / ".b.jsonl.0123abcd.part"
    dead.write_bytes(b"half")
    other.write_bytes(b"of another file")
    with atomic(out) as file:
        file.write(b"whole")
        prepare_target(out)
    assert out.read_bytes() == b"whole"
    assert sorted(path.name for path in tmp_path.iterdir()) == [other.name, out.name]
