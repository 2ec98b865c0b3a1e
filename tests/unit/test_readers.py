"""Reading questions: every form that is accepted, every message that bad input gets, and subsets."""

import json
import random
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rait import judging
from rait.errors import InputError, RecipeError
from rait.questions import files, load_questions, read_questions
from rait.questions.files import file_rows
from rait.questions.layout import find_target, look_up
from rait.questions.overview import overview
from rait.records import Question
from rait.settings import Questions
from rait.tables import write_records

ROWS: list[dict[str, Any]] = [
    {"id": "a", "question": "Capital of Mali?", "answers": ["Bamako"], "category": "capital"},
    {"id": "b", "question": "Capital of Ukraine?", "answers": ["Kyiv", "Kiev"], "category": "capital"},
]
EXPECTED = [
    Question(id="a", question="Capital of Mali?", answers=("Bamako",), category="capital"),
    Question(id="b", question="Capital of Ukraine?", answers=("Kyiv", "Kiev"), category="capital"),
]


def write(folder: Path, name: str, text: str | bytes) -> str:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def problems_of(source: str, **settings: Any) -> list[str]:
    with pytest.raises(InputError) as caught:
        load_questions(source, **settings)
    return [line.strip() for line in str(caught.value).replace(source, "FILE").splitlines()]


def write_as(folder: Path, suffix: str) -> str:
    source = str(folder / f"questions{suffix}")
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), source)
        return source
    delimiter = "\t" if suffix == ".tsv" else ","
    cells = [("id", "question", "answers", "category"), ("a", "Capital of Mali?", "Bamako", "capital")]
    cells.append(("b", "Capital of Ukraine?", "Kyiv|Kiev", "capital"))
    text = {
        ".jsonl": "\n".join(json.dumps(row) for row in ROWS),
        ".json": json.dumps(ROWS, indent=2),
        ".csv": "\n".join(delimiter.join(row) for row in cells),
        ".tsv": "\n".join(delimiter.join(row) for row in cells),
    }[suffix]
    return write(folder, f"questions{suffix}", text)


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv", ".parquet"])
def test_every_form_of_file_gives_the_same_questions(tmp_path: Path, suffix: str) -> None:
    assert load_questions(write_as(tmp_path, suffix)) == EXPECTED


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    for suffix in (".jsonl", ".json", ".csv"):
        source = write_as(tmp_path, suffix)
        Path(source).write_bytes(b"\xef\xbb\xbf" + Path(source).read_bytes())
        assert load_questions(source) == EXPECTED


def test_answer_and_answers_are_merged_without_repetition(tmp_path: Path) -> None:
    row = {"question": "Capital of Bolivia?", "answer": "Sucre", "answers": ["La Paz", "Sucre"]}
    (question,) = load_questions(write(tmp_path, "q.jsonl", json.dumps(row)))
    assert question.answers == ("Sucre", "La Paz")


def test_a_single_text_is_one_answer_in_json_but_alternatives_in_csv(tmp_path: Path) -> None:
    (from_json,) = load_questions(write(tmp_path, "q.jsonl", json.dumps({"question": "Or?", "answers": "a|b"})))
    (from_csv,) = load_questions(write(tmp_path, "q.csv", "question,answers\nOr?,a | b\n"))
    assert (from_json.answers, from_csv.answers) == (("a|b",), ("a", "b"))


def test_a_csv_cell_may_hold_a_json_list(tmp_path: Path) -> None:
    text = 'question,answers\nWho?,"[""Ann|Bob"", ""Eve, again""]"\n'
    (question,) = load_questions(write(tmp_path, "q.csv", text))
    assert question.answers == ("Ann|Bob", "Eve, again")


def test_other_columns_are_ignored_and_texts_are_stripped(tmp_path: Path) -> None:
    row = {"id": 7, "question": "  Who? ", "answers": [" Ann "], "source": "me", "category": None}
    assert load_questions(write(tmp_path, "q.jsonl", json.dumps(row))) == [
        Question(id="7", question="Who?", answers=("Ann",))
    ]


