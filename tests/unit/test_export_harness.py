"""The task folder for lm-evaluation-harness: it judges as we do, and needs nothing of ours."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rait.construction import all_strategies, as_it_is, find_strategy
from rait.errors import RecipeError
from rait.evaluation.answering import _judged
from rait.export.harness import row_of, task_settings, write_rules
from rait.export.task import outcome, scores
from rait.models.answers import Path as TokenPath
from rait.models.answers import Reader
from rait.prompting import Renderer
from rait.recipe import Prompt
from rait.records import Question

OPEN = Question(id="o", question="Capital of France?", answers=("Paris", "City of Light"))
CHOICE = Question(
    id="c", question="Capital?", answers=("Paris",), options=("Rome", "Paris", "Unknown"), target=1, category="x"
)
RESPONSES = [
    *("", " ", "\n\n", "Paris", " paris.", "\n\n  The Paris \nRome", "Rome", "Pari\u0301s", "Parıs", "**Paris**"),
    *("I don't know", "I don't know, maybe Paris", "Paris, but I'm not sure", "No comment", "unknown", "Unknown"),
    *("B", "(B)", "B. Paris", "A or B", "The answer is B", "C", "idk\nParis", "The answer is unknown.", "Paris."),
    *("Light\x85Paris", "Paris\x0bRome", "\ufeffParis", "Paris\rRome", "I don't know\u2028Paris"),
    "Paris. Are you sure you accurately answered the question based on your internal knowledge? I am unsure.",
    "I'm fairly confident that paris",
    "I'm about 90% confident to answer the question correctly, and based on my understanding and knowledge, "
    "here's what I think is correct. Paris",
]
PROMPTS = [Prompt(), Prompt(choice="text"), Prompt(refusal="No comment")]


class Letters:
    """A tokenizer of characters, to see what our own reader makes of a text."""

    def decode(self, tokens, skip_special_tokens):
        return "".join(map(chr, tokens))


def our_text(written: str) -> str:
    """What our evaluation takes as the response where a model writes this and its end."""
    reader, path = Reader(Letters(), frozenset({0x10FFFF}), 10_000), TokenPath()
    for token in [*map(ord, written), 0x10FFFF]:
        path = reader.longer(path, token, 0.0)
        if path.ended:
            break
    (text,) = reader.answers([(path, 1)], []).counts
    return text


def ours(question: Question, prompt: Prompt, written: str, read) -> str:
    response = our_text(written)
    return _judged(question, response, prompt, *read(response)).outcome.value


@given(
    written=st.sampled_from(RESPONSES)
    | st.text(st.characters(exclude_categories=["Cs"], max_codepoint=0x10FFFE))
    | st.lists(st.sampled_from([*RESPONSES, "\n", " ", ", "]), max_size=4).map("".join),
    question=st.sampled_from([OPEN, CHOICE]),
    prompt=st.sampled_from(PROMPTS),
    read=st.sampled_from([strategy.read for strategy in all_strategies()]),
)
def test_an_outcome_is_the_one_of_our_evaluation(written, question, prompt, read):
    row = row_of(question, Renderer(None, prompt, may_refuse=True))
    assert outcome(row, written, read) == ours(question, prompt, written, read)


def test_scores_are_one_for_the_outcome():
    row = row_of(OPEN, Renderer(None, Prompt(), may_refuse=True))
    assert scores(row, ["I don't know, maybe Rome"]) == {"correct": 0, "wrong": 0, "refused": 1}
    assert scores(row, ["Rome"]) == {"correct": 0, "wrong": 1, "refused": 0}
    assert scores(row, ["\nParis\nRome"]) == {"correct": 1, "wrong": 0, "refused": 0}


@pytest.mark.parametrize("strategy", ["craft", "r_tuning", "confidence_num"])
def test_the_copied_rules_judge_alike_without_rait(strategy, tmp_path):
    read = find_strategy(strategy).read
    write_rules(tmp_path, read)
    rows = [row_of(question, Renderer(None, p, may_refuse=True)) for question in (OPEN, CHOICE) for p in PROMPTS]
    cases = [[row, text] for row in rows for text in RESPONSES]
    code = (
        "import json, sys; sys.modules['rait'] = None; sys.path.insert(0, sys.argv[1]); import utils\n"
        "print(json.dumps([utils.process_results(row, [text]) for row, text in json.load(sys.stdin)]))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, str(tmp_path)], input=json.dumps(cases), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = [next(name for name, one in scored.items() if one) for scored in json.loads(done.stdout)]
    assert found == [outcome(row, text, read) for row, text in cases]
    assert set(found) == {"correct", "wrong", "refused"}


def test_words_of_an_own_strategy_are_refused(tmp_path):
    with pytest.raises(RecipeError, match=r"test_export_harness\.py has the words"):
        write_rules(tmp_path, lambda text: (text, False))


def test_a_task_asks_greedily_for_our_length(tmp_path):
    class Loader(yaml.SafeLoader):
        """Knows the harness's tag."""

    Loader.add_constructor("!function", lambda loader, node: node.value)
    settings = yaml.load(task_settings("rait_craft_id", 17), Loader)
    assert settings["generation_kwargs"] == {"until": [], "do_sample": False, "max_gen_toks": 17}
    assert settings["doc_to_text"] == "prompt" and settings["num_fewshot"] == 0
    assert settings["process_results"] == "utils.process_results"
    assert [metric["metric"] for metric in settings["metric_list"]] == ["correct", "wrong", "refused"]
    write_rules(tmp_path, as_it_is)
    copied = {path.relative_to(tmp_path / "rait_scoring").as_posix() for path in tmp_path.rglob("rait_scoring/**/*.py")}
    assert copied == {"choosing.py", "judging.py", "records.py", "export/task.py"}
    assert all("from rait." not in Path(tmp_path / "rait_scoring" / name).read_text() for name in copied)
