"""The command line as a user meets it: stages one by one, exit codes, one-sentence errors, JSON."""

import json
import shutil
import signal
import subprocess
import sys
import time

import pytest

from rait.records import Decision, Example, KnowledgeState, Verdict
from rait.tables import read_records, write_records

SETTINGS = [
    "prompt.instruction=Answer .",
    "prompt.refusal=unknown",
    "prompt.refusal_instruction=Or say unknown .",
    "prompt.shots=2",
    "probe.max_new_tokens=4",
    "evaluation.max_new_tokens=4",
]


def test_the_stages_one_by_one(call, world, tmp_path):
    model = ["--model", world / "model"]
    train, test = world / "train.jsonl", world / "id.jsonl"
    code, out, _ = call("probe", *model, "--questions", train, "--out", tmp_path / "s0.parquet", "--json", *SETTINGS)
    assert code == 0
    assert json.loads(out)["questions"] == 82
    states = read_records(tmp_path / "s0.parquet", KnowledgeState)
    assert json.loads(out)["correctness"] == pytest.approx(sum(s.correctness for s in states) / 82)

    rehearsal = ["rehearsal.rule=top", "rehearsal.size=24", "rehearsal.tuning.learning_rate=0.003"]
    code, out, err = call(
        "rehearse", *model, "--states", tmp_path / "s0.parquet", "--out", tmp_path / "r", *SETTINGS, *rehearsal
    )
    assert code == 0, err
    assert "24 examples" in out
    code, _, err = call(
        *("probe", *model, "--adapter", tmp_path / "r/adapter", "--questions", train),
        *("--out", tmp_path / "s1.jsonl", *SETTINGS),
    )
    assert code == 0, err
    code, out, _ = call(
        "flow",
        "--initial",
        tmp_path / "s0.parquet",
        "--rehearsed",
        tmp_path / "s1.jsonl",
        "--out",
        tmp_path / "f.jsonl",
    )
    assert code == 0
    assert "rise" in out
    code, out, err = call(
        *("construct", "--initial", tmp_path / "s0.parquet", "--rehearsed", tmp_path / "s1.jsonl"),
        *("--strategy", "craft", "--vanilla", 20, "--idk", 5, "--out", tmp_path / "e.jsonl"),
        *("--decisions", tmp_path / "d.jsonl", *SETTINGS, "construction.flow_rule=non_positive"),
    )
    assert code == 0, err
    assert len(read_records(tmp_path / "e.jsonl", Example)) == 25
    assert len(read_records(tmp_path / "d.jsonl", Decision)) == 82
    code, out, err = call(
        *("tune", *model, "--examples", tmp_path / "e.jsonl", "--out", tmp_path / "t", *SETTINGS),
        *("tuning.epochs=12", "tuning.batch_size=8", "tuning.learning_rate=0.01", "tuning.lora_rank=8"),
    )
    assert code == 0, err
    common = ["evaluate", *model, "--questions", test, *SETTINGS]
    assert call(*common, "--basic", "--out", tmp_path / "v0.jsonl")[0] == 0
    assert call(*common, "--adapter", tmp_path / "t/adapter", "--out", tmp_path / "v1.jsonl")[0] == 0
    assert len(read_records(tmp_path / "v1.jsonl", Verdict)) == 36
    code, out, _ = call("score", tmp_path / "v1.jsonl", "--baseline", tmp_path / "v0.jsonl", "--json")
    scored = json.loads(out)
    assert sum(scored["overall"][name]["value"] for name in ("P_c", "P_w", "P_r")) == pytest.approx(1)
    assert scored["overall"]["P_r"]["value"] > 0
    code, out, _ = call("score", tmp_path / "v1.jsonl", "--baseline", tmp_path / "v0.jsonl")
    assert "THS" in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.fixture(scope="module")
def probed(whole_run, tmp_path_factory):
    """A folder with the states of the tiny model, as a run left them, and the adapter of its rehearsal."""
    folder = tmp_path_factory.mktemp("probed")
    shutil.copy(whole_run[0] / "knowledge/initial.parquet", folder / "s0.parquet")
    shutil.copytree(whole_run[0] / "rehearsal/adapter", folder / "r/adapter")
    return folder


def test_look_before_you_train(call, world, probed, tmp_path):
    states = ["--initial", probed / "s0.parquet"]
    code, out, err = call("construct", "--dry-run", *states, "--vanilla", 20, "--idk", 5, *SETTINGS, "--json")
    assert code == 0, err
    found = {entry["strategy"]: entry for entry in json.loads(out)["strategies"]}
    assert found["cor_rait"]["vanilla"]["taken"] == 20 and found["cor_rait"]["idk"]["taken"] == 5
    assert "rehearsed" in found["craft"]["obstacle"] and found["craft"]["idk"] is None
    code, out, _ = call("construct", "--dry-run", *states, "--vanilla", 20, "--idk", 5, *SETTINGS)
    assert code == 0 and max(map(len, out.splitlines())) <= 80
    assert call("construct", *states, "--strategy", "cor_rait")[0] == 2  # neither sizes nor a file

    take = ["--strategy", "corcer_rait", "--vanilla", 20, "--idk", 5, *SETTINGS]
    code, _, err = call(
        "construct", *states, *take, "--out", tmp_path / "e.jsonl", "--decisions", tmp_path / "corcer.parquet"
    )
    assert code == 0, err
    code, out, err = call(
        *("conflicts", "--model", world / "model", *states, "--decisions", tmp_path / "corcer.parquet"),
        *("--rehearsed", probed / "s0.parquet", "--out", tmp_path / "c", *SETTINGS),
    )
    assert code == 0, err
    assert "of its idk questions 0 rise in rehearsal, 5 stay, 0 fall" in out
    assert {path.name for path in (tmp_path / "c").iterdir()} == {
        f"conflicts.{form}" for form in ("json", "txt", "png")
    }