def test_without_an_id_the_text_gives_one_that_ignores_case_and_spacing(tmp_path: Path) -> None:
    texts = ["Who  wrote Faust?", "who wrote faust?", "Who wrote Emma?"]
    ids = [
        load_questions(write(tmp_path, f"{n}.jsonl", json.dumps({"question": text, "answer": "x"})))[0].id
        for n, text in enumerate(texts)
    ]
    assert ids[0] == ids[1] != ids[2]


def test_all_problems_of_a_jsonl_file_are_reported_at_once_with_their_lines(tmp_path: Path) -> None:
    lines = [
        '{"id": "a", "question": "Who?", "answers": ["Ann"]}',
        '{"id": "b", "question": "Wh',
        "",
        "[1, 2]",
        '{"id": "c", "question": "  ", "answers": []}',
        '{"id": "a", "question": "Whom?", "answers": ["Bob"]}',
        '{"id": "d", "prompt": "Whose?"}',
        '{"id": "e", "question": 5, "answers": [5]}',
        '{"id": "f", "question": "Why?", "answers": ["x", " "]}',
        '{"id": true, "question": "Why?", "answers": "x", "category": 3}',
        '{"id": "g", "question": "\\ud83d?", "answers": "x"}',
    ]
    assert problems_of(write(tmp_path, "q.jsonl", "\n".join(lines))) == [
        "FILE cannot be read as questions:",
        "FILE:2: not JSON at character 25 (Unterminated string)",
        "FILE:4: expected an object with named fields, found list",
        "FILE:5: 'question' is empty",
        "FILE:5: 'answers' is empty",
        "FILE:6: id 'a' was already used at FILE:1; ids must differ",
        "FILE:7: 'question' is missing; found: id, prompt",
        "FILE:7: 'answers' is missing; give one answer or more",
        "FILE:8: 'question' must be a text, found 5",
        "FILE:8: 'answers' must be a text or a list of texts, found [5]",
        "FILE:9: 'answers' holds an empty answer",
        "FILE:10: 'id' must be a text or a whole number, found True",
        "FILE:10: 'category' must be a text, found 3",
        "FILE:11: 'question' must be a text, found '\\ud83d?'",
    ]


def test_bytes_that_are_not_utf8_are_named_with_their_line(tmp_path: Path) -> None:
    good = b'{"question": "Who?", "answers": ["Ann"]}\n'
    bad = '{"question": "Où?", "answers": ["là"]}\n'.encode("latin-1")
    assert problems_of(write(tmp_path, "q.jsonl", good + bad))[1:] == ["FILE:2: not UTF-8 text"]
    header = b"question,answers\n"
    assert problems_of(write(tmp_path, "q.csv", header + b"Who?,Ann\n" + b"O\xf9?,x\n")) == [
        "FILE:3: not UTF-8 text; save the file as UTF-8"
    ]
    long = header + b"".join(b"Who is %d?,Ann\n" % number for number in range(5000))
    assert problems_of(write(tmp_path, "q.csv", long + b"O\xf9?,x\n" + b"Why?,y\n")) == [
        "FILE:5002: not UTF-8 text; save the file as UTF-8"
    ]


def test_csv_problems_name_the_line_on_which_their_row_begins(tmp_path: Path) -> None:
    text = (
        "id,question,answers\n"
        'a,"Who\nwrote\nFaust?",Goethe\n'
        "b,What?,\n"
        "\n"
        'c,"Two\nlines?",x,y\n'
        "d,Which?,[1 2]\n"
        "a,Whose?,me\n"
        "e,When?,1912||1913\n"
    )
    assert problems_of(write(tmp_path, "q.csv", text))[1:] == [
        "FILE:5: 'answers' is missing; give one answer or more",
        "FILE:7: 4 cells, but the header has 3: id, question, answers",
        "FILE:9: 'answers' begins like a JSON list but is none (Expecting ',' delimiter)",
        "FILE:10: id 'a' was already used at FILE:2; ids must differ",
        "FILE:11: 'answers' holds an empty answer",
    ]


def test_a_quoted_newline_stays_in_the_question(tmp_path: Path) -> None:
    (question,) = load_questions(write(tmp_path, "q.csv", 'question,answer\r\n"Who\r\nwrote?",Goethe\r\n'))
    assert question.question == "Who\r\nwrote?"


