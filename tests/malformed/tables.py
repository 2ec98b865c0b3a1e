# ruff: noqa: E501  (a table of files and messages)
"""Files of records that are wrong, given to the commands that read them."""

from typing import Any

import pyarrow as pa

from malformed.cases import DECISION, EXAMPLE, INFLUENCE, OTHER, QUESTION, STATE, VERDICT, Case

TAKE = "--strategy cor_rait --vanilla 1 --idk 1 --out n.jsonl"
CONSTRUCT = f"construct --initial bad.jsonl {TAKE}"
FLOW = "flow --initial s.jsonl --rehearsed bad.jsonl --out n.jsonl"
TUNE = "tune --model model --examples bad.jsonl --out n"
CONFLICTS = "conflicts --model model --initial s.jsonl --decisions bad.jsonl --out n"
GRAIT = "construct --initial s.jsonl --influence bad.jsonl --strategy grait --vanilla 1 --idk 1 --out n.jsonl"
SCORE = "score bad.jsonl"


def case(kind: str, words: str, content: Any, says: str, suffix: str = "jsonl", code: int = 1) -> Case:
    name = f"bad.{suffix}"
    return Case(kind, words.replace("bad.jsonl", name), code, says.replace("bad.jsonl", name), {name: content})


def of(row: dict[str, Any], **changes: Any) -> list[dict[str, Any]]:
    """One row, with other values; ... takes a field away."""
    return [{name: value for name, value in (row | changes).items() if value is not ...}]


def answer(**changes: Any) -> list[dict[str, Any]]:
    return [
        {
            name: value
            for name, value in ({"text": "a", "count": 2, "correct": True} | changes).items()
            if value is not ...
        }
    ]


