"""A run folder whose files are lost, damaged or in the way, or whose disk is full: noticed, named, never used."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from disk import largest_file
from rait.errors import DamagedError, InputError, RaitError
from rait.locking import locked
from rait.manifest import intact, read_manifest
from rait.pipeline import run
from rait.recipe import load_recipe

REMEDY = "start the run again"


@pytest.fixture(scope="module")
def recipe(recipe_file, world, tmp_path_factory):
    """With calibration questions, so that there is a dial."""
    folder = tmp_path_factory.mktemp("sets")
    train, test = ((world / f"{name}.jsonl").read_text("utf-8").splitlines() for name in ("train", "id"))
    for name, lines in {"train": train[:66], "calibration": train[66:] + test[:12], "id": test[12:]}.items():
        (folder / f"{name}.jsonl").write_text("".join(line + "\n" for line in lines), "utf-8")
    return load_recipe(
        recipe_file,
        [
            f"questions.source={folder / 'train.jsonl'}",
            f"tests={{id: {{source: {folder / 'id.jsonl'}}}}}",
            f"calibration.source={folder / 'calibration.jsonl'}",
            "strategies=[craft]",
            "tuning.epochs=4",
        ],
    )


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    run(recipe, folder, say=lambda _: None)
    return folder


@pytest.fixture
def copy(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "run"))


def delete(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    """One bit, in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def replace(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "of the user's").write_text("kept")


DAMAGES = (delete, empty, truncate, flip, replace)
each_damage = pytest.mark.parametrize("damage", DAMAGES)


def listed(folder: Path) -> dict[str, list[Path]]:
    """The files of every step, those in folders of weights one by one."""
    found = {}
    for name, step in read_manifest(folder)["steps"].items():
        paths = [folder / file for file in step["files"]]
        found[name] = [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    return found


def content(folder: Path) -> dict[str, bytes]:
    """Every file but those that tell the time: seconds, and the page that shows them."""
    found = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("manifest.json", "report.html", ".lock")
    }
    for name in [name for name in found if name.endswith("losses.json")]:
        found[name] = json.dumps(json.loads(found[name]) | {"seconds": 0}).encode()
    return found


@each_damage
def test_no_reader_takes_a_damaged_file(copy, damage: Callable[[Path], None]) -> None:
    steps = listed(copy)
    assert {"questions", "craft/tuning", "craft/dial", "craft/metrics", "report"} <= steps.keys()
    for path in (path for paths in steps.values() for path in paths):
        if path.name == "rait_dial.json" and path not in steps["craft/dial"]:
            continue
        whole = path.parent if path.parent.name == "adapter" and path.name != "rait_dial.json" else path
        kept = path.read_bytes()
        assert intact(whole) == whole
        damage(path)
        with pytest.raises(DamagedError) as refusal:
            intact(whole)
        assert str(whole) in str(refusal.value) and REMEDY in str(refusal.value)
        shutil.rmtree(path) if path.is_dir() else None
        path.write_bytes(kept)
        assert intact(whole) == whole


@pytest.mark.parametrize("turn", [0, *(pytest.param(turn, marks=pytest.mark.slow) for turn in range(1, len(DAMAGES)))])
def test_a_run_makes_damaged_files_anew(copy, recipe, finished, turn: int) -> None:
    """A file of every step at once, in all turns each kind of damage to each step and, in turn, to its files."""
    said: list[str] = []
    broken = {name: paths[turn % len(paths)] for name, paths in listed(copy).items() if name != "report"}
    assert len(broken) > 15
    for place, path in enumerate(dict.fromkeys(broken.values())):
        DAMAGES[(place + turn) % len(DAMAGES)](path)
    set_aside = [path for path in broken.values() if path.is_dir()]
    run(recipe, copy, say=said.append)
    notes = {name: step["notes"] for name, step in read_manifest(copy)["steps"].items()}
    for name, path in broken.items():
        if path.name == "rait_dial.json":  # in the folder of the adapter, which is damaged, too, and made again
            continue
        whole = path.parent if path.parent.name == "adapter" else path
        note = [each for each in notes[name] if str(whole) in each and "making it again" in each]
        assert note and note[0] in said, (name, path)
    aside = list(copy.rglob("*.aside"))
    assert len(aside) == sum(path.parent.name != "adapter" for path in set_aside)
    for found in aside:
        assert (found / "of the user's").read_text() == "kept"
        shutil.rmtree(found)
    for found in copy.rglob("of the user's"):  # in a folder of weights, which was made anew
        raise AssertionError(found)
    assert content(copy) == content(finished)


@each_damage
def test_a_damaged_manifest_is_refused_and_nothing_is_touched(copy, recipe, damage: Callable[[Path], None], call):
    damage(copy / "manifest.json")
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=r"or empty (the folder|this one) to start over"):
        run(recipe, copy)
    for words in (["report"], ["status"], ["ask"], ["dial"], ["export", "--to", "trl"]):
        code, _, err = call(words[0], copy, *words[1:])
        assert code == 1 and "manifest.json" in err and err.count("\n") <= 2, (words, err)
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


