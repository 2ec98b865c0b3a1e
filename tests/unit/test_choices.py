"""Multiple choice from question to state and verdict, against each full prompt alone in transformers' own model."""

import math
import random
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rait.errors import InputError, ShortageError
from rait.evaluation.answering import answer, likeliest
from rait.knowledge import choices as module
from rait.knowledge.choices import negative_entropy, query_choices, state_of
from rait.knowledge.query import query
from rait.knowledge.rehearsal import select, target
from rait.models.loading import LoadedModel
from rait.prompting import Renderer, answer_of, shots_by_category
from rait.recipe import Evaluation, Probe, Prompt, Rehearsal
from rait.records import LETTERS, KnowledgeState, Outcome, Question
from tiny import random_model, word_tokenizer

WORDS = ["red", "blue", "old", "new", "who", "what", "is", "said"]
REFUSAL = "unknown"
CHAT = (
    "{{ bos_token }}{% for m in messages %}{{ m.role + '\\n' + m.content + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant\\n' }}{% endif %}"
)
_NAMES = [*WORDS, *LETTERS, *(f"{letter}." for letter in LETTERS), "Question:", "Answer:", "user", "assistant", REFUSAL]
VOCABULARY = ["\n", "▁", *_NAMES, *(f"▁{name}" for name in _NAMES)]
CLOSE = {"abs": 1e-4, "rel": 0}


def texts(generator, most=4):
    return " ".join(generator.choice(WORDS) for _ in range(generator.randint(1, most)))


def make_questions(count, seed=0, subjects=("", "law", "art")):
    """Questions with 2 to 10 options each, of several subjects."""
    generator = random.Random(seed)
    made = []
    for number in range(count):
        options = tuple(dict.fromkeys(texts(generator) for _ in range(2 + number % 9)))
        while len(options) < 2 + number % 9:
            options = tuple(dict.fromkeys([*options, texts(generator, 5)]))
        right = generator.randrange(len(options))
        made.append(
            Question(
                id=f"{seed}/{number}",
                question=texts(generator, 6),
                answers=(options[right],),
                category=subjects[number % len(subjects)],
                options=options,
                target=right,
            )
        )
    return made


@cache
def loaded(kind="llama", chat=False):
    tokenizer = word_tokenizer(VOCABULARY)
    if chat:
        tokenizer.chat_template = CHAT
    return LoadedModel(random_model(kind, len(tokenizer), spread=0.3), tokenizer, "tiny", "")


SHOTS = shots_by_category(make_questions(30, seed=9), 5, seed=0)
QUESTIONS = make_questions(27)
OPEN = [Question(id=f"open/{n}", question=text, answers=("red",)) for n, text in enumerate(["who is", "what is old"])]


def ones(texts):
    return np.ones((len(texts), 2))


def renderer(own, choice, shots=SHOTS, may_refuse=False, **settings):
    prompt = Prompt(choice=choice, instruction="", refusal=REFUSAL, refusal_instruction="", **settings)
    return Renderer(own.tokenizer, prompt, shots, may_refuse)


@cache
def logits_after(model, ids):
    with torch.inference_mode():
        return model(torch.tensor([ids])).logits[0].double().log_softmax(-1)


def mean_log_likelihood(own, prompt, text):
    """Of the tokens of `text` after `prompt`, from the whole in one pass; and their number."""
    start = own.tokenizer(prompt, add_special_tokens=not prompt.startswith("<bos>"))["input_ids"]
    whole = own.tokenizer(prompt + text, add_special_tokens=not prompt.startswith("<bos>"))["input_ids"]
    assert whole[: len(start)] == start and whole.count(1) == 1 and 3 not in whole
    logs = logits_after(own.model, tuple(whole))
    return sum(float(logs[n - 1, whole[n]]) for n in range(len(start), len(whole))) / (len(whole) - len(start))