STATES = [
    case("states", CONSTRUCT, of(STATE, id=...), "bad.jsonl:1: field 'id' is missing"),
    case("states", CONSTRUCT, of(STATE, id=3), "bad.jsonl:1: field 'id': expected text, found 3"),
    case("states", FLOW, of(STATE, id=None), "bad.jsonl:1: field 'id' is missing"),
    case("states", CONSTRUCT, of(STATE, question=...), "bad.jsonl:1: field 'question' is missing"),
    case("states", "certainty bad.jsonl", of(STATE, question=["Q?"]), "bad.jsonl:1: field 'question': expected text"),
    case("states", CONSTRUCT, of(STATE, question="\ud83d"), "bad.jsonl:1: field 'question': expected no half of a surrogate pair"),
    case("states", CONSTRUCT, of(STATE, answers="Land1"), "bad.jsonl:1: field 'answers': expected a list (text each)"),
    case("states", CONSTRUCT, of(STATE, answers=[1]), "bad.jsonl:1: field 'answers.0': expected text"),
    case("states", CONSTRUCT, of(STATE, answers=...), "bad.jsonl:1: field 'answers' is missing"),
    case("states", FLOW, of(STATE, correctness=...), "bad.jsonl:1: field 'correctness' is missing"),
    case("states", FLOW, of(STATE, correctness="0.5"), "bad.jsonl:1: field 'correctness': expected a finite number"),
    case("states", CONSTRUCT, of(STATE, correctness=1.1), "bad.jsonl:1: correctness 1.1 of question 'a' is outside 0 to 1"),
    case("states", CONSTRUCT, of(STATE, correctness=-0.1), "bad.jsonl:1: correctness -0.1"),
    case("states", CONSTRUCT, of(STATE, correctness=True), "bad.jsonl:1: field 'correctness': expected a finite number, found True"),
    case("states", CONSTRUCT, of(STATE, correctness=float("nan")), "bad.jsonl:1: field 'correctness'"),
    case("states", CONSTRUCT, of(STATE, certainty=float("inf")), "bad.jsonl:1: field 'certainty'"),
    case("states", CONSTRUCT, of(STATE, certainty=10**400), "bad.jsonl:1: field 'certainty'"),
    case("states", CONSTRUCT, of(STATE, certainty=None), "bad.jsonl:1: field 'certainty' is missing"),
    case("states", "certainty bad.jsonl", of(STATE, responses="a"), "bad.jsonl:1: field 'responses'"),
    case("states", "certainty bad.jsonl", of(STATE, responses=["a"]), "bad.jsonl:1: field 'responses.0'"),
    case("states", "certainty bad.jsonl", of(STATE, responses=answer(text=...)), "bad.jsonl:1: field 'responses.0.text' is missing"),
    case("states", "certainty bad.jsonl", of(STATE, responses=answer(count=1.5)), "bad.jsonl:1: field 'responses.0.count'"),
    case("states", "certainty bad.jsonl", of(STATE, responses=answer(count=0)), "count"),
    case("states", "certainty bad.jsonl", of(STATE, responses=answer(count=-2)), "count"),
    case("states", "certainty bad.jsonl", of(STATE, responses=answer(correct=1)), "bad.jsonl:1: field 'responses.0.correct'"),
    case("states", "certainty bad.jsonl", of(STATE, responses=answer(log_probability=float("-inf"))), "bad.jsonl:1: field 'responses.0.log_probability'"),
    case("states", "certainty bad.jsonl", of(STATE, greedy=3), "bad.jsonl:1: field 'greedy'"),
    case("states", "certainty bad.jsonl", of(STATE, kurtosis="x"), "bad.jsonl:1: field 'kurtosis'"),
    case("states", "certainty bad.jsonl", of(STATE, target="A"), "bad.jsonl:1: field 'target'"),
    case("states", "certainty bad.jsonl", of(STATE, probabilities=[None]), "bad.jsonl:1: field 'probabilities.0'"),
    case("states", CONSTRUCT, [STATE, STATE], "bad.jsonl:2: id 'a' was already used at bad.jsonl:1"),
    case("states", CONSTRUCT, "{\n", "bad.jsonl:1: not JSON"),
    case("states", CONSTRUCT, "[]\n", "bad.jsonl:1: expected an object"),
    case("states", CONSTRUCT, b"\xff\n", "bad.jsonl:1: not UTF-8 text"),
    case("states", CONSTRUCT, "[" * 100_000, "bad.jsonl:1: not JSON (nested too deeply)"),
    case("states", CONSTRUCT, '{"id": ' + "9" * 5000 + "}", "bad.jsonl:1: not JSON (a number of too many digits)"),
    case("states", CONSTRUCT, b"PAR1", "bad.jsonl", "parquet"),
    case("states", CONSTRUCT, "", "bad.jsonl", "parquet"),
    case("states", CONSTRUCT, [{"id": "a"}], "column 'question' is missing", "parquet"),
    case("states", CONSTRUCT, of(STATE, correctness="x"), "column 'correctness': expected a finite number, found string", "parquet"),
    case("states", CONSTRUCT, of(STATE, id=3), "column 'id': expected text, found int64", "parquet"),
    case("states", CONSTRUCT, of(STATE, answers="x"), "column 'answers'", "parquet"),
    case("states", CONSTRUCT, of(STATE, correctness=None), "bad.jsonl:1: field 'correctness' is missing", "parquet"),
    case("states", CONSTRUCT, [STATE, STATE], "bad.jsonl:2: id 'a' was already used", "parquet"),
    case("states", CONSTRUCT, pa.table({"id": pa.array([b"a"], pa.binary())}), "column 'id': expected text, found binary", "parquet"),
    case("states", CONSTRUCT, pa.table({}), "bad.jsonl", "parquet"),
    case("states", CONSTRUCT, [STATE], "bad.csv must end in .jsonl or .parquet", "csv"),
    case("states", CONSTRUCT, "", "bad.jsonl"),
    case("states", FLOW, "", "bad.jsonl"),
    case("states", "certainty bad.jsonl", "", "bad.jsonl holds no states"),
    case("states", "rehearse --model model --states bad.jsonl --out n", "", "bad.jsonl"),
    case("states", "influence --model model --adapter adapter --initial bad.jsonl --out n.jsonl", "", "bad.jsonl"),
    case("states", FLOW, [STATE], "'b'"),
    case("states", FLOW, [STATE, OTHER, OTHER | {"id": "c"}], "'c'"),
    case("states", f"construct --initial s.jsonl --rehearsed bad.jsonl {TAKE.replace('cor_rait', 'craft')}", [STATE], "'b'"),
    case("states", CONSTRUCT, [STATE | {"answers": []}, OTHER], "'a'"),
    case("states", "construct --initial bad.jsonl --strategy cor_rait --vanilla 2 --idk 1 --out n.jsonl", [STATE, OTHER], "2 vanilla"),
    case("states", f"{CONSTRUCT} construction.certainty=kurtosis", [STATE, OTHER], "kurtosis"),
    case("states", "rehearse --model model --states bad.jsonl --out n", [OTHER], "rehears"),
    case("states", "rehearse --model model --states bad.jsonl --out n rehearsal.rule=top", [STATE | {"responses": [], "answers": []}], "'a'"),
]  # fmt: skip

