"""The documentation says what the code says, names what exists, and builds without a broken link."""

import ast
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydantic import BaseModel
from typer.testing import CliRunner

from rait.cli.commands import app
from rait.recipe import bundled_recipes
from rait.settings import Recipe

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), ROOT / "README.md"])
NAMED = re.compile(r"(?<![\w./-])(?:src/rait|examples|benchmarks|docs|tests)/[\w./-]+\.(?:py|md|yaml|ipynb|css|svg)\b")
LINKED = re.compile(r"\]\((?!https?:)([^)#\s]+)")
FUNCTION = re.compile(r"\[`(\w+)`\]\(\.\./(src/[\w/]+\.py)\)")
COMMAND = re.compile(r"(?:^    (?:\S*/)?|`(?:\S*/)?)rait ([a-z]+)", re.MULTILINE)
KEY = re.compile(r"`([a-z_]+(?:\.[a-z_]+)+)(?:[=:][^`]*)?`")


def name_of(path):
    return path.name


@cache
def reference():
    spec = spec_from_file_location("reference", DOCS / "reference.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def keys(model=Recipe, at=""):
    """Every key of a recipe by its path, and what describes it; those below the name of a test set are its own."""
    found = {}
    for name, field in model.model_fields.items():
        if isinstance(field.default, BaseModel):
            found[at + name] = field.description or type(field.default).__doc__
            found |= keys(type(field.default), f"{at}{name}.")
        else:
            found[at + name] = field.description
    return found


@pytest.mark.parametrize("page", ["recipes", "commands"])
def test_the_reference_is_made_from_todays_code(page):
    made = getattr(reference(), f"{page}_page")()
    assert (DOCS / f"{page}.md").read_text("utf-8") == made, "run: python docs/reference.py"


def test_every_key_has_a_description():
    assert [key for key, description in keys().items() if not description] == []


def test_the_reference_holds_every_key_recipe_command_and_option():
    recipes, commands = reference().recipes_page(), reference().commands_page()
    shown = set(re.findall(r"^\| `([a-z_.]+)` \|", recipes, re.MULTILINE))
    # What is described once is not repeated where it is used again.
    assert shown == {key for key in keys() if not key.startswith("rehearsal.tuning.")}
    assert all(f"[`{name}`](../src/rait/recipes/{name}.yaml)" in recipes for name in bundled_recipes())
    runner = CliRunner(env={"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"})
    for command in app.registered_commands:
        name = command.name or command.callback.__name__
        section = commands.partition(f"\n## rait {name}\n")[2].partition("\n## ")[0]
        told = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", runner.invoke(app, [name, "--help"]).output))
        words = " ".join(re.findall(r"^\| `(.+?)` \|", section, re.MULTILINE))
        assert set(re.findall(r"--[a-z-]+", words)) == told - {"--help"}


def test_values_are_shown_as_the_settings_have_them():
    lines = {line.split("`")[1]: line for line in reference().recipes_page().splitlines() if line.startswith("| `")}
    assert "| number > 0 | `1.0` |" in lines["probe.temperature"]
    assert "| whole number ≥ 2 | `10` |" in lines["probe.samples"]
    assert "| number ≥ 0, ≤ 1 | `0.5` |" in lines["construction.threshold"]
    assert "| `negative` / `non_positive` | `negative` |" in lines["construction.flow_rule"]
    assert "| whole number ≥ 1 or none | none |" in lines["questions.limit"]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_that_are_named_exist(page):
    text = page.read_text("utf-8")
    missing = [path for path in NAMED.findall(text) if not (ROOT / path).exists()]
    missing += [path for path in LINKED.findall(text) if not (page.parent / path).exists()]
    assert missing == []


def test_files_that_do_not_exist_would_be_seen():
    text = "see [a](../src/rait/no.py), `src/rait/no.py` and python examples/no.py, but not my/docs/no.md"
    assert NAMED.findall(text) == ["src/rait/no.py", "examples/no.py"]
    assert LINKED.findall(text) == ["../src/rait/no.py"]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_functions_stand_where_they_are_said_to(page):
    for name, path in FUNCTION.findall(page.read_text("utf-8")):
        defined = {getattr(node, "name", None) for node in ast.parse((ROOT / path).read_text("utf-8")).body}
        assert name in defined, f"{path} has no {name}"


def test_the_method_is_led_to_its_functions():
    assert len(FUNCTION.findall((DOCS / "method.md").read_text("utf-8"))) > 25


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_and_keys_that_are_named_exist(page):
    text = page.read_text("utf-8")
    known = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert set(COMMAND.findall(text)) - known - {"is"} == set()
    sections = {key.partition(".")[0] for key in keys()}
    named = {key for key in KEY.findall(text) if key.partition(".")[0] in sections}
    files = {key for key in named if key.endswith((".md", ".py", ".yaml", ".jsonl", ".json", ".parquet"))}
    assert named - files - keys().keys() == set()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_to_other_sites_have_the_form_of_one(page):
    for link in re.findall(r"\]\((\w+:[^)\s]*)\)", page.read_text("utf-8")):
        parts = urlsplit(link)
        assert parts.scheme == "https" and "." in parts.netloc, link


def build(folder, site):
    """Build the documentation of a project as `make docs` does."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=folder, env=quiet, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT, folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_it_builds_without_a_warning_and_whole(site):
    assert {f"{page.stem}.html" for page in DOCS.glob("*.md")} <= {page.name for page in site.glob("*.html")}
    shown = (site / "source/src/rait/evaluation/metrics.py.html").read_text("utf-8")
    assert "truthful_helpfulness" in shown
    assert not list(site.rglob("*.py"))


def test_its_pages_fetch_nothing_from_elsewhere(site):
    for page in site.rglob("*.html"):
        text = page.read_text("utf-8")
        fetched = re.findall(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?([^\"'\s>]+)", text)
        fetched += re.findall(r"<link\b(?![^>]*rel=[\"']?canonical)[^>]*\bhref=[\"']?([^\"'\s>]+)", text)
        assert [url for url in fetched if urlsplit(url).netloc] == [], page


def test_a_broken_link_an_anchor_that_is_none_and_a_page_without_a_place_fail(tmp_path):
    shutil.copytree(DOCS, tmp_path / "docs")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    for name in ("src", "examples", "README.md", "SECURITY.md"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "docs/stray.md").write_text("[a](../src/rait/no.py) [b](method.md#no) [c](no.md)")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0
    for part in ("stray.md\n", "source/src/rait/no.py.md", "does not contain an anchor '#no'", "'no.md'"):
        assert part in done.stderr
    assert done.stderr.count("WARNING") == 4