def by_brute_force(own, render, question, choice):
    """Probabilities of the options, each full prompt alone."""
    prompt, blank = render(question), "" if render.chat else " "
    given = LETTERS[: len(question.options)] if choice == "letter" else question.options
    scores = [mean_log_likelihood(own, prompt, blank + text) for text in given]
    return torch.tensor(scores).softmax(-1).tolist()


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("choice", ["letter", "text"])
@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_states_are_those_of_each_full_prompt_alone(kind, choice, chat):
    own = loaded(kind, chat)
    render = renderer(own, choice)
    assert len(own.tokenizer(render(QUESTIONS[1]))["input_ids"]) > 60
    states = list(query_choices(own, QUESTIONS, render))
    assert [state.id for state in states] == [question.id for question in QUESTIONS]
    assert {len(state.options) for state in states} == set(range(2, 11))
    for state, question in zip(states, QUESTIONS, strict=True):
        expected = by_brute_force(own, render, question, choice)
        assert state.probabilities == pytest.approx(expected, **CLOSE)
        assert state.correctness == pytest.approx(expected[question.target], **CLOSE)
        assert state.certainty == pytest.approx(sum(p * math.log(p) for p in expected), abs=1e-3)
        assert (state.question, state.options, state.target) == (question.question, question.options, question.target)
        assert state.responses == ()
    assert max(max(state.probabilities) - min(state.probabilities) for state in states) > 0.1


@pytest.mark.parametrize("choice", ["letter", "text"])
def test_worked_examples_are_the_subjects_own(choice):
    """Five of the subject where it has any, and they change what is scored."""
    own = loaded()
    law = QUESTIONS[1]
    render = renderer(own, choice)
    for shot in SHOTS["law"]:
        assert f"{shot.question}\n" in render(law)
        assert f"Answer: {answer_of(shot, choice)}\n\n" in render(law)
    assert render(law).count("Question:") == 6
    (ours,) = query_choices(own, [law], render)
    (others,) = query_choices(own, [law], renderer(own, choice, {"": SHOTS["art"]}))
    assert ours.probabilities != pytest.approx(others.probabilities, abs=1e-3)


@pytest.mark.parametrize("choice", ["letter", "text"])
def test_the_order_and_company_of_questions_change_nothing(choice, monkeypatch):
    own = loaded()
    render = renderer(own, choice)
    apart = {question.id: next(query_choices(own, [question], render)) for question in QUESTIONS}
    mixed = random.Random(1).sample(QUESTIONS, len(QUESTIONS))
    monkeypatch.setattr(module, "TOGETHER", 4)
    told = []
    states = list(query(own, iter(mixed), render, Probe(), None, seed=3, advance=told.append))
    assert [state.id for state in states] == [question.id for question in mixed]
    assert sum(told) == len(mixed)
    for state in states:
        assert state.probabilities == pytest.approx(apart[state.id].probabilities, abs=2e-6)


def test_states_come_part_by_part(monkeypatch):
    monkeypatch.setattr(module, "TOGETHER", 4)
    read = []
    states = query_choices(loaded(), (read.append(one) or one for one in QUESTIONS), renderer(loaded(), "letter"))
    next(states)
    assert len(read) < len(QUESTIONS)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=10).filter(lambda weights: sum(weights) > 1e-6), st.data())
def test_mu_and_sigma(weights, data):
    probabilities = tuple(weight / math.fsum(weights) for weight in weights)
    place = data.draw(st.integers(0, len(weights) - 1))
    question = Question(id="q", question="?", answers=("x",), options=tuple(map(str, weights)), target=place)
    state = state_of(question, probabilities)
    assert -math.log(len(weights)) - 1e-6 <= state.certainty <= 0
    assert state.certainty == pytest.approx(math.fsum(p * math.log(p) for p in probabilities if p), abs=1e-6)
    assert math.copysign(1, state.certainty) < 0 or str(state.certainty) == "0.0"  # never -0.0
    assert state.correctness == state.probabilities[place] == pytest.approx(probabilities[place], abs=1e-6)