def test_quotation_marks_in_csv(tmp_path: Path) -> None:
    text = (
        '"question","answers"\r\n'
        'Who said "no"?,Ann\r\n'
        '"Who said ""no"", and when?","Bob|""Bo"""\r\n'
        '"",""\r\n'
        '  What? ,"  a, b  "\r\n'
        'Is 5" long?,"[""5\\"""", ""or so""]"'
    )
    assert [(q.question, q.answers) for q in load_questions(write(tmp_path, "q.csv", text))] == [
        ('Who said "no"?', ("Ann",)),
        ('Who said "no", and when?', ("Bob", '"Bo"')),
        ("What?", ("a, b",)),
        ('Is 5" long?', ('5"', "or so")),
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('question,answers\nWho?,Ann\n"What?,x\n', "FILE:3: a quotation mark is opened and never closed"),
        ("question,answers,question\nWho?,Ann,x\n", "FILE:1: a column is named twice: question, answers, question"),
        ("question,answers\n", "it holds no rows"),
        ("", "it holds no rows"),
        (
            "prompt,answers\nWho?,Ann\n",
            "no column 'question'; found: prompt, answers; give yours as questions.fields.question=COLUMN",
        ),
    ],
)
def test_csv_files_of_another_form(tmp_path: Path, text: str, problem: str) -> None:
    assert problems_of(write(tmp_path, "q.csv", text))[1] == problem


def test_missing_columns_are_said_once_with_what_was_found(tmp_path: Path) -> None:
    pq.write_table(pa.table({"prompt": ["Who?", "What?"], "gold": ["x", "y"]}), tmp_path / "q.parquet")
    assert problems_of(str(tmp_path / "q.parquet")) == [
        "FILE cannot be read as questions:",
        "no column 'question'; found: prompt, gold; give yours as questions.fields.question=COLUMN",
        "no column 'answers'; found: prompt, gold; give yours as questions.fields.answers=COLUMN",
    ]


def test_parquet_problems_name_the_row(tmp_path: Path) -> None:
    pq.write_table(pa.table({"question": ["Who?", None], "answers": [["x"], []]}), tmp_path / "q.parquet")
    assert problems_of(str(tmp_path / "q.parquet"))[1:] == [
        "FILE:2: 'question' is missing; found: answers",
        "FILE:2: 'answers' is empty",
    ]


