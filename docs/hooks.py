"""A hook of MkDocs: files of the project that a page links to are pages of the site, so that it is whole offline.

A page says `[metrics.py](../src/rait/evaluation/metrics.py)`, which works where the repository is read. On the site the
link leads to a page that shows the file; a link to a file that does not exist fails the build.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
_OUTSIDE = re.compile(r"\]\(\.\./([^)#\s]+)(#[^)\s]*)?\)")
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".toml": "toml", ".md": "markdown", ".ipynb": "json"}


def on_files(files: Files, config: Any) -> Files:
    """Add a page for every file outside the documentation that a page links to."""
    pages = [file for file in files if file.is_documentation_page()]
    for name in sorted({name for page in pages for name, _ in _OUTSIDE.findall(page.content_string)}):
        path = ROOT / name
        if path.is_file():
            files.append(File.generated(config, _page_of(name), content=_shown(name, path.read_text("utf-8"))))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead links to files outside the documentation to their pages."""
    return _OUTSIDE.sub(lambda found: f"]({_page_of(found[1])})", markdown)


def _page_of(name: str) -> str:
    return f"source/{name}.md"


def _shown(name: str, text: str) -> str:
    language = _LANGUAGES.get(Path(name).suffix, "text")
    return f"---\ntitle: {name}\nsearch:\n  exclude: true\n---\n\n# {name}\n\n~~~~~~ {{.{language}}}\n{text}\n~~~~~~\n"
