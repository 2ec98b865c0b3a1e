"""What a report says of a run folder, held against the folder's files and against counting by hand."""

import json
import random
import re
import shutil
import sys
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from made import TESTS, listed, made_calibration, made_dial, made_run
from rait.cli import main
from rait.errors import InputError
from rait.evaluation.metrics import Metric, truthful_helpfulness
from rait.records import Decision, KnowledgeFlow, KnowledgeState, Outcome, Role, Verdict
from rait.reporting import charts, distributions
from rait.reporting.browser import pack, unpack
from rait.reporting.outcomes import Charts, came_out, dials
from rait.reporting.reading import read_run
from rait.reporting.report import page, write_report
from rait.reporting.sections import changed, how, why
from rait.reporting.tables import Row
from rait.tables import read_records, write_json, write_records

PAGE_LIMIT = 6_000_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return made_run(tmp_path_factory.mktemp("made") / "run")


@pytest.fixture(scope="module")
def dialled(tmp_path_factory):
    return made_calibration(made_run(tmp_path_factory.mktemp("dialled") / "run"), ["craft"])


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "run")


@cache
def read_cached(folder):
    return read_run(folder)


def text_of(page):
    """The page without its scripts."""
    return re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)


# Reading.


def test_a_whole_run_is_read_and_nothing_is_missing(folder):
    run = read_run(folder)
    assert run.missing == []
    assert [each.name for each in run.sets] == ["train", *TESTS]
    assert list(run.methods) == ["init_basic", "init_refuse", "cor_rait", "craft"]
    written = json.loads((folder / "craft/metrics.json").read_text())
    assert run.methods["craft"].scores["ood"].overall["THS"] == Metric(**written["ood"]["overall"]["THS"])
    decisions = read_records(folder / "craft/decisions.parquet", Decision)
    taken = run.methods["craft"].taken
    assert {role: sum(taken[role].values()) for role in Role} == {
        role: sum(decision.role is role for decision in decisions) for role in Role
    }


def test_of_many_questions_some_are_kept_and_all_are_counted(folder):
    whole, part = read_run(folder), read_run(folder, kept=7)
    train, few = whole.sets[0], part.sets[0]
    assert (few.size, len(few.questions), len(few.states)) == (60, 7, 7)
    assert np.array_equal(few.known, train.known)
    order = [question.id for question in train.questions]
    places = [order.index(question.id) for question in few.questions]
    assert places == sorted(places)
    assert part.methods["craft"].taken == whole.methods["craft"].taken
    assert part.methods["craft"].scores == whole.methods["craft"].scores


def test_which_questions_are_kept_does_not_hang_on_their_order(copy):
    before = {question.id for question in read_run(copy, kept=7).sets[0].questions}
    states = read_records(copy / "knowledge/initial.parquet", KnowledgeState)
    questions = [*read_run(copy).sets[0].questions]
    random.Random(1).shuffle(questions)
    write_records(copy / "questions/train.parquet", questions)
    write_records(copy / "knowledge/initial.parquet", states[::-1])
    listed(copy)
    assert {question.id for question in read_run(copy, kept=7).sets[0].questions} == before


@pytest.mark.parametrize("resamples", ["many", -1, None, [1]])
def test_a_recipe_of_odd_values_is_read_as_far_as_it_goes(copy, resamples):
    recipe = json.loads((copy / "recipe.yaml").read_text("utf-8"))
    (copy / "recipe.yaml").write_text(json.dumps(recipe | {"evaluation": {"resamples": resamples}}), "utf-8")
    (copy / "craft/metrics.json").unlink()
    scores = read_run(listed(copy)).methods["craft"].scores
    assert scores["id"].overall["THS"].n


def test_metrics_that_are_not_written_yet_are_counted_from_the_verdicts(copy):
    before = read_run(copy).methods
    for path in copy.rglob("metrics.json"):
        path.unlink()
    listed(copy, status="running")
    after = read_run(copy)
    for name, method in after.methods.items():
        for test in TESTS:
            was, now = before[name].scores[test], method.scores[test]
            assert now.migration == was.migration
            for metric in ("P_c", "P_w", "P_r", "THS"):
                assert now.overall[metric].value == pytest.approx(was.overall[metric].value)
    assert "not finished" in page([after])


