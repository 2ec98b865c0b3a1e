"""Ask a run's tuned model: the answer or the refusal, and how probable the refusal was.

    tuned = open_run(Path("run"))                       # of all strategies the one with the highest THS
    reply = ask(tuned, asked("Who wrote Emma?"))
    reply.response, reply.refused, reply.refusal_probability

The model is asked as the run's evaluation asks it, and refuses where p(refuse) reaches the threshold of the run's dial
(`rait.evaluation.dial`) if it has one, else where greedy decoding does. `rait.explaining` says why.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rait.choosing import parse_choice
from rait.construction import Reader, as_it_is, find_strategy
from rait.errors import InputError, RecipeError
from rait.evaluation.answering import answer
from rait.evaluation.dial import applied
from rait.evaluation.metrics import Metric, format_metric
from rait.inert import inert
from rait.manifest import intact, read_manifest, recipe_of
from rait.models.context import REASONS
from rait.models.loading import LoadedModel, load
from rait.progress import Say, say
from rait.prompting import Renderer
from rait.questions.validation import question_key, wording_key
from rait.recipe import Recipe
from rait.records import Outcome, Question
from rait.settings import DIAL_FILE
from rait.stages import dial_obstacle, saved_threshold
from rait.tables import iter_records, read_data

Put = tuple[str | None, Question]
"""A question, and the id that it was given with."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """A tuned model of a run, ready to be asked; `name` is its strategy, or its folder where that is not known.

    `weigh` says whether p(refuse) is one number for what was taught; `threshold` is from where on it refuses, None
    where greedy decoding decides. `known` are the questions of the run, each with the name of its set, by their key.
    """

    folder: Path
    recipe: Recipe
    name: str
    adapter: Path
    loaded: LoadedModel
    render: Renderer
    read: Reader
    weigh: bool
    threshold: float | None
    known: Mapping[int, Sequence[tuple[str, Question]]]
    choice: bool  # whether the run asks multiple choice


@dataclass(frozen=True, slots=True)
class Reply:
    """What the tuned model says to a question.

    `id` is the one that was given, else the run's; `found` names the question set of the run that has the question.
    `refusal_probability` lies in [0, 1], None where what was taught has no single refusal. `answer` is what is said
    where a refusal is not allowed, `option` the text of the option that the response chooses; `correct` is None for a
    refusal, or where the truth is not known.
    """

    id: str | None
    question: Question
    found: str | None
    response: str
    option: str | None
    refused: bool
    refusal_probability: float | None
    threshold: float | None
    answer: str | None
    correct: bool | None


def open_run(
    folder: Path,
    *,
    strategy: str | None = None,
    adapter: Path | None = None,
    threshold: float | None = None,
    say: Say = say,
) -> Tuned:
    """Load the tuned model of a run folder, and tell `say` which one it is.

    `strategy` names one of the run's, without it the best by THS on the first test set, with its dial; `adapter` is the
    folder of another one, such as RUN/craft/seed-1/adapter. `threshold` replaces that of the dial. Raises `InputError`
    where the folder holds no run or nothing tuned, `RecipeError` for a strategy that is not in it.
    """
    recipe, steps = recipe_of(folder), read_manifest(folder)["steps"]
    if strategy is not None and strategy not in recipe.strategies:
        raise RecipeError(f"{folder} has no strategy {strategy!r}; it has {', '.join(recipe.strategies)}")
    if adapter is None:
        strategy, reason = (strategy, "as asked for") if strategy else _best(folder, recipe, steps, threshold is None)
        adapter = folder / strategy / "adapter"
        if f"{strategy}/tuning" not in steps or not adapter.is_dir():
            raise InputError(f"{strategy} is not tuned yet in {folder}; finish the run, or choose another --strategy")
    else:
        strategy, reason = strategy or _strategy_of(folder, adapter, recipe), "as asked for"
    intact(adapter)
    taught = find_strategy(strategy) if strategy else None
    if threshold is None:
        intact(adapter / DIAL_FILE)
        threshold = saved_threshold(adapter, recipe.prompt.refusal)
    elif taught and (obstacle := dial_obstacle(taught)):
        raise RecipeError(f"no threshold can be set: {obstacle}; leave out --threshold")
    known: dict[int, list[tuple[str, Question]]] = {}
    for name in ("train", *recipe.tests, "calibration"):  # those of which the run has states come first
        path = intact(folder / f"questions/{name}.parquet")
        for question in iter_records(path, Question) if path.is_file() else ():
            for key in {question_key(question), question_key(replace(question, options=()))}:
                known.setdefault(key, []).append((name, question))
    loaded = load(recipe.model, adapter=adapter, say=say)
    say(f"{strategy or adapter} of {folder} ({reason}); {rule_of(threshold)}")
    return Tuned(
        folder=folder,
        recipe=recipe,
        name=strategy or str(adapter),
        adapter=adapter,
        loaded=loaded,
        render=Renderer(loaded.tokenizer, recipe.prompt, may_refuse=True),
        read=taught.read if taught else as_it_is,
        weigh=taught is None or dial_obstacle(taught) is None,
        threshold=threshold,
        known=known,
        choice=any(question.options for ((_, question), *_) in known.values()),
    )


def asked(text: str) -> Put:
    """A question and the id it was given, from plain text or from a JSON object.

    The object has "question" and may have "id", "category" and, of a multiple-choice question, "options"; other keys
    are passed over. Raises `InputError` for anything else.
    """
    text = _whole(text.strip())
    if not text.startswith("{"):
        if not text:
            raise InputError("the question is empty; ask something")
        return None, Question(id="", question=text, answers=())
    try:
        data = json.loads(text)
    except RecursionError:
        raise InputError("the JSON object is nested too deep; write one with texts, on one line") from None
    except ValueError as error:
        raise InputError(f"not a JSON object ({error}); write one on one line, or plain text") from error
    wording, options = data.get("question"), data.get("options", [])
    if not isinstance(wording, str) or not wording.strip():
        raise InputError('the JSON object has no "question"; write {"question": "..."}')
    if not isinstance(options, list) or not all(isinstance(option, str) for option in options):
        raise InputError('"options" is not a list of texts; write {"question": "...", "options": ["...", "..."]}')
    if options and not 2 <= len(options) <= 10:
        raise InputError(f'"options" has {len(options)} texts; give 2 to 10')
    id = data.get("id")
    wording, category, *options = map(_whole, (wording.strip(), str(data.get("category") or ""), *options))
    return None if id is None else _whole(str(id)), Question(
        id="", question=wording, answers=(), category=category, options=tuple(option.strip() for option in options)
    )


def _whole(text: str) -> str:
    """A text without halves of surrogate pairs, which are no characters and cannot be written."""
    return text.encode(errors="replace").decode()


def ask(tuned: Tuned, put: Put) -> Reply:
    """Answer what `asked` understood. Raises `InputError` where a run asks multiple choice and there are no options."""
    id, question = put
    found, question = _of_run(tuned, question)
    (verdict,) = answer(tuned.loaded, [question], tuned.render, tuned.recipe.evaluation, tuned.read, weigh=tuned.weigh)
    if verdict.outcome is Outcome.FAILED:
        raise InputError(f"the question cannot be asked: {REASONS[verdict.rule]}; make it shorter")
    if tuned.threshold is not None and tuned.weigh:
        (verdict,) = applied([verdict], tuned.threshold, tuned.recipe.prompt.refusal)
    refused = verdict.outcome is Outcome.REFUSED
    return Reply(
        id=id if id is not None else question.id or None,
        question=question,
        found=found,
        response=verdict.response,
        option=None if refused else _option(tuned, question, verdict.response),
        refused=refused,
        refusal_probability=verdict.refusal_probability,
        threshold=tuned.threshold if tuned.weigh else None,
        answer=verdict.answer,
        correct=None if refused or not question.answers else verdict.outcome is Outcome.CORRECT,
    )


def _best(folder: Path, recipe: Recipe, steps: Collection[str], dialled: bool) -> tuple[str, str]:
    """The strategy with the highest THS on the first test set, or the first that is tuned; and why it is taken.

    That of a model with a dial is the one at its threshold, as it is asked so.
    """
    tuned = [n for n in recipe.strategies if f"{n}/tuning" in steps and (folder / n / "adapter").is_dir()]
    if not tuned:
        raise InputError(f"nothing is tuned yet in {folder}; finish the run, or name an --adapter")
    test = next(iter(recipe.tests))
    found: dict[str, tuple[Metric, str]] = {}
    for name in tuned:
        place = folder / name
        results, dial, saved = (_read(place / file) for file in ("metrics.json", "dial.json", f"adapter/{DIAL_FILE}"))
        if dialled and saved.get("threshold") is not None and saved["threshold"] == dial.get("threshold"):
            at = dial["tests"].get(test, {}).get("chosen", {})
            ths, way = Metric(at.get("THS"), at.get("THS_low"), at.get("THS_high"), 0), "THS"
        elif test in results and f"{name}/metrics" in steps:
            ths, way = Metric(**results[test]["overall"]["THS"]), "greedy THS"
        else:
            continue
        if ths.value is not None:
            found[name] = ths, way
    if not found:
        return tuned[0], "the first that is tuned, as there is no THS yet"
    best = max(found, key=lambda name: found[name][0].value or 0.0)
    others = "" if len(found) == 1 else f", the highest of {len(found)}"
    ths, way = found[best]
    return best, f"{way} {format_metric(ths)} on {test}{others}"


def _read(path: Path) -> dict[str, Any]:
    """What a JSON file of the run holds, nothing where there is none."""
    return read_data(path) if intact(path).is_file() else {}


def _strategy_of(folder: Path, adapter: Path, recipe: Recipe) -> str | None:
    """The strategy in whose folder an adapter lies, if it lies in the run."""
    place = adapter.resolve()
    inside = place.is_relative_to(folder.resolve()) and place.relative_to(folder.resolve()).parts
    return inside[0] if inside and inside[0] in recipe.strategies else None


def _of_run(tuned: Tuned, question: Question) -> tuple[str | None, Question]:
    """The question with what the run knows of it, its set first, where it is one of the run's."""
    if question.options and not tuned.choice:
        raise InputError("this run asks open-ended questions; leave out the options")
    found = tuned.known.get(question_key(question), ())
    distinct = {tuple(sorted(own.options)) for _, own in found}
    if tuned.choice and not question.options and len(distinct) != 1:
        one = "several questions of the run read like this one" if distinct else "this run asks multiple choice"
        raise InputError(f'{one}; give the options: {{"question": "...", "options": ["...", "..."]}}')
    if not found:
        return None, question
    place, own = found[0]
    if question.options and question.options != own.options and own.target is not None:  # in an order of their own
        right = wording_key(own.options[own.target])
        targets = [at for at, option in enumerate(question.options) if wording_key(option) == right]
        put = replace(own, question=question.question, options=question.options, answers=(), target=None)
        if len(targets) != 1:  # two options that read alike: which is meant is not known
            return place, put
        return place, replace(put, answers=(put.options[targets[0]],), target=targets[0])
    return place, replace(own, question=question.question)