def test_every_command_names_the_damaged_file_and_the_remedy(copy, call, tmp_path, world) -> None:
    """And uses none of it: exit code 1, or a page without it."""
    model = ["--model", world / "model", "prompt.refusal=unknown"]
    adapter, states = copy / "craft/adapter", copy / "knowledge/initial.parquet"
    test = ["--questions", world / "id.jsonl", "--out", tmp_path / "v.jsonl"]
    cases = [
        (adapter / "adapter_model.safetensors", ["evaluate", *model, "--adapter", adapter, *test]),
        (adapter / "rait_dial.json", ["evaluate", *model, "--adapter", adapter, *test]),
        (adapter / "adapter_model.safetensors", ["ask", copy, "--strategy", "craft"]),
        (adapter / "rait_dial.json", ["ask", copy, "--strategy", "craft"]),
        (copy / "questions/train.parquet", ["ask", copy]),
        (copy / "craft/metrics.json", ["ask", copy]),
        (copy / "craft/calibration.verdicts.parquet", ["dial", copy, "--best-ths"]),
        (copy / "craft/dial.json", ["dial", copy]),
        (copy / "craft/examples.jsonl", ["export", copy, "--to", "trl"]),
        (adapter / "adapter_config.json", ["export", copy, "--to", "merged"]),
        (states, ["certainty", states]),
        (states, ["rehearse", *model, "--states", states, "--out", tmp_path / "r"]),
        (states, ["construct", "--initial", states, "--dry-run"]),
        (states, ["flow", "--initial", states, "--rehearsed", states, "--out", tmp_path / "f.jsonl"]),
        (copy / "craft/examples.jsonl",
         ["tune", *model, "--examples", copy / "craft/examples.jsonl", "--out", tmp_path / "t"]),
        (copy / "craft/id.verdicts.parquet", ["score", copy / "craft/id.verdicts.parquet"]),
    ]  # fmt: skip
    for path, words in cases:
        kept = path.read_bytes()
        flip(path)
        code, out, err = call(*words, stdin="Where is City1 ?\n")
        path.write_bytes(kept)
        assert code == 1 and out == "", (words, out, err)
        named = path.parent if path.parent == adapter and path.name != "rait_dial.json" else path
        assert str(named) in err and REMEDY in err and "Traceback" not in err, (words, err)
    flip(copy / "craft/metrics.json")
    code, _, err = call("report", copy)
    assert code == 0 and f"{copy / 'craft/metrics.json'} has changed" in err and REMEDY in err
    assert "craft/metrics.json" in (copy / "report.html").read_text("utf-8")
    code, out, _ = call("status", copy, "--json")
    found = json.loads(out)
    assert found["status"] == "stopped" and "craft" not in found["THS"]
    assert [step["name"] for step in found["steps"] if step["state"] == "missing"] == ["craft/metrics"]
    assert "craft/metrics.json has changed" in found["damaged"][0]


def test_a_dial_that_was_set_by_hand_is_no_damage(copy, recipe, call) -> None:
    left = copy / "craft/.dial.json.0123abcd.part"  # by one that was killed
    left.write_text("{")
    code, _, err = call("dial", copy, "--max-refusal", "0.5", "--save")
    assert code == 0, err
    assert not left.exists()
    assert intact(copy / "craft/dial.json") and intact(copy / "craft/adapter/rait_dial.json")
    code, out, _ = call("dial", copy, "--json")
    assert json.loads(out)["strategies"]["craft"]["target"]["rule"] == "max_refusal"
    flip(copy / "craft/adapter/rait_dial.json")
    with pytest.raises(DamagedError):
        intact(copy / "craft/adapter/rait_dial.json")
    said: list[str] = []
    run(recipe, copy, say=said.append)
    assert any("craft/dial.json was set by hand since the run made it; making it again" in line for line in said)
    assert read_manifest(copy)["set"] == {}


def test_beside_a_run_at_work_what_reads_goes_on_and_what_writes_stops(copy, call) -> None:
    with locked(copy):
        assert call("report", copy)[0] == 0
        assert call("status", copy)[0] == 0
        assert call("export", copy, "--to", "trl")[0] == 0
        for words in (["dial", copy, "--best-ths", "--save"], ["run", copy / "recipe.yaml", "--out", copy]):
            code, _, err = call(*words)
            assert code == 1 and f"another run is at work in {copy} (pid {os.getpid()}, host " in err


def check_whole(folder: Path) -> int:
    """Every step that is written down is whole; their number."""
    if not (folder / "manifest.json").exists():
        return 0
    steps = read_manifest(folder)["steps"]
    for step in steps.values():
        for file in step["files"]:
            intact(folder / file)
    return len(steps)


@pytest.mark.slow
def test_files_that_cannot_grow_stop_a_run_that_goes_on_with_more_room(recipe, finished, tmp_path) -> None:
    folder = tmp_path / "run"
    done = []
    for size in (100, 12_000, 200_000):
        with largest_file(size), pytest.raises(RaitError) as stop:
            run(recipe, folder, say=lambda _: None)
        assert "\n" not in str(stop.value) and str(folder) in str(stop.value), stop.value
        done.append(check_whole(folder))
    assert done == sorted(done) and len(set(done)) == 3, "further each time"
    run(recipe, folder, say=lambda _: None)
    assert content(folder) == content(finished)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of its own, and how to set its size in KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("this process may not mount a disk")
    try:
        yield (
            place,
            lambda size: subprocess.run(
                ["mount", "-o", f"remount,size={size}k", "tmpfs", place], check=True, capture_output=True
            ),
        )
    finally:
        subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.slow
def test_a_full_disk_stops_a_run_that_goes_on_with_more_room(recipe, finished, small_disk) -> None:
    disk, resize = small_disk
    folder, size, done, stops = disk / "run", 32, [], []
    while True:
        resize(size)
        try:
            run(recipe, folder, say=lambda _: None)
            break
        except RaitError as stop:
            assert "\n" not in str(stop), stop
            assert "No space left on device" in str(stop) or "no space left" in str(stop), stop
            stops.append(str(stop))
        done.append(check_whole(folder))
        size = int(size * 1.6)
    assert len(stops) > 4 and done == sorted(done)
    assert content(folder) == content(finished)


def test_a_file_in_place_of_the_folder_is_told(tmp_path, recipe) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file/run"):
        with pytest.raises(InputError, match=r"cannot use .* as a run folder: .*; choose another --out"):
            run(recipe, out)
