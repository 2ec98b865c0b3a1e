"""The recipe: everything that decides a run, as one typed object.

    recipe = load_recipe("default", ["seed=1", "probe.samples=20"])

YAML in, dotted overrides on top. Every key is checked, all problems are reported at once, and an unknown key names the
nearest one that exists. What a recipe does not state has its default; a recipe that states `tests` has those test sets
alone. What the keys mean stands in `rait.settings`.
"""

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from rait.errors import RecipeError
from rait.inert import presentable
from rait.settings import (
    TESTS,
    Construction,
    Dial,
    Evaluation,
    Model,
    Probe,
    Prompt,
    Questions,
    Recipe,
    Rehearsal,
    Tuning,
)

__all__ = [
    "Construction",
    "Dial",
    "Evaluation",
    "Model",
    "Probe",
    "Prompt",
    "Questions",
    "Recipe",
    "Rehearsal",
    "Tuning",
    "bundled_recipes",
    "check_recipe",
    "dump_recipe",
    "load_recipe",
    "load_settings",
    "read_yaml",
]

# Pydantic's messages that speak of Python.
_PLAIN = {
    "string_type": "should be text (in quotes where YAML takes it for something else)",
    "tuple_type": "should be a list such as [a, b]",
    "dict_type": "should be names with keys",
    "too_short": "should not be empty",
    "string_pattern_mismatch": "should be a name of letters, digits, - and _",
}

_NODES = 100_000  # what a recipe may hold; aliases of aliases would fill the memory

_FOLDER = resources.files("rait") / "recipes"


