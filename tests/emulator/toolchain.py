"""The compilers that the emulator needs: where they are, and what they are called with."""

from __future__ import annotations

import functools
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

PACKAGE = Path(__file__).parent
ROOT = PACKAGE.parents[1]
INCLUDE = PACKAGE / "include"

# Each PTX instruction becomes one C++ statement, so more optimisation than this costs minutes and
# gains little. Contraction would fuse what PTX keeps apart.
HOST_FLAGS = ("-std=c++20", "-O1", "-fPIC", "-ffp-contract=off", "-mfma", "-mf16c", "-w")
# The lowest architecture that the kernels are written for: its instructions are those that the
# emulator knows (no wgmma, no TMA). -lineinfo puts source lines into what the emulator reports.
DEVICE_FLAGS = ("-std=c++20", "-arch=sm_80", "--expt-relaxed-constexpr", "-diag-suppress=177")


class BuildError(RuntimeError):
    """A compiler refused; the message is what it printed."""


def run(command: Sequence[str | Path], **options) -> str:
    """Run a compiler at low priority and return what it printed."""
    words = ["nice", "-n", "5", *map(str, command)]
    result = subprocess.run(words, capture_output=True, text=True, **options)
    if result.returncode:
        raise BuildError(f"{' '.join(words)}\n{result.stdout}{result.stderr}")
    return result.stdout + result.stderr


@functools.cache
def nvcc() -> str | None:
    """The path of nvcc: that of CUDA_HOME, the first on PATH, or that of PyPI's packages."""
    home = os.environ.get("CUDA_HOME")
    if home and (Path(home) / "bin" / "nvcc").exists():
        return str(Path(home) / "bin" / "nvcc")
    return shutil.which("nvcc") or _packaged_nvcc()


def _packaged_nvcc() -> str | None:
    spec = importlib.util.find_spec("nvidia")
    folders = (spec.submodule_search_locations if spec else None) or []
    found = (path for folder in folders for path in sorted(Path(folder).glob("*/bin/nvcc")))
    return next(map(str, found), None)


@functools.cache
def cuda_include() -> Path:
    """Where nvcc keeps cuda_runtime_api.h; nvcc itself is asked, for it may be a wrapper."""
    with tempfile.NamedTemporaryFile(suffix=".cu") as empty:
        printed = run([nvcc(), "--dryrun", empty.name])
    found = re.findall(r'-I"?([^"\s]+)', printed)
    candidates = [Path(folder) for folder in found]
    top = re.search(r"TOP=(\S+)", printed)
    if top:
        candidates.append(Path(top[1]) / "include")
    for folder in candidates:
        if (folder / "cuda_runtime_api.h").exists():
            return folder.resolve()
    raise BuildError(f"no cuda_runtime_api.h beside {nvcc()}; looked in {candidates}")


@functools.cache
def missing() -> str | None:
    """Why nothing can be emulated here, or None where it can."""
    if platform.machine() not in ("x86_64", "AMD64") or platform.system() != "Linux":
        return "the emulator's fibers are written for Linux on x86-64"
    if shutil.which("g++") is None:
        return "the emulator needs g++"
    if nvcc() is None:
        return "no nvcc: set CUDA_HOME, put nvcc on PATH, or install PyPI's packages of it"
    return None
