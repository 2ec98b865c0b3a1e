"""The stages with what surrounds them: models on demand, shards, progress, prompts.

`rait.pipeline` puts them in order, `rait.commands` offers them one by one; neither does a stage's work itself.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rait.book import versions
from rait.construction import (
    Reader,
    Strategy,
    Wording,
    as_it_is,
    drawn,
    examples,
    find_strategy,
    split_by_correctness,
)
from rait.errors import InputError, ModelError, RecipeError, UndefinedError, check_failed, some
from rait.evaluation.answering import answer, scores_options
from rait.evaluation.dial import NEVER, choose, to_json
from rait.evaluation.metrics import failures
from rait.formats import current
from rait.knowledge.estimators import with_certainty
from rait.knowledge.query import query
from rait.knowledge.rehearsal import select, target
from rait.manifest import fingerprint_of
from rait.models.context import REASONS, obstacle
from rait.models.loading import (
    LoadedModel,
    check_devices,
    fingerprint,
    load,
    load_tokenizer,
    locate,
    release,
)
from rait.progress import Say, progress, say
from rait.prompting import Renderer, Shots, choices_of
from rait.recipe import Construction, Dial, Probe, Prompt, Recipe, Tuning
from rait.records import Decision, Example, Failure, Influence, KnowledgeState, Question, Role, Verdict
from rait.settings import DIAL_FILE
from rait.shards import in_shards
from rait.tables import atomic, iter_records, read_records, write_data

if TYPE_CHECKING:
    from rait.tuning.sft import TuningResult

CANDIDATES = 4
"""Unknown questions whose influence is measured, for each that is taken."""


@dataclass(slots=True)
class Models:
    """Models on demand: the same one twice in a row is loaded once."""

    recipe: Recipe
    say: Say
    _mark: str | None = None
    _current: tuple[Path | None, LoadedModel] | None = None

    def key(self, adapter: Path | None) -> dict[str, Any]:
        """What identifies a model: its fingerprint, its precision, and the fingerprint of what was tuned."""
        if self._mark is None:
            self._mark = fingerprint(locate(self.recipe.model, self.say))
        tuned = fingerprint(adapter) if adapter else None
        return {"base": self._mark, "dtype": self.recipe.model.dtype, "tuned": tuned}

    def tokenizer_key(self) -> str:
        """What identifies the form of the prompts."""
        return str(self.key(None)["base"])

    def tokenizer(self) -> Any:
        """The tokenizer alone, where no weights are needed."""
        return self._current[1].tokenizer if self._current else load_tokenizer(self.recipe.model)

    def load(self, adapter: Path | None) -> LoadedModel:
        """The model, to be asked and not changed."""
        if self._current is None or self._current[0] != adapter:
            self._current = None  # free the old one first
            release()
            loaded = load(self.recipe.model, adapter=adapter, say=self.say)
            if loaded.fingerprint != self.key(None)["base"]:
                raise ModelError(
                    f"the files of the model {loaded.source} have changed since this began, and its parts would not "
                    "belong together; start it again"
                )
            self._current = (adapter, loaded)
        return self._current[1]

    def take(self) -> LoadedModel:
        """The untuned model, to be changed by the caller."""
        check_devices()
        loaded = self.load(None)
        self._current = None
        return loaded


def seeded(recipe: Recipe) -> Construction:
    """The recipe's construction, drawing by the recipe's seed where it has none of its own."""
    settings = recipe.construction
    return settings if settings.seed is not None else settings.model_copy(update={"seed": recipe.seed})


def check_words(strategies: Sequence[Strategy], recipe: Recipe) -> None:
    """Raise `RecipeError` where strategies teach words around an answer, and options would be compared as answers."""
    worded = [strategy.name for strategy in strategies if strategy.read is not as_it_is]
    if worded and scores_options(recipe.evaluation, recipe.prompt):
        raise RecipeError(
            f"{', '.join(worded)} teach more words than an answer, so options cannot be compared as answers; set "
            "evaluation.choice=generate, or leave these strategies out"
        )


def askable(
    loaded: LoadedModel, questions: Iterable[Question], render: Renderer, probe: Probe
) -> tuple[int, dict[str, str]]:
    """How many `questions` can be asked, and why the others cannot, by id."""
    count, failed = 0, dict[str, str]()
    for question in questions:
        choices = render.choices(question) if question.options else ()
        further = 0 if question.options else probe.max_new_tokens
        if rule := obstacle(loaded, render(question), further, choices):
            failed[question.id] = REASONS[rule]
        else:
            count += 1
    return count, failed


def embedder_of(questions: Iterable[Question], probe: Probe) -> str | None:
    """The fingerprint of the sentence model that answers are embedded by; None where options are scored instead."""
    from rait.models.embedding import embedder_mark

    first = next(iter(questions), None)
    return None if first is None or first.options else embedder_mark(probe.embedder)


def probe_in_shards(
    loaded: LoadedModel,
    questions: Callable[[], Iterable[Question]],
    shots: Shots,
    recipe: Recipe,
    *,
    embedder: str | None,
    shards: Path,
    what: str,
    say: Say,
) -> tuple[Iterator[KnowledgeState], list[Failure]]:
    """Query the knowledge state of all questions, saving a file in `shards` every `probe.shard`; the states, by then.

    `questions` gives them anew each time, in the same order. Those that cannot be asked have no state; they are the
    second result. Raises `InputError`, before any is asked, where they are too many (`max_failed`). The states are read
    from the shards, see `rait.shards`, as they are asked for. The caller removes the folder when all is safe elsewhere.
    `embedder` is what `embedder_of` gives for them.
    """
    from rait.models.embedding import load_embedder

    probe = recipe.probe
    render = Renderer(loaded.tokenizer, recipe.prompt, shots)
    count, failed = askable(loaded, questions(), render, probe)
    check_failed(failed, count + len(failed), recipe.max_failed)
    if not count:
        raise InputError(f"{what}: none of {len(failed)} questions can be asked; take a model with a longer context")

    def query_all(asked: Iterator[Question]) -> Iterator[KnowledgeState]:
        embed = load_embedder(probe.embedder, embedder) if embedder else None  # options are scored, not embedded
        return query(loaded, asked, render, probe, embed, seed=recipe.seed, advance=advance, say=say)

    fitting = (question for question in questions() if question.id not in failed)
    with progress(what, count, "question") as advance:
        states = in_shards(shards, fitting, count, probe.shard, KnowledgeState, query_all, say=say, skip=advance)
    return states, [Failure(id=id, reason=reason) for id, reason in failed.items()]


def failures_of(states: Path) -> Path:
    """The file beside the states of a probe that holds the questions which could not be asked, if there are any."""
    return states.with_suffix(".failed.jsonl")


def bare_states(states: Path) -> Iterator[KnowledgeState]:
    """The states of a file without their responses, which take most of the room and which few stages look at."""
    return iter_records(states, KnowledgeState, without=("responses",))


def rehearsal_examples(tokenizer: Any, states: Path, recipe: Recipe) -> tuple[list[Example], str]:
    """The rehearsal set, each question with the model's own most frequent correct answer, and a note."""
    chosen = select(list(bare_states(states)), recipe.rehearsal, recipe.seed)
    ids = [state.id for state in chosen.states]
    whole = {state.id: state for state in iter_records(states, KnowledgeState, only=ids)}
    render = Renderer(tokenizer, recipe.prompt)
    made = [
        Example(
            id=id,
            prompt=render(whole[id]),
            completion=render.completion(target(whole[id], recipe.prompt.choice)),
            role=Role.VANILLA,
        )
        for id in ids
    ]
    return made, chosen.note