def load_recipe(source: str | Path | None = None, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe: a YAML file, the name of one that comes with the package, or None for "default".

    `overrides` are "dotted.key=value" with the value in YAML. Raises `RecipeError` with every problem found.
    """
    path = _find(source)
    return _build(_parse(path), overrides, f"{path} with overrides" if overrides else str(path))


def load_settings(options: Mapping[str, Any], overrides: Sequence[str] = ()) -> Recipe:
    """The defaults with `options` (dotted key -> value) and then `overrides` on top: settings of a single command."""
    data: dict[str, Any] = {}
    for key, value in options.items():
        _put(data, key, value)
    return _build(data, overrides, "the command line")


def check_recipe(data: Mapping[str, Any], where: str) -> Recipe:
    """Validate plain data as a recipe; raise `RecipeError` with every problem, `where` in its first line."""
    return _build(data, (), where)


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as YAML, every key written out."""
    data = recipe.model_dump(mode="json")
    text: str = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    # Rare line breaks (U+0085, U+2028) would be read as a blank; escaped they stay.
    return text if yaml.safe_load(text) == data else yaml.safe_dump(data, sort_keys=False)


def read_yaml(text: str) -> tuple[Any, list[str]]:
    """What a YAML text holds, and the keys that stand twice in it, of which YAML would take the last without a word.

    Raises `yaml.YAMLError` or `ValueError` for whatever is wrong with it.
    """
    try:
        repeated = _repeated(yaml.compose(text, Loader=yaml.SafeLoader))
        return yaml.safe_load(text), repeated
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except (ArithmeticError, AttributeError, LookupError, TypeError) as error:  # of tags such as !!int and !!timestamp
        raise ValueError("a value is not of the type that its tag names") from error
    except ValueError as error:
        raise ValueError("a number of too many digits" if "digits" in str(error) else str(error)) from error


def bundled_recipes() -> dict[str, str]:
    """Name -> first comment line of every recipe in the package."""
    found = {item.name: item for item in _FOLDER.iterdir() if item.name.endswith(".yaml")}
    return {
        name.removesuffix(".yaml"): found[name].read_text("utf-8").splitlines()[0].lstrip("# ")
        for name in sorted(found)
    }


def _find(source: str | Path | None) -> Path:
    name = "default" if source is None else str(source)
    known = bundled_recipes()
    if name in known and not isinstance(source, Path):
        return Path(str(_FOLDER / f"{name}.yaml"))
    if not os.path.isfile(name):
        near = difflib.get_close_matches(name.removesuffix(".yaml"), known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise RecipeError(f"no recipe {name!r}: neither a file nor one of {', '.join(known)}; {hint}see `rait recipes`")
    return Path(name)


def _parse(path: Path) -> dict[str, Any]:
    try:
        data, repeated = read_yaml(path.read_bytes().decode())
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise RecipeError(f"{path}:{line}: not valid YAML: {error.problem}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise RecipeError(f"{path}:{line}: not UTF-8 text; save the file as UTF-8") from error
    except (yaml.YAMLError, ValueError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise RecipeError(f"{path} cannot be read as YAML: {reason}; check what stands there") from error
    if repeated:
        raise RecipeError("\n  ".join([f"{path} has keys twice; keep one of each:", *repeated]))
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of keys, found {type(data).__name__}")
    return data


def _repeated(top: yaml.Node | None) -> list[str]:
    """The keys that stand twice in a mapping; raise `ValueError` for a text that aliases make too long, or endless."""
    found: list[tuple[int, str]] = []
    todo, visited = [top], 0
    while todo:
        node = todo.pop()
        visited += 1
        if visited > _NODES:
            raise ValueError(f"with its aliases written out it has over {_NODES} values")
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                todo += [key, value]
                if not isinstance(key, yaml.ScalarNode):
                    continue
                if key.value in seen:
                    found.append((key.start_mark.line + 1, key.value))
                seen.add(key.value)
        elif isinstance(node, yaml.SequenceNode):
            todo += node.value
    return [f"line {line}: {key}" for line, key in sorted(found)]


def _build(data: Mapping[str, Any], overrides: Sequence[str], where: str) -> Recipe:
    """`data` with `overrides` on top as a recipe; raise `RecipeError` with every problem of both."""
    # The names of the default test sets, so that an override of one of them does not remove the others.
    tree: dict[str, Any] = {"tests": {name: {} for name in TESTS}, **data}
    problems = [problem for override in overrides if (problem := _apply(tree, override))]
    try:
        recipe = Recipe.model_validate(tree)
    except ValidationError as error:
        problems += _explain(error, tree)
    if problems:
        raise RecipeError("\n  ".join([f"the settings of {where} are not valid:", *problems]))
    return recipe


def _apply(tree: dict[str, Any], override: str) -> str | None:
    """Set the override in `tree`, or return what is wrong with it."""
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        return f"{override!r} must have the form key=value, such as probe.samples=20"
    try:
        value, _ = read_yaml(text)
    except (yaml.YAMLError, ValueError):
        return f"{override!r}: the value is not valid YAML; put a text with special signs in quotes"
    _put(tree, key, value)
    return None


def _put(tree: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        inner = tree.get(parent)
        # A copy, so that what the caller or an alias of YAML shares stays as it is.
        tree[parent] = tree = dict(inner) if isinstance(inner, dict) else {}
    tree[last] = value


def _explain(error: ValidationError, tree: Any) -> list[str]:
    """A line for each key: what is wrong with it, and what was found."""
    wrong: dict[str, list[str]] = {}
    for problem in error.errors():
        # A key of several types has a problem for each.
        wrong.setdefault(_key(problem["loc"], tree), []).append(_message(problem))
    return [f"{key}: {'; or '.join(messages)}" for key, messages in wrong.items()]


def _message(problem: Any) -> str:
    if problem["type"] == "extra_forbidden":
        return f"unknown key; {_hint(problem['loc'])}"
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    if problem["type"] == "model_type":
        message = f"should have keys ({', '.join(_keys(Recipe, problem['loc']))})"
    else:
        message = _PLAIN.get(problem["type"]) or problem["msg"].removeprefix("Input ")
    found = presentable(repr(problem["input"]))  # before it is cut: half a password is no known form
    return f"{message}, found {found if len(found) <= 60 else found[:57] + '...'}"


def _key(location: Sequence[Any], tree: Any) -> str:
    """The dotted key of a problem: its location as far as that leads through what was given."""
    parts = []
    for part in location:
        try:
            tree = tree[part]
        except (LookupError, TypeError):
            break
        parts.append(str(part))
    return ".".join(parts)


def _hint(location: Sequence[Any]) -> str:
    """The known key that is nearest to an unknown one: beside it, or else anywhere."""
    *parents, name = map(str, location)
    beside = _keys(Recipe, parents)
    if near := difflib.get_close_matches(name, beside, n=1):
        return f"did you mean {'.'.join([*parents, near[0]])}?"
    anywhere: dict[str, str] = {}
    for path in _paths(Recipe):
        anywhere.setdefault(path.rpartition(".")[2], path)
    if near := difflib.get_close_matches(name, anywhere, n=1):
        return f"did you mean {anywhere[near[0]]}?"
    return f"known here: {', '.join(beside)}"


def _keys(model: type[BaseModel], location: Sequence[Any]) -> list[str]:
    """Keys known at a place in the recipe."""
    if not location:
        return list(model.model_fields)
    field = model.model_fields.get(str(location[0]))
    if field is None:
        return []
    annotation = field.annotation
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _keys(annotation, location[1:])
    inner = [kind for kind in get_args(annotation) if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return _keys(inner[0], location[2:]) if inner else []


def _paths(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _paths(field.annotation, f"{prefix}{name}.")
