"""Scores of options against one whole forward pass for each prompt and option."""

import math
from functools import cache
from itertools import pairwise
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers
from torch import nn

from rait.errors import ModelError
from rait.models import scoring
from rait.models.scoring import TextScores, letter_tokens, score_letters, score_texts
from rait.models.tree import Head, logits_of
from rait.records import Example, Role
from rait.tuning.sft import _tokenise
from tiny import random_model, word_tokenizer

KINDS = ["llama", "gemma3"]
LABELS = list("ABCDEFGHIJ")
WORDS = [" red", " blue", " old", " who", " what", "\n"]
VOCABULARY = ["Q", *(word.replace(" ", "▁") for word in WORDS), *LABELS, *(f"▁{label}" for label in LABELS)]
CLOSE = {"abs": 1e-4, "rel": 0}

tokenizer = word_tokenizer(VOCABULARY)


@cache
def model_of(kind):
    return random_model(kind, vocabulary=4 + len(VOCABULARY), spread=0.3)


@pytest.fixture(params=KINDS)
def model(request):
    return model_of(request.param)


def whole_logits(model, ids):
    with torch.inference_mode():
        return model(torch.tensor([ids])).logits[0].double()


@cache
def alone(model, prompt, option):
    """Log-likelihood of the option's tokens, and their number, from the whole text in one pass."""
    start = len(tokenizer(prompt)["input_ids"])
    ids = tokenizer(prompt + option)["input_ids"]
    logs = whole_logits(model, ids).log_softmax(-1)
    return sum(float(logs[place - 1, ids[place]]) for place in range(start, len(ids))), len(ids) - start


def text(words, least, most):
    return st.lists(st.sampled_from(words), min_size=least, max_size=most).map("".join)


@st.composite
def questions(draw):
    """Prompts below a few sets of worked examples, in any order; options may be equal or begin one another."""
    shots = draw(st.lists(text(WORDS, 0, 30), min_size=1, max_size=3))
    count = draw(st.integers(1, 12))
    prompts = ["Q" + draw(st.sampled_from(shots)) + draw(text(WORDS[:3], 0, 6)) for _ in range(count)]
    options = st.lists(text(WORDS[:2], 1, 4), min_size=2, max_size=10)
    return prompts, [draw(options) for _ in prompts]


def row_by_row(head, hidden):
    """The blocks of a vocabulary so large that one row's logits fill a block."""
    return map(head, hidden.split(1))


sizes = st.fixed_dictionaries(
    {
        "PASS_ROWS": st.sampled_from([1, 7, 40, 1024]),
        "TREE_ROWS": st.sampled_from([1, 9, 192]),
        "SPARE_ROWS": st.sampled_from([0, 3, 64]),
    }
)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(asked=questions(), sizes=sizes, blocks=st.sampled_from([None, row_by_row]))
def test_texts_score_as_each_whole_text_alone(kind, asked, sizes, blocks):
    model, (prompts, options) = model_of(kind), asked
    with mock.patch.multiple(scoring, **sizes), mock.patch.object(Head, "blocks", blocks or Head.blocks):
        found = list(score_texts(model, tokenizer, prompts, options))
    assert sorted(index for index, _ in found) == list(range(len(prompts)))
    for index, scores in found:
        expected = [alone(model, prompts[index], option) for option in options[index]]
        assert scores.tokens == tuple(count for _, count in expected)
        assert scores.log_likelihoods == pytest.approx([total for total, _ in expected], **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(asked=questions(), sizes=sizes, data=st.data())
def test_letters_score_as_each_whole_prompt_alone(kind, asked, sizes, data):
    model, (prompts, _) = model_of(kind), asked
    labels = st.lists(st.sampled_from(LABELS), min_size=2, max_size=10, unique=True)
    options = [[f" {label}" for label in data.draw(labels)] for _ in prompts]
    with mock.patch.multiple(scoring, **sizes):
        found = list(score_letters(model, tokenizer, prompts, options))
    assert sorted(index for index, _ in found) == list(range(len(prompts)))
    for index, probabilities in found:
        ids = tokenizer(prompts[index])["input_ids"]
        letters = tokenizer.convert_tokens_to_ids([option.replace(" ", "▁") for option in options[index]])
        expected = whole_logits(model, ids)[-1, letters].softmax(-1)
        assert probabilities == pytest.approx(expected.tolist(), **CLOSE)
        assert sum(probabilities) == pytest.approx(1)


def test_the_comparison_can_fail(model):
    """A score moves by far more than the tolerance when one token of the worked examples changes."""
    ((_, one),) = score_texts(model, tokenizer, ["Q red old blue who"], [[" red", " blue"]])
    ((_, other),) = score_texts(model, tokenizer, ["Q red old blue what"], [[" red", " blue"]])
    assert one.log_likelihoods != pytest.approx(other.log_likelihoods, abs=0.01)


def test_scores_by_hand():
    scores = TextScores((-2.0, -3.0, -4.0), (1, 3, 2))
    assert scores.normalised == (-2, -1, -2)
    rest = math.exp(-1) / (1 + 2 * math.exp(-1))
    assert scores.probabilities == pytest.approx((rest, 1 - 2 * rest, rest))
    assert TextScores((-9000.0, -1.0), (1, 1)).probabilities == (0, 1)


class Halved(nn.Linear):
    """A head that is more than its matrix."""

    def forward(self, states):
        return super().forward(states) / 2


@pytest.mark.parametrize("layer", [nn.Linear(32, 27, bias=False), nn.Linear(32, 27), Halved(32, 27)])
def test_logits_of_a_few_tokens_are_those_of_the_whole_head(layer):
    head = Head(model_of("llama"))
    head.layer, head.scale, head.softcap = layer, 0.25, 3.0
    states, tokens = torch.randn(5, 32), [3, 26, 4, 3]
    with torch.inference_mode():
        torch.testing.assert_close(logits_of(head, states, tokens), head(states)[:, tokens])


PIECES = ["Q", "▁old", "▁older", "er", "▁red", "▁", "A", "▁A", "1", "2", "\n"]
merging = word_tokenizer(PIECES)
digits = word_tokenizer(PIECES)
digits.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
    [merging.backend_tokenizer.pre_tokenizer, pre_tokenizers.Digits(individual_digits=True)]
)