def test_json_objects_are_named_with_the_line_on_which_they_begin(tmp_path: Path) -> None:
    text = '[\n  {"question": "Who?",\n   "answers": ["Ann"]},\n\n  {"question": "",\n   "answers": ["x"]}, 5\n]\n'
    assert problems_of(write(tmp_path, "q.json", text))[1:] == [
        "FILE:5: 'question' is empty",
        "FILE:6: expected an object with named fields, found int",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[\n {"question": "Who?"\n', "FILE:3: not JSON at character 1 (Expecting ',' delimiter)"),
        ('{"question": "Who?"}', "FILE:1: expected a list of objects, found an object; one object a line is .jsonl"),
        ("[]", "it holds no rows"),
    ],
)
def test_json_files_of_another_form(tmp_path: Path, text: str, problem: str) -> None:
    assert problems_of(write(tmp_path, "q.json", text))[1] == problem


def test_the_same_question_twice_without_ids_is_a_problem(tmp_path: Path) -> None:
    text = "question,answers\nWho?,Ann\nwho?,Bob\n"
    assert problems_of(write(tmp_path, "q.csv", text))[1:] == [
        "FILE:3: the same question was asked at FILE:2; keep one, or give each an id"
    ]


def test_sources_that_are_not_there(tmp_path: Path) -> None:
    assert problems_of(str(tmp_path / "none.csv")) == ["FILE does not exist; check the path"]
    kinds = ".jsonl, .json, .csv, .tsv, .parquet and OpenTriviaQA text"
    text_file = write(tmp_path, "q.txt", "Who?")
    assert problems_of(text_file) == [f"FILE is of an unknown kind; questions can be read from {kinds}"]
    assert problems_of("./no/such/folder") == [
        "FILE does not exist; give a file, a folder, a Hugging Face dataset id, or atlas"
    ]
    with pytest.raises(InputError, match="\"atlas\" has no split 'dev'; choose one of train, validation, test, ood"):
        load_questions("atlas", split="dev")


def test_a_hub_dataset_is_asked_for_its_split(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(path: str, name: str | None, *, split: str) -> list[dict[str, Any]]:
        asked.append((path, name, split))
        return ROWS

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    assert load_questions("org/facts", split="validation") == EXPECTED
    assert load_questions("org/facts", name="places") == EXPECTED
    assert asked == [("org/facts", None, "validation"), ("org/facts", "places", "train")]


def test_a_failure_of_the_hub_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(path: str, name: str | None, *, split: str) -> list[dict[str, Any]]:
        raise ConnectionError("Couldn't reach 'org/facts' on the Hub.\nlong\ndetails")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    assert problems_of("org/facts") == [
        "FILE: there is no such file, and the dataset cannot be loaded with split 'train' (Couldn't reach 'FILE' on "
        "the Hub); check the name and the connection, or give a file"
    ]


def test_the_names_that_a_hub_dataset_has_are_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(path: str, name: str | None, *, split: str) -> list[dict[str, Any]]:
        raise ValueError("Config name is missing.\nPlease pick one among the available configs: ['a', 'b']\nEx: ...")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    (message,) = problems_of("org/facts")
    assert "(Config name is missing. Please pick one among the available configs: ['a', 'b'])" in message


def test_problems_of_a_dataset_name_the_split_and_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [ROWS[0], {"question": "", "answers": ["x"]}]
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=lambda *_, split: rows))
    assert problems_of("org/facts")[1:] == ["FILE (train), row 2: 'question' is empty"]
    assert problems_of("org/facts", name="places")[1:] == ["FILE (places, train), row 2: 'question' is empty"]


def test_a_folder_in_dataset_form_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "facts"
    folder.mkdir()
    write(folder, "train.jsonl", "\n".join(json.dumps(row) for row in ROWS))
    assert load_questions(str(folder)) == EXPECTED


def numbered(folder: Path, numbers: list[int]) -> str:
    rows = [json.dumps({"id": f"q{n}", "question": f"Q{n}?", "answers": [str(n)]}) for n in numbers]
    return write(folder, "many.jsonl", "\n".join(rows))


def test_a_limit_keeps_the_order_and_larger_limits_only_add(tmp_path: Path) -> None:
    source = numbered(tmp_path, list(range(300)))
    ids = {limit: [question.id for question in load_questions(source, limit=limit)] for limit in (1, 50, 100, 300, 999)}
    assert {limit: len(found) for limit, found in ids.items()} == {1: 1, 50: 50, 100: 100, 300: 300, 999: 300}
    assert set(ids[1]) < set(ids[50]) < set(ids[100]) < set(ids[300])
    assert ids[100] == sorted(ids[100], key=lambda name: int(name[1:]))
    assert ids[50] != [f"q{n}" for n in range(50)]


def test_another_seed_takes_other_questions(tmp_path: Path) -> None:
    source = numbered(tmp_path, list(range(300)))
    first, second = ({q.id for q in load_questions(source, limit=100, seed=seed)} for seed in (0, 1))
    assert 10 < len(first & second) < 60  # about 100 * 100 / 300 are shared by chance


@given(st.integers(0, 10**6), st.integers(1, 40))
@settings(deadline=None)
def test_a_limit_does_not_depend_on_the_order_of_the_file(
    tmp_path_factory: pytest.TempPathFactory, seed: int, limit: int
) -> None:
    folder = tmp_path_factory.mktemp("order")
    numbers = list(range(40))
    straight = {q.id for q in load_questions(numbered(folder, numbers), limit=limit, seed=seed)}
    random.Random(seed).shuffle(numbers)
    assert {q.id for q in load_questions(numbered(folder, numbers), limit=limit, seed=seed)} == straight


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(InputError, match="limit is 0; it must be 1 or more"):
        load_questions("atlas", limit=0)


