"""Which option a written answer chooses, against answers judged by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rait.choosing import Choice, judge_choice, parse_choice
from rait.records import LETTERS, Outcome

CITIES = ("Rome", "Paris", "Oslo", "Bern")  # B is right

CORRECT = [
    ("B", "letter"),
    ("b", "letter"),
    (" B\n", "letter"),
    ("B.", "letter"),
    ("B)", "letter"),
    ("(B)", "letter"),
    ("(b).", "letter"),
    ("[B]", "letter"),
    ('"B"', "letter"),
    ("B:", "letter"),
    ("B!", "letter"),
    ("**B**", "letter"),
    ("`B`", "letter"),
    ("B. Paris", "letter"),
    ("B) Paris.", "letter"),
    ("(B) Paris", "letter"),
    ("B: paris", "letter"),
    ("B - Paris", "letter"),
    ("B Paris", "letter"),
    ("**B.** Paris", "letter"),
    ("Answer: B", "letter"),
    ("Answer:B", "letter"),
    ("The answer is B.", "letter"),
    ("The answer is (B).", "letter"),
    ("The answer is: B", "letter"),
    ('The answer is "B".', "letter"),
    ("The correct answer is **B. Paris**", "letter"),
    ("The right option is B", "letter"),
    ("The letter of the right option is B.", "letter"),
    ("Option B", "letter"),
    ("My final answer is B", "letter"),
    ("I think the answer is B", "letter"),
    ("I choose option B.", "letter"),
    ("It's B", "letter"),
    ("It is B. Paris", "letter"),
    ("So, the answer is B.", "letter"),
    ("Therefore the best choice is B", "letter"),
    ("B\nA is the capital of Italy.", "letter"),
    ("B, because Rome is in Italy", "letter"),
    ("B since it lies on the Seine", "letter"),
    ("B. Paris is the capital of France.", "letter"),
    ("B. I think so", "letter"),
    ("B. E. coli lives there", "letter"),  # there are four: E offers no other one
    ("B is correct", "letter"),
    ("B is the right answer.", "letter"),
    ("B) B", "letter"),
    ("Paris", "option"),
    ("paris.", "option"),
    ("*Paris*", "option"),
    ("The answer is Paris.", "option"),
    ("It's Paris", "option"),
    ("Answer: **Paris**", "option"),
    ("Päris", "option"),
]
WRONG = [
    ("A", "letter"),
    ("(c)", "letter"),
    ("D. Bern", "letter"),
    ("The answer is A, because of the Pope", "letter"),
    ("Rome", "option"),
    ("The correct answer is Oslo", "option"),
    ("", "unparsable"),
    ("\n", "unparsable"),
    ("...", "unparsable"),
    ("E", "unparsable"),  # there are four
    ("London", "unparsable"),
    ("A or B", "unparsable"),
    ("B or C", "unparsable"),
    ("B, or C", "unparsable"),
    ("B, C", "unparsable"),
    ("b, c", "unparsable"),
    ("B and C", "unparsable"),
    ("B / C", "unparsable"),
    ("(B), (C)", "unparsable"),
    ("A. B", "unparsable"),
    ("B, C and D", "unparsable"),
    ("Both A and B", "unparsable"),
    ("AB", "unparsable"),
    ("Not B", "unparsable"),
    ("B is wrong", "unparsable"),
    ("Rome or Paris", "unparsable"),
    ("Paris, Rome", "unparsable"),
    ("B. Rome", "unparsable"),
    ("B: Rome, of course", "unparsable"),
    ("Bern is B", "unparsable"),
    ("Before that, Paris", "unparsable"),
    ("A city in Italy", "unparsable"),
    ("As far as I can see, Paris", "unparsable"),
    ("Sob", "unparsable"),  # not "so, B"
    ("B's population", "unparsable"),
]
REFUSED = [
    ("I don't know", "refused"),
    ("I don't know.", "refused"),
    ("Unknown", "refused"),
    ("I'm not sure which one", "refused"),
    ("I don't know, maybe B", "refused_and_answered"),
    ("B, but I'm not sure", "refused_and_answered"),
    ("B. I don't know", "refused_and_answered"),
    ("Paris, but I don't know for sure", "refused_and_answered"),
]
TABLE = (
    [(text, Outcome.CORRECT, rule) for text, rule in CORRECT]
    + [(text, Outcome.WRONG, rule) for text, rule in WRONG]
    + [(text, Outcome.REFUSED, rule) for text, rule in REFUSED]
)


@pytest.mark.parametrize(("text", "outcome", "rule"), TABLE)
def test_answers_judged_by_hand(text, outcome, rule):
    assert judge_choice(text, CITIES, 1) == (outcome, rule)


@pytest.mark.parametrize(
    ("options", "text", "choice"),
    [
        # Letters were asked for, so a letter is one; with its text, or where there is no such letter, it is a text.
        (("O", "A", "B", "AB"), "A", (0, "letter")),
        (("O", "A", "B", "AB"), "B", (1, "letter")),
        (("O", "A", "B", "AB"), "C. B", (2, "letter")),
        (("O", "A", "B", "AB"), "The answer is AB", (3, "option")),
        (("O", "A", "B", "AB"), "O", (0, "option")),
        (("Python", "C"), "C", (1, "option")),
        (("C", "C++", "C#"), "C++", (1, "option")),
        (("3", "4", "5"), "4", (1, "option")),
        (("3", "4", "5"), "4.", (1, "option")),
        (("3", "4", "5"), "B. 4", (1, "letter")),
        (("3", "4", "5"), "C) 4", None),
        (("-4", "4"), "B -4", None),
        (("-4", "4"), "-4", (0, "option")),
        (("1.5", "15"), "1.5", (0, "option")),
        (("New York", "New York City"), "B. New York City", (1, "letter")),
        (("New York", "New York City"), "B. New York City, of course", (1, "letter")),
        (("New York", "New York City"), "B. New York, of course", None),
        (("New York", "New York City"), "New York", (0, "option")),
        (("New York", "New York City"), "New York City", (1, "option")),
        (("a * b", "snake_case", "__init__"), "snake_case", (1, "option")),
        (("a * b", "snake_case", "__init__"), "`snake_case`", (1, "option")),
        (("a * b", "snake_case", "__init__"), "B. snake_case", (1, "letter")),
        (("a * b", "snake_case", "__init__"), "__init__", (2, "option")),
        (("p ∧ q", "p ∨ q"), "p ∨ q", (1, "option")),  # alike once normalised
        (("p ∧ q", "p ∨ q"), "B. p ∨ q", (1, "letter")),
        (("p ∧ q", "p ∨ q"), "p q", None),
        (("The", "A"), "The", (0, "option")),
        (("Salmonella", "E. coli"), "E. coli", (1, "option")),
        (("x", "y", "z", "w", "v"), "E. coli", (4, "letter")),
        (("Vitamin A", "Vitamin"), "Vitamin A", (0, "option")),
        (("All of the above", "A and C"), "A and C", (1, "option")),
        (("Kyiv", "São Tomé"), "Sao Tome", (1, "option")),
        (("yes", "no"), "No.", (1, "option")),
        (tuple("0123456789"), "J", (9, "letter")),
        (tuple("0123456789"), "(i)", (8, "letter")),
        (tuple("0123456789"), "7", (7, "option")),
        (tuple("0123456789"), "I, J", None),
        (tuple("0123456789"), "I think it is H", (7, "letter")),
        (tuple("0123456789"), "I think", None),
    ],
)
def test_options_of_every_kind(options, text, choice):
    found = parse_choice(text, options)
    assert (found and (found.option, found.rule)) == choice


def test_an_explanation_is_told_from_a_bare_choice():
    assert parse_choice("B", CITIES) == parse_choice("B. Paris", CITIES) == Choice(1, "letter", bare=True)
    assert parse_choice("B, because of the Seine", CITIES) == Choice(1, "letter", bare=False)


@pytest.mark.parametrize(
    ("text", "target", "expected"),
    [
        ("Unknown", 1, (Outcome.CORRECT, "option")),
        ("Unknown", 0, (Outcome.REFUSED, "refused")),
        ("B. Unknown", 1, (Outcome.CORRECT, "letter")),
        ("B. Unknown", 0, (Outcome.WRONG, "letter")),
        ("C. Cannot be determined", 2, (Outcome.CORRECT, "letter")),
        ("C. Cannot be determined", 0, (Outcome.WRONG, "letter")),
        ("Cannot be determined", 2, (Outcome.CORRECT, "option")),
        ("Cannot be determined", 0, (Outcome.REFUSED, "refused")),
        ("B", 0, (Outcome.WRONG, "letter")),
    ],
)
def test_an_option_may_refuse(text, target, expected):
    assert judge_choice(text, ("Rome", "Unknown", "Cannot be determined"), target) == expected


def test_the_wording_of_the_recipe_refuses():
    assert judge_choice("Weiß nicht", CITIES, 1, "Weiß nicht.") == (Outcome.REFUSED, "refused")
    assert judge_choice("Weiß nicht", CITIES, 1) == (Outcome.WRONG, "unparsable")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("B", (Outcome.WRONG, "unparsable")),
        ("B. Paris", (Outcome.WRONG, "unparsable")),
        ("Paris", (Outcome.CORRECT, "option")),
        ("The answer is Paris.", (Outcome.CORRECT, "option")),
        ("Rome", (Outcome.WRONG, "option")),
        ("I don't know", (Outcome.REFUSED, "refused")),
    ],
)
def test_letters_mean_nothing_where_none_were_shown(text, expected):
    assert judge_choice(text, CITIES, 1, by_letter=False) == expected


def test_an_option_that_is_a_letter_is_a_text_where_no_letters_were_shown():
    assert parse_choice("A", ("B", "A"), by_letter=False) == Choice(1, "option", bare=True)


FORMS = ["{}", "({})", "[{}]", "{}.", "{})", "({}).", "**{}**", "**({})**", "`{}`", '"{}"', " {}\n", "{}:"]
LEADS = ["", "Answer: ", "The answer is ", "The correct option is ", "Option ", "I think it's ", "So the answer is "]
texts = (
    st.text("ABCDEFGHIJ abc123.", min_size=1, max_size=6)
    .map(str.strip)
    .filter(lambda text: any(map(str.isalnum, text)))
)


@given(st.lists(texts, min_size=2, max_size=10, unique=True), st.data())
def test_any_bare_form_of_a_letter_chooses_its_option(options, data):
    """Whatever the options' texts are, letters among them."""
    place = data.draw(st.integers(0, len(options) - 1))
    letter = data.draw(st.sampled_from([LETTERS[place], LETTERS[place].lower()]))
    form = data.draw(st.sampled_from(LEADS)) + data.draw(st.sampled_from(FORMS)).format(letter)
    assert parse_choice(form, options) == Choice(place, "letter", bare=True)
    for target in range(len(options)):
        outcome = Outcome.CORRECT if target == place else Outcome.WRONG
        assert judge_choice(form, options, target) == (outcome, "letter")


