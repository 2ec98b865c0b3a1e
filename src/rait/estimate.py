"""What a run will take, before anything is loaded but its questions and the tokenizer: forward rows, steps, memory.

    found = estimate(load_recipe("default"), say=print)
    print_estimate(found)                       # found.as_json() for a program

A row is one token that goes through the layers; a vocabulary's projection comes on top for those that draw. Rows of
prompts and of scored options are counted as the samplers and scorers will read them (`rait.models.counting`). What a
model will answer is not known beforehand, so that rows of answers are an assumption:

- N answers to a question have L * N**0.78 distinct beginnings under the initial model and L * N**0.33 under the
  rehearsed one, which is surer, where L is the mean number of tokens of the right answers. Measured on atlas with
  Gemma 3 270M; for the initial model and N from 10 to 100 within 8 %.
- A greedy answer has L tokens; a tuned model's is half the time a refusal. Where the dial is set, a refusal is read
  whatever is answered, and an answer whatever is refused.
- The examples of a batch are questions drawn at random, as many as the recipe wants.

Memory is that of each part in a process of its own: see `rait.models.footprint`.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from math import ceil
from statistics import fmean
from typing import TYPE_CHECKING, Any

from rait.construction import find_strategy
from rait.errors import ModelError, RaitError, first_line
from rait.evaluation.answering import is_scored
from rait.models.loading import load_tokenizer, locate
from rait.models.memory import TOGETHER
from rait.progress import Say
from rait.prompting import Renderer, Shots
from rait.recipe import Recipe, Tuning
from rait.records import Question
from rait.seeding import ticket
from rait.sets import load_set, question_sets, split_shots
from rait.settings import BASELINES
from rait.stages import CANDIDATES, dial_obstacle
from rait.tables import batched

if TYPE_CHECKING:
    from rait.models.footprint import Shape

_SPREAD = {"initial": 0.78, "rehearsed": 0.33}  # exponent of N
_CHECKS = 8  # prompts that tuning reads before and after, to see a change
INFLUENCE_ROWS = 512  # of a forward pass, about; see `rait.tuning.influence`
_DEPTH = 4  # forward passes of a group of questions for each token of a right answer: the longest answer counts

Tokens = list[int]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a run: how many questions or examples, their tokens one by one, rows, training steps.

    None is not known; `steps` is None for what is no training.
    """

    name: str
    questions: int | None
    tokens: int | None = None
    rows: int | None = None
    steps: int | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that a part holds at its peak: libraries with tokenizer and kernels, the weights, what the work takes."""

    part: str
    libraries: int
    weights: int
    work: int

    @property
    def total(self) -> int:
        """Everything, in bytes."""
        return self.libraries + self.weights + self.work


@dataclass(frozen=True, slots=True)
class Estimate:
    """The steps of a run in their order, memory by part, what could not be told and why, and the recipe's limit."""

    steps: tuple[Step, ...]
    memory: tuple[Memory, ...]
    missing: tuple[str, ...]
    memory_limit: float | None = None

    @property
    def rows(self) -> int | None:
        """Rows of all steps; None where one is not known."""
        rows = [step.rows for step in self.steps if step.rows is not None]
        return sum(rows) if len(rows) == len(self.steps) else None

    @property
    def over(self) -> tuple[str, ...]:
        """A line for each part that may need more memory than the recipe allows."""
        from rait.models.footprint import over_limit

        sizes = {part.part: (part.total, part.libraries) for part in self.memory}
        return over_limit(sizes, self.memory_limit) if self.memory_limit else ()

    @property
    def training_steps(self) -> int:
        """Optimiser steps of rehearsal and tuning."""
        return sum(step.steps or 0 for step in self.steps)

    def as_json(self) -> dict[str, Any]:
        """As plain data, sizes in bytes."""
        return {
            "steps": [asdict(step) for step in self.steps],
            "rows": self.rows,
            "training_steps": self.training_steps,
            "memory": [asdict(memory) | {"total": memory.total} for memory in self.memory],
            "missing": list(self.missing),
            "over": list(self.over),
        }