@given(
    st.binary(max_size=80)
    | st.text('[]{}":,|\n\r\t q\ud800answersquestion', max_size=60).map(lambda t: t.encode("utf-8", "surrogatepass"))
)
@settings(deadline=None)
@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv", ".parquet"])
def test_no_content_of_a_file_gives_a_bare_traceback(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, content: bytes
) -> None:
    source = write(tmp_path_factory.mktemp("any"), f"q{suffix}", content)
    try:
        assert load_questions(source)
    except InputError as error:
        assert source in str(error)


# --- multiple choice ----------------------------------------------------------------------------------------------

CAPITALS = ("Lima", "Quito", "La Paz", "Sucre")
SUCRE = {"text": "Sucre", "label": "S"}


def lines(folder: Path, *rows: dict[str, Any]) -> str:
    return write(folder, "q.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(
    "row",
    [
        {"options": CAPITALS, "target": 1},
        {"options": CAPITALS, "target": "B"},
        {"options": CAPITALS, "target": "b"},
        {"options": CAPITALS, "target": "1"},
        {"options": CAPITALS, "target": " Quito "},
        {"options": CAPITALS, "answer": "Quito"},
        {"choices": CAPITALS, "answer": 1},
        {"options": [f" {name} " for name in CAPITALS], "target": 1, "answers": ["Quito", "Kito"]},
        {"options": json.dumps(CAPITALS), "target": 1},
        {"A": "Lima", "B": "Quito", "C": "La Paz", "D": "Sucre", "answer": "B"},
        {"A": "Lima", "B": "Quito", "C": "La Paz", "D": "Sucre", "E": None, "target": "Quito"},
        {"options": dict(zip("ABCD", CAPITALS, strict=True)), "target": "B"},
        {"options": dict(zip("1234", CAPITALS, strict=True)) | {"5": None}, "target": "2"},
        {"choices": {"text": CAPITALS, "label": ["1", "2", "3", "4"]}, "answerKey": "2"},
        {"choices": [{"text": name, "label": name[1]} for name in CAPITALS[:3]] + [SUCRE], "answerKey": "u"},
    ],
)
def test_options_and_target_in_every_form(tmp_path: Path, row: dict[str, Any]) -> None:
    (question,) = load_questions(lines(tmp_path, {"id": "e", "question": "Capital of Ecuador?", **row}))
    assert question == Question(
        id="e",
        question="Capital of Ecuador?",
        answers=("Quito",),
        options=("Lima", "Quito", "La Paz", "Sucre"),
        target=1,
    )


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("question,A,B,C,target\nWho?,x,y,z,B\n", {}),
        ("question,options,target\nWho?,x|y|z,1\n", {}),
        ("question,options,answer\nWho?,x; y; z,y\n", {"separator": ";"}),
        ('question,options,answer\nWho?,"[""x"", ""y"", ""z""]",y\n', {}),
        ("question,options,target\nWho?,x|y|z,2\n", {"target_is": "number"}),
        ("question,r,s,t,gold\nWho?,x,y,z,y\n", {"fields": {"options": ["r", "s", "t"], "target": "gold"}}),
    ],
)  # fmt: skip
def test_options_in_csv(tmp_path: Path, text: str, settings: dict[str, Any]) -> None:
    (question,) = load_questions(write(tmp_path, "q.csv", text), **settings)
    assert (question.options, question.target, question.answers) == (("x", "y", "z"), 1, ("y",))


def test_what_a_target_is_may_be_said() -> None:
    options = ["2", "C", "3", "1"]
    found = {kind: find_target("2", options, target_is=kind) for kind in ("index", "number", "text")}
    assert found == {"index": 2, "number": 1, "text": 0}
    assert (find_target("C", options, target_is="letter"), find_target("C", options, target_is="text")) == (2, 1)
    assert find_target("2", options, ["1", "3", "2", "4"]) == 2
    assert "may mean option 3 (index) or option 1 (text)" in str(find_target("2", options))
    assert find_target(3, ["3", "4", "5", "6"]) == 3, "a number that is no text is an index"


