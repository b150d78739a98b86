"""What is built is kept, and built again only where something changed."""

from __future__ import annotations

import re
import shutil

import pytest

import emulator
from emulator import cuda, objects, resources, runtime

pytestmark = pytest.mark.skipif(emulator.missing() is not None, reason=str(emulator.missing()))

KERNEL = """
#include "factor.h"
__global__ void __launch_bounds__(128) scale(float4* x) {
  const float4 v = x[threadIdx.x];
  x[threadIdx.x] = {v.x * kFactor, v.y * kFactor, v.z * kFactor, v.w * kFactor};
}
extern "C" int run(float* x) {
  scale<<<1, 4>>>(reinterpret_cast<float4*>(x));
  return cudaGetLastError();
}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    runtime.path(), runtime.cudart()  # those are not what is built here
    monkeypatch.setattr(objects, "FOLDER", tmp_path / "built")
    (tmp_path / "first.cu").write_text(KERNEL)
    (tmp_path / "factor.h").write_text("constexpr float kFactor = 2;\n")
    (tmp_path / "second.cu").write_text("__global__ void empty() {}\n")
    return tmp_path


def built(folder) -> set[str]:
    """The names of the compiled files."""
    return {path.name for path in folder.glob("built/*.o")}


def test_a_change_rebuilds_the_files_that_include_it(folder):
    sources = [folder / "first.cu", folder / "second.cu"]
    before = cuda.build(sources, name="both", include=[folder])
    first = built(folder)
    assert cuda.build(sources, name="both", include=[folder]) == before
    assert built(folder) == first
    (folder / "factor.h").write_text("constexpr float kFactor = 3;\n")
    assert cuda.build(sources, name="both", include=[folder]) != before
    new = built(folder) - first
    assert {name.partition("-")[0] for name in new} == {"first"}


def test_a_copy_of_a_folder_is_not_built_again(folder, tmp_path_factory):
    """As when a line is changed in a copy of csrc: all other files are those known already."""
    first = cuda.build([folder / "first.cu"], name="one", include=[folder])
    copy = tmp_path_factory.mktemp("copy")
    for name in ("first.cu", "factor.h"):
        shutil.copy(folder / name, copy)
    assert cuda.build([copy / "first.cu"], name="one", include=[copy]) == first


def test_nothing_unfinished_is_left(folder):
    cuda.build([folder / "second.cu"], name="one")
    names = [path.name for path in folder.glob("built/*")]
    assert not [name for name in names if name.endswith(".cpp")]


def test_a_compiler_that_refuses_is_heard(folder):
    (folder / "second.cu").write_text("__global__ void empty() { nonsense }\n")
    with pytest.raises(emulator.BuildError, match="nonsense"):
        cuda.build([folder / "second.cu"], name="one")


@pytest.mark.parametrize("capability", [80, 90, 100, 120])
def test_resources_of_a_cuda_kernel(folder, capability):
    (found,) = resources.of_cuda(folder / "first.cu", capability, include=[folder]).values()
    assert "scale" in found.kernel
    assert 0 < found.registers <= 64
    assert (found.spill_stores, found.spill_loads, found.stack, found.shared) == (0, 0, 0, 0)
    assert re.search(r"LDG\S*\.128", found.text)
