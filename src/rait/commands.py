"""Single stages on files, as the command line offers them.

states = probe_to_file(recipe, Path("states.parquet"), adapter=None, say=print)
"""

import shutil
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from rait.book import sweep
from rait.construction import all_strategies, as_it_is, construct, find_strategy, summarise
from rait.construction.preview import Preview, preview
from rait.diagnosis import write_conflicts
from rait.errors import InputError, RecipeError, some
from rait.evaluation.dial import applied
from rait.export.formats import ROWS, Marks, marks_of, notes_on, reworded, taught
from rait.keys import evaluation_key, influence_key, probe_key, tuning_key
from rait.knowledge.flow import flows
from rait.locking import locked
from rait.manifest import checksum, fingerprint_of, fingerprint_of_all, intact, read_manifest, recipe_of, write_down
from rait.models.features import last_states
from rait.models.loading import load, load_tokenizer, locate
from rait.models.memory import within_limit
from rait.progress import Say, progress
from rait.prompting import Renderer, Shots
from rait.recipe import Dial, Recipe, Tuning
from rait.records import Decision, Example, Failure, Influence, KnowledgeFlow, KnowledgeState, Role, Verdict
from rait.sets import all_of, load_pool, load_set, plain, split_shots
from rait.settings import DIAL_FILE
from rait.stages import (
    Models,
    answer_all,
    bare_states,
    check_words,
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
    saved_threshold,
    seeded,
    set_dial,
    tuning_examples,
)
from rait.tables import prepare_target, read_data, read_records, write_data, write_records, write_rows

if TYPE_CHECKING:
    from rait.tuning.sft import TuningResult

FORMS = ("rait", *ROWS)  # of a file of examples


@within_limit
def probe_to_file(recipe: Recipe, out: Path, adapter: Path | None, say: Say) -> list[KnowledgeState]:
    """Query the recipe's questions and write their states to `out`; goes on from shards beside it.

    The states returned lack their responses.
    """
    prepare_target(out)
    questions = load_pool(recipe, say)
    shots, pool = split_shots(questions, recipe, say)
    if not pool:
        raise InputError(
            f"{recipe.questions.source} has {len(questions)} questions, and {len(all_of(shots))} of them serve as "
            "worked examples; give more questions or lower prompt.shots"
        )
    models = Models(recipe, say)
    loaded = models.load(adapter and intact(adapter))
    asked, embedder = fingerprint_of_all(map(plain, pool)), embedder_of(pool, recipe.probe)
    shards = _shards(out, probe_key(models.key(adapter), asked, shots, recipe, embedder), recipe)
    states, failed = probe_in_shards(
        loaded, lambda: pool, shots, recipe, embedder=embedder, shards=shards, what="probe", say=say
    )
    write_records(out, states, KnowledgeState)
    failures = failures_of(out)
    failures.unlink(missing_ok=True)
    if failed:
        write_records(failures, failed, Failure)
        say(f"{len(failed)} questions cannot be asked and are left out; {failures} names them")
    _clear_shards(out)
    return list(bare_states(out))


@within_limit
def rehearse_to_folder(recipe: Recipe, states: Path, folder: Path, say: Say) -> int:
    """Select and fine-tune for rehearsal; the number of examples."""
    models = Models(recipe, say)
    chosen, note = rehearsal_examples(models.tokenizer(), _held(states), recipe)
    say(note)
    write_records(folder / "examples.jsonl", chosen, Example)
    _tune_alone(models, recipe, chosen, recipe.rehearsal.tuning, folder, "rehearse")
    return len(chosen)


def flow_to_file(initial: Path, rehearsed: Path, out: Path) -> list[KnowledgeFlow]:
    """Join the states of two files and write the flow to `out`."""
    prepare_target(out)
    made = flows(bare_states(_held(initial)), bare_states(_held(rehearsed)))
    write_records(out, made, KnowledgeFlow)
    return made


