"""How cost and memory grow: with the size of the pool, with the questions probed, with the samples per question.

    python benchmarks/scale.py pool [SIZE]...       everything of a run but the model's work, on synthetic states
    python benchmarks/scale.py probe [SIZE]...      the probe in shards, of a small random Llama
    python benchmarks/scale.py samples [N]...       the probe of a few hundred atlas questions by the default model

Each prints a Markdown table. Every measurement has a process of its own, whose peak memory is the most that it held at
once, libraries included. docs/performance.md quotes the tables.
"""

import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

# What is heavy is imported where it is used: on Linux a process inherits the peak memory of the one that starts it.
if TYPE_CHECKING:
    from rait.book import Book
    from rait.recipe import Recipe
    from rait.records import KnowledgeState
    from rait.steps import Work

POOL_SIZES = (10_000, 100_000, 1_000_000)
PROBE_SIZES = (1_000, 4_000, 16_000)
SAMPLES = (10, 20, 50, 100)
ATLAS_QUESTIONS = 300
VOCABULARY = 2_000


def measured(work: Callable[..., Any], *arguments: Any) -> tuple[Any, float, float]:
    """What `work` returns, its seconds, and the peak memory in GB of the process of its own in which it ran."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measure, work, *arguments).result()


def _measure(work: Callable[..., Any], *arguments: Any) -> tuple[Any, float, float]:
    start = time.perf_counter()
    result = work(*arguments)
    unit = 1 if sys.platform == "darwin" else 1024
    return result, time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


# --- pool: everything but the model ----------------------------------------------------------------------------------


def pool(sizes: list[int]) -> None:
    steps = (write_file, read_questions, write_and_join_shards, write_rehearsed, flow, rehearsal, construction)
    print("| step | " + " | ".join(f"{size:,} questions" for size in sizes) + " |")
    print("|---|" + "---:|" * len(sizes))
    cells: dict[str, list[str]] = {step.__name__: [] for step in steps}
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            for step in steps:
                _, seconds, peak = measured(step, Path(folder), size)
                cells[step.__name__].append(f"{seconds:.1f} s, {peak:.2f} GB")
                print(f"{size} {step.__name__}: {cells[step.__name__][-1]}", file=sys.stderr, flush=True)
    for name, row in cells.items():
        print(f"| {name.replace('_', ' ')} | {' | '.join(row)} |")


def write_file(folder: Path, size: int) -> None:
    """The user's file of questions, which the run then reads."""
    from rait.records import Question
    from rait.tables import write_records

    made = (
        Question(id=state.id, question=state.question, answers=state.answers, category=state.category)
        for state in synthetic(size, 0)
    )
    write_records(folder / "pool.jsonl", made, Question)
    write_records(folder / "test.jsonl", [Question(id="a", question="Who?", answers=("me",))])


def read_questions(folder: Path, size: int) -> None:
    from rait.steps import begin

    recipe, book = opened(folder)
    begin(recipe, book)


def write_and_join_shards(folder: Path, size: int) -> None:
    """The states of the initial model, made up, in shards as a probe leaves them, and from there into one file."""
    from rait.records import KnowledgeState, Question
    from rait.stages import probe_in_shards
    from rait.tables import batched, count_rows, iter_records, write_records

    recipe, book = opened(folder)
    train, shards = folder / "questions/train.parquet", folder / "shards"
    for number, part in enumerate(batched(synthetic(size, 0), recipe.probe.shard)):
        write_records(shards / f"{number * recipe.probe.shard:09d}.parquet", part, KnowledgeState)
    loaded: Any = SimpleNamespace(tokenizer=None)
    joined = probe_in_shards(
        loaded,
        iter_records(train, Question),
        count_rows(train),
        (),
        recipe.prompt,
        recipe.probe,
        seed=0,
        shards=shards,
        what="join",
    )
    with book.step("knowledge/initial", {}, [folder / "knowledge/initial.parquet"]):
        write_records(folder / "knowledge/initial.parquet", joined, KnowledgeState)


