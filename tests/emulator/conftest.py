"""Kernels of the emulator's own tests."""

from __future__ import annotations

from pathlib import Path

import pytest

import emulator
from emulator import cuda, objects

KERNELS = Path(__file__).parent / "kernels"


@pytest.fixture(scope="session")
def libraries():
    """The libraries of every file in kernels/, by its name; built together, two at a time."""
    if emulator.missing():
        pytest.skip(emulator.missing())
    sources = sorted(KERNELS.glob("*.cu"))
    builds = [lambda source=source: cuda.build([source], name=source.stem) for source in sources]
    paths = objects.in_parallel(builds)
    return {source.stem: cuda.Library(path) for source, path in zip(sources, paths, strict=True)}


@pytest.fixture
def kernels(libraries):
    return libraries["kernels"]


@pytest.fixture
def planted(libraries):
    return libraries["planted"]
