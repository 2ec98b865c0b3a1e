"""Shards: whatever is damaged, gone or foreign in their folder, the records are those of an undisturbed run."""

import os
from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rait.errors import InputError
from rait.records import KnowledgeState, Question
from rait.shards import in_shards

SIZE = 4


def state_of(question):
    number = int(question.id)
    return KnowledgeState(
        id=question.id,
        question=question.question,
        answers=question.answers,
        correctness=number % 11 / 10,
        certainty=number % 7 / 7,
    )


def questions(count):
    return [Question(id=str(n), question=f"Q{n}?", answers=(f"gold {n}",)) for n in range(count)]


def through(folder, asked, heard, *, stop=None):
    """The records of `asked` by way of shards, the ids that had to be made, and the number that did not."""
    made, skipped = [], []

    def make(items):
        for item in items:
            if item.id == stop:
                raise KeyboardInterrupt
            made.append(item.id)
            yield state_of(item)

    found = in_shards(folder, asked, len(asked), SIZE, KnowledgeState, make, say=heard.append, skip=skipped.append)
    return list(found), made, sum(skipped)


def shards(folder):
    return sorted(folder.glob("*.parquet"))


def test_the_name_is_the_place_and_the_checksum(tmp_path):
    heard = []
    found, made, skipped = through(tmp_path, questions(10), heard)
    assert found == [state_of(question) for question in questions(10)]
    assert (made, skipped, heard) == ([str(n) for n in range(10)], 0, [])
    assert [path.name for path in shards(tmp_path)] == [
        f"{start:09d}-{sha256(path.read_bytes()).hexdigest()[:16]}.parquet"
        for start, path in zip((0, 4, 8), shards(tmp_path), strict=True)
    ]
    assert sorted(tmp_path.iterdir()) == shards(tmp_path), "no temporary file is left"


def flip(path, where):
    content = bytearray(path.read_bytes())
    content[int(where * (len(content) - 1))] ^= 1
    path.write_bytes(content)


def cut(path, where):
    path.write_bytes(path.read_bytes()[: int(where * (path.stat().st_size - 1))])


def lose(path, where):
    path.unlink()


def without_checksum(path, where):
    path.rename(path.with_name(f"{path.name[:9]}.parquet"))


def in_anothers_place(path, where):
    """The content of one shard under the number of another is whole by its checksum, and not what the name says."""
    path.write_bytes(b"nothing")


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(1, 23),
    harm=st.lists(
        st.tuples(
            st.integers(0, 5),
            st.sampled_from([flip, cut, lose, without_checksum, in_anothers_place]),
            st.floats(0, 1, exclude_max=True),
        ),
        max_size=4,
        unique_by=lambda each: each[0],
    ),
)
def test_what_is_harmed_is_named_and_made_again_and_nothing_else(tmp_path_factory, count, harm):
    folder = tmp_path_factory.mktemp("shards")
    asked = questions(count)
    whole, _, _ = through(folder, asked, [])
    paths, again, named = shards(folder), [], 0
    for place, how, where in harm:
        if place < len(paths):
            how(paths[place], where)
            again += asked[place * SIZE : (place + 1) * SIZE]
            named += how is not lose
    heard = []
    found, made, skipped = through(folder, asked, heard)
    assert found == whole
    assert sorted(made, key=int) == sorted((question.id for question in again), key=int)
    assert skipped == count - len(again)
    assert len(heard) == named
    assert all("damaged" in line and str(folder) in line for line in heard)
    assert through(folder, asked, heard)[1:] == ([], count), "and then all is whole"


def test_a_folder_in_the_place_of_a_shard_is_named_and_left_alone(tmp_path):
    through(tmp_path, questions(8), [])
    path = shards(tmp_path)[0]
    path.unlink()
    (path / "mine").mkdir(parents=True)
    with pytest.raises(InputError, match=rf"{path.name} is a folder in the place of a file; move it elsewhere"):
        through(tmp_path, questions(8), [])
    assert (path / "mine").is_dir()
    path.rename(tmp_path / "elsewhere")
    assert through(tmp_path, questions(8), [])[1] == ["0", "1", "2", "3"]


@pytest.mark.parametrize("target", ["gone", "loop", "."])
def test_a_link_in_the_place_of_a_shard_is_removed_and_not_what_it_points_to(tmp_path, target):
    folder = tmp_path / "shards"
    folder.mkdir()
    whole, _, _ = through(folder, questions(4), [])
    (path,) = shards(folder)
    path.unlink()
    (folder / "loop").symlink_to("loop")
    path.symlink_to(target)
    heard = []
    found, made, _ = through(folder, questions(4), heard)
    assert (found, made) == (whole, ["0", "1", "2", "3"])
    assert len(heard) == 1 and f"{path} is damaged" in heard[0] and not path.is_symlink()


@pytest.mark.parametrize("stop", range(11))
def test_an_interruption_costs_the_shard_in_flight(tmp_path, stop):
    asked = questions(11)
    with pytest.raises(KeyboardInterrupt):
        through(tmp_path, asked, [], stop=str(stop))
    found, made, skipped = through(tmp_path, asked, [])
    assert found == [state_of(question) for question in asked]
    assert skipped == stop // SIZE * SIZE
    assert made == [question.id for question in asked[skipped:]]


def test_what_cannot_be_written_leaves_no_shard_that_counts(tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    through(folder, questions(4), [])
    folder.chmod(0o500)
    try:
        if os.access(folder, os.W_OK):
            pytest.skip("this user may write everywhere")
        with pytest.raises(Exception, match="cannot write"):
            through(folder, questions(8), [])
    finally:
        folder.chmod(0o700)
    assert through(folder, questions(8), [])[1] == ["4", "5", "6", "7"]


def test_a_changed_question_is_not_hidden_by_its_shard(tmp_path):
    """The folder's name has to hold what the records depend on: the shards themselves do not look."""
    asked = questions(4)
    through(tmp_path, asked, [])
    found, made, _ = through(tmp_path, [replace(question, answers=("other",)) for question in asked], [])
    assert not made
    assert [state.answers for state in found] == [question.answers for question in asked]


@pytest.mark.parametrize("gone", [(), (0,), (1,), (0, 2), (0, 1, 2)])
def test_what_is_asked_together_does_not_hang_on_what_was_saved_before(tmp_path, gone):
    """A model's last digits depend on its batch, so an interruption must not change who stands in which."""

    def together(items):
        batch = list(items)
        return iter([replace(state_of(item), certainty=int(batch[0].id) / 100) for item in batch])

    def all_of_them():
        return list(in_shards(tmp_path, questions(10), 10, SIZE, KnowledgeState, together, say=lambda _: None))

    undisturbed = all_of_them()
    assert [state.certainty for state in undisturbed] == [0.0] * 4 + [0.04] * 4 + [0.08] * 2
    for path in [shards(tmp_path)[place] for place in gone]:
        path.unlink()
    assert all_of_them() == undisturbed