@pytest.mark.parametrize("count", range(2, 11))
def test_sigma_by_hand(count):
    assert negative_entropy((1 / count,) * count) == pytest.approx(-math.log(count))
    assert negative_entropy((1.0, *(0.0,) * (count - 1))) == 0
    assert negative_entropy((0.5, 0.25, 0.25)) == pytest.approx(-1.0397207708)


@pytest.mark.parametrize(
    ("pool", "message"),
    [
        ([QUESTIONS[0], OPEN[0]], r"question 'open/0' has no options, others have"),
        ([OPEN[0], QUESTIONS[0]], r"question '0/0' has options, others have none"),
        ([OPEN[0], OPEN[1], QUESTIONS[3]], r"question '0/3' has options, others have none"),
    ],
)
def test_a_pool_is_of_one_kind(pool, message):
    own = loaded()
    render = renderer(own, "letter")
    with pytest.raises(InputError, match=rf"{message}; ask .* in runs of their own, or set questions\.options=drop"):
        list(
            query(
                own, pool, render, Probe(samples=2, max_new_tokens=2), lambda texts: torch.ones(len(texts), 2), seed=0
            )
        )


def test_open_ended_questions_need_a_sentence_model():
    with pytest.raises(InputError, match="sentence model"):
        list(query(loaded(), OPEN, renderer(loaded(), "letter"), Probe(), None, seed=0))


@pytest.mark.parametrize("may_refuse", [False, True])
@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("choice", ["letter", "text"])
def test_the_likeliest_candidate_is_that_of_brute_force(choice, chat, may_refuse):
    own = loaded("llama", chat)
    render = renderer(own, choice, {}, may_refuse)
    verdicts = list(answer(own, QUESTIONS, render, Evaluation(choice="score")))
    assert [verdict.id for verdict in verdicts] == [question.id for question in QUESTIONS]
    blank = "" if chat else " "
    for verdict, question in zip(verdicts, QUESTIONS, strict=True):
        given = LETTERS[: len(question.options)] if choice == "letter" else question.options
        # A letter is one token, of which the mean is the sum.
        scores = [mean_log_likelihood(own, render(question), blank + text) for text in given]
        refusal = mean_log_likelihood(own, render(question), blank + REFUSAL)  # one token, too
        best = scores.index(max(scores))
        assert len(scores) == 1 or sorted(scores)[-2] < scores[best] - 1e-4  # no tie to argue about
        refused = may_refuse and refusal > (scores[best] if choice == "letter" else math.log(0.5))
        expected = Outcome.CORRECT if best == question.target else Outcome.WRONG
        expected = Outcome.REFUSED if refused else expected
        response = REFUSAL if refused else given[best]
        assert (verdict.response, verdict.outcome, verdict.rule) == (response, expected, "scored")


@pytest.mark.parametrize(
    ("log_likelihoods", "tokens", "choice", "best"),
    [
        ((-1.0, -0.5, -0.9), (1, 1, 3), "letter", 1),
        ((-1.0, -0.5, -0.4), (1, 1, 3), "letter", 2),  # the refusal as a whole against one letter
        ((-4.0, -3.0, -0.8), (4, 2, 3), "text", 0),  # means of -1 and -1.5; a refusal of 45 %
        ((-4.0, -3.0, -0.6), (4, 2, 3), "text", 2),  # of 55 %
        ((-4.0, -3.0), (4, 2), "text", 0),  # none is invited
        ((-4.0, -3.0), (4, 2), "letter", 1),
    ],
)
def test_the_rule_by_hand(log_likelihoods, tokens, choice, best):
    assert likeliest(log_likelihoods, tokens, 2, choice) == best


