"""Why a tuned model says what it says: what the initial model says, and what lies near in the training examples.

    known = background(tuned)                           # once
    why = explain(tuned, known, ask(tuned, asked("Who wrote Emma?")))
    why.said, why.decision, why.nearest

The initial model is the tuned one with its adapter switched off. A question of the run has its recorded state, any
other is put now as the probe would put it. Near is what lies near in the initial model's own feature space
(`rait.models.features`), the one in which the conflicts of a training set are measured; no other model is needed.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rait.asking import Reply, Tuned, rule_of
from rait.diagnosis import read_features
from rait.inert import inert
from rait.judging import match
from rait.knowledge.choices import option_probabilities
from rait.manifest import intact
from rait.models.features import Features, last_states, nearest
from rait.models.loading import LoadedModel, load
from rait.progress import progress
from rait.prompting import Renderer, Shots
from rait.recipe import Recipe
from rait.records import Decision, KnowledgeState, Question, Role
from rait.seeding import seed_for
from rait.sets import split_shots
from rait.tables import iter_records, read_records

NEAREST = 5  # training examples that are shown for a question
_SAID = 5  # answers of the initial model that are shown to people


@dataclass(frozen=True, slots=True)
class Said:
    """An answer of the initial model with the number of samples that are it, or an option with its probability."""

    text: str
    weight: float
    correct: bool | None


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A training example and the cosine, in [-1, 1], of its features with those of the question that was asked."""

    id: str
    question: str
    role: Role
    similarity: float


@dataclass(frozen=True, slots=True)
class Why:
    """What the initial model says to a question, and what the tuned one was taught about it and about its neighbours.

    `recorded` says whether it is the state that the run has; otherwise the model was asked now, as the probe asks, and
    correctness is None unless the right answer is known. `said` stands in descending order of weight.
    """

    recorded: bool
    correctness: float | None
    certainty: float | None
    greedy: str | None
    said: tuple[Said, ...]
    decision: Decision | None
    nearest: tuple[Neighbour, ...]


@dataclass(frozen=True, slots=True)
class Background:
    """What `explain` looks at, read once. `points` (taught, hidden) are the features of the questions `taught`.

    `initial` is the untuned model where that is not the tuned one without its adapter: after full fine-tuning.
    """

    render: Renderer
    decisions: Mapping[str, Decision]
    taught: tuple[Question, ...]
    points: Features
    initial: LoadedModel | None


def background(tuned: Tuned) -> Background:
    """What is needed to explain replies: the probe's prompt, and where the training examples lie."""
    recipe, folder = tuned.recipe, tuned.folder
    path = intact(tuned.adapter.parent / "decisions.parquet")
    decisions = {decision.id: decision for decision in (read_records(path, Decision) if path.is_file() else ())}
    taken = {id for id, decision in decisions.items() if decision.role is not Role.DROPPED}
    pool = intact(folder / "questions/train.parquet")
    text_of = {question.id: question for question in iter_records(pool, Question, only=taken)} if taken else {}
    initial = None if _adapted(tuned.loaded) else load(recipe.model)
    features = folder / "knowledge/features.parquet"
    ids, points = read_features(intact(features), "train", text_of) if features.is_file() else ([], None)
    if missing := sorted(text_of.keys() - set(ids)):  # taken by another seed than the run's own
        texts = [text_of[id].question for id in missing]
        with untuned(tuned, initial) as model, progress("features", len(texts), "question") as advance:
            more = last_states(model, texts, advance)
        ids, points = [*ids, *missing], more if points is None else np.vstack([points, more])
    return Background(
        render=Renderer(tuned.loaded.tokenizer, recipe.prompt, _shots(folder, recipe)),
        decisions=decisions,
        taught=tuple(text_of[id] for id in ids),
        points=np.zeros((0, 0), dtype=np.float32) if points is None else points,
        initial=initial,
    )


def explain(tuned: Tuned, known: Background, reply: Reply) -> Why:
    """What the initial model says to the question of `reply`, and the training examples that are nearest to it."""
    question = reply.question
    with untuned(tuned, known.initial) as model:
        why = _recorded(tuned, reply) or _asked_now(tuned, known, model, question)
        others = [place for place, other in enumerate(known.taught) if other.id != question.id]
        near: tuple[Neighbour, ...] = ()
        if others:
            point = last_states(model, [question.question], lambda _: None)
            (places,), (cosines,) = nearest(point, known.points[others], NEAREST)
            near = tuple(
                Neighbour(other.id, other.question, known.decisions[other.id].role, float(cosine))
                for other, cosine in zip((known.taught[others[place]] for place in places), cosines, strict=True)
            )
    return replace(why, decision=known.decisions.get(question.id), nearest=near)


