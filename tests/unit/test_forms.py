"""The published forms: how they are recognised, what is made of them, and the real sets where they are at hand."""

import csv
import json
import re
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rait.errors import InputError
from rait.questions import load_questions, read_questions
from rait.questions.openended import needs_options
from rait.questions.overview import format_overview, overview
from rait.records import Question
from rait.settings import Questions

DATA = Path(__file__).parents[2].parent / "shared/data"
real = pytest.mark.skipif(not DATA.is_dir(), reason="needs the public sets in ../shared/data")

HEADER = "id,lang,question,A,B,C,D,target\n"


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def ask(source: Any, **settings: Any) -> list[Question]:
    return load_questions(str(source), **settings)


# --- MMLU ---------------------------------------------------------------------------------------------------------

ANATOMY = Question(
    id="anatomy/test/0",
    question="Which bone, of all?",
    answers=("hyoid",),
    category="anatomy",
    options=("femur", "tibia", "hyoid", "ulna"),
    target=2,
)
LINE = '"Which bone, of all?",femur,tibia,hyoid,ulna,C\n'


@pytest.mark.parametrize(
    "content", [f"{HEADER}anatomy/test/0,en,{LINE}", f"question,A,B,C,D,target\n{LINE}", LINE, f"\n{LINE}"]
)
def test_mmlu_with_and_without_a_header(tmp_path: Path, content: str) -> None:
    reading = read_questions(Questions(source=str(write(tmp_path / "anatomy_test.csv", content))))
    assert (reading.form, reading.questions) == ("mmlu", [ANATOMY])
    (question,) = ask(write(tmp_path / "mine.csv", content), form="mmlu")
    assert (question.category, question.options, question.target) == ("mine", ANATOMY.options, 2)


def test_letters_and_numbers_among_the_options_of_mmlu_are_no_targets(tmp_path: Path) -> None:
    (question,) = ask(write(tmp_path / "algebra_val.csv", "Which?,D,C,B,A,C\n"))
    assert (question.target, question.answers) == (2, ("B",))


def test_a_question_of_mmlu_may_have_an_option_twice(tmp_path: Path) -> None:
    (question,) = ask(write(tmp_path / "algebra_val.csv", "Which?,12,-4,4,12,C\n"))
    assert (question.options, question.target) == (("12", "-4", "4", "12"), 2)


def test_a_folder_of_mmlu_has_splits(tmp_path: Path) -> None:
    for split in ("dev", "val", "test"):
        for subject in ("anatomy", "virology"):
            write(tmp_path / f"{split}/{subject}_{split}.csv", LINE * 2)
    write(tmp_path / "README.txt", "about")
    assert ask(tmp_path, split="test")[:2] == [ANATOMY, replace(ANATOMY, id="anatomy/test/1")]
    assert [question.category for question in ask(tmp_path, split="dev")] == 2 * ["anatomy"] + 2 * ["virology"]
    assert ask(tmp_path, split="validation") == ask(tmp_path, split="val") == ask(tmp_path / "val")
    with pytest.raises(InputError, match="has no split 'train'; choose one of dev, test, val"):
        ask(tmp_path)


def test_another_csv_of_such_a_name_is_no_mmlu(tmp_path: Path) -> None:
    reading = read_questions(Questions(source=str(write(tmp_path / "mine_test.csv", "question,answer\nWho?,Ann\n"))))
    assert (reading.form, reading.questions[0].answers) == ("rows", ("Ann",))
    with pytest.raises(InputError, match=r"holds no file named SUBJECT_SPLIT.csv"):
        ask(write(tmp_path / "folder/other.csv", "a,b\n").parent, form="mmlu")


# --- ARC, TriviaQA, Natural Questions, the hub --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "key", "target"), [("ABCD", "D", 3), ("ABC", "A", 0), ("ABCDE", "E", 4), ("1234", "2", 1)]
)
def test_arc_in_any_labelling(tmp_path: Path, labels: str, key: str, target: int) -> None:
    choices = [{"text": f"text {label}", "label": label} for label in labels]
    row = {"id": "a", "question": {"stem": "Which?", "choices": choices}, "answerKey": key}
    reading = read_questions(Questions(source=str(write(tmp_path / "a.jsonl", json.dumps(row)))))
    options = tuple(f"text {label}" for label in labels)
    assert reading.form == "arc"
    assert reading.questions == [
        Question(id="a", question="Which?", answers=(f"text {key}",), options=options, target=target)
    ]


