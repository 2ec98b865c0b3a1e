"""What the commands have in common: the app, their options, recipes from their words, and what they print."""

import json as json_module
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rait.errors import RecipeError
from rait.inert import inert_json, presentable

if TYPE_CHECKING:
    from rait.recipe import Recipe

app = typer.Typer(
    name="rait",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help='Teach a language model to say "I don\'t know" when it does not know, and only then.',
    epilog="Settings of a recipe can be given at the end of a command as key=value, for example probe.samples=20.",
)


_FILES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".gguf")  # endings that no name or hub id has


def _version(wanted: bool) -> None:
    if wanted:
        from rait import __version__

        print(f"rait {__version__}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version and leave")
    ] = False,
) -> None:
    try:
        places = [*sys.argv[1:], os.getcwd()]
    except FileNotFoundError as error:
        raise RecipeError("the folder that this was started in is gone; go to another one first") from error
    for text in places:
        try:
            text.encode()
        except UnicodeEncodeError as error:  # the libraries that write tables and weights could not open such a file
            known = sys.getfilesystemencoding()
            raise RecipeError(
                f"{text} is no text in {known}; rename the file or folder, or set PYTHONUTF8=1"
            ) from error


def present(parameter: typer.CallbackParam, path: Path | None) -> Path | None:
    """The path that an argument or option names; raise `RecipeError` where there is nothing."""
    if path is not None and not path.exists():
        word = parameter.opts[0]
        name = word if word.startswith("-") else parameter.metavar or word.upper()
        remedy = "name a folder that `rait run` made" if name == "RUN" else "check the path"
        raise RecipeError(f"{name}: {path} does not exist; {remedy}")
    return path


def present_or_named(parameter: typer.CallbackParam, source: str | None) -> str | None:
    """A source that may be a name or hub id; raise `RecipeError` where it can be a path alone, and nothing is there."""
    name = source or ""
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or name.lower().endswith(_FILES):
        present(parameter, Path(os.path.expanduser(name)))
    return source


RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="run folder", callback=present)]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="recipe keys to change")]
RecipeArgument = Annotated[str | None, typer.Argument(help="recipe file or name; without it the embedded default")]
Json = Annotated[bool, typer.Option("--json", help="print one JSON object and nothing else")]
ModelOption = Annotated[
    str,
    typer.Option("--model", help="hub id, folder, .gguf file, or gemma-3-270m (bundled)", callback=present_or_named),
]
QuestionsOption = Annotated[
    str,
    typer.Option(
        "--questions",
        help="atlas, a file (.jsonl .json .csv .tsv .parquet), or a hub id",
        callback=present_or_named,
    ),
]
SplitOption = Annotated[str | None, typer.Option("--split", help="split of atlas or of a hub set")]


def named_recipe(recipe: str | None, overrides: list[str] | None) -> "Recipe":
    """A recipe by file or name, or the embedded default, with overrides."""
    from rait.recipe import load_recipe

    words = list(overrides or [])
    if recipe is not None and "=" in recipe:  # `rait run key=value` without a recipe
        words, recipe = [recipe, *words], None
    return load_recipe(recipe, words)


def settings_of(
    overrides: list[str] | None,
    *,
    model: str | None = None,
    questions: str | None = None,
    split: str | None = None,
    form: str | None = None,
) -> "Recipe":
    """The settings of a single command: the defaults, the command's options, and the overrides."""
    from rait.recipe import load_settings

    options = {
        "model.source": model,
        "questions.source": questions,
        "questions.split": split,
        "questions.form": form,
    }
    return load_settings({key: value for key, value in options.items() if value is not None}, overrides or [])


def done(as_json: bool, data: Any, text: str) -> None:
    """Print what came of a command: `text` for people, or `data` as one JSON object."""
    if as_json:
        print_json(data)
    else:
        print(presentable(text))


def print_json(data: Any) -> None:
    """Print one JSON object."""
    print(as_json(data, indent=2))


def as_json(data: Any, indent: int | None = None) -> str:
    """JSON of characters that standard output has, whatever its encoding."""
    plain = (sys.stdout.encoding or "utf-8").lower() not in ("utf-8", "utf8")
    return inert_json(json_module.dumps(data, ensure_ascii=plain, indent=indent))
