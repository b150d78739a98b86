"""What every test of the operators runs under."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """One thread: the tests are small, and on busy cores a barrier costs more than they do.

    The threads are the subject of test_determinism.py, which holds them to the bits of this run.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
