"""The stages around the model's work, on files: shards of a probe, rehearsal, flow and construction."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from rait import stages
from rait.commands import construct_to_file, flow_to_file
from rait.construction import construct, summarise
from rait.knowledge.flow import flows
from rait.knowledge.rehearsal import select, target
from rait.models import embedding
from rait.recipe import Probe, Recipe, Rehearsal, load_settings
from rait.records import Answer, Decision, Example, KnowledgeFlow, KnowledgeState, Question, Role
from rait.sets import split_shots
from rait.stages import bare_states, probe_in_shards, rehearsal_examples
from rait.tables import read_records, write_records

LOADED = SimpleNamespace(
    tokenizer=lambda text, **_: {"input_ids": text.split()},
    model=SimpleNamespace(config=SimpleNamespace(get_text_config=lambda: SimpleNamespace(max_position_embeddings=900))),
)
LOADED.tokenizer.bos_token = LOADED.tokenizer.eos_token_id = None
RECIPE = Recipe(probe=Probe(shard=8))


def make_state(question):
    number = int(question.id)
    return KnowledgeState(
        id=question.id,
        question=question.question,
        answers=question.answers,
        correctness=number % 11 / 10,
        certainty=number % 7 / 7,
        responses=tuple(
            Answer(text=f"text {number}/{n}", count=n, correct=n <= number % 11, rule="exact") for n in (5, 3, 2)
        ),
    )


QUESTIONS = [Question(id=str(n), question=f"Q{n}?", answers=(f"gold {n}",)) for n in range(50)]
STATES = [make_state(question) for question in QUESTIONS]


@pytest.fixture
def asked(monkeypatch):
    """A model's work that is made up; the fixture is the list of the ids that were asked."""
    asked = []

    def query(loaded, questions, render, probe, embed, *, seed, advance, say):
        for question in questions:
            asked.append(question.id)
            advance(1)
            yield make_state(question)

    monkeypatch.setattr(stages, "query", query)
    monkeypatch.setattr(embedding, "load_embedder", lambda name, mark: None)
    return asked


def probed(folder, questions=lambda: QUESTIONS, recipe=RECIPE, say=lambda line: None):
    states, failed = probe_in_shards(
        LOADED, questions, {}, recipe, embedder="mark", shards=folder / "shards", what="probe", say=say
    )
    assert not failed
    return states


def test_shards_together_are_the_states_of_all_questions_in_order(asked, tmp_path):
    assert list(probed(tmp_path)) == STATES
    assert asked == [question.id for question in QUESTIONS]
    assert not list(tmp_path.glob("shards/.*")), "nothing half-written is left"


def test_questions_are_taken_and_saved_shard_by_shard(asked, tmp_path):
    looked = []

    def questions():
        looked.append(1)
        for number, question in enumerate(QUESTIONS):
            if len(looked) == 1:  # whether they can be asked
                yield question
                continue
            # They are read a shard at a time, and none of the next shard before this one is saved.
            assert len(asked) == number // 8 * 8
            assert len(list(tmp_path.glob("shards/*.parquet"))) >= number // 8 - 1
            yield question

    assert list(probed(tmp_path, questions)) == STATES


def test_what_is_saved_is_not_asked_again(asked, tmp_path, capsys):
    looked = []

    def interrupted():
        looked.append(1)
        yield from QUESTIONS[:20]
        if len(looked) > 1:
            raise KeyboardInterrupt
        yield from QUESTIONS[20:]

    with pytest.raises(KeyboardInterrupt):
        probed(tmp_path, interrupted)
    saved = len(list(tmp_path.glob("shards/*.parquet"))) * 8
    assert saved == 16
    asked.clear()

    assert list(probed(tmp_path)) == STATES
    assert asked == [question.id for question in QUESTIONS[saved:]]
    assert "probe: 50/50" in capsys.readouterr().err


def test_a_shard_that_is_missing_in_the_middle_is_made_alone(asked, tmp_path):
    whole = list(probed(tmp_path))
    for start in (8, 48):
        (shard,) = tmp_path.glob(f"shards/{start:09d}-*.parquet")
        shard.unlink()
    asked.clear()

    assert list(probed(tmp_path)) == whole
    assert asked == [str(number) for number in (*range(8, 16), 48, 49)]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("rule", ["top", "threshold"])
