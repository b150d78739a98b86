"""First pass: the text of a PTX module, taken apart into variables, functions and statements."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .types import SIZE


class PtxError(ValueError):
    """A piece of PTX that no pass understands."""


@dataclass(frozen=True)
class Instruction:
    """`guard` is the predicate with its sign, `parts` the opcode and what follows its dots."""

    text: str
    guard: str
    parts: tuple[str, ...]
    operands: tuple[str, ...]


@dataclass(frozen=True)
class Label:
    name: str


@dataclass(frozen=True)
class Scope:
    """The begin or the end of a block in braces, which has registers of its own."""

    begins: bool


@dataclass(frozen=True)
class Declaration:
    """A register, a `.local` or `.param` array, or a `.shared` variable, of a function."""

    text: str


@dataclass(frozen=True)
class Targets:
    """The labels that a `brx.idx` may jump to."""

    labels: tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """The source file (by number) and line of what follows; of inlined code, its caller's too."""

    file: int
    line: int
    caller_file: int
    caller_line: int


Statement = Instruction | Label | Scope | Declaration | Targets | Place


@dataclass(frozen=True)
class Parameter:
    name: str
    size: int


@dataclass(frozen=True)
class Function:
    name: str
    is_kernel: bool
    parameters: tuple[Parameter, ...]
    results: tuple[Parameter, ...]
    max_threads: int
    body: tuple[Statement, ...]


@dataclass
class Module:
    files: dict[int, str] = field(default_factory=dict)
    variables: list[str] = field(default_factory=list)  # declarations of .global and .const
    shared: list[str] = field(default_factory=list)  # declarations outside of functions
    functions: list[Function] = field(default_factory=list)


_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_LOC = re.compile(
    r"^\s*\.loc\s+(\d+)\s+(\d+)(?:[^\n]*inlined_at\s+(\d+)\s+(\d+))?[^\n]*$", re.MULTILINE
)
_FILE = re.compile(r'^\s*\.file\s+(\d+)\s+"([^"]*)"[^\n]*$', re.MULTILINE)
_HEADER = re.compile(r"^\s*\.(?:version|target|address_size)\b[^\n]*$", re.MULTILINE)
_DIRECTIVE = re.compile(
    r"\s*(?:\.(?:visible|extern|weak|common)\s+)*\.(entry|func|global|const|shared|section)\b"
)
# A statement runs to its semicolon, braces of vectors included; a brace before it opens a scope.
_STATEMENT = re.compile(r"\s*(?:([{}])|([$%\w]+)\s*:(?!:)|([^;{}][^;]*);)")
_INSTRUCTION = re.compile(r"(?:@(!?%?[\w$]+)\s+)?([a-z][\w.:]*)\s*(.*)", re.DOTALL)
_SIGNATURE = re.compile(r"\s*(?:\((.*?)\)\s*)?([$\w]+)\s*(?:\((.*?)\))?", re.DOTALL)
_PARAMETER = re.compile(r"\.(?:param|reg)\s+(.*?)([$%\w]+)(?:\[(\d+)\])?\s*$", re.DOTALL)
_THREADS = re.compile(r"\.(?:maxntid|reqntid)\s+([\d, ]+)")


def split_operands(text: str) -> tuple[str, ...]:
    """Split at the commas outside of brackets."""
    parts, depth, start = [], 0, 0
    for i, c in enumerate(text):
        if c in "{[(":
            depth += 1
        elif c in "}])":
            depth -= 1
        elif c == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    parts.append(text[start:].strip())
    return tuple(part for part in parts if part)


def _instruction(text: str) -> Instruction:
    match = _INSTRUCTION.fullmatch(text)
    if match is None:
        raise PtxError(f"cannot read: {text}")
    parts = tuple(match[2].replace("::", "_").split("."))
    return Instruction(text, match[1] or "", parts, split_operands(match[3]))


def _statement(text: str) -> Statement | None:
    text = " ".join(text.split())
    if text.startswith((".reg", ".local", ".param", ".shared")):
        return Declaration(text)
    if text.startswith(".place"):
        return Place(*map(int, text.split()[1:]))
    if text.startswith(".branchtargets"):
        return Targets(split_operands(text.removeprefix(".branchtargets")))
    if text.startswith("."):  # .pragma, and what else is advice
        return None
    return _instruction(text)


def _body(text: str) -> tuple[Statement, ...]:
    statements: list[Statement] = []
    position = 0
    while match := _STATEMENT.match(text, position):
        position = match.end()
        if match[1]:
            statements.append(Scope(match[1] == "{"))
        elif match[2]:
            statements.append(Label(match[2]))
        elif statement := _statement(match[3]):
            statements.append(statement)
    if text[position:].strip():
        raise PtxError(f"unread: {text[position : position + 200]}")
    return tuple(statements)


def _parameters(text: str | None) -> tuple[Parameter, ...]:
    found = []
    for part in split_operands(text or ""):
        match = _PARAMETER.search(part)
        kind = next(word for word in re.findall(r"\.(\w+)", match[1]) if word in SIZE)
        found.append(Parameter(match[2], SIZE[kind] * int(match[3] or 1)))
    return tuple(found)


def _function(head: str, body: str, is_kernel: bool) -> Function:
    signature = _SIGNATURE.match(head)
    threads = 1024
    if limit := _THREADS.search(head):
        threads = 1
        for size in limit[1].split(","):
            threads *= int(size)
    return Function(
        signature[2],
        is_kernel,
        _parameters(signature[3]),
        _parameters(signature[1]),
        threads,
        _body(body),
    )


def _closing(text: str, opening: int) -> int:
    """The position of the brace that closes the one at `opening`."""
    depth = 0
    for match in re.compile(r"[{}]").finditer(text, opening):
        depth += 1 if match[0] == "{" else -1
        if depth == 0:
            return match.start()
    raise PtxError("a brace is not closed")


def _read_directive(module: Module, text: str, match: re.Match) -> int:
    """Read what `match` begins; where it ends."""
    kind = match[1]
    semicolon = text.find(";", match.end())
    if kind in ("global", "const", "shared"):
        declaration = " ".join(text[match.start() : semicolon].split())
        (module.shared if kind == "shared" else module.variables).append(declaration)
        return semicolon + 1
    brace = text.find("{", match.end())
    if kind == "func" and 0 <= semicolon < brace:  # declared here, defined below or by CUDA
        return semicolon + 1
    end = _closing(text, brace)
    if kind != "section":
        head = text[match.end() : brace]
        module.functions.append(_function(head, text[brace + 1 : end], kind == "entry"))
    return end + 1


def parse(text: str) -> Module:
    """Take a module apart."""
    module = Module()
    text = _COMMENT.sub("", text)
    module.files = {int(number): name for number, name in _FILE.findall(text)}
    text = _FILE.sub("", _HEADER.sub("", text))
    text = _LOC.sub(lambda m: f".place {m[1]} {m[2]} {m[3] or 0} {m[4] or 0};", text)
    position = 0
    while match := _DIRECTIVE.match(text, position):
        position = _read_directive(module, text, match)
    if text[position:].strip():
        raise PtxError(f"unread: {text[position : position + 200]}")
    return module
