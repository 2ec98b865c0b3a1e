"""Long use in small: thousands of probes and many runs in one process need no more memory, files or threads."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from rait.models.loading import load, release
from rait.pipeline import run
from rait.recipe import load_recipe
from rait.records import KnowledgeState, Question
from rait.stages import embedder_of, probe_in_shards
from rait.tables import write_records

pytestmark = pytest.mark.slow

PROBES, RUNS = 2000, 20


def held() -> tuple[float, int, int]:
    """What this process holds: memory in MB, open files, threads."""
    release()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return (
        pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        len(os.listdir("/proc/self/fd")),
        len(os.listdir("/proc/self/task")),
    )


def grown(taken: list[tuple[float, int, int]]) -> tuple[float, int, int]:
    """From the first to the last: memory by the slope of a line through all, files and threads by what there is."""
    memory = [each[0] for each in taken]
    slope = float(np.polyfit(range(len(memory)), memory, 1)[0])
    return slope * (len(memory) - 1), taken[-1][1] - taken[0][1], taken[-1][2] - taken[0][2]


def test_two_thousand_probes_hold_no_more_at_the_end(world, tmp_path, capsys):
    words = ["prompt.instruction=Answer .", "probe.samples=4", "probe.max_new_tokens=3", "probe.shard=2"]
    recipe = load_recipe(None, [f"model.source={world / 'model'}", "model.dtype=float32", *words])
    loaded = load(recipe.model)
    asked = [Question(id=str(n), question=f"Where is City{n} ?", answers=(f"Land{n % 12}",)) for n in range(4)]
    taken, shards, mark = [], tmp_path / "shards", embedder_of(asked, recipe.probe)
    for number in range(PROBES):
        seeded = recipe.model_copy(update={"seed": number})
        states, failed = probe_in_shards(
            loaded, lambda: asked, {}, seeded, embedder=mark, shards=shards, what="probe", say=lambda _: None
        )
        assert not failed
        write_records(tmp_path / "states.parquet", states, KnowledgeState)
        shutil.rmtree(shards)
        if number >= PROBES // 5 and number % 50 == 0:
            taken.append(held())
    memory, files, threads = grown(taken)
    with capsys.disabled():
        print(f"\n{PROBES} probes: {memory:+.1f} MB of {taken[-1][0]:.0f}, {files:+} files, {threads:+} threads")
    assert memory < 8
    assert (files, threads) == (0, 0)


def test_twenty_runs_hold_no_more_at_the_end(world, tmp_path, capsys):
    (tmp_path / "recipe.yaml").write_text(
        f"""
seed: 0
model: {{source: {world / "model"}}}
questions: {{source: {world / "train.jsonl"}}}
tests: {{id: {{source: {world / "id.jsonl"}}}}}
prompt: {{instruction: "Answer .", refusal: unknown, refusal_instruction: "Or say unknown .", shots: 2}}
probe: {{samples: 4, max_new_tokens: 4}}
rehearsal: {{rule: top, size: 16, tuning: {{epochs: 3, learning_rate: 0.003, lora_rank: 4}}}}
construction: {{vanilla: 20, idk: 6, shortage: shrink, flow_rule: non_positive}}
strategies: [craft]
tuning: {{epochs: 2, batch_size: 8, learning_rate: 0.01, lora_rank: 4}}
evaluation: {{max_new_tokens: 4, resamples: 100}}
""",
        "utf-8",
    )
    taken = []
    for number in range(RUNS):
        folder = tmp_path / f"run-{number}"
        run(load_recipe(tmp_path / "recipe.yaml"), folder)
        shutil.rmtree(folder)
        if number >= RUNS // 4:
            taken.append(held())
    memory, files, threads = grown(taken)
    with capsys.disabled():
        print(f"\n{RUNS} runs: {memory:+.1f} MB of {taken[-1][0]:.0f}, {files:+} files, {threads:+} threads")
    assert memory < 15
    assert (files, threads) == (0, 0)