def construction_states(strategies: Sequence[str], initial: Path, recipe: Recipe) -> list[KnowledgeState]:
    """The initial states as `strategies` see them: with the certainty that the recipe asks for, and what they need."""
    wanted = recipe.construction.certainty
    sampled = wanted in ("exact_entropy", "embedding_entropy", "sequence_log_probability")
    if sampled or any("responses" in find_strategy(name).needs for name in strategies):
        states = list(iter_records(initial, KnowledgeState))
    else:
        states = list(bare_states(initial))
    if wanted == "cosine":
        return states
    from rait.models.embedding import load_embedder

    return with_certainty(states, wanted, load_embedder(recipe.probe.embedder) if "embedding" in wanted else None)


def tuning_examples(
    tokenizer: Any, strategy: str, initial: Path, decisions: Sequence[Decision], prompt: Prompt
) -> list[Example]:
    """The examples of a selection among the states of a file, in the tuning prompt, which invites a refusal."""
    render = Renderer(tokenizer, prompt, may_refuse=True)
    taken = [decision.id for decision in decisions if decision.role is not Role.DROPPED]
    without = () if "responses" in find_strategy(strategy).needs else ("responses",)
    states = list(iter_records(initial, KnowledgeState, only=taken, without=without))

    def wording(state: KnowledgeState) -> Wording:
        answer = render.answer(state) if state.answers or state.options else ""
        return Wording(answer, prompt.refusal, choices_of(state, prompt.choice))

    return examples(strategy, states, decisions, render, wording, render.completion)


