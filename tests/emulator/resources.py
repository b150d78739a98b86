"""What a kernel needs of a GPU, as the assembler says: registers, spills, instructions."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import objects
from .toolchain import ROOT, nvcc, run

_FLAGS = ("-std=c++20", "--expt-relaxed-constexpr", "-diag-suppress=177")
_FUNCTION = re.compile(r"Compiling entry function '([^']+)' for '([^']+)'")


@dataclass(frozen=True)
class Resources:
    """One kernel on one architecture; `shared` is what it declares, without what a launch adds."""

    kernel: str
    registers: int
    spill_stores: int
    spill_loads: int
    stack: int
    shared: int
    text: str


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    return int(found[1]) if found else 0


def _report(printed: str, texts: dict[str, str]) -> dict[str, Resources]:
    """What `ptxas -v` printed, kernel by kernel, with the code of each."""
    starts = list(_FUNCTION.finditer(printed))
    ends = [match.start() for match in starts[1:]] + [len(printed)]
    found = {}
    for match, end in zip(starts, ends, strict=True):
        part = printed[match.start() : end]
        found[match[1]] = Resources(
            kernel=match[1],
            registers=_number(r"Used (\d+) registers", part),
            spill_stores=_number(r"(\d+) bytes spill stores", part),
            spill_loads=_number(r"(\d+) bytes spill loads", part),
            stack=_number(r"(\d+) bytes stack frame", part),
            shared=_number(r"(\d+) bytes smem", part),
            text=texts.get(match[1], ""),
        )
    return found


def _split_sass(text: str) -> dict[str, str]:
    """The disassembly of each kernel of a cubin."""
    parts = re.split(r"^\s*Function : (\S+)\s*$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _split_ptx(text: str) -> dict[str, str]:
    """The PTX of each kernel of a module."""
    starts = list(re.finditer(r"\.entry\s+([\w$]+)", text))
    ends = [match.start() for match in starts[1:]] + [len(text)]
    return {match[1]: text[match.start() : end] for match, end in zip(starts, ends, strict=True)}


def of_cuda(
    source: Path, capability: int, *, include: Sequence[Path] = (ROOT / "csrc",)
) -> dict[str, Resources]:
    """The kernels of a .cu file on sm_`capability`, by mangled name; `text` is their SASS."""
    flags = [*_FLAGS, *(f"-I{folder}" for folder in include)]
    key = objects.digest(objects.included(source, include), _FLAGS, capability)
    stem = f"resources/{source.stem}-{capability}-{key}"

    def compile_cubin(cubin: Path) -> None:
        command = [nvcc(), *flags, f"-arch=sm_{capability}", "-Xptxas", "-v", "-cubin", source]
        printed = run([*command, "-o", cubin])
        objects.made(f"{stem}.log", lambda path: path.write_text(printed))

    cubin = objects.made(f"{stem}.cubin", compile_cubin)
    printed = (objects.FOLDER / f"{stem}.log").read_text()
    return _report(printed, _split_sass(_disassembled(cubin)))


def _disassembled(cubin: Path) -> str:
    """The SASS of a cubin, or nothing where no disassembler is; Triton brings one."""
    spec = importlib.util.find_spec("triton")
    folders = [*spec.submodule_search_locations] if spec else []
    tools = Path(folders[0]) / "backends" / "nvidia" / "bin" if folders else Path()
    tool = shutil.which("cuobjdump") or shutil.which("cuobjdump", path=tools)
    if tool is None:
        return ""
    # It calls nvdisasm, which lies beside it.
    path = f"{Path(tool).parent}{os.pathsep}{os.environ['PATH']}"
    return run([tool, "-sass", cubin], env={**os.environ, "PATH": path})


def of_triton(ptx: str, capability: int) -> Resources:
    """The one kernel of a PTX module that Triton wrote for sm_`capability`; `text` is its PTX."""
    from triton.backends.nvidia.compiler import get_ptxas

    arch = re.search(r"\.target (\w+)", ptx)[1]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(ptx)
        command = [get_ptxas(capability).path, "-v", f"--gpu-name={arch}", source]
        printed = run([*command, "-o", os.devnull])
    (found,) = _report(printed, _split_ptx(ptx)).values()
    return found
