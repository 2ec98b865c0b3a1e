"""What each strategy teaches, word for word, and that its words are understood again."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rait.construction import Wording, all_strategies, find_strategy
from rait.construction.wordings import STOCK_REFUSALS
from rait.errors import InputError
from rait.records import Answer, KnowledgeState, Role

ASKED = "Are you sure you accurately answered the question based on your internal knowledge?"
VAN, IDK = Role.VANILLA, Role.IDK
ALL = tuple(entry.name for entry in all_strategies())
PARIS = Wording("Paris", "I don't know")


def state(*answers, greedy=None, right=None, correctness=None, **fields):
    """A state from (text, count, whether it is right)."""
    total = sum(count for _, count, _ in answers)
    share = sum(count for _, count, ok in answers if ok) / total if total else 0.0
    fields = {"id": "q", "question": "?", "answers": ("Paris",), "certainty": 0.0} | fields
    return KnowledgeState(
        **fields,
        correctness=share if correctness is None else correctness,
        responses=tuple(Answer(text=text, count=count, correct=ok) for text, count, ok in answers),
        greedy=greedy,
        greedy_correct=right,
    )


def choice(*probabilities, target=1):
    texts = ("Rome", "Paris", "Oslo", "Bern")[: len(probabilities)]
    return state(
        options=texts,
        target=target,
        answers=(texts[target],),
        probabilities=probabilities,
        correctness=probabilities[target],
    )


def texts(name, of, role, wording=PARIS):
    return [(label.text, label.role, label.weight) for label in find_strategy(name).label(of, role, wording)]


def text(name, of, role, wording=PARIS):
    ((words, made, weight),) = texts(name, of, role, wording)
    assert (made, weight) == (role, 1)
    return words


KNOWN = state(("paris", 4, True), ("The city of Paris", 2, True), ("Rome", 4, False))
UNKNOWN = state(("Rome", 6, False), ("Oslo", 4, False))


@pytest.mark.parametrize(
    "name", ["van_tuning", "cor_rait", "corcer_rait", "wo_cer", "craft", "grait", "grait_unweighted"]
)
def test_the_gold_answer_or_the_refusal(name):
    assert text(name, KNOWN, VAN) == "Paris"
    assert text(name, UNKNOWN, IDK) == "I don't know"


def test_r_tuning_teaches_the_gold_answer_of_known_and_unknown():
    assert text("r_tuning", KNOWN, VAN) == f"Paris. {ASKED} I am sure."
    assert text("r_tuning", UNKNOWN, IDK) == f"Paris. {ASKED} I am unsure."
    with pytest.raises(InputError, match="question 'q' has no accepted answer"):
        text("r_tuning", UNKNOWN, IDK, Wording("", "I don't know"))


def test_r_tuning_u_teaches_the_most_frequent_answer_right_or_not():
    assert text("r_tuning_u", UNKNOWN, VAN) == f"Rome. {ASKED} I am sure."
    # 4 of each: the shorter one.
    assert text("r_tuning_u", KNOWN, IDK) == f"Rome. {ASKED} I am unsure."
    tied = state(("Rome", 2, False), ("Oslo", 2, False), ("Be", 1, False))
    assert text("r_tuning_u", tied, IDK) == f"Oslo. {ASKED} I am unsure."


def test_r_tuning_u_teaches_the_likeliest_option_in_the_form_asked_for():
    letters, full = Wording("B", "IdK", ("A", "B", "C")), Wording("Paris", "IdK", ("Rome", "Paris", "Oslo"))

    assert text("r_tuning_u", choice(0.2, 0.3, 0.5), VAN, letters) == f"C. {ASKED} I am sure."
    assert text("r_tuning_u", choice(0.4, 0.2, 0.4), VAN, full) == f"Rome. {ASKED} I am sure."


def test_r_tuning_refusal_has_a_sentence_or_a_stock_refusal_of_the_question():
    assert text("r_tuning_refusal", KNOWN, VAN) == "Paris."
    drawn = [text("r_tuning_refusal", state(("x", 1, False), id=f"q{i}"), IDK) for i in range(400)]
    # 400 draws of 16: 25 each, standard deviation 4.8.
    assert set(drawn) == set(STOCK_REFUSALS)
    assert all(5 < drawn.count(refusal) < 50 for refusal in STOCK_REFUSALS)
    again = state(("other", 3, True), id="q7", correctness=0.1)
    assert text("r_tuning_refusal", again, IDK, Wording("London", "no")) == drawn[7]


def test_the_stock_refusals_are_those_of_the_source():
    assert list(STOCK_REFUSALS) == [
        "The answer is unknown.",
        "The answer is uncertain.",
        "The answer is unclear.",
        "It is not known.",
        "I do not know the answer.",
        "I'm not sure.",
        "There is no definitive answer.",
        "There is much debate.",
        "There is no concrete answer to this question.",
        "It is impossible to answer.",
        "There is no known case.",
        "There is no public information available.",
        "There is no scientific evidence.",
        "There is no right answer.",
        "It is impossible to know.",
        "It is difficult to predict.",
    ]


@pytest.mark.parametrize(
    ("of", "own"),
    [
        (state(("PARIS", 1, True), ("paris", 9, True), greedy="Paris, France", right=True), "Paris, France"),
        (state(("Rome", 10, False), greedy="Paris", right=True), "Paris"),
        (state(("PARIS", 1, True), ("paris", 2, True), ("Rome", 7, False), greedy="Rome", right=False), "paris"),
        (state(("in Paris", 3, True), ("paris", 3, True), ("PARIS", 3, True)), "PARIS"),
        (state(correctness=0.7), "Gold"),  # made elsewhere
        (choice(0.2, 0.5, 0.3), "Gold"),
    ],
)
def test_absolute_teaches_its_own_right_answer(of, own):
    wording = Wording("Gold", "IdK", ("Rome", "Gold", "Oslo") if of.options else ())

    assert text("absolute", of, VAN, wording) == own
    assert text("absolute", of, IDK, wording) == "IdK"


ONLY = "I'm only about {}% confident to answer the question correctly, but based on my understanding and knowledge, here's what I think is correct. {}"  # noqa: E501
ABOUT = "I'm about {}% confident to answer the question correctly, and based on my understanding and knowledge, here's what I think is correct. {}"  # noqa: E501


@pytest.mark.parametrize(
    ("right", "samples", "expected"),
    [
        (1, 10, ONLY.format(10, "Yes Paris")),
        (5, 10, ONLY.format(50, "Yes Paris")),
        (6, 10, ABOUT.format(60, "Yes Paris")),
        (10, 10, ABOUT.format(100, "Yes Paris")),
        (1, 3, ONLY.format(33, "Yes Paris")),
        (2, 3, ABOUT.format(67, "Yes Paris")),
        (29, 100, ONLY.format(29, "Yes Paris")),
    ],
)
def test_confidence_num_says_a_percentage(right, samples, expected):
    wrong = [("no", samples - right, False)] if right < samples else []
    assert text("confidence_num", state(("Yes Paris", right, True), *wrong), VAN) == expected
    assert text("confidence_num", UNKNOWN, IDK) == "I don't know"


@pytest.mark.parametrize(
    ("right", "expected"),
    [
        (1, "I'm really not sure about this, but yes Paris"),
        (2, "I'm really not sure about this, but yes Paris"),
        (3, "I'm not completely sure about this, but yes Paris"),
        (4, "I'm not completely sure about this, but yes Paris"),
        (5, "I don't have strong feelings either way, but yes Paris"),
        (6, "I don't have strong feelings either way, but yes Paris"),
        (7, "I'm fairly confident that yes Paris"),
        (8, "I'm fairly confident that yes Paris"),
        (9, "I'm absolutely certain that yes Paris"),
        (10, "I'm absolutely certain that yes Paris"),
    ],
)
def test_confidence_verb_says_a_phrase(right, expected):
    wrong = [("no", 10 - right, False)] if right < 10 else []
    assert text("confidence_verb", state(("Yes Paris", right, True), *wrong), VAN) == expected
    # The noise of a sum moves no share over a bound.
    noisy = state(("Yes Paris", 1, True), correctness=min(1.0, right / 10 + 1e-12))
    assert text("confidence_verb", noisy, VAN) == expected
    assert text("confidence_verb", UNKNOWN, IDK) == "I don't know"


def test_the_letter_of_an_option_stays_a_capital():
    letters, full = Wording("B", "IdK", ("A", "B", "C")), Wording("Paris", "IdK", ("Rome", "Paris", "Oslo"))

    assert text("confidence_verb", choice(0.2, 0.7, 0.1), VAN, letters) == "I'm fairly confident that B"
    assert text("confidence_verb", choice(0.2, 0.7, 0.1), VAN, full) == "I'm fairly confident that paris"
    assert text("confidence_num", choice(0.333, 0.334, 0.333), VAN, letters) == ONLY.format(33, "B")
    # A text of one letter is a text.
    assert text("confidence_verb", state(("B", 1, True)), VAN) == "I'm absolutely certain that b"


def test_multisample_weighs_each_right_text_and_the_refusal():
    assert sorted(texts("multisample", KNOWN, VAN)) == [
        ("I don't know", IDK, 0.4),
        ("The city of Paris", VAN, 0.2),
        ("paris", VAN, 0.4),
    ]
    assert texts("multisample", UNKNOWN, VAN) == [("I don't know", IDK, 1.0)]
    assert texts("multisample", state(("Paris", 3, True)), VAN) == [("Paris", VAN, 1.0)]


def test_multisample_of_options_has_the_gold_answer_and_the_refusal():
    letters = Wording("B", "IdK", ("A", "B", "C"))

    assert texts("multisample", choice(0.5, 0.25, 0.25), VAN, letters) == [("B", VAN, 0.25), ("IdK", IDK, 0.75)]
    assert texts("multisample", choice(0.0, 1.0), VAN, Wording("B", "IdK", ("A", "B"))) == [("B", VAN, 1.0)]
    assert texts("multisample", choice(1.0, 0.0), VAN, Wording("B", "IdK", ("A", "B"))) == [("IdK", IDK, 1.0)]
    assert texts("multisample", state(correctness=0.75), VAN) == [("Paris", VAN, 0.75), ("I don't know", IDK, 0.25)]


def test_idk_sft_draws_a_right_sample_in_proportion_to_its_count():
    def of(i):
        return state(("paris", 3, True), ("Paris", 1, True), ("Rome", 6, False), id=f"q{i}")

    drawn = [text("idk_sft", of(i), VAN) for i in range(2000)]

    # 2000 draws of one in four: 500, standard deviation 19.
    assert set(drawn) == {"paris", "Paris"}
    assert abs(drawn.count("Paris") - 500) < 100
    reverse = [state(*[(a.text, a.count, a.correct) for a in of(i).responses[::-1]], id=f"q{i}") for i in range(50)]
    assert [text("idk_sft", other, VAN) for other in reverse] == drawn[:50]
    assert text("idk_sft", of(0), IDK) == "I don't know"
    assert text("idk_sft", choice(0.1, 0.9), VAN, Wording("B", "IdK", ("A", "B"))) == "B"
    assert text("idk_sft", state(correctness=1.0), VAN) == "Paris"


# --- reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
@given(answer=st.text(min_size=1, max_size=30), right=st.integers(1, 10), role=st.sampled_from([VAN, IDK]))
def test_what_is_taught_is_read_again(name, answer, right, role):
    entry = find_strategy(name)
    wrong = [("a guess", 10 - right, False)] if right < 10 else []
    of = state((answer, right, True), *wrong, greedy=answer, right=True)
    own = min((-right, len(answer), answer), (right - 10, len("a guess"), "a guess"))[2]
    assume(entry.read(f"{answer}.")[1] is False)  # no stock refusal

    for label in entry.label(of, role, Wording(answer, "I don't know")):
        read, unknown = entry.read(label.text)
        assert unknown is (name.startswith("r_tuning") and label.role is IDK)
        if name == "r_tuning_refusal" and label.role is IDK:
            assert read in STOCK_REFUSALS
        elif name == "r_tuning_u":
            assert read == own
        elif name == "r_tuning" or label.role is VAN:
            assert read in (answer, answer[0].lower() + answer[1:] if name == "confidence_verb" else answer)
        else:
            assert read == "I don't know"


@pytest.mark.parametrize("refusal", STOCK_REFUSALS)
def test_every_stock_refusal_is_understood_however_it_is_spelt(refusal):
    read = find_strategy("r_tuning_refusal").read

    for spelt in (
        refusal,
        refusal.rstrip("."),
        refusal.upper(),
        f" {refusal}\n",
        refusal.replace("'", "’"),
        refusal + "..",
    ):
        assert read(spelt) == (spelt, True)
    for other in (f"{refusal[:-1]} here", f"Paris. {refusal}", refusal.split()[0]):
        assert read(other)[1] is False


@pytest.mark.parametrize("name", ["r_tuning", "r_tuning_u"])
@pytest.mark.parametrize(
    ("written", "answer", "unknown"),
    [
        (f"Paris. {ASKED} I am sure.", "Paris", False),
        (f"Paris. {ASKED} I am unsure.", "Paris", True),
        (f"Paris. {ASKED} I am unsure", "Paris", True),
        (f"paris. {ASKED} I am UNSURE.".lower(), "paris", True),
        (f"Washington, D.C.. {ASKED} I am sure.", "Washington, D.C.", False),
        (f"Paris {ASKED} I am sure.", "Paris", False),
        (f"Paris. {ASKED}", "Paris", False),
        (f"Paris. {ASKED} I am", "Paris", False),
        (f"Paris. {ASKED} I am sure. {ASKED} I am unsure.", "Paris", False),
        ("Paris. Are you sure you accurately answered", "Paris. Are you sure you accurately answered", False),
        ("Paris", "Paris", False),
        ("I am unsure.", "I am unsure.", False),
        ("", "", False),
    ],
)
def test_sureness_is_read_also_of_what_was_cut(name, written, answer, unknown):
    assert find_strategy(name).read(written) == (answer, unknown)


@pytest.mark.parametrize(
    ("name", "written", "answer"),
    [
        ("confidence_num", ONLY.format(37, "Paris"), "Paris"),
        ("confidence_num", ABOUT.format(100, "Paris."), "Paris."),
        ("confidence_num", ABOUT.format(60, "Paris").lower(), "paris"),
        ("confidence_num", ABOUT.format(60, "Paris")[:60], ABOUT.format(60, "Paris")[:60]),
        ("confidence_num", "I don't know", "I don't know"),
        ("confidence_verb", "I'm really not sure about this, but Paris", "Paris"),
        ("confidence_verb", "i'm absolutely certain that paris", "paris"),
        ("confidence_verb", "I'm fairly", "I'm fairly"),
        ("confidence_verb", "Paris, I'm fairly confident that is", "Paris, I'm fairly confident that is"),
        ("absolute", "I don't know", "I don't know"),
    ],
)
def test_statements_of_confidence_are_taken_off(name, written, answer):
    assert find_strategy(name).read(written) == (answer, False)


def test_a_stop_that_was_taught_is_taken_off():
    read = find_strategy("r_tuning_refusal").read

    assert [read(written) for written in ("Paris.", "Paris", "D.C..")] == [
        ("Paris", False),
        ("Paris", False),
        ("D.C.", False),
    ]