def test_an_id_of_its_own_does_not_depend_on_the_order_of_the_options(tmp_path: Path) -> None:
    row = {"question": "Who?", "options": ["x", "y"], "target": "x"}
    others = [row | {"options": ["y", "X "]}, row | {"options": ["x", "z"]}, {"question": "Who?", "answers": "x"}]
    others[0]["target"] = "X"
    first, swapped, other, open_ended = (load_questions(lines(tmp_path, item))[0].id for item in (row, *others))
    assert first == swapped
    assert len({first, other, open_ended}) == 3


def test_open_ended_and_multiple_choice_rows_may_stand_in_one_file(tmp_path: Path) -> None:
    questions = [
        Question(id="a", question="Who?", answers=("Ann", "Anne"), category="x"),
        Question(id="b", question="Who?", answers=("Bob",), options=("Bob", "Cy"), target=0),
    ]
    for suffix in (".jsonl", ".parquet"):  # as a run writes them
        write_records(tmp_path / f"q{suffix}", questions)
        assert load_questions(str(tmp_path / f"q{suffix}")) == questions


def test_options_can_be_left_out_where_the_question_stands_alone(tmp_path: Path) -> None:
    texts = {
        "Who wrote Emma?": ["Austen", "Brontë"],
        "Which of these wrote Emma?": ["Austen", "Brontë"],
        "Who did NOT write Emma?": ["Brontë", "Austen"],
        "Emma was written by Austen.": ["True", "False"],
        "Who wrote Emma and Persuasion?": ["All of these", "Austen"],
    }
    source = lines(tmp_path, *({"question": text, "options": options, "target": 0} for text, options in texts.items()))
    reading = read_questions(Questions(source=source, options="drop"))
    assert [(q.question, q.answers, q.options, q.target) for q in reading.questions] == [
        ("Who wrote Emma?", ("Austen",), (), None)
    ]
    assert reading.dropped == {
        "the question speaks of its options": 2,
        "a statement to be called true or false": 1,
        "the answer speaks of the options": 1,
    }
    assert len(read_questions(Questions(source=source)).questions) == 5


# --- fields -------------------------------------------------------------------------------------------------------


def test_a_recipe_names_the_columns(tmp_path: Path) -> None:
    row = {
        "n": 7,
        "data": {"prompt": "Capital of Mali?", "gold": [{"name": "Bamako"}, {"name": "Bamakó"}]},
        "kind": "c",
    }
    fields = {"id": "n", "question": "data.prompt", "answers": "data.gold.name", "category": "kind"}
    expected = [Question(id="7", question="Capital of Mali?", answers=("Bamako", "Bamakó"), category="c")]
    source = lines(tmp_path, row)
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "q.parquet")
    assert load_questions(source, fields=fields) == expected
    assert load_questions(str(tmp_path / "q.parquet"), fields=fields) == expected


def test_answers_from_several_columns_a_json_text_or_a_separator(tmp_path: Path) -> None:
    row = {"question": "Who?", "main": "a", "more": '["b", "a"]', "rest": "c;d"}
    source = lines(tmp_path, row)
    (question,) = load_questions(source, fields={"answers": ["main", "more", "rest"]}, separator=";")
    assert question.answers == ("a", "b", "c", "d")
    (question,) = load_questions(source, fields={"answers": "rest"})
    assert question.answers == ("c;d",)


def test_a_text_that_only_begins_like_a_list_is_an_answer_outside_of_csv(tmp_path: Path) -> None:
    answers = ["[sic]", "[1]", "[a, b"]
    rows = [{"id": n, "question": "Who?", "answer": text} for n, text in enumerate(answers)]
    assert [q.answers for q in load_questions(lines(tmp_path, *rows))] == [("[sic]",), ("[1]",), ("[a, b",)]


def test_a_field_that_is_nowhere_is_not_looked_for(tmp_path: Path) -> None:
    row = {"id": [1], "question": "Who?", "options": ["x", "y"], "answer": "x", "category": 5}
    (question,) = load_questions(lines(tmp_path, row), fields={"options": None, "id": None, "category": None})
    assert question == Question(id=question.id, question="Who?", answers=("x",))