def preferring(own, word):
    """A model to which `word` is the likeliest after anything."""
    model = random_model("llama", len(own.tokenizer), seed=1)
    head, tokenizer = model.get_output_embeddings(), own.tokenizer
    wanted = tokenizer.convert_tokens_to_ids(word)
    with torch.no_grad():
        head.weight.zero_()
    bias = torch.zeros(len(tokenizer))
    bias[wanted] = 20.0
    layer = torch.nn.Linear(head.in_features, head.out_features)
    layer.weight, layer.bias = head.weight, torch.nn.Parameter(bias)
    model.set_output_embeddings(layer)
    return LoadedModel(model, tokenizer, "tiny", "")


@pytest.mark.parametrize(
    ("word", "outcome", "rule"),
    [
        ("▁A", Outcome.WRONG, "letter"),
        ("▁B", Outcome.CORRECT, "letter"),
        ("▁C", Outcome.WRONG, "unparsable"),  # there are two
        ("▁blue", Outcome.CORRECT, "option"),
        ("▁red", Outcome.WRONG, "option"),
        ("▁old", Outcome.WRONG, "unparsable"),
        ("▁unknown", Outcome.REFUSED, "refused"),
    ],
)
def test_what_is_written_is_parsed(word, outcome, rule):
    own = preferring(loaded(), word)
    question = Question(id="q", question="what is", answers=("blue",), options=("red", "blue"), target=1)
    render = renderer(own, "letter", {})
    (verdict,) = answer(own, [question], render, Evaluation(max_new_tokens=1))
    assert (verdict.response.strip(), verdict.outcome, verdict.rule) == (word[1:], outcome, rule)
    assert (verdict.options, verdict.target, verdict.category) == (question.options, 1, "")


@pytest.mark.parametrize(
    ("word", "outcome"),
    [
        ("▁red", Outcome.WRONG),
        ("▁blue", Outcome.CORRECT),
        ("▁unknown", Outcome.REFUSED),
    ],
)
def test_what_is_likeliest_is_judged(word, outcome):
    own = preferring(loaded(), word)
    question = Question(id="q", question="what is", answers=("blue",), options=("red", "blue"), target=1)
    (verdict,) = answer(own, [question], renderer(own, "text", {}, True), Evaluation())
    assert (verdict.response, verdict.outcome, verdict.rule) == (word[1:], outcome, "scored")


def test_an_option_that_reads_as_the_refusal_is_an_option():
    own = preferring(loaded(), "▁unknown")
    question = Question(id="q", question="what is", answers=("unknown",), options=("red", "unknown"), target=1)
    for settings in (Evaluation(choice="score"), Evaluation(choice="generate", max_new_tokens=1)):
        (verdict,) = answer(own, [question], renderer(own, "text", {}, True), settings)
        assert verdict.outcome is Outcome.CORRECT


@pytest.mark.parametrize(
    ("choice", "setting", "scored"),
    [
        ("letter", "auto", False),
        ("text", "auto", True),
        ("letter", "score", True),
        ("text", "generate", False),
    ],
)
def test_both_kinds_stand_in_one_test_set(choice, setting, scored):
    own = loaded()
    render = renderer(own, choice, {})
    mixed = [OPEN[0], *QUESTIONS[:4], OPEN[1], *QUESTIONS[4:6]]
    told = []
    settings = Evaluation(choice=setting, max_new_tokens=3)
    verdicts = list(answer(own, mixed, render, settings, advance=told.append))
    assert [verdict.id for verdict in verdicts] == [question.id for question in mixed]
    assert sum(told) == len(mixed)
    for verdict, question in zip(verdicts, mixed, strict=True):
        assert (verdict.rule == "scored") == (scored and bool(question.options))
        assert [verdict] == list(answer(own, [question], render, settings))
        if not question.options:
            assert verdict.rule in ("exact", "folded", "refused", "no_match", "empty")
    assert list(answer(own, [], render, settings)) == []


