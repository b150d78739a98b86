"""Online Retail, loaded once for the tests of evaluation."""

import os

import pytest

# ranx, the reference of the metrics, would compile for 40 s to rank a dozen items.
os.environ.setdefault("NUMBA_DISABLE_JIT", "1")

from fusionops.data import online_retail


@pytest.fixture(scope="session")
def online():
    return online_retail.load()


@pytest.fixture(scope="session")
def purchases(online):
    return online[0]
