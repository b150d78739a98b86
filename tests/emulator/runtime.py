"""The run-time library: one copy in the process, whatever kernels are loaded beside it."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
from pathlib import Path

from . import objects
from .toolchain import HOST_FLAGS, INCLUDE, PACKAGE, cuda_include, run


class EmulationError(RuntimeError):
    """A kernel did what a GPU would not forgive; the message names kernel, line and deed."""


def torch_folder() -> Path:
    """Where torch is installed; found without importing it."""
    spec = importlib.util.find_spec("torch")
    return Path(spec.submodule_search_locations[0])


def include_flags() -> list[str]:
    """Where the translated kernels find the emulator's headers and CUDA's types."""
    return [f"-I{INCLUDE}", f"-I{cuda_include()}"]


def _compile(source: Path, output: Path) -> None:
    run(["g++", *HOST_FLAGS, *include_flags(), "-c", source, "-o", output])


@functools.cache
def cudart() -> Path:
    """The object with the CUDA run-time calls that host code makes; linked into every library."""
    source = PACKAGE / "cudart" / "cudart.cpp"
    key = objects.digest([source, *objects.own_files("include")], HOST_FLAGS)
    return objects.made(f"cudart-{key}.o", lambda path: _compile(source, path))


def _build(output: Path) -> None:
    torch = torch_folder()
    flags = [f"-isystem{torch / 'include'}", "-shared"]
    sources = sorted((PACKAGE / "src").glob("*.cpp"))
    libraries = [f"-L{torch / 'lib'}", "-lc10"]
    run(["g++", *HOST_FLAGS, *include_flags(), *flags, *sources, "-o", output, *libraries])


@functools.cache
def path() -> Path:
    """The library's file, built if need be."""
    key = objects.digest(objects.own_files("include", "src"), HOST_FLAGS, _torch_version())
    return objects.made(f"libemulator-{key}.so", _build)


def _torch_version() -> str:
    return (torch_folder() / "version.py").read_text()


@functools.cache
def library() -> ctypes.CDLL:
    """The library, loaded for all: translated kernels find the engine's state in it."""
    import torch  # noqa: F401 - brings libc10, which the library is linked with

    loaded = ctypes.CDLL(str(path()), mode=ctypes.RTLD_GLOBAL)
    loaded.emulator_last_error.restype = ctypes.c_char_p
    loaded.emulator_watch.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    loaded.emulator_settings.argtypes = [ctypes.c_int] * 4
    return loaded


def last_error() -> str:
    """What the last kernel that failed did, or an empty string."""
    return library().emulator_last_error().decode(errors="replace")  # cut anywhere
