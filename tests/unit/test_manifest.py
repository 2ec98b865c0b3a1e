"""Fingerprints, the same for the same data; which steps count; who holds a run folder."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from threading import Event, Thread

import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from rait.book import Book
from rait.errors import DamagedError, InputError, RaitError
from rait.locking import Holder, locked
from rait.manifest import (
    fingerprint_of,
    fingerprint_of_all,
    intact,
    read_manifest,
    recipe_of,
    write_manifest,
)
from rait.recipe import Recipe

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner, max_size=3),
)


@given(st.lists(values, max_size=5))
@settings(deadline=None)
def test_values_one_by_one_have_the_fingerprint_of_their_list(given_values):
    assert fingerprint_of_all(iter(given_values)) == fingerprint_of(given_values)


def test_what_differs_has_another_fingerprint():
    rows = [[], [[]], [["a"]], [["a", "b"]], [["a"], ["b"]], [["a, b"]], [["b"], ["a"]], [["ab"]], ["a"], [["é"]]]
    assert len({fingerprint_of_all(each) for each in rows}) == len(rows)
    assert fingerprint_of({"a": 1, "b": 2}) == fingerprint_of({"b": 2, "a": 1})


def start(folder: Path, seed: int, steps: Sequence[str], questions: str = "") -> list[str]:
    """Go through `steps`, each made of the one before and of the seed; those that were made, not taken."""
    folder.mkdir(exist_ok=True)
    book = Book(folder, lambda _: None)
    book.begin(Recipe(seed=seed))
    made = []
    before = questions
    for name in steps:
        out = folder / f"{name.replace('/', '_')}.txt"
        with book.step(name, {"of": before, "seed": seed if name == "tuning" else 0}, [out]) as todo:
            if todo:
                made.append(name)
                out.write_text(f"{name} of {before} by {seed if name == 'tuning' else 0}", "utf-8")
        before = book.digest(out)
    return made


def counting(folder: Path) -> set[str]:
    return set(read_manifest(folder)["steps"])


STEPS = ("questions", "tuning", "answers")


def test_steps_of_an_earlier_recipe_count_once_the_run_has_come_by_them(tmp_path: Path) -> None:
    assert start(tmp_path, 0, STEPS) == [*STEPS]
    assert counting(tmp_path) == {*STEPS}
    start(tmp_path, 1, [])
    assert counting(tmp_path) == set() and recipe_of(tmp_path).seed == 1
    assert start(tmp_path, 1, STEPS[:1]) == [], "it is the same, and taken"
    assert counting(tmp_path) == {"questions"}
    assert start(tmp_path, 1, STEPS) == ["tuning", "answers"]
    assert counting(tmp_path) == {*STEPS}


def test_with_the_same_recipe_everything_goes_on_counting(tmp_path: Path) -> None:
    start(tmp_path, 0, [*STEPS, "answers/seed-1"])
    assert start(tmp_path, 0, STEPS[:1]) == []
    assert counting(tmp_path) == {*STEPS, "answers/seed-1"}


def test_what_hangs_on_a_changed_file_does_not_count(tmp_path: Path) -> None:
    start(tmp_path, 0, STEPS)
    assert start(tmp_path, 0, STEPS[:1], questions="others") == ["questions"]
    assert counting(tmp_path) == {"questions"}
    start(tmp_path, 0, [*STEPS, "report"], questions="others")
    assert start(tmp_path, 0, ["report"]) == ["report"], "a page is made anew, and the rest is none the worse"
    assert counting(tmp_path) == {*STEPS, "report"}


def test_in_a_manifest_of_an_earlier_version_all_steps_count(tmp_path: Path) -> None:
    start(tmp_path, 0, STEPS)
    path = tmp_path / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    for later in ("confirmed", "checksum", "recipe", "set"):
        del manifest[later]
    manifest["format"] = 1
    path.write_text(json.dumps(manifest), "utf-8")
    assert counting(tmp_path) == {*STEPS}
    start(tmp_path, 0, [])
    assert counting(tmp_path) == {*STEPS}
    path.write_text(json.dumps(manifest), "utf-8")
    start(tmp_path, 1, [])
    assert counting(tmp_path) == set()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"steps": {}}', '{"steps": {"a": 1}, "status": "running"}'])
def test_a_damaged_manifest_is_told(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="holds no manifest"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text(text, "utf-8")
    with pytest.raises(InputError, match="is damaged"):
        read_manifest(tmp_path)
    with pytest.raises(InputError, match="holds no recipe"):
        recipe_of(tmp_path)


def test_no_bit_of_a_manifest_can_turn(tmp_path: Path) -> None:
    start(tmp_path, 3, STEPS[:1])
    path = tmp_path / "manifest.json"
    content = path.read_bytes()
    assert read_manifest(tmp_path)["seed"] == 3
    for place in range(0, len(content), 7):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"manifest\.json is "):
            read_manifest(tmp_path)


@pytest.mark.parametrize(("found", "message"), [(3, "is of format 3, made by a later rait"), (None, None), (1, None)])
def test_the_format_of_a_manifest_is_looked_at(tmp_path: Path, found: int | None, message: str | None) -> None:
    manifest = {"format": found, "status": "running", "steps": {"questions": {"files": {}, "seconds": 1.0}}}
    if found == 3:
        write_manifest(tmp_path, manifest)
    else:
        (tmp_path / "manifest.json").write_text(json.dumps({k: v for k, v in manifest.items() if v}), "utf-8")
    if message is None:
        assert counting(tmp_path) == {"questions"}
        return
    with pytest.raises(InputError, match=message):
        read_manifest(tmp_path)
    with pytest.raises(InputError, match=message):
        start(tmp_path, 0, [])


def test_files_of_a_run_without_its_manifest_are_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "questions").mkdir()
    (tmp_path / "questions/train.parquet").write_text("made in hours")
    with pytest.raises(InputError, match=r"holds files of a run and no manifest\.json"):
        start(tmp_path, 0, STEPS)
    assert (tmp_path / "questions/train.parquet").read_text() == "made in hours"


def again(folder: Path, recipe: Recipe, left: Holder | None = None) -> list[str]:
    """What a start with `recipe` says."""
    said: list[str] = []
    Book(folder, said.append).begin(recipe, left)
    return said


def test_what_has_changed_since_the_last_start_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert again(tmp_path, Recipe()) == []
    assert again(tmp_path, Recipe()) == []
    assert again(tmp_path, Recipe(seed=1)) == ["seed was 0, is 1: what depends on it is done again"]
    tuning = Recipe().tuning.model_copy(update={"epochs": 5.0, "lora_targets": ("q", "v")})
    assert again(tmp_path, Recipe(seed=1, tuning=tuning, strategies=("craft",))) == [
        f'strategies was {json.dumps(list(Recipe().strategies))}, is ["craft"]: what depends on it is done again',
        "tuning.epochs was 3.0, is 5.0: what depends on it is done again",
        f'tuning.lora_targets was "{Recipe().tuning.lora_targets}", is ["q", "v"]: what depends on it is done again',
    ]
    manifest = read_manifest(tmp_path)
    del manifest["recipe"]["tuning"]["max_grad_norm"]  # as if it had come later
    write_manifest(tmp_path, manifest)
    assert again(tmp_path, Recipe(seed=1, tuning=tuning, strategies=("craft",))) == []
    before = read_manifest(tmp_path)["versions"]
    with monkeypatch.context() as other:
        other.setattr("rait.book.version", lambda name: "99.0" if name == "torch" else before[name])
        said = again(tmp_path, Recipe(seed=1, tuning=tuning, strategies=("craft",)))
    assert said == [
        f"made with torch {before['torch']}, now torch 99.0: finished steps are kept, a training that was interrupted "
        "begins anew"
    ]


def test_a_step_keeps_the_versions_that_it_was_made_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start(tmp_path, 0, STEPS[:1])
    mine = read_manifest(tmp_path)["versions"]
    monkeypatch.setattr("rait.book.version", lambda name: "99.0")
    assert start(tmp_path, 0, STEPS) == [*STEPS[1:]]
    steps = read_manifest(tmp_path)["steps"]
    assert steps["questions"]["versions"] == mine
    assert steps["tuning"]["versions"]["torch"] == "99.0"


def test_a_killed_process_is_named_with_its_step(tmp_path: Path) -> None:
    start(tmp_path, 0, [])
    left = Holder(12, "there", "2024-03-01T12:00:00+00:00")
    book = Book(tmp_path, lambda _: None)
    book.begin(Recipe())
    with pytest.raises(KeyboardInterrupt), book.step("craft/tuning", {}, []):
        raise KeyboardInterrupt
    assert again(tmp_path, Recipe(), left) == [f"the last run here ({left}) was killed in step craft/tuning; going on"]
    assert again(tmp_path / "other", Recipe(), left) == [f"the last run here ({left}) was killed; going on"]


def test_a_file_beside_some_other_manifest_belongs_to_no_run(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"name": "a web page"}')
    (tmp_path / "states.jsonl").touch()
    assert intact(tmp_path / "states.jsonl") == tmp_path / "states.jsonl"
    assert intact(tmp_path / "gone.jsonl") == tmp_path / "gone.jsonl"


def test_a_file_is_verified_by_whatever_path_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start(tmp_path / "run", 0, STEPS)
    (tmp_path / "link").symlink_to(tmp_path / "run")
    (tmp_path / "run/tuning.txt").write_text("other")
    monkeypatch.chdir(tmp_path / "run")
    for path in ("tuning.txt", "../run/tuning.txt", tmp_path / "link/tuning.txt", tmp_path / "run" / "tuning.txt"):
        with pytest.raises(DamagedError, match=r"has changed since the run made it, so it is not used; start the run"):
            intact(Path(path))
    for path in ("questions.txt", "../run/answers.txt", "not-listed.txt"):
        assert intact(Path(path)) == Path(path)


def as_nobody(work: Callable[[], object]) -> str:
    """What a process says that is not root: its error, or nothing."""
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        try:
            if os.getuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            work()
        except BaseException as error:
            os.write(writes, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(writes)
    with open(reads, encoding="utf-8") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


def test_what_may_not_be_written_or_read_is_told(request: pytest.FixtureRequest) -> None:
    place = Path(mkdtemp())  # pytest's own is closed to others
    request.addfinalizer(lambda: rmtree(place))
    place.chmod(0o755)
    run, other = place / "run", place / "closed"
    start(run, 0, STEPS)
    other.mkdir(mode=0o755)
    closed = [run, *run.rglob("*"), other]
    for path in closed:
        path.chmod(0o555 if path.is_dir() else 0o444)

    def begin(folder: Path) -> None:
        with locked(folder):
            pass

    assert as_nobody(lambda: read_manifest(run)) == "", "reading needs no more"
    assert as_nobody(lambda: intact(run / "tuning.txt")) == ""
    for folder in (run, other, other / "run"):
        message = as_nobody(lambda folder=folder: begin(folder))
        assert message.startswith(f"InputError: cannot use {folder} as a run folder: Permission denied"), message
    message = as_nobody(lambda: write_manifest(run, {}))
    assert message.startswith(f"InputError: cannot write {run / 'manifest.json'}: Permission denied"), message
    (run / "manifest.json").chmod(0o000)
    message = as_nobody(lambda: read_manifest(run))
    assert message.startswith(f"InputError: {run / 'manifest.json'} cannot be read (Permission denied)"), message
    run.chmod(0o000)
    message = as_nobody(lambda: read_manifest(run))
    assert message.startswith("InputError:") and "Permission denied" in message, message
    run.chmod(0o755)


def test_a_file_that_need_not_be_there_is_the_steps_own_or_is_not_there(tmp_path: Path) -> None:
    out, extra = tmp_path / "out.txt", tmp_path / "extra.json"

    def again(key: str, leaves: str | None) -> bool:
        book = Book(tmp_path, said.append)
        book.begin(Recipe())
        with book.step("probe", {"key": key}, [out], [extra]) as todo:
            if todo:
                out.write_text(key)
                if leaves is not None:
                    extra.write_text(leaves)
        return todo

    said: list[str] = []
    assert again("a", "two failed")
    assert not again("a", "two failed")
    assert again("b", None), "another recipe, in which nothing fails"
    assert not extra.exists(), "so what had failed before does not count for it"
    assert said == []
    assert not again("b", None)
    extra.write_text("by hand")
    assert again("b", None)
    assert said == [f"{extra} was not written down; making it again"]
    assert not extra.exists() and not again("b", None)


def test_notes_from_before_a_step_are_kept_with_it_and_no_other(tmp_path: Path) -> None:
    book = Book(tmp_path, lambda _: None)
    book.begin(Recipe())
    for _ in range(2):  # made, then taken
        book.note("2 left out")
        with book.step("questions", {}, []) as _todo:
            pass
        with book.step("other", {}, []):
            pass
    steps = read_manifest(tmp_path)["steps"]
    assert [steps[name]["notes"] for name in ("questions", "other")] == [["2 left out"], []]


def test_a_folder_that_is_held_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    taken, leave = Event(), Event()

    def look() -> None:
        with FileLock(tmp_path / ".lock"):
            taken.set()
            leave.wait(0.2)

    other = Thread(target=look)
    other.start()
    taken.wait()
    with locked(tmp_path):
        pass
    other.join()
    with FileLock(tmp_path / ".lock"), pytest.raises(RaitError, match="another run is at work"), locked(tmp_path):
        pass