def test_natural_questions_and_triviaqa_as_the_paper_has_them(tmp_path: Path) -> None:
    row = {"qid": "nq_1", "lang": "en", "question": "who?", "answer": "Ann", "answers": ["Ann", "Anne"]}
    reading = read_questions(Questions(source=str(write(tmp_path / "dev.json", json.dumps([row], indent=4)))))
    assert reading.form == "triviaqa"
    assert reading.questions == [Question(id="nq_1", question="who?", answers=("Ann", "Anne"))]


def test_triviaqa_as_published(tmp_path: Path) -> None:
    answer = {"Aliases": ["Sunset Blvd", "Sunset Boulevard"], "Value": "Sunset Boulevard", "NormalizedAliases": ["x"]}
    data = {"Data": [{"Answer": answer, "Question": "Which?", "QuestionId": "tc_1"}], "Domain": "Web", "Version": 1.0}
    reading = read_questions(Questions(source=str(write(tmp_path / "web-dev.json", json.dumps(data, indent=4)))))
    assert reading.form == "triviaqa"
    assert reading.questions == [Question(id="tc_1", question="Which?", answers=("Sunset Boulevard", "Sunset Blvd"))]


HUB: dict[str, tuple[dict[str, Any], Question]] = {
    "cais/mmlu": (
        {"question": "Which?", "subject": "anatomy", "choices": ["3", "2", "1", "0"], "answer": 1},
        Question(id="", question="Which?", answers=("2",), category="anatomy", options=("3", "2", "1", "0"), target=1),
    ),
    "allenai/ai2_arc": (
        {"id": "m", "question": "Or?", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "2"},
        Question(id="m", question="Or?", answers=("y",), options=("x", "y"), target=1),
    ),
    "mandarjoshi/trivia_qa": (
        {"question": "Which?", "question_id": "t", "answer": {"aliases": ["b", "a"], "value": "a", "type": "x"}},
        Question(id="t", question="Which?", answers=("a", "b")),
    ),
    "google-research-datasets/nq_open": (
        {"question": "which", "answer": ["a", "b"]},
        Question(id="", question="which", answers=("a", "b")),
    ),
}


@pytest.mark.parametrize("name", HUB)
def test_sets_of_the_hub_need_no_fields(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row, expected = HUB[name]
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=lambda *_, split: [row]))
    (question,) = ask(name)
    assert question == replace(expected, id=expected.id or question.id)


def test_a_local_folder_with_configurations_loads_as_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "sets"
    for name in ("one", "two"):
        row = {"question": f"Which {name}?", "choices": ["x", "y"], "answer": 1, "subject": name}
        write(folder / f"{name}/test.jsonl", json.dumps(row) + "\n")
    configs = "".join(f"- config_name: {name}\n  data_files: {name}/*.jsonl\n" for name in ("one", "two"))
    write(folder / "README.md", f"---\nconfigs:\n{configs}---\n")
    (question,) = ask(folder, name="two", split="train")
    assert (question.question, question.category, question.answers) == ("Which two?", "two", ("y",))
    with pytest.raises(InputError, match=r"Config name is missing.*'one', 'two'.*check the split"):
        ask(folder)


# --- OpenTriviaQA -------------------------------------------------------------------------------------------------

BLOCK = "#Q {}\n^ {}\nA {}\nB {}\n\n"


def trivia(path: Path, content: str | bytes) -> tuple[list[Question], dict[str, int]]:
    reading = read_questions(Questions(source=str(write(path, content))))
    assert reading.form == "opentriviaqa"
    return reading.questions, reading.dropped


