"""The documents: links lead somewhere, and Python in docs/ and docstrings runs as it is written."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import emulator
import emulator.triton
import pytest

import fusionops
from fusionops import nn, ops

ROOT = Path(__file__).resolve().parents[1]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    ROOT / "benchmarks" / "README.md",
    *DOCS,
]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
# [text](target), ![text](target), both with a title or without; [name]: target; HTML.
LINK = re.compile(
    r"\]\(\s*<?([^)>\s]+)>?(?:\s+[\"'][^)]*)?\)"
    r"|^\[[^\]]+\]:\s*(\S+)"
    r"|(?:href|src)=[\"']([^\"']+)",
    flags=re.MULTILINE,
)
HEADING = re.compile(r"^#{1,6} (.+?)(?: #+)?$", flags=re.MULTILINE)
ABSOLUTE = re.compile(r"[a-z][a-z0-9+.-]*:|//")

# What the text around a block of a page takes for granted, by the number of the block.
GIVEN = {
    ("docs/catalog.md", 1): """
import numpy as np
from fusionops import Catalog

for part in range(100):
    np.save(f"part-{part}.npy", np.random.default_rng(part).normal(size=(3, 8)))
ids = np.arange(300)
""",
    ("docs/emulator.md", 0): """
import torch
import fusionops

user, item = torch.randn(3, 8), torch.randn(5, 8)
""",
}
# Pages whose blocks go on from those before.
CONTINUED = {"docs/multimodal.md"}
# Blocks that run kernels of a GPU on the CPU.
EMULATED = {("docs/emulator.md", 0)}


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def python_blocks(page: Path) -> list[str]:
    found = FENCED.findall(page.read_text(encoding="utf-8"))
    return [code for language, code in found if language == "python"]


def prose(page: Path) -> str:
    return FENCED.sub("", page.read_text(encoding="utf-8"))


def links(page: Path) -> list[str]:
    without_code = re.sub(r"(`+).+?\1", "code", prose(page), flags=re.DOTALL)
    return [target for found in LINK.findall(without_code) for target in found if target]


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings: lower case, no punctuation, repeats numbered."""
    found: set[str] = set()
    for heading in HEADING.findall(prose(page)):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        anchor = first = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        count = 0
        while anchor in found:
            count += 1
            anchor = f"{first}-{count}"
        found.add(anchor)
    return found


def broken(page: Path) -> list[str]:
    """Relative links of `page` that lead nowhere, each with the reason."""
    result = []
    for target in links(page):
        if ABSOLUTE.match(target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.is_relative_to(ROOT) or not file.is_file():
            result.append(f"{target}: no such file in the repository")
        elif anchor and (file.suffix != ".md" or anchor not in anchors(file)):
            result.append(f"{target}: no such heading")
    return result


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links(page):
    assert broken(page) == []


def test_broken_links_are_found(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "other.md").write_text("# A `b`, c\n\n## Twice\n\n## Twice\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[`a`](other.md) ![b](b.png) [c](other.md#a-b-c) [d](other.md#twice-1) [e](other.md#d)\n"
        "[f](#here) [g](../g.md) [h](https://h.example/h.md) `[i](i.md)`\n\n[j]: j.md\n"
        '<img src="k.png">\n```python\nx = [1](l.md)\n```\n# Here\n'
    )
    assert [reason.partition(":")[0] for reason in broken(page)] == [
        "b.png", "other.md#d", "../g.md", "j.md", "k.png",
    ]  # fmt: skip


# [`name`](file): code that is defined there.
DEFINED = re.compile(r"\[`(\w+)`\]\(([^)\s]+\.py)\)")


def undefined(page: Path) -> list[str]:
    """Names of functions and classes that a page links to a file which does not define them."""
    found = DEFINED.findall(prose(page))
    return [
        f"{name} in {file}"
        for name, file in found
        if not re.search(
            rf"^ *(?:def|class) {name}\b",
            (page.parent / file).read_text(encoding="utf-8"),
            flags=re.MULTILINE,
        )
    ]


def test_the_map_of_the_mathematics_leads_to_functions():
    page = ROOT / "docs" / "mathematics.md"
    assert undefined(page) == []
    assert len(DEFINED.findall(prose(page))) > 40


def test_names_that_a_file_does_not_define_are_found(tmp_path):
    (tmp_path / "code.py").write_text("class A:\n    def f(self): ...\n")
    page = tmp_path / "page.md"
    page.write_text("[`A`](code.py) [`f`](code.py) [`ff`](code.py) [g](code.py) [`A.f`](page.md)")
    assert undefined(page) == ["ff in code.py"]


BLOCKS = [
    pytest.param(
        name_of(page), number, code, id=f"{name_of(page)}-{number}",
        marks=[pytest.mark.emulated] if (name_of(page), number) in EMULATED else [],
    )
    for page in DOCS
    for number, code in enumerate(python_blocks(page))
]  # fmt: skip


@pytest.mark.parametrize(("page", "number", "code"), BLOCKS)
def test_python_blocks_run(page, number, code, tmp_path, monkeypatch):
    if (page, number) in EMULATED and emulator.triton.missing() is not None:
        pytest.skip(str(emulator.triton.missing()))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    before = python_blocks(ROOT / page)[:number] if page in CONTINUED else []
    for given in (GIVEN.get((page, number), ""), *before):
        exec(given, names)
    exec(compile(code, f"{page}, block {number}", "exec"), names)
    if (page, number) == ("docs/catalog.md", 0):
        assert (tmp_path / "items.safetensors").is_file()


PUBLIC = {name: getattr(package, name) for package in (ops, nn) for name in package.__all__}
PUBLIC |= {name: getattr(fusionops, name) for name in fusionops.__all__}


@pytest.mark.parametrize("name", PUBLIC)
def test_examples_of_docstrings(name):
    found = doctest.DocTestFinder().find(PUBLIC[name], name, globs={})
    assert sum(len(one.examples) for one in found) > 0
    said: list[str] = []
    for one in found:
        doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(one, out=said.append)
    assert "".join(said) == ""


def test_blocks_are_found():
    """And what is given belongs to a block that is there."""
    present = {tuple(block.values[:2]) for block in BLOCKS}
    assert ("docs/catalog.md", 0) in present
    assert set(GIVEN) <= present