def test_influence_of_files_serves_grait(call, world, probed, tmp_path):
    states = ["--initial", probed / "s0.parquet"]
    code, _, err = call(
        *("influence", "--model", world / "model", "--adapter", probed / "r/adapter", *states),
        *("--out", tmp_path / "i.parquet", *SETTINGS),
    )
    assert code == 0, err
    take = ["--strategy", "grait", "--vanilla", 20, "--idk", 5, "--out", tmp_path / "e.jsonl", *SETTINGS]
    code, _, err = call("construct", *states, *take)
    assert code == 1 and "grait needs the influence" in err
    code, _, err = call("construct", *states, "--influence", tmp_path / "i.parquet", *take)
    assert code == 0, err
    weights = [example.weight for example in read_records(tmp_path / "e.jsonl", Example) if example.role == "idk"]
    assert len(weights) == 5 and sum(weights) == pytest.approx(2.5)


def test_certainty_ranks_what_the_states_allow(call, probed):
    code, out, err = call("certainty", probed / "s0.parquet", "--json")
    assert code == 0, err
    found = {row["name"]: row for row in json.loads(out)["estimates"]}
    assert {"cosine", "exact_entropy", "kurtosis", "sequence_log_probability"} <= found.keys()
    assert found["exact_entropy"]["auroc"]["value"] > 0.7  # it knows two thirds and guesses the rest
    assert found["semantic_entropy"]["auroc"]["value"] is None


def test_words_around_an_answer_and_compared_options_do_not_go_together(call, world, tmp_path):
    evaluate = [
        "evaluate",
        "--model",
        world / "model",
        "--questions",
        world / "id.jsonl",
        "--out",
        tmp_path / "v.jsonl",
    ]
    code, _, err = call(*evaluate, "--strategy", "r_tuning", "prompt.choice=text")
    assert code == 2 and "r_tuning teach more words than an answer" in err
    code, _, err = call(*evaluate, "--strategy", "r_tunning")
    assert code == 2 and "did you mean 'r_tuning'" in err


def test_every_strategy_is_listed_with_what_it_is(call):
    code, out, _ = call("strategies", "--json")
    listed = {entry["name"]: entry for entry in json.loads(out)}
    assert code == 0
    assert listed["craft"]["needs"] == ["flows"] and listed["grait"]["needs"] == ["influences"]
    assert all(entry["description"] for entry in listed.values())


def test_construct_needs_five_columns_and_nothing_of_ours(call, tmp_path):
    rows = [
        {"id": f"q{n}", "question": f"Q{n}?", "answers": ["a"], "correctness": n / 10, "certainty": n / 10, "more": 1}
        for n in range(10)
    ]
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, _, err = call(
        *("construct", "--initial", tmp_path / "s.jsonl", "--strategy", "corcer_rait"),
        *("--vanilla", 4, "--idk", 1, "--out", tmp_path / "e.jsonl"),
    )
    assert code == 0, err
    made = {example.id: example for example in read_records(tmp_path / "e.jsonl", Example)}
    assert set(made) == {"q9", "q8", "q7", "q6", "q0"}
    assert made["q0"].completion == " I don't know"
    assert made["q0"].prompt.endswith("Question: Q0?\nAnswer:")


def test_score_plain_responses_made_elsewhere(call, tmp_path):
    answers = [("Paris", ["Paris"]), ("Rome", ["Berlin"]), ("I don't know.", ["Lima"]), ("the rome", ["Rome"])]
    rows = [{"id": str(n), "response": given, "answers": accepted} for n, (given, accepted) in enumerate(answers)]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, _ = call("score", tmp_path / "r.jsonl", "--json")
    assert code == 0
    overall = json.loads(out)["overall"]
    assert [overall[name]["value"] for name in ("P_c", "P_w", "P_r")] == [0.5, 0.25, 0.25]
    assert overall["THS"]["value"] is None


