"""The two pages of reference that are made from the code: every recipe key, and every command.

    python docs/reference.py        # writes docs/recipes.md and docs/commands.md, where they have changed

`make docs` does so before it builds, and a test fails where a page is not what the code says today.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from inspect import Parameter, signature
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import yaml
from pydantic import BaseModel
from typer.models import ArgumentInfo, OptionInfo

from rait.cli.commands import app
from rait.recipe import bundled_recipes
from rait.settings import Recipe

HERE = Path(__file__).parent
MADE = "<!-- Made by docs/reference.py from the code: change it there. -->"
_TYPES = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false", "null": "none"}
_VALUES = {int: "N", float: "X", Path: "PATH"}
_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def recipes_page() -> str:
    """Every key of a recipe: type and range, default, meaning; and the recipes that come with rait."""
    schemas = Recipe.model_json_schema()
    sections = _sections(Recipe)
    parts = [_table(("key", "value", "default", "meaning"), _keys(Recipe, schemas, schemas["$defs"], sections))]
    for name, section in sections.items():
        keys = _keys(section, schemas["$defs"][section.__name__], schemas["$defs"], sections, f"{name}.")
        parts.append(f"## {name}\n\n{_sentence(section)}\n\n{_table(('key', 'value', 'default', 'meaning'), keys)}")
    bundled = [
        (f"[`{name}`](../src/rait/recipes/{name}.yaml)", _plain(about)) for name, about in bundled_recipes().items()
    ]
    parts.append(f"## Recipes that come with rait\n\n{_table(('recipe', 'what it is'), bundled)}")
    intro = (
        "A recipe is a YAML file that says what a run is. Every key has a default, so a recipe holds what differs; "
        "an unknown key is an error that names the nearest known one. On the command line a key is set by its path: "
        "`rait run mine.yaml probe.samples=20`. `rait validate mine.yaml` checks a recipe and prints every key."
    )
    return "\n\n".join([MADE, "# Recipes", intro, *parts]) + "\n"


def commands_page() -> str:
    """Every command of the command line with its arguments and options."""
    commands = {command.name or command.callback.__name__: command.callback for command in app.registered_commands}
    listed = [(f"[`rait {name}`](#rait-{name})", _plain(_sentence(callback))) for name, callback in commands.items()]
    parts = [_command(f"rait {name}", callback) for name, callback in commands.items()]
    intro = (
        "Results go to standard output, progress and remarks to standard error; with `--json` standard output is one "
        "JSON object and nothing else. Exit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted (143 by SIGTERM). "
        f"{app.info.epilog}"
    )
    return "\n\n".join([MADE, "# Commands", intro, _table(("command", "what it does"), listed), *parts]) + "\n"


def _sections(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """The keys of a recipe that hold keys themselves, by name."""
    fields = model.model_fields.items()
    return {name: type(field.default) for name, field in fields if isinstance(field.default, BaseModel)}


def _keys(
    model: type[BaseModel],
    schema: dict[str, Any],
    known: dict[str, Any],
    sections: dict[str, type[BaseModel]],
    at: str = "",
) -> Iterator[tuple[str, ...]]:
    homes = {section.__name__: name for name, section in sections.items()}
    for name, field in model.model_fields.items():
        own = schema["properties"][name]
        if isinstance(field.default, BaseModel):
            meaning = field.description or _sentence(type(field.default))
            yield f"`{at}{name}`", _kind(own, homes), "", _plain(meaning)
        else:
            yield f"`{at}{name}`", _kind(own, homes), _default(field.default), _plain(field.description or "")


def _kind(schema: dict[str, Any], homes: dict[str, str]) -> str:
    """What a value may be, from its JSON schema; `homes` says which section describes a class."""
    if "$ref" in schema:
        home = homes[schema["$ref"].rpartition("/")[2]]
        return f"keys of [{home}](#{home})"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_kind(part, homes) for part in schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return " / ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema["type"] == "array":
        return f"list of {_kind(schema['items'], homes)}"
    if schema["type"] == "object":
        held = schema.get("additionalProperties") or next(iter(schema["patternProperties"].values()))
        return f"names, each with {_kind(held, homes)}"
    bounds = [f"{sign} {schema[bound]:.10g}" for bound, sign in _BOUNDS.items() if bound in schema]
    return " ".join([_TYPES[schema["type"]], ", ".join(bounds)]).strip()


def _default(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, dict):
        stated = {
            name: part.model_dump(exclude_unset=True) if isinstance(part, BaseModel) else part
            for name, part in value.items()
        }
        return f"`{yaml.safe_dump(stated, default_flow_style=True).strip()}`" if stated else "empty"
    if isinstance(value, tuple | str):
        return f"`{', '.join(value) if isinstance(value, tuple) else value}`" if value else "empty"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _command(path: str, callback: Callable[..., Any]) -> str:
    """A command from its signature, as typer reads it."""
    parameters = signature(callback, eval_str=True).parameters.values()
    declared = [(parameter, get_args(parameter.annotation)) for parameter in parameters]
    arguments = [(one, kind, info) for one, (kind, info) in declared if isinstance(info, ArgumentInfo)]
    options = [(one, kind, info) for one, (kind, info) in declared if isinstance(info, OptionInfo)]
    words = [(_word(one, info), _plain(info.help or ""), "") for one, _, info in arguments]
    rows = [(_option(one, kind, info), _plain(info.help or ""), _shown(one, kind)) for one, kind, info in options]
    needed = [word for word, _, default in rows if default == "needed"]
    usage = " ".join(
        [path, *needed, *(["[OPTIONS]"] if len(needed) < len(rows) else []), *(word for word, *_ in words)]
    )
    shown = [(f"`{word}`", meaning, default) for word, meaning, default in words + rows]
    table = "\n\n" + _table(("word", "meaning", "default"), shown) if shown else ""
    return f"## {path}\n\n{_plain(_sentence(callback))}\n\n    {usage}{table}"


def _word(one: Parameter, info: ArgumentInfo) -> str:
    name = info.metavar or one.name.upper()
    return name if one.default is Parameter.empty or name.startswith("[") else f"[{name}]"


def _option(one: Parameter, kind: Any, info: OptionInfo) -> str:
    # The first of the names stands where a default would, if the option is declared by an annotation.
    declared = [word for word in (info.default, *(info.param_decls or ())) if str(word).startswith("--")]
    names = "/".join(declared or ["--" + one.name.replace("_", "-")])
    parts = [part for part in get_args(kind) or [kind] if part is not NoneType]
    return names if parts == [bool] else f"{names} {info.metavar or _VALUES.get(parts[0], 'TEXT')}"


def _shown(one: Parameter, kind: Any) -> str:
    if one.default is Parameter.empty:
        return "needed"
    return "" if one.default is None or kind is bool else f"`{one.default}`"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _sentence(of: Any) -> str:
    return " ".join((of.__doc__ or "").split())


def _plain(text: str) -> str:
    """A text in which nothing is taken for markup."""
    return " ".join(text.replace("*", r"\*").replace("_", r"\_").replace("[", r"\[").replace("<", "&lt;").split())


if __name__ == "__main__":
    for file, page in ((HERE / "recipes.md", recipes_page()), (HERE / "commands.md", commands_page())):
        if not file.exists() or file.read_text("utf-8") != page:
            file.write_text(page, "utf-8")
            print(f"wrote {file}")