def estimate(recipe: Recipe, say: Say) -> Estimate:
    """What a run of `recipe` will take; `say` is told what is odd about its questions.

    Where questions or the model are not to be had, what depends on them is None and `missing` says why. Raises
    `RecipeError` for what would stop the run itself.
    """
    strategies = [find_strategy(name) for name in recipe.strategies]
    missing: list[str] = []
    sets, shots = _sets(recipe, say, missing)
    tokenizer = None
    try:
        tokenizer = load_tokenizer(recipe.model)
    except ModelError as error:
        missing.append(f"tokens, rows and memory: {error}")
    plan = _Plan(recipe, sets, shots, tokenizer)
    works = [plan.probe("initial"), *(plan.probe("initial", test) for test in recipe.tests)]
    if any(strategy.needs & {"flows", "influences"} for strategy in strategies):
        works += [plan.tuning("rehearsal", recipe.rehearsal.tuning, recipe.rehearsal.size, 0), plan.probe("rehearsed")]
    if any("influences" in strategy.needs for strategy in strategies):
        works.append(plan.influence())
    for name, may_refuse in BASELINES.items():
        asked = [*recipe.tests, *(["calibration"] if recipe.calibration and not may_refuse else [])]
        works += [plan.evaluation(name, test, may_refuse=may_refuse, tuned=False) for test in asked]
    wanted = recipe.construction
    works.append(plan.features(len(strategies) * (wanted.vanilla + wanted.idk)))
    for strategy in strategies:
        works.append(plan.tuning(f"{strategy.name} tuning", recipe.tuning, wanted.vanilla, wanted.idk))
        weigh = recipe.calibration is not None and dial_obstacle(strategy) is None
        asked = [*recipe.tests, *(["calibration"] if weigh else [])]
        works += [plan.evaluation(strategy.name, test, may_refuse=True, tuned=True, weigh=weigh) for test in asked]
    memory = _memory(plan, works, missing) if tokenizer is not None else ()
    return Estimate(tuple(work.step for work in works), memory, tuple(dict.fromkeys(missing)), recipe.memory_limit)