def test_a_file_that_the_manifest_does_not_list_does_not_count(copy):
    manifest = json.loads((copy / "manifest.json").read_text())
    steps = manifest["steps"]
    manifest["steps"] = {n: step for n, step in steps.items() if "knowledge/flow.parquet" not in step.get("files", {})}
    write_json(copy / "manifest.json", manifest)
    run = read_run(copy)
    assert run.flows == {}
    assert "There is no knowledge flow in this run" in text_of(page([run]))


PARTS = [
    "recipe.yaml",
    "questions/train.parquet",
    "questions/id.parquet",
    "knowledge/initial.parquet",
    "knowledge/tests/ood.parquet",
    "knowledge/flow.parquet",
    "init_basic/id.verdicts.parquet",
    "craft/id.verdicts.parquet",
    "craft/decisions.parquet",
    "craft/conflicts.json",
    "craft/over_refusal.json",
    "craft/losses.json",
]


@pytest.mark.parametrize("harm", ["missing", "\x00 : [", '{"a": [1, null]}'])
def test_a_part_that_is_missing_or_damaged_is_named(copy, harm):
    for name in PARTS:
        path = copy / name
        before = path.read_bytes()
        path.unlink() if harm == "missing" else path.write_text(harm)
        if (harm[0], name) != ("{", "recipe.yaml"):  # that is a recipe, if an odd one
            assert any(part.startswith(name) for part in read_run(copy).missing), name
        path.write_bytes(before)
    assert read_run(copy).missing == []


@pytest.mark.parametrize("name", [*PARTS[1:4], "init_basic/id.verdicts.parquet", "craft/decisions.parquet"])
def test_a_page_is_made_without_any_part(copy, name):
    (copy / name).unlink()
    text = text_of(page([read_run(copy)]))
    assert re.search(rf"<li>{name}: .*is gone", text)
    assert "What came out" in text


@pytest.mark.parametrize("noticed", [True, False], ids=["by its checksum", "by its content"])
def test_a_page_is_made_when_every_part_is_damaged(copy, noticed):
    for path in copy.rglob("*.*"):
        if path.name != "manifest.json":
            path.write_text('{"a": [1, null]}')
    run = read_run(copy if noticed else listed(copy))
    assert bool(run.damaged) == noticed
    assert len(run.missing) > 10
    assert run.missing[0] in text_of(page([run])).replace("&#39;", "'")


def test_a_run_that_has_hardly_begun_has_a_page(tmp_path):
    write_json(tmp_path / "manifest.json", {"status": "running", "steps": {}})
    text = text_of(page([read_run(tmp_path)]))
    assert "not finished" in text
    assert "nothing can be said about results" in text
    assert "None" not in text


def test_a_folder_without_a_manifest_is_no_run(tmp_path):
    with pytest.raises(InputError, match="is no run folder"):
        read_run(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match="is damaged"):
        read_run(tmp_path)
    with pytest.raises(InputError, match="it is a folder"):
        write_report([tmp_path], tmp_path)


# Question data.


def test_the_question_data_is_that_of_the_files(folder):
    (run,) = unpack(pack([read_run(folder)]).text)["runs"]
    states = read_records(folder / "knowledge/initial.parquet", KnowledgeState)
    flows = {flow.id: flow for flow in read_records(folder / "knowledge/flow.parquet", KnowledgeFlow)}
    train = run["sets"][0]
    assert train["question"] == [state.question for state in states]
    assert train["mu"] == [state.correctness for state in states]
    assert train["samples"] == [[[a.text, a.count, int(a.correct)] for a in state.responses] for state in states]
    assert train["d_mu"] == pytest.approx([flows[state.id].correctness_flow for state in states], abs=1e-4)
    decisions = read_records(folder / "craft/decisions.parquet", Decision)
    assert train["decisions"]["craft"]["reason"] == [decision.reason for decision in decisions]
    verdicts = read_records(folder / "craft/ood.verdicts.parquet", Verdict)
    ood = run["sets"][2]["verdicts"]["craft"]
    assert ood["outcome"] == [verdict.outcome for verdict in verdicts]
    assert ood["response"] == [verdict.response for verdict in verdicts]