def test_opentriviaqa_with_two_options_or_four_over_several_lines(tmp_path: Path) -> None:
    text = (
        "\r\n#Q Fill in:\r\n\r\nA rose is a ___.  \r\n^ rose\r\nA flower\r\nB rose\r\n\r\n"
        "#Q Who?\n^ D\nA A\nB B\nC C\nD D\n\n#Q Is it?\n^ True\nA True\nB False"
    )
    questions, dropped = trivia(tmp_path / "for-kids", text)
    assert [(q.question, q.options, q.target, q.category) for q in questions] == [
        ("Fill in:\n\nA rose is a ___.", ("flower", "rose"), 1, "for-kids"),
        ("Who?", ("A", "B", "C", "D"), 3, "for-kids"),
        ("Is it?", ("True", "False"), 0, "for-kids"),
    ]
    assert dropped == {}


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        ("#Q Who?\n^ x\nA x\nB\n", "an option is empty"),
        ("#Q Who?\n^ x\nA x\nB x\n", "the answer stands twice among the options"),
        ("#Q Who?\n^ z\nA x\nB y\n", "the answer is none of the options"),
        ("#Q Who?\n^\nA x\nB y\n", "the answer is none of the options"),
        ("#Q Who?\n^ x\nA x\n", "there are not 2 to 10 options"),
        ("#Q Who?\n^ x\n", "there are not 2 to 10 options"),
        ("#Q Who?\n^ x\nA x\nC y\n", "the options are not marked A, B, C ..."),
        ("#Q Who?\n^ x\nA x\nB y\nBoth\n", "the options are not marked A, B, C ..."),
        ("#Q Who?\nA x\nB y\n", "it has no answer"),
        ("#Q Who?\n^ x\n^ y\nA x\nB y\n", "it has several answers"),
        ("#Q\n^ x\nA x\nB y\n", "the question is empty"),
        (b"#Q Who \xd0?n?\n^ x\nA x\nB y\n", "a character is lost"),
        (b"#Q Who?\n^ x\nA x\nB y\x9d\n", "a character is lost"),
    ],
)
def test_what_opentriviaqa_has_to_leave_out_is_counted(tmp_path: Path, block: str | bytes, reason: str) -> None:
    data = block if isinstance(block, bytes) else block.encode()
    questions, dropped = trivia(tmp_path / "history", BLOCK.format("When?", "now", "now", "then").encode() + data)
    assert [question.question for question in questions] == ["When?"]
    assert dropped == {reason: 1}


def test_repeated_questions_are_left_out_in_whichever_file(tmp_path: Path) -> None:
    write(tmp_path / "a", BLOCK.format("Who?", "x", "x", "y") + BLOCK.format("who? ", "X", "z", "X"))
    write(tmp_path / "b", BLOCK.format("Who?", "x", "y", "x") + BLOCK.format("Who?", "y", "x", "y"))
    write(tmp_path / "c", BLOCK.format("Who?", "z", "y", "z"))
    write(tmp_path / "README.md", "#Q is a mark")
    reading = read_questions(Questions(source=str(tmp_path)))
    assert [(q.category, q.answers) for q in reading.questions] == [("a", ("x",)), ("c", ("z",))]
    assert reading.dropped == {
        "the same question with the same answer stands before": 2,
        "the same question and options with another answer stand before": 1,
    }


@pytest.mark.parametrize(
    ("raw", "mended"),
    [
        (b"Caf\xe9 and caf\xc3\xa9?", "Caf\u00e9 and caf\u00e9?"),
        (b"\x93Treble\x94 \x85 60\xa2", "\u201cTreble\u201d \u2026 60\u00a2"),
        (b"\xe2\x80\x9cKing\xe2\x80? of", "\u201cKing\u201d of"),
    ],
)
def test_odd_encodings_are_mended(tmp_path: Path, raw: bytes, mended: str) -> None:
    questions, _ = trivia(tmp_path / "f", b"\xef\xbb\xbf#Q " + raw + b"\n^ x\nA x\nB y\n")
    assert questions[0].question == mended


# --- without options ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "options", "alone"),
    [
        ("Who wrote Emma?", ("Austen", "Scott"), True),
        ("Which of the following is a town?", ("Bath", "Emma"), False),
        ("All of these are towns except one.", ("Emma", "Bath"), False),
        ("Which is NOT a town?", ("Emma", "Bath"), False),
        ("What is not a town?", ("Emma", "Bath"), True),
        ("Which one is a town?", ("Bath", "Emma"), False),
        ("Bath is a town.", ("True", "False"), False),
        ("Is Bath a town?", ("yes", "No."), False),
        ("What did she write?", ("All of these", "Emma"), False),
        ("What did she write?", ("Emma", "All of these"), True),
    ],
)
def test_which_questions_stand_alone(text: str, options: tuple[str, ...], alone: bool) -> None:
    question = Question(id="a", question=text, answers=options[:1], options=options, target=0)
    assert (needs_options(question) == "") is alone


