"""What is found in a set of questions as a whole, and leakage from training to test sets."""

import csv
import random
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rait.questions import load_questions, validate, without_leaks
from rait.questions.seen import Seen
from rait.questions.validation import question_key, without
from rait.records import Question

DATA = Path(__file__).parents[2].parent / "shared/data"
real = pytest.mark.skipif(not DATA.is_dir(), reason="needs the public sets in ../shared/data")


def ask(id: str, text: str, *answers: str, options: Sequence[str] = ()) -> Question:
    target = options.index(answers[0]) if options else None
    return Question(id=id, question=text, answers=answers, options=tuple(options), target=target)


def found(*questions: Question, refusal: str = "I don't know") -> dict[str, list[str]]:
    return {finding.kind: finding.ids for finding in validate(questions, refusal).findings}


def test_nothing_is_found_in_good_questions() -> None:
    validation = validate([ask("a", "Who?", "Ann"), ask("b", "What?", "Ann", "it"), ask("c", "Or?", "x", options="xy")])
    assert (validation.findings, validation.excluded) == ((), frozenset())


def test_every_flaw_is_found_and_what_cannot_be_used_is_left_out() -> None:
    questions = [
        ask("a", "Who?", "Ann"),
        ask("b", "who", "Bob"),
        ask("c", "Who ?!", "the ann", "Cy"),
        ask("a", "When?", "now"),
        ask("d", "Where?"),
        ask("e", "Why?", "so", "  "),
        ask("f", "How?", "Unknown"),
        ask("g", "How many?", "two", "no idea"),
        ask("h", "Or?", "x", options=["x", "y", "y"]),
        ask("i", "Where?", "here"),
    ]
    validation = validate(questions)
    assert {finding.kind: (finding.count, finding.ids, finding.excluded) for finding in validation.findings} == {
        "duplicate_id": (1, ["a"], True),
        "empty_answer": (2, ["d", "e"], True),
        "conflict": (1, ["b"], False),
        "repeated": (1, ["c"], False),
        "refusal": (2, ["f", "g"], False),
        "repeated_option": (1, ["h"], False),
    }
    assert validation.excluded == {3, 4, 5}
    assert [question.id for question in without(questions, validation.excluded)] == ["a", "b", "c", "f", "g", "h", "i"]


def test_a_finding_is_one_line_with_its_first_ids() -> None:
    questions = [ask(str(n), "Who?", "Ann") for n in range(6)]
    assert [str(finding) for finding in validate(questions).findings] == [
        "asked before, with the same answer: 5 ('1', '2', '3', ...), kept"
    ]
    questions = [ask(str(n), f"Who is {n}?") for n in range(2)]
    assert [str(finding) for finding in validate(questions).findings] == [
        "no answer, or an empty one: 2 ('0', '1'), left out"
    ]


def test_the_wording_of_the_recipe_is_a_refusal_too() -> None:
    question = ask("a", "Wer?", "Weiß ich nicht")
    assert found(question) == {}
    assert found(question, refusal="Weiß ich nicht") == {"refusal": ["a"]}


def test_a_third_answer_may_agree_with_either_before() -> None:
    assert found(ask("a", "Who?", "x"), ask("b", "Who?", "y"), ask("c", "Who?", "y", "z"), ask("d", "Who?", "q")) == {
        "conflict": ["b", "d"],
        "repeated": ["c"],
    }


def test_options_belong_to_a_question() -> None:
    which = "Which of these is a river?"
    assert found(
        ask("a", which, "Nile", options=["Nile", "Rome", "Lima"]),
        ask("b", which, "Po", options=["Po", "Rome", "Lima"]),
        ask("c", which, "nile.", options=["Lima", "nile.", "Rome"]),
        ask("d", which, "Lima", options=["Nile", "Rome", "Lima"]),
        ask("e", which, "Nile"),
    ) == {"repeated": ["c"], "conflict": ["d"]}


SAME = [
    "Who wrote “Emma”, the novel?",
    "who wrote emma the novel",
    "WHO WROTE  'EMMA' THE\nNOVEL ?",
    "Who wrote Emma, the novel…",
    "Ｗｈｏ wrote «Emma», the novel.",
]
DIFFERENT = [
    "What is 2*2?", "What is 2+2?", "What is 2-2?", "What is -2-2?", "What is 2.2?", "What is 22?", "What is 2,2?",
    "Who was a king?", "Who was king?", "The capital is ___.", "The capital is.", "C++ is?", "C is?", "x^2 = ?",
    "x_2 = ?",
]  # fmt: skip


def test_what_makes_a_question_the_same() -> None:
    assert len({question_key(ask("a", text, "x")) for text in SAME}) == 1
    assert len({question_key(ask("a", text, "x")) for text in DIFFERENT}) == len(DIFFERENT)
    assert question_key(ask("a", "It is ____.", "x")) == question_key(ask("b", "It is __", "y"))
    assert question_key(ask("a", "?", "x")) != question_key(ask("a", "!", "x")), "signs alone are compared as they are"


def test_leaks_are_taken_out_of_the_test_set_in_order() -> None:
    train = [ask("t1", "Who wrote Emma?", "Austen"), ask("t2", "Which?", "x", options="xy")]
    test = [
        ask("a", "who wrote emma", "Jane Austen"),
        ask("b", "Who wrote Ulysses?", "Joyce"),
        ask("c", "Which?", "y", options="yx"),
        ask("d", "Which?", "y", options="yz"),
        ask("t1", "Who?", "Ann"),
    ]
    kept, leaked = without_leaks(test, iter(train))
    assert [question.id for question in kept] == ["b", "d", "t1"]
    assert [question.id for question in leaked] == ["a", "c"]
    assert without_leaks(test, []) == (test, [])
    assert without_leaks([], train) == ([], [])


