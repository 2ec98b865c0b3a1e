"""A run: every stage in its order, in one folder, resumable at any moment.

    results = run(load_recipe("default"), Path("run"))

    RUN/  recipe.yaml  manifest.json  prompts.txt  questions/{train,SET}.parquet
          knowledge/{initial,rehearsed,flow}.parquet  rehearsal/{examples.jsonl,losses.json,adapter/}
          init_basic/  init_refuse/  {SET.verdicts.parquet,metrics.json}
          STRATEGY/{decisions.parquet,examples.jsonl,losses.json,adapter/,SET.verdicts.parquet,metrics.json}

Each step names what it depends on: parts of the recipe, the model's fingerprint, the checksums of the files it reads.
The manifest gets a step's entry last, so an entry means that its files are whole; a step whose entry has the same key
and whose files are there is skipped. Changing a key of the recipe therefore re-runs what depends on it and nothing
else.
"""

import json
import shutil
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from rait.construction import construct, find_strategy, summarise
from rait.errors import InputError, some
from rait.evaluation.metrics import evaluate, to_json
from rait.knowledge.flow import flows
from rait.manifest import Book, Say, fingerprint_of, fingerprint_of_all, locked
from rait.progress import say
from rait.prompting import Shots, uses_chat
from rait.questions import validate, without, without_leaks
from rait.questions.mmlu import groups_of
from rait.recipe import Prompt, Recipe
from rait.records import Decision, Example, KnowledgeFlow, KnowledgeState, Question, Verdict
from rait.shown import shown_prompts
from rait.stages import (
    Models,
    all_of,
    answer_all,
    bare_states,
    fine_tune_into,
    load_pool,
    load_set,
    plain,
    plain_shots,
    probe_in_shards,
    rehearsal_examples,
    seeded,
    split_shots,
    tuning_examples,
)
from rait.tables import atomic, count_rows, iter_records, read_records, write_json, write_records

BASELINES = {"init_basic": False, "init_refuse": True}  # name -> whether the prompt invites a refusal

Results = dict[str, dict[str, Any]]


def run(recipe: Recipe, folder: str | Path, say: Say = say) -> Results:
    """Run the recipe in `folder` and return the metrics: method -> test set -> as `evaluation.metrics.to_json`.

    Goes on where an earlier run in the same folder stopped. Raises `RaitError` for what the user can mend; whatever was
    finished before stays.
    """
    strategies = [find_strategy(name) for name in recipe.strategies]  # an unknown name fails before any work
    folder = Path(folder)
    with locked(folder):
        book = Book(folder, say)
        book.begin(recipe)
        pool, shots, tests = _questions(recipe, book)
        models = Models(recipe, say)
        _prompts(recipe, book, models, pool, shots, tests)
        initial = _probe(recipe, book, models, pool, shots, "initial", None)
        flow = None
        if not any(strategy.needs_flow for strategy in strategies):
            book.say("no rehearsal: none of the strategies looks at the knowledge flow")
        if any(strategy.needs_flow for strategy in strategies):
            adapter = _rehearse(recipe, book, models, initial)
            rehearsed = _probe(recipe, book, models, pool, shots, "rehearsed", adapter)
            flow = _flow(book, initial, rehearsed)
        verdicts: dict[str, dict[str, Path]] = {}
        for name, may_refuse in BASELINES.items():
            verdicts[name] = _evaluate(recipe, book, models, tests, name, shots, may_refuse, None)
        for strategy in strategies:
            made = _construct(recipe, book, models, strategy.name, initial, flow if strategy.needs_flow else None)
            adapter = _tune(recipe, book, models, strategy.name, made)
            verdicts[strategy.name] = _evaluate(recipe, book, models, tests, strategy.name, {}, True, adapter)
        results = {name: _score(recipe, book, name, own, verdicts["init_basic"]) for name, own in verdicts.items()}
        book.end()
        return results


def question_sets(recipe: Recipe, note: Say) -> tuple[dict[str, list[Question]], Shots]:
    """The questions of each set, "train" for those that are probed, and the worked examples taken out of them.

    `note` is told what is left out of a test set, and what is odd about a set. Raises `InputError` where nothing is
    left of one.
    """
    shots, pool = split_shots(load_pool(recipe, note), recipe, note)
    sets = {"train": pool}
    for name, source in recipe.tests.items():
        sets[name] = load_set(source, recipe.seed, note)
        leaked: list[Question] = []
        if source.leaked == "exclude":
            sets[name], leaked = without_leaks(sets[name], chain(pool, all_of(shots)))
        if leaked:
            ids = some([question.id for question in leaked])
            note(
                f"{len(leaked)} questions of {name} are trained on too and left out ({ids}); "
                f"tests.{name}.leaked=keep would keep them"
            )
    for name, questions in sets.items():
        if not questions:
            raise InputError(f"the question set {name!r} is empty after leaving out worked examples and leaks")
        checked = validate(questions, recipe.prompt.refusal)
        for finding in checked.findings:
            note(f"{name}: {finding}")
        sets[name] = without(questions, checked.excluded)
    return sets, shots


