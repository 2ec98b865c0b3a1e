"""The question sets of a run: what is probed and learned from, what is tested, what serves as worked examples.

sets, shots = question_sets(recipe, say)
sets["train"], sets["id"], shots
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

from rait.errors import InputError, some
from rait.progress import Say
from rait.prompting import Shots, choose_shots, shots_by_category
from rait.questions import read_questions, validate, without, without_leaks
from rait.recipe import Questions, Recipe
from rait.records import Question


def question_sets(recipe: Recipe, note: Say) -> tuple[dict[str, list[Question]], Shots]:
    """The questions of each set, and the worked examples taken out of those that are probed.

    The sets are "train", those that are probed, the test sets by name, and "calibration" where the recipe has one.

    `note` is told what is left out of a test set, and what is odd about a set. Raises `InputError` where nothing is
    left of one.
    """
    shots, pool = split_shots(load_pool(recipe, note), recipe, note)
    sets = {"train": pool}
    held_out = dict(recipe.tests) | ({"calibration": recipe.calibration} if recipe.calibration else {})
    for name, source in held_out.items():
        sets[name] = load_set(source, recipe.seed, note)
        calibrates = name not in recipe.tests
        # A threshold must not be chosen by what it is tested on.
        tested = chain.from_iterable(sets[test] for test in recipe.tests if calibrates)
        leaked: list[Question] = []
        if source.leaked == "exclude":
            sets[name], leaked = without_leaks(sets[name], chain(pool, all_of(shots), tested))
        if leaked:
            ids = some([question.id for question in leaked])
            use, key = ("trained or tested on", name) if calibrates else ("trained on", f"tests.{name}")
            note(
                f"{len(leaked)} questions of {name} are {use} too and left out ({ids}); "
                f"{key}.leaked=keep would keep them"
            )
    for name, questions in sets.items():
        if not questions:
            mend = "name other questions" + ("" if name in ("train", *recipe.tests) else ", or set calibration=null")
            raise InputError(f"the question set {name!r} is empty after leaving out worked examples and leaks; {mend}")
        checked = validate(questions, recipe.prompt.refusal)
        for finding in checked.findings:
            note(f"{name}: {finding}")
        sets[name] = without(questions, checked.excluded)
    return sets, shots


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


def plain(question: Question) -> list[Any]:
    """A question as plain data, to be hashed."""
    own = [question.id, question.question, list(question.answers), question.category]
    return [*own, list(question.options), question.target] if question.options else own
