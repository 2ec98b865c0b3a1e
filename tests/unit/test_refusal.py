"""p(refuse) against a plain forward pass, and the answer without a refusal against plain greedy decoding."""

import math
from pathlib import Path

import pytest
import torch

from rait.evaluation.answering import answer
from rait.models.loading import LoadedModel
from rait.models.refusal import refusal_tokens, weigh
from rait.models.sampler import Sampling, draw
from rait.prompting import Renderer
from rait.records import Outcome, Question
from rait.settings import Evaluation, Prompt
from tiny import random_model, word_tokenizer

NAMES = [f"Name{number}" for number in range(12)]
WORDS = ["Question:", "Answer:", "\n", "▁", *(f"▁{w}" for w in ("no", "idea", "here", "who", "?", *NAMES))]
REFUSAL = " no idea here"
PROMPTS = [f"Question: who {name} ?\nAnswer:" for name in NAMES]
LIMIT = 5


@pytest.fixture(scope="module")
def tokenizer():
    return word_tokenizer(WORDS)


@pytest.fixture(scope="module", params=["llama", "gemma3"])
def model(request, tokenizer):
    """A model that was taught, not to the end, to refuse some prompts and to answer others."""
    model = random_model(request.param, len(tokenizer), seed=5, spread=0.1)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(30):
        for number, prompt in enumerate(PROMPTS):
            taught = REFUSAL if number % 3 else f" {NAMES[number // 3]}"
            ids = tokenizer(prompt + taught)["input_ids"] + [tokenizer.eos_token_id]
            head = len(tokenizer(prompt)["input_ids"])
            loss = model(torch.tensor([ids]), labels=torch.tensor([[-100] * head + ids[head:]])).loss
            (loss / len(PROMPTS)).backward()
        optimiser.step()
        optimiser.zero_grad()
    return model


def plain_log_probabilities(model, ids):
    """Log-probabilities of the next token after each prefix, by the model itself."""
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].float().log_softmax(dim=-1)