def measured_influences(
    rehearsed: LoadedModel, initial: Path, recipe: Recipe, *, shards: Path, say: Say
) -> list[Influence]:
    """What refusing unknown questions would do to others, at the rehearsed model (GRAIT, arXiv 2502.05911).

    A gradient costs as much as a training step of one example. So it is measured of `CANDIDATES` unknown questions for
    each that is to be taken, drawn at random, against these and as many known ones. What is done is saved in `shards`
    as in a probe (`probe_in_shards`).
    """
    from rait.tuning.influence import influences

    settings = seeded(recipe)
    known, unknown, _ = split_by_correctness(list(bare_states(initial)), settings)
    render = Renderer(rehearsed.tokenizer, recipe.prompt, may_refuse=True)
    refusal = render.completion(recipe.prompt.refusal)
    kept, idk = (
        [
            Example(id=state.id, prompt=render(state), completion=refusal, role=Role.IDK)
            for state in drawn(part, role, settings).states[: CANDIDATES * max(1, settings.idk)]
        ]
        for part, role in ((known, Role.VANILLA), (unknown, Role.IDK))
    )
    with progress("influence", 2 * len(idk) + len(kept), "question") as advance:
        return influences(rehearsed, idk, kept, shards, shard=recipe.probe.shard, advance=advance, say=say)


def fine_tune_into(
    models: Models,
    made: Sequence[Example],
    tuning: Tuning,
    folder: Path,
    key: Mapping[str, Any],
    *,
    seed: int,
    what: str,
    say: Say = say,
) -> "TuningResult":
    """Fine-tune a fresh copy of the model into `folder`, going on from checkpoints of the same key and versions only.

    Raises `InputError` where `folder`/checkpoints holds what is not a tuning's.
    """
    from rait.tuning.sft import fine_tune

    # Steps build on each other, so those of other versions are not gone on with.
    mark, known = folder / "checkpoints" / "key", fingerprint_of([key, tuning.micro_batch_size, versions()]).encode()
    if not mark.is_file() or mark.read_bytes() != known:
        if foreign := [] if mark.is_file() else [path.name for path in mark.parent.glob("[!.]*")]:
            raise InputError(
                f"{mark.parent} holds {some(foreign)}, which no tuning here has made; move it, or choose another folder"
            )
        clear_checkpoints(folder)
        with atomic(mark) as file:
            file.write(known)
    result = fine_tune(models.take(), made, tuning, folder, seed=seed, what=what, say=say)
    write_data(
        folder / "losses.json",
        {"losses": result.losses, "steps": result.steps, "seconds": result.seconds, "change": result.change},
    )
    return result


def clear_checkpoints(folder: Path) -> None:
    """Remove the checkpoints of a tuning, their key last: without it they would be taken for somebody else's."""
    place = folder / "checkpoints"
    for path in place.glob("checkpoint-*"):
        shutil.rmtree(path, ignore_errors=True)
    shutil.rmtree(place, ignore_errors=True)


