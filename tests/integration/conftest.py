"""A tiny model that truly knows some facts, is unsure of others and knows nothing of the rest."""

import io
import json
import random
import sys
from pathlib import Path

import pytest
import torch

from rait import cli
from rait.pipeline import run
from rait.prompting import Renderer
from rait.recipe import Prompt, load_recipe
from rait.records import Question
from tiny import random_model, save, word_tokenizer

CITIES = [f"City{number}" for number in range(120)]
LANDS = [f"Land{number}" for number in range(12)]
PROMPT = Prompt(instruction="Answer .", refusal="unknown", refusal_instruction="Or say unknown .", shots=2)


def land_of(number: int) -> str:
    """The truth."""
    return LANDS[(number * 7 + 3) % len(LANDS)]


def question(number: int) -> str:
    return f"Where is {CITIES[number]} ?"


@pytest.fixture
def call(capsys, monkeypatch):
    """Give a command; its exit code, standard output and standard error."""

    def rait(*arguments: object, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rait", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as leave:
            cli.main()
        return int(leave.value.code or 0), *capsys.readouterr()

    return rait


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> Path:
    """A folder with the model and the question files train.jsonl, id.jsonl, ood.jsonl.

    Trained until it knows two thirds of the cities; of the others it has seen every land as an answer, so it guesses.
    """
    folder = tmp_path_factory.mktemp("world")
    words = [f"▁{word}" for word in ("is", "?", "say", "unknown", ".", "answer", *CITIES, *LANDS)]
    words += ["Question:", "▁Where", "Answer:", "Answer", "▁Or", "\n", "▁"]
    tokenizer = word_tokenizer(words)
    model = random_model("llama", len(tokenizer), seed=1, spread=0.08)
    generator = random.Random(0)
    torch.manual_seed(0)
    plain = Renderer(tokenizer, PROMPT)
    optimiser = torch.optim.AdamW(model.parameters(), lr=4e-3)
    model.train()
    for _ in range(260):
        texts = []
        for number in generator.sample(range(len(CITIES)), 40):
            known = number % 3 != 0
            land = land_of(number) if known else generator.choice(LANDS)
            head = plain(Question(id=str(number), question=question(number), answers=(land_of(number),)))
            if generator.random() < 0.7:  # worked examples first, as when it is probed
                before = generator.sample(range(len(CITIES)), 2)
                shots = "".join(f"Question: {question(n)}\nAnswer: {land_of(n)}\n\n" for n in before)
                head = head.replace("Question:", shots + "Question:", 1)
            texts.append((head, f" {land}\n"))
        heads = [tokenizer(head)["input_ids"] for head, _ in texts]
        wholes = [tokenizer(head + tail)["input_ids"] for head, tail in texts]
        width = max(map(len, wholes))
        ids = torch.tensor([whole + [0] * (width - len(whole)) for whole in wholes])
        mask = torch.tensor([[1] * len(whole) + [0] * (width - len(whole)) for whole in wholes])
        labels = ids.masked_fill(mask == 0, -100)
        for row, head in enumerate(heads):
            labels[row, : len(head)] = -100
        loss = model(ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
    model.eval()
    save(model, tokenizer, folder / "model")
    rows = [
        {"id": f"city/{n}", "question": question(n), "answers": [land_of(n)], "category": "known" if n % 3 else "guess"}
        for n in range(len(CITIES))
    ]
    for name, part in {"train": rows[:84], "id": rows[84:], "ood": rows[90:110]}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part), "utf-8")
    return folder


@pytest.fixture(scope="session")
def recipe_file(world) -> Path:
    """A recipe for the tiny world that runs in seconds."""
    path = world / "recipe.yaml"
    path.write_text(
        f"""
seed: 0
model: {{source: {world / "model"}}}
questions: {{source: {world / "train.jsonl"}}}
tests:
  id: {{source: {world / "id.jsonl"}}}
  ood: {{source: {world / "ood.jsonl"}}}
prompt: {{instruction: "Answer .", refusal: unknown, refusal_instruction: "Or say unknown .", shots: 2}}
probe: {{samples: 10, max_new_tokens: 4, shard: 20}}
rehearsal: {{rule: top, size: 24, tuning: {{epochs: 2, learning_rate: 0.003, lora_rank: 8}}}}
construction: {{vanilla: 40, idk: 10, shortage: shrink, flow_rule: non_positive}}
strategies: [cor_rait, craft]
tuning: {{epochs: 12, batch_size: 8, learning_rate: 0.01, lora_rank: 8, lora_alpha: 16}}
evaluation: {{max_new_tokens: 4, resamples: 200}}
""",
        "utf-8",
    )
    return path


@pytest.fixture(scope="session")
def whole_run(recipe_file, tmp_path_factory):
    """The folder of a run of that recipe, to be copied by those that change it; and its results."""
    folder = tmp_path_factory.mktemp("run") / "whole"
    return folder, run(load_recipe(recipe_file), folder)