def write_rehearsed(folder: Path, size: int) -> None:
    from rait.records import KnowledgeState
    from rait.tables import write_records

    _, book = opened(folder)
    out = folder / "knowledge/rehearsed.parquet"
    with book.step("knowledge/rehearsed", {}, [out]):
        write_records(out, synthetic(size, 1), KnowledgeState)


def flow(folder: Path, size: int) -> None:
    from rait.steps import flow as make_flow

    make_flow(work_in(folder), folder / "knowledge/initial.parquet", folder / "knowledge/rehearsed.parquet")


def rehearsal(folder: Path, size: int) -> None:
    from rait.records import Example
    from rait.stages import rehearsal_examples
    from rait.tables import write_records

    recipe, _ = opened(folder)
    made, _ = rehearsal_examples(None, folder / "knowledge/initial.parquet", recipe)
    write_records(folder / "rehearsal/examples.jsonl", made, Example)


def construction(folder: Path, size: int) -> None:
    from rait.construction import find_strategy
    from rait.steps import construction as make_construction

    evidence = {"flows": folder / "knowledge/flow.parquet"}
    initial = folder / "knowledge/initial.parquet"
    make_construction(work_in(folder), find_strategy("craft"), folder / "craft", initial, evidence)


def work_in(folder: Path) -> "Work":
    """The run in `folder`, without a model."""
    from rait.steps import Work

    recipe, book = opened(folder)
    models: Any = SimpleNamespace(tokenizer=lambda: None, tokenizer_key=lambda: "none")
    return Work(recipe, book, models, folder / "questions/train.parquet", {}, {})


def opened(folder: Path) -> "tuple[Recipe, Book]":
    """The recipe, and the manifest of the run folder with what earlier steps wrote into it."""
    from rait.book import Book
    from rait.recipe import load_settings

    recipe = load_settings(
        {
            "questions.source": str(folder / "pool.jsonl"),
            "tests": {"held_out": {"source": str(folder / "test.jsonl")}},
            "prompt.shots": 0,
            "rehearsal.rule": "top",
            "construction.shortage": "shrink",
        }
    )
    book = Book(folder, lambda line: None)
    book.begin(recipe)
    return recipe, book


def synthetic(size: int, stage: int) -> "Iterator[KnowledgeState]":
    """States as a probe gives them: ten samples in about four distinct answers. `stage` 1 is after rehearsal."""
    from rait.records import Answer, KnowledgeState

    generator = random.Random(stage)
    for number in range(size):
        kind = number % 20
        counts = (10,) if kind < 4 else (7, 2, 1) if kind < 8 else (4, 2, 2, 1, 1) if kind < 14 else (3, 2, 2, 1, 1, 1)
        right = generator.randrange(-2, len(counts))  # the place of the correct answer; below 0 there is none
        yield KnowledgeState(
            id=f"relation{kind}/{number:07d}",
            question=f"In which of the provinces of the country does the town number {number} lie?",
            answers=(f"Province {number}", f"The province of {number}"),
            category=f"relation{kind}",
            correctness=counts[right] / 10 if right >= 0 else 0.0,
            certainty=round(1 - 0.9 * generator.random() * (len(counts) > 1), 6),
            responses=tuple(
                Answer(
                    text=f"Province {number}" if place == right else f"Some province {generator.randrange(10**6)}",
                    count=count,
                    correct=place == right,
                    rule="exact" if place == right else "",
                )
                for place, count in enumerate(counts)
            ),
        )


# --- probe: the model's work, in shards ------------------------------------------------------------------------------


def probe(sizes: list[int]) -> None:
    print("| questions | seconds | questions/s | distinct answers each | peak memory |\n|---:|---:|---:|---:|---:|")
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            (seconds, distinct), _, peak = measured(probe_random_model, Path(folder), size)
        cells = f"{size:,}", f"{seconds:.1f}", f"{size / seconds:.1f}", f"{distinct / size:.1f}", f"{peak:.2f} GB"
        print(f"| {' | '.join(cells)} |", flush=True)


