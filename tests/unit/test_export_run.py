"""Opening a run, writing a folder, uploading it, and saying what cannot be done."""

import json
import subprocess
import sys
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

from rait.book import Book
from rait.errors import InputError, ModelError, RaitError, RecipeError
from rait.export import hub
from rait.export.cards import base_of, dataset_card, results_of
from rait.export.finished import MARK, new_folder, open_run
from rait.export.merged import MergeCheck, judge
from rait.export.run import export
from rait.recipe import Recipe, dump_recipe
from rait.records import Example, Outcome, Role, Verdict
from rait.settings import Model
from rait.tables import write_json, write_records


@pytest.fixture
def run(tmp_path):
    """A run folder with two tuned models, one of a further seed."""
    folder, recipe = tmp_path / "run", Recipe()
    steps = {}
    for name in ("craft", "craft/seed-1"):
        (folder / name / "adapter").mkdir(parents=True)
        steps[f"{name}/construction"] = {
            "files": {},
            "seconds": 1.0,
            "inputs": {"prompt": recipe.prompt.model_dump(mode="json")},
        }
        steps |= {f"{name}/{step}": {"inputs": {}, "files": {}, "seconds": 1.0} for step in ("tuning", *recipe.tests)}
    (folder / "recipe.yaml").write_text(dump_recipe(recipe))
    (folder / "manifest.json").write_text(json.dumps({"status": "complete", "seed": 0, "steps": steps}))
    return folder


def test_a_tuned_model_is_found_by_name(run):
    found = open_run(run, "craft/seed-1")
    assert (found.place, found.strategy) == (run / "craft/seed-1", "craft")
    with pytest.raises(RecipeError, match="2 tuned models; name one with --strategy: craft, craft/seed-1"):
        open_run(run, None)
    with pytest.raises(RecipeError, match="no tuned model 'cor_rait'"):
        open_run(run, "cor_rait")
    (run / "craft/seed-1/adapter").rmdir()
    assert open_run(run, None).name == "craft"


