"""The stages with what surrounds them: models on demand, shards, progress, prompts.

`rait.pipeline` puts them in order, `rait.commands` offers them one by one; neither does a stage's work itself.
"""

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rait.construction import examples
from rait.errors import InputError, some
from rait.evaluation.answering import answer
from rait.knowledge.query import query
from rait.knowledge.rehearsal import select, target
from rait.manifest import Say, fingerprint_of
from rait.models.loading import LoadedModel, fingerprint, load, load_tokenizer, locate, release
from rait.progress import progress
from rait.prompting import Renderer, Shots, choose_shots, shots_by_category
from rait.questions import read_questions, without_leaks
from rait.recipe import Construction, Probe, Prompt, Questions, Recipe, Tuning
from rait.records import Decision, Example, KnowledgeState, Question, Role, Verdict
from rait.tables import atomic, batched, iter_records, write_json, write_records

if TYPE_CHECKING:
    from rait.tuning.sft import TuningResult


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
            self._current = (adapter, load(self.recipe.model, adapter=adapter, say=self.say))
        return self._current[1]

    def take(self) -> LoadedModel:
        """The untuned model, to be changed by the caller."""
        loaded = self.load(None)
        self._current = None
        return loaded


def load_set(source: Questions, seed: int, say: Say = lambda _: None) -> list[Question]:
    """The questions that a recipe names; `say` is told what was left out of them and why."""
    reading = read_questions(source, seed)
    if reading.dropped:
        reasons = ", ".join(f"{count} {reason}" for reason, count in reading.dropped.items())
        say(f"{source.source}: {sum(reading.dropped.values())} left out: {reasons}")
    return reading.questions


def load_pool(recipe: Recipe, say: Say = lambda _: None) -> list[Question]:
    """The questions to be probed and learned from; raise `InputError` unless they are all of one kind.

    The certainty of sampled answers and that of options are on different scales, and selection compares them.
    """
    questions = load_set(recipe.questions, recipe.seed, say)
    choices = [question.id for question in questions if question.options]
    others = [question.id for question in questions if not question.options]
    if choices and others:
        raise InputError(
            f"{recipe.questions.source} holds {len(choices)} multiple-choice questions ({some(choices)}) and "
            f"{len(others)} open-ended ones ({some(others)}), whose certainties cannot be compared; give each a run of "
            "its own, or set questions.options=drop"
        )
    return questions


def seeded(recipe: Recipe) -> Construction:
    """The recipe's construction, drawing by the recipe's seed where it has none of its own."""
    settings = recipe.construction
    return settings if settings.seed is not None else settings.model_copy(update={"seed": recipe.seed})


def split_shots(
    questions: Sequence[Question], recipe: Recipe, say: Say = lambda _: None
) -> tuple[Shots, list[Question]]:
    """The worked examples, and the questions that are left to be asked; `say` is told of any that are both."""
    if recipe.prompt.shots_from is not None:
        source = load_set(recipe.prompt.shots_from, recipe.seed, say)
        shots_of = shots_by_category(source, recipe.prompt.shots, recipe.seed)
        left, asked_twice = without_leaks(questions, all_of(shots_of))
        if asked_twice:
            ids = some([question.id for question in asked_twice])
            say(f"{len(asked_twice)} questions are worked examples too and left out ({ids})")
        return shots_of, left
    shots = choose_shots(questions, recipe.prompt.shots, recipe.seed)
    taken = {shot.id for shot in shots}
    return {"": shots}, [question for question in questions if question.id not in taken]


def plain_shots(shots: Shots) -> dict[str, list[Any]]:
    """Worked examples as plain data, to be hashed."""
    return {category: [plain(shot) for shot in own] for category, own in shots.items()}


def all_of(shots: Shots) -> list[Question]:
    """Every worked example once."""
    return list({shot.id: shot for own in shots.values() for shot in own}.values())


def probe_in_shards(
    loaded: LoadedModel,
    questions: Iterable[Question],
    total: int,
    shots: Shots,
    prompt: Prompt,
    probe: Probe,
    *,
    seed: int,
    shards: Path,
    what: str,
) -> Iterator[KnowledgeState]:
    """Query the knowledge state of all `questions`, `total` in number, saving a file in `shards` every `probe.shard`.

    Files that are there already are not made again; the questions of the others are asked as one stream, which keeps
    the machine busy from the first to the last. When all are there, the states are read from them as they are asked
    for, in the order of the questions: a few shards are held at a time. The caller removes the folder when all is safe
    elsewhere.
    """
    from rait.models.embedding import load_embedder

    paths = [shards / f"{start:09d}.parquet" for start in range(0, total, probe.shard)]
    missing = [path for path in paths if not path.exists()]
    if missing:
        questions = iter(questions)
        first = next(questions)
        questions = chain([first], questions)
        embed = None if first.options else load_embedder(probe.embedder)  # options are scored, not embedded
        render = Renderer(loaded.tokenizer, prompt, shots)
        with progress(what, total, "question") as advance:

            def unasked() -> Iterator[Question]:
                wanted = set(missing)
                for path, part in zip(paths, batched(questions, probe.shard), strict=True):
                    if path in wanted:
                        yield from part
                    else:
                        advance(len(part))

            states = query(loaded, unasked(), render, probe, embed, seed=seed, advance=advance)
            # Only the last of all shards may be smaller than the others, so each fills the file of its questions.
            for path, part in zip(missing, batched(states, probe.shard), strict=True):
                write_records(path, part, KnowledgeState)
    return chain.from_iterable(iter_records(path, KnowledgeState) for path in paths)


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


def tuning_examples(
    tokenizer: Any, states: Sequence[KnowledgeState], decisions: Sequence[Decision], prompt: Prompt
) -> list[Example]:
    """The examples of a selection, in the tuning prompt, which invites a refusal."""
    render = Renderer(tokenizer, prompt, may_refuse=True)
    refusal = render.completion(prompt.refusal)
    return examples(states, decisions, render, lambda question: render.completion(render.answer(question)), refusal)


def fine_tune_into(
    models: Models,
    made: Sequence[Example],
    tuning: Tuning,
    folder: Path,
    key: Mapping[str, Any],
    *,
    seed: int,
    what: str,
) -> "TuningResult":
    """Fine-tune a fresh copy of the model into `folder`, going on from checkpoints of the same key only."""
    from rait.tuning.sft import fine_tune

    mark = folder / "checkpoints" / "key"
    if not mark.is_file() or mark.read_text("utf-8") != fingerprint_of(key):
        shutil.rmtree(mark.parent, ignore_errors=True)
        with atomic(mark) as file:
            file.write(fingerprint_of(key).encode())
    result = fine_tune(models.take(), made, tuning, folder, seed=seed, what=what)
    write_json(
        folder / "losses.json",
        {"losses": result.losses, "steps": result.steps, "seconds": result.seconds, "change": result.change},
    )
    return result


def answer_all(
    loaded: LoadedModel,
    questions: Sequence[Question],
    shots: Shots,
    may_refuse: bool,
    recipe: Recipe,
    what: str,
) -> list[Verdict]:
    """Greedy answers to `questions` after `shots`, judged, with progress."""
    render = Renderer(loaded.tokenizer, recipe.prompt, shots, may_refuse)
    with progress(what, len(questions), "question") as advance:
        return answer(loaded, questions, render, recipe.evaluation, advance=advance)


def plain(question: Question) -> list[Any]:
    """A question as plain data, to be hashed."""
    own = [question.id, question.question, list(question.answers), question.category]
    return [*own, list(question.options), question.target] if question.options else own
