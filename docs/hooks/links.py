"""Links that work on GitHub, made to work on the site as well.

Pages of the site are written as files of the repository, some of them outside docs/. MkDocs knows
docs/ alone, so links that cross its border are rewritten.
"""

from __future__ import annotations

import os.path
import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

# Files of the repository outside docs/, and the pages that they are.
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
    "fusionops/data/ONLINE_RETAIL.md": "online-retail.md",
}
_HOMES = {page: file for file, page in OUTSIDE.items()}
_FENCED = re.compile(r"(^ *```.*?^ *```$)", flags=re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#:]+)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Called by MkDocs for every page."""
    return relinked(markdown, page.file.src_uri)


def relinked(markdown: str, page: str) -> str:
    """The text of `page` (its path on the site) with links to the pages of the site."""
    home = _HOMES.get(page, f"docs/{page}")

    def replaced(link: re.Match[str]) -> str:
        picture, text, target, anchor = link.groups(default="")
        file = posixpath.normpath(posixpath.join(posixpath.dirname(home), target))
        if file in OUTSIDE:
            place = OUTSIDE[file]
        elif file.startswith("docs/"):
            place = file.removeprefix("docs/")
        elif (ROOT / file).exists():
            return text  # a source file: GitHub shows it, the site does not have it
        else:
            return link[0]  # broken: MkDocs says so
        place = os.path.relpath(place, posixpath.dirname(page) or ".").replace(os.sep, "/")
        return f"{picture}[{text}]({place}{anchor})"

    parts = _FENCED.split(markdown)
    parts[::2] = [_LINK.sub(replaced, prose) for prose in parts[::2]]
    return "".join(parts)