@contextmanager
def untuned(tuned: Tuned, initial: LoadedModel | None = None) -> Iterator[LoadedModel]:
    """The initial model: `initial` if given, else the tuned one, whose adapter is off inside the block."""
    if initial is not None:
        yield initial
        return
    layers = _adapted(tuned.loaded)
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield tuned.loaded
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def _adapted(loaded: LoadedModel) -> list[Any]:
    """The layers of a model that have an adapter; none after full fine-tuning."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [module for module in loaded.model.modules() if isinstance(module, BaseTunerLayer)]


def _shots(folder: Path, recipe: Recipe) -> Shots:
    """The worked examples of the run, as its probe had them."""
    if recipe.prompt.shots_from is not None:
        return split_shots((), recipe)[0]
    return {"": read_records(intact(folder / "questions/shots.parquet"), Question)}


def _recorded(tuned: Tuned, reply: Reply) -> Why | None:
    """The state that the run recorded of the question, if it has one of these very words and options."""
    if reply.found is None:
        return None
    name = "initial" if reply.found == "train" else f"tests/{reply.found}"
    path = intact(tuned.folder / f"knowledge/{name}.parquet")
    if not path.is_file():
        return None
    asked = reply.question
    for state in iter_records(path, KnowledgeState, only=[asked.id]):
        if state.question != asked.question or state.options != asked.options:
            return None
        if state.options:
            said = _options(asked, state.probabilities)
        else:
            said = tuple(Said(one.text, one.count, one.correct) for one in state.responses)
        return Why(True, state.correctness, state.certainty, state.greedy, said, None, ())
    return None


def _asked_now(tuned: Tuned, known: Background, model: LoadedModel, question: Question) -> Why:
    """What the initial model says now, asked as the probe asks."""
    if question.options:
        ((_, probabilities),) = option_probabilities(model, [question], known.render)
        mu = None if question.target is None else probabilities[question.target]
        return Why(False, mu, None, None, _options(question, probabilities), None, ())
    from rait.models.sampler import Sampling, draw

    probe = tuned.recipe.probe
    sampling = Sampling(probe.samples, probe.temperature, probe.max_new_tokens, greedy=True)
    seed = seed_for(tuned.recipe.seed, "probe", question.id or question.question)
    ((_, drawn),) = draw(model.model, model.tokenizer, [known.render(question)], [seed], sampling)
    right = {text: bool(match(text, question.answers)) if question.answers else None for text in drawn.counts}
    said = sorted((Said(text, count, right[text]) for text, count in drawn.counts.items()), key=lambda s: -s.weight)
    mu = sum(one.weight for one in said if one.correct) / probe.samples if question.answers else None
    return Why(False, mu, None, drawn.greedy, tuple(said), None, ())


def _options(question: Question, probabilities: Sequence[float]) -> tuple[Said, ...]:
    pairs = enumerate(zip(question.options, probabilities, strict=True))
    right = question.target
    said = [Said(text, share, None if right is None else place == right) for place, (text, share) in pairs]
    return tuple(sorted(said, key=lambda one: -one.weight))


def as_json(why: Why) -> dict[str, Any]:
    """The reasons as plain data."""
    return {
        "recorded": why.recorded,
        "correctness": why.correctness,
        "certainty": why.certainty,
        "greedy": why.greedy,
        "said": [asdict(one) for one in why.said],
        "decision": None if why.decision is None else asdict(why.decision),
        "nearest": [asdict(each) for each in why.nearest],
    }


def format_why(tuned: Tuned, reply: Reply, why: Why) -> str:
    """The reasons as lines for people."""
    lines = []
    if reply.threshold is not None:
        lines.append(f"{tuned.name} {rule_of(reply.threshold)}")
    if reply.refused and reply.answer is not None and reply.answer != reply.response:
        lines.append(f"without refusing it says: {reply.answer}")
    state = [f"recorded in {reply.found}" if why.recorded else "asked now"]
    state += [f"correctness {why.correctness:.2f}"] if why.correctness is not None else ["correctness unknown"]
    state += [f"certainty {why.certainty:.2f}"] if why.certainty is not None else []
    lines.append(f"the initial model ({', '.join(state)}):")
    if why.greedy is not None:
        lines.append(f"    greedy  {why.greedy}")
    for one in why.said[:_SAID]:
        weight = f"{one.weight:6.2f}" if reply.question.options else f"{one.weight:5g}x"
        lines.append(f"    {weight}  {one.text}" + ("  (right)" if one.correct else ""))
    if len(why.said) > _SAID:
        lines.append(f"            and {len(why.said) - _SAID} more")
    if why.decision is not None:
        dropped = why.decision.role is Role.DROPPED
        use = "left it out of training" if dropped else f"was taught it as {why.decision.role}"
        lines.append(f"{tuned.name} {use} ({why.decision.reason})")
    lines.append("nearest in training, by cosine:" if why.nearest else "nearest in training: n/a, no decisions there")
    lines += [f"    {each.similarity:6.3f}  {each.role:<7}  {each.question}" for each in why.nearest]
    return "\n".join(f"  {inert(line)}" for line in lines)