def answer_all(
    loaded: LoadedModel,
    questions: Sequence[Question],
    shots: Shots,
    may_refuse: bool,
    recipe: Recipe,
    what: str,
    read: Reader = as_it_is,
    *,
    weigh: bool = False,
    shards: Path,
    say: Say,
) -> Iterator[Verdict]:
    """Greedy answers to `questions` after `shots`, understood by `read` and judged, with progress.

    With `weigh` they say how probable a refusal is, too, and what is answered without it. They are saved in `shards`
    as a probe is (`probe_in_shards`). Questions that cannot be asked have verdicts that say so.
    """
    render = Renderer(loaded.tokenizer, recipe.prompt, shots, may_refuse)

    def answers(asked: Iterator[Question]) -> Iterator[Verdict]:
        return answer(loaded, list(asked), render, recipe.evaluation, read, weigh=weigh, advance=advance, say=say)

    with progress(what, len(questions), "question") as advance:
        size = recipe.probe.shard
        return in_shards(shards, questions, len(questions), size, Verdict, answers, say=say, skip=advance)


def dial_obstacle(strategy: Strategy) -> str | None:
    """Why what a strategy teaches has no p(refuse) to be dialled, or None where it has."""
    if strategy.read is as_it_is:
        return None
    return f"{strategy.name} teaches words around an answer, or many refusals, so there is no one p(refuse)"


def set_dial(
    recipe: Recipe, verdicts: Mapping[str, Path], baseline: Mapping[str, Path], dial: Dial | None = None
) -> dict[str, Any]:
    """What dial.json holds: the threshold that `dial`, or the recipe's, finds, and what it brings on every test set.

    `verdicts` and `baseline`, those of the untuned model, are files by set, "calibration" among them. Where the target
    is not defined on them, "obstacle" says why. Raises `InputError` where they are not of the same questions, or have
    no p(refuse).
    """
    dial = recipe.dial if dial is None else dial
    read = {name: (read_records(verdicts[name], Verdict), read_records(baseline[name], Verdict)) for name in verdicts}
    for each in (each for both in read.values() for each in both):
        check_failed(failures(each), len(each), recipe.max_failed)
    try:
        choice = choose(*read.pop("calibration"), dial)
    except UndefinedError as obstacle:
        return no_dial(str(obstacle))
    return to_json(choice, dial, read, seed=recipe.seed, resamples=recipe.evaluation.resamples)


def no_dial(obstacle: str) -> dict[str, Any]:
    """What dial.json holds where there is no threshold, and why."""
    return {"obstacle": obstacle, "target": None, "threshold": None, "guarantee": None, "tests": {}}


def save_dial(adapter: Path, found: Mapping[str, Any], refusal: str) -> None:
    """Write the threshold of what dial.json holds beside the weights that it is for, or take an old one away."""
    path = adapter / DIAL_FILE
    if found["threshold"] is None:
        path.unlink(missing_ok=True)
        return
    own = {"threshold": found["threshold"], "refusal": refusal, "target": found["target"]}
    write_data(path, own | {"checksum": fingerprint_of(own)})  # it travels with the weights, without a manifest


def saved_threshold(adapter: Path, refusal: str) -> float | None:
    """The threshold that stands beside tuned weights, None for none; `refusal` must be the one that it is for.

    Raises `InputError` where the file cannot be read, and `RecipeError` where it is for another refusal.
    """
    path = adapter / DIAL_FILE
    if not path.is_file():
        return None
    try:
        found = current(json.loads(path.read_text("utf-8")), path)
        if found.pop("checksum") != fingerprint_of(found):
            raise ValueError("it was changed")
        threshold, taught = float(found["threshold"]), found["refusal"]
        if not 0 <= threshold <= NEVER:
            raise ValueError("a threshold on a probability lies between 0 and 1")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is damaged; set the dial again with `rait dial RUN --save`, or remove it") from error
    if taught != refusal:
        raise RecipeError(
            f"{path} is for the refusal {taught!r}, and prompt.refusal is {refusal!r}; give both the same words"
        )
    return threshold