def construct_to_file(
    recipe: Recipe,
    strategy: str,
    initial: Path,
    rehearsed: Path | None,
    out: Path,
    decisions: Path | None,
    *,
    influence: Path | None = None,
    form: str,
    with_model: bool,
) -> tuple[dict[str, dict[str, int]], tuple[str, ...]]:
    """Decide and write the examples; counts by role and reason, and notes.

    `form` is "rait", the columns of `Example`, or one of `rait.export.formats`. Prompts are plain unless `with_model`.
    """
    if form not in FORMS:
        raise RecipeError(f"unknown format {form!r}; known: {', '.join(FORMS)}")
    if form in ("llama-factory", "axolotl") and not with_model:
        raise RecipeError(f"{form} reads a text as it is, special tokens included; name their model with --model")
    prepare_target(out)
    flow = flows(bare_states(_held(initial)), bare_states(_held(rehearsed))) if rehearsed else None
    influences = read_records(intact(influence), Influence) if influence else None
    states = construction_states([strategy], _held(initial), recipe)
    selection = construct(strategy, states, flow, seeded(recipe), influences)
    tokenizer = load_tokenizer(recipe.model) if with_model else None
    made = tuning_examples(tokenizer, strategy, initial, selection.decisions, recipe.prompt)
    if decisions:
        write_records(decisions, selection.decisions, Decision)
    notes = selection.notes
    if form == "rait":
        write_records(out, made, Example)
    else:
        marks = marks_of(tokenizer, Renderer(tokenizer, recipe.prompt, may_refuse=True)) if tokenizer else Marks()
        pairs = taught(made, states, recipe.prompt, tokenizer)
        rows = [ROWS[form](pair, marks) for pair in pairs]
        write_rows(out, rows, pa.Table.from_pylist(rows).schema)
        notes = (*notes, *notes_on(pairs), *(reworded(form, marks) if form == "trl-chat" else ()))
    counts = summarise(selection.decisions)
    return {role.value: kinds for role, kinds in counts.items()}, notes


def preview_files(
    recipe: Recipe, strategies: Sequence[str] | None, initial: Path, rehearsed: Path | None, influence: Path | None
) -> Preview:
    """What `strategies`, or all there are, would take of the states in a file; nothing is written."""
    names = list(strategies) if strategies else [strategy.name for strategy in all_strategies()]
    flow = flows(bare_states(_held(initial)), bare_states(_held(rehearsed))) if rehearsed else None
    influences = read_records(intact(influence), Influence) if influence else None
    states = construction_states(names, _held(initial), recipe)
    return preview(states, flow, influences, seeded(recipe), names)


@within_limit
def influence_to_file(recipe: Recipe, adapter: Path, initial: Path, out: Path, say: Say) -> list[Influence]:
    """Measure on the rehearsed model what refusing unknown questions would do, for the strategy grait."""
    prepare_target(out)
    models = Models(recipe, say)
    rehearsed, settings = models.load(intact(adapter)), seeded(recipe).model_dump()
    key = influence_key(models.key(adapter), checksum(_held(initial)), settings, recipe.prompt)
    shards = _shards(out, key, recipe)
    made = measured_influences(rehearsed, initial, recipe, shards=shards, say=say)
    write_records(out, made, Influence)
    _clear_shards(out)
    return made


@within_limit
def conflicts_to_folder(
    recipe: Recipe, initial: Path, rehearsed: Path | None, decisions: Path, folder: Path, say: Say
) -> str:
    """Look for conflicts in the choice that a file of decisions holds; the essence in a sentence."""
    made = read_records(intact(decisions), Decision)
    taken = {decision.id for decision in made if decision.role is not Role.DROPPED}
    if not taken:
        raise InputError(f"{decisions} takes no question; give the decisions that rait construct wrote")
    text_of = {state.id: state.question for state in bare_states(_held(initial)) if state.id in taken}
    missing = sorted(taken - text_of.keys())
    if missing:
        raise InputError(
            f"{len(missing)} questions of {decisions} are not in {initial} ({some(missing)}); give its states"
        )
    ids = sorted(taken)
    loaded = load(recipe.model, say=say)
    with progress("features", len(ids), "question") as advance:
        points = last_states(loaded, [text_of[id] for id in ids], advance, ids=ids, say=say)
    flow = flows(bare_states(initial), bare_states(_held(rehearsed))) if rehearsed else None
    threshold = recipe.construction.threshold
    return write_conflicts(folder, decisions.stem, made, text_of, ids, points, flow, threshold, recipe.seed)


@within_limit
def tune_to_folder(recipe: Recipe, made: Path, folder: Path, say: Say) -> "TuningResult":
    """Fine-tune on a file of examples."""
    return _tune_alone(Models(recipe, say), recipe, read_records(intact(made), Example), recipe.tuning, folder, "tune")


