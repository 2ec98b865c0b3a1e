"""The shape of the package, read from its imports: who may know whom, what start-up costs, how long a file gets."""

import ast
import importlib.util
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import rait

PACKAGE = Path(rait.__file__).parent
ROOT = Path(__file__).parents[2]
FILES = sorted(PACKAGE.rglob("*.py"))

# From the top down. A unit is a module or folder directly in the package; it may import from its own layer and below.
LAYERS = [
    {"cli"},
    {
        "pipeline",
        "asking",
        "export",
        "explaining",
        "status",
        "commands",
        "summary",
        "reporting",
        "estimate",
        "ranked",
        "diagnosis",
        "steps",
    },
    {"stages", "keys", "shown", "sets"},
    {"knowledge", "construction", "tuning", "evaluation"},
    {
        "questions",
        "models",
        "prompting",
        "chat",
        "judging",
        "choosing",
        "progress",
        "tables",
        "shards",
        "manifest",
        "book",
        "locking",
    },
    {"recipe", "settings", "seeding", "columns", "intervals", "formats"},
    {"records", "errors", "inert"},
]
STAGES = LAYERS[3]
DEPTH = {unit: depth for depth, layer in enumerate(LAYERS) for unit in layer}

HEAVY = {"torch", "transformers", "trl", "peft", "datasets", "sentence_transformers", "pandas"}
HEAVY |= {"sklearn", "matplotlib", "altair", "jinja2", "vl_convert"}
HEAVY_FILES = {"models/tree.py", "models/drawing.py", "models/sampler.py", "models/scoring.py"}
HEAVY_FOLDER = "tuning/"


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def unit_of(path: Path) -> str:
    return name_of(path).partition("/")[0].removesuffix(".py")


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def modules(statement: ast.AST) -> Iterator[str]:
    """The dotted modules that a statement imports; "from a import b" may mean a.b."""
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names)
    elif isinstance(statement, ast.ImportFrom):
        assert statement.level == 0, "imports are absolute"
        yield from (f"{statement.module}.{alias.name}" for alias in statement.names)


def at_start(node: ast.AST) -> Iterator[ast.AST]:
    """The statements that run when a module is imported: not those in functions or for type checkers alone."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child
        yield from at_start(child)


def imported_units(path: Path) -> set[str]:
    """Units of the package that a file imports, anywhere in it; `rait` itself imports nothing until it is asked."""
    dotted = [name.split(".") for node in ast.walk(tree_of(path)) for name in modules(node)]
    found = {parts[1] for parts in dotted if parts[0] == "rait" and len(parts) > 1}
    return (found & {unit_of(file) for file in FILES}) - {"__init__"}


def files_at_start(path: Path) -> set[Path]:
    """Files of the package that are read when `path` is imported, itself and packages above included."""
    seen: set[Path] = set()
    waiting = [path]
    while waiting:
        file = waiting.pop()
        if file in seen:
            continue
        seen.add(file)
        waiting += [folder / "__init__.py" for folder in file.parents if PACKAGE in (folder, *folder.parents)]
        for node in at_start(tree_of(file)):
            for name in modules(node):
                parts = name.split(".")
                if parts[0] == "rait":
                    targets = [PACKAGE.joinpath(*parts[1:length]) for length in range(2, len(parts) + 1)]
                    waiting += [target.with_suffix(".py") for target in targets]
                    waiting += [target / "__init__.py" for target in targets]
        waiting = [file for file in waiting if file.is_file()]
    return seen


def heavy_imports(path: Path) -> set[str]:
    return {name.partition(".")[0] for node in at_start(tree_of(path)) for name in modules(node)} & HEAVY


def may_be_heavy(path: Path) -> bool:
    return name_of(path) in HEAVY_FILES or name_of(path).startswith(HEAVY_FOLDER)


def test_every_unit_has_a_place():
    assert {unit_of(path) for path in FILES} - {"__init__"} == DEPTH.keys()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_go_down(path):
    unit = unit_of(path)
    if unit == "__init__":
        return
    upwards = {other for other in imported_units(path) if DEPTH[other] < DEPTH[unit]}
    assert not upwards, f"{name_of(path)} imports from above: {upwards}"
    if unit in STAGES:
        assert imported_units(path) & STAGES <= {unit}, "stages meet in records and files, not in each other"


def test_no_units_import_each_other_in_a_circle():
    imports = {unit: set[str]() for unit in DEPTH}
    for path in FILES:
        if unit_of(path) in DEPTH:
            imports[unit_of(path)] |= imported_units(path) - {unit_of(path)}
    while free := [unit for unit, needed in imports.items() if not needed & imports.keys()]:
        for unit in free:
            del imports[unit]
    assert not imports, f"a circle among {sorted(imports)}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_heavy_packages_are_imported_where_they_are_used(path):
    assert may_be_heavy(path) or not heavy_imports(path)


@pytest.mark.parametrize("name", ["__init__.py", "cli/__init__.py", "recipe.py", "tables.py", "questions/__init__.py"])
def test_start_up_reaches_no_heavy_package(name):
    heavy = {name_of(file): found for file in files_at_start(PACKAGE / name) if (found := heavy_imports(file))}
    assert not heavy


def test_what_is_read_at_start_is_found():
    """The check above sees through other modules: the sampler reaches torch by way of the tree too."""
    assert PACKAGE / "models/tree.py" in files_at_start(PACKAGE / "models/sampler.py")
    assert "torch" in heavy_imports(PACKAGE / "models/tree.py")


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_has_at_most_400_lines(path):
    assert len(path.read_text("utf-8").splitlines()) <= 400


@pytest.mark.parametrize("script", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.name)
def test_what_a_benchmark_imports_is_there(script):
    tree = ast.parse(script.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "rait":
            module = importlib.import_module(node.module)
            for name in (alias.name for alias in node.names):
                assert hasattr(module, name) or importlib.util.find_spec(f"{node.module}.{name}"), (
                    f"{node.module}.{name}"
                )