WRONG = [
    (["probe", "--model", "no/such/folder", "--questions", "atlas", "--out", "s.jsonl"], 2, "no/such/folder does not exist"),
    (["probe", "--model", ".", "--questions", "atlas", "--out", "s.jsonl"], 1, "holds no config.json"),
    (["probe", "--model", "{world}/model", "--questions", "gone.jsonl", "--out", "s.jsonl"], 2, "gone.jsonl does not exist"),
    (["probe", "--model", "{world}/model", "--questions", "broken.jsonl", "--out", "s.jsonl"], 1, "broken.jsonl:2"),
    (["probe", "--model", "{world}/model", "--questions", "ok.jsonl", "--out", "s.txt"], 1, ".jsonl or .parquet"),
    (["probe", "--model", "m", "--questions", "atlas", "--out", "s.jsonl", "probe.sample=3"], 2, "did you mean probe.samples"),
    (["probe", "--model", "m", "--questions", "atlas", "--out", "s.jsonl", "probe.samples=1"], 2, "probe.samples"),
    (["probe", "--model", "m"], 2, "--questions"),
    (["nonsense"], 2, "nonsense"),
    (["run", "absent.yaml"], 2, "absent.yaml"),
    (["run", "strategies=[crafft]", "--out", "r"], 2, "did you mean 'craft'"),
    (["validate", "defualt"], 2, "did you mean 'default'"),
    (["construct", "--initial", "gone.jsonl", "--strategy", "craft", "--vanilla", "4", "--idk", "1", "--out", "e.jsonl"], 2, "gone.jsonl does not exist"),
    (["construct", "--initial", "states.jsonl", "--strategy", "craft", "--vanilla", "1", "--idk", "1", "--out", "e.jsonl"], 1, "rehearsed"),
    (["construct", "--initial", "states.jsonl", "--strategy", "x", "--vanilla", "1", "--idk", "1", "--out", "e.jsonl"], 2, "unknown strategy"),
    (["construct", "--initial", "states.jsonl", "--strategy", "cor_rait", "--vanilla", "9", "--idk", "1", "--out", "e.jsonl"], 1, "9 vanilla"),
    (["rehearse", "--model", "{world}/model", "--states", "zero.jsonl", "--out", "r"], 1, "nothing to rehearse"),
    (["tune", "--model", "{world}/model", "--examples", "long.jsonl", "--out", "t", "tuning.max_length=5"], 1, "max_length"),
    (["score", "ok.jsonl"], 1, "response"),
    (["evaluate", "--model", "{world}/model", "--adapter", ".", "--questions", "ok.jsonl", "--out", "v.jsonl"], 1, "adapter"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "words"), WRONG, ids=[" ".join(a[:2]) + f" {n}" for n, (a, _, _) in enumerate(WRONG)]
)
def test_wrong_input_ends_in_a_sentence(call, world, tmp_path, monkeypatch, arguments, code, words):
    monkeypatch.chdir(tmp_path)
    row = {"id": "1", "question": "Where is City1 ?", "answers": ["Land10"]}
    (tmp_path / "ok.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "broken.jsonl").write_text(json.dumps(row) + '\n{"id": 2, "question"\n')
    states = [KnowledgeState(id="1", question="Q?", answers=("a",), correctness=0.2, certainty=0.5)]
    write_records(tmp_path / "states.jsonl", states)
    write_records(
        tmp_path / "zero.jsonl", [KnowledgeState(id="1", question="Q?", answers=("a",), correctness=0, certainty=0.5)]
    )
    write_records(
        tmp_path / "long.jsonl",
        [Example(id="1", prompt="Answer . Where is City1 ?", completion=" Land10", role="vanilla")],
    )
    got, out, err = call(*[argument.replace("{world}", str(world)) for argument in arguments])
    assert got == code
    assert words in err + out
    assert "Traceback" not in err


def test_help_of_every_command(call):
    for command in (
        "run",
        "probe",
        "rehearse",
        "flow",
        "construct",
        "tune",
        "evaluate",
        "score",
        "recipes",
        "validate",
    ):
        code, out, _ = call(command, "--help")
        assert code == 0
        assert "Usage" in out


def test_validate_and_recipes(call, recipe_file):
    code, out, _ = call("validate", recipe_file, "probe.samples=12", "--json")
    assert code == 0
    assert json.loads(out)["probe"]["samples"] == 12
    code, out, _ = call("recipes")
    assert code == 0
    assert "default" in out


def test_nothing_heavy_is_imported_for_help():
    code = "import sys, rait.cli.commands; print([m for m in ('torch', 'transformers', 'numpy', 'pyarrow', 'pydantic') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9), (signal.SIGTERM, 143)])
def test_killed_it_goes_on(call, recipe_file, tmp_path, number, code):
    """A process of its own, stopped in the middle; the same command then ends the run."""
    folder = tmp_path / "run"
    command = ["run", recipe_file, "strategies=[craft]", "tuning.epochs=2", "--out", folder, "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "rait.cli", *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that put the tests into the background has them, and so their children, ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (folder / "knowledge/initial.parquet").exists():
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    if number != signal.SIGKILL:
        assert "same command again" in err
        assert "Traceback" not in err
    (folder / "knowledge/.rehearsed.parquet.01234567.part").write_bytes(b"half")
    done, out, err = call(*command)
    assert done == 0, err
    assert not list(folder.rglob("*.part"))
    assert json.loads(out)["results"]["craft"]["id"]["overall"]["P_c"]["n"] == 36
