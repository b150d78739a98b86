"""A small shop in CSV files, and a model fitted on it by the command."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from fusionops.cli.app import app

COLOURS = ("red", "blue", "green", "white", "black")
START = datetime(2024, 1, 1)
NEW_FROM = "2024-03-11"  # day 70: from then on the last six items are sold
N_ITEMS, N_NEW, N_NEVER = 30, 6, 2


@dataclass
class Run:
    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def run():
    """Run a command line within this process."""

    def call(*arguments: object) -> Run:
        result = CliRunner().invoke(app, [str(one) for one in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Run(result.exit_code, result.stdout, result.stderr)

    return call


def _title(item: int) -> str:
    thing = ("mug", "plate", "teapot") if item % 2 == 0 else ("spade", "lantern", "trowel")
    return (
        f"{COLOURS[item % 5]} {thing[item % 3]} for the {'kitchen' if item % 2 == 0 else 'garden'}"
    )


@dataclass
class Shop:
    interactions: Path
    items: Path
    model: Path
    new_from: str = NEW_FROM

    @property
    def plain(self) -> list[object]:
        """The options that name the interactions and their columns."""
        columns = ["--user-column", "customer", "--item-column", "sku"]
        return ["--interactions", self.interactions, *columns]

    @property
    def files(self) -> list[object]:
        """The same with the items."""
        return [*self.plain, "--items", self.items]


@pytest.fixture(scope="session")
def shop(tmp_path_factory, run) -> Shop:
    folder = tmp_path_factory.mktemp("shop")
    rng = np.random.default_rng(0)
    with open(folder / "sales.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["customer", "sku", "time", "session"])
        for user in range(60):
            for visit, day in enumerate(np.sort(rng.integers(0, 100, 10))):
                last = N_ITEMS if day >= 70 else N_ITEMS - N_NEW
                for item in rng.integers(0, last // 2, 2) * 2 + user % 2:
                    moment = START + timedelta(days=int(day))
                    rows.writerow([f"u{user:02d}", f"00{item:02d}", moment, f"{user}-{visit}"])
    with open(folder / "items.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["sku", "title", "price"])
        for item in range(N_ITEMS + N_NEVER):
            rows.writerow([f"00{item:02d}", _title(item), 1.0 + item])
    made = Shop(folder / "sales.csv", folder / "items.csv", folder / "model")
    result = run("fit", *made.files, "--out", made.model)
    assert result.code == 0, result.err
    return made
