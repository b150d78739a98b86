"""Options, cases and the tables at the end; see README.md."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from comparison.cases import (
    BACKWARD,
    COMPILE,
    CONTENDERS,
    DIRECTIONS,
    OURS,
    Case,
    Setup,
    Shape,
    UnavailableError,
    assert_agree,
)
from comparison.memory import peak_of
from comparison.table import Measurement, render, write_report

from fusionops import info

SHAPES = (Shape(256, 10_000, 64), Shape(1024, 100_000, 64), Shape(16, 1_000_000, 128))
# Both passes of the last shape would take the plain run past its eight minutes.
FORWARD_ONLY = SHAPES[2:]

rows_key = pytest.StashKey[list[Measurement]]()
titles_key = pytest.StashKey[dict[str, str]]()

Contest = Callable[..., None]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fusionops")
    group.addoption(
        "--short",
        action="store_true",
        help="smoke run: the first shape, few rounds, no torch.compile",
    )
    group.addoption(
        "--shapes",
        type=_shapes,
        metavar="UxPxD[,UxPxD...]",
        help="measure these shapes, both directions, instead of the default ones",
    )
    group.addoption("--report", type=Path, metavar="FILE.json", help="also write the results here")


def _shapes(text: str) -> tuple[Shape, ...]:
    try:
        return tuple(map(Shape.parse, text.split(",")))
    except ValueError as error:  # argparse hides the message of any other kind
        raise argparse.ArgumentTypeError(str(error)) from error


def pytest_configure(config: pytest.Config) -> None:
    config.stash[rows_key] = []
    config.stash[titles_key] = {}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        cases = list(_cases(metafunc.config))
        metafunc.parametrize("case", cases, ids=map(str, cases))


def _cases(config: pytest.Config) -> Iterator[Case]:
    short, chosen = config.getoption("short"), config.getoption("shapes")
    shapes = chosen or (SHAPES[:1] if short else SHAPES)
    for direction in DIRECTIONS:
        for shape in shapes:
            if direction == BACKWARD and not chosen and shape in FORWARD_ONLY:
                continue
            # Contenders of one shape follow each other, so that a slow spell hits all of them.
            for contender in CONTENDERS:
                yield Case(shape, direction, contender)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("short"):
        for item in items:
            item.add_marker(pytest.mark.benchmark(max_time=0.05, min_rounds=3))


@pytest.fixture
def contest(request: pytest.FixtureRequest) -> Contest:
    """Checks a contender against ours, then measures its time and its memory."""

    def run(setup: Setup, case: Case, *, title: str, stray_rows: float = 0.0) -> None:
        operator = request.path.stem.removeprefix("bench_")
        row = Measurement(operator, case)
        request.config.stash[rows_key].append(row)
        request.config.stash[titles_key][operator] = title
        try:
            if case.contender == COMPILE and request.config.getoption("short"):
                raise UnavailableError("left out by --short")
            call = setup(case)
            result = _first(call, case)
        except UnavailableError as absence:
            row.reason = str(absence)
            pytest.skip(row.reason)
        if case.contender != OURS:
            ours = setup(replace(case, contender=OURS))()
            assert_agree(ours, result, stray_rows=stray_rows)
            del ours
        del result

        benchmark = request.getfixturevalue("benchmark")
        benchmark(call)
        if benchmark.stats is not None:  # None under --benchmark-disable
            stats = benchmark.stats.stats
            row.median, row.minimum, row.spread = stats.median, stats.min, stats.iqr
            row.rounds = stats.rounds
        try:
            row.peak = peak_of(setup, case)
        except UnavailableError as absence:
            row.reason = str(absence)

    return run


def _first(call: Callable[[], tuple[torch.Tensor, ...]], case: Case) -> tuple[torch.Tensor, ...]:
    """The first call, which compiles: a failure of torch.compile is a gap in the table."""
    try:
        return call()
    except RuntimeError as error:
        if case.contender != COMPILE:
            raise
        reason = str(error).strip().splitlines()[0]
        raise UnavailableError(f"{type(error).__name__}: {reason}") from error


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    rows = config.stash[rows_key]
    if not rows:
        return
    machine = info.report()
    terminalreporter.section("fusionops benchmarks")
    terminalreporter.write_line(
        f"{machine['processor']}, {machine['torch_threads']} threads, torch {machine['torch']}, "
        f"kernels {machine['native']['isa']}; float32. A ratio above 1 means ours is faster."
    )
    for operator, title in config.stash[titles_key].items():
        terminalreporter.write_line("")
        of_operator = [row for row in rows if row.operator == operator]
        terminalreporter.write_line(render(operator, title, of_operator))
    path = config.getoption("report")
    if path is not None:
        write_report(path, machine, rows)
        terminalreporter.write_line(f"\nwritten: {path}")