def test_what_is_no_finished_run_is_refused(run, tmp_path):
    with pytest.raises(InputError, match=r"holds no manifest\.json .*, so it is no run folder"):
        open_run(tmp_path, None)
    recipe = Recipe.model_validate({"prompt": {"refusal": "No idea"}})
    (run / "recipe.yaml").write_text(dump_recipe(recipe))
    with pytest.raises(InputError, match="has changed since craft was tuned"):
        open_run(run, "craft")
    (run / "manifest.json").write_text('{"status": "running", "steps": {}}')
    with pytest.raises(InputError, match="nothing was tuned"):
        open_run(run, None)
    (run / "manifest.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        open_run(run, None)


def test_what_an_earlier_recipe_has_tuned_is_not_handed_over(run):
    manifest = json.loads((run / "manifest.json").read_text())

    def confirm(*steps):
        manifest["confirmed"] = steps
        (run / "manifest.json").write_text(json.dumps(manifest))

    confirm("craft/construction")
    with pytest.raises(InputError, match="nothing was tuned"):
        open_run(run, "craft")
    confirm("craft/construction", "craft/tuning", "craft/id")
    with pytest.raises(InputError, match=r"craft of .* has not answered ood yet; finish the run"):
        open_run(run, "craft")
    confirm("craft/construction", "craft/tuning", "craft/id", "craft/ood")
    assert open_run(run, None).name == "craft"


def test_metrics_of_an_earlier_recipe_are_not_shown(run):
    judged = [Verdict(id=str(n), question="?", answers=("a",), response="a", outcome=o, rule="made")
              for n, o in enumerate([Outcome.CORRECT, Outcome.WRONG, Outcome.REFUSED, Outcome.REFUSED])]  # fmt: skip
    for method, test in product(("init_basic", "craft"), ("id", "ood")):
        write_records(run / method / f"{test}.verdicts.parquet", judged)
    write_json(run / "craft/metrics.json", {test: {"overall": {"P_r": {"value": 0.9}}} for test in ("id", "ood")})
    assert results_of(open_run(run, "craft"))["id"]["P_r"]["value"] == 0.5
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["steps"]["craft/metrics"] = {"files": {}, "seconds": 1.0}
    (run / "manifest.json").write_text(json.dumps(manifest))
    assert results_of(open_run(run, "craft"))["id"]["P_r"]["value"] == 0.9


def test_the_card_of_a_further_seed_names_it(run):
    taught = [Example(id="1", prompt="?", completion="a", role=Role.VANILLA)]
    for name in ("craft", "craft/seed-1"):
        write_records(run / name / "examples.jsonl", taught)
    first, further = (
        dataset_card(open_run(run, name), title="t", summary="s", files={}) for name in ("craft", "craft/seed-1")
    )
    assert "Strategy craft, seed 0; tuned on 1 vanilla" in first
    assert "Strategy craft, seed 1 (`rait compare` drew and tuned with it, on the probe of seed 0); tuned" in further
    recipes = [yaml.safe_load(card.partition("```yaml\n")[2].partition("```")[0]) for card in (first, further)]
    assert [recipe.pop("seed") for recipe in recipes] == [0, 1] and recipes[0] == recipes[1]


def test_two_exports_to_one_place_do_not_meet(tmp_path):
    out = tmp_path / "run/export/out"
    with new_folder(out) as one:
        (one / MARK).write_text("{}")
        (one / ".half.part").write_text("being written")
        with new_folder(out) as other:
            (other / MARK).write_text("{}")
        write_json(tmp_path / "run/manifest.json", {"format": 1, "status": "running", "steps": {}})
        (tmp_path / "run/.x.json.0123abcd.part").write_text("")
        Book(tmp_path / "run", say=print).begin(Recipe())  # which sweeps up
        assert not (tmp_path / "run/.x.json.0123abcd.part").exists()
        assert (one / ".half.part").exists()
    assert {path.name for path in out.parent.iterdir()} == {"out"}
    assert {path.name for path in out.iterdir()} == {MARK, ".half.part"}


_EXPORTING = """
import sys, time
from pathlib import Path
from rait.export.finished import new_folder
with new_folder(Path(sys.argv[1])) as folder:
    (folder / "model.safetensors").write_bytes(b"half of it")
    print(folder.name, flush=True)
    time.sleep(600)
"""


def test_what_a_killed_export_has_left_is_cleared_away(tmp_path):
    """By the next one to the same place, and not while it is at work; to other places it is nothing."""
    out, other = tmp_path / "craft-[1]", tmp_path / "craft-[1].b"
    started = [
        subprocess.Popen([sys.executable, "-c", _EXPORTING, place], stdout=subprocess.PIPE, text=True)
        for place in (out, out, other)
    ]
    try:
        killed, at_work, elsewhere = [process.stdout.readline().strip() for process in started]
        for process in (started[0], started[2]):
            process.kill()
            process.wait()
        assert (tmp_path / killed / "model.safetensors").is_file()
        with new_folder(out) as folder:
            assert not (tmp_path / killed).exists()
            (folder / MARK).write_text("{}")
        left = {path.name for path in tmp_path.iterdir()}
        assert left == {out.name, at_work, f"{at_work}.lock", elsewhere, f"{elsewhere}.lock"}
        assert (tmp_path / at_work / "model.safetensors").read_bytes() == b"half of it"
    finally:
        for process in started:
            process.kill()
            process.communicate()


def test_a_folder_is_whole_or_not_there(tmp_path):
    out = tmp_path / "deep" / "out"

    def fail():
        with new_folder(out) as folder:
            (folder / "a").write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not out.exists() and not list(out.parent.iterdir())
    with new_folder(out) as folder:
        (folder / MARK).write_text("{}")
        (folder / "old").write_text("")
    with new_folder(out) as folder:
        (folder / MARK).write_text("{}")
    assert [path.name for path in out.iterdir()] == [MARK]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("all of it")
    with pytest.raises(InputError, match="is no earlier export"), new_folder(tmp_path / "mine"):
        pass
    assert (tmp_path / "mine/thesis.txt").read_text() == "all of it"


def test_an_export_that_was_edited_is_not_replaced(tmp_path):
    """Such as its card, before it is uploaded: these words are the user's."""
    out = tmp_path / "out"

    def write():
        with new_folder(out) as folder:
            (folder / MARK).write_text("{}")
            (folder / "README.md").write_text("a card")
            (folder / "train.jsonl").write_text("{}")

    write()
    write()
    (out / "train.jsonl").unlink()  # which takes nothing from anybody
    write()
    (out / "README.md").write_text("my own words")
    with pytest.raises(InputError, match=f"^{out} is no earlier export, or more than that: README.md has been changed"):
        write()
    assert (out / "README.md").read_text() == "my own words"
    (out / "README.md").unlink()
    (out / "README.md").mkdir()
    (out / "README.md/mine").write_text("all of it")
    with pytest.raises(InputError, match=r"README\.md/mine is none of its files"):
        write()


def test_a_file_in_the_place_of_an_export(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(InputError, match="it is a file; choose another --out"), new_folder(tmp_path / "out"):
        pass
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize("contents", ["[]", '["README.md"]', '["ab"]', "3", "null"])
def test_a_list_of_what_an_export_has_written_that_says_nothing(tmp_path, contents):
    """Earlier versions listed names alone, by which what was edited cannot be told."""
    (tmp_path / "README.md").write_text("perhaps mine")
    (tmp_path / MARK).write_text(f'{{"contents": {contents}}}')
    with pytest.raises(InputError, match=r"README\.md is none of its files"), new_folder(tmp_path):
        pass
    assert (tmp_path / "README.md").exists()


def test_wrong_words_are_refused_before_any_work(run):
    with pytest.raises(RecipeError, match="unknown format 'onnx'; known: trl"):
        export(run, "onnx", say=print)
    with pytest.raises(RecipeError, match="without --push"):
        export(run, "trl", public=True, say=print)


def check(**changes):
    good = {"dtype": "bfloat16", "parameters": 9, "precise": 1e-6, "rounded": 0.02, "questions": 64, "changed": 2}
    return MergeCheck(**{**good, **changes})


def test_a_merged_model_that_agrees_is_let_through():
    judge(check())
    judge(check(dtype="float32", rounded=1e-6, changed=0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precise": 1e-3}, "other logits"),
        ({"precise": float("nan")}, "other logits"),
        ({"rounded": 0.06}, "rounded to bfloat16"),
        ({"rounded": float("nan")}, "rounded to bfloat16"),
        ({"changed": 7}, "7 of 64 answers"),
        ({"dtype": "float32", "rounded": 1e-6, "changed": 1}, "1 of 64 answers"),
        ({"dtype": "float32", "rounded": 1e-3, "changed": 0}, "logits by 0.001"),
    ],
)
def test_a_merged_model_that_does_not_is_refused(changes, message):
    with pytest.raises(ModelError, match=message):
        judge(check(**changes))


def test_a_licence_is_carried_over_where_it_is_known(tmp_path):
    assert base_of(Recipe()).licence == {"license": "gemma"}
    folder = tmp_path / "some-model"
    folder.mkdir()
    recipe = Recipe(model=Model(source=str(folder)))
    assert base_of(recipe).licence == {}
    text = "---\nlicense: other\nlicense_name: llama3\nlicense_link: LICENSE\n---\n# Model\n"
    (folder / "README.md").write_text(text)
    base = base_of(recipe)
    assert base.licence == {"license": "other", "license_name": "llama3", "license_link": "LICENSE"}
    assert (base.name, base.hub) == ("some-model", None)
    (folder / "README.md").write_text("---\nlicense: [\n---\n")
    assert base_of(recipe).licence == {}


class Hub:
    """The hub as an upload sees it."""

    def __init__(self, private=True, fails=None):
        self.private, self.fails, self.asked = private, fails, []

    def __getattr__(self, name):
        def ask(*args, **words):
            self.asked.append((name, args, words))
            if name == self.fails:
                raise HfHubHTTPError("403 Forbidden", response=SimpleNamespace(headers={}, request=None))
            return SimpleNamespace(repo_id="me/model", private=self.private)

        return ask


def uploaded(monkeypatch, tmp_path, api, **words):
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: api)
    return hub.push(tmp_path, "me/model", "model", message="m", **words)


def test_an_upload_is_private_unless_told_otherwise(monkeypatch, tmp_path):
    api = Hub()
    uploaded(monkeypatch, tmp_path, api, public=False)
    made, _, sent = api.asked
    assert made == ("create_repo", ("me/model",), {"repo_type": "model", "private": True, "exist_ok": True})
    assert sent[0] == "upload_folder" and sent[2]["folder_path"] == tmp_path
    public = Hub(private=False)
    uploaded(monkeypatch, tmp_path, public, public=True)
    assert public.asked[0][2]["private"] is False
    assert all("token" not in words for _, _, words in api.asked + public.asked)


def test_nothing_goes_to_a_repository_that_is_public_already(monkeypatch, tmp_path):
    api = Hub(private=False)
    with pytest.raises(RaitError, match="is public, so nothing was uploaded"):
        uploaded(monkeypatch, tmp_path, api, public=False)
    assert "upload_folder" not in [name for name, _, _ in api.asked]


@pytest.mark.parametrize("step", ["create_repo", "repo_info", "upload_folder"])
def test_what_the_hub_refuses_is_a_sentence(monkeypatch, tmp_path, step):
    with pytest.raises(RaitError, match=r"403 Forbidden.*hf auth login"):
        uploaded(monkeypatch, tmp_path, Hub(fails=step), public=False)


def test_nobody_logged_in_is_seen_before_any_work(monkeypatch, run):
    def whoami():
        raise LocalTokenNotFoundError("Token is required")

    monkeypatch.setattr("huggingface_hub.HfApi", lambda: SimpleNamespace(whoami=whoami))
    with pytest.raises(RaitError, match="log in to the hub"):
        export(run, "merged", strategy="craft", repository="me/model", say=print)
    assert not (run / "export").exists()


def test_a_hub_that_cannot_be_reached_is_a_sentence(monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: HfApi(endpoint="http://127.0.0.1:9", token="hf_x"))
    with pytest.raises(RaitError, match=r"cannot log in to the hub .*network"):
        hub.check_login()


def test_the_folder_one_stands_in_is_a_target_unless_it_holds_the_run(run, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with new_folder(Path(".")) as folder:
        (folder / MARK).write_text("{}")
    assert (tmp_path / "empty" / MARK).is_file()
    for holds in (run, run.parent):
        monkeypatch.chdir(holds)
        with pytest.raises(InputError, match="holds the run itself"):
            export(run, "trl", Path("."), strategy="craft", say=print)


def test_the_sources_of_atlas_are_named_in_the_card_of_its_data():
    from rait.export.cards import _licence_of_data

    assert "GeoNames" in _licence_of_data("atlas") and "CC BY 4.0" in _licence_of_data("atlas-choice")
    own = _licence_of_data("/home/me/own.jsonl")
    assert "not known" in own and "/home/me" not in own
