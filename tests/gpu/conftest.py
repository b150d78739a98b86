"""Everything here is marked `gpu`, skips without one, and is run by ``pytest -m gpu``."""

from pathlib import Path

import pytest
import torch
from gpu_support import DEVICE

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    absent = DEVICE.type == "cuda" and not torch.cuda.is_available()
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if absent:
                item.add_marker(pytest.mark.skip(reason="PyTorch sees no GPU"))


@pytest.fixture(autouse=True)
def exact_products():
    """The bounds are those of float32 products, not of TF32, whatever ran before."""
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32 = allowed