@within_limit
def evaluate_to_file(
    recipe: Recipe,
    out: Path,
    adapter: Path | None,
    shots_from: str | None,
    *,
    may_refuse: bool,
    strategy: str | None,
    say: Say,
    dial: bool = True,
) -> list[Verdict]:
    """Answer the recipe's questions, judge, and write the verdicts to `out`.

    Greedy decoding decides what is refused, or with `dial` the threshold that stands beside what was tuned, if any: in
    the folder of the adapter, or without one in that of the model.
    Worked examples stand before each question if `shots_from` names a question set to draw them from. `strategy` names
    the one whose words the model was taught to put around its answers.
    """
    taught = find_strategy(strategy) if strategy else None
    if taught:
        check_words([taught], recipe)
    read = taught.read if taught else as_it_is
    prepare_target(out)
    questions = load_set(recipe.questions, recipe.seed, say)
    shots: Shots = {}
    if shots_from:
        source = recipe.questions.model_copy(update={"source": shots_from, "split": "train", "limit": None})
        shots, _ = split_shots(load_set(source, recipe.seed), recipe)
    elif recipe.prompt.shots_from:
        shots, _ = split_shots((), recipe)
    place = intact(adapter or locate(recipe.model, say))  # a merged model has its dial in its own folder
    if dial and may_refuse:
        intact(place / DIAL_FILE)
    threshold = saved_threshold(place, recipe.prompt.refusal) if dial and may_refuse else None
    models, weigh = Models(recipe, say), threshold is not None
    loaded, asked = models.load(adapter), fingerprint_of_all(map(plain, questions))
    key = evaluation_key(models.key(adapter), asked, shots, recipe, may_refuse=may_refuse, strategy=taught, weigh=weigh)
    shards = _shards(out, key, recipe)
    verdicts = list(
        answer_all(loaded, questions, shots, may_refuse, recipe, "evaluate", read, weigh=weigh, shards=shards, say=say)
    )
    if threshold is not None:
        say(f"refused where p(refuse) is at least {threshold:.4g}, as {place / DIAL_FILE} says")
        verdicts = applied(verdicts, threshold, recipe.prompt.refusal)
    write_records(out, verdicts, Verdict)
    _clear_shards(out)
    return verdicts


def dial_of_run(
    folder: Path, strategies: Sequence[str] | None, dial: Dial | None, *, save: bool
) -> dict[str, dict[str, Any]]:
    """What `dial` brings a finished run, by strategy; without one, the dial as it is set. No model is loaded.

    With `save` it is written down as dial.json and beside what was tuned, when it is known for all of them. Raises
    `RaitError` where the run has no verdicts on calibration questions, or not those of its recipe.
    """
    recipe = recipe_of(folder)
    wanted = list(strategies or recipe.strategies)
    unknown = [name for name in wanted if name not in recipe.strategies]
    if unknown:
        raise RecipeError(f"{folder} has no strategy {unknown[0]!r}; it has {', '.join(recipe.strategies)}")
    with locked(folder) if save else nullcontext():
        if save:
            sweep(folder, "**/.*.part")
        found = {name: _dial_of(folder, recipe, name, dial) for name in wanted}
        for name, own in found.items() if save else ():
            write_data(folder / name / "dial.json", own)
            save_dial(folder / name / "adapter", own, recipe.prompt.refusal)
            write_down(folder, [folder / name / "dial.json", folder / name / "adapter" / DIAL_FILE])
    return found


def _dial_of(folder: Path, recipe: Recipe, name: str, dial: Dial | None) -> dict[str, Any]:
    """What `dial` brings one strategy of a run, of the verdicts that its manifest lists."""
    if obstacle := dial_obstacle(find_strategy(name)):
        return no_dial(obstacle)
    steps = read_manifest(folder)["steps"]
    listed = {file for step in steps.values() for file in step["files"]}
    verdicts, baseline = (
        {test: folder / method / f"{test}.verdicts.parquet" for test in ("calibration", *recipe.tests)}
        for method in (name, "init_basic")
    )
    for path in (*verdicts.values(), *baseline.values()):
        if path.relative_to(folder).as_posix() not in listed:
            raise InputError(
                f"there is no finished {path}: the run is not finished, or its recipe has no calibration questions; "
                f"give `rait run {folder / 'recipe.yaml'} --out {folder}` calibration questions and let it finish"
            )
        intact(path)
    if dial is None and f"{name}/dial" in steps:
        return read_data(intact(folder / name / "dial.json"))
    return set_dial(recipe, verdicts, baseline, dial)


def _shards(out: Path, key: Mapping[str, Any], recipe: Recipe) -> Path:
    """The folder for what is saved on the way to `out`: of no other key and of no other size."""
    return out.with_name(f".{out.name}.{fingerprint_of([key, recipe.probe.shard])[:12]}.shards")


def _clear_shards(out: Path) -> None:
    """Remove what was saved on the way to `out`, whatever its key."""
    for leftover in out.parent.glob(f".{escape(out.name)}.*.shards"):
        shutil.rmtree(leftover, ignore_errors=True)


def _held(states: Path) -> Path:
    """Return `states`, a file that holds some; raise `InputError` for one that holds none, or is damaged."""
    if next(bare_states(intact(states)), None) is None:
        raise InputError(f"{states} holds no states; give the file that rait probe wrote")
    return states


def _tune_alone(
    models: Models, recipe: Recipe, made: Sequence[Example], tuning: Tuning, folder: Path, what: str
) -> "TuningResult":
    taught = fingerprint_of([[example.prompt, example.completion, example.weight] for example in made])
    key = tuning_key(models.key(None), taught, tuning, recipe.seed)
    result = fine_tune_into(models, made, tuning, folder, key, seed=recipe.seed, what=what)
    clear_checkpoints(folder)
    return result
