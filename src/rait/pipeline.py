"""A run: every stage in its order, in one folder, resumable at any moment. And a comparison: the same over many seeds.

    results = run(load_recipe("default"), Path("run"))
    rows = compare(load_recipe("default"), Path("run"), seeds=(0, 1, 2, 3, 4), against="cor_rait")

    RUN/  recipe.yaml  manifest.json  prompts.txt  questions/{train,SET}.parquet
          knowledge/{initial,rehearsed,flow,influence,features}.parquet  knowledge/tests/SET.parquet
          knowledge/{initial,rehearsed,tests/SET}.failed.jsonl: questions that could not be asked, if there are any
          rehearsal/{examples.jsonl,losses.json,adapter/}
          init_basic/  init_refuse/  {SET.verdicts.parquet,metrics.json}
          STRATEGY/{decisions.parquet,examples.jsonl,conflicts.{json,txt,png},
                    losses.json,adapter/,SET.verdicts.parquet,metrics.json,over_refusal.{json,txt},dial.json}
          STRATEGY/seed-N/{decisions.parquet,examples.jsonl,losses.json,adapter/,SET.verdicts.parquet}
          comparison.{parquet,csv,md,tex}  report.html

What is asked, probed, rehearsed and flows is shared by all strategies and seeds; `rait.steps` makes each part once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from rait import __version__, diagnosis, steps
from rait.book import Book
from rait.construction import Strategy, find_strategy
from rait.errors import RecipeError
from rait.evaluation.comparison import Comparison, Runs
from rait.evaluation.comparison import compare as compare_verdicts
from rait.locking import locked
from rait.manifest import fingerprint_of_all
from rait.models.loading import check_devices
from rait.models.memory import within_limit
from rait.progress import Say, say
from rait.recipe import Recipe
from rait.records import Verdict
from rait.reporting.report import write_report
from rait.reporting.tables import Row, rows, write_tables
from rait.sets import question_sets
from rait.settings import BASELINES
from rait.shown import shown_prompts
from rait.stages import Models, check_words, dial_obstacle
from rait.steps import Work
from rait.tables import read_records

Results = dict[str, dict[str, Any]]


@within_limit
def run(recipe: Recipe, folder: str | Path, say: Say = say) -> Results:
    """Run the recipe in `folder` and return the metrics: method -> test set -> as `evaluation.metrics.to_json`.

    Goes on where an earlier run in the same folder stopped. Raises `RaitError` for what the user can mend; whatever was
    finished before stays.
    """
    strategies = _strategies(recipe)
    folder = Path(folder)
    with locked(folder) as left:
        book = Book(folder, say)
        book.begin(recipe, left)
        work, initial, evidence = _prepare(recipe, book, strategies)
        baseline = _baselines(work)
        verdicts = baseline | _tuned(work, strategies, initial, evidence, baseline["init_basic"])
        results = _scored(work, verdicts)
        book.end()
        _report(book, recipe)
        return results


@within_limit
def compare(recipe: Recipe, folder: str | Path, seeds: Sequence[int], against: str, say: Say = say) -> list[Row]:
    """Tune every strategy with every seed on one probe, and return what came out, a row a number (`reporting.tables`).

    A seed decides what is drawn and how is tuned; what is asked, probed and rehearsed hangs on the recipe's own. Each
    tuned model is saved by itself, so that a comparison goes on where it stopped, and takes what `run` has made in
    the same folder. Raises `RaitError` for what the user can mend.
    """
    strategies = _strategies(recipe)
    known = [*BASELINES, *recipe.strategies]
    if against not in known:
        raise RecipeError(f"cannot compare with {against!r}, which is not in this recipe; choose of {', '.join(known)}")
    if not seeds or len(set(seeds)) < len(seeds):
        raise RecipeError(f"a comparison needs seeds that differ, found {list(seeds)}")
    folder = Path(folder)
    with locked(folder) as left:
        book = Book(folder, say)
        book.begin(recipe, left)
        work, initial, evidence = _prepare(recipe, book, strategies)
        baseline = _baselines(work)
        verdicts: dict[str, dict[int, dict[str, Path]]] = {name: {recipe.seed: own} for name, own in baseline.items()}
        for place, seed in enumerate(seeds):
            book.say(f"seed {seed}, {place + 1} of {len(seeds)}")
            seeded = recipe.model_copy(
                update={"seed": seed, "construction": recipe.construction.model_copy(update={"seed": seed})}
            )
            own = recipe if seed == recipe.seed else seeded
            below = "" if seed == recipe.seed else f"seed-{seed}"
            found = _tuned(work.of(own), strategies, initial, evidence, baseline["init_basic"], below)
            for name, tuned in found.items():
                verdicts.setdefault(name, {})[seed] = tuned
        _scored(work, {name: by_seed[recipe.seed] for name, by_seed in verdicts.items() if recipe.seed in by_seed})
        table = rows({test: _compared(work, verdicts, test, against) for test in work.tests})
        key = {"rows": fingerprint_of_all(map(asdict, table))}
        tables = [folder / f"comparison.{form}" for form in ("parquet", "csv", "md", "tex")]
        with book.step("comparison", key, tables) as todo:
            if todo:
                write_tables(folder, table)
        book.end()
        _report(book, recipe)
        return table


def _report(book: Book, recipe: Recipe) -> None:
    """The page of a finished run, unless it stands and nothing has changed."""
    comparison = book.folder / "comparison.parquet"
    key = {
        "version": __version__,
        "recipe": recipe.model_dump(mode="json"),
        "steps": {name: entry["key"] for name, entry in book.manifest["steps"].items() if name != "report"},
        "comparison": sha256(comparison.read_bytes()).hexdigest() if comparison.exists() else None,
    }
    with book.step("report", key, [book.folder / "report.html"]) as todo:
        if todo:
            write_report([book.folder], book.folder / "report.html")


def _scored(work: Work, verdicts: Mapping[str, Mapping[str, Path]]) -> Results:
    """The metrics of every method that was run with the recipe's own seed."""
    tests = {name: _of_tests(work, own) for name, own in verdicts.items()}
    return {name: steps.score(work, work.folder / name, own, tests["init_basic"]) for name, own in tests.items()}