def test_paths_go_into_objects_lists_and_names_with_dots() -> None:
    row = {"a": {"b": [{"c": 1}, {"c": 2}, 3]}, "a.b": "whole", "": "unnamed"}
    assert look_up(row, "a.b.c") == [1, 2, None]
    assert look_up(row, "a.b") == "whole"
    assert look_up(row, "a.x.c") is look_up(row, "b") is look_up(row, "") is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"form": "mmul"}, "questions.form: should be 'auto', 'rows', 'mmlu', 'arc', 'triviaqa' or 'opentriviaqa'"),
        ({"fields": {"prompt": "q"}}, "questions.fields.prompt: should be 'question', 'answers', 'id'"),
        ({"fields": {"question": ["a", "b"]}}, "fields.question is one column, found ['a', 'b']"),
        ({"fields": {"options": []}}, "questions.fields.options"),
        ({"form": "arc", "fields": {"id": "n"}}, "form arc has its own fields; give fields with form rows"),
        ({"target_is": "word"}, "questions.target_is"),
        ({"splitt": "x"}, "unknown key; did you mean questions.split?"),
        ({"separator": ""}, "questions.separator"),
    ],
)  # fmt: skip
def test_settings_that_do_not_exist(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_questions("q.jsonl", **settings)
    assert message in str(caught.value)


# --- files of any length ------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(items=st.lists(json_values, max_size=6), chunk=st.integers(1, 40), indent=st.none() | st.integers(0, 2))
@settings(deadline=None)
def test_a_json_list_is_read_the_same_in_pieces(
    tmp_path_factory: pytest.TempPathFactory, items: list[Any], chunk: int, indent: int | None
) -> None:
    path = tmp_path_factory.mktemp("json") / "q.json"
    text = json.dumps(items, indent=indent, ensure_ascii=False)
    path.write_bytes(
        text.encode("utf-8", "surrogatepass") if text.isascii() else json.dumps(items, indent=indent).encode()
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_CHUNK", chunk)
        read = [row for _, row in file_rows(path)]
    assert [row for row in read if isinstance(row, dict)] == [item for item in items if isinstance(item, dict)]
    assert len(read) == len(items)


@given(text=st.text('[]{}":,1e-. \nab\\u', max_size=30), chunk=st.integers(1, 12))
@settings(deadline=None)
def test_what_is_no_json_list_is_found_out_in_pieces_too(
    tmp_path_factory: pytest.TempPathFactory, text: str, chunk: int
) -> None:
    path = tmp_path_factory.mktemp("json") / "q.json"
    path.write_text(f"[{text}", newline="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_CHUNK", chunk)
        broken = [
            row for _, row in file_rows(path) if isinstance(row, str) and not row.startswith("expected an object")
        ]
    try:
        json.loads(f"[{text}")
    except ValueError:
        assert broken
    else:
        assert not broken


def peak(read: Callable[[str], object], source: str) -> int:
    read(source)  # whatever is loaded once
    tracemalloc.start()
    try:
        read(source)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def draw(source: str) -> list[Question]:
    return load_questions(source, limit=3)


def look(source: str) -> dict[str, Any]:
    return overview(Questions(source=source))


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
@pytest.mark.parametrize("read", [draw, look])
def test_memory_does_not_grow_with_the_file(
    tmp_path: Path, suffix: str, read: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rait.judging._clauses", judging._clauses.__wrapped__)  # its cache has an end, farther away
    monkeypatch.setattr(files, "_CHUNK", 1 << 14)
    monkeypatch.setattr("rait.tables._ROWS", 128)
    peaks = {}
    for count in (300, 6000):
        rows = [{"id": f"q{n}", "question": f"What is number {n}?", "answers": [f"it is {n}"]} for n in range(count)]
        source = tmp_path / f"{count}{suffix}"
        if suffix == ".parquet":
            pq.write_table(pa.Table.from_pylist(rows), source, row_group_size=128)
        elif suffix == ".csv":
            cells = (f"{row['id']},{row['question']},{row['answers'][0]}\n" for row in rows)
            source.write_text("id,question,answers\n" + "".join(cells))
        else:
            text = json.dumps(rows) if suffix == ".json" else "".join(json.dumps(row) + "\n" for row in rows)
            source.write_text(text)
        peaks[count] = peak(read, str(source))
    assert peaks[6000] < peaks[300] + 300_000, "6000 questions in memory take over 2,000,000 bytes"