def prompts_of(recipe: Recipe, say: Say = say) -> str:
    """Every prompt that a run of `recipe` puts, each with the first question of its set, as text for a reader."""
    sets, shots = question_sets(recipe, say)
    asked = {name: questions[0] for name, questions in sets.items()}
    return shown_prompts(recipe, Models(recipe, say).tokenizer(), asked, shots)


# --- steps, in their order -------------------------------------------------------------------------------------------


def _questions(recipe: Recipe, book: Book) -> tuple[Path, Shots, dict[str, Path]]:
    """The pool that is probed, the worked examples taken out of it, and the test sets, as files of the run."""
    files = {"train": book.folder / "questions/train.parquet"}
    files |= {name: book.folder / f"questions/{name}.parquet" for name in recipe.tests}
    shots_file = book.folder / "questions/shots.parquet"

    # Reading is quick next to everything else, and a changed file must be noticed: it is done at every start.
    sets, shots = question_sets(recipe, book.note)
    key = {name: fingerprint_of_all(map(plain, questions)) for name, questions in sets.items()}
    with book.step("questions", key | {"shots": plain_shots(shots)}, [*files.values(), shots_file]) as todo:
        if todo:
            for name, questions in sets.items():
                write_records(files[name], questions, Question)
            write_records(shots_file, all_of(shots), Question)
    counts = ", ".join(f"{len(questions)} {name}" for name, questions in sets.items())
    book.say(f"{counts} questions; {len(all_of(shots))} more serve as worked examples")
    return files["train"], shots, {name: files[name] for name in recipe.tests}


def _prompts(recipe: Recipe, book: Book, models: Models, pool: Path, shots: Shots, tests: Mapping[str, Path]) -> None:
    """Every prompt of the run, for a reader."""
    out = book.folder / "prompts.txt"
    sets = {"train": pool, **tests}
    asked = {name: next(iter_records(path, Question)) for name, path in sets.items()}
    key = {
        "template": models.tokenizer_key(),
        "asked": {name: plain(question) for name, question in asked.items()},
        "shots": plain_shots(shots),
        "strategies": recipe.strategies,
        "prompt": recipe.prompt.model_dump(),
        "probe": recipe.probe.model_dump(include={"samples", "max_new_tokens"}),
        "evaluation": recipe.evaluation.model_dump(include={"choice", "max_new_tokens"}),
    }
    with book.step("prompts", key, [out]) as todo:
        if todo:
            text = shown_prompts(recipe, models.tokenizer(), asked, shots)
            with atomic(out) as file:
                file.write(text.encode(errors="replace"))


def _probe(
    recipe: Recipe,
    book: Book,
    models: Models,
    pool: Path,
    shots: Shots,
    which: str,
    adapter: Path | None,
) -> Path:
    """Knowledge state of the whole pool under the initial or the rehearsed model."""
    out = book.folder / f"knowledge/{which}.parquet"
    key = {
        "model": models.key(adapter),
        "questions": book.digest(pool),
        "shots": plain_shots(shots),
        "prompt": _probe_prompt(recipe.prompt),
        "probe": recipe.probe.model_dump(exclude={"shard"}),
        "seed": recipe.seed,
    }
    with book.step(f"knowledge/{which}", key, [out]) as todo:
        if todo:
            loaded = models.load(adapter)
            states = probe_in_shards(
                loaded,
                iter_records(pool, Question),
                count_rows(pool),
                shots,
                recipe.prompt,
                recipe.probe,
                seed=recipe.seed,
                shards=out.with_name(f"{which}.{fingerprint_of([key, recipe.probe.shard])[:12]}.shards"),
                what=f"probe {which}",
            )
            write_records(out, states, KnowledgeState)
    for leftover in out.parent.glob(f"{which}.*.shards"):  # only now that the manifest has the whole
        shutil.rmtree(leftover)
    return out


def _rehearse(recipe: Recipe, book: Book, models: Models, initial: Path) -> Path:
    """Fine-tune the initial model on what it knows best (paper section 3.1)."""
    folder = book.folder / "rehearsal"
    outputs = [folder / "examples.jsonl", folder / "losses.json", folder / "adapter"]
    key = {
        "model": models.key(None),
        "initial": book.digest(initial),
        "rehearsal": recipe.rehearsal.model_dump(),
        "prompt": _probe_prompt(recipe.prompt),
        "seed": recipe.seed,
    }
    with book.step("rehearsal", key, outputs) as todo:
        if todo:
            chosen, note = rehearsal_examples(models.tokenizer(), initial, recipe)
            book.note(note)
            write_records(outputs[0], chosen, Example)
            fine_tune_into(models, chosen, recipe.rehearsal.tuning, folder, key, seed=recipe.seed, what="rehearse")
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return outputs[2]


