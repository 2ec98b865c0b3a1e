"""The dial of a whole run on a tiny model: set after tuning, kept with the weights, applied by evaluate."""

import json
import shutil
from dataclasses import replace

import pytest
from filelock import FileLock

from rait.evaluation.dial import applied
from rait.formats import MARK
from rait.manifest import checksum, intact, write_manifest
from rait.pipeline import compare, run
from rait.recipe import load_recipe
from rait.records import Outcome, Question, Verdict
from rait.stages import save_dial, set_dial
from rait.status import status
from rait.tables import read_records, write_records

KEYS = {"P_c", "P_w", "P_r", "THS", "THS_low", "THS_high"}


@pytest.fixture(scope="module")
def words(world, tmp_path_factory):
    """What makes the recipe one with calibration questions that are in no other set, but for two."""
    folder = tmp_path_factory.mktemp("sets")
    rows = [(world / f"{name}.jsonl").read_text("utf-8").splitlines() for name in ("train", "id")]
    train, test = rows
    parts = {"train": train[:66], "calibration": train[65:] + test[:13], "id": test[12:]}
    for name, lines in parts.items():
        (folder / f"{name}.jsonl").write_text("".join(line + "\n" for line in lines), "utf-8")
    return [
        f"questions.source={folder / 'train.jsonl'}",
        f"tests={{id: {{source: {folder / 'id.jsonl'}}}}}",
        f"calibration.source={folder / 'calibration.jsonl'}",
        "strategies=[cor_rait, r_tuning]",
        "tuning.epochs=6",
    ]


