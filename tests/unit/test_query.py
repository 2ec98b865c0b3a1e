"""The knowledge query as a stream: in the order of the questions, and the same however they are taken together."""

from dataclasses import replace

import numpy as np
import pytest

from rait.knowledge import query as module
from rait.knowledge.query import query
from rait.models import sampler
from rait.models.loading import LoadedModel
from rait.models.sampler import Sampling, draw
from rait.recipe import Probe
from rait.records import Question
from rait.seeding import seed_for
from tiny import random_model, word_tokenizer

WORDS = ["▁red", "▁blue", "▁old", "Q", "▁who", "▁what", ":", "A", "\n"]
QUESTIONS = [
    Question(id=str(number), question=" ".join(["who", "what", "old"][: 1 + number % 3]), answers=("red",))
    for number in range(23)
]


@pytest.fixture(scope="module")
def loaded():
    tokenizer = word_tokenizer(WORDS)
    return LoadedModel(random_model("llama", len(tokenizer)), tokenizer, "tiny", "")


def embed(texts):
    """A vector of its own for every text, the same each time."""
    return np.stack([np.random.default_rng([*text.encode(), 0]).normal(size=8) for text in texts])


def asked(loaded, questions, told=lambda _: None):
    probe = Probe(samples=6, max_new_tokens=3)
    return query(loaded, questions, lambda question: f"Q: {question.question}\nA:", probe, embed, seed=5, advance=told)


def assert_same(one, other):
    """The same states, up to the rounding of matrix products of other shapes."""
    chances = [[answer.log_probability for answer in state.responses] for state in (one, other)]
    assert chances[0] == pytest.approx(chances[1], abs=1e-4)
    assert one.kurtosis == pytest.approx(other.kurtosis, rel=1e-4)
    assert without_chances(one) == without_chances(other)


def without_chances(state):
    responses = tuple(replace(answer, log_probability=None) for answer in state.responses)
    return replace(state, responses=responses, kurtosis=None)


def test_states_come_in_order_whatever_is_taken_together(loaded, monkeypatch):
    at_once = list(asked(loaded, QUESTIONS))
    assert [state.id for state in at_once] == [question.id for question in QUESTIONS]
    assert len({state.certainty for state in at_once}) > 5
    monkeypatch.setattr(module, "_TOGETHER", 3)
    monkeypatch.setattr(sampler, "WINDOW_QUESTIONS", 5)
    monkeypatch.setattr(sampler, "GROUP_QUESTIONS", 2)
    monkeypatch.setattr(sampler, "STEP_ROWS", 2)
    for state, other in zip(asked(loaded, iter(QUESTIONS)), at_once, strict=True):
        assert_same(state, other)
    for state, question in zip(at_once, QUESTIONS, strict=True):
        assert_same(next(asked(loaded, [question])), state)
        assert sum(answer.count for answer in state.responses) == 6
        right = sum(answer.count for answer in state.responses if answer.text == "red")
        assert state.correctness == right / 6


def test_states_have_what_other_estimators_need(loaded):
    """The sampler's own numbers, rounded, and the greedy answer judged as the samples are."""
    states = list(asked(loaded, QUESTIONS))
    prompts = [f"Q: {question.question}\nA:" for question in QUESTIONS]
    seeds = [seed_for(5, "probe", question.id) for question in QUESTIONS]
    drawn = dict(draw(loaded.model, loaded.tokenizer, prompts, seeds, Sampling(6, 1.0, 3, greedy=True)))
    alone = dict(draw(loaded.model, loaded.tokenizer, prompts, seeds, Sampling(1, 0.0, 3)))
    for index, state in enumerate(states):
        assert {answer.text: answer.count for answer in state.responses} == drawn[index].counts
        for answer in state.responses:
            assert answer.log_probability == pytest.approx(drawn[index].log_probabilities[answer.text], abs=6e-7)
            assert answer.log_probability == round(answer.log_probability, 6) < 0
            assert answer.tokens == drawn[index].tokens[answer.text] >= 1
        assert alone[index].counts == {state.greedy: 1}
        assert state.kurtosis == pytest.approx(drawn[index].kurtosis, rel=6e-6)
    assert all(state.greedy_correct is False for state in states)
    accepted = replace(QUESTIONS[0], answers=(states[0].greedy.upper() or "x", "red"))
    (known,) = asked(loaded, [accepted])
    assert known.greedy_correct is bool(states[0].greedy)


def test_questions_are_read_as_states_are_taken(loaded, monkeypatch):
    monkeypatch.setattr(module, "_TOGETHER", 2)
    monkeypatch.setattr(sampler, "WINDOW_QUESTIONS", 2)
    monkeypatch.setattr(sampler, "GROUP_QUESTIONS", 1)
    monkeypatch.setattr(sampler, "STEP_ROWS", 1)
    read, told = [], []

    def questions():
        for question in QUESTIONS:
            read.append(question.id)
            yield question

    states = asked(loaded, questions(), told.append)
    assert next(states).id == "0"
    assert len(read) < len(QUESTIONS)
    assert [state.id for state in states] == [question.id for question in QUESTIONS[1:]]
    assert sum(told) == len(QUESTIONS)


def test_no_questions_give_no_states(loaded):
    assert list(asked(loaded, [])) == []