def _flow(book: Book, initial: Path, rehearsed: Path) -> Path:
    out = book.folder / "knowledge/flow.parquet"
    with book.step("knowledge/flow", {"of": [book.digest(initial), book.digest(rehearsed)]}, [out]) as todo:
        if todo:
            write_records(out, flows(bare_states(initial), bare_states(rehearsed)), KnowledgeFlow)
    return out


def _construct(recipe: Recipe, book: Book, models: Models, strategy: str, initial: Path, flow: Path | None) -> Path:
    """Decide about every question, and make the tuning examples."""
    folder = book.folder / strategy
    outputs = [folder / "decisions.parquet", folder / "examples.jsonl"]
    settings = seeded(recipe)
    key = {
        "strategy": strategy,
        "initial": book.digest(initial),
        "flow": book.digest(flow) if flow else None,
        "construction": settings.model_dump(),
        "prompt": recipe.prompt.model_dump(),
        "template": models.tokenizer_key(),
    }
    with book.step(f"{strategy}/construction", key, outputs) as todo:
        if todo:
            states = list(bare_states(initial))
            selection = construct(strategy, states, iter_records(flow, KnowledgeFlow) if flow else None, settings)
            for note in selection.notes:
                book.note(note)
            write_records(outputs[0], selection.decisions, Decision)
            made = tuning_examples(models.tokenizer(), states, selection.decisions, recipe.prompt)
            write_records(outputs[1], made, Example)
            counts = summarise(selection.decisions)
            sizes = ", ".join(f"{sum(kinds.values())} {role}" for role, kinds in counts.items())
            book.say(f"{strategy}: {sizes}")
    return outputs[1]


def _tune(recipe: Recipe, book: Book, models: Models, strategy: str, made: Path) -> Path:
    folder = book.folder / strategy
    outputs = [folder / "adapter", folder / "losses.json"]
    key = {
        "model": models.key(None),
        "examples": book.digest(made),
        "tuning": recipe.tuning.model_dump(),
        "seed": recipe.seed,
    }
    with book.step(f"{strategy}/tuning", key, outputs) as todo:
        if todo:
            chosen = read_records(made, Example)
            fine_tune_into(models, chosen, recipe.tuning, folder, key, seed=recipe.seed, what=f"tune {strategy}")
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return outputs[0]


def _evaluate(
    recipe: Recipe,
    book: Book,
    models: Models,
    tests: Mapping[str, Path],
    method: str,
    shots: Shots,
    may_refuse: bool,
    adapter: Path | None,
) -> dict[str, Path]:
    """Greedy answers to every test set, judged. A base model that was not tuned is shown worked examples."""
    made: dict[str, Path] = {}
    for name, questions_file in tests.items():
        out = made[name] = book.folder / method / f"{name}.verdicts.parquet"
        key = {
            "model": models.key(adapter),
            "questions": book.digest(questions_file),
            "shots": plain_shots(shots),
            "prompt": recipe.prompt.model_dump(
                exclude={"shots", "shots_from"} | (set() if may_refuse else {"refusal_instruction"})
            ),
            "may_refuse": may_refuse,
            "evaluation": recipe.evaluation.model_dump(exclude={"resamples"}),
        }
        with book.step(f"{method}/{name}", key, [out]) as todo:
            if todo:
                loaded = models.load(adapter)
                own = {} if uses_chat(loaded.tokenizer, recipe.prompt) else shots
                questions = read_records(questions_file, Question)
                what = f"evaluate {method} on {name}"
                write_records(out, answer_all(loaded, questions, own, may_refuse, recipe, what), Verdict)
    return made


def _score(
    recipe: Recipe, book: Book, method: str, verdicts: Mapping[str, Path], baseline: Mapping[str, Path]
) -> dict[str, Any]:
    out = book.folder / method / "metrics.json"
    key = {
        "verdicts": {name: book.digest(path) for name, path in verdicts.items()},
        "baseline": {name: book.digest(path) for name, path in baseline.items()},
        "resamples": recipe.evaluation.resamples,
        "seed": recipe.seed,
    }
    with book.step(f"{method}/metrics", key, [out]) as todo:
        if todo:
            resamples = recipe.evaluation.resamples
            metrics = {}
            for name, path in verdicts.items():
                after, before = read_records(path, Verdict), read_records(baseline[name], Verdict)
                groups = groups_of(verdict.category for verdict in after)
                found = evaluate(after, before, groups=groups, seed=recipe.seed, resamples=resamples)
                metrics[name] = to_json(found)
            write_json(out, metrics)
    metrics_read: dict[str, Any] = json.loads(out.read_text("utf-8"))
    return metrics_read


def _probe_prompt(prompt: Prompt) -> dict[str, Any]:
    """What of the prompt a plain question depends on; the worked examples stand in the key themselves."""
    return prompt.model_dump(include={"style", "instruction", "system", "choice"})
