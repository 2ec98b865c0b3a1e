"""Fingerprints, the same for the same data; which steps count; who holds a run folder."""

import json
from collections.abc import Sequence
from pathlib import Path
from threading import Event, Thread

import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from rait.errors import InputError, RaitError
from rait.manifest import Book, fingerprint_of, fingerprint_of_all, locked, read_manifest, recipe_of
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
    del manifest["confirmed"]
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