# --- what is shown ------------------------------------------------------------------------------------------------


def test_an_overview_says_what_was_understood(tmp_path: Path) -> None:
    blocks = [BLOCK.format(f"Number {n}?", n, n, "none") for n in (1, 2, 3, 4, 4)] + [BLOCK.format("?", "a", "b", "c")]
    write(tmp_path / "maths", "".join(blocks))
    write(tmp_path / "more", BLOCK.format("Who?", "nobody knows", "I don't know", "nobody knows"))
    found = overview(Questions(source=str(tmp_path), limit=1))
    assert {name: found[name] for name in ("form", "rows", "questions", "open_ended", "by_number_of_options")} == {
        "form": "opentriviaqa",
        "rows": 7,
        "questions": 5,
        "open_ended": 0,
        "by_number_of_options": {"2": 5},
    }
    assert found["dropped"] == {
        "the same question with the same answer stands before": 1,
        "the answer is none of the options": 1,
    }
    assert found["categories"] == {"maths": 4, "more": 1}
    assert [example["question"] for example in found["examples"]] == ["Number 1?", "Number 2?", "Number 3?"]
    assert json.loads(json.dumps(found)) == found
    text = format_overview(found)
    assert f"{tmp_path}: 5 questions of 7 rows, form opentriviaqa" in text
    assert "  A 2   <- right\n  B none\n" in text
    assert "      1 the answer is none of the options\n" in text