def test_calibration_questions_are_shown_and_count_nowhere(dialled):
    run = read_run(dialled)
    assert run.missing == []
    assert [test.name for test in run.tests] == list(TESTS)
    assert run.calibration.size == 30
    (packed,) = unpack(pack([run]).text)["runs"]
    assert [each["name"] for each in packed["sets"]] == ["train", *TESTS, "calibration"]
    calibration = packed["sets"][-1]
    verdicts = read_records(dialled / "craft/calibration.verdicts.parquet", Verdict)
    assert calibration["verdicts"]["craft"]["outcome"] == [verdict.outcome for verdict in verdicts]
    assert calibration["mu"] == [None] * 30, "they are not probed"
    for method in run.methods.values():
        assert set(method.scores) == set(TESTS)
        assert set(method.dial_scores) <= set(TESTS)
    assert "calibration" not in [each["name"] for each in came_out([run], Charts())["sets"]]


def test_the_dial_of_every_question_is_that_of_its_threshold(dialled):
    (packed,) = unpack(pack([read_run(dialled)]).text)["runs"]
    assert packed["thresholds"] == {"craft": 0.4}
    outcomes = set()
    for which in packed["sets"][1:]:
        found = which["verdicts"]["craft"]
        verdicts = read_records(dialled / f"craft/{which['name']}.verdicts.parquet", Verdict)
        assert found["p_refuse"] == pytest.approx([v.refusal_probability for v in verdicts], rel=1e-3)
        assert found["answer"] == [None if v.answer == v.response else v.answer for v in verdicts]
        expected = [
            "refused"
            if v.refusal_probability >= 0.4 or v.answer_correct is None
            else "correct"
            if v.answer_correct
            else "wrong"
            for v in verdicts
        ]
        assert found["dial"] == expected
        outcomes |= set(expected)
        assert "dial" not in which["verdicts"]["init_basic"]
        assert "dial" not in which["verdicts"].get("cor_rait", {})
    assert outcomes == {"refused", "correct", "wrong"}


def test_what_could_not_be_asked_stays_so_with_the_dial(tmp_path):
    folder = made_calibration(made_run(tmp_path / "run"), ["craft"])
    path = folder / "craft/id.verdicts.parquet"
    first, *others = read_records(path, Verdict)
    unasked = replace(
        first, outcome=Outcome.FAILED, rule="too long", response="", refusal_probability=None, answer=None
    )
    write_records(path, [unasked, *others])
    run = read_run(listed(folder))
    assert run.missing == []
    (packed,) = unpack(pack([run]).text)["runs"]
    found = packed["sets"][1]["verdicts"]["craft"]
    assert (found["outcome"][0], found["dial"][0], found["p_refuse"][0]) == ("failed", "failed", None)
    assert "failed" not in found["dial"][1:]
    assert run.methods["craft"].dial_scores["id"].overall["P_c"].n == 19
    table = came_out([run], Charts())["sets"][0]["table"]
    assert ("not", "asked") in table["columns"]
    assert {cell["metric"]: cell["value"] for cell in table["rows"][-1]["cells"]}["failed"] == "5.0"


@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=3, max_size=3))
def test_any_text_comes_through(folder, texts):
    run = read_cached(folder)
    train = run.sets[0]
    changed = [replace(question, question=texts[0], answers=tuple(texts)) for question in train.questions[:2]]
    packed = pack([replace(run, sets=[replace(train, questions=changed)])])
    found = unpack(packed.text)["runs"][0]["sets"][0]
    assert found["question"] == [texts[0]] * 2
    assert found["answers"] == [texts] * 2
    assert re.fullmatch(r"[A-Za-z0-9+/=]+", packed.text)


