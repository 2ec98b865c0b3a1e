"""Numbers that are NaN or infinite stop a stage, and the questions that they belong to are named."""

import numpy as np
import pytest
import torch

from rait.errors import NotFiniteError
from rait.evaluation.answering import answer
from rait.knowledge.query import query
from rait.models.features import last_states
from rait.models.loading import LoadedModel
from rait.prompting import Renderer
from rait.recipe import Evaluation, Probe, Prompt
from rait.records import Question
from tiny import random_model, word_tokenizer

NAMES = ["Ada", "Bob", "Cleo", "Dora", "Egon", "Faye"]
WORDS = [f"▁{word}" for word in ("is", "?", "I", "don't", "know", "A", "B", *NAMES)]
TOKENS = [*WORDS, "Question:", "▁Who", "Answer:", "\n", "A.", "B."]
ASKED = [
    Question(id=f"{first}/{second}", question=f"Who is {first} {second} ?", answers=("Bob",))
    for first in NAMES
    for second in NAMES
]
CHOICES = [
    Question(id=one.id, question=one.question, answers=("Bob",), options=("Bob", "Ada"), target=0) for one in ASKED
]
BROKEN = [question.id for question in ASKED if "Egon" in question.id]


@pytest.fixture(scope="module", params=[float("nan"), float("inf")])
def loaded(request):
    """A model that is broken after one name alone."""
    tokenizer = word_tokenizer(TOKENS)
    model = random_model("llama", len(tokenizer), seed=2)
    model.config.tie_word_embeddings = False
    with torch.no_grad():
        model.get_input_embeddings().weight[tokenizer.convert_tokens_to_ids("▁Egon")] = request.param
    return LoadedModel(model, tokenizer, "tiny", "tiny")


def embed(texts):
    return np.stack([np.eye(5, dtype=np.float32)[len(text) % 5] for text in texts])


def render(loaded, choice="letter", **settings):
    return Renderer(loaded.tokenizer, Prompt(instruction="", refusal_instruction="", choice=choice), **settings)


def named(failure):
    """An error names a broken question, with those that were read together with it: 0 times NaN is NaN."""
    assert not set(BROKEN).isdisjoint(failure.value.places)
    assert set(failure.value.places) <= {question.id for question in ASKED}
    assert repr(failure.value.places[0]) in str(failure.value)
    assert "float32" in str(failure.value)


def test_a_probe_names_them(loaded):
    with pytest.raises(NotFiniteError) as failure:
        list(query(loaded, iter(ASKED), render(loaded), Probe(max_new_tokens=2), embed, seed=0))
    named(failure)


def test_a_probe_of_the_others_is_not_touched(loaded):
    sound = [question for question in ASKED if question.id not in BROKEN]
    try:
        found = list(query(loaded, iter(sound), render(loaded), Probe(max_new_tokens=1), embed, seed=0))
    except NotFiniteError:  # where the broken token itself was drawn, which no probability does
        pytest.fail("no broken question was asked")
    assert [state.id for state in found] == [question.id for question in sound]


@pytest.mark.parametrize("choice", ["letter", "text"])
def test_a_multiple_choice_probe_names_them(loaded, choice):
    with pytest.raises(NotFiniteError) as failure:
        list(query(loaded, iter(CHOICES), render(loaded, choice), Probe(), None, seed=0))
    named(failure)


@pytest.mark.parametrize("weigh", [False, True])
@pytest.mark.parametrize("questions", [ASKED, CHOICES])
def test_an_evaluation_names_them(loaded, questions, weigh):
    asking = render(loaded, "text", may_refuse=True)
    with pytest.raises(NotFiniteError) as failure:
        list(answer(loaded, questions, asking, Evaluation(max_new_tokens=2), weigh=weigh))
    named(failure)


def test_features_name_them(loaded):
    texts, ids = [question.question for question in ASKED], [question.id for question in ASKED]
    with pytest.raises(NotFiniteError) as failure:
        last_states(loaded, texts, lambda _: None, ids=ids)
    named(failure)
    with pytest.raises(NotFiniteError) as failure:
        last_states(loaded, texts, lambda _: None)
    assert not set(BROKEN).isdisjoint(ids[place] for place in failure.value.places)


def test_embeddings_that_are_not_finite_name_whose_answers_they_are():
    tokenizer = word_tokenizer(TOKENS)
    sound = LoadedModel(random_model("llama", len(tokenizer), seed=2), tokenizer, "tiny", "tiny")
    probe = Probe(samples=3, max_new_tokens=1)
    states = list(query(sound, iter(ASKED), render(sound), probe, embed, seed=0))
    text = states[7].responses[0].text
    ids = [state.id for state in states if any(one.text == text for one in state.responses)]

    def broken(texts):
        if text in texts:
            raise NotFiniteError("sentence embeddings", [list(texts).index(text)])
        return embed(texts)

    with pytest.raises(NotFiniteError, match="sentence embeddings") as failure:
        list(query(sound, iter(ASKED), render(sound), probe, broken, seed=0))
    assert sorted(failure.value.places) == sorted(ids)