@dataclass(frozen=True, slots=True)
class _Work:
    """A step, the part of the run that it belongs to, and the bytes that its work takes in a model of some shape."""

    step: Step
    part: str
    takes: "Callable[[Shape], int] | None" = None


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is asked and taught, and the rows that this costs."""

    recipe: Recipe
    sets: dict[str, list[Question]]
    shots: Shots
    tokenizer: Any | None

    @property
    def open_ended(self) -> bool:
        """Whether answers are sampled, whose certainty needs a sentence model."""
        return not any(question.options for question in self.sets.get("train", ())[:1])

    def probe(self, which: str, of: str = "train") -> _Work:
        """The knowledge state query of the `which` model on the pool or on a test set."""
        name = f"probe {which}" if of == "train" else f"probe tests/{of}"
        questions = self.sets.get(of)
        if questions is None or self.tokenizer is None:
            return _Work(Step(name, None if questions is None else len(questions)), "probe")
        render = Renderer(self.tokenizer, self.recipe.prompt, self.shots)
        if questions[0].options:
            return self._scoring(name, "probe", questions, render)
        probe = self.recipe.probe
        answer = self._length(questions, render, probe.max_new_tokens)
        return self._writing(name, "probe", questions, render, answer * probe.samples ** _SPREAD[which], answer)

    def influence(self) -> _Work:
        """Gradients of refusals, one text after the other (GRAIT)."""
        from rait.models import footprint
        from rait.models.tree import encode

        wanted, pool = CANDIDATES * max(1, self.recipe.construction.idk), self.sets.get("train")
        if pool is None or self.tokenizer is None:
            return _Work(Step("influence", None), "tuning")
        render = Renderer(self.tokenizer, self.recipe.prompt, may_refuse=True)
        refusal = len(self._tokens(render.completion(self.recipe.prompt.refusal)))
        # Which half is unknown is not known yet: 4 N_idk of each, or the whole pool, the unknown ones read twice.
        part = pool[: min(wanted, (len(pool) + 1) // 2)]
        lengths = [len(encode(self.tokenizer, render(question))) + refusal for question in part]
        settings = self.recipe.rehearsal.tuning
        takes = partial(footprint.tuning, settings=settings, rows=INFLUENCE_ROWS, answer_tokens=refusal * len(part))
        return _Work(Step("influence", 2 * len(part), 3 * sum(lengths), 3 * sum(lengths)), "tuning", takes)

    def features(self, taken: int) -> _Work:
        """The questions alone, those that strategies take (at most so many) and the test questions."""
        from rait.models import footprint
        from rait.models.counting import read_rows
        from rait.models.features import PASS_TOKENS, batches
        from rait.models.tree import encode

        if self.tokenizer is None or not self.sets:
            return _Work(Step("features", None), "probe")
        asked = [
            *self.sets.get("train", ())[:taken],
            *(q for test in self.recipe.tests for q in self.sets.get(test, ())),
        ]
        texts = [encode(self.tokenizer, question.question) for question in asked]
        rows = sum(read_rows(texts[index] for index in batch) for batch in batches(texts, PASS_TOKENS))
        takes = partial(footprint.scoring, rows=PASS_TOKENS, shared=0)
        return _Work(Step("features", len(asked), sum(map(len, texts)), rows), "probe", takes)

    def evaluation(self, method: str, test: str, *, may_refuse: bool, tuned: bool, weigh: bool = False) -> _Work:
        """The answers to a test set or to the calibration questions; with `weigh` p(refuse) and an answer besides."""
        name = f"{method} on {test}"
        questions = self.sets.get(test)
        if questions is None or self.tokenizer is None:
            return _Work(Step(name, None if questions is None else len(questions)), "evaluation")
        render = Renderer(self.tokenizer, self.recipe.prompt, may_refuse=may_refuse)
        if not tuned and not render.chat:
            if "train" not in self.sets:  # it has the worked examples
                return _Work(Step(name, len(questions)), "evaluation")
            render = Renderer(self.tokenizer, self.recipe.prompt, self.shots, may_refuse)
        if is_scored(questions[0], render, self.recipe.evaluation):
            return self._scoring(name, "evaluation", questions, render)
        limit = self.recipe.evaluation.max_new_tokens
        answer = self._length(questions, render, limit)
        refusal = len(self._tokens(render.continuation(self.recipe.prompt.refusal)))
        if tuned:
            answer = answer + refusal if weigh else (answer + min(limit, refusal)) / 2
        return self._writing(name, "evaluation", questions, render, answer, answer)

    def tuning(self, name: str, settings: Tuning, vanilla: int, idk: int) -> _Work:
        """Fine-tuning on `vanilla` and `idk` examples, or as many in this ratio as there are questions."""
        from rait.models import footprint
        from rait.models.counting import read_rows
        from rait.models.tree import encode

        pool = self.sets.get("train")
        count = min(vanilla + idk, len(pool)) if pool else vanilla + idk
        steps = settings.steps(count)
        if pool is None or self.tokenizer is None:
            return _Work(Step(name, count, steps=steps), "tuning")
        render = Renderer(self.tokenizer, self.recipe.prompt, may_refuse=name != "rehearsal")
        drawn = sorted(pool, key=lambda question: ticket(self.recipe.seed, "estimate", question.id))[:count]
        kept = round(count * vanilla / (vanilla + idk))
        taught = [*map(render.answer, drawn[:kept]), *[self.recipe.prompt.refusal] * (count - kept)]
        answers = [self._tokens(render.completion(answer)) for answer in taught]
        if not render.chat:
            answers = [[*answer, self.tokenizer.eos_token_id] for answer in answers]
        prompts = [encode(self.tokenizer, render(question)) for question in drawn]
        texts = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
        order = sorted(range(count), key=lambda place: ticket(self.recipe.seed, "batch", drawn[place].id))
        micro = settings.micro_batch
        share = settings.method == "full" or settings.lora_dropout == 0
        read = [read_rows((texts[place] for place in batch), share=share) for batch in batched(order, micro)]
        rows = round(settings.epochs * sum(read)) + 2 * read_rows(prompts[:_CHECKS])
        learned = fmean(map(len, answers)) * min(micro, count)
        takes = partial(footprint.tuning, settings=settings, rows=max(read), answer_tokens=learned)
        return _Work(Step(name, count, sum(map(len, texts)), rows, steps), "tuning", takes)

    def _writing(
        self, name: str, part: str, questions: Sequence[Question], render: Renderer, answer_rows: float, answer: float
    ) -> _Work:
        """Answers that the model writes: `answer_rows` rows a question, for answers of `answer` tokens."""
        from rait.models import footprint
        from rait.models.counting import drawn
        from rait.models.sampler import GROUP_QUESTIONS
        from rait.models.tree import encode

        prompts = [encode(self.tokenizer, render(question)) for question in questions]
        read = drawn(prompts)
        groups = ceil(len(prompts) / GROUP_QUESTIONS)
        of_group = (read.rows - read.shared) / groups + GROUP_QUESTIONS * answer_rows
        takes = partial(footprint.asking, rows=of_group, shared=read.shared, passes=1 + _DEPTH * answer, groups=groups)
        rows = read.rows + round(answer_rows * len(questions))
        return _Work(Step(name, len(questions), sum(map(len, prompts)), rows), part, takes)

    def _scoring(self, name: str, part: str, questions: Sequence[Question], render: Renderer) -> _Work:
        """Options that are compared as answers: in the evaluation as whole texts, with the refusal."""
        from rait.models import footprint
        from rait.models.counting import scored
        from rait.models.scoring import PASS_ROWS
        from rait.models.tree import encode

        probed = part == "probe"
        letters = probed and self.recipe.prompt.choice == "letter"
        rows = shared = 0
        for asked in batched(questions, min(TOGETHER, self.recipe.probe.shard)):
            options = [(render.choices if probed else render.candidates)(question) for question in asked]
            read = scored(self.tokenizer, list(map(render, asked)), options, letters=letters)
            rows += read.rows
            shared = max(shared, read.shared)
        tokens = sum(len(encode(self.tokenizer, render(question))) for question in questions)
        takes = partial(footprint.scoring, rows=PASS_ROWS, shared=shared)
        return _Work(Step(name, len(questions), tokens, rows), part, takes)

    def _length(self, questions: Sequence[Question], render: Renderer, limit: int) -> float:
        """Mean number of tokens of the right answers, as the model would write them."""
        answers = (self._tokens(render.continuation(render.answer(question))) for question in questions)
        return fmean(min(limit, len(answer)) for answer in answers)

    def _tokens(self, text: str) -> Tokens:
        ids: Tokens = self.tokenizer(text, add_special_tokens=False)["input_ids"]  # type: ignore[misc]
        return ids


def _sets(recipe: Recipe, say: Say, missing: list[str]) -> tuple[dict[str, list[Question]], Shots]:
    """The question sets; where one cannot be read, or is used up, the others as they are, leaks included."""
    try:
        return question_sets(recipe, say)
    except RaitError as error:
        obstacle = str(error)
    sets: dict[str, list[Question]] = {}
    shots: Shots = {}
    calibration = {"calibration": recipe.calibration} if recipe.calibration else {}
    for name, source in {"train": recipe.questions, **recipe.tests, **calibration}.items():
        try:
            sets[name] = load_set(source, recipe.seed)
            if name == "train":
                shots, sets[name] = split_shots(sets[name], recipe)
        except RaitError as error:
            missing.append(f"{name}: {error}")
    missing += [f"{name}: no questions are left" for name, questions in sets.items() if not questions]
    if not missing:
        missing.append(f"the true work, as a run would fail: {obstacle}")
    return {name: questions for name, questions in sets.items() if questions}, shots


def _memory(plan: _Plan, works: Sequence[_Work], missing: list[str]) -> tuple[Memory, ...]:
    """The most that each part takes, in the order of the parts."""
    from rait.models import footprint

    try:
        shape = footprint.shape_of(locate(plan.recipe.model, weights=False), plan.recipe.model.dtype)
    except (RaitError, OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        missing.append(f"memory: {first_line(error)}")
        return ()
    libraries = shape.main_memory + (footprint.SENTENCE_MODEL if plan.open_ended else 0)
    taken: dict[str, int] = {}
    for work in works:
        if work.takes is not None:
            taken[work.part] = max(taken.get(work.part, 0), work.takes(shape))
    kept = {"tuning": footprint.kernels(max((work.step.steps or 0 for work in works), default=0))}
    return tuple(Memory(part, libraries + kept.get(part, 0), shape.weights, most) for part, most in taken.items())


def print_estimate(found: Estimate) -> None:
    """Print tables: the steps, then memory by part, then what could not be told."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False, emoji=False)
    table = Table(title="work", title_justify="left", title_style="bold", show_footer=True)
    table.add_column("step", footer="all", no_wrap=True)
    table.add_column("questions", justify="right")
    table.add_column("prompt\ntokens", justify="right")
    table.add_column("forward\nrows", justify="right", footer=_count(found.rows))
    table.add_column("training\nsteps", justify="right", footer=_count(found.training_steps))
    for step in found.steps:
        training = "" if step.steps is None else _count(step.steps)
        table.add_row(step.name, *map(_count, (step.questions, step.tokens, step.rows)), training)
    console.print(table)
    if found.memory:
        table = Table(title="peak memory, in GB", title_justify="left", title_style="bold")
        table.add_column("part")
        for column in ("libraries", "weights", "work", "all"):
            table.add_column(column, justify="right")
        for part in found.memory:
            sizes = (part.libraries, part.weights, part.work, part.total)
            table.add_row(part.part, *(f"{size / 1e9:.1f}" for size in sizes))
        console.print(table)
    console.print(
        "A row is one token that goes through the layers; what several prompts share is one row. Rows of answers, and "
        "which questions are tuned on, are assumed, so take rows and memory to some 30 %. On a GPU the libraries stay "
        "in main memory.",
        style="dim",
    )
    for line in found.over:
        console.print(f"too large: {line}", markup=False)
    for line in found.missing:
        console.print(f"not known: {line}", markup=False)


def _count(number: int | None) -> str:
    return "n/a" if number is None else f"{number:,}"
