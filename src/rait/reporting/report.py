"""A report of one or several runs: one HTML file that shows everything, and needs nothing else.

    write_report(["demo-run"], "demo-run/report.html")
    write_report(["one", "two"], "compare.html")

No model is loaded. The file holds its style, its scripts (Vega, Vega-Lite and Vega-Embed draw the charts) and its data;
it fetches nothing, and its Content-Security-Policy allows nothing to be fetched, and no script but its own. What models
and people wrote is text to it, never markup. Of several runs the methods stand side by side, then each by itself.
"""

import json
from base64 import b64encode
from collections.abc import Iterator, Sequence
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

from rait import __version__
from rait.errors import InputError
from rait.progress import say
from rait.reporting.browser import pack
from rait.reporting.charts import looks
from rait.reporting.outcomes import Charts, about, came_out, dials, legend
from rait.reporting.reading import KEPT, TRAIN, Run, read_run
from rait.reporting.sections import changed, how, why
from rait.tables import atomic

_SCRIPTS = ("charts.js", "questions.js", "report.js")


def write_report(folders: Sequence[str | Path], out: str | Path) -> Path:
    """Write the report of the runs in `folders` to the file `out`, and return its path.

    A file that has changed since its run made it is left out, and named to the user. Raises `InputError` where a folder
    is no run folder, or the file cannot be written.
    """
    out = Path(out)
    if out.is_dir():
        raise InputError(f"cannot write {out}: it is a folder; name a file, such as {out / 'report.html'}")
    runs = [read_run(folder, KEPT // len(folders)) for folder in folders]
    for problem in (each for run in runs for each in run.damaged):
        say(problem)
    text = page(runs)
    with atomic(out) as file:
        file.write(text.encode(errors="replace"))
    return out


def page(runs: Sequence[Run]) -> str:
    """The page that shows `runs`, at least one."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    kept = Charts()
    packed = pack(runs)
    sections = [
        {
            "run": run,
            "status": _status(run),
            "facts": _facts(run),
            "legend": _legend(run),
            "dial": dials(run, kept, place),
            "changed": changed(run, kept, place),
            "why": why(run, kept, place),
            "how": how(run, kept, place),
        }
        for place, run in enumerate(runs)
    ]
    scripts = [
        _vega(),
        "\n".join(_file(name) for name in _SCRIPTS),
    ]
    environment = Environment(
        loader=PackageLoader("rait.reporting", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        title=" and ".join(run.name for run in runs),
        version=__version__,
        out=came_out(runs, kept),
        sections=sections,
        several=len(runs) > 1,
        differences=list(_differences(runs)),
        warnings=list(_warnings(runs)),
        style=Markup(_file("report.css")),
        notices=Markup(_file("notices.txt")),
        scripts=[Markup(script) for script in scripts],
        policy=_policy(scripts),
        charts=Markup(_inert(kept.specs)),
        data=packed.text,
        cut=packed.note,
    )


@cache
def _vega() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, which takes seconds to put together."""
    import vl_convert

    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")


def _policy(scripts: Sequence[str]) -> str:
    """A Content-Security-Policy that lets run what stands in the page, known by its checksum, and nothing else."""
    sums = " ".join(f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" for script in scripts)
    return f"default-src 'none'; script-src {sums}; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def _inert(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _file(name: str) -> str:
    return files("rait.reporting").joinpath("page", name).read_text("utf-8")


def _legend(run: Run) -> list[dict[str, str]]:
    """The strategies of a run as its own charts draw them."""
    look_of = looks(list(run.methods))
    names = [method.name for method in run.strategies]
    return legend({name: look_of[name] for name in names}, {name: about(name) for name in names})


def _status(run: Run) -> str:
    """What to know of a run that is not whole."""
    if run.manifest.get("status") == "complete":
        return ""
    return "This run is not finished: the report shows what there is. Give its command again to go on."


def _facts(run: Run) -> list[tuple[str, str]]:
    """What a run is of, in a few words each."""
    recipe = run.recipe
    model, probe = recipe.get("model"), recipe.get("probe")
    facts = [("Model", str(model.get("source"))) if isinstance(model, dict) else ("Model", "n/a")]
    facts += [("Probed" if each.name == TRAIN else f"Test set {each.name}", _count(each.size)) for each in run.sets]
    if isinstance(probe, dict) and run.sets and not any(question.options for question in run.sets[0].questions):
        facts.append(("Answers sampled", f"{probe.get('samples')} a question"))
    return [*facts, ("Seed", str(run.manifest.get("seed", "n/a")))]


def _count(size: int) -> str:
    return f"{size:,} question{'' if size == 1 else 's'}"


def _differences(runs: Sequence[Run]) -> Iterator[tuple[str, list[str]]]:
    """The keys in which the recipes of several runs differ, with the value of each run."""
    flat = [dict(_flat(run.recipe)) for run in runs]
    for key in dict.fromkeys(key for each in flat for key in each):
        values = [json.dumps(each[key], ensure_ascii=False, default=str) if key in each else "—" for each in flat]
        if len(set(values)) > 1:
            yield key, values


def _flat(value: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        if isinstance(inner, dict) and inner:
            yield from _flat(inner, f"{before}{key}.")
        else:
            yield f"{before}{key}", inner


def _warnings(runs: Sequence[Run]) -> Iterator[str]:
    """Why several runs may not be compared as they are."""
    for test in dict.fromkeys(test.name for run in runs for test in run.tests):
        having = [(run, each) for run in runs for each in run.tests if each.name == test]
        asked = {_dig(run.manifest, "steps", "questions", "inputs", test) for run, _ in having}
        if None in asked:  # an earlier version: the questions that are shown tell
            asked = {(each.size, frozenset(question.id for question in each.questions)) for _, each in having}
        if len(asked) > 1:
            yield f"The test set {test} does not hold the same questions in all runs: compare its numbers with care."
    if len({str(_dig(run.manifest, "steps", "knowledge/initial", "inputs", "model")) for run in runs}) > 1:
        yield "The runs start from different models: THS is against each run's own untuned model."


def _dig(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value