@given(st.lists(st.sampled_from([piece.replace("▁", " ") for piece in PIECES]), min_size=2, max_size=6), st.data())
def test_options_have_the_tokens_that_tuning_teaches(pieces, data):
    """Also where prompt and option join to another token, as "Q old" and "er" do."""
    cut = data.draw(st.integers(1, len(pieces) - 1))
    prompt, option = "".join(pieces[:cut]), "".join(pieces[cut:])
    row = _tokenise(merging, Example(id="", prompt=prompt, completion=option, role=Role.VANILLA), frozenset({2}))
    ids = scoring.encode(merging, prompt)
    assert ids + scoring.continuations(merging, prompt, ids, [option])[0] + [2] == row["input_ids"]


def test_an_option_that_joins_the_prompt_is_scored_with_its_own_tokens():
    assert scoring.continuations(merging, "Q old", [1, 4, 5], ["er", " red"]) == [[7], [8]]


def pieces_of(tokenizer, ids):
    return tokenizer.convert_ids_to_tokens(ids)


@pytest.mark.parametrize(
    ("tokenizer", "prompt", "letters", "lead", "tokens"),
    [
        (tokenizer, "Q red", [" A", " B"], [], ["▁A", "▁B"]),  # the form as given is taken where it does
        (tokenizer, "Q red\n", ["A", "B"], [], ["A", "B"]),
        (digits, "Q\n", [" 1", " 2"], ["▁"], ["1", "2"]),  # the blank before a digit is a token of its own
        (digits, "Q\n", ["1", "2"], [], ["1", "2"]),
        (merging, "Q\n", [" 1", " 2"], [], ["1", "2"]),  # only the form without a blank is one token
        (word_tokenizer(["Q", "▁a", "▁b"]), "Q", ["a", "b"], [], ["▁a", "▁b"]),  # only the form with one is
    ],
)
def test_which_tokens_letters_become(tokenizer, prompt, letters, lead, tokens):
    ids, found = letter_tokens(tokenizer, prompt, letters)
    assert pieces_of(tokenizer, ids) == pieces_of(tokenizer, tokenizer(prompt)["input_ids"]) + lead
    assert pieces_of(tokenizer, found) == tokens


@pytest.mark.parametrize(
    ("letters", "message"),
    [
        ([" 1", " 2", " 12"], "letter '12' is not one token"),
        ([" A", " Z"], "letter 'Z' is not one token"),
        ([" A", " 1", " A"], "letter '1' is not one token"),  # "▁A" is one, "▁" and "1" are two
        (["A", "1", "A"], "letter 'A' is the same token as another"),
    ],
)
def test_letters_that_are_not_tokens_of_their_own_are_refused(letters, message):
    with pytest.raises(ModelError, match=rf"option {message}.*'Q red\\n'; compare texts instead"):
        letter_tokens(digits, "Q red\n", letters)


def test_a_blank_before_digits_changes_no_probability():
    """Renormalised, the probability of the last token is that of the whole label."""
    model = random_model("llama", vocabulary=4 + len(PIECES))
    ((_, found),) = score_letters(model, digits, ["Q red\n"], [[" 1", " 2"]])
    ((_, scores),) = score_texts(model, digits, ["Q red\n"], [[" 1", " 2"]])
    assert scores.tokens == (2, 2)
    assert found == pytest.approx(scoring._softmax(scores.log_likelihoods), **CLOSE)


@pytest.fixture
def passes(model, monkeypatch):
    """The number of rows of each forward pass so far."""
    rows = []
    decoder = model.get_decoder()
    forward = decoder.forward

    def watched(input_ids, **rest):
        rows.append(input_ids.shape[1])
        return forward(input_ids=input_ids, **rest)

    monkeypatch.setattr(decoder, "forward", watched)
    return rows