@pytest.fixture(scope="module")
def finished(recipe_file, words, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dialled") / "run"
    said: list[str] = []
    run(load_recipe(recipe_file, words), folder, say=said.append)
    return folder, said


def loaded(path):
    found = json.loads(path.read_text("utf-8"))
    found.pop(MARK, None)
    return found


def test_calibration_questions_are_in_no_other_set(finished):
    folder, said = finished
    asked = {name: {q.id for q in read_records(folder / f"questions/{name}.parquet", Question)} for name in
             ("train", "id", "shots", "calibration")}  # fmt: skip
    assert len(asked["calibration"]) == 18 + 12
    assert not asked["calibration"] & (asked["train"] | asked["id"] | asked["shots"])
    assert any("2 questions of calibration are trained or tested on too and left out" in line for line in said)


def test_the_dial_follows_from_the_verdicts(finished):
    folder, _ = finished
    found = loaded(folder / "cor_rait/dial.json")
    assert found["target"] == {"rule": "best_ths", "value": None}
    assert found["calibration"]["questions"] == 30
    assert found["tests"].keys() == {"id"}
    greedy, chosen = found["tests"]["id"]["greedy"], found["tests"]["id"]["chosen"]
    assert greedy.keys() <= chosen.keys() and greedy.keys() == KEYS
    metrics = loaded(folder / "cor_rait/metrics.json")
    assert metrics.keys() == {"id"}, "nothing is reported on calibration questions"
    assert greedy["THS"] == metrics["id"]["overall"]["THS"]["value"]
    verdicts = read_records(folder / "cor_rait/id.verdicts.parquet", Verdict)
    refused = [v.refusal_probability >= found["threshold"] or v.answer_correct is None for v in verdicts]
    assert chosen["P_r"] == pytest.approx(sum(refused) / len(verdicts))
    best = found["calibration"]["THS"]
    tried = [p["THS"] for p in found["tests"]["id"]["curve"]]
    assert best >= 0 and max(tried) >= chosen["THS"]
    saved = loaded(folder / "cor_rait/adapter/rait_dial.json")
    assert saved.pop("checksum")
    assert saved == {"threshold": found["threshold"], "refusal": "unknown", "target": found["target"]}


def test_p_refuse_tells_what_is_refused(finished):
    folder, _ = finished
    verdicts = read_records(folder / "cor_rait/id.verdicts.parquet", Verdict)
    refused = [v.refusal_probability for v in verdicts if v.outcome is Outcome.REFUSED]
    answered = [v.refusal_probability for v in verdicts if v.outcome is not Outcome.REFUSED]
    # The tiny model ends an answer with a line break as soon as with the end that it was taught, which is what counts.
    assert sum(refused) / len(refused) > 3 * sum(answered) / len(answered)
    assert all(v.answer != "unknown" for v in verdicts if v.answer_correct is not None)
    assert all(v.refusal_probability is None for v in read_records(folder / "init_basic/id.verdicts.parquet", Verdict))


def test_words_around_an_answer_have_no_dial(finished):
    folder, said = finished
    found = loaded(folder / "r_tuning/dial.json")
    assert found["threshold"] is None and "r_tuning teaches words around an answer" in found["obstacle"]
    assert not (folder / "r_tuning/adapter/rait_dial.json").exists()
    assert not (folder / "r_tuning/calibration.verdicts.parquet").exists()
    assert any("r_tuning has no dial: r_tuning teaches words" in line for line in said)


@pytest.mark.slow
def test_other_seeds_are_not_dialled(finished, recipe_file, words, tmp_path):
    folder = shutil.copytree(finished[0], tmp_path / "run")
    before = (folder / "cor_rait/dial.json").stat().st_mtime_ns
    recipe = load_recipe(recipe_file, [*words, "strategies=[cor_rait]"])
    compare(recipe, folder, seeds=(0, 1), against="cor_rait", say=lambda _: None)
    assert (folder / "cor_rait/dial.json").stat().st_mtime_ns == before
    made = {path.name for path in (folder / "cor_rait/seed-1").iterdir()}
    assert {"adapter", "id.verdicts.parquet"} <= made
    assert not made & {"dial.json", "calibration.verdicts.parquet"}
    assert not (folder / "cor_rait/seed-1/adapter/rait_dial.json").exists()


def test_the_dial_changes_nothing_that_is_done(finished, recipe_file, words, tmp_path):
    folder = shutil.copytree(finished[0], tmp_path / "run")

    def done_again(*overrides):
        before = loaded(folder / "manifest.json")["steps"]
        run(load_recipe(recipe_file, [*words, *overrides]), folder, say=lambda _: None)
        after = loaded(folder / "manifest.json")["steps"]
        return {name for name in after if after[name] != before.get(name)} - {"report"}

    assert done_again() == set()
    assert done_again("dial.rule=max_refusal", "dial.value=0.5") == {"cor_rait/dial", "r_tuning/dial"}
    assert loaded(folder / "cor_rait/adapter/rait_dial.json")["target"] == {"rule": "max_refusal", "value": 0.5}
    (folder / "cor_rait/adapter/rait_dial.json").unlink()
    assert done_again("dial.rule=max_refusal", "dial.value=0.5") == {"cor_rait/dial"}, "it is missed"
    assert (folder / "cor_rait/adapter/rait_dial.json").exists()


def test_it_is_set_anew_without_a_model(finished, tmp_path, call):
    folder = shutil.copytree(finished[0], tmp_path / "run")
    for model in folder.rglob("*.safetensors"):
        model.unlink()
    code, out, _ = call("dial", folder, "--json")
    assert code == 0
    found = json.loads(out)["strategies"]
    assert found["cor_rait"] == loaded(folder / "cor_rait/dial.json")
    assert found["r_tuning"] == loaded(folder / "r_tuning/dial.json")

    code, out, _ = call("dial", folder, "--strategy", "cor_rait", "--max-error", "0.2", "--save")
    assert code == 0
    assert f"rait report {folder}" in out and "max_error 0.2" in out and "conformal risk control" in out
    assert max(map(len, out.splitlines()[:-1])) <= 80
    saved = loaded(folder / "cor_rait/dial.json")
    assert saved["target"] == {"rule": "max_error", "value": 0.2, "among": "all"}
    assert loaded(folder / "cor_rait/adapter/rait_dial.json")["threshold"] == saved["threshold"]
    code, out, _ = call("dial", folder, "--strategy", "cor_rait", "--json")
    assert json.loads(out)["strategies"]["cor_rait"] == saved  # without a target: as it is set now
    wrong = [v for v in applied(read_records(folder / "cor_rait/calibration.verdicts.parquet", Verdict),
             saved["threshold"]) if v.outcome is Outcome.WRONG]  # fmt: skip
    assert len(wrong) + 1 <= 0.2 * 31


@pytest.mark.parametrize(
    ("target", "told"),
    [
        (["--max-error", "0.02"], "refuses all: the model would answer nothing of their kind; a higher --max-error"),
        (["--max-error", "0.99"], "refuses none that can be answered: the model would refuse nothing"),
        (["--max-refusal", "0.6"], ""),
    ],
)
def test_a_dial_that_is_all_or_nothing_is_warned_of_before_it_is_kept(finished, tmp_path, call, target, told):
    folder = shutil.copytree(finished[0], tmp_path / "run")
    before = (folder / "cor_rait/adapter/rait_dial.json").read_bytes()
    with FileLock(folder / ".lock"):  # so that nothing can be kept
        code, _, err = call("dial", folder, "--strategy", "cor_rait", *target, "--save")
    assert code == 1 and (folder / "cor_rait/adapter/rait_dial.json").read_bytes() == before
    start = "warning: cor_rait: of the 30 calibration questions it "
    warned = [line.removeprefix(start) for line in err.splitlines() if line.startswith(start)]
    assert len(warned) == bool(told) and all(line.startswith(told) for line in warned)
    code, out, _ = call("dial", folder, "--strategy", "cor_rait", *target, "--save", "--json")
    assert code == 0
    threshold = json.loads(out)["strategies"]["cor_rait"]["threshold"]
    measured = read_records(folder / "cor_rait/calibration.verdicts.parquet", Verdict)
    can = [verdict.refusal_probability for verdict in measured if verdict.answer_correct is not None]
    refused = sum(probability >= threshold for probability in can)
    assert refused == len(can) if "all" in told else refused == 0 if told else 0 < refused < len(can)


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--max-error", "0.1", "--best-ths"], 2, "give one of"),
        (["--max-error", "5"], 2, "--max-error is a share between 0 and 1, found 5; for 5 % give 0.05"),
        (["--max-refusal", "12.5"], 2, "--max-refusal is a share between 0 and 1, found 12.5; for 12.5 % give 0.125"),
        (
            ["--max-error", "0.1", "--of-answered", "--delta", "0"],
            2,
            "--delta is a share between 0 and 1, found 0; give",
        ),
        (["--max-error", "nan"], 2, "found nan; give for example 0.05"),
        (["--of-answered"], 2, "--max-error"),
        (["--max-error", "0.1", "--delta", "0.2"], 2, "--delta is of --of-answered"),
        (["--strategy", "craft"], 2, "no strategy 'craft'"),
    ],
)
def test_wrong_use_is_told_in_a_sentence(finished, call, arguments, code, told):
    found, _, err = call("dial", finished[0], *arguments)
    assert found == code and told in err and "Traceback" not in err


