"""Last pass: functions and kernels as C++."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from .instructions import Operation, UnsupportedError, statement
from .names import Names, SharedMemory, mangle, shared_name, variable
from .syntax import Declaration, Function, Instruction, Label, Module, Place, Scope, Targets

_PROLOGUE = "(void)P; (void)R; bool carry = false, no_carry = false; (void)carry; (void)no_carry;"


def _jump_tables(function: Function) -> dict[str, tuple[str, ...]]:
    """The targets of each `brx.idx`: the table is a label, and may stand behind its use."""
    tables, name = {}, ""
    for item in function.body:
        if isinstance(item, Label):
            name = item.name
        elif isinstance(item, Targets):
            tables[name] = item.labels
    return tables


class Places:
    """The names of source lines, numbered as they come."""

    def __init__(self, files: dict[int, str]) -> None:
        self.files = {number: name.rpartition("/")[2] for number, name in files.items()}
        self.numbers: dict[str, int] = {"?": 0}

    def number(self, place: Place) -> int:
        """The number of a place."""
        name = self._name(place.file, place.line)
        if place.caller_file:
            name += f" (from {self._name(place.caller_file, place.caller_line)})"
        return self.numbers.setdefault(name, len(self.numbers))

    def _name(self, file: int, line: int) -> str:
        return f"{self.files.get(file, '?')}:{line}"


@dataclass
class _Body:
    """The statements of one function, as they are written."""

    names: Names
    places: Places
    lines: list[str] = field(default_factory=list)
    unsupported: list[str] = field(default_factory=list)

    def write(self, function: Function) -> None:
        """Write every statement."""
        self.tables = _jump_tables(function)
        for item in function.body:
            if isinstance(item, Instruction):
                self._instruction(item)
            elif isinstance(item, Label):
                self.lines.append(f"{mangle(item.name)}: ;")
            elif isinstance(item, Scope):
                self._scope(item)
            elif isinstance(item, Declaration):
                self.names.declare(item)
            elif isinstance(item, Place):
                self.lines.append(f"at({self.places.number(item)});")

    def _scope(self, scope: Scope) -> None:
        if scope.begins:
            self.names.scopes.append({})
        else:
            self.names.scopes.pop()

    def _instruction(self, instruction: Instruction) -> None:
        operation = Operation(instruction, self.names, self.tables)
        try:
            text = statement(operation)
        except UnsupportedError:
            # Fails where it is reached: a module may hold code that no launch here comes to.
            self.unsupported.append(instruction.text)
            quoted = instruction.text.replace('"', "'").replace("%", "%%")
            text = f'fail("unsupported PTX instruction: {quoted}");'
        guard = f"if ({operation.values.raw(instruction.guard)}) " if instruction.guard else ""
        self.lines.append(f"{guard}{{ {text} }}")


def _signature(function: Function) -> str:
    return f"void {mangle(function.name)}(char** P, char** R)"


@dataclass
class Translation:
    """The C++ of a module, and the instructions in it that the table does not have."""

    cpp: str
    unsupported: list[str]


def _references(function: Function) -> set[str]:
    """The words in a function's operands, which name what it uses and calls."""
    text = " ".join(item.text for item in function.body if isinstance(item, Instruction))
    return set(re.findall(r"[\w$]+", text))


def _shared_declarations(module: Module) -> list[str]:
    """Every `.shared` variable of a module; one function may use what another declares."""
    inside = (
        item.text
        for function in module.functions
        for item in function.body
        if isinstance(item, Declaration) and item.text.startswith(".shared")
    )
    return [*module.shared, *inside]


class _Emission:
    def __init__(self, module: Module) -> None:
        self.module = module
        self.places = Places(module.files)
        self.unsupported: list[str] = []
        self.declared = _shared_declarations(module)
        # What device functions use lies in one place for every kernel that may call them.
        self.common = SharedMemory()
        for function in module.functions:
            if not function.is_kernel:
                self._declare_used(self.common, function)

    def _declare_used(self, shared: SharedMemory, function: Function) -> None:
        used = _references(function)
        for text in self.declared:
            if shared_name(text) in used:
                shared.declare(text)

    def function(self, function: Function, variables: set[str]) -> tuple[SharedMemory, list[str]]:
        """A function's shared memory and its lines."""
        shared = self.common.copy()
        self._declare_used(shared, function)
        names = Names(self.module, shared, variables, function)
        body = _Body(names, self.places)
        body.write(function)
        self.unsupported += body.unsupported
        lines = [*names.declarations, *body.lines]
        return shared, [f"{_signature(function)} {{", _PROLOGUE, *lines, "return;", "}"]

    def text(self) -> str:
        """The whole module."""
        variables = dict(map(variable, self.module.variables))
        functions = self.module.functions
        written = [(f, *self.function(f, set(variables))) for f in functions]
        kernels = [(f, shared) for f, shared, _ in written if f.is_kernel]
        return "\n".join(
            [
                '#include "emulator/ptx.h"',
                "namespace {",
                "using namespace emulator;",
                *(line for lines in variables.values() for line in lines),
                *(f"{_signature(function)};" for function in functions),
                *(line for _, _, lines in written for line in lines),
                f"const char* const places[] = {{{_strings(self.places.numbers)}}};",
                *(_kernel_variables(function, shared) for function, shared in kernels),
                "const Kernel kernels[] = {",
                *(_kernel(function, shared) for function, shared in kernels),
                "};",
                "const Registration registration(kernels, sizeof kernels / sizeof kernels[0]);",
                "}  // namespace",
                "",
            ]
        )


def _strings(texts: Iterable[str]) -> str:
    return ", ".join(f'"{text}"' for text in texts)


def _kernel_variables(function: Function, shared: SharedMemory) -> str:
    extents = ", ".join(
        f"{{{shared.offsets[name]}, {shared.sizes[name]}}}" for name in shared.sizes
    )
    return f"const SharedVariable shared_{mangle(function.name)}[] = {{{extents or '{0, 0}'}}};"


def _kernel(function: Function, shared: SharedMemory) -> str:
    name = mangle(function.name)
    variables = f"shared_{name}, {len(shared.sizes)}"
    return (
        f'{{"{function.name}", &{name}, {shared.size}, {function.max_threads}, '
        f"places, {variables}}},"
    )


def emit(module: Module) -> Translation:
    """Write a module as C++."""
    emission = _Emission(module)
    text = emission.text()
    return Translation(text, emission.unsupported)
