"""The examples do what they say: run as their users run them, with the tiny model."""

import json
import runpy
import shutil
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from rait.construction.strategies import _STRATEGIES
from rait.questions import load_questions
from rait.recipe import load_recipe

pytestmark = pytest.mark.slow  # whole programs

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def call(monkeypatch, capsys):
    """Run an example as a program with these words after its name; what it prints on standard output."""

    def call(name, *words):
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        try:
            runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        except SystemExit as leave:
            assert not leave.code, leave.code
        return capsys.readouterr().out

    known = dict(_STRATEGIES)
    yield call
    _STRATEGIES.clear()
    _STRATEGIES.update(known)


@pytest.fixture(scope="module")
def expected(whole_run):
    overall = whole_run[1]["craft"]["id"]["overall"]
    return {name: overall[name]["value"] for name in ("P_c", "P_w", "P_r", "THS")}


def test_the_pipeline_stage_by_stage_is_the_pipeline(call, recipe_file, expected, tmp_path):
    out = call("pipeline.py", tmp_path / "out", recipe_file)
    assert out.splitlines()[-1] == str(expected)


def test_so_is_the_notebook(recipe_file, expected, tmp_path, capsys):
    cells = json.loads((EXAMPLES / "pipeline.ipynb").read_text("utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert "parameters" in cells[1]["metadata"]["tags"] and not any(cell.get("outputs") for cell in cells)
    space = {"out": tmp_path / "out", "recipe": load_recipe(recipe_file)}
    compile(code[0], "the parameters", "exec")
    for cell in code[1:]:
        exec(compile(cell, "pipeline.ipynb", "exec"), space)
    overall = space["metrics"].overall
    assert {name: overall[name].value for name in expected} == expected


def test_a_strategy_of_ones_own_needs_no_change_to_rait(call, recipe_file, whole_run, tmp_path):
    folder = shutil.copytree(whole_run[0], tmp_path / "run")
    out = call("own_strategy.py", "run", recipe_file, "strategies=[middling]", "--out", folder, "--json")
    assert "middling" in json.loads(out)["results"]


@pytest.fixture
def server(world, monkeypatch):
    """A chat API that knows the known, guesses the rest, and refuses these where it is invited to."""
    questions = {question.question: question for question in load_questions(str(world / "id.jsonl"))}

    class Chat(BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            system, user = (turn["content"] for turn in asked["messages"])
            question = questions[user]
            wrong = "I don't know" if "know" in system else "Atlantis"
            text = question.answers[0] if question.category == "known" else wrong
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            reply = {"id": "1", "object": "chat.completion", "created": 0, "model": asked["model"]}
            body = json.dumps(reply | {"choices": [choice], "usage": usage}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Chat) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        monkeypatch.setenv("API_URL", f"http://127.0.0.1:{http.server_port}/v1")
        monkeypatch.setenv("API_KEY", "none")
        for name in ("HF_HUB_OFFLINE", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
        yield questions
        http.shutdown()
        thread.join()


def test_answers_of_an_api_are_collected_and_scored(call, server, world, tmp_path):
    test, before, after = world / "id.jsonl", tmp_path / "before.jsonl", tmp_path / "after.jsonl"
    call("score_api.py", "collect", test, before, "some-model")
    call("score_api.py", "collect", test, after, "some-model", 'If you do not know, reply "I don\'t know".')
    assert len(after.read_text().splitlines()) == len(server) == 36
    out = call("score_api.py", "score", test, after, before)
    found = {line.split()[0]: line.split()[1] for line in out.splitlines()}
    # A third is unknown: of a guesser that becomes one that refuses these, and nothing else changes.
    assert {name: found[name] for name in ("P_c", "P_w", "P_r", "over_refusal")} == {
        "P_c": "66.7",
        "P_w": "0.0",
        "P_r": "33.3",
        "over_refusal": "0.0",
    }
    assert found["THS"] == "66.7"  # P_c2 - P_w2 P_c1 / P_w1 = 2/3 - 0


def test_an_answer_that_is_missing_is_said(call, server, world, tmp_path):
    answers = tmp_path / "answers.jsonl"
    call("score_api.py", "collect", world / "id.jsonl", answers, "some-model")
    answers.write_text("".join(answers.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(AssertionError, match=r"has no answer to 1 questions, such as 'city/84'"):
        call("score_api.py", "score", world / "id.jsonl", answers, answers)
