"""CUDA C++ as host code: kernels translated from nvcc's PTX, launches and host code as they are."""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from . import objects, runtime
from .ptx import translate
from .runtime import EmulationError
from .toolchain import DEVICE_FLAGS, HOST_FLAGS, ROOT, missing, nvcc, run
from .translated import write_object

__all__ = ["Library", "build", "compile_library", "load", "missing", "mode"]

_TORCH_DEFINES = ("-DFUSIONOPS_EMULATED", "-DTORCH_TARGET_VERSION=0x020d000000000000")


def _flags(include: Sequence[Path], defines: Sequence[str]) -> list[str]:
    return [*(f"-I{folder}" for folder in include), *defines]


def _key(source: Path, include: Sequence[Path], *flags: str) -> str:
    """The hash of a file and what it includes; a copy elsewhere is the same file."""
    words = [flag for flag in flags if not flag.startswith("-I")]
    return objects.digest(objects.included(source, include), DEVICE_FLAGS, HOST_FLAGS, words)


def _write_ptx(source: Path, flags: Sequence[str], output: Path) -> None:
    run([nvcc(), *DEVICE_FLAGS, "-lineinfo", *flags, "-ptx", source, "-o", output])


def _write_device(ptx: Path, output: Path) -> None:
    write_object(translate(ptx.read_text()).cpp, output, "-c")


def _write_host(source: Path, flags: Sequence[str], output: Path) -> None:
    command = [nvcc(), *DEVICE_FLAGS, "-Xcompiler", "-fPIC", "-cudart", "none", *flags]
    run([*command, "-c", source, "-o", output, "-O1"])


def _device_object(source: Path, include: Sequence[Path], flags: Sequence[str]) -> Path:
    """The kernels of a .cu, translated from its PTX."""
    key = _key(source, include, *flags)
    ptx = objects.made(f"{source.stem}-{key}.ptx", lambda path: _write_ptx(source, flags, path))
    key = objects.digest([ptx, *objects.own_files("ptx", "include")], HOST_FLAGS)
    return objects.made(f"{source.stem}-{key}.device.o", lambda path: _write_device(ptx, path))


def _host_object(source: Path, include: Sequence[Path], flags: Sequence[str]) -> Path:
    """The host code of a .cu, as nvcc compiles it: the launches are part of what is tested."""
    key = _key(source, include, *flags)
    return objects.made(
        f"{source.stem}-{key}.host.o", lambda path: _write_host(source, flags, path)
    )


def _torch_object(source: Path, include: Sequence[Path], flags: Sequence[str]) -> Path:
    """A plain C++ file of the torch face."""
    system = [f"-isystem{runtime.torch_folder() / 'include'}", *runtime.include_flags()]
    key = _key(source, include, *flags)
    command = ["g++", *HOST_FLAGS, *flags, *system, "-c", source]
    return objects.made(f"{source.stem}-{key}.torch.o", lambda path: run([*command, "-o", path]))


def build(
    sources: Sequence[Path], *, name: str, include: Sequence[Path] = (), defines: Sequence[str] = ()
) -> Path:
    """A shared library of .cu and .cpp files, made of one cached object for each."""
    flags = _flags(include, defines)
    torch_flags = [*flags, *_TORCH_DEFINES]
    works = [runtime.cudart, runtime.path]
    for source in sources:
        if source.suffix == ".cu":
            works.append(functools.partial(_device_object, source, include, flags))
            works.append(functools.partial(_host_object, source, include, flags))
        else:
            works.append(functools.partial(_torch_object, source, include, torch_flags))
    parts = objects.in_parallel(works)
    key = objects.digest(parts)
    torch_library = runtime.torch_folder() / "lib" / "libtorch_cpu.so"
    link = ["g++", "-shared", *parts, torch_library]
    return objects.made(f"{name}-{key}.so", lambda path: run([*link, "-o", path]))


class Library:
    """Kernels of a test, called through the `extern "C"` launchers of their .cu file."""

    def __init__(self, path: Path) -> None:
        runtime.library()
        self.path = path
        self._loaded = ctypes.CDLL(str(path))

    def __call__(self, launcher: str, *arguments: torch.Tensor | int | float) -> None:
        """Call a launcher that returns a cudaError_t; tensors are passed as pointers."""
        status = getattr(self._loaded, launcher)(*map(_as_c, arguments))
        if status:
            raise EmulationError(runtime.last_error())


def _as_c(argument: torch.Tensor | int | float):
    if isinstance(argument, torch.Tensor):
        return ctypes.c_void_p(argument.data_ptr())
    if isinstance(argument, float):
        return ctypes.c_float(argument)
    return ctypes.c_int64(argument)


def compile_library(
    source: Path, *, include: Sequence[Path] = (), defines: Sequence[str] = ()
) -> Library:
    """The kernels of one .cu file, built and loaded."""
    return Library(build([source], name=source.stem, include=include, defines=defines))


def sources(root: Path = ROOT) -> list[Path]:
    """The files of the project's CUDA library, in the copy of `csrc` below `root`."""
    csrc = root / "csrc"
    return [*sorted((csrc / "cuda").glob("*.cu")), *sorted((csrc / "torch" / "cuda").glob("*.cpp"))]


def built(root: Path = ROOT) -> Path:
    """The emulated CUDA library of the copy of `csrc` below `root`."""
    return build(sources(root), name="libfusionops_emulated", include=[root / "csrc"])


def load(root: Path = ROOT):
    """`torch.ops.fusionops_emulated`: the CUDA library's operators, on CPU tensors.

    `root` is a folder with a copy of `csrc`, for instance one with a line changed to see which test
    notices; a process can load one of them, and keeps it when its sources change.
    """
    _load(root)
    return torch.ops.fusionops_emulated


@functools.cache
def _load(root: Path) -> None:
    path = built(root)
    runtime.library()
    torch.ops.load_library(str(path))


@contextlib.contextmanager
def mode(root: Path = ROOT) -> Iterator[None]:
    """Let the CUDA library, emulated, serve CPU tensors inside."""
    from fusionops import backend

    load(root)
    with backend.emulate("cuda"):
        yield