EXAMPLES = [
    case("examples", TUNE, of(EXAMPLE, id=...), "bad.jsonl:1: field 'id' is missing"),
    case("examples", TUNE, of(EXAMPLE, prompt=...), "bad.jsonl:1: field 'prompt' is missing"),
    case("examples", TUNE, of(EXAMPLE, prompt=3), "bad.jsonl:1: field 'prompt': expected text, found 3"),
    case("examples", TUNE, of(EXAMPLE, completion=None), "bad.jsonl:1: field 'completion' is missing"),
    case("examples", TUNE, of(EXAMPLE, completion=["x"]), "bad.jsonl:1: field 'completion'"),
    case("examples", TUNE, of(EXAMPLE, role="dunno"), "bad.jsonl:1: field 'role': expected one of vanilla, idk, dropped"),
    case("examples", TUNE, of(EXAMPLE, role=...), "bad.jsonl:1: field 'role' is missing"),
    case("examples", TUNE, of(EXAMPLE, weight="1"), "bad.jsonl:1: field 'weight'"),
    case("examples", TUNE, of(EXAMPLE, weight=float("nan")), "bad.jsonl:1: field 'weight'"),
    case("examples", TUNE, of(EXAMPLE, weight=-1), "weight"),
    case("examples", TUNE, of(EXAMPLE, weight=0), "weight 0"),
    case("examples", TUNE, of(EXAMPLE, completion=""), "'a'"),
    case("examples", TUNE, 2 * [EXAMPLE], "bad.jsonl:2: id 'a' was already used"),
    case("examples", TUNE, "", "no examples"),
    case("examples", TUNE, "nonsense", "bad.jsonl:1: not JSON"),
    case("examples", TUNE, [QUESTION], "bad.jsonl:1: field 'prompt' is missing"),
    case("examples", TUNE, [{"prompt": "Q?", "completion": "a"}], "column 'id' is missing", "parquet"),
    case("examples", TUNE, of(EXAMPLE, prompt="Where is City1 ? " * 999), "tuning.max_length"),
    case("examples", f"{TUNE} tuning.max_length=2", of(EXAMPLE), "max_length"),
]  # fmt: skip

DECISIONS = [
    case("decisions", CONFLICTS, of(DECISION, id=...), "bad.jsonl:1: field 'id' is missing"),
    case("decisions", CONFLICTS, of(DECISION, role="known"), "bad.jsonl:1: field 'role': expected one of"),
    case("decisions", CONFLICTS, of(DECISION, reason=...), "bad.jsonl:1: field 'reason' is missing"),
    case("decisions", CONFLICTS, of(DECISION, rank="1"), "bad.jsonl:1: field 'rank'"),
    case("decisions", CONFLICTS, of(DECISION, rank=1.5), "bad.jsonl:1: field 'rank'"),
    case("decisions", CONFLICTS, 2 * [DECISION], "bad.jsonl:2: id 'a' was already used"),
    case("decisions", CONFLICTS, of(DECISION, id="z"), "1 questions of bad.jsonl are not in s.jsonl ('z')"),
    case("decisions", CONFLICTS, "", "bad.jsonl"),
    case("decisions", CONFLICTS, of(DECISION, role="dropped"), "bad.jsonl"),
    case("decisions", CONFLICTS, "{", "bad.jsonl:1: not JSON"),
    case("decisions", CONFLICTS, [{"id": "a"}], "column 'role' is missing", "parquet"),
]  # fmt: skip

