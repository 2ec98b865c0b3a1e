"""Weights reach the disk whole: flushed before they have their name, never over what is the user's; or it is said."""

import errno
import os
from pathlib import Path

import pytest
from test_bundled import cache, stand_in

from disk import largest_file
from rait.errors import InputError, TrainingError
from rait.export.finished import MARK, new_folder
from rait.models.bundled import gemma_folder
from rait.models.loading import load
from rait.models.saving import put, saving
from rait.recipe import Model, Tuning
from rait.records import Example, Role
from rait.tuning.checkpoints import SEAL
from rait.tuning.sft import fine_tune
from tiny import random_model, save, word_tokenizer

__all__ = ["cache"]  # a fixture

WORDS = ["▁red", "▁blue", "Q", "▁who", "▁what", ":", "A", "▁x", "▁y", "\n"]
EXAMPLES = [
    Example(id=str(number), prompt=f"Q:{who}", completion=" red", role=Role.VANILLA)
    for number, who in enumerate([" who", " what", " x", " y"])
]
TUNING = Tuning(epochs=12, batch_size=4, learning_rate=0.02, lora_rank=2)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    tokenizer = word_tokenizer(WORDS)
    model = random_model("llama", len(tokenizer), spread=0.1)
    return Model(source=str(save(model, tokenizer, tmp_path_factory.mktemp("model"))))


@pytest.fixture
def disk(monkeypatch):
    """What happens to files on the disk, in order: ("flushed", inode, time of its last change), ("renamed", path)."""
    events: list[tuple] = []
    flush, rename, replace = os.fsync, Path.rename, Path.replace

    def fsync(handle):
        flush(handle)
        found = os.fstat(handle)
        events.append(("flushed", found.st_ino, found.st_mtime_ns))

    def noted(real):
        def moved(self, target):
            result = real(self, target)
            events.append(("renamed", Path(target)))
            return result

        return moved

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", noted(rename))
    monkeypatch.setattr(Path, "replace", noted(replace))
    return events


def assert_safe(disk: list[tuple], folder: Path) -> None:
    """Every file of `folder` was flushed as it is now before the folder had its name, and the name after that."""
    named = max(place for place, event in enumerate(disk) if event == ("renamed", folder))
    found = [path.stat() for path in (folder, *folder.rglob("*"))]
    assert len(found) > 2
    for own in found:
        assert ("flushed", own.st_ino, own.st_mtime_ns) in disk[:named]
    above = folder.parent.stat().st_ino
    assert any(event[:2] == ("flushed", above) for event in disk[named:])


def test_what_was_tuned_outlives_a_power_cut(source, tmp_path, disk):
    fine_tune(load(source), EXAMPLES, TUNING, tmp_path, seed=0)
    assert_safe(disk, tmp_path / "adapter")


def test_a_checkpoint_is_on_the_disk_before_its_seal(source, tmp_path, disk):
    fine_tune(load(source), EXAMPLES, TUNING, tmp_path, seed=0)
    (last,) = (tmp_path / "checkpoints").glob("checkpoint-*")
    sealed = disk.index(("renamed", last / SEAL))
    for path in (path for path in last.iterdir() if path.name != SEAL):
        own = path.stat()
        assert ("flushed", own.st_ino, own.st_mtime_ns) in disk[:sealed]
    assert any(event[:2] == ("flushed", last.parent.stat().st_ino) for event in disk[:sealed])


def test_an_export_outlives_a_power_cut(tmp_path, disk):
    with new_folder(tmp_path / "out") as folder:
        (folder / MARK).write_text("{}")
        (folder / "part").mkdir()
        (folder / "part/model.safetensors").write_bytes(b"1")
    assert_safe(disk, tmp_path / "out")


def test_the_model_cache_outlives_a_power_cut(cache, monkeypatch, disk):
    stand_in(monkeypatch)
    assert_safe(disk, gemma_folder())


