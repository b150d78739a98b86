"""Settings and helpers shared by every test."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import settings

# `--import-mode=importlib` leaves sys.path alone; the helpers of the tests are imported from here.
TESTS = Path(__file__).parent
sys.path.insert(0, str(TESTS))

# Shared machines stall: no deadline. The same examples on every run: a failure can be repeated.
settings.register_profile("fusionops", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("fusionops")

# Kernels of a GPU, run on the CPU: minutes together, so plain `pytest` leaves them out. (A folder
# called triton would be taken for that package, where it is not installed.)
EMULATED = ("cuda", "emulator", "triton_kernels")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if any(item.path.is_relative_to(TESTS / folder) for folder in EMULATED):
            item.add_marker("emulated")