def _option(tuned: Tuned, question: Question, response: str) -> str | None:
    """The text of the option that a response chooses, None where it chooses none."""
    by_letter = tuned.recipe.prompt.choice == "letter"
    choice = parse_choice(response, question.options, by_letter=by_letter) if question.options else None
    return None if choice is None else question.options[choice.option]


def as_json(reply: Reply) -> dict[str, Any]:
    """A reply as plain data."""
    return {
        "id": reply.id,
        "question": reply.question.question,
        "set": reply.found,
        "response": reply.response,
        "option": reply.option,
        "refused": reply.refused,
        "refusal_probability": reply.refusal_probability,
        "threshold": reply.threshold,
        "answer": reply.answer,
        "correct": reply.correct,
    }


def format_reply(reply: Reply) -> str:
    """A reply as a line for people: the answer, p(refuse), and whether it is known to be right."""
    said = reply.response
    if reply.option is not None and reply.option != said:
        said = f"{said} ({reply.option})"
    remarks = []
    if reply.refusal_probability is not None:
        remarks.append(f"p(refuse) {reply.refusal_probability:.3f}")
    if reply.correct is not None:
        remarks.append("right" if reply.correct else f"wrong: {reply.question.answers[0]}")
    return inert(said or "(nothing)") + (f"   [{', '.join(map(inert, remarks))}]" if remarks else "")


def rule_of(threshold: float | None) -> str:
    """When a model refuses, in words."""
    if threshold is None:
        return "refuses where greedy decoding does"
    if threshold > 1:
        return "refuses nothing that it can answer"
    return f"refuses from p(refuse) {threshold:.3g} on"
