"""Last pass: functions and kernels as C++."""

from __future__ import annotations

from dataclasses import dataclass, field

from .instructions import Operation, UnsupportedError, statement
from .names import Names, SharedMemory, mangle, variable
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


@dataclass
class _Body:
    """The statements of one function, as they are written."""

    names: Names
    files: dict[int, int]  # PTX's number of a source file -> its place in the list
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
                self.lines.append(f"at({self.files.get(item.file, 0)}, {item.line});")

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


class _Emission:
    def __init__(self, module: Module) -> None:
        self.module = module
        self.shared = SharedMemory()
        self.unsupported: list[str] = []
        self.files = {number: i + 1 for i, number in enumerate(sorted(module.files))}
        for text in module.shared:
            self.shared.declare(text)
        # Before any code: one function may use what another declares further down.
        for function in module.functions:
            for item in function.body:
                if isinstance(item, Declaration) and item.text.startswith(".shared"):
                    self.shared.declare(item.text)

    def function(self, function: Function, variables: set[str]) -> list[str]:
        names = Names(self.module, self.shared, variables, function)
        body = _Body(names, self.files)
        body.write(function)
        self.unsupported += body.unsupported
        lines = [*names.declarations, *body.lines]
        return [f"{_signature(function)} {{", _PROLOGUE, *lines, "return;", "}"]

    def file_names(self) -> str:
        names = [self.module.files[number] for number in sorted(self.module.files)]
        short = ["?", *(name.rpartition("/")[2] for name in names)]
        return ", ".join(f'"{name}"' for name in short)

    def kernels(self) -> list[str]:
        return [
            f'{{"{function.name}", &{mangle(function.name)}, {self.shared.size}, '
            f"{function.max_threads}, files}},"
            for function in self.module.functions
            if function.is_kernel
        ]

    def text(self) -> str:
        variables = dict(map(variable, self.module.variables))
        functions = self.module.functions
        bodies = [line for f in functions for line in self.function(f, set(variables))]
        return "\n".join(
            [
                '#include "emulator/ptx.h"',
                "namespace {",
                "using namespace emulator;",
                *(line for lines in variables.values() for line in lines),
                *(f"{_signature(function)};" for function in functions),
                *bodies,
                f"const char* const files[] = {{{self.file_names()}}};",
                "const Kernel kernels[] = {",
                *self.kernels(),
                "};",
                "const Registration registration(kernels, sizeof kernels / sizeof kernels[0]);",
                "}  // namespace",
                "",
            ]
        )


def emit(module: Module) -> Translation:
    """Write a module as C++."""
    emission = _Emission(module)
    text = emission.text()
    return Translation(text, emission.unsupported)
