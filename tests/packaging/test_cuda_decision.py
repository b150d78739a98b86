"""When the build makes the CUDA library, with which nvcc, and for which GPUs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "cmake" / "cuda.cmake"
CMAKE = shutil.which("cmake") or shutil.which("cmake", path=Path(sys.executable).parent)

pytestmark = [
    pytest.mark.skipif(not SCRIPT.exists(), reason="runs in a source folder"),
    pytest.mark.skipif(CMAKE is None, reason="cmake is not installed"),
]


@pytest.fixture
def torch_folder(tmp_path):
    """Makes the folder of a torch that was built with CUDA, or without."""

    def make(cuda: str | None) -> Path:
        folder = tmp_path / "torch"
        folder.mkdir()
        (folder / "version.py").write_text(f"cuda = {cuda!r}\n")
        return folder

    return make


def place_nvcc(folder: Path) -> Path:
    folder.mkdir(parents=True)
    nvcc = folder / "nvcc"
    nvcc.write_text("#!/bin/sh\n")
    nvcc.chmod(0o755)
    return nvcc


def decide(tmp_path, torch_folder: Path, call: str, environment=None, **variables: str):
    """What a function of cuda.cmake sets `first` and `second` to, or what it stops with."""
    lines = [
        f"set(Python_EXECUTABLE {sys.executable})",
        f"set(TORCH_DIR {torch_folder})",
        f"include({SCRIPT})",
        call,
        'message("first=${first}")',
        'message("second=${second}")',
    ]
    (tmp_path / "decide.cmake").write_text("\n".join(lines))
    defines = [f"-D{name}={value}" for name, value in variables.items()]
    return subprocess.run(
        [CMAKE, *defines, "-P", str(tmp_path / "decide.cmake")],
        # Nothing of this machine is found: no toolkit, no PATH, no packages beside the interpreter.
        env={"CUDA_HOME": "", "PATH": "/nowhere", "PYTHONNOUSERSITE": "1", **(environment or {})},
        capture_output=True,
        text=True,
    )


def wanted(result) -> bool:
    assert result.returncode == 0, result.stderr
    return "first=TRUE" in result.stderr


DECIDE = "fusionops_decide_cuda(first second)"
TARGETS = "fusionops_cuda_targets(first second)"


@pytest.mark.parametrize("choice", ["1", "auto"])
def test_nvcc_of_cuda_home_comes_first(tmp_path, torch_folder, choice):
    home, other = tmp_path / "home", tmp_path / "other"
    nvcc = place_nvcc(home / "bin")
    place_nvcc(other)
    places = {"CUDA_HOME": str(home), "PATH": str(other)}
    result = decide(tmp_path, torch_folder("13.0"), DECIDE, places, FUSIONOPS_CUDA=choice)
    assert wanted(result)
    assert f"second={nvcc}" in result.stderr


def test_nvcc_on_path_comes_before_that_of_pypi(tmp_path, torch_folder):
    on_path = place_nvcc(tmp_path / "bin")
    of_pypi = place_nvcc(tmp_path / "site" / "nvidia" / "cu13" / "bin")
    places = {"PATH": str(on_path.parent), "PYTHONPATH": str(tmp_path / "site")}
    torch = torch_folder(None)
    result = decide(tmp_path, torch, DECIDE, places, FUSIONOPS_CUDA="1")
    assert f"second={on_path}" in result.stderr
    places["PATH"] = "/nowhere"
    result = decide(tmp_path, torch, DECIDE, places, FUSIONOPS_CUDA="1")
    assert f"second={of_pypi}" in result.stderr


def test_a_torch_without_cuda_gets_none_unless_asked_for(tmp_path, torch_folder):
    places = {"PATH": str(place_nvcc(tmp_path / "bin").parent)}
    torch = torch_folder(None)
    assert not wanted(decide(tmp_path, torch, DECIDE, places))
    assert not wanted(decide(tmp_path, torch, DECIDE, places, FUSIONOPS_CUDA="auto"))
    assert wanted(decide(tmp_path, torch, DECIDE, places, FUSIONOPS_CUDA="1"))


def test_zero_forbids(tmp_path, torch_folder):
    places = {"PATH": str(place_nvcc(tmp_path / "bin").parent)}
    assert not wanted(decide(tmp_path, torch_folder("13.0"), DECIDE, places, FUSIONOPS_CUDA="0"))


def test_without_nvcc_it_is_left_out_or_the_build_says_where_it_looked(tmp_path, torch_folder):
    (tmp_path / "site" / "nvidia").mkdir(parents=True)
    places = {"PYTHONPATH": str(tmp_path / "site")}  # hides packages beside the interpreter
    (tmp_path / "site" / "nvidia" / "__init__.py").write_text("")
    torch = torch_folder("13.0")
    assert not wanted(decide(tmp_path, torch, DECIDE, places, FUSIONOPS_CUDA="auto"))
    result = decide(tmp_path, torch, DECIDE, places, FUSIONOPS_CUDA="1")
    assert result.returncode != 0
    said = " ".join(result.stderr.split())
    for word in ("no nvcc in", "CUDA_HOME", "PATH", "nvidia-cuda-nvcc", "cuda-build"):
        assert word in said


def test_another_choice_is_refused(tmp_path, torch_folder):
    result = decide(tmp_path, torch_folder(None), DECIDE, FUSIONOPS_CUDA="yes")
    assert result.returncode != 0
    assert "FUSIONOPS_CUDA is 'yes', expected 1, 0 or auto" in result.stderr


@pytest.mark.parametrize(
    ("archs", "names"),
    [
        ("", "80;90;100;120;120-virtual"),
        ("90", "90;90-virtual"),
        ("120 90", "90;120;120-virtual"),
        ("80,100", "80;100;100-virtual"),
    ],
)
def test_architectures_are_what_was_asked_for_and_ptx_of_the_highest(
    tmp_path, torch_folder, archs, names
):
    result = decide(tmp_path, torch_folder(None), TARGETS, FUSIONOPS_CUDA_ARCHS=archs)
    assert result.returncode == 0, result.stderr
    assert f"second={names}\n" in result.stderr
    for name in names.split(";"):
        number, _, virtual = name.partition("-")
        code = f"compute_{number}" if virtual else f"sm_{number}"
        assert f"arch=compute_{number},code={code}" in result.stderr


@pytest.mark.parametrize("archs", ["70", "sm_90", "90a"])
def test_an_architecture_that_is_none_is_refused(tmp_path, torch_folder, archs):
    result = decide(tmp_path, torch_folder(None), TARGETS, FUSIONOPS_CUDA_ARCHS=archs)
    assert result.returncode != 0
    assert f"FUSIONOPS_CUDA_ARCHS names '{archs}'" in " ".join(result.stderr.split())


@pytest.mark.parametrize(("said", "passed"), [(None, "auto"), ("1", "1"), ("0", "0")])
def test_setup_hands_the_choice_over_and_removes_what_an_earlier_build_left(tmp_path, said, passed):
    pytest.importorskip("setuptools")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("cmake", "ninja", "c++"):  # a cmake that does nothing but say how it was called
        (tools / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/calls\n')
        (tools / name).chmod(0o755)
    stale = tmp_path / "out" / "fusionops" / "lib" / "libfusionops_torch_cuda.so"
    stale.parent.mkdir(parents=True)
    stale.touch()
    environment = {k: v for k, v in os.environ.items() if k not in ("FUSIONOPS_CUDA", "CXX")}
    environment["PATH"] = f"{tools}{os.pathsep}{environment['PATH']}"
    if said is not None:
        environment["FUSIONOPS_CUDA"] = said
    subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--build-lib", str(tmp_path / "out")],
        cwd=ROOT,
        env={**environment, "FUSIONOPS_CUDA_ARCHS": "90"},
        capture_output=True,
        check=True,
    )
    configured = (tmp_path / "calls").read_text().splitlines()[0]
    assert f" -DFUSIONOPS_CUDA={passed} " in configured
    assert configured.endswith("-DFUSIONOPS_CUDA_ARCHS=90")
    assert not stale.exists()
