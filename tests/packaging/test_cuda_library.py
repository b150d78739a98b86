"""The CUDA library keeps the CPU library's promises, and loads where there is no driver."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fusionops import cuda_library, info, triton

ROOT = Path(__file__).parents[2]


def tool(name: str) -> str:
    """A program of PATH, or of the environment that the tests run in."""
    path = shutil.which(name) or shutil.which(name, path=Path(sys.executable).parent)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def nvcc_is_there() -> bool:
    home = os.environ.get("CUDA_HOME")
    return bool((home and Path(home, "bin", "nvcc").exists()) or shutil.which("nvcc"))


@pytest.fixture(scope="module", params=["installed", pytest.param("built", marks=pytest.mark.slow)])
def library(request, tmp_path_factory):
    """That of this installation; and one built for a single architecture, as nvcc is here."""
    if request.param == "installed":
        if not cuda_library.PATH.exists():
            pytest.skip("this installation has no CUDA library")
        return cuda_library.PATH
    if not nvcc_is_there():
        pytest.skip("no nvcc: set CUDA_HOME, or put nvcc on PATH")
    folder = tmp_path_factory.mktemp("cuda")
    cmake = tool("cmake")
    options = ["-DFUSIONOPS_CUDA=1", "-DFUSIONOPS_CUDA_ARCHS=80", "-DFUSIONOPS_PYTHON=OFF"]
    configure = [cmake, "-S", ROOT, "-B", folder, "-G", "Ninja", *options]
    ninja = [f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}", f"-DPython_EXECUTABLE={sys.executable}"]
    subprocess.run([*configure, *ninja], check=True)
    build = [cmake, "--build", folder, "--target", "fusionops_torch_cuda", "--parallel"]
    said = subprocess.run(
        [*build, str(os.cpu_count())], check=True, capture_output=True, text=True
    ).stdout
    assert "warning" not in said, said
    return folder / "libfusionops_torch_cuda.so"


def symbols(library: Path, *options: str) -> str:
    command = [tool("nm"), "-D", "--demangle", *options, str(library)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_it_takes_cuda_tensors(library):
    """And refuses others, where the CPU's library and the emulated one do the reverse."""
    code = library.read_bytes()
    assert b" must be a CUDA tensor" in code
    assert b" must be a CPU tensor" not in code


def test_it_uses_the_stable_abi_only(library):
    listing = symbols(library, "--undefined-only")
    assert "aoti_torch_" in listing
    assert [line for line in listing.splitlines() if "at::" in line or "c10::" in line] == []


def test_cuda_is_inside_and_nothing_of_it_shows(library):
    command = [tool("readelf"), "-d", str(library)]
    needed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "libtorch_cpu.so" in needed
    assert "cuda" not in needed.replace(library.name, "")
    assert " U cu" not in symbols(library, "--undefined-only")  # neither run-time nor driver
    shown = symbols(library, "--defined-only")
    assert "fusionops::" not in shown
    assert "cudaLaunch" not in shown


def test_it_loads_without_a_word_where_there_is_no_driver_and_names_its_architectures(library):
    code = f"""
import ctypes, torch
torch.ops.load_library({str(ROOT / "fusionops" / "lib" / "libfusionops_torch_cpu.so")!r})
torch.ops.load_library({str(library)!r})
ask = ctypes.CDLL({str(library)!r}).fusionops_cuda_architectures
ask.restype = ctypes.c_char_p
print(ask().decode())
for name in {sorted(cuda_library.OPERATORS)!r}:
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"fusionops::{{name}}", "CUDA"), name
"""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    *machine, virtual = result.stdout.strip().split(";")
    assert virtual == f"{machine[-1]}-virtual"
    assert machine == sorted(machine, key=int)


@pytest.fixture
def fresh_answers():
    """What was asked of another library, or of other devices, is forgotten."""
    asked = (cuda_library.architectures, cuda_library.capability, cuda_library._covers)
    for function in asked:
        function.cache_clear()
    yield
    for function in asked:
        function.cache_clear()


def test_info_says_that_there_is_no_library_and_how_to_get_it(monkeypatch, fresh_answers):
    monkeypatch.setattr(cuda_library, "PATH", Path("/nowhere"))
    report = info.report()
    assert report["cuda"]["library"] == cuda_library.NOT_BUILT
    assert "FUSIONOPS_CUDA=1" in info.render(report)
    assert "CUDA C++" not in report["serving"]["fusion_topk"]["cuda"]


def test_info_says_who_serves_each_gpu(monkeypatch, fresh_answers, tmp_path):
    monkeypatch.setattr(cuda_library, "PATH", tmp_path)  # exists
    monkeypatch.setattr(cuda_library, "architectures", lambda: ("90", "90-virtual"))
    monkeypatch.setattr(triton, "AVAILABLE", True)
    gpus = [("Old", (7, 5)), ("A", (8, 0)), ("H", (9, 0)), ("B", (10, 0))]
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(gpus))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: gpus[index][0])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: gpus[index][1])
    report = info.report()
    assert report["cuda"]["library"] == ["90", "90-virtual"]
    assert list(report["cuda"]["devices"].values()) == [
        "Old, compute capability 7.5, served by PyTorch",
        "A, compute capability 8.0, served by Triton, PyTorch",
        "H, compute capability 9.0, served by the CUDA library, Triton, PyTorch",
        "B, compute capability 10.0, served by the CUDA library, Triton, PyTorch",
    ]
    serving = {name: entry.get("cuda") for name, entry in report["serving"].items()}
    composition = "chunked composition of PyTorch operators"
    assert serving["fusion_matrix"] == f"CUDA C++ kernels, else Triton kernels, else {composition}"
    assert serving["fusion_topk"] == f"CUDA C++ kernels (k up to 1,024), else {composition}"
    assert serving["history_fusion"] == f"Triton kernels, else {composition}"
    assert serving["mmr_rerank"] == composition