def test_a_run_without_calibration_says_what_to_do(finished, call, tmp_path):
    folder = shutil.copytree(finished[0], tmp_path / "run")
    (folder / "cor_rait/calibration.verdicts.parquet").unlink()
    code, _, err = call("dial", folder)
    assert code == 1 and "cor_rait/calibration.verdicts.parquet is gone; start the run again" in err
    code, _, err = call("dial", tmp_path)
    assert code == 1 and "no run folder" in err


def test_without_calibration_questions_the_dial_is_taken_away(finished, recipe_file, words, tmp_path, call):
    folder = shutil.copytree(finished[0], tmp_path / "run")
    assert (folder / "cor_rait/adapter/rait_dial.json").exists()
    assert call("dial", folder, "--max-refusal", "0.5", "--save")[0] == 0
    run(load_recipe(recipe_file, [*words, "calibration=null"]), folder, say=lambda _: None)
    for name in ("cor_rait/dial.json", "cor_rait/adapter/rait_dial.json"):
        assert intact(folder / name), "it is not missed"
    assert not (folder / "cor_rait/dial.json").exists()
    assert not (folder / "cor_rait/adapter/rait_dial.json").exists()
    assert "cor_rait/dial" not in loaded(folder / "manifest.json")["steps"]
    assert status(folder).state == "complete"