WORDS = ["Who", "who", "wrote", "Emma?", "emma", '"Emma"', "Emma.", "2*2", "2 2", " "]


@given(st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(" ".join), max_size=8), st.integers(0, 8))
@settings(deadline=None)
def test_leaks_against_a_second_definition(texts: list[str], cut: int) -> None:
    def plain(text: str) -> str:
        words = [word.strip('"?.').lower() for word in text.split()]
        return " ".join(word for word in words if word) or "".join(text.split())

    questions = [ask(str(number), text, "x") for number, text in enumerate(texts)]
    train, test = questions[:cut], questions[cut:]
    kept, leaked = without_leaks(test, train)
    expected = [one.id for one in test if any(plain(one.question) == plain(two.question) for two in train)]
    assert [question.id for question in leaked] == expected
    assert sorted(question.id for question in kept + leaked) == sorted(question.id for question in test)


def test_the_order_of_the_questions_changes_no_count() -> None:
    questions = [
        ask(f"{text} {answer} {number}", text, answer)
        for number, (text, answer) in enumerate(product(["Who?", "What?"], ["x", "x", "unknown"]))
    ]
    counts = set()
    for seed in range(20):
        random.Random(seed).shuffle(questions)
        by_kind = {finding.kind: finding.count for finding in validate(questions).findings}
        counts.add((by_kind["refusal"], by_kind["repeated"] + by_kind["conflict"]))
    assert counts == {(2, 4)}


@given(st.lists(st.tuples(st.text(max_size=2), st.frozensets(st.integers(-(2**63), 2**64), max_size=3)), max_size=20))
def test_what_was_seen_is_what_was_put_last(pairs: list[tuple[str, frozenset[int]]]) -> None:
    expected: dict[str, frozenset[int]] = {}
    with Seen[frozenset[int]]() as seen:
        for text, value in pairs:
            assert seen.get(text) == expected.get(text)
            seen.put(text, value)
            expected[text] = value
        assert all(seen.get(text) == value for text, value in expected.items())


Raw = list[tuple[str, tuple[str, frozenset[str]], list[str]]]


def raw_mmlu(split: str) -> Raw:
    """Ids, questions with their sets of options in lower case, and the options, read without our readers."""
    found: Raw = []
    for path in sorted((DATA / "mmlu" / split).iterdir()):
        with path.open(encoding="utf-8", newline="") as file:
            for id, _, text, *options, _ in list(csv.reader(file))[1:]:
                plain = [" ".join(part.lower().split()) for part in (text, *options)]
                found.append((id, (plain[0], frozenset(plain[1:])), [option.strip() for option in options]))
    return found


# Compared by eye: they differ in full stops, in the kind of apostrophe, or in signs of another width.
SAME_BUT_FOR_SIGNS = {
    "college_physics/test/19", "conceptual_physics/test/108", "conceptual_physics/test/127",
    "machine_learning/test/93", "professional_psychology/test/444", "professional_psychology/test/485",
}  # fmt: skip
REFUSING_ANSWERS = {
    "dev": {"high_school_statistics/dev/1"},
    "val": {"high_school_chemistry/val/19"},
    "test": {
        "astronomy/test/47", "conceptual_physics/test/55", "high_school_statistics/test/184",
        "high_school_statistics/test/204", "moral_disputes/test/234",
    },
}  # fmt: skip


@real
@pytest.mark.parametrize("split", ["dev", "val", "test"])
def test_flaws_of_mmlu_against_a_second_reading(split: str) -> None:
    raw = raw_mmlu(split)
    questions = load_questions(str(DATA / "mmlu"), split=split)
    first = {key: id for id, key, _ in reversed(raw)}
    repeated = {id for id, key, _ in raw if id != first[key]}
    expected = {
        "repeated": repeated | (SAME_BUT_FOR_SIGNS if split == "test" else set()),
        "refusal": REFUSING_ANSWERS[split],
        "repeated_option": {id for id, _, options in raw if len(set(options)) < 4},
    }
    findings = validate(questions).findings
    assert {finding.kind: finding.count for finding in findings} == {kind: len(ids) for kind, ids in expected.items()}
    assert all(set(finding.ids) <= expected[finding.kind] for finding in findings)


@real
@pytest.mark.parametrize(("test", "train", "count"), [("val", "test", 28), ("val", "dev", 1), ("dev", "test", 5)])
def test_leaks_of_mmlu_against_a_second_reading(test: str, train: str, count: int) -> None:
    trained = {key for _, key, _ in raw_mmlu(train)}
    expected = [id for id, key, _ in raw_mmlu(test) if key in trained]
    kept, leaked = without_leaks(*(load_questions(str(DATA / "mmlu"), split=split) for split in (test, train)))
    assert [question.id for question in leaked] == expected
    assert (len(leaked), len(kept)) == (count, len(raw_mmlu(test)) - count)


@real
def test_the_other_real_sets() -> None:
    names = ("Easy-Dev", "Easy-Test", "Challenge-Dev", "Challenge-Test")
    arc = {name: load_questions(str(DATA / f"arc/ARC-{name}.jsonl")) for name in names}
    for one, two in product(arc, arc):
        assert one == two or not without_leaks(arc[one], arc[two])[1]
    assert all(not validate(questions).findings for questions in arc.values())
    nq = load_questions(str(DATA / "nq/dev.json"))
    # "N/A" and "unknown"; that an answer is "an unknown recipient" is none.
    assert [(f.kind, f.ids) for f in validate(nq).findings] == [("refusal", ["nq_dev_2890", "nq_dev_3160"])]