INFLUENCES = [
    case("influences", GRAIT, of(INFLUENCE, id=...), "bad.jsonl:1: field 'id' is missing"),
    case("influences", GRAIT, of(INFLUENCE, refusal=...), "bad.jsonl:1: field 'refusal' is missing"),
    case("influences", GRAIT, of(INFLUENCE, refusal="x"), "bad.jsonl:1: field 'refusal'"),
    case("influences", GRAIT, of(INFLUENCE, over_refusal=float("nan")), "bad.jsonl:1: field 'over_refusal'"),
    case("influences", GRAIT, of(INFLUENCE, id="z"), "'b'"),
    case("influences", GRAIT, "", "influence"),
    case("influences", GRAIT, 2 * [INFLUENCE], "bad.jsonl:2: id 'a' was already used"),
    case("influences", GRAIT, "{}", "bad.jsonl:1: field 'id' is missing"),
]  # fmt: skip

VERDICTS = [
    case("verdicts", SCORE, of(VERDICT, id=...), "bad.jsonl:1: no 'id'"),
    case("verdicts", SCORE, of(VERDICT, id=1.5), "bad.jsonl:1: 'id' should be text"),
    case("verdicts", SCORE, of(VERDICT, outcome="right"), "bad.jsonl:1: 'outcome' should be one of correct, wrong, refused, failed, found 'right'"),
    case("verdicts", SCORE, of(VERDICT, outcome=["correct"]), "bad.jsonl:1: 'outcome' should be one of"),
    case("verdicts", SCORE, of(VERDICT, outcome={}), "bad.jsonl:1: 'outcome' should be one of"),
    case("verdicts", SCORE, of(VERDICT, outcome=...) + of(VERDICT, outcome=..., id="b", response=...), "bad.jsonl:2: no 'response'"),
    case("verdicts", SCORE, of(VERDICT, outcome=..., answers=...), "bad.jsonl:1: no 'answers' (or 'answer')"),
    case("verdicts", SCORE, of(VERDICT, outcome=..., answers=[]), "bad.jsonl:1: no accepted answer"),
    case("verdicts", SCORE, of(VERDICT, outcome=..., answers=[""]), "bad.jsonl:1: no accepted answer"),
    case("verdicts", SCORE, of(VERDICT, outcome=..., answers=[1.5]), "bad.jsonl:1: 'answers' should be text"),
    case("verdicts", SCORE, of(VERDICT, response=["x"]), "bad.jsonl:1: 'response' should be text"),
    case("verdicts", SCORE, of(VERDICT, response=True), "bad.jsonl:1: 'response' should be text"),
    case("verdicts", SCORE, of(VERDICT, category=1.5), "bad.jsonl:1: 'category' should be text"),
    case("verdicts", SCORE, of(VERDICT, question={}), "bad.jsonl:1: 'question' should be text"),
    case("verdicts", SCORE, of(VERDICT, rule=[]), "bad.jsonl:1: 'rule' should be text"),
    case("verdicts", SCORE, of(VERDICT, options="AB"), "bad.jsonl:1: 'options' should be a list of texts"),
    case("verdicts", SCORE, of(VERDICT, options=["x", 1.5]), "bad.jsonl:1: 'options' should be text"),
    case("verdicts", SCORE, of(VERDICT, options=["x", "y"]), "bad.jsonl:1: 'target'"),
    case("verdicts", SCORE, of(VERDICT, options=["x", "y"], target=2), "bad.jsonl:1: 'target'"),
    case("verdicts", SCORE, of(VERDICT, options=["x", "y"], target="z"), "bad.jsonl:1: 'target'"),
    case("verdicts", SCORE, of(VERDICT, options=[str(n) for n in range(11)], target=10), "bad.jsonl:1: 'options'"),
    case("verdicts", SCORE, of(VERDICT, options=["x"], target=0), "bad.jsonl:1: 'options'"),
    case("verdicts", SCORE, 2 * [VERDICT], "bad.jsonl:2: id 'a' was already used at bad.jsonl:1"),
    case("verdicts", SCORE, of(VERDICT, id=1) + of(VERDICT, id="1"), "bad.jsonl:2: id '1' was already used"),
    case("verdicts", SCORE, "", "bad.jsonl holds no rows"),
    case("verdicts", SCORE, "\n\n", "bad.jsonl holds no rows"),
    case("verdicts", SCORE, "7\n", "bad.jsonl:1: expected an object"),
    case("verdicts", SCORE, "{'id': 1}\n", "bad.jsonl:1: not JSON"),
    case("verdicts", SCORE, b"\x80\n", "bad.jsonl:1: not UTF-8"),
    case("verdicts", SCORE, b"PAR1PAR1", "bad.jsonl is damaged", "parquet"),
    case("verdicts", SCORE, [{"x": 1}], "bad.jsonl:1: no 'id'", "parquet"),
    case("verdicts", SCORE, [VERDICT], "bad.json must end in .jsonl or .parquet", "json"),
    case("verdicts", "score v.jsonl --baseline bad.jsonl", [VERDICT], "'b'"),
    case("verdicts", "score v.jsonl --baseline bad.jsonl", "", "bad.jsonl holds no rows"),
    case("verdicts", "score v.jsonl --baseline bad.jsonl", of(VERDICT, id="z") + of(VERDICT, id="y"), "'a'"),
    case("verdicts", "score v.jsonl --baseline gone.jsonl", "", "--baseline: gone.jsonl does not exist", code=2),
]  # fmt: skip

