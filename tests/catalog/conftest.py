from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest


@pytest.fixture(scope="module")
def vectors():
    return np.random.default_rng(0).normal(size=(501, 17)).astype(np.float32)


@pytest.fixture(scope="module")
def users():
    return np.random.default_rng(1).normal(size=(9, 17)).astype(np.float32)


@pytest.fixture
def run_python():
    """Runs code in a fresh interpreter and returns what it printed."""

    def run(code: str, *arguments: object) -> str:
        return subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
            env=os.environ,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    return run
