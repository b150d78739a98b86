"""The quickstart, run once as a stranger runs it; the bounds are the project's promises."""

import json
import os
import subprocess
import sys
import time

import matplotlib.image
import pytest

from fusionops.evaluation.protocols import ONLINE_RETAIL_DATES

pytestmark = pytest.mark.slow  # it fits and evaluates some twenty models


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    out = tmp_path_factory.mktemp("quickstart")
    command = [sys.executable, "-m", "fusionops.cli", "quickstart", "--json", "--out", str(out)]
    began = time.perf_counter()
    # One thread: on a shared machine two would measure the neighbours, as each waits for the other.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout), out, time.perf_counter() - began


@pytest.fixture(scope="module")
def found(quickstart):
    return quickstart[0]


def accuracy(figures):
    return figures["recall@20"], figures["ndcg@20"]


def test_warm(found):
    recall, ndcg = accuracy(found["protocols"]["warm"]["LinearFusion"])
    assert recall >= 0.175
    assert ndcg >= 0.149
    assert found["basket_completion"]["warm"] == pytest.approx(0.57, abs=0.005)
    assert found["basket_completion"]["next_visit"] == 0


def test_next_visit(found):
    recall, ndcg = accuracy(found["protocols"]["next_visit"]["LinearFusion"])
    assert recall >= 0.133
    assert ndcg >= 0.112
    difference = found["differences"]["next_visit"]
    assert difference["baseline"] == "EASE"
    assert difference["ndcg@20"]["low"] < difference["ndcg@20"]["high"]


def test_cold(found):
    recall, ndcg = accuracy(found["protocols"]["cold"]["2011-09-01"]["LinearFusion"])
    assert recall >= 0.280
    assert ndcg >= 0.208
    for date in ("2011-07-01", "2011-10-01"):
        models = found["protocols"]["cold"][date]
        for metric in ("recall@20", "ndcg@20"):
            assert models["LinearFusion"][metric] >= models["CarriedEASE"][metric]


@pytest.mark.parametrize("date", ONLINE_RETAIL_DATES)
def test_one_list(found, date):
    difference = found["differences"]["one_list"][date]
    assert difference["baseline"] == "EASE"
    assert difference["ndcg@20"]["low"] > 0


def test_coverage_is_at_least_that_of_ease(found):
    figures = found["protocols"]
    compared = [(figures[name], "EASE") for name in ("warm", "next_visit")]
    compared += [(figures["one_list"][date], "EASE") for date in ONLINE_RETAIL_DATES]
    compared += [(figures["cold"][date], "CarriedEASE") for date in ONLINE_RETAIL_DATES]
    for models, baseline in compared:
        assert models["LinearFusion"]["coverage@20"] >= models[baseline]["coverage@20"]


def test_words_and_cleaning(found):
    assert any("135,080 rows without a customer" in line for line in found["cleaning"])
    assert len(found["customers"]) == 3
    for customer in found["customers"]:
        assert len(customer["recommended"]) == 6
        assert all(isinstance(row["text"], str) for row in customer["recommended"])
        assert customer["n_had"] >= 5


def test_files(quickstart):
    found, out, _ = quickstart
    assert sorted(path.name for path in out.iterdir()) == [
        "comparison.png", "results.json", "results.md",
    ]  # fmt: skip
    height, width, _ = matplotlib.image.imread(out / "comparison.png").shape
    assert width > 1200
    assert height > 600
    assert json.loads((out / "results.json").read_text()) == found
    assert "| warm | **LinearFusion** |" in (out / "results.md").read_text()


def test_it_takes_less_than_two_minutes(quickstart):
    found, _, seconds = quickstart
    assert found["seconds"] <= seconds < 120