def test_a_folder_that_cannot_be_flushed_is_no_failure(tmp_path, monkeypatch):
    """Some file systems know no fsync of a folder; of a file it has to be possible."""
    real = os.fsync

    def fsync(handle):
        if os.path.isdir(f"/proc/self/fd/{handle}") or not files:
            raise OSError(errno.EINVAL, "Invalid argument")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    for files in (True, False):
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        (scratch / "a").write_bytes(b"1")
        if files:
            put(scratch, tmp_path / "made")
            assert (tmp_path / "made/a").is_file()
            continue
        with pytest.raises(OSError, match="Invalid argument"):
            put(scratch, tmp_path / "more")
        assert not (tmp_path / "more").exists()


FOREIGN = {
    "weights": lambda path: (path.mkdir(), (path / "adapter_model.safetensors").write_text("weeks of work")),
    "a file": lambda path: path.write_text("weeks of work"),
    "a link": lambda path: (path.with_name("own").mkdir(), path.symlink_to(path.with_name("own"))),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_what_no_tuning_has_made_is_not_replaced(source, tmp_path, what):
    adapter = tmp_path / "adapter"
    FOREIGN[what](adapter)
    (tmp_path / "losses.json").write_text('{"losses": [1.0]}')  # of another program's
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(
        InputError, match=f"{adapter}, where the weights are to go, (was not made by a tuning|is no folder).*; move it"
    ):
        fine_tune(load(source), EXAMPLES, TUNING, tmp_path, seed=0)
    assert sorted(tmp_path.rglob("*")) == before


def test_what_a_tuning_has_made_is_replaced_though_it_is_damaged(source, tmp_path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    fine_tune(load(source), EXAMPLES, TUNING, tmp_path, seed=0)
    kept = (adapter / "adapter_model.safetensors").read_bytes()
    for name in ("adapter_model.safetensors", "rait_base.json"):
        (adapter / name).unlink()
        (tmp_path / "losses.json").write_text('{"rait_format": 1}')  # as whoever tunes leaves it there
        fine_tune(load(source), EXAMPLES, TUNING, tmp_path, seed=0)
        assert (adapter / "adapter_model.safetensors").read_bytes() == kept


SAID = {
    "full": (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
    "not permitted": (PermissionError(errno.EACCES, "Permission denied"), "Permission denied"),
    "torch": (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64"), "inline_container"),
}


@pytest.mark.parametrize("how", SAID)
def test_what_the_disk_does_not_take_is_said(tmp_path, how):
    error, reason = SAID[how]
    words = rf"^cannot write {tmp_path}/a/b: .*{reason}.*; go on$"
    with pytest.raises(InputError, match=words) as found, saving(tmp_path / "a/b", "go on"):
        raise error
    assert found.value.__cause__ is error


@pytest.mark.parametrize("error", [ValueError("no"), OSError(errno.ENOENT, "gone"), TrainingError("a loss")])
def test_what_fails_for_another_reason_is_passed_on(tmp_path, error):
    with pytest.raises(type(error)) as found, saving(tmp_path, "go on"):
        raise error
    assert found.value is error


def test_a_full_disk_is_said_by_its_room(tmp_path, monkeypatch):
    monkeypatch.setattr("rait.models.saving._ROOM", 1 << 70)
    with pytest.raises(InputError, match="no space left"), saving(tmp_path / "a", "go on"):
        raise ValueError("a library's words")


def test_an_export_to_a_full_disk(tmp_path, source):
    """Weights say so in their library's way, other files in Python's; the earlier export stays."""
    out = tmp_path / "out"
    with new_folder(out) as folder:
        (folder / MARK).write_text("{}")
    loaded = load(source)
    for write in (loaded.model.save_pretrained, lambda folder: (folder / "a").write_bytes(bytes(30_000))):
        words = f"cannot write {out}: .*; free some space there, or choose another --out"
        with largest_file(20_000), pytest.raises(InputError, match=words), new_folder(out) as folder:
            write(folder)
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
        assert [path.name for path in out.iterdir()] == [MARK]
