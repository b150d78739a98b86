"""Docstrings as the site renders them: the reStructuredText of numpydoc to Markdown.

An extension of griffe, which reads the sources without importing them.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

import griffe
from mathml import FormulaError, typeset

# Below "mkdocs", so that `mkdocs build --strict` counts the warnings.
_log = logging.getLogger("mkdocs.docstrings")

_HEADING = re.compile(r"^\w[\w ]*\n-{3,}\n", flags=re.MULTILINE)
_NOTES = re.compile(r"^Notes\n-{3,}\n(.*?)(?=^\w[\w ]*\n-{3,}\n|\Z)", flags=re.M | re.S)
_MATH = re.compile(r"^\.\. math::[ \t]*(.*)\n?((?:[ \t]*\n|[ \t]+\S.*(?:\n|\Z))*)", flags=re.M)
_ROLE = re.compile(r":([a-z:]+):`([^`]+)`")
_PYTHON = ("attr", "class", "const", "data", "exc", "func", "meth", "mod", "obj")

Linker = Callable[[str], str]


class Docstrings(griffe.Extension):
    """Translates every docstring of a package, and warns of public names that have none."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Once all of the package is read, so that every name can be looked up."""
        others = _imported(pkg)
        for obj in _objects(pkg):
            if obj.docstring is None:
                if _needs_docstring(obj):
                    _log.warning("%s has no docstring", obj.path)
                continue
            try:
                obj.docstring.value = to_markdown(obj.docstring.value, _linker(obj, pkg, others))
            except (FormulaError, LookupError) as error:
                _log.warning("docstring of %s: %s", obj.path, error.args[0])
            if obj.is_function:
                _own_types(obj)


def _own_types(function: griffe.Object) -> None:
    """Types and defaults of arguments documented together: griffe gives all those of the first."""
    signature = {parameter.name: parameter for parameter in function.parameters}
    written = [parameter.annotation for parameter in function.parameters]
    for section in function.docstring.parsed:
        if section.kind is not griffe.DocstringSectionKind.parameters:
            continue
        for documented in section.value:
            if (own := signature.get(documented.name)) is None:
                continue
            if any(documented.annotation is annotation for annotation in written):
                documented.annotation = own.annotation  # from the signature, not from the text
            if own.default is not None:
                documented.value = own.default


def to_markdown(text: str, link: Linker) -> str:
    """A docstring in Markdown; `link` makes a reference of the name in a role."""
    return _MATH.sub(_displayed, _ROLE.sub(lambda role: _inline(role, link), _notes_first(text)))


def _notes_first(text: str) -> str:
    """The notes as part of the description: what is computed comes before its arguments."""
    notes = _NOTES.search(text)
    if notes is None:
        return text
    rest = text[: notes.start()] + text[notes.end() :]
    first = _HEADING.search(rest)
    place = len(rest) if first is None else first.start()
    return f"{rest[:place].rstrip()}\n\n{notes[1].strip()}\n\n{rest[place:]}".rstrip()


def _displayed(block: re.Match[str]) -> str:
    """A ``.. math::`` block; a blank line in it stands between two formulas."""
    formulas = [part for part in re.split(r"\n\s*\n", f"{block[1]}\n{block[2]}") if part.strip()]
    lines = [typeset(" ".join(part.split()), display=True) for part in formulas]
    return "\n" + "".join(f'<div class="formula">{line}</div>\n\n' for line in lines)


def _inline(role: re.Match[str], link: Linker) -> str:
    name, content = role[1].removeprefix("py:"), " ".join(role[2].split())
    if name == "math":
        return typeset(content, display=False)
    if name not in _PYTHON:
        raise LookupError(f"there is no role {role[1]!r}")
    return link(content)


def _linker(obj: griffe.Object, package: griffe.Module, others: set[str]) -> Linker:
    def link(content: str) -> str:
        name = content.removeprefix("~")
        shown = name.rpartition(".")[2] if content.startswith("~") else name
        if name.partition(".")[0] in others:
            return f"`{shown}`"
        target = _path_of(name, obj, package)
        # Optional: what the package has, but no page shows, stays plain code.
        return f'<autoref identifier="{target}" optional><code>{shown}</code></autoref>'

    return link


def _path_of(name: str, obj: griffe.Object, package: griffe.Module) -> str:
    """The full name of what a role names in the docstring of `obj`."""
    scope: griffe.Object | None = obj
    while scope is not None:
        if (found := _member(scope, name)) is not None:
            return found.path
        scope = scope.parent
    if name.startswith(f"{package.name}."):
        found = _member(package, name.removeprefix(f"{package.name}."))
        if found is not None:
            return found.path
    raise LookupError(f"there is no {name!r}")


def _member(scope: griffe.Object, name: str) -> griffe.Object | None:
    """What the dotted `name` leads to from `scope`; an alias is followed to its home."""
    for part in name.split("."):
        if part not in scope.all_members:
            return None
        member = scope.all_members[part]
        try:
            scope = member.final_target if member.is_alias else member
        except griffe.AliasResolutionError:  # of another package
            return None
        # fusionops.ops.fusion_topk is read as the module and is, when imported, the function in it.
        if member.is_module and not member.is_alias and _is_own_export(scope):
            scope = scope.all_members[part]
    return scope


def _is_own_export(module: griffe.Object) -> bool:
    exports = getattr(module.parent, "exports", None) or ()
    return module.name in map(str, exports) and module.name in module.all_members


def _imported(package: griffe.Module) -> set[str]:
    """The other packages that it imports from."""
    aliases = (
        member.target_path
        for obj in _objects(package)
        for member in obj.members.values()
        if member.is_alias
    )
    return {path.partition(".")[0] for path in aliases} - {package.name}


def _objects(obj: griffe.Object) -> Iterator[griffe.Object]:
    """`obj` and everything that is defined in it."""
    yield obj
    for member in list(obj.members.values()):
        if not member.is_alias:
            yield from _objects(member)


def _needs_docstring(obj: griffe.Object) -> bool:
    """As ruff has it: public modules, classes and functions with public homes."""
    public = not any(part.startswith("_") for part in obj.path.split("."))
    return public and (obj.is_module or obj.is_class or obj.is_function)