def plain_refusal(model, tokenizer, prompt):
    ids = tokenizer(prompt)["input_ids"]
    refusal = [*tokenizer(REFUSAL, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    logs = plain_log_probabilities(model, ids + refusal)
    return math.exp(sum(float(logs[len(ids) - 1 + place, token]) for place, token in enumerate(refusal)))


def plain_greedy(model, tokenizer, prompt, barred=()):
    """Greedy decoding, token by token, whose first token is none of `barred`."""
    ids, written = tokenizer(prompt)["input_ids"], []
    while len(written) < LIMIT:
        logs = plain_log_probabilities(model, ids + written)[-1]
        for token in barred if not written else ():
            logs[token] = -math.inf
        token = int(logs.argmax())
        if token == tokenizer.eos_token_id:
            break
        written.append(token)
        if written and "\n" in tokenizer.decode(written).lstrip():
            break
    return tokenizer.decode(written, skip_special_tokens=True).strip().split("\n")[0].strip()


def test_tokens_of_a_refusal_are_those_that_are_taught(model, tokenizer):
    found = refusal_tokens(model, tokenizer, PROMPTS[0], REFUSAL)
    assert tokenizer.convert_ids_to_tokens(list(found)) == ["▁no", "▁idea", "▁here", "<eos>"]
    assert refusal_tokens(model, tokenizer, PROMPTS[0], REFUSAL + "<eos>") == found  # an end of its own is enough


def test_all_is_as_a_plain_forward_pass_has_it(model, tokenizer):
    found = dict(weigh(model, tokenizer, PROMPTS, REFUSAL, LIMIT))
    assert found.keys() == set(range(len(PROMPTS)))
    refuses_first = 0
    no = tokenizer.convert_tokens_to_ids("▁no")
    for index, prompt in enumerate(PROMPTS):
        one = found[index]
        assert one.refusal_probability == pytest.approx(plain_refusal(model, tokenizer, prompt), rel=1e-4)
        assert one.response == plain_greedy(model, tokenizer, prompt)
        first = int(plain_log_probabilities(model, tokenizer(prompt)["input_ids"])[-1].argmax())
        refuses_first += first == no
        expected = plain_greedy(model, tokenizer, prompt, barred=[no]) if first == no else None
        assert one.instead == expected
    assert 0 < refuses_first < len(PROMPTS), "both kinds are to be seen"


def test_following_the_refusal_leaves_greedy_answers_as_they_are(model, tokenizer):
    greedy = Sampling(samples=1, temperature=0, max_new_tokens=LIMIT)
    plain = {index: list(answers.counts) for index, answers in draw(model, tokenizer, PROMPTS, [0] * 12, greedy)}
    weighed = {index: [one.response] for index, one in weigh(model, tokenizer, PROMPTS, REFUSAL, LIMIT)}
    assert weighed == plain


def test_a_refusal_longer_than_an_answer_may_be_is_followed_to_its_end(model, tokenizer):
    for index, one in dict(weigh(model, tokenizer, PROMPTS, REFUSAL, 1)).items():
        assert one.refusal_probability == pytest.approx(plain_refusal(model, tokenizer, PROMPTS[index]), rel=1e-4)


def test_a_refusal_is_followed_beside_one_greedy_answer_alone():
    for wrong in ({"samples": 2, "temperature": 0}, {"samples": 1, "temperature": 0.5}):
        with pytest.raises(ValueError, match="one greedy sample"):
            Sampling(**wrong, refusal=(1, 2))


PROMPT = Prompt(instruction="", refusal="no idea here", refusal_instruction="")


def questions():
    return [Question(id=name, question=f"who {name} ?", answers=("Name1", "Name2", "Name3")) for name in NAMES]


def test_verdicts_say_what_is_answered_without_a_refusal(model, tokenizer):
    loaded = LoadedModel(model, tokenizer, Path(), "mark")
    render = Renderer(tokenizer, PROMPT, may_refuse=True)
    settings = Evaluation(max_new_tokens=LIMIT)
    plain = list(answer(loaded, questions(), render, settings))
    weighed = list(answer(loaded, questions(), render, settings, weigh=True))
    assert [(v.response, v.outcome, v.rule) for v in weighed] == [(v.response, v.outcome, v.rule) for v in plain]
    assert all(v.refusal_probability is v.answer is v.answer_correct is None for v in plain)
    no = tokenizer.convert_tokens_to_ids("▁no")
    for v in weighed:
        prompt = render(v)
        assert v.refusal_probability == pytest.approx(plain_refusal(model, tokenizer, prompt), rel=1e-4)
        if v.outcome is not Outcome.REFUSED:
            assert (v.answer, v.answer_correct) == (v.response, v.outcome is Outcome.CORRECT)
        else:
            assert v.answer == plain_greedy(model, tokenizer, prompt, barred=[no]) != "no idea here"
            assert v.answer_correct is (v.answer in v.answers)
    assert {v.outcome for v in weighed} >= {Outcome.REFUSED, Outcome.WRONG}


@pytest.mark.parametrize("choice", ["letter", "text"])
def test_options_are_weighed_by_what_decides_between_them(model, tokenizer, choice):
    asked = [
        Question(id=name, question=f"who {name} ?", answers=("Name1",), options=("Name1", "Name2"), target=0)
        for name in NAMES
    ]
    if choice == "letter":
        tokenizer = word_tokenizer([*WORDS, "▁A", "▁B", "A.", "B."])
        model = random_model("llama", len(tokenizer), seed=2, spread=0.5)
    loaded = LoadedModel(model, tokenizer, Path(), "mark")
    prompt = Prompt(instruction="", refusal="no idea here", refusal_instruction="", choice=choice)
    render = Renderer(tokenizer, prompt, may_refuse=True)
    found = list(answer(loaded, asked, render, Evaluation(choice="score"), weigh=True))
    assert found == [
        type(v)(**{f: getattr(w, f) for f in ("refusal_probability", "answer", "answer_correct")}, **fields_of(v))
        for v, w in zip(answer(loaded, asked, render, Evaluation(choice="score")), found, strict=True)
    ]
    for v in found:
        texts = ("A", "B") if choice == "letter" else v.options
        logs = [likelihood(model, tokenizer, render(v), f" {text}") for text in (*texts, "no idea here")]
        share = math.exp(logs[2]) / (sum(map(math.exp, logs)) if choice == "letter" else 1)
        assert v.refusal_probability == pytest.approx(share, rel=1e-3)
        best = texts[0] if logs[0] > logs[1] else texts[1]
        assert (v.answer, v.answer_correct) == (best, best == texts[0])


def fields_of(verdict):
    names = ("id", "question", "answers", "category", "options", "target", "response", "outcome", "rule")
    return {name: getattr(verdict, name) for name in names}


def likelihood(model, tokenizer, prompt, text):
    """The log-probability of a text of any number of tokens, its end open; both options have one token here."""
    ids = tokenizer(prompt)["input_ids"]
    own = tokenizer(text, add_special_tokens=False)["input_ids"]
    logs = plain_log_probabilities(model, ids + own)
    return sum(float(logs[len(ids) - 1 + place, token]) for place, token in enumerate(own))