def known(id, probabilities, place, certainty=None):
    return KnowledgeState(
        id=id,
        question="?",
        answers=(f"text {place}",),
        options=tuple(f"text {number}" for number in range(len(probabilities))),
        target=place,
        correctness=probabilities[place],
        certainty=negative_entropy(probabilities) if certainty is None else certainty,
        probabilities=probabilities,
    )


def ids(chosen):
    return {state.id for state in chosen.states}


STATES = [
    known("sure", (0.0, 1.0), 1),
    known("bound", (0.99, 0.01), 0),
    known("below", (0.989, 0.011), 0),
    known("likely", (0.2, 0.3, 0.5), 2),
    known("tied", (0.5, 0.5), 0),
    known("unlikely", (0.6, 0.4), 1),
    known("none", (1.0, 0.0), 1),
]


def test_rehearsal_takes_those_above_the_bound_of_multiple_choice():
    chosen = select(STATES, Rehearsal(), seed=0)
    assert ids(chosen) == {"sure", "bound"}  # no lowest certainty: that of "bound" is -0.056
    assert chosen.note.startswith("rehearsing 2 of 2 questions with correctness >= 0.99, at random")
    assert ids(select(STATES, Rehearsal(correctness=0.5), seed=0)) == {"sure", "bound", "below", "likely", "tied"}
    assert ids(select(STATES, Rehearsal(certainty=-0.01), seed=0)) == {"sure"}
    assert ids(select(STATES, Rehearsal(correctness=0.0, certainty=-0.06), seed=0)) == {"sure", "bound"}


def test_open_ended_bounds_are_their_own():
    bare = KnowledgeState(id="x", question="?", answers=("x",), correctness=0.99, certainty=1.0)
    with pytest.raises(ShortageError):
        select([bare], Rehearsal(), seed=0)


def test_top_takes_those_alone_whose_right_option_is_the_likeliest():
    assert [state.id for state in select(STATES, Rehearsal(rule="top"), seed=0).states] == [
        "sure",
        "bound",
        "below",
        "tied",  # more certain than "likely", -0.69 against -1.03
        "likely",
    ]
    assert ids(select(STATES, Rehearsal(rule="top", size=2), seed=0)) == {"sure", "bound"}


@pytest.mark.parametrize("rule", ["threshold", "top"])
def test_nothing_likeliest_nothing_rehearsed(rule):
    with pytest.raises(ShortageError, match="answered none of 2 questions correctly"):
        select(STATES[-2:], Rehearsal(rule=rule, correctness=0.0), seed=0)


def test_none_above_the_bound_says_what_the_best_was():
    with pytest.raises(ShortageError, match=r"reaches correctness 0\.99 for rehearsal: the best, 'likely', has corr"):
        select([STATES[3]], Rehearsal(), seed=0)


@given(
    st.lists(st.lists(st.integers(0, 9), min_size=2, max_size=10).filter(any), min_size=1, max_size=12), st.randoms()
)
def test_rehearsal_is_of_the_likeliest_in_any_order(rows, rng):
    states = [known(f"q{n}", tuple(w / sum(row) for w in row), n % len(row)) for n, row in enumerate(rows)]
    allowed = {f"q{n}" for n, row in enumerate(rows) if row[n % len(row)] == max(row)}
    for settings in (Rehearsal(rule="top", size=5), Rehearsal(correctness=0.0, size=5)):
        if not allowed:
            with pytest.raises(ShortageError):
                select(states, settings, 0)
            continue
        chosen = select(states, settings, 0)
        assert ids(chosen) <= allowed and len(chosen.states) == min(5, len(allowed))
        assert select(rng.sample(states, len(states)), settings, 0) == chosen


@pytest.mark.parametrize("place", range(10))
def test_the_target_of_rehearsal_is_the_right_option(place):
    state = known("q", tuple(0.1 for _ in range(10)), place)
    assert target(state) == target(state, "letter") == "ABCDEFGHIJ"[place]
    assert target(state, "text") == f"text {place}"
