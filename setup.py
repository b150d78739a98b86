"""Hands the native build over to CMake (CMakeLists.txt) and puts its products into the package.

All metadata is in pyproject.toml. A changed C++ file rebuilds with
``python setup.py build_ext --inplace``: the build folder is kept, so only that file is compiled.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()


class CMakeBuild(build_ext):
    """Configure, build and install by CMake; setuptools only says where the products go."""

    def run(self) -> None:
        """Build everything."""
        editable = self.inplace or self.editable_mode
        target = ROOT if editable else Path(self.build_lib).resolve()
        compilers = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
        if not any(shutil.which(command.split()[0]) for command in compilers):
            raise SystemExit(
                f"fusionops needs a C++20 compiler to build and found none (looked for "
                f"{', '.join(compilers)}): install one (Debian: apt-get install g++) or set CXX."
            )
        ninja = shutil.which("ninja")
        if shutil.which("cmake") is None or ninja is None:
            raise SystemExit(
                "fusionops needs cmake and ninja to build: pip install cmake ninja, or let pip "
                "build in isolation (without --no-build-isolation)."
            )
        build = ROOT / "build" / f"{sys.implementation.cache_tag}"
        self._cmake(
            *("-S", str(ROOT), "-B", str(build), "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release"),
            # The folder outlives the environment of an isolated build: what its cache remembers of
            # that environment is said anew each time.
            f"-DCMAKE_MAKE_PROGRAM={ninja}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-DFUSIONOPS_CUDA={os.environ.get('FUSIONOPS_CUDA') or 'auto'}",
            f"-DFUSIONOPS_CUDA_ARCHS={os.environ.get('FUSIONOPS_CUDA_ARCHS', '')}",
        )
        jobs = os.environ.get("MAX_JOBS") or str(os.cpu_count() or 1)
        self._cmake("--build", str(build), "--parallel", jobs)
        # A library of an earlier build that this one does not make would be loaded all the same.
        for library in (target / "fusionops" / "lib").glob("*.so"):
            library.unlink()
        self._cmake("--install", str(build), "--prefix", str(target))

    def _cmake(self, *arguments: str) -> None:
        command = ["cmake", *arguments]
        print("fusionops:", " ".join(command), flush=True)
        try:
            subprocess.run(command, check=True, cwd=ROOT)
        except subprocess.CalledProcessError as error:
            raise SystemExit(
                f"fusionops: the native build stopped (cmake exit code {error.returncode}); "
                f"the reason is in the lines above."
            ) from None

    def get_outputs(self) -> list[str]:
        """Name the products, which go into the wheel."""
        package = Path(self.build_lib) / "fusionops"
        return [str(path) for path in (*package.glob("*.so"), *package.glob("lib/*"))]

    def get_output_mapping(self) -> dict[str, str]:
        """Map nothing: in an editable install CMake puts the products in place itself."""
        return {}


# The sources are CMake's affair; the extension is named so that the wheel is marked as binary.
setup(ext_modules=[Extension("fusionops._native", sources=[])], cmdclass={"build_ext": CMakeBuild})
