"""The steps of a run: each makes files of the run folder from other files of it, unless they are whole already.

    work = begin(recipe, book)
    initial = probe(work, "initial", work.pool, None)

Each step names what it depends on: parts of the recipe, the model's fingerprint, the checksums of the files it reads.
The manifest gets a step's entry last, so an entry means that its files are whole; a step whose entry has the same key
and whose files are there is skipped. Changing a key of the recipe therefore re-runs what depends on it and nothing
else. `rait.pipeline` puts the steps in order.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rait.book import Book
from rait.construction import Strategy, as_it_is, construct, summarise
from rait.errors import ModelError, check_failed
from rait.evaluation.metrics import evaluate, to_json
from rait.keys import asking, evaluation_key, influence_key, probe_key, tuning_key
from rait.knowledge.flow import flows
from rait.manifest import fingerprint_of, fingerprint_of_all
from rait.prompting import Shots, uses_chat
from rait.questions.mmlu import groups_of
from rait.recipe import Recipe
from rait.records import Decision, Example, Failure, Influence, KnowledgeFlow, KnowledgeState, Question, Verdict
from rait.sets import all_of, plain, plain_shots, question_sets
from rait.settings import DIAL_FILE
from rait.shown import shown_prompts
from rait.stages import (
    Models,
    answer_all,
    bare_states,
    clear_checkpoints,
    construction_states,
    dial_obstacle,
    embedder_of,
    failures_of,
    fine_tune_into,
    measured_influences,
    no_dial,
    probe_in_shards,
    rehearsal_examples,
    save_dial,
    seeded,
    set_dial,
    tuning_examples,
)
from rait.tables import atomic, count_rows, iter_records, read_data, read_records, write_data, write_records


@dataclass(frozen=True, slots=True)
class Work:
    """What every step of a run works with: the recipe, the manifest, models on demand, and the question files."""

    recipe: Recipe
    book: Book
    models: Models
    pool: Path
    shots: Shots
    tests: Mapping[str, Path]
    calibration: Mapping[str, Path] = field(default_factory=dict)  # the set on which the dial is set, if there is one

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.book.folder

    def of(self, recipe: Recipe) -> "Work":
        """The same with another recipe, of which the parts that are done already are the same."""
        return replace(self, recipe=recipe)


def begin(recipe: Recipe, book: Book) -> Work:
    """Write down the pool that is probed, the worked examples taken out of it, the test sets, and every prompt."""
    shots_file = book.folder / "questions/shots.parquet"

    # Reading is quick next to everything else, and a changed file must be noticed: it is done at every start.
    sets, shots = question_sets(recipe, book.note)
    files = {name: book.folder / f"questions/{name}.parquet" for name in sets}
    key = {name: fingerprint_of_all(map(plain, questions)) for name, questions in sets.items()}
    with book.step("questions", key | {"shots": plain_shots(shots)}, [*files.values(), shots_file]) as todo:
        if todo:
            for name, questions in sets.items():
                write_records(files[name], questions, Question)
            write_records(shots_file, all_of(shots), Question)
    counts = ", ".join(f"{len(questions)} {name}" for name, questions in sets.items())
    book.say(f"{counts} questions; {len(all_of(shots))} more serve as worked examples")
    tests = {name: files[name] for name in recipe.tests}
    held_out = {name: files[name] for name in sets if name == "calibration"}
    work = Work(recipe, book, Models(recipe, book.say), files["train"], shots, tests, held_out)
    _prompts(work, {name: questions[0] for name, questions in sets.items()})
    return work


def _prompts(work: Work, asked: Mapping[str, Question]) -> None:
    """Every prompt of the run, for a reader."""
    recipe, out = work.recipe, work.folder / "prompts.txt"
    key = {
        "template": work.models.tokenizer_key(),
        "asked": {name: plain(question) for name, question in asked.items()},
        "shots": plain_shots(work.shots),
        "strategies": recipe.strategies,
        "prompt": recipe.prompt.model_dump(),
        "probe": recipe.probe.model_dump(include={"samples", "max_new_tokens"}),
        "evaluation": recipe.evaluation.model_dump(include={"choice", "max_new_tokens"}),
    }
    with work.book.step("prompts", key, [out]) as todo:
        if todo:
            text = shown_prompts(recipe, work.models.tokenizer(), asked, work.shots)
            with atomic(out) as file:
                file.write(text.encode(errors="replace"))


def probe(work: Work, name: str, questions: Path, adapter: Path | None) -> Path:
    """Knowledge state of all `questions` under the initial model or the one with an adapter."""
    recipe, out = work.recipe, work.folder / f"knowledge/{name}.parquet"
    failures = failures_of(out)
    embedder = _embedder(work, f"knowledge/{name}", questions)
    key = probe_key(work.models.key(adapter), work.book.digest(questions), work.shots, recipe, embedder)
    with work.book.step(f"knowledge/{name}", key, [out], [failures]) as todo:
        if todo:
            states, failed = probe_in_shards(
                work.models.load(adapter),
                lambda: iter_records(questions, Question),
                work.shots,
                recipe,
                embedder=embedder,
                shards=_shards(out, key, recipe),
                what=f"probe {name}",
                say=work.book.note,
            )
            write_records(out, states, KnowledgeState)
            if failed:
                write_records(failures, failed, Failure)
                work.book.note(f"probe {name}: {len(failed)} questions cannot be asked and are left out; {failures}")
    _clear_shards(out)
    if failures.exists():  # the recipe may permit fewer now than when they were asked
        reasons = {failure.id: failure.reason for failure in read_records(failures, Failure)}
        check_failed(reasons, count_rows(questions), recipe.max_failed)
    return out


def rehearse(work: Work, initial: Path) -> Path:
    """Fine-tune the initial model on what it knows best (paper section 3.1); the adapter."""
    recipe, folder = work.recipe, work.folder / "rehearsal"
    outputs = [folder / "examples.jsonl", folder / "losses.json", folder / "adapter"]
    key = {
        "model": work.models.key(None),
        "initial": work.book.digest(initial),
        "rehearsal": recipe.rehearsal.model_dump(),
        "prompt": asking(recipe.prompt),
        "seed": recipe.seed,
    }
    with work.book.step("rehearsal", key, outputs) as todo:
        if todo:
            chosen, note = rehearsal_examples(work.models.tokenizer(), initial, recipe)
            work.book.note(note)
            write_records(outputs[0], chosen, Example)
            tuning = recipe.rehearsal.tuning
            fine_tune_into(
                work.models, chosen, tuning, folder, key, seed=recipe.seed, what="rehearse", say=work.book.note
            )
    clear_checkpoints(folder)
    return outputs[2]


def flow(work: Work, initial: Path, rehearsed: Path) -> Path:
    """How rehearsal changed the knowledge of every question."""
    book, out = work.book, work.folder / "knowledge/flow.parquet"
    with book.step("knowledge/flow", {"of": [book.digest(initial), book.digest(rehearsed)]}, [out]) as todo:
        if todo:
            write_records(out, flows(bare_states(initial), bare_states(rehearsed)), KnowledgeFlow)
    return out


def influence(work: Work, initial: Path, rehearsal: Path) -> Path:
    """What refusing unknown questions would do to others, at the rehearsed model (GRAIT)."""
    recipe, book, out = work.recipe, work.book, work.folder / "knowledge/influence.parquet"
    settings = seeded(recipe).model_dump()
    key = influence_key(work.models.key(rehearsal), book.digest(initial), settings, recipe.prompt)
    with book.step("knowledge/influence", key, [out]) as todo:
        if todo:
            rehearsed, shards = work.models.load(rehearsal), _shards(out, key, recipe)
            found = measured_influences(rehearsed, initial, recipe, shards=shards, say=book.note)
            write_records(out, found, Influence)
    _clear_shards(out)
    return out


def construction(work: Work, strategy: Strategy, place: Path, initial: Path, evidence: Mapping[str, Path]) -> Path:
    """Decide about every question, and make the tuning examples, in the folder `place`; the examples."""
    recipe, book = work.recipe, work.book
    outputs = [place / "decisions.parquet", place / "examples.jsonl"]
    settings = seeded(recipe)
    needed = {name: path for name, path in evidence.items() if name in strategy.needs}
    key = {
        "strategy": strategy.name,
        "code": [strategy.code["plan"], strategy.code["label"]],
        "initial": book.digest(initial),
        "evidence": {name: book.digest(path) for name, path in needed.items()},
        "construction": settings.model_dump(),
        "prompt": recipe.prompt.model_dump(),
        "template": work.models.tokenizer_key(),
    }
    with book.step(f"{_name(work, place)}/construction", key, outputs) as todo:
        if todo:
            selection = construct(
                strategy.name,
                construction_states([strategy.name], initial, recipe),
                iter_records(needed["flows"], KnowledgeFlow) if "flows" in needed else None,
                settings,
                iter_records(needed["influences"], Influence) if "influences" in needed else None,
            )
            for note in selection.notes:
                book.note(note)
            write_records(outputs[0], selection.decisions, Decision)
            made = tuning_examples(work.models.tokenizer(), strategy.name, initial, selection.decisions, recipe.prompt)
            write_records(outputs[1], made, Example)
            counts = summarise(selection.decisions)
            sizes = ", ".join(f"{sum(kinds.values())} {role}" for role, kinds in counts.items())
            book.say(f"{_name(work, place)}: {sizes}")
    return outputs[1]


def tune(work: Work, place: Path, made: Path) -> Path:
    """Fine-tune the initial model on the examples in `made`; the adapter."""
    recipe, name = work.recipe, _name(work, place)
    outputs = [place / "adapter", place / "losses.json"]
    key = tuning_key(work.models.key(None), work.book.digest(made), recipe.tuning, recipe.seed)
    with work.book.step(f"{name}/tuning", key, outputs) as todo:
        if todo:
            chosen = read_records(made, Example)
            what, say = f"tune {name}", work.book.note
            fine_tune_into(work.models, chosen, recipe.tuning, place, key, seed=recipe.seed, what=what, say=say)
    clear_checkpoints(place)
    return outputs[0]


def evaluation(
    work: Work,
    place: Path,
    sets: Mapping[str, Path],
    *,
    strategy: Strategy | None,
    may_refuse: bool,
    adapter: Path | None,
    weigh: bool = False,
) -> dict[str, Path]:
    """Greedy answers to the questions of `sets`, judged. A base model that was not tuned is shown worked examples.

    With `weigh` they say how probable a refusal is, too, and what is answered without it.
    """
    recipe = work.recipe
    shots = work.shots if strategy is None else {}
    made: dict[str, Path] = {}
    for name, questions in sets.items():
        out = made[name] = place / f"{name}.verdicts.parquet"
        key = evaluation_key(
            work.models.key(adapter),
            work.book.digest(questions),
            shots,
            recipe,
            may_refuse=may_refuse,
            strategy=strategy,
            weigh=weigh,
        )
        with work.book.step(f"{_name(work, place)}/{name}", key, [out]) as todo:
            if todo:
                loaded = work.models.load(adapter)
                shown = {} if uses_chat(loaded.tokenizer, recipe.prompt) else shots
                asked = read_records(questions, Question)
                what = f"evaluate {_name(work, place)} on {name}"
                read = strategy.read if strategy else as_it_is
                shards = _shards(out, key, recipe)
                found = answer_all(
                    loaded,
                    asked,
                    shown,
                    may_refuse,
                    recipe,
                    what,
                    read,
                    weigh=weigh,
                    shards=shards,
                    say=work.book.note,
                )
                write_records(out, found, Verdict)
        _clear_shards(out)
    return made


def dial(
    work: Work, place: Path, strategy: Strategy, verdicts: Mapping[str, Path], baseline: Mapping[str, Path]
) -> None:
    """Choose when the tuned model refuses, and save it with what was tuned."""
    recipe, book, out = work.recipe, work.book, place / "dial.json"
    obstacle = dial_obstacle(strategy)
    key = {
        "obstacle": obstacle,
        "verdicts": {name: book.digest(path) for name, path in verdicts.items()},
        "baseline": {name: book.digest(baseline[name]) for name in verdicts},
        "dial": recipe.dial.model_dump(),
        "resamples": recipe.evaluation.resamples,
        "max_failed": recipe.max_failed,
        "seed": recipe.seed,
    }
    saved = place / "adapter" / DIAL_FILE
    with book.step(f"{_name(work, place)}/dial", key, [out], [saved]) as todo:
        if todo:
            found = no_dial(obstacle) if obstacle else set_dial(recipe, verdicts, baseline)
            if found["threshold"] is None:
                book.note(f"{_name(work, place)} has no dial: {found['obstacle']}")
            write_data(out, found)
            save_dial(saved.parent, found, recipe.prompt.refusal)


def without_dial(work: Work, place: Path) -> None:
    """Take away the dial that an earlier recipe had: no calibration questions, no threshold."""
    files = [place / "dial.json", place / "adapter" / DIAL_FILE]
    work.book.drop(f"{_name(work, place)}/dial", files)
    for path in files:
        path.unlink(missing_ok=True)


def score(work: Work, place: Path, verdicts: Mapping[str, Path], baseline: Mapping[str, Path]) -> dict[str, Any]:
    """The metrics of every test set, as `evaluation.metrics.to_json` gives them."""
    recipe, book, out = work.recipe, work.book, place / "metrics.json"
    key = {
        "verdicts": {name: book.digest(path) for name, path in verdicts.items()},
        "baseline": {name: book.digest(path) for name, path in baseline.items()},
        "resamples": recipe.evaluation.resamples,
        "max_failed": recipe.max_failed,
        "seed": recipe.seed,
    }
    with book.step(f"{_name(work, place)}/metrics", key, [out]) as todo:
        if todo:
            metrics = {}
            for name, path in verdicts.items():
                after, before = read_records(path, Verdict), read_records(baseline[name], Verdict)
                groups = groups_of(verdict.category for verdict in after)
                found = evaluate(
                    after,
                    before,
                    groups=groups,
                    seed=recipe.seed,
                    resamples=recipe.evaluation.resamples,
                    max_failed=recipe.max_failed,
                )
                metrics[name] = to_json(found)
            write_data(out, metrics)
    return read_data(out)


def _embedder(work: Work, step: str, questions: Path) -> str | None:
    """The fingerprint of the sentence model; where it cannot be had, that of a step which is done and needs no more."""
    try:
        return embedder_of(iter_records(questions, Question), work.recipe.probe)
    except ModelError:
        known: str | None = work.book.inputs(step).get("embedder")
        if known is None:
            raise
        return known


def _shards(out: Path, key: Mapping[str, Any], recipe: Recipe) -> Path:
    """The folder for what is saved on the way to `out`: of no other key and of no other size."""
    return out.with_name(f"{out.stem}.{fingerprint_of([key, recipe.probe.shard])[:12]}.shards")


def _clear_shards(out: Path) -> None:
    """Remove what was saved on the way to `out`: only now that the manifest has the whole."""
    for leftover in out.parent.glob(f"{out.stem}.*.shards"):
        shutil.rmtree(leftover)


def _name(work: Work, place: Path) -> str:
    """The name of a folder of the run, as the manifest has it."""
    return place.relative_to(work.folder).as_posix()
