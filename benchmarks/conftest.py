"""Options, the contest that every suite holds, and the tables at the end; see README.md."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
import torch
from comparison.agreement import assert_agree
from comparison.bounds import Machine, Work
from comparison.cases import (
    BACKWARD,
    COMPILE,
    Call,
    Case,
    Shape,
    Suite,
    UnavailableError,
    parse_shape,
)
from comparison.memory import peak_of
from comparison.timing import interleave
from pytest_benchmark.fixture import BenchmarkFixture

from fusionops import info
from fusionops.cli.bench_report import Measurement, Operator, Results, terminal
from fusionops.files import write_atomically

results_key = pytest.StashKey[Results]()
machine_key = pytest.StashKey[Machine]()
works_key = pytest.StashKey[list[tuple[Measurement, Work]]]()


class Group(NamedTuple):
    """A suite and what its contenders are compared at."""

    operator: str
    suite: Suite
    shape: Shape
    direction: str
    growth: bool = False

    def __str__(self) -> str:
        variant = self.operator.partition(", ")[2]
        sizes = "x".join(map(str, self.shape))
        return "-".join(filter(None, (variant, sizes, self.direction, "growth" * self.growth)))


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fusionops")
    group.addoption(
        "--short",
        action="store_true",
        help="smoke run: the first shape, few rounds, no torch.compile",
    )
    group.addoption(
        "--growth", action="store_true", help="also measure time against size, one size doubling"
    )
    group.addoption(
        "--shapes",
        type=_shapes,
        metavar="AxBxC[,AxBxC...]",
        help="measure these shapes, both directions, in the suites of so many sizes",
    )
    group.addoption("--report", type=Path, metavar="FILE.json", help="also write the results here")


def _shapes(text: str) -> tuple[Shape, ...]:
    try:
        return tuple(map(parse_shape, text.split(",")))
    except ValueError as error:  # argparse hides the message of any other kind
        raise argparse.ArgumentTypeError(str(error)) from error


def pytest_configure() -> None:
    # The NumPy face gets as many threads as torch; its pool reads this at every call.
    os.environ["FUSIONOPS_NUM_THREADS"] = str(torch.get_num_threads())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "contest" in metafunc.fixturenames:
        suites = _suites(metafunc.module)
        for shape in metafunc.config.getoption("shapes") or ():
            if all(len(shape) != len(suite.axes) for suite in suites.values()):
                known = " or ".join("x".join(suite.axes) for suite in suites.values())
                raise pytest.UsageError(
                    f"--shapes: {next(iter(suites))} takes {known}, got {'x'.join(map(str, shape))}"
                )
        groups = [
            group
            for name, suite in suites.items()
            for group in _groups(name, suite, metafunc.config)
        ]
        metafunc.parametrize("contest", groups, ids=map(str, groups), indirect=True)


def _suites(module: ModuleType) -> dict[str, Suite]:
    """Those of a file, by what the report calls them: the operator, and of several the variant."""
    operator = module.__name__.removeprefix("bench_")
    if hasattr(module, "SUITE"):
        return {operator: module.SUITE}
    return {f"{operator}, {variant}": suite for variant, suite in module.SUITES.items()}


def _groups(operator: str, suite: Suite, config: pytest.Config) -> Iterator[Group]:
    short, chosen = config.getoption("short"), config.getoption("shapes")
    shapes = suite.shapes[:1] if short else suite.shapes
    if chosen:
        shapes = tuple(shape for shape in chosen if len(shape) == len(suite.axes))
    for direction in suite.directions:
        for shape in shapes:
            if chosen or direction != BACKWARD or shape not in suite.forward_only:
                yield Group(operator, suite, shape, direction)
    if config.getoption("growth"):
        for shape in suite.growth[:2] if short else suite.growth:
            yield Group(operator, suite, shape, suite.growth_direction, growth=True)


@pytest.fixture
def contest(request: pytest.FixtureRequest) -> Callable[[], None]:
    """Compares what the contenders return, then takes their time in turns and their memory."""
    config, group = request.config, request.param
    benchmark = request.getfixturevalue("benchmark")
    benchmark.group = group.operator
    return lambda: _hold(config, group, benchmark)


def _hold(config: pytest.Config, group: Group, benchmark: BenchmarkFixture) -> None:
    results, suite = _results(config), group.suite
    if group.operator not in (known.name for known in results.operators):
        ours = list(suite.contenders[: suite.ours])
        results.operators.append(
            Operator(group.operator, suite.title, ours, list(suite.axes), suite.grows)
        )
    rows = {}
    for contender in suite.contenders:
        if group.growth and contender in suite.not_in_growth:
            continue
        rows[contender] = row = Measurement(
            group.operator, list(group.shape), group.direction, contender, growth=group.growth
        )
        if contender in suite.contenders[: suite.ours]:
            work = suite.work(Case(group.shape, group.direction, contender))
            config.stash[works_key].append((row, work))
    results.measurements += rows.values()

    calls = _agreeing(group, rows, short=config.getoption("short"))
    seconds, rounds = (0.05, 3) if config.getoption("short") else (1.0, 3 if group.growth else 5)
    measured = interleave(list(calls.values()), seconds=seconds, rounds=rounds)
    # pytest-benchmark times one function a test and so cannot give others their turn. It times our
    # call once more, for its table, --benchmark-compare and --benchmark-json, and carries the rest.
    ours = suite.contenders[0]
    benchmark.extra_info["median_seconds"] = {
        contender: times.median for contender, times in zip(calls, measured, strict=True)
    }
    benchmark.pedantic(calls[ours], rounds=max(rounds, min(measured[0].rounds, 50)))
    for contender, times in zip(calls, measured, strict=True):
        row = rows[contender]
        row.median, row.minimum = times.median, times.minimum
        row.spread, row.rounds = times.spread, times.rounds
        if not group.growth:
            try:
                case = Case(group.shape, group.direction, contender)
                row.peak_bytes = peak_of(suite.setup, case, suite.small(group.shape))
            except UnavailableError as absence:
                row.reason = str(absence)


def _agreeing(group: Group, rows: dict[str, Measurement], *, short: bool) -> dict[str, Call]:
    """The calls of those who can take part, each of which has been called and agrees with ours."""
    suite = group.suite
    calls: dict[str, Call] = {}
    reference: tuple[torch.Tensor, ...] = ()
    for contender, row in rows.items():
        case = Case(group.shape, group.direction, contender)
        try:
            if short and contender == COMPILE:
                raise UnavailableError("left out by --short")
            call = suite.setup(case)
            found = _first(call, ours=contender in suite.contenders[: suite.ours])
        except UnavailableError as absence:
            row.reason = str(absence)
            continue
        if calls:
            stray = suite.stray_rows if group.direction == BACKWARD else 0.0
            assert_agree(reference, found, stray_rows=stray)
        else:
            reference = found
        calls[contender] = call
    return calls


def _first(call: Call, *, ours: bool) -> tuple[torch.Tensor, ...]:
    """The first call, which may compile: another's failure is a gap in the table, ours an error."""
    try:
        return call()
    except RuntimeError as error:
        if ours:
            raise
        reason = str(error).strip().splitlines()[0]
        raise UnavailableError(f"{type(error).__name__}: {reason}") from error


def _results(config: pytest.Config) -> Results:
    """What was measured so far; the machine itself is measured before the first contest."""
    if results_key not in config.stash:
        config.stash[machine_key] = _measured(config)
        config.stash[works_key] = []
        config.stash[results_key] = Results(info.report(), {})
    return config.stash[results_key]


def _measured(config: pytest.Config) -> Machine:
    return Machine.measure(0.03 if config.getoption("short") else 0.2)


def _add_bounds(config: pytest.Config, results: Results) -> None:
    """By the better of the machine's rates before the first contest and after the last."""
    machine = config.stash[machine_key].best_of(_measured(config))
    results.rates = machine.as_json()
    for row, work in config.stash[works_key]:
        bound = machine.bound(work)
        row.bound, row.bound_by = bound.seconds, bound.by


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if results_key not in config.stash:
        return
    results = config.stash[results_key]
    _add_bounds(config, results)
    terminalreporter.section("fusionops benchmarks")
    terminalreporter.write_line(terminal(results))
    path = config.getoption("report")
    if path is not None:
        write_atomically(path, (json.dumps(results.as_json(), indent=2) + "\n").encode())
        terminalreporter.write_line(f"\nwritten: {path}")