ASKED = "--model model --questions bad.jsonl --out n.jsonl"
QUESTIONS = [
    case("questions", f"probe {ASKED}", of(QUESTION, answers=...), "no column 'answers'"),
    case("questions", f"probe {ASKED}", of(QUESTION, question=""), "bad.jsonl:1: 'question' is empty"),
    case("questions", f"probe {ASKED}", [QUESTION], "bad.jsonl has 1 questions, and 1 of them serve as worked examples"),
    case("questions", f"probe {ASKED}", "", "holds no rows"),
    case("questions", f"evaluate {ASKED}", "", "holds no rows"),
    case("questions", f"evaluate {ASKED}", "question,answers\nWho?\n", "bad.jsonl:2: 1 cells", "csv"),
    case("questions", f"evaluate {ASKED} --shots-from q.jsonl", "{", "bad.jsonl:1: not JSON"),
    case("questions", "evaluate --model model --questions q.jsonl --out n.jsonl --shots-from bad.jsonl", "{", "bad.jsonl:1: not JSON"),
    case("questions", "evaluate --model model --questions q.jsonl --out n.jsonl prompt.shots_from.source=bad.jsonl", "{", "bad.jsonl:1: not JSON"),
    case("questions", "questions bad.jsonl", b"\xff\xfe", "bad.jsonl:1: not UTF-8"),
    case("questions", "questions bad.jsonl --json", "{", "bad.jsonl:1: not JSON"),
    case("questions", "questions bad.jsonl questions.fields.question=nope", [QUESTION], "no column 'nope'"),
    case("questions", "questions bad.jsonl", b"PK\3\4", "bad.jsonl is of an unknown kind", "xlsx"),
    case("questions", "questions bad.jsonl", b"", "bad.jsonl", "parquet"),
    case("questions", "prompts r.yaml", "", "bad.jsonl:1: not JSON")._replace(files={"bad.jsonl": "{", "r.yaml": "{questions: {source: bad.jsonl}, tests: {id: {source: q.jsonl}}, model: {source: model}}"}),
]  # fmt: skip

CASES = [*STATES, *EXAMPLES, *DECISIONS, *INFLUENCES, *VERDICTS, *QUESTIONS]