def test_a_good_dial_outlives_files_that_do_not_match(finished, call, tmp_path):
    folder = shutil.copytree(finished[0], tmp_path / "run")
    kept = {name: (folder / name).read_bytes() for name in
            ("r_tuning/dial.json", "cor_rait/dial.json", "cor_rait/adapter/rait_dial.json")}  # fmt: skip
    words = ["dial", folder, "--strategy", "r_tuning", "--strategy", "cor_rait", "--max-error", "0.3", "--save"]
    path = folder / "init_basic/calibration.verdicts.parquet"
    verdicts = read_records(path, Verdict)
    content, manifest = path.read_bytes(), loaded(folder / "manifest.json")
    write_records(path, verdicts[1:], Verdict)
    code, _, err = call(*words)
    assert code == 1 and f"{path} has changed since the run made it" in err
    files = {path.relative_to(folder).as_posix(): checksum(path)}  # as if the run had made it so
    step = manifest["steps"]["init_basic/calibration"] | {"files": files}
    write_manifest(folder, manifest | {"steps": manifest["steps"] | {"init_basic/calibration": step}})
    code, _, err = call(*words)
    assert code == 1 and "same questions" in err
    path.write_bytes(content)
    fewer = [name for name in manifest["confirmed"] if name != "cor_rait/calibration"]
    write_manifest(folder, manifest | {"confirmed": fewer})  # its verdicts are an earlier recipe's
    code, _, err = call(*words)
    assert code == 1 and "no finished" in err and "cor_rait/calibration.verdicts.parquet" in err
    assert {name: (folder / name).read_bytes() for name in kept} == kept


def test_only_saving_holds_the_run(finished, call):
    with FileLock(finished[0] / ".lock"):
        assert call("dial", finished[0], "--json")[0] == 0
        code, _, err = call("dial", finished[0], "--save")
        assert code == 1 and "another run is at work" in err


def test_an_undefined_ths_is_an_obstacle_and_no_failure(finished, recipe_file, words, tmp_path):
    folder, _ = finished
    right = [
        replace(v, outcome=Outcome.CORRECT) for v in read_records(folder / "init_basic/id.verdicts.parquet", Verdict)
    ]
    write_records(tmp_path / "all_right.parquet", right, Verdict)
    verdicts, baseline = (
        {"calibration": folder / "cor_rait/id.verdicts.parquet"},
        {"calibration": tmp_path / "all_right.parquet"},
    )
    found = set_dial(load_recipe(recipe_file, words), verdicts, baseline)
    assert found["threshold"] is None and "THS is undefined" in found["obstacle"]


def test_evaluate_applies_it_unless_told_otherwise(finished, world, words, call, tmp_path):
    folder, _ = finished
    source = words[1].partition("source: ")[2].rstrip("}")
    common = ["evaluate", "--model", world / "model", "--adapter", folder / "cor_rait/adapter", "--questions", source]
    prompt = [
        "prompt.instruction=Answer .",
        "prompt.refusal_instruction=Or say unknown .",
        "evaluation.max_new_tokens=4",
    ]
    greedy = read_records(folder / "cor_rait/id.verdicts.parquet", Verdict)
    threshold = loaded(folder / "cor_rait/dial.json")["threshold"]

    def outcomes(verdicts):
        return [(v.id, v.response, v.outcome) for v in verdicts]

    out = tmp_path / "v.jsonl"
    code, _, err = call(*common, "--out", out, *prompt, "prompt.refusal=unknown")
    assert code == 0 and "refused where p(refuse) is at least" in err
    assert outcomes(read_records(out, Verdict)) == outcomes(applied(greedy, threshold, "unknown"))
    code, _, err = call(*common, "--no-dial", "--out", out, *prompt, "prompt.refusal=unknown")
    assert code == 0 and "p(refuse)" not in err
    assert outcomes(read_records(out, Verdict)) == outcomes(greedy)
    code, _, err = call(*common, "--out", out, *prompt)
    assert code == 2 and "is for the refusal 'unknown'" in err


def test_a_merged_model_has_its_dial_with_it(world, words, call, tmp_path):
    merged = shutil.copytree(world / "model", tmp_path / "merged")
    save_dial(merged, {"threshold": 0, "target": None}, "unknown")
    source = words[1].partition("source: ")[2].rstrip("}")
    arguments = ["--model", merged, "--questions", source, "--out", tmp_path / "v.jsonl", "prompt.refusal=unknown"]
    code, _, err = call("evaluate", *arguments)
    assert code == 0 and str(merged / "rait_dial.json") in err
    assert {verdict.outcome for verdict in read_records(tmp_path / "v.jsonl", Verdict)} == {Outcome.REFUSED}
    code, _, err = call("evaluate", *arguments, "--no-dial")
    assert code == 0 and "p(refuse)" not in err