@given(st.lists(texts, min_size=2, max_size=10, unique_by=str.casefold), st.data())
def test_a_letter_with_its_text_chooses_its_option(options, data):
    place = data.draw(st.integers(0, len(options) - 1))
    form = data.draw(st.sampled_from(["{}. {}", "({}) {}", "{}: {}", "{}) {}", "{}\t{}"]))
    found = parse_choice(form.format(LETTERS[place], options[place]), options)
    assert found == Choice(place, "letter", bare=True)


@given(st.lists(st.text("xyz 123.", max_size=6), min_size=2, max_size=10), st.data())
def test_two_letters_choose_nothing(options, data):
    """Where the options are no letters themselves: "A and B" may be one."""
    first, second = data.draw(st.permutations(range(len(options))))[:2]
    form = data.draw(st.sampled_from(["{} or {}", "{} and {}", "{}, {}", "({}) or ({})", "{}/{}", "{} & {}"]))
    assert parse_choice(form.format(LETTERS[first], LETTERS[second]), options) is None


@given(st.text(), st.lists(st.text(max_size=5), min_size=2, max_size=10), st.booleans())
def test_any_text_is_judged(text, options, by_letter):
    found = parse_choice(text, options, by_letter=by_letter)
    assert found is None or (0 <= found.option < len(options) and found.rule in ("letter", "option"))
    outcome, rule = judge_choice(text, options, 0, by_letter=by_letter)
    assert rule in ("letter", "option", "unparsable", "refused", "refused_and_answered")
    assert by_letter or rule != "letter"
    assert (outcome is Outcome.REFUSED) == rule.startswith("refused")


@pytest.mark.parametrize("target", range(4))
def test_the_target_decides_what_is_correct(target):
    for place, letter in enumerate("ABCD"):
        expected = Outcome.CORRECT if place == target else Outcome.WRONG
        assert judge_choice(letter, CITIES, target) == (expected, "letter")
        assert judge_choice(CITIES[place], CITIES, target) == (expected, "option")
