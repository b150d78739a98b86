"""Online Retail, loaded once for the tests of evaluation."""

import pytest

from fusionops.data import online_retail


@pytest.fixture(scope="session")
def online():
    return online_retail.load()


@pytest.fixture(scope="session")
def purchases(online):
    return online[0]