def test_what_is_too_much_is_cut_and_said(tmp_path):
    generator = random.Random(0)
    long = ["".join(generator.choices("abcdefgh ", k=3000)) for _ in range(40)]
    run = read_run(made_run(tmp_path / "long", texts=long))
    whole = pack([run])
    assert whole.note == ""
    less = pack([run], budget=len(whole.text) // 3)
    assert len(less.text) <= len(whole.text) // 3
    assert less.note == "To keep this file small, texts are cut after 300 characters."
    question = unpack(less.text)["runs"][0]["sets"][0]["question"][0]
    assert question == f"{long[0][:300]}… (3000 characters)"
    least = pack([run], budget=1)  # which cannot be: the least is taken
    assert "60 characters" in least.note and "100 questions" in least.note


def test_ten_thousand_questions_stay_below_the_limit(tmp_path):
    names = ("cor_rait", "craft", "corcer_rait", "wo_cer")
    small = made_run(tmp_path / "small", train=700, tests=100, strategies=names)
    made_calibration(small, names, size=100)
    packed = len(pack([read_run(small)]).text)
    fixed = len(page([read_run(small)])) - packed
    assert fixed + 10 * packed < PAGE_LIMIT  # compression gets better, never worse, with more of the same


@pytest.mark.slow
def test_ten_thousand_questions_truly_stay_below_the_limit(tmp_path):
    names = ("cor_rait", "craft", "corcer_rait", "wo_cer")
    big = made_run(tmp_path / "big", train=7000, tests=1000, strategies=names)
    made_calibration(big, names, size=1000)
    out = write_report([big], tmp_path / "report.html")
    assert out.stat().st_size < PAGE_LIMIT
    assert "To keep this file small" not in out.read_text("utf-8")


# Charts.


def rows_of(spec):
    return [row for rows in spec["datasets"].values() for row in rows]


def test_lines_of_equal_ths_are_just_that():
    look_of = charts.looks(["init_basic", "craft"])
    points = [
        charts.Point(method="init_basic", what="", ths="0", correct=(0.6, 0.5, 0.7), wrong=(0.4, 0.3, 0.5)),
        charts.Point(method="craft", what="", ths="", correct=(0.5, None, None), wrong=(0.1, None, None)),
    ]
    lines = [row for row in rows_of(charts.plane(points, (0.6, 0.4), look_of)) if "THS" in row and "method" not in row]
    assert len(lines) >= 10
    for row in lines:
        found = truthful_helpfulness(row["P_c"] / 100, row["P_w"] / 100, 0.6, 0.4)
        assert found == pytest.approx(row["THS"] / 100)
        assert min(row["P_c"], row["P_w"]) >= -1e-9 and row["P_c"] + row["P_w"] <= 100 + 1e-9


@pytest.mark.parametrize("baseline", [None, (1.0, 0.0), (0.0, 1.0)])
def test_a_plane_without_a_ray_is_still_one(baseline):
    point = charts.Point(method="craft", what="", ths="n/a", correct=(1.0, None, None), wrong=(0.0, None, None))
    spec = charts.plane([point], baseline, charts.looks(["craft"]))
    assert any(row.get("method") == "craft" and row["P_c"] == 100 for row in rows_of(spec))


@pytest.mark.parametrize("samples", [1, 7, 10, 20])
def test_the_histogram_keeps_shares_apart(samples):
    generator = np.random.default_rng(samples)
    known = np.column_stack([generator.integers(0, samples + 1, 500) / samples, generator.uniform(0.2, 1, 500)])
    rows = [row for row in rows_of(distributions.states(known, samples, 0.5)) if "n" in row]
    assert sum(row["n"] for row in rows) == 500
    for share in range(samples + 1):
        mine = sum(row["n"] for row in rows if float(row["mu"]) == pytest.approx(share / samples, abs=1e-3))
        assert mine == np.isclose(known[:, 0], share / samples).sum()
    (cut,) = [row["at"] for row in rows_of(distributions.states(known, samples, 0.5)) if "at" in row]
    assert all((share / samples > cut) == (share / samples >= 0.5) for share in range(samples + 1))


def test_a_bin_names_questions_that_lie_in_it():
    generator = np.random.default_rng(0)
    placed = [(str(n), generator.integers(0, 11) / 10, round(generator.uniform(0.2, 1), 2)) for n in range(300)]
    of = {id: values for id, *values in placed}
    known = np.array([values for _, *values in placed])
    cells = [row for row in rows_of(distributions.states(known, 10, 0.5, placed)) if "n" in row]
    for row in cells:
        assert len(row["ids"]) == min(row["n"], 3)
        for id in row["ids"]:
            mu, sigma = of[id]
            assert row["m0"] <= mu < row["m1"]
            assert row["s0"] - 1e-9 <= sigma <= row["s1"] + 1e-9
    assert sum(row["n"] for row in cells) == 300
    drawn = distributions.flow(known[:, 0], known[:, 1], 0.5, placed)
    for row in (row for row in rows_of(drawn) if "ids" in row):
        band = [id for id, mu, _ in placed if min(9, round(10 * mu)) == min(9, round(10 * row["mu"] - 1e-9))]
        assert row["n"] == len(band)
        assert row["ids"] == band[:3]


def test_a_histogram_of_refusals_counts_every_answer():
    generator = random.Random(0)
    kinds = ("right", "wrong", "refused")
    answers = [
        (str(n), generator.choice([0.0, 0.05, 1.0, generator.random()]), generator.choice(kinds)) for n in range(200)
    ]
    rows = [row for row in rows_of(distributions.chances(answers, 0.4)) if "n" in row]
    for row in rows:
        mine = [
            id
            for id, chance, kind in answers
            if kind == row["answer"] and (row["c0"] <= chance < row["c1"] or chance == row["c1"] == 1)
        ]
        assert (row["n"], row["ids"]) == (len(mine), mine[:3])
    assert sum(row["n"] for row in rows) == 200
    assert {"at": 0.4} in rows_of(distributions.chances(answers, 0.4))
    assert all("at" not in row for row in rows_of(distributions.chances(answers, 1.0000000002)))


def test_no_two_methods_look_alike():
    look_of = charts.looks([f"method{n}" for n in range(40)])
    assert len({(look.colour, look.shape) for look in look_of.values()}) == 40


def test_a_long_training_is_shown_by_means():
    values = [float(n) for n in range(1001)]
    rows = rows_of(charts.losses({"craft": values, "short": [3.0]}, charts.looks(["craft", "short"])))
    mine = [row for row in rows if row["method"] == "craft"]
    assert len(mine) == 200
    assert mine[-1]["step"] == 1001
    assert np.mean([row["loss"] for row in mine]) == pytest.approx(500, rel=0.01)
    assert [row["loss"] for row in rows if row["method"] == "short"] == [3.0]


# Sections.


def test_migrations_and_refusals_are_counted(folder):
    section = changed(read_run(folder), Charts(), 0)
    before = {v.id: v.outcome for v in read_records(folder / "init_basic/id.verdicts.parquet", Verdict)}
    after = read_records(folder / "craft/id.verdicts.parquet", Verdict)
    (shown,) = [each for each in section["sets"][0]["migrations"] if each["method"] == "craft"]
    words = {Outcome.CORRECT: "right", Outcome.WRONG: "wrong", Outcome.REFUSED: "refused"}
    (way,) = shown["ways"]
    for row in way["rows"]:
        for part in row["bar"]:
            same = [v for v in after if words[before[v.id]] == row["before"] and words[v.outcome] == part["kind"]]
            assert part["count"] == len(same)
        assert sum(part["count"] for part in row["bar"]) == row["n"]
        assert sum(part["width"] for part in row["bar"]) == pytest.approx(100, abs=0.1)
    states = {s.id: s.correctness for s in read_records(folder / "knowledge/tests/id.parquet", KnowledgeState)}
    (known,) = [each for each in section["sets"][0]["known"] if each["method"] == "craft"]
    refused = [v.outcome is Outcome.REFUSED for v in after if states[v.id] >= 0.5]
    assert known["known"] == len(refused)
    assert float(known["over"]) == pytest.approx(100 * sum(refused) / len(refused), abs=0.051)


def test_bands_of_refusals_are_counted(folder):
    kept = Charts()
    changed(read_run(folder), kept, 0)
    rows = [row for row in rows_of(kept.specs["bands-0-0"]) if row["method"] == "craft"]
    states = {s.id: s.correctness for s in read_records(folder / "knowledge/tests/id.parquet", KnowledgeState)}
    after = {v.id: v.outcome for v in read_records(folder / "craft/id.verdicts.parquet", Verdict)}
    edges = [(0, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1.1)]
    for row, (low, high) in zip(rows, edges, strict=True):
        mine = [id for id, mu in states.items() if low <= mu < high]
        assert row["n"] == len(mine)
        assert len(row["ids"]) == min(3, sum(after[i] is Outcome.REFUSED for i in mine))
        assert all(i in mine and after[i] is Outcome.REFUSED for i in row["ids"])
        if mine:
            assert row["refused"] == pytest.approx(
                100 * sum(after[i] is Outcome.REFUSED for i in mine) / len(mine), abs=0.01
            )
        else:
            assert row["refused"] is None


def test_flow_is_counted(folder):
    section = why(read_run(folder, kept=7), Charts(), 0)
    assert (section["flows"], section["drawn"]) == (60, 7)
    flows = read_records(folder / "knowledge/flow.parquet", KnowledgeFlow)
    assert section["moved"] == {
        name: sum(flow.direction == way for flow in flows) for name, way in (("up", 1), ("none", 0), ("down", -1))
    }


def test_means_over_seeds_stand_beside_the_run(copy):
    rows = [
        Row(
            test_set="id", strategy=s, metric=m, questions=20, seeds=3, mean=0.25, low=0.2, high=0.3, against="cor_rait"
        )
        for s in ("cor_rait", "craft")
        for m in ("P_c", "P_w", "P_r", "THS", "over_refusal")
    ]
    write_records(copy / "comparison.parquet", rows)
    assert "Means over seeds" not in text_of(page([read_run(copy)])), "it may be of an earlier recipe"
    listed(copy)
    kept = Charts()
    section = came_out([read_run(copy)], kept)
    seeds = section["sets"][0]["seeds"]
    assert [row["method"] for row in seeds] == ["cor_rait", "craft"]
    assert seeds[1]["THS"] == "25.0 [20.0, 30.0]"
    assert section["sets"][1]["seeds"] == []
    assert sum(row.get("what") == "mean over 3 seeds" for row in rows_of(kept.specs["plane-0"])) == 2
    assert "Means over seeds" in text_of(page([read_run(copy)]))


def test_the_dial_is_shown_where_there_is_one(copy):
    made_dial(copy / "craft", ["id"])
    write_json(copy / "cor_rait/dial.json", {"obstacle": "it words its answers", "threshold": None, "tests": {}})
    run = read_run(listed(copy))
    assert run.missing == []
    kept = Charts()
    section = dials(run, kept, 0)
    (row,) = section["sets"][0]["rows"]
    assert (row["greedy"], row["chosen"], row["aurc"]) == ("30.0 [20.0, 40.0]", "35.0 [20.0, 40.0]", "0.123")
    assert row["shares"] == "50.0 / 10.0 / 40.0"
    drawn = rows_of(kept.specs["dial-0-0"])
    marks = [each for each in drawn if each["what"] in ("with the dial", "greedy decoding")]
    assert len(marks) == 2
    assert all(each["coverage"] == 60 and each["risk"] == pytest.approx(100 / 6, abs=1e-3) for each in marks)
    assert [each["risk"] for each in drawn if each["what"] == "every threshold"] == [12.5, 25, 37.5, 50]
    text = text_of(page([run]))
    assert "it words its answers" in text
    assert "at most 10 %" in text and "conformal risk control" in text


def test_what_came_out_has_every_strategy_with_its_dial_too(dialled):
    run, kept = read_run(dialled), Charts()
    section = came_out([run], kept)
    dial = json.loads((dialled / "craft/dial.json").read_text())
    for place, test in enumerate(TESTS):
        rows = section["sets"][place]["table"]["rows"]
        assert [(row["method"], row["way"]) for row in rows] == [
            ("init_basic", ""),
            ("init_refuse", ""),
            ("cor_rait", ""),
            ("craft", ""),
            ("craft", "with the dial"),
        ]
        chosen = dial["tests"][test]["chosen"]
        shown = {cell["metric"]: cell for cell in rows[-1]["cells"]}
        for name in ("P_c", "P_w", "P_r", "THS"):
            assert shown[name]["value"] == f"{round(100 * chosen[name], 1) + 0:.1f}"
        assert shown["THS"]["interval"] == f"[{100 * chosen['THS_low']:.1f}, {100 * chosen['THS_high']:.1f}]"
        assert f"With the dial craft is right on {100 * chosen['P_c']:.1f} %" in section["sets"][place]["lead"]
        (point,) = [row for row in rows_of(kept.specs[f"plane-{place}"]) if row.get("dial") is True]
        assert (point["method"], point["P_c"]) == ("craft", pytest.approx(100 * chosen["P_c"]))
    (card,) = [each for each in changed(run, Charts(), 0)["sets"][0]["migrations"] if each["method"] == "craft"]
    assert [way["way"] for way in card["ways"]] == ["", "with the dial"]
    counts = [part["count"] for row in card["ways"][1]["rows"] for part in row["bar"] if part["kind"] == "right"]
    assert sum(counts) == round(20 * dial["tests"]["id"]["chosen"]["P_c"])
    assert "as <code>rait ask</code>" in text_of(page([run]))


def test_without_a_dial_the_page_speaks_of_none(folder):
    text = text_of(page([read_run(folder)]))
    assert "with the dial" not in text and "With the dial" not in text


def test_the_seeds_are_named(copy):
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["steps"] |= {
        f"{name}/seed-{seed}/tuning": {"files": {}, "seconds": 1}
        for name in ("craft", "cor_rait")
        for seed in (12, 3, 0)
    }
    write_json(copy / "manifest.json", manifest)
    assert how(read_run(copy), Charts(), 0)["seeds"] == [0, 3, 12]


# The page.


def test_it_holds_every_number_of_metrics(folder):
    text = text_of(page([read_run(folder)]))
    shown = re.findall(r'data-metric="(\w+)"[^>]*><b>([^<]*)</b>', text)
    for method in ("init_basic", "init_refuse", "cor_rait", "craft"):
        for test, found in json.loads((folder / method / "metrics.json").read_text()).items():
            for name in ("P_c", "P_w", "P_r", "accuracy_on_answered", "over_refusal", "missed_refusal", "THS"):
                value = found["overall"][name]["value"]
                expected = "n/a" if value is None else f"{round(100 * value, 1) + 0.0:.1f}"
                assert (name, expected) in shown, (method, test, name)


def test_it_is_the_same_each_time(folder, tmp_path):
    first, second = (write_report([folder], tmp_path / name).read_bytes() for name in ("a.html", "b.html"))
    assert first == second


def test_nothing_can_be_fetched(folder):
    whole = page([read_run(folder)])
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', whole)
    assert "default-src &#39;none&#39;" in policy
    assert "unsafe-eval" not in policy
    assert not re.findall(r'(?:src|href)="(?!#)', text_of(whole))


def test_names_and_notes_are_text(tmp_path):
    evil = '<img src=x onerror="alert(1)">'
    folder = made_run(tmp_path / "<b>run", texts=["</script><script>alert(1)</script>"])
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["steps"]["questions"] = {"files": {}, "notes": [evil], "seconds": 3}
    manifest["versions"] = {evil: evil}
    write_json(folder / "manifest.json", manifest)
    (folder / "recipe.yaml").write_text((folder / "recipe.yaml").read_text() + f"\n# {evil}")
    whole = page([read_run(folder)])
    assert evil not in whole and "<b>run" not in whole and "</script><script>alert" not in whole
    assert "&lt;img src=x" in whole


def test_several_runs_stand_side_by_side(folder, tmp_path):
    other = made_run(tmp_path / "other", seed=5, strategies=["craft"], tests=10)
    text = text_of(page([read_run(folder), read_run(other)]))
    assert "run · craft" in text and "other · craft" in text and "run · cor_rait" in text
    assert "does not hold the same questions" in text
    assert "<code>seed</code>" in text


def questions_from(folder, **marks):
    """Say in the manifest from which questions the test sets are."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["steps"]["questions"] = {"files": {}, "seconds": 1, "inputs": {"id": "a", "ood": "b"} | marks}
    write_json(folder / "manifest.json", manifest)


def test_the_same_questions_are_known_though_other_seeds_tune_and_few_are_kept(tmp_path):
    one, other = (made_run(tmp_path / name, seed=seed) for name, seed in (("one", 0), ("other", 5)))
    manifest = json.loads((other / "manifest.json").read_text()) | {"seed": 5}
    write_json(other / "manifest.json", manifest)
    shown = [read_run(folder, kept=7) for folder in (one, other)]
    assert [q.id for q in shown[0].tests[0].questions] == [q.id for q in shown[1].tests[0].questions]
    assert "does not hold the same" not in text_of(page(shown)), "of a version that noted nothing"
    for folder in (one, other):
        questions_from(folder)
    assert "does not hold the same" not in text_of(page([read_run(folder, kept=7) for folder in (one, other)]))
    questions_from(other, ood="c")  # another text, the ids the same
    text = text_of(page([read_run(folder) for folder in (one, other)]))
    assert "set ood does not hold the same" in text and "set id does not hold the same" not in text


def test_what_an_earlier_recipe_has_made_does_not_count(copy):
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["confirmed"] = [name for name in manifest["steps"] if not name.startswith("craft/")]
    write_json(copy / "manifest.json", manifest)
    run = read_run(copy)
    assert "craft" not in run.methods and "craft: not begun" in run.missing
    assert run.methods["cor_rait"].scores["id"].overall["THS"].n == 20


def test_a_multiple_choice_run_has_a_page(tmp_path):
    folder = made_run(tmp_path / "choice", choice=True)
    text = text_of(page([read_run(folder)]))
    assert "right option" in text and "no option" in text
    train = unpack(pack([read_run(folder)]).text)["runs"][0]["sets"][0]
    assert train["options"][0][1:] == ["second", "third"]
    assert len(train["probabilities"][0]) == 3


# The commands.


def command(capsys, monkeypatch, *words):
    """Exit code, standard output and standard error of `rait`."""
    monkeypatch.setattr(sys, "argv", ["rait", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        main()
    return left.value.code, *capsys.readouterr()


def test_report_writes_a_page_into_the_run_or_elsewhere(copy, tmp_path, capsys, monkeypatch):
    code, out, err = command(capsys, monkeypatch, "report", copy)
    assert (code, err) == (0, "")
    assert out == f"The report is {copy / 'report.html'}\n"
    elsewhere = tmp_path / "new" / "page.html"
    code, out, _ = command(capsys, monkeypatch, "report", copy, "--out", elsewhere, "--json")
    assert (code, json.loads(out)) == (0, {"run": str(copy), "report": str(elsewhere)})
    assert elsewhere.read_bytes() == (copy / "report.html").read_bytes()


def test_compare_takes_run_folders(folder, copy, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = command(capsys, monkeypatch, "compare", folder, copy, "--json")
    assert (code, json.loads(out)["report"]) == (0, "compare.html")
    assert "comparison of runs" in (tmp_path / "compare.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["compare", "RUN"], "is one run; name two or more"),
        (["compare", "RUN", "default"], "'default' is no run folder"),
        (["compare", "default", "RUN"], "'default' is no run folder"),
        (["compare", "RUN", "RUN", "--seeds", "2"], "--seeds and --against are for a recipe"),
    ],
)
def test_compare_says_what_is_mixed(folder, capsys, monkeypatch, words, told):
    code, out, err = command(capsys, monkeypatch, *(folder if word == "RUN" else word for word in words))
    assert (code, out) == (2, "")
    assert told in err


def test_report_says_that_a_folder_is_no_run(tmp_path, capsys, monkeypatch):
    code, out, err = command(capsys, monkeypatch, "report", tmp_path)
    assert (code, out) == (1, "")
    assert "is no run folder" in err