def subjects(count):
    """Prompts of three subjects in turn, 200 tokens of worked examples each, and 4 to 7 tokens of a question's own."""
    shots = ["Q" + word * 199 for word in WORDS[:3]]
    ends = ["\n" + " red" * (number % 4) + " blue old who"[: 5 + 4 * (number % 3)] for number in range(count)]
    return [shots[number % 3] + ends[number] for number in range(count)]


def test_worked_examples_are_read_once_and_passes_are_bounded(model, passes, monkeypatch):
    monkeypatch.setattr(scoring, "PASS_ROWS", 50)
    prompts = subjects(60)
    options = [[" red", " blue old", " blue who what"]] * 60
    found = dict(score_texts(model, tokenizer, prompts, options))
    assert len(found) == 60
    asked = sum(len(tokenizer(prompt)["input_ids"]) - 201 + 3 for prompt in prompts)
    assert sum(passes) <= 3 * 201 + asked
    assert max(passes) <= 50 + len(passes)
    for index in (0, 31, 59):
        expected = [alone(model, prompts[index], option)[0] for option in options[index]]
        assert found[index].log_likelihoods == pytest.approx(expected, **CLOSE)


def test_results_come_as_they_are_ready(model, passes, monkeypatch):
    monkeypatch.setattr(scoring, "PASS_ROWS", 50)
    own = model.config._attn_implementation
    marks = []
    for _ in score_texts(model, tokenizer, subjects(60), [[" red", " blue"]] * 60):
        marks.append(sum(passes))
        assert model.config._attn_implementation == own
        assert not torch.is_inference_mode_enabled()
    assert marks[0] < marks[-1] / 2
    assert max(after - before for before, after in pairwise(marks)) <= 201 + 2 * 50


def test_two_scorings_of_one_model_may_alternate(model):
    own = model.config._attn_implementation
    prompts, letters = subjects(9), [[" A", " B"]] * 9
    apart = list(score_letters(model, tokenizer, prompts, letters))
    with mock.patch.object(scoring, "PASS_ROWS", 20):
        both = zip(
            score_letters(model, tokenizer, prompts, letters),
            score_texts(model, tokenizer, prompts, letters),
            strict=True,
        )
        for (index, probabilities), (other, scores) in both:
            assert index == other
            assert probabilities == pytest.approx(dict(apart)[index], **CLOSE)
            assert scores.probabilities == pytest.approx(probabilities, **CLOSE)  # labels of one token
    assert model.config._attn_implementation == own


def test_no_prompts_no_scores(model):
    assert list(score_letters(model, tokenizer, [], [])) == []
    assert list(score_texts(model, tokenizer, [], [])) == []


def test_an_option_without_tokens_is_refused(model):
    with pytest.raises(ModelError, match=r"option '' after 'Q who' has no token"):
        list(score_texts(model, tokenizer, ["Q who"], [[" red", ""]]))


@pytest.mark.parametrize("score", [score_letters, score_texts])
def test_logits_that_are_not_finite_are_refused(score):
    model = random_model("llama", vocabulary=4 + len(VOCABULARY))
    with torch.no_grad():
        model.get_output_embeddings().weight[tokenizer.convert_tokens_to_ids("▁A")] = float("nan")
    with pytest.raises(ModelError, match="not finite"):
        list(score(model, tokenizer, ["Q who"], [[" A", " B"]]))


@pytest.mark.slow
def test_the_real_model_scores_as_each_whole_text_alone():
    """Worked examples longer than Gemma's window of 512 tokens, and options that begin one another."""
    from rait.models.loading import load
    from rait.questions import load_questions
    from rait.recipe import Model

    loaded = load(Model(dtype="float32"))
    model, words = loaded.model, loaded.tokenizer
    pool = load_questions("atlas", split="train", limit=60)
    asked = [f"Question: {one.question}\nAnswer:" for one in pool]
    shots = "".join(f"{prompt} {one.answers[0]}\n\n" for prompt, one in zip(asked[:40], pool[:40], strict=True))
    prompts = [shots + prompt for prompt in asked[40:48]]
    options = [
        [f" {pool[40 + number + step].answers[0]}" for step in range(4)] + [" Paris", " Paris, the capital of France"]
        for number in range(8)
    ]
    texts = dict(score_texts(model, words, prompts, options))
    letters = dict(score_letters(model, words, prompts, [[" A", " B", " C", " D"]] * 8))
    for index, prompt in enumerate(prompts):
        start = len(words(prompt)["input_ids"])
        assert start > 512
        for option, total, count in zip(options[index], texts[index].log_likelihoods, texts[index].tokens, strict=True):
            ids = words(prompt + option)["input_ids"]
            with torch.inference_mode():
                logits = model(torch.tensor([ids]), logits_to_keep=len(ids) - start + 1).logits[0].double()
            logs = logits.log_softmax(-1)
            assert count == len(ids) - start
            expected = sum(float(logs[place - start, ids[place]]) for place in range(start, len(ids)))
            assert total / count == pytest.approx(expected / count, **CLOSE)
        names = words.convert_tokens_to_ids(["▁A", "▁B", "▁C", "▁D"])
        assert letters[index] == pytest.approx(logits[0, names].softmax(-1).tolist(), **CLOSE)
