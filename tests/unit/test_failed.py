"""Questions that cannot be asked: counted apart, never as wrong, and refused where they are many."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rait.errors import InputError, check_failed
from rait.evaluation.answering import answer
from rait.evaluation.bands import refusal_by_band
from rait.evaluation.comparison import compare
from rait.evaluation.dial import applied, aurc, choose, curve_of, to_json
from rait.evaluation.metrics import evaluate
from rait.evaluation.verdicts import read_verdicts
from rait.models.context import context_of, obstacle
from rait.models.loading import LoadedModel
from rait.prompting import Renderer
from rait.recipe import Dial, Evaluation, Probe, Prompt
from rait.records import KnowledgeState, Outcome, Question, Verdict
from rait.stages import askable
from rait.tables import write_records
from tiny import random_model, word_tokenizer

LETTERS = {"c": Outcome.CORRECT, "w": Outcome.WRONG, "r": Outcome.REFUSED, "f": Outcome.FAILED}


def verdicts(letters, probabilities=None):
    return [
        Verdict(
            id=f"q{n:03}",
            question="?",
            answers=("yes",),
            category="ab"[n % 2],
            response="",
            outcome=LETTERS[letter],
            rule="too_long" if letter == "f" else "given",
            refusal_probability=None if letter == "f" or probabilities is None else probabilities[n],
            answer=None if letter == "f" else "yes",
            answer_correct=None if letter == "f" else letter == "c",
        )
        for n, letter in enumerate(letters)
    ]


def without(found, *others):
    """The verdicts on questions that failed in none of these."""
    failed = {v.id for part in (found, *others) for v in part if v.outcome is Outcome.FAILED}
    return [verdict for verdict in found if verdict.id not in failed]


PAIRS = st.integers(1, 14).flatmap(lambda n: st.tuples(*[st.text("cwrf", min_size=n, max_size=n)] * 3))


def test_a_case_by_hand():
    after, before = verdicts("cwrfcc"), verdicts("wwccfc")
    found = evaluate(after, before, resamples=100, max_failed=1)
    assert found.counts == {
        "correct": 3,
        "wrong": 1,
        "refused": 1,
        "failed": 1,
        "refused_and_answered": 0,
        "unparsable": 0,
    }
    value = {name: metric.value for name, metric in found.overall.items()}
    n = {name: metric.n for name, metric in found.overall.items()}
    assert (value["P_c"], value["P_w"], value["P_r"]) == (3 / 5, 1 / 5, 1 / 5)
    assert (value["failed"], n["failed"], n["P_c"]) == (1 / 6, 6, 5)
    # Questions 3 and 4 failed once: cw, ww, rc, cc of after and before are left.
    assert value["THS"] == pytest.approx(2 / 4 - 1 / 4 * (2 / 4) / (2 / 4))
    assert (value["over_refusal"], n["over_refusal"]) == (1 / 2, 2)
    assert (value["missed_refusal"], n["missed_refusal"]) == (1 / 2, 2)
    assert sum(count for row in found.migration.values() for count in row.values()) == 4


@settings(max_examples=60, deadline=None)
@given(PAIRS)
def test_metrics_are_those_of_the_questions_that_did_not_fail(three):
    after, before, _ = map(verdicts, three)
    found = evaluate(after, before, resamples=100, max_failed=1)
    alone = evaluate(without(after), resamples=100).overall
    both = evaluate(without(after, before), without(before, after), resamples=100)
    for name in ("P_c", "P_w", "P_r", "refused_and_answered", "accuracy_on_answered", "unparsable"):
        assert found.overall[name] == alone[name]
    for name in ("THS", "over_refusal", "missed_refusal"):
        assert found.overall[name] == both.overall[name]
    assert found.migration == both.migration
    assert found.overall["failed"].n == len(after)
    assert found.overall["failed"].value == three[0].count("f") / len(after)


@settings(max_examples=30, deadline=None)
@given(PAIRS)
def test_a_comparison_is_that_of_the_questions_that_failed_nowhere(three):
    runs = list(map(verdicts, three))
    kept = [without(run, *runs) for run in runs]
    if not kept[0]:
        with pytest.raises(InputError, match="every question failed"):
            compare({"x": {0: runs[0]}, "y": {0: runs[1]}}, runs[2], "x", resamples=100, max_failed=1)
        return
    found = compare({"x": {0: runs[0]}, "y": {0: runs[1]}}, runs[2], "x", resamples=100, max_failed=1)
    plain = compare({"x": {0: kept[0]}, "y": {0: kept[1]}}, kept[2], "x", resamples=100)
    assert replace(found, failed=0) == plain
    assert found.failed == len(runs[0]) - len(kept[0])


@settings(max_examples=30, deadline=None)
@given(st.text("cwrf", min_size=3, max_size=14), st.data())
def test_the_dial_is_that_of_the_questions_that_did_not_fail(letters, data):
    probabilities = data.draw(st.lists(st.floats(0, 1), min_size=len(letters), max_size=len(letters)))
    baseline = verdicts(data.draw(st.text("cwf", min_size=len(letters), max_size=len(letters))))
    found = verdicts(letters, probabilities)
    kept, before = without(found, baseline), without(baseline, found)
    assert curve_of(found, baseline) == curve_of(kept, before)
    assert aurc(found) == aurc(without(found))
    at = applied(found, 0.5)
    assert [v for v in at if v.outcome is not Outcome.FAILED] == applied(without(found), 0.5)
    assert [v.id for v in at] == [v.id for v in found], "none is lost"
    dial = Dial(rule="max_error", value=0.5)
    if kept:
        choice = choose(found, baseline, dial)
        assert choice == choose(kept, before, dial)
        told = to_json(choice, dial, {"id": (found, baseline)}, resamples=100)
        plain = to_json(choice, dial, {"id": (kept, before)}, resamples=100)
        assert told["tests"]["id"]["curve"] == plain["tests"]["id"]["curve"]


def test_bands_leave_them_out():
    states = [
        KnowledgeState(id=f"q{n:03}", question="?", answers=("yes",), correctness=n / 3, certainty=0.5)
        for n in range(4)
    ]
    cells = refusal_by_band(states, verdicts("wfrc"))
    assert sum(cell.outcomes.n for cell in cells) == 3
    assert sum(cell.outcomes.wrong for cell in cells) == 1


def test_too_many_are_refused_with_numbers_ids_reasons_and_the_key():
    check_failed({"a": "why"}, 100, 0.01)
    check_failed({}, 0, 0.0)
    with pytest.raises(InputError) as failure:
        check_failed({"a": "too_long", "b": "too_long", "c": "odd", "d": "odd"}, 300, 0.01)
    for part in ("4 of 300", "max_failed=0.01", "'a', 'b', 'c', ...", "too_long; odd", "max_failed=0.014"):
        assert part in str(failure.value)
    check_failed({"a": "", "b": "", "c": "", "d": ""}, 300, 0.014)  # what it says to set is enough
    for letters in ("fccc", "cccc"):
        with pytest.raises(InputError, match="1 of 4 questions failed"):
            evaluate(verdicts(letters), verdicts("cccf" if letters == "cccc" else "cccc"))


def test_scores_of_a_file_with_many_failures_are_refused_unless_forced(tmp_path, capsys, monkeypatch):
    from rait import cli

    path = tmp_path / "v.jsonl"
    write_records(path, verdicts("ccwf"))
    assert [verdict.outcome for verdict in read_verdicts(path)] == list(map(LETTERS.get, "ccwf"))
    for more, code in (([], 1), (["--max-failed", "0.25"], 0), (["--max-failed", "2"], 2)):
        monkeypatch.setattr("sys.argv", ["rait", "score", str(path), "--json", *more])
        with pytest.raises(SystemExit) as leave:
            cli.main()
        assert int(leave.value.code or 0) == code
        out, err = capsys.readouterr()
        if code == 0:
            assert json.loads(out)["overall"]["failed"]["value"] == 0.25
        else:
            assert "Traceback" not in err


WORDS = [f"▁{word}" for word in ("is", "?", "Who", "Ada", "very", "I", "don't", "know")]


@pytest.fixture(scope="module")
def loaded():
    """A model that reads 512 tokens."""
    tokenizer = word_tokenizer([*WORDS, "Question:", "Answer:", "Who", "\n", "A.", "B.", "▁A", "▁B"])
    return LoadedModel(random_model("llama", len(tokenizer)), tokenizer, "tiny", "tiny")


def question(id, words, **options):
    return Question(id=id, question="Who is" + " very" * words + " ?", answers=("Ada",), **options)


def test_the_context_is_kept_to_the_token(loaded):
    render = Renderer(loaded.tokenizer, Prompt(instruction=""))
    assert context_of(loaded.model) == 512
    length = len(loaded.tokenizer(render(question("a", 0)))["input_ids"])
    for further in (1, 10, 50):
        fits = 512 - length - further
        assert obstacle(loaded, render(question("a", fits)), further) is None
        assert obstacle(loaded, render(question("a", fits + 1)), further) == "too_long"
    assert obstacle(loaded, render(question("a", 512 - length - 3)), texts=(" Ada", " Ada Ada Ada")) == "too_long"


def test_an_evaluation_counts_them_apart_and_keeps_the_order(loaded):
    render = Renderer(loaded.tokenizer, Prompt(instruction="", choice="text"))
    mixed = [
        question("a", 3),
        question("long", 700),
        question("b", 0, options=("Ada", "Ada is"), target=0),
        question("longer", 900, options=("Ada", "Ada is"), target=0),
        question("c", 5),
        question("last", 800),
    ]
    told = []
    found = list(answer(loaded, mixed, render, Evaluation(max_new_tokens=3, choice="score"), advance=told.append))
    assert [verdict.id for verdict in found] == [one.id for one in mixed]
    failed = [verdict for verdict in found if verdict.outcome is Outcome.FAILED]
    assert [(verdict.id, verdict.rule) for verdict in failed] == [(id, "too_long") for id in ("long", "longer", "last")]
    assert sum(told) == 6
    sound = [one for one in mixed if one.id in "abc"]
    alone = list(answer(loaded, sound, render, Evaluation(max_new_tokens=3, choice="score")))
    assert [verdict for verdict in found if verdict.outcome is not Outcome.FAILED] == alone


def test_a_probe_knows_beforehand_which_cannot_be_asked(loaded):
    render = Renderer(loaded.tokenizer, Prompt(instruction=""))
    count, failed = askable(
        loaded, [question("a", 3), question("long", 700), question("b", 4)], render, Probe(max_new_tokens=5)
    )
    assert count == 2
    assert failed == {"long": "the prompt and the answer may be longer than the model's context"}
