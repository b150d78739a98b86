"""The pages that nobody writes: one for each operator, and the API by package.

Made from ``__all__`` and the docstrings, so that a new operator has its page without further work.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import griffe
import links
import measured
from docstrings import Docstrings
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
_log = logging.getLogger("mkdocs.generate")

# Packages whose public names have a page together, in the order of the navigation.
PACKAGES = (
    "catalog",
    "nn",
    "models",
    "models.encoders",
    "models.explanation",
    "evaluation",
    "data",
    "data.synthetic",
)
# Classes that a page shows beside the public names of its package, as their options matter.
BESIDE = {
    "evaluation": (
        "faithfulness.measure",
        "faithfulness.compare",
        "faithfulness.order_of",
        "faithfulness.random_orders",
    ),
    "models.encoders": (
        "text.TextEncoder",
        "image.ImageEncoder",
        "audio.AudioEncoder",
        "recurrent_audio.RecurrentAudioEncoder",
        "table.TableEncoder",
        "behaviour.GRUBehaviour",
        "behaviour.TransformerBehaviour",
    ),
}

_OPERATOR = """\
# {name}

::: fusionops.{name}
    options:
      show_root_heading: false
      show_root_toc_entry: false
      {only_description}

## API

::: fusionops.{name}
    options:
      heading_level: 3
      show_docstring_description: false
      show_docstring_examples: false

## Example

::: fusionops.{name}
    options:
      show_root_heading: false
      show_root_toc_entry: false
      {only_examples}

## Measured

{measured}
"""
_SECTIONS = ("description", "parameters", "returns", "raises", "examples")


def on_startup(**_: Any) -> None:
    """Let griffe import ``docstrings`` later on: MkDocs takes the path of hooks out again."""
    sys.path.insert(0, str(Path(__file__).parent))


def on_files(files: Any, *, config: Any) -> Any:
    """Called by MkDocs once it has found docs/; the navigation is made of `config.nav` later."""
    package = load()
    pages = {**operator_pages(package), **api_pages(package)}
    for file, page in links.OUTSIDE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / file)))
    for page, text in pages.items():
        files.append(File.generated(config, page, content=text))
    config.nav = [_expanded(entry, list(pages)) for entry in config.nav]
    return files


def load() -> griffe.Module:
    """The package, read and not imported: nothing needs to be compiled."""
    package = griffe.load(
        "fusionops",
        search_paths=[ROOT],
        docstring_parser="numpy",
        extensions=griffe.load_extensions(Docstrings),
        resolve_aliases=True,
    )
    assert isinstance(package, griffe.Module)
    return package


def public(module: griffe.Module) -> dict[str, griffe.Object]:
    """The names in ``__all__`` and what they are."""
    found = {}
    for name in map(str, module.exports or ()):
        member = module.members[name]
        target = member.final_target if member.is_alias else member
        # An operator has the name of its module, which griffe then takes for the operator.
        if target.is_module and name in target.members:
            target = target.members[name]
        found[name] = target
    return found


def operators(package: griffe.Module) -> dict[str, griffe.Object]:
    """The public functions of ``fusionops.ops``; its classes are settings."""
    return {name: obj for name, obj in public(package["ops"]).items() if obj.is_function}


def operator_pages(package: griffe.Module) -> dict[str, str]:
    """``ops/index.md`` and a page for each operator, with a warning for what one lacks."""
    found = operators(package)
    rows = [f"| [`{name}`]({name}.md) | {_summary(obj)} |" for name, obj in found.items()]
    index = ["# Operators", "\n".join(["| operator | computes |", "|---|---|", *rows])]
    pages = {"ops/index.md": "\n\n".join(index)}
    for name, obj in found.items():
        for part in missing(obj):
            _log.warning("operator %s has no %s in its docstring", name, part)
        pages[f"ops/{name}.md"] = _OPERATOR.format(
            name=name,
            only_description=_only("description"),
            only_examples=_only("examples"),
            measured=measured.section(name),
        )
    return pages


def missing(operator: griffe.Object) -> list[str]:
    """What the page of an operator needs and its docstring lacks."""
    text = operator.docstring.value if operator.docstring else ""
    needed = {"formula": '<div class="formula">', "example": ">>> "}
    return [part for part, mark in needed.items() if mark not in text]


def api_pages(package: griffe.Module) -> dict[str, str]:
    """A page for each package, and one for the settings of the operators."""
    exports = public(package)
    classes = [name for name, obj in public(package["ops"]).items() if obj.is_class]
    settings = ["fusionops.use_backend", *(f"fusionops.ops.{name}" for name in classes)]
    pages = {"api/settings.md": _listing("Settings", "", settings)}
    for package_name in PACKAGES:
        module = _package(package, package_name)
        if module is None or not module.exports:
            continue
        path = f"fusionops.{package_name}"
        # By the shorter name where there is one, as users write it.
        names = [
            f"fusionops.{name}" if name in exports else f"{path}.{name}" for name in public(module)
        ]
        names += [f"{path}.{name}" for name in BESIDE.get(package_name, ())]
        pages[f"api/{package_name}.md"] = _listing(path, _summary(module), names)
    pages["api/catalog.md"] += f"\n\n## Measured\n\n{measured.section('catalog')}\n"
    return pages


def _package(package: griffe.Module, name: str) -> Any:
    """The package of a dotted name below `package`, None where there is none."""
    found: Any = package
    for part in name.split("."):
        found = None if found is None else found.members.get(part)
    return found


def _listing(title: str, summary: str, names: list[str]) -> str:
    return "\n\n".join([f"# {title}", summary, *map(_directive, names)])


def _directive(name: str) -> str:
    options = {
        # A Catalog is made by its class methods, so what __init__ takes is nobody's business.
        "fusionops.Catalog": "merge_init_into_class: false",
        # What recommenders share is what they are asked by.
        "fusionops.models.FusionRecommender": "inherited_members: true",
        "fusionops.models.LinearFusion": "inherited_members: true",
    }
    return f"::: {name}" + (f"\n    options:\n      {options[name]}" if name in options else "")


def _summary(obj: griffe.Object) -> str:
    return " ".join(obj.docstring.value.split("\n\n")[0].split()) if obj.docstring else ""


def _only(section: str) -> str:
    """Options that show one section of a docstring."""
    shown = {f"show_docstring_{other}": other == section for other in _SECTIONS}
    return "\n      ".join(f"{option}: {str(on).lower()}" for option, on in shown.items())


def _expanded(entry: Any, pages: list[str]) -> Any:
    """An entry ``title: folder/`` of the navigation with the pages of that folder."""
    if not isinstance(entry, dict):
        return entry
    ((title, value),) = entry.items()
    if isinstance(value, str) and value.endswith("/"):
        value = [page for page in pages if page.startswith(value)]
    return {title: value}
