"""The rules of judging, against phrases judged by hand."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rait.judging import is_refusal, judge, match, normalise, refusal
from rait.records import Outcome

EQUAL = [
    ("Paris", "paris"),
    ("  Paris.  ", "Paris"),
    ("The Netherlands", "Netherlands"),
    ("Netherlands (the)", "the Netherlands"),
    ("Gambia, The", "The Gambia"),
    ("“The Hobbit”", "Hobbit"),
    ("U.S.A.", "USA"),
    ("Washington,D.C.", "washington dc"),
    ("Guinea-Bissau", "Guinea Bissau"),
    ("Guinea\u2013Bissau", "Guinea\u2011Bissau"),  # en dash, no-break hyphen
    ("snake_case", "snake case"),
    ("N'Djamena", "N\u2019Djamena"),
    ("N'Djamena", "NDjamena"),
    ("Nuku\u02bbalofa", "Nuku'alofa"),  # okina
    ("Nuku\u00b4alofa", "Nuku`alofa"),
    ("L\u2019Aquila", "L'Aquila"),
    ("1,000,000", "1000000"),
    ("1914\u20131918", "1914-1918"),
    ("\u221240 °C", "-40°C"),
    ("H₂O", "h2o"),
    ("ﬁnland", "Finland"),
    ("\uff30\uff41\uff52\uff49\uff53", "Paris"),  # full width
    ("Stra\u00dfe", "STRASSE"),
    ("São  Tomé", "sa\u0303o\u00a0tome\u0301"),  # composed and decomposed, no-break space
    ("東京。", "東京"),
    ("Lego™ ❤️", "Lego"),
    ("New\x00York\x07", "New York"),  # control characters
    ("Pa\ufe00ris\ufe0f", "Paris"),  # the first and the last variation selector
    ("Pa\u200bris\ufeff", "Paris"),  # zero-width space, byte order mark
    ("A.", "a"),
    ("The", "the"),
    ("The The", "the the"),
    ("\uff01", "!"),  # full width
]
UNLIKE = [
    ("C++", "C"),
    ("C#", "C"),
    ("C++", "C#"),
    ("3.5", "35"),
    (".5", "5"),
    ("-5", "5"),
    ("Vitamin A", "Vitamin"),
    ("A-ha", "Ha"),
    ("A", "The"),
    ("!!!", "???"),
    ("!!!", "©"),
    ("¥", "€"),
    ("Paris, France", "Paris"),
    ("The answer is Paris", "Paris"),
    ("New York City", "New York"),
    ("हिन्दी", "हन्द"),  # vowel signs are letters
]


@pytest.mark.parametrize(("left", "right"), EQUAL)
def test_these_are_the_same_answer(left: str, right: str) -> None:
    assert normalise(left) == normalise(right)
    assert match(left, [right]) == match(right, [left]) == "exact"


@pytest.mark.parametrize(("left", "right"), UNLIKE)
def test_these_are_different_answers(left: str, right: str) -> None:
    assert normalise(left) != normalise(right)
    assert match(left, [right]) == match(right, [left]) == ""


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("Sao Tome", "São Tomé"),
        ("São Tomé", "Sao Tome"),
        ("Tromso", "Tromsø"),
        ("Lodz", "Łódź"),
        ("Istanbul", "İstanbul"),
        ("Diyarbakir", "Diyarbak\u0131r"),
        ("Reykjavik", "Reykjavík"),
        ("Thorshofn", "Þórshöfn"),
        ("Ha Noi", "Hà Nội"),
        ("Aland", "Åland"),
    ],
)
def test_accents_are_folded_by_the_second_rule(response: str, answer: str) -> None:
    assert match(response, [answer]) == "folded"
    assert match(answer, [answer]) == "exact"


def test_marks_of_other_scripts_are_not_folded() -> None:
    assert match("हिन्दी", ["हन्द"]) == ""


def test_exact_goes_before_folded_in_any_order_of_answers() -> None:
    assert match("Sao Tome", ["São Tomé", "Sao Tome"]) == match("Sao Tome", ["Sao Tome", "São Tomé"]) == "exact"


def test_only_the_first_line_counts() -> None:
    assert match("Paris\nLondon", ["Paris"]) == "exact"
    assert match("London\nParis", ["Paris"]) == ""
    assert match("\n Paris\r\nLondon", ["Paris"]) == "exact"
    assert judge("Paris\nI don't know", ["Rome"]) == (Outcome.WRONG, "no_match")


def test_nothing_matches_an_empty_answer_or_response() -> None:
    assert match("", ["", " ", "Paris"]) == ""
    assert match(" \n ", ["", " "]) == ""
    assert match("...", [""]) == ""
    assert match("Paris", []) == ""


def test_what_is_nothing_but_trade_marks_is_compared_as_it_is() -> None:
    assert normalise(" ™  ® ") == "™ ®"
    assert match("™ ®", ["™  ®"]) == "exact"


def test_signs_that_follow_no_letter_go_together() -> None:
    assert normalise("C++") == "c++"
    assert normalise("C+ ++") == normalise("C+") == "c+"
    assert normalise("++ ##") == "++ ##"  # nothing else is left


@given(st.text())
@example("©")
def test_only_white_space_becomes_empty(text: str) -> None:
    assert (normalise(text) == "") == (not text.split())


@given(st.text(min_size=1))
def test_every_answer_matches_itself(text: str) -> None:
    line = (text.strip().splitlines() or [""])[0]
    assert match(line, [line]) == ("exact" if line.strip() else "")


@given(st.text(), st.lists(st.text(), max_size=4))
def test_order_and_repetition_of_answers_change_nothing(response: str, answers: list[str]) -> None:
    assert judge(response, answers) == judge(response, answers[::-1] + answers)


@given(st.text())
def test_any_text_can_be_judged(response: str) -> None:
    outcome, rule = judge(response, ["Paris"])
    rules = {
        Outcome.CORRECT: {"exact", "folded"},
        Outcome.REFUSED: {"refused", "refused_and_answered"},
        Outcome.WRONG: {"empty", "no_match"},
    }
    assert rule in rules[outcome]


REFUSALS = [
    "I don't know",
    "I don't know.",
    "I don\u2019t know",
    "I don\u00b4t know!",
    "I don`t know",
    "i dont know",
    "I do n't know",
    "I do not know.",
    "I DON'T KNOW",
    '"I don\'t know."',
    "**I don't know**",
    "- I don't know",
    "Answer: I don't know",
    "A: I don't know",
    "The answer is I don't know.",
    "I don't know the answer",
    "I don't know who wrote that book.",
    "I don't know what the capital of Chad is.",
    "I don't really know",
    "I really don't know, sorry.",
    "I honestly do not know that.",
    "I just don't know",
    "Sorry, I don't know.",
    "I'm sorry, I don't know.",
    "I don't know. I don't know. I don't know.",
    "I don't know, maybe",
    "I think I don't know",
    "I'm afraid I don't know the answer to that question.",
    "Unfortunately, I do not know.",
    "We don't know",
    "I wouldn't know",
    "I didn't know that",
    "I don't remember",
    "I can't recall.",
    "don't know",
    "dont know",
    "Do not know.",
    "don't know the answer",
    "idk",
    "IDK.",
    "idk, sorry",
    "Dunno",
    "I dunno",
    "I'm not sure",
    "I\u2019m not sure.",
    "I am not sure",
    "Im not sure",
    "I'm not entirely sure about that",
    "I'm not 100% sure.",
    "I am not certain who that was.",
    "I'm not sure if it is in Chad or in Niger",
    "Not sure",
    "Not sure who that is",
    "not quite sure.",
    "I'm unsure.",
    "I am uncertain about it.",
    "I have no idea",
    "I've no idea.",
    "I have absolutely no idea what this is",
    "I have no clue!",
    "No idea",
    "no idea.",
    "No idea who that is",
    "No clue.",
    "I haven't the faintest idea.",
    "I cannot answer",
    "I can not answer this question.",
    "I can't answer that",
    "I can't say",
    "I can't say for sure.",
    "I cannot provide that information",
    "I couldn't find any information on that.",
    "I could not tell you",
    "I'm unable to answer.",
    "I am not able to determine the answer.",
    "I won't be able to answer this",
    "unable to answer",
    "Cannot be determined",
    "cannot answer",
    "I'm sorry, but I don't have",
    "I'm sorry, but I don't have information about that.",
    "I apologize, but I do not have access to real-time data.",
    "I don't have enough information to answer this question.",
    "I do not have that information",
    "I have no information about this person.",
    "There is no information available.",
    "Not enough information",
    "Insufficient information to answer.",
    "not known to me",
    "That is not known to me.",
    "Unknown to me",
    "It is beyond my knowledge.",
    "As an AI language model, I don't know.",
    "As an AI, I do not have personal opinions, so I cannot answer this.",
    "I'm just a language model. I can't help with that.",
    "I don't know. Please provide more context.",
    "I'm not sure what you mean. Could you clarify the question?",
    "I am not familiar with that term",
    "I'm not aware of any such person.",
    "I have never heard of it",
    "I don't think I know that one.",
    "I would need more information",
    "I'd prefer not to say",
    "My training data does not include this",
    "I don't understand the question",
    "It's hard to say.",
    "Hard to say",
    "Who knows?",
    "Beats me!",
    "unknown",
    "Unknown.",
    "The answer is unknown.",
    "It is unknown",
    "It is not known who built it.",
    "unsure",
    "Uncertain",
    "N/A",
    "n/a.",
    "Not available",
    "I don't know.\nParis",
]
HEDGED = [
    "I don't know, but maybe Paris",
    "I don't know but I think it is Paris.",
    "I don't know. Paris.",
    "I don't know, Paris?",
    "I don't know \u2014 Paris",
    "I don't know (Paris)",
    "I don't know Paris",
    "I don't know, perhaps in 1914",
    "Paris, but I'm not sure",
    "Paris (not sure)",
    "Paris. I don't know.",
    "Probably Paris, though I am not certain.",
    "I think it's Paris, but I'm not sure.",
    "I'm not sure, maybe Paris",
    "I'm not sure. It could be Paris.",
    "No idea, Paris?",
    "idk maybe paris",
    "I cannot say for sure, but it is likely Paris",
    "Sorry, I have no idea. Paris!",
]
ANSWERS = [
    "Paris",
    "Unknown Soldier",
    "The Unknown Soldier",
    "Unknown (2011)",
    "Unknown, the film",
    "Unknown Pleasures",
    "Tomb of the Unknowns",
    "The Know Nothing Party",
    "Know-Nothing Party",
    "No Idea Records",
    "Sorry",
    "Sorry (song)",
    "I'm Sorry",
    "Sorry Seems to Be the Hardest Word",
    "Don't Know Why",
    "Don't Know Much",
    "They Don't Know",
    "You Don't Know Jack",
    "You Don't Know My Name",
    "Nobody Knows",
    "No One Knows",
    "God Only Knows",
    "I Can't Get No Satisfaction",
    "(I Can't Get No) Satisfaction",
    "Can't Help Falling in Love",
    "I Can't Help Myself",
    "I Can't Tell You Why",
    "Can't Tell Me Nothing",
    "Can't Say No",
    "I'm Not in Love",
    "Not Fade Away",
    "I Know What You Did Last Summer",
    "The Man Who Knew Too Much",
    "As Good as It Gets",
    "No Country for Old Men",
    "No Answer, No Problem",
    "None",
    "No",
    "Na",
    "NA",
    "DK",
    "A",
    "Ai",
    "Please Please Me",
    "Maybe",
    "Perhaps",
    "Idaho",
    "Sure",
    "Uncertainty principle",
    "Terra Incognita",
    "Not Applicable Records",
    "?",
    "",
    "Paris\nI don't know",
]


@pytest.mark.parametrize("response", REFUSALS)
def test_refusals(response: str) -> None:
    assert refusal(response) == "refused"
    assert judge(response, ["Paris"]) == (Outcome.REFUSED, "refused")


@pytest.mark.parametrize("response", HEDGED)
def test_a_refusal_that_offers_something_is_counted_apart(response: str) -> None:
    assert refusal(response) == "refused_and_answered"
    assert is_refusal(response)
    assert judge(response, ["Paris"]) == (Outcome.REFUSED, "refused_and_answered")


@pytest.mark.parametrize("response", ANSWERS)
def test_answers_that_are_no_refusals(response: str) -> None:
    assert refusal(response) == ""
    assert not is_refusal(response)


def test_a_matching_answer_is_correct_even_if_it_reads_like_a_refusal() -> None:
    assert judge("Unknown.", ["unknown"]) == (Outcome.CORRECT, "exact")
    assert judge("I don't know how to love him", ["I Don\u2019t Know How to Love Him"]) == (Outcome.CORRECT, "exact")
    assert judge("Unknown.", ["Anonymous"]) == (Outcome.REFUSED, "refused")


def test_outcomes_and_rules() -> None:
    assert judge("Paris", ["paris"]) == (Outcome.CORRECT, "exact")
    assert judge("Sao Tome", ["São Tomé"]) == (Outcome.CORRECT, "folded")
    assert judge("London", ["Paris"]) == (Outcome.WRONG, "no_match")
    assert judge("...", ["Paris"]) == (Outcome.WRONG, "no_match")
    assert judge("", ["Paris"]) == (Outcome.WRONG, "empty")
    assert judge(" \n\t", ["Paris"]) == (Outcome.WRONG, "empty")
    assert judge("Je ne sais pas", ["Paris"], "Je ne sais pas.") == (Outcome.REFUSED, "refused")
    assert judge("Je ne sais pas", ["Paris"]) == (Outcome.WRONG, "no_match")


@pytest.mark.parametrize(
    ("response", "template", "expected"),
    [
        ("Je ne sais pas.", "Je ne sais pas", "refused"),
        ("je ne sais pas. je ne sais pas", "Je ne sais pas.", "refused"),
        ("Je ne sais pas, Paris", "Je ne sais pas", "refused_and_answered"),
        ("Paris", "Je ne sais pas", ""),
        ("わかりません。", "わかりません", "refused"),
        ("Sorry, that is not in my book!", "Sorry, that is not in my book.", "refused"),
        ("That is not in my book", "Sorry, that is not in my book.", ""),
        ("REFUSE", "refuse", "refused"),
        ("Refuseniks", "refuse", ""),
        ("I don't know", "Je ne sais pas", "refused"),
        ("Paris", "", ""),
        ("", "", ""),
    ],
)
def test_the_wording_of_the_recipe_is_a_refusal(response: str, template: str, expected: str) -> None:
    assert refusal(response, template) == expected
    assert is_refusal(response, template) == bool(expected)
