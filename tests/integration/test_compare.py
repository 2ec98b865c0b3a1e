"""A grid of strategies and seeds on one probe: what is shared is made once, and what is done is not done again."""

import json
import shutil

import pyarrow.parquet as pq
import pytest

from rait.errors import RecipeError
from rait.evaluation.metrics import evaluate
from rait.pipeline import compare, run
from rait.recipe import load_recipe
from rait.records import Example, Outcome, Verdict
from rait.reporting.reading import read_run
from rait.status import status
from rait.tables import read_records

pytestmark = pytest.mark.slow  # whole runs, over several seeds

WORDED = "strategies=[r_tuning, absolute, multisample, grait]"


@pytest.fixture(scope="module")
def grid(recipe_file, whole_run, tmp_path_factory):
    folder = shutil.copytree(whole_run[0], tmp_path_factory.mktemp("grid") / "run")
    rows = compare(load_recipe(recipe_file), folder, seeds=(0, 1), against="cor_rait", say=lambda _: None)
    return folder, rows


def share(folder, outcome):
    verdicts = read_records(folder / "id.verdicts.parquet", Verdict)
    return sum(verdict.outcome is outcome for verdict in verdicts) / len(verdicts)


def test_means_are_those_of_the_seeds(grid):
    folder, rows = grid
    by_seed = [share(folder / "craft", Outcome.CORRECT), share(folder / "craft/seed-1", Outcome.CORRECT)]
    (row,) = [r for r in rows if (r.test_set, r.strategy, r.metric) == ("id", "craft", "P_c")]
    assert row.mean == pytest.approx(sum(by_seed) / 2)
    assert row.low <= row.mean <= row.high
    others = [share(folder / "cor_rait", Outcome.CORRECT), share(folder / "cor_rait/seed-1", Outcome.CORRECT)]
    assert row.difference == pytest.approx((sum(by_seed) - sum(others)) / 2)
    assert row.within_noise == (row.difference_low <= 0 <= row.difference_high)


def test_the_table_is_written_in_every_form(grid):
    folder, rows = grid
    assert pq.read_table(folder / "comparison.parquet").num_rows == len(rows)
    assert len((folder / "comparison.csv").read_text().splitlines()) == len(rows) + 1
    assert "craft" in (folder / "comparison.md").read_text()
    assert r"\toprule" in (folder / "comparison.tex").read_text()


def test_what_is_shared_is_made_once(grid):
    folder, _ = grid
    steps = json.loads((folder / "manifest.json").read_text())["steps"]
    assert sum(name == "knowledge/initial" for name in steps) == 1
    assert not any("seed-1/knowledge" in name for name in steps)
    assert {"craft/tuning", "craft/seed-1/tuning", "cor_rait/seed-1/tuning"} <= steps.keys()


def test_seeds_differ_in_what_is_drawn_and_how_is_tuned(grid):
    folder, _ = grid
    first, second = (
        {example.id for example in read_records(folder / f"{place}/examples.jsonl", Example)}
        for place in ("cor_rait", "cor_rait/seed-1")
    )
    assert first != second
    losses = [
        json.loads((folder / f"{place}/losses.json").read_text())["losses"] for place in ("craft", "craft/seed-1")
    ]
    assert losses[0] != losses[1]


def test_it_goes_on_and_takes_what_a_run_has_made(recipe_file, grid, tmp_path):
    folder = shutil.copytree(grid[0], tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.verdicts.parquet")}
    run(load_recipe(recipe_file), folder, say=lambda _: None)  # seed 0 is the run's own
    shutil.rmtree(folder / "craft/seed-1")
    again = compare(load_recipe(recipe_file), folder, seeds=(0, 1), against="cor_rait", say=lambda _: None)
    assert again == grid[1]
    made = {path for path in before if path.stat().st_mtime_ns != before[path]}
    assert made == {folder / f"craft/seed-1/{name}.verdicts.parquet" for name in ("id", "ood")}


def test_metrics_and_page_are_those_of_the_comparison_too(recipe_file, grid, tmp_path):
    folder = shutil.copytree(grid[0], tmp_path / "run")
    recipe = load_recipe(recipe_file, ["evaluation.resamples=100"])
    compare(recipe, folder, seeds=(0, 1), against="cor_rait", say=lambda _: None)
    after, before = (
        read_records(folder / f"{place}/id.verdicts.parquet", Verdict) for place in ("craft", "init_basic")
    )
    fresh = evaluate(after, before, seed=0, resamples=100).overall["THS"]
    found = json.loads((folder / "craft/metrics.json").read_text())["id"]["overall"]["THS"]
    assert (found["low"], found["high"]) == (fresh.low, fresh.high)
    old = json.loads((grid[0] / "craft/metrics.json").read_text())["id"]["overall"]["THS"]
    assert (old["low"], old["high"]) != (fresh.low, fresh.high)
    assert read_run(folder).methods["craft"].scores["id"].overall["THS"] == fresh
    assert status(folder).state == "complete"


def test_an_unknown_name_to_compare_with_is_refused_before_any_work(recipe_file, tmp_path):
    with pytest.raises(RecipeError, match=r"'nothing', which is not in this recipe; choose of init_basic, "):
        compare(load_recipe(recipe_file), tmp_path / "run", seeds=(0,), against="nothing", say=lambda _: None)
    assert not (tmp_path / "run").exists()


def test_methods_of_others_go_all_the_way(recipe_file, grid, tmp_path):
    """Labels with words around the answer are taught, understood again, and judged; weights reach the trainer."""
    folder = shutil.copytree(grid[0], tmp_path / "run")
    recipe = load_recipe(recipe_file, [WORDED, "evaluation.max_new_tokens=24", "tuning.epochs=2"])
    results = run(recipe, folder, say=lambda _: None)
    assert results.keys() == {"init_basic", "init_refuse", *recipe.strategies}
    weights = [example.weight for example in read_records(folder / "grait/examples.jsonl", Example)]
    idk = [w for w in weights if w != 1.0]
    assert sum(idk) == pytest.approx(len(idk) / 2)
    several = read_records(folder / "multisample/examples.jsonl", Example)
    assert len(several) > len({example.id for example in several})
    suffix = "Are you sure you accurately answered the question based on your internal knowledge? I am"
    assert all(suffix in example.completion for example in read_records(folder / "r_tuning/examples.jsonl", Example))