def probe_random_model(folder: Path, size: int) -> tuple[float, int]:
    """Seconds of the probe, loading aside, and the number of distinct answers over all questions."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from rait.models.embedding import load_embedder
    from rait.models.loading import LoadedModel
    from rait.recipe import Probe, Prompt
    from rait.records import KnowledgeState, Question
    from rait.stages import probe_in_shards
    from rait.tables import iter_records, write_records

    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from tiny import word_tokenizer

    words = [f"word{number}" for number in range(VOCABULARY)]
    tokenizer = word_tokenizer(["Question:", "Answer:", "\n", *(f"▁{word}" for word in words)])
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.7,  # wide enough that a few next words are likely, as with a real model
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    loaded = LoadedModel(LlamaForCausalLM(shape).eval(), tokenizer, "random", "random")
    settings = Probe(max_new_tokens=1)  # more would time the embedding of texts that no model writes
    load_embedder(settings.embedder)(["warm"])
    generator = random.Random(0)
    questions = (
        Question(id=str(number), question=" ".join(generator.choices(words, k=8)), answers=("word1",))
        for number in range(size)
    )
    start = time.perf_counter()
    states = probe_in_shards(
        loaded, questions, size, {}, Prompt(instruction=""), settings, seed=0, shards=folder / "shards", what="probe"
    )
    write_records(folder / "states.parquet", states, KnowledgeState)
    seconds = time.perf_counter() - start
    return seconds, sum(len(state.responses) for state in iter_records(folder / "states.parquet", KnowledgeState))


# --- samples: N answers a question -----------------------------------------------------------------------------------


def samples(numbers: list[int]) -> None:
    print("| N | seconds | ratio | forward rows | ratio | distinct answers each |\n|---:|---:|---:|---:|---:|---:|")
    base: tuple[float, int] | None = None
    for number in numbers:
        (seconds, rows, distinct), _, _ = measured(probe_atlas, number)
        base = base or (seconds, rows)
        ratios = f"{seconds / base[0]:.2f}", f"{rows / base[1]:.2f}"
        share = distinct / ATLAS_QUESTIONS
        print(f"| {number} | {seconds:.1f} | {ratios[0]} | {rows:,} | {ratios[1]} | {share:.1f} |", flush=True)


def probe_atlas(number: int) -> tuple[float, int, int]:
    """Seconds of the probe with `number` samples, loading aside, rows of the forward passes, and distinct answers."""
    from rait.knowledge.query import query
    from rait.models.embedding import load_embedder
    from rait.models.loading import load
    from rait.prompting import Renderer
    from rait.questions import load_questions
    from rait.recipe import load_recipe
    from rait.sets import split_shots

    recipe = load_recipe("default", [f"probe.samples={number}"])
    shots, pool = split_shots(load_questions("atlas", limit=ATLAS_QUESTIONS + recipe.prompt.shots), recipe)
    loaded = load(recipe.model)
    embed = load_embedder(recipe.probe.embedder)
    embed(["warm"])
    rows = 0

    def count(module: Any, arguments: Any) -> None:
        nonlocal rows
        rows += arguments[0].numel()

    loaded.model.get_input_embeddings().register_forward_pre_hook(count)
    start = time.perf_counter()
    render = Renderer(loaded.tokenizer, recipe.prompt, shots)
    states = list(query(loaded, pool, render, recipe.probe, embed, seed=0))
    return time.perf_counter() - start, rows, sum(len(state.responses) for state in states)


def main() -> None:
    parts = {"pool": (pool, POOL_SIZES), "probe": (probe, PROBE_SIZES), "samples": (samples, SAMPLES)}
    if len(sys.argv) < 2 or sys.argv[1] not in parts or not all(word.isdecimal() for word in sys.argv[2:]):
        sys.exit(__doc__)
    part, sizes = parts[sys.argv[1]]
    part([int(word) for word in sys.argv[2:]] or list(sizes))


if __name__ == "__main__":
    main()
