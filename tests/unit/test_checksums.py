"""Checksums of large files, which are read once, and never trusted when the file has changed."""

import json
import os
from hashlib import sha256

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rait.models import checksums
from rait.models.checksums import LARGE, checksum
from rait.models.loading import fingerprint

SIZE = LARGE + 4096


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A file that is old enough to be noted, in a folder that holds nothing else."""
    monkeypatch.setenv("RAIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(checksums, "_SETTLED", 0)
    path = tmp_path / "model/model.safetensors"
    path.parent.mkdir()
    path.write_bytes(os.urandom(1 << 16) * (SIZE >> 16) + bytes(SIZE % (1 << 16)))
    return path


def own(path):
    return sha256(path.read_bytes()).hexdigest()


def test_a_large_file_is_read_once(large, tmp_path, monkeypatch):
    assert checksum(large) == own(large)
    (note,) = (tmp_path / "cache/checksums").iterdir()
    assert json.loads(note.read_text())["sha256"] == own(large)
    monkeypatch.setattr(checksums, "read_through", lambda path: pytest.fail("it was read again"))
    assert checksum(large) == own(large)
    link = tmp_path / "link"
    link.symlink_to(large)
    assert checksum(link) == own(large)


def test_a_small_file_is_always_read(large, tmp_path):
    small = tmp_path / "small"
    small.write_bytes(b"1")
    assert checksum(small) == sha256(b"1").hexdigest()
    assert not (tmp_path / "cache").exists()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, SIZE - 1), bit=st.integers(0, 7))
def test_any_bit_is_noticed_though_size_and_time_are_kept(large, place, bit):
    before, mark, times = checksum(large), fingerprint(large.parent), large.stat()
    with large.open("r+b") as file:
        file.seek(place)
        (byte,) = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ 1 << bit]))
    os.utime(large, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert checksum(large) == own(large) != before
    assert fingerprint(large.parent) != mark


def test_another_file_of_the_same_name_size_and_time(large, tmp_path):
    checksum(large)
    times = large.stat()
    other = tmp_path / "other"
    other.write_bytes(bytes(SIZE))
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.replace(large)
    assert checksum(large) == own(large)


def test_what_has_just_changed_is_not_noted(large, tmp_path, monkeypatch):
    """It may be changed again within the clock's resolution."""
    monkeypatch.setattr(checksums, "_SETTLED", 10**15)
    assert checksum(large) == own(large)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", "3", '{"stamp": 1}', "\udcff"])
def test_a_damaged_note_is_written_again(large, tmp_path, text):
    checksum(large)
    (note,) = (tmp_path / "cache/checksums").iterdir()
    good = note.read_bytes()
    note.write_bytes(text.encode(errors="surrogateescape"))
    assert checksum(large) == own(large)
    assert note.read_bytes() == good


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_bit_of_a_note_that_is_turned_is_noticed(large, tmp_path, data):
    """The checksum in it would be taken for the file's: a good adapter refused, a finished run done again."""
    checksum(large)
    (note,) = (tmp_path / "cache/checksums").iterdir()
    text = bytearray(note.read_bytes())
    kept = json.loads(text)["sha256"].encode()
    start = text.index(kept)
    place = data.draw(st.integers(start, start + 63) | st.integers(0, len(text) - 1))
    text[place] ^= 1 << data.draw(st.integers(0, 7))
    note.write_bytes(text)
    assert checksum(large) == kept.decode()


def test_a_cache_that_cannot_be_written_costs_time_alone(large, tmp_path):
    (tmp_path / "cache").write_text("a file")
    assert checksum(large) == own(large)
    assert checksum(large) == own(large)