def test_an_overview_of_rows_names_the_columns(tmp_path: Path) -> None:
    rows = [{"prompt": f"Who is {n}?", "gold": ["unknown" if n else "x"], "kind": "k"} for n in range(2)]
    path = write(tmp_path / "q.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    settings = Questions(source=str(path), fields={"question": "prompt", "answers": "gold", "category": "kind"})
    found = overview(settings)
    assert found["fields"] == {"question": "prompt", "answers": "gold", "category": "kind"}
    assert [(finding["kind"], finding["count"]) for finding in found["findings"]] == [("refusal", 1)]
    assert found["findings"][0]["places"] == [f"{path}:2"]
    lines = format_overview(found).splitlines()
    assert lines[:4] == [
        f"{path}: 2 questions of 2 rows, form rows",
        "fields: question from prompt; answers from gold; category from kind; id made of the text",
        "open-ended: 2",
        f"note: an accepted answer reads as a refusal: 1 ({path}:2), kept",
    ]
    with pytest.raises(InputError, match="no column 'prompt'"):
        overview(settings.model_copy(update={"source": str(write(tmp_path / "other.jsonl", '{"question": "?"}'))}))


# --- the real sets ------------------------------------------------------------------------------------------------


@real
@pytest.mark.parametrize(("split", "count"), [("dev", 285), ("val", 1531), ("test", 14042)])
def test_mmlu_as_it_is(split: str, count: int) -> None:
    reading = read_questions(Questions(source=str(DATA / "mmlu"), split=split))
    expected = []
    for path in sorted((DATA / "mmlu" / split).iterdir()):
        with path.open(encoding="utf-8", newline="") as file:
            for id, _, text, *options, letter in list(csv.reader(file))[1:]:
                texts = [option.strip() for option in options]
                expected.append((id, text.strip(), texts, "ABCD".index(letter), path.name))
    assert len(reading.questions) == len(expected) == count
    assert reading.dropped == {}
    read = [(q.id, q.question, list(q.options), q.target, f"{q.category}_{split}.csv") for q in reading.questions]
    assert read == expected
    assert len({question.category for question in reading.questions}) == 57
    assert all(question.answers == (question.options[question.target or 0],) for question in reading.questions)


@real
@pytest.mark.parametrize(
    ("name", "sizes", "numbered"),
    [
        ("ARC-Challenge-Dev", {3: 3, 4: 295, 5: 1}, 4),
        ("ARC-Challenge-Test", {3: 4, 4: 1165, 5: 3}, 22),
        ("ARC-Easy-Dev", {3: 1, 4: 567, 5: 2}, 21),
        ("ARC-Easy-Test", {3: 7, 4: 2365, 5: 4}, 97),
    ],
)
def test_arc_as_it_is(name: str, sizes: dict[int, int], numbered: int) -> None:
    path = DATA / f"arc/{name}.jsonl"
    reading = read_questions(Questions(source=str(path)))
    assert (reading.form, reading.dropped) == ("arc", {})
    assert Counter(len(question.options) for question in reading.questions) == sizes
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert sum(row["answerKey"].isdecimal() for row in rows) == numbered
    for question, row in zip(reading.questions, rows, strict=True):
        texts = {choice["label"]: choice["text"] for choice in row["question"]["choices"]}
        assert (question.id, question.question) == (row["id"], row["question"]["stem"])
        assert question.options == tuple(texts.values())
        assert question.answers == (texts[row["answerKey"]],) == (question.options[question.target or 0],)


@real
def test_natural_questions_as_they_are() -> None:
    reading = read_questions(Questions(source=str(DATA / "nq/dev.json")))
    rows = json.loads((DATA / "nq/dev.json").read_text("utf-8"))
    assert (reading.form, len(rows), reading.dropped) == ("triviaqa", 3610, {})
    assert [(q.id, q.question, list(q.answers)) for q in reading.questions] == [
        (row["qid"], row["question"], row["answers"]) for row in rows
    ]


@real
def test_opentriviaqa_as_it_is() -> None:
    reading = read_questions(Questions(source=str(DATA / "opentriviaqa")))
    assert reading.dropped == {
        "the same question with the same answer stands before": 516,
        "the answer stands twice among the options": 5,
        "an option is empty": 4,
        "a character is lost": 2,
    }
    assert len(reading.questions) == 49716 - 527
    assert Counter(len(question.options) for question in reading.questions) == {2: 6664, 4: 42525}
    counts = Counter(question.category for question in reading.questions)
    assert len(counts) == 22
    assert (counts["television"], counts["brain-teasers"], counts["history"]) == (5222, 198, 1636)

    texts = {text for question in reading.questions for text in (question.question, *question.options)}
    assert texts >= {"Penélope Cruz", "Medellín Cartel", "FC Bayern München", "Which team won “Treble” in 1999?"}
    assert any("known as “King of the One Liners” because" in text for text in texts)
    assert not any("\udc80" <= sign <= "\udcff" or "\x80" <= sign <= "\x9f" for text in texts for sign in text)


TRIVIA_BLOCK = re.compile(rb"^#Q(.*?)^\^(.*?)$(.*?)(?=^#Q|\Z)", re.DOTALL | re.MULTILINE)


def plain(raw: bytes) -> str:
    raw = re.sub(rb"[ \t\r]+\n", b"\n", raw.strip()).replace(b"\xe2\x80?", "\u201d".encode())
    try:
        return raw.decode()
    except UnicodeDecodeError:  # a few blocks, none of which has both encodings
        return raw.decode("cp1252")


@real
def test_opentriviaqa_against_a_second_reading() -> None:
    """By a pattern over the bytes of each file."""
    found: list[tuple[str, str, str, list[str]]] = []
    left_out: Counter[str] = Counter()
    asked: set[tuple[str, str]] = set()
    for path in sorted((DATA / "opentriviaqa").iterdir()):
        raw = path.read_bytes()
        blocks = TRIVIA_BLOCK.findall(raw)
        assert len(blocks) == raw.count(b"\n#Q") + raw.startswith(b"#Q")
        for text, answer, rest in blocks:
            marked = re.findall(rb"^([A-Z])(?: (.*?))?$", rest.replace(b"\r", b""), re.MULTILINE)
            assert b"".join(mark for mark, _ in marked) in (b"AB", b"ABCD"), rest
            options = [plain(option) for _, option in marked]
            question, right = plain(text), plain(answer)
            key = " ".join(question.lower().split()), " ".join(right.lower().split())
            if re.search(rb"\xd0\?|\xcf\?", text + rest):  # half of a Greek or Cyrillic letter
                left_out["a character is lost"] += 1
            elif not all(options):
                left_out["an option is empty"] += 1
            elif options.count(right) != 1:
                left_out["the answer stands twice among the options"] += 1
            elif key in asked:
                left_out["the same question with the same answer stands before"] += 1
            else:
                asked.add(key)
                found.append((path.name, question, right, options))
    reading = read_questions(Questions(source=str(DATA / "opentriviaqa")))
    assert (len(found), sum(left_out.values())) == (49189, 527)
    assert reading.dropped == left_out
    read = [(q.category, q.question, q.answers[0], list(q.options)) for q in reading.questions]
    assert read == found