def test_rehearsal_from_a_file_is_that_of_the_states_in_it(rule, suffix, tmp_path):
    path = tmp_path / f"s{suffix}"
    write_records(path, STATES)
    wanted = Rehearsal(rule=rule, size=7, correctness=0.4, certainty=0.2)
    recipe = load_settings({"rehearsal": wanted.model_dump(), "seed": 3})

    made, note = rehearsal_examples(None, path, recipe)

    chosen = select(STATES, wanted, seed=3)
    assert note == chosen.note
    assert [(example.id, example.completion) for example in made] == [(s.id, f" {target(s)}") for s in chosen.states]
    assert all(example.completion.startswith(" text ") for example in made), "the model's answer, not the gold one"
    assert all(example.prompt.endswith(f"Question: Q{example.id}?\nAnswer:") for example in made)


def test_bare_states_lack_their_responses_alone(tmp_path):
    write_records(tmp_path / "s.parquet", STATES)

    bare = list(bare_states(tmp_path / "s.parquet"))

    assert not any(state.responses for state in bare)
    assert [(s.id, s.answers, s.correctness, s.certainty) for s in bare] == [
        (s.id, s.answers, s.correctness, s.certainty) for s in STATES
    ]


REHEARSED = [replace(state, correctness=(int(state.id) * 3 + 1) % 11 / 10) for state in STATES]


def test_flow_of_files_is_that_of_the_states_in_them(tmp_path):
    write_records(tmp_path / "s0.parquet", STATES)
    write_records(tmp_path / "s1.jsonl", REHEARSED[::-1])

    made = flow_to_file(tmp_path / "s0.parquet", tmp_path / "s1.jsonl", tmp_path / "f.parquet")

    assert made == flows(STATES, REHEARSED)
    assert read_records(tmp_path / "f.parquet", KnowledgeFlow) == made


def test_construction_of_files_is_that_of_the_states_in_them(tmp_path):
    write_records(tmp_path / "s0.parquet", STATES)
    write_records(tmp_path / "s1.parquet", REHEARSED)
    recipe = load_settings({"construction": {"vanilla": 12, "idk": 3}})
    files = [tmp_path / name for name in ("s0.parquet", "s1.parquet", "e.jsonl", "d.jsonl")]

    counts, notes = construct_to_file(recipe, "craft", *files, form="rait", with_model=False)

    settings = recipe.construction.model_copy(update={"seed": recipe.seed})
    expected = construct("craft", STATES, flows(STATES, REHEARSED), settings).decisions
    assert tuple(read_records(files[3], Decision)) == expected
    assert counts == summarise(expected)
    assert notes == ()
    examples = {example.id: example for example in read_records(files[2], Example)}
    assert {id: example.role for id, example in examples.items()} == {
        decision.id: decision.role for decision in expected if decision.role is not Role.DROPPED
    }
    kept = [example for example in examples.values() if example.role is Role.VANILLA]
    assert len(kept) == 12
    assert all(example.completion == f" gold {example.id}" for example in kept)


def test_a_worked_example_of_another_source_is_not_asked(tmp_path):
    """Some questions of MMLU's test split stand in its dev split, too."""
    rows = [Question(id=f"d{n}", question=f"Q{n * 10}?", answers=("x",), category="even") for n in range(4)]
    write_records(tmp_path / "dev.jsonl", rows)
    recipe = load_settings({"prompt.shots_from": {"source": str(tmp_path / "dev.jsonl")}, "prompt.shots": 3})
    told = []

    shots, left = split_shots(QUESTIONS, recipe, told.append)

    assert [shot.id for shot in shots["even"]] == ["d0", "d1", "d2"]
    shown = {shot.question for own in shots.values() for shot in own}
    assert [question.id for question in left] == [q.id for q in QUESTIONS if q.question not in shown]
    assert len(left) == 50 - len(shown) and told[0].startswith(f"{len(shown)} questions are worked examples too")