def _compared(
    work: Work, verdicts: Mapping[str, Mapping[int, Mapping[str, Path]]], test: str, against: str
) -> Comparison:
    """The comparison on one test set."""
    read: Runs = {
        name: {seed: read_records(found[test], Verdict) for seed, found in by_seed.items()}
        for name, by_seed in verdicts.items()
    }
    (baseline,) = read["init_basic"].values()
    recipe = work.recipe
    return compare_verdicts(
        read,
        baseline,
        against,
        seed=recipe.seed,
        resamples=recipe.evaluation.resamples,
        max_failed=recipe.max_failed,
    )


def prompts_of(recipe: Recipe, say: Say = say) -> str:
    """Every prompt that a run of `recipe` puts, each with the first question of its set, as text for a reader."""
    sets, shots = question_sets(recipe, say)
    asked = {name: questions[0] for name, questions in sets.items()}
    return shown_prompts(recipe, Models(recipe, say).tokenizer(), asked, shots)


def _strategies(recipe: Recipe) -> list[Strategy]:
    """The strategies of a recipe; what cannot be tuned here, or has an unknown name, fails before any work."""
    check_devices()
    strategies = [find_strategy(name) for name in recipe.strategies]
    check_words(strategies, recipe)
    return strategies


def _prepare(recipe: Recipe, book: Book, strategies: Sequence[Strategy]) -> tuple[Work, Path, dict[str, Path]]:
    """What all strategies share: the questions, the initial states, and the evidence that some of them need."""
    work = steps.begin(recipe, book)
    if not work.calibration:
        book.say("no dial: the recipe has no calibration questions; calibration.source=... would name some")
    initial = steps.probe(work, "initial", work.pool, None)
    for name, questions in work.tests.items():
        steps.probe(work, f"tests/{name}", questions, None)
    needed = {need for strategy in strategies for need in strategy.needs}
    evidence: dict[str, Path] = {}
    if not needed & {"flows", "influences"}:
        book.say("no rehearsal: none of the strategies looks at the knowledge flow")
        return work, initial, evidence
    rehearsal = steps.rehearse(work, initial)
    if "influences" in needed:
        evidence["influences"] = steps.influence(work, initial, rehearsal)
    if "flows" in needed:
        rehearsed = steps.probe(work, "rehearsed", work.pool, rehearsal)
        evidence["flows"] = steps.flow(work, initial, rehearsed)
    return work, initial, evidence


def _baselines(work: Work) -> dict[str, dict[str, Path]]:
    """The verdicts of the untuned model, asked plainly and invited to refuse; to calibrate, asked plainly alone."""
    made = {}
    for name, may_refuse in BASELINES.items():
        sets = dict(work.tests) if may_refuse else {**work.tests, **work.calibration}
        made[name] = steps.evaluation(
            work, work.folder / name, sets, strategy=None, may_refuse=may_refuse, adapter=None
        )
    return made


def _tuned(
    work: Work,
    strategies: Sequence[Strategy],
    initial: Path,
    evidence: Mapping[str, Path],
    baseline: Mapping[str, Path],
    below: str = "",
) -> dict[str, dict[str, Path]]:
    """The verdicts of every tuned model, in the strategies' folders or in those named `below` in them.

    The strategies' own folders get more: conflicts before anything is tuned, over-refusal and the dial afterwards.
    """
    made = {
        strategy.name: steps.construction(work, strategy, work.folder / strategy.name / below, initial, evidence)
        for strategy in strategies
    }
    points = _conflicts(work, strategies, evidence) if not below else None
    verdicts = {}
    for strategy in strategies:
        place = made[strategy.name].parent
        adapter = steps.tune(work, place, made[strategy.name])
        weigh = not below and bool(work.calibration) and dial_obstacle(strategy) is None
        sets = {**work.tests, **work.calibration} if weigh else work.tests
        own = steps.evaluation(work, place, sets, strategy=strategy, may_refuse=True, adapter=adapter, weigh=weigh)
        if points:
            diagnosis.over_refusal(work, place, _of_tests(work, own), points)
        if work.calibration and not below:
            steps.dial(work, place, strategy, own, baseline)
        elif not below:
            steps.without_dial(work, place)
        verdicts[strategy.name] = own
    return verdicts


def _of_tests(work: Work, made: Mapping[str, Path]) -> dict[str, Path]:
    """Without the calibration questions, on which nothing is reported."""
    return {name: made[name] for name in work.tests}


def _conflicts(work: Work, strategies: Sequence[Strategy], evidence: Mapping[str, Path]) -> Path:
    """What can be seen of every strategy's choice before it is tuned; the questions' features."""
    found = diagnosis.features(work, [work.folder / strategy.name / "decisions.parquet" for strategy in strategies])
    for strategy in strategies:
        diagnosis.conflicts(work, strategy.name, found, evidence.get("flows"))
    return found
