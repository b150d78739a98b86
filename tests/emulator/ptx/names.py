"""Second pass: registers, arrays and variables get C++ names, and shared ones an offset."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .syntax import Declaration, Function, Module, PtxError, split_operands
from .types import SIZE, storage

_VARIABLE = re.compile(
    r"\.(?:global|const)\s+(?:\.align\s+\d+\s+)?(?:\.attribute\(.*?\)\s+)?"
    r"\.(\w+)\s+([$\w]+)((?:\[\d*\])*)\s*(?:=\s*(.*))?$"
)
_SHARED = re.compile(r"\.shared\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+([$\w]+)(?:\[(\d*)\])?")
_ARRAY = re.compile(r"\.(?:local|param)\s+(?:\.align\s+\d+\s+)?\.(\w+)\s+([$%\w]+)(?:\[(\d+)\])?")
_REGISTERS = re.compile(r"\.reg\s+\.(\w+)\s+(.*)")
_NUMBERED = re.compile(r"([%\w$]+)<(\d+)>")


def mangle(name: str) -> str:
    """A C++ identifier for a PTX one."""
    return re.sub(r"\W", "_", name.replace("%", "v_").replace("$", "L_"))


def shared_name(text: str) -> str:
    """The name of a `.shared` variable."""
    match = _SHARED.search(text)
    if match is None:
        raise PtxError(f"cannot read: {text}")
    return match[3]


# Between two variables, so that an index past the end of one is not one into the next.
_GAP = 64


@dataclass
class SharedMemory:
    """Where a kernel's variables of shared memory lie; `extern` ones begin behind all others."""

    offsets: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    dynamic: set[str] = field(default_factory=set)
    size: int = 0

    def copy(self) -> SharedMemory:
        """The same variables, to which others can be added."""
        return SharedMemory(dict(self.offsets), dict(self.sizes), set(self.dynamic), self.size)

    def declare(self, text: str) -> None:
        """Place a `.shared` variable."""
        name = shared_name(text)
        match = _SHARED.search(text)
        element = SIZE[match[2]]
        if ".extern" in text or match[4] == "":
            self.dynamic.add(name)
        elif name not in self.offsets:
            alignment = int(match[1] or element)
            start = self.size + _GAP if self.offsets else 0
            self.offsets[name] = (start + alignment - 1) // alignment * alignment
            self.sizes[name] = element * int(match[4] or 1)
            self.size = self.offsets[name] + self.sizes[name]


def _values(text: str) -> list[str]:
    values = [value for value in re.split(r"[{},\s]+", text) if value]
    if any(re.match(r"[A-Za-z_$]", value) for value in values):
        raise PtxError(f"a variable that starts with an address is not supported: {text[:100]}")
    return [re.sub(r"^0[fFdD]", "0x", value) for value in values]


def variable(text: str) -> tuple[str, list[str]]:
    """The name of a `.global` or `.const` variable, and the C++ that defines it."""
    match = _VARIABLE.search(text)
    if match is None:
        raise PtxError(f"cannot read: {text}")
    kind, name = storage(match[1]), match[2]
    count = 1
    for size in re.findall(r"\[(\d*)\]", match[3]):
        count *= int(size or 0)
    values = _values(match[4] or "")
    data = ", ".join(f"({kind}){value}" for value in values)
    cpp = mangle(name)
    return name, [
        f"alignas(16) {kind} {cpp}[{max(count, len(values))}] = {{{data}}};",
        f"const ModuleVariable known_{cpp}({cpp}, sizeof {cpp});",
    ]


@dataclass
class Names:
    """What the names in one function stand for."""

    module: Module
    shared: SharedMemory
    variables: set[str]
    function: Function
    declarations: list[str] = field(default_factory=list)
    arrays: dict[str, str] = field(default_factory=dict)
    scopes: list[dict[str, str]] = field(default_factory=lambda: [{}])
    _count: int = 0

    def __post_init__(self) -> None:
        for i, result in enumerate(self.function.results):
            self.arrays[result.name] = f"R[{i}]"
        for i, parameter in enumerate(self.function.parameters):
            self.arrays[parameter.name] = f"P[{i}]"

    def declare(self, declaration: Declaration) -> None:
        """Name the registers or the array of a declaration."""
        text = declaration.text
        if text.startswith(".reg"):
            self._declare_registers(text)
        elif not text.startswith(".shared"):  # those are placed before
            match = _ARRAY.match(text)
            name = self._fresh(match[2])
            self.arrays[match[2]] = name
            size = SIZE[match[1]] * int(match[3] or 1)
            self.declarations.append(f"alignas(16) char {name}[{size}];")

    def _fresh(self, name: str) -> str:
        self._count += 1
        return f"{mangle(name)}_{self._count}"

    def _declare_registers(self, text: str) -> None:
        match = _REGISTERS.fullmatch(text)
        kind = "bool" if match[1] == "pred" else storage(match[1])
        for declared in split_operands(match[2]):
            numbered = _NUMBERED.fullmatch(declared)
            names = (
                [f"{numbered[1]}{i}" for i in range(int(numbered[2]))] if numbered else [declared]
            )
            for name in names:
                # Scopes may use a name again; all are declared at the top, for a goto's sake.
                cpp = mangle(name) if len(self.scopes) == 1 else self._fresh(name)
                self.scopes[-1][name] = cpp
                self.declarations.append(f"{kind} {cpp}{{}};")

    def register(self, name: str) -> str | None:
        """The C++ variable of a register, the innermost of that name."""
        for scope in reversed(self.scopes):
            if name in scope:
                return scope[name]
        return None

    def address(self, name: str) -> str:
        """The address that a symbol stands for, as a C++ expression."""
        if name in self.arrays:
            return f"(uint64_t)(uintptr_t){self.arrays[name]}"
        if name in self.shared.offsets:
            return f"(uint64_t){self.shared.offsets[name]}"
        if name in self.shared.dynamic:
            return "dynamic_shared_offset()"
        if name in self.variables:
            return f"(uint64_t)(uintptr_t){mangle(name)}"
        raise PtxError(f"{self.function.name}: unknown symbol {name}")
