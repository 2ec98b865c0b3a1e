# ruff: noqa: E501  (a table of files and messages)
"""What malformed question files get: where, which field, what was found and what was expected, for each way to be wrong."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rait.errors import InputError
from rait.questions import load_questions

GOOD = '{"question": "Who?", "answers": ["Ann"]}\n'
ROW = {"question": "Who?", "options": ["Ann", "Bob", "Cy"], "target": 1}
MMLU_HEADER = "id,lang,question,A,B,C,D,target\n"


def absent(found: str, *names: str) -> list[str]:
    """The lines that say of fields that no row has a column for them."""
    return [f"no column {name!r}; found: {found}; give yours as questions.fields.{name}=COLUMN" for name in names]


AFTER_QUOTES = "FILE:{}: after a quoted cell, a comma is expected; a quotation mark inside it is written twice"


class Case(NamedTuple):
    """A file, how it is read, and the lines of its error below the headline; FILE stands for its path."""

    name: str
    content: Any  # text, bytes, or rows: of a .parquet file all, else one or more objects
    says: list[str]
    settings: dict[str, Any] | None = None


def row(**changes: Any) -> dict[str, Any]:
    """A multiple-choice row with other values; ... takes a field away."""
    return {name: value for name, value in (ROW | changes).items() if value is not ...}


def arc(**changes: Any) -> dict[str, Any]:
    stem = {
        "stem": "Who?",
        "choices": [{"text": text, "label": label} for text, label in zip("xyz", "ABC", strict=True)],
    }
    return {name: value for name, value in ({"id": "a", "question": stem, "answerKey": "B"} | changes).items()}


def choices(*pairs: tuple[Any, Any]) -> dict[str, Any]:
    return {"stem": "Who?", "choices": [{"text": text, "label": label} for text, label in pairs]}


LINES = [
    Case("q.jsonl", GOOD + '{"question": "Wh', ["FILE:2: not JSON at character 14 (Unterminated string)"]),
    Case("q.jsonl", GOOD + "{'question': 'Who?'}", ["FILE:2: not JSON at character 2 (Expecting property name enclosed in double quotes)"]),
    Case("q.jsonl", GOOD + '{"question": "Who?"} x', ["FILE:2: not JSON at character 22 (Extra data)"]),
    Case("q.jsonl", GOOD + "[1, 2]", ["FILE:2: expected an object with named fields, found list"]),
    Case("q.jsonl", GOOD + '"Who?"', ["FILE:2: expected an object with named fields, found str"]),
    Case("q.jsonl", GOOD + "null", ["FILE:2: expected an object with named fields, found NoneType"]),
    Case("q.jsonl", GOOD.encode() + b'{"question": "O\xf9?"}', ["FILE:2: not UTF-8 text"]),
    Case("q.jsonl", GOOD + "[" * 100_000, ["FILE:2: not JSON (nested too deeply)"]),
    Case("q.jsonl", "", ["it holds no rows"]),
    Case("q.jsonl", "\n  \n", ["it holds no rows"]),
    Case("q.json", "", ["it holds no rows"]),
    Case("q.json", "[]", ["it holds no rows"]),
    Case("q.json", "hello, world and all in it", ["FILE:1: expected a list of objects, found 'hello, world and all'"]),
    Case(
        "q.json", '{"question": "Who?"}', ["FILE:1: expected a list of objects, found an object; one object a line is .jsonl"]
    ),
    Case("q.json", f"[\n{GOOD},\n{GOOD[:-4]}", ["FILE:4: not JSON at character 34 (Unterminated string)"]),
    Case("q.json", f"[{GOOD}{GOOD}]", ["FILE:2: not JSON at character 1 (Expecting ',' delimiter)"]),
    Case("q.json", f"[{GOOD}\n] x", ["FILE:3: not JSON at character 3 (Extra data)"]),
    Case("q.json", f"[{GOOD},\n]", ["FILE:3: not JSON at character 1 (Expecting value)"]),
    Case("q.json", f"[{GOOD},\n\n7, 8]", [f"FILE:4{item}: expected an object with named fields, found int" for item in ("", ", item 3")]),
    Case("q.json", "[" * 100_000, ["FILE:1: not JSON (nested too deeply)"]),
    Case("q.csv", "question,answers\n", ["it holds no rows"]),
    Case("q.csv", "question,answers,answers\nWho?,a,b\n", ["FILE:1: a column is named twice: question, answers, answers"]),
    Case("q.csv", "question,answers\nWho?\n", ["FILE:2: 1 cells, but the header has 2: question, answers"]),
    Case("q.csv", 'question,answers\n"Who\n?",a,b\n', ["FILE:2: 3 cells, but the header has 2: question, answers"]),
    Case("q.csv", 'question,answers\nWho?,"a\n', ["FILE:2: a quotation mark is opened and never closed"]),
    Case("q.csv", 'question,answers\nWho?,"a"b\n', [AFTER_QUOTES.format(2)]),
    Case("q.csv", "question,answers\nWho?," + 200_000 * "a", ["FILE:2: a cell has over 131072 characters; is a quotation mark not closed?"]),
    Case("q.csv", "question;answers\nWho?;a\n", ["FILE:1: expected the names of columns, a comma between them, found 'question;answers'"]),
    Case("q.tsv", "question,answers\nWho?,a\n", ["FILE:1: expected the names of columns, a tab between them, found 'question,answers'"]),
    Case("q.parquet", [{"prompt": "Who?"}], absent("prompt", "question", "answers")),
    Case("q.csv", "Question,Answer\nWho?,a\n", absent("Question, Answer", "question", "answers")),
    Case("q.csv", '"question,answers\nWho?,a\n', ["FILE:1: a quotation mark is opened and never closed"]),
    Case("q.csv", 'question,answers\n"Who" said?,a\nWho?\n"What",a\n"When" x,"a"\n', [AFTER_QUOTES.format(2), "FILE:3: 1 cells, but the header has 2: question, answers", AFTER_QUOTES.format(5)]),
    Case("q.tsv", 'question\tanswers\n"Who" said?\ta\n', [AFTER_QUOTES.format(2).replace("a comma", "a tab")]),
    Case("q.jsonl", GOOD.encode("utf-16"), ["FILE:1: not UTF-8 text", "FILE:2: not JSON at character 1 (Expecting value)"]),
    Case("q.csv", "question,answers\nWho?,a\n".encode("utf-16"), ["FILE:1: not UTF-8 text; save the file as UTF-8"]),
    Case("q.json", '[{"question": "Who?", "answers": "a"}, {"question": "", "answers": "a"}, {"question": "What?"}]', ["FILE:1, item 2: 'question' is empty", "FILE:1, item 3: 'answers' is missing; give one answer or more"]),
    Case("q.json", '[{"question": "Who?", "answers": "a"}, {"question": "Wh', ["FILE:1: not JSON at character 53 (Unterminated string)"]),
]  # fmt: skip

FIELDS = [
    Case("q.jsonl", [{"question": None, "answers": "a", "id": "x"}], ["FILE:1: 'question' is missing; found: answers, id"]),
    Case("q.jsonl", [{"question": " ", "answers": "a"}], ["FILE:1: 'question' is empty"]),
    Case("q.jsonl", [{"question": ["Who?"], "answers": "a"}], ["FILE:1: 'question' must be a text, found ['Who?']"]),
    Case("q.jsonl", [{"question": "\ud83d", "answers": "a"}], ["FILE:1: 'question' must be a text, found '\\ud83d'"]),
    Case("q.jsonl", [{"question": "Who?", "answers": None}], ["FILE:1: 'answers' is missing; give one answer or more"]),
    Case("q.jsonl", [{"question": "Who?", "answers": []}], ["FILE:1: 'answers' is empty"]),
    Case("q.jsonl", [{"question": "Who?", "answers": ["a", ""]}], ["FILE:1: 'answers' holds an empty answer"]),
    Case("q.jsonl", [{"question": "Who?", "answers": ""}], ["FILE:1: 'answers' holds an empty answer"]),
    Case("q.jsonl", [{"question": "Who?", "answers": [1912]}], ["FILE:1: 'answers' must be a text or a list of texts, found [1912]"]),
    Case("q.jsonl", [{"question": "Who?", "answers": {"a": "b"}}], ["FILE:1: 'answers' must be a text or a list of texts, found {'a': 'b'}"]),
    Case("q.jsonl", [{"question": "Who?", "answers": 9 * ["x" * 9, None]}], ["FILE:1: 'answers' must be a text or a list of texts, found ['xxxxxxxxx', None, 'xxxxxxxxx', None, 'xxxxxxxxx', None,..."]),
    Case("q.csv", "question,answers\nWho?,['a']\n", ["FILE:2: 'answers' begins like a JSON list but is none (Expecting value)"]),
    Case("q.csv", "question,answers\nWho?,[1]\n", ["FILE:2: 'answers' must be a text or a list of texts, found '[1]'"]),
    Case("q.csv", "question,answers\nWho?,a|\n", ["FILE:2: 'answers' holds an empty answer"]),
    Case("q.jsonl", [{"id": 1.5, "question": "Who?", "answers": "a"}], ["FILE:1: 'id' must be a text or a whole number, found 1.5"]),
    Case("q.jsonl", [{"id": "", "question": "Who?", "answers": "a"}], ["FILE:1: 'id' must be a text or a whole number, found ''"]),
    Case("q.jsonl", [{"id": "\udc00", "question": "Who?", "answers": "a"}], ["FILE:1: 'id' must be a text or a whole number, found '\\udc00'"]),
    Case("q.jsonl", [{"question": "Who?", "answers": "a", "category": 3}], ["FILE:1: 'category' must be a text, found 3"]),
    Case("q.jsonl", 2 * [{"id": 7, "question": "Who?", "answers": "a"}], ["FILE:2: id '7' was already used at FILE:1; ids must differ"]),
    Case("q.jsonl", 2 * [{"question": "Who?", "answers": "a"}], ["FILE:2: the same question was asked at FILE:1; keep one, or give each an id"]),
    Case("q.parquet", [{"question": "Who?", "answers": ["a"]}, {"question": None, "answers": None}], ["FILE:2: 'question' is missing; found: nothing", "FILE:2: 'answers' is missing; give one answer or more"]),
]  # fmt: skip

OPTIONS = [
    Case("q.jsonl", [row(options=["Ann"], target=0)], ["FILE:1: 'options' holds 1, expected 2 to 10 options"]),
    Case("q.jsonl", [row(options=list("abcdefghijk"))], ["FILE:1: 'options' holds 11, expected 2 to 10 options"]),
    Case("q.jsonl", [row(options=[])], ["FILE:1: 'options' is empty"]),
    Case("q.jsonl", [row(options=None)], ["FILE:1: 'options' is missing; give 2 to 10 options"]),
    Case("q.jsonl", [row(options=["a", " "])], ["FILE:1: 'options' holds an empty option"]),
    Case("q.jsonl", [row(options=[1, 2])], ["FILE:1: 'options' must be a text or a list of texts, found [1, 2]"]),
    Case("q.jsonl", [row(options="a or b")], ["FILE:1: 'options' holds 1, expected 2 to 10 options"]),
    Case("q.jsonl", [row(target=None)], ["FILE:1: 'target' is missing; name the right option"]),
    Case("q.jsonl", [row(target=...)], absent("question, options", "target")),
    Case("q.jsonl", [row(target=3)], ["FILE:1: 'target' must be an index (0 to 2), found 3"]),
    Case("q.jsonl", [row(target=-1)], ["FILE:1: 'target' must be an index (0 to 2), found -1"]),
    Case("q.jsonl", [row(target="D")], ["FILE:1: 'target' must be an index (0 to 2) or a letter (A to C) or the text of an option, found 'D'"]),
    Case("q.jsonl", [row(target="Dan")], ["FILE:1: 'target' must be an index (0 to 2) or a letter (A to C) or the text of an option, found 'Dan'"]),
    Case("q.jsonl", [row(target=1.0)], ["FILE:1: 'target' must be an index (0 to 2) or a letter (A to C) or the text of an option, found 1.0"]),
    Case("q.jsonl", [row(target=True)], ["FILE:1: 'target' must be an index (0 to 2) or a letter (A to C) or the text of an option, found True"]),
    Case("q.jsonl", [row(target=[1])], ["FILE:1: 'target' must be an index (0 to 2) or a letter (A to C) or the text of an option, found [1]"]),
    Case("q.jsonl", [row(options=["x", "A"], target="A")], ["FILE:1: 'target' is 'A', which may mean option 1 (letter) or option 2 (text); set questions.target_is"]),
    Case("q.jsonl", [row(options=["x", "y", "y"], target="y")], ["FILE:1: 'target' is 'y', which may mean option 2 (text) or option 3 (text); options must differ"]),
    Case("q.csv", "question,A,B,C,target\nWho?,1,2,3,2\n", ["FILE:2: 'target' is '2', which may mean option 3 (index) or option 2 (text); set questions.target_is"]),
    Case("q.csv", "question,A,B,C,target\nWho?,x,,z,A\n", ["FILE:2: 'B' is missing; found: question, A, C, target"]),
    Case("q.csv", "question,A,B,C,target\nWho?,x,,,A\n", ["FILE:2: 'A B C' holds 1, expected 2 to 10 options"]),
    Case("q.csv", "question,options,target\nWho?,[a],0\n", ["FILE:2: 'options' begins like a JSON list but is none (Expecting value)"]),
    Case("q.jsonl", [row(target=0)], ["FILE:1: 'target' must be a number (1 to 3), found 0"], {"target_is": "number"}),
    Case("q.jsonl", [row(target="B")], ["FILE:1: 'target' must be an index (0 to 2), found 'B'"], {"target_is": "index"}),
    Case("q.jsonl", [row(target=1)], ["FILE:1: 'target' must be a letter (A to C), found 1"], {"target_is": "letter"}),
    Case("q.jsonl", [row(target="ann")], ["FILE:1: 'target' must be the text of an option, found 'ann'"], {"target_is": "text"}),
    Case("q.jsonl", [row(options={"A": "x", "B": None})], ["FILE:1: 'options' holds 1, expected 2 to 10 options"]),
    Case("q.jsonl", [row(options={"A": "x", "B": "y"}, target="C")], ["FILE:1: 'target' must be one of A, B, found 'C'"]),
    Case("q.jsonl", [row(options={"A": "x", "A ": "y"}, target="A")], ["FILE:1: 'options' must name each of the 2 options, found ['A', 'A']"]),
]  # fmt: skip

MAPPED = [
    Case("q.jsonl", [{"prompt": "Who?", "answers": "a"}], ["no column 'prompts', named by questions.fields.question; found: prompt, answers"], {"fields": {"question": "prompts"}}),
    Case("q.jsonl", [{"question": "Who?", "gold": {"text": "a"}}], ["no column 'gold.texts', named by questions.fields.answers; found: question, gold.text"], {"fields": {"answers": "gold.texts"}}),
    Case("q.jsonl", [{"question": "Who?", "answers": "a"}], ["no column 'uid', named by questions.fields.id; found: question, answers"], {"fields": {"id": "uid"}}),
    Case("q.jsonl", [{"q": {"t": "Who?"}, "answers": "a"}, {"q": {"t": ""}, "answers": "a"}], ["FILE:2: 'q.t' is empty"], {"fields": {"question": "q.t"}}),
    Case("q.jsonl", [{"question": "Who?", "gold": [{"text": "a"}, {}]}], ["FILE:1: 'gold.text' must be a text or a list of texts, found ['a', None]"], {"fields": {"answers": "gold.text"}}),
    Case("q.jsonl", [{"question": "Who?", "answers": "a;;b"}], ["FILE:1: 'answers' holds an empty answer"], {"separator": ";"}),
    Case("q.jsonl", [{"question": "Who?", "answers": "a"}], ["FILE:1: 'answers' is missing; give one answer or more"], {"fields": {"answers": None}}),
    Case("q.csv", "question,r,w1,w2,key\nWho?,x,y,z,E\n", ["FILE:2: 'key' must be an index (0 to 2) or a letter (A to C) or the text of an option, found 'E'"], {"fields": {"options": ["r", "w1", "w2"], "target": "key"}}),
]  # fmt: skip

FORMS = [
    Case("anatomy_test.csv", MMLU_HEADER + "1,en,Who?,a,b,c,d,E\n", ["FILE:2: 'target' must be a letter (A to D), found 'E'"]),
    Case("anatomy_test.csv", MMLU_HEADER + "1,en,Who?,a,b,c,d,\n", ["FILE:2: 'target' is missing; name the right option"]),
    Case("anatomy_test.csv", MMLU_HEADER + "1,en,,a,b,c,d,A\n", ["FILE:2: 'question' is missing; found: id, lang, A, B, C, D, target, category"]),
    Case("anatomy_test.csv", MMLU_HEADER + "1,en,Who?,,b,c,d,B\n", ["FILE:2: 'A' is missing; found: id, lang, question, B, C, D, target, category"]),
    Case("anatomy_test.csv", "Who?,a,b,c,d,A\nWhat?,a,b,c,A\n", ["FILE:2: 5 cells, expected 6: question, A, B, C, D, target"]),
    Case("anatomy_test.csv", "Who?,a,b,c,d,A\nWhat?,a,b,c,d,0\n", ["FILE:2: 'target' must be a letter (A to D), found '0'"]),
    Case("anatomy_test.csv", "question,answer\nWho?,a\n", [f"no column {name!r}; found: id, question, answer, category; rows of form mmlu have one" for name in ("A B C D", "target")], {"form": "mmlu"}),
    Case("q.jsonl", [arc(answerKey="D")], ["FILE:1: 'answerKey' must be one of A, B, C, found 'D'"]),
    Case("q.jsonl", [arc(answerKey="")], ["FILE:1: 'answerKey' must be one of A, B, C, found ''"]),
    Case("q.jsonl", [arc(answerKey=1)], ["FILE:1: 'answerKey' must be one of A, B, C, found 1"]),
    Case("q.jsonl", [arc(question=choices(("x", "A")))], ["FILE:1: 'question.choices.text' holds 1, expected 2 to 10 options"]),
    Case("q.jsonl", [arc(question=choices(("x", "A"), ("", "B")))], ["FILE:1: 'question.choices.text' holds an empty option"]),
    Case("q.jsonl", [arc(question=choices(("x", "A"), (None, "B")))], ["FILE:1: 'question.choices.text' must be a text or a list of texts, found ['x', None]"]),
    Case("q.jsonl", [arc(question=choices(("x", "A"), ("y", "A")))], ["FILE:1: 'question.choices.label' must name each of the 2 options, found ['A', 'A']"]),
    Case("q.jsonl", [arc(question={"stem": "Who?", "choices": []})], ["FILE:1: 'question.choices.text' is empty", "FILE:1: 'question.choices.label' is empty"]),
    Case("q.jsonl", [arc(), arc(id="b", question={"choices": choices(("x", "A"), ("y", "B"))["choices"]})], ["FILE:2: 'question.stem' is missing; found: id, question, answerKey"]),
    Case("q.jsonl", [{"question": "Who?", "answers": "a"}], [f"no column {name!r}; found: question, answers; rows of form arc have one" for name in ("choices.text", "answerKey")], {"form": "arc"}),
    Case("q.json", [[{"qid": "a", "question": "Who?", "answer": "x", "answers": []}]], ["FILE:1: 'answers' is empty"]),
    Case("q.json", [[{"qid": None, "question": "Who?", "answer": 5, "answers": ["x"]}]], ["FILE:1: 'answer' must be a text or a list of texts, found 5"]),
    Case("q.json", '{"Data": [{"QuestionId": "a", "Question": "Who?", "Answer": {"Value": 5}}]}', ["FILE:1: 'Answer.Value' must be a text or a list of texts, found 5"]),
    Case("history", "\n#Q Who?\n", ["FILE has no question that can be used (it has no answer: 1); give another source"]),
    Case("notes.txt", "Who?\n^ x\nA x\nB y\n", [f"FILE:{line}: expected '#Q' and a question, found {text!r}" for line, text in enumerate(("Who?", "^ x", "A x", "B y"), 1)], {"form": "opentriviaqa"}),
    Case("empty", "", ["it holds no rows"], {"form": "opentriviaqa"}),
    Case("q.csv", "question,answers\nWho?,a\n", ["FILE:1: expected '#Q' and a question, found 'question,answers'", "FILE:2: expected '#Q' and a question, found 'Who?,a'"], {"form": "opentriviaqa"}),
    Case("q.jsonl", GOOD, ["FILE is not of form mmlu; give SUBJECT_SPLIT.csv or a folder of such files"], {"form": "mmlu"}),
    Case("q.xlsx", b"PK\3\4", ["FILE is of an unknown kind; questions can be read from .jsonl, .json, .csv, .tsv, .parquet and OpenTriviaQA text"]),
    Case("q.parquet", b"PAR1 and no more", ["FILE is damaged or cannot be read (Parquet magic bytes not found in footer. Either the file is corrupted or this is not a parquet file); make it again or copy it again"]),
]  # fmt: skip

CASES = LINES + FIELDS + OPTIONS + MAPPED + FORMS


def write(path: Path, content: Any) -> None:
    if path.suffix == ".parquet" and isinstance(content, list):
        pq.write_table(pa.Table.from_pylist(content), path)
    elif isinstance(content, list):
        path.write_text("".join(json.dumps(item) + "\n" for item in content))
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def test_there_are_many() -> None:
    assert len(CASES) >= 60
    assert len({repr(case) for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=[f"{number}-{case.name}" for number, case in enumerate(CASES)])
def test_every_way_to_be_wrong_has_its_message(tmp_path: Path, case: Case) -> None:
    path = tmp_path / case.name
    write(path, case.content)

    with pytest.raises(InputError) as caught:
        load_questions(str(path), **(case.settings or {}))

    lines = [line.strip() for line in str(caught.value).replace(str(path), "FILE").splitlines()]
    headline = ["FILE cannot be read as questions:"] if len(lines) > 1 else []
    assert lines == headline + case.says


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
def test_of_problems_alike_three_are_shown_and_the_others_counted(tmp_path: Path, suffix: str) -> None:
    rows = [{"question": "Who?" if n == 500 else "", "answers": "a"} for n in range(1000)]
    path = tmp_path / f"q{suffix}"
    if suffix == ".csv":
        path.write_text("question,answers\n" + "".join(f'"{row["question"] or " "}",a\n' for row in rows))
    else:
        write(path, [rows] if suffix == ".json" else rows)

    with pytest.raises(InputError) as caught:
        load_questions(str(path))

    _, *problems, rest = str(caught.value).splitlines()
    assert len(problems) == 3
    assert all("'question' is" in problem for problem in problems)
    assert rest.strip() == "... and 996 more like this"
