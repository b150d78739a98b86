"""Options, the contest that every suite holds, and the tables at the end; see README.md."""

from __future__ import annotations

import argparse
import functools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
import torch
from comparison import gpu
from comparison.agreement import assert_agree
from comparison.bounds import Machine, Work
from comparison.cases import (
    BACKWARD,
    COMPILE,
    CPU,
    CUDA,
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
from fusionops.cli.bench_report import Measurement, Operator, Results, markdown, terminal
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
    dtype: str = "float32"
    device: str = CPU
    on_gpu: bool = False

    def __str__(self) -> str:
        variant = self.operator.partition(", ")[2]
        sizes = "x".join(map(str, self.shape))
        words = (variant, sizes, self.direction, "growth" * self.growth, "gpu" * self.on_gpu)
        return "-".join(filter(None, words))

    def case(self, contender: str) -> Case:
        """That of one contender."""
        return Case(self.shape, self.direction, contender, self.device, self.dtype)

    def contenders(self) -> gpu.Contenders:
        """Who takes part, and how many of them are ours."""
        if self.on_gpu:
            return gpu.contenders(self.operator.partition(",")[0], self.suite)
        absent = self.suite.not_in_growth if self.growth else ()
        names = tuple(name for name in self.suite.contenders if name not in absent)
        return gpu.Contenders(names, self.suite.ours)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fusionops")
    group.addoption(
        "--short",
        action="store_true",
        help="smoke run: the first shape and dtype, few rounds, no torch.compile",
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
    group.addoption(
        "--report",
        type=Path,
        metavar="FILE.json",
        help="also write the results here, and as FILE.md",
    )


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
            pytest.param(group, id=str(group), marks=[pytest.mark.gpu] if group.on_gpu else [])
            for name, suite in suites.items()
            for made in (_groups, _gpu_groups)
            for group in made(name, suite, metafunc.config)
        ]
        metafunc.parametrize("contest", groups, indirect=True)


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


def _gpu_groups(operator: str, suite: Suite, config: pytest.Config) -> Iterator[Group]:
    """Those of ``-m gpu``; another device than a GPU is for trying the suites themselves."""
    device = os.environ.get("FUSIONOPS_TEST_DEVICE", CUDA)
    short, chosen = config.getoption("short"), config.getoption("shapes")
    shapes = suite.gpu_shapes[:1] if short else suite.gpu_shapes
    if chosen and suite.gpu_shapes:
        shapes = tuple(shape for shape in chosen if len(shape) == len(suite.axes))
    for dtype in gpu.DTYPES[:1] if short else gpu.DTYPES:
        for direction in suite.directions:
            for shape in shapes:
                name = f"{operator}, {dtype}"
                yield Group(name, suite, shape, direction, dtype=dtype, device=device, on_gpu=True)


@pytest.fixture
def contest(request: pytest.FixtureRequest) -> Callable[[], None]:
    """Compares what the contenders return, then takes their time in turns and their memory."""
    config, group = request.config, request.param
    if group.device == CUDA and not torch.cuda.is_available():
        pytest.skip("PyTorch sees no GPU")
    benchmark = request.getfixturevalue("benchmark")
    benchmark.group = group.operator
    return lambda: _hold(config, group, benchmark)


def _hold(config: pytest.Config, group: Group, benchmark: BenchmarkFixture) -> None:
    results, suite = _results(config, group), group.suite
    names, ours = group.contenders()
    if group.operator not in (known.name for known in results.operators):
        results.operators.append(
            Operator(group.operator, suite.title, list(names[:ours]), list(suite.axes), suite.grows)
        )
    rows = {}
    for contender in names:
        rows[contender] = row = Measurement(
            group.operator, list(group.shape), group.direction, contender, growth=group.growth
        )
        if contender in names[:ours] and not group.on_gpu:
            config.stash[works_key].append((row, suite.work(group.case(contender))))
    results.measurements += rows.values()

    calls = _agreeing(group, rows, short=config.getoption("short"))
    seconds, rounds = (0.05, 3) if config.getoption("short") else (1.0, 3 if group.growth else 5)
    measured = interleave(list(calls.values()), seconds=seconds, rounds=rounds)
    # pytest-benchmark times one function a test and so cannot give others their turn. It times our
    # call once more, for its table, --benchmark-compare and --benchmark-json, and carries the rest.
    benchmark.extra_info["median_seconds"] = {
        contender: times.median for contender, times in zip(calls, measured, strict=True)
    }
    benchmark.pedantic(calls[names[0]], rounds=max(rounds, min(measured[0].rounds, 50)))
    for contender, times in zip(calls, measured, strict=True):
        row = rows[contender]
        row.median, row.minimum = times.median, times.minimum
        row.spread, row.rounds = times.spread, times.rounds
        if not group.growth:
            try:
                row.peak_bytes = _peak(group, contender, calls[contender])
            except UnavailableError as absence:
                row.reason = str(absence)


def _peak(group: Group, contender: str, call: Call) -> int:
    if group.on_gpu:
        return gpu.peak_of(call, group.device)
    small = group.suite.small(group.shape)
    return peak_of(group.suite.setup, group.case(contender), small)


def _agreeing(group: Group, rows: dict[str, Measurement], *, short: bool) -> dict[str, Call]:
    """The calls of those who can take part, each of which has been called and agrees with ours."""
    calls: dict[str, Call] = {}
    reference: tuple[torch.Tensor, ...] = ()
    for contender, row in rows.items():
        try:
            if short and contender == COMPILE:
                raise UnavailableError("left out by --short")
            call, found = _first(group, contender)
        except UnavailableError as absence:
            row.reason = str(absence)
            continue
        if calls:
            _compare(group, reference, found)
        else:
            reference = found
        calls[contender] = call
    return calls


def _compare(
    group: Group, ours: tuple[torch.Tensor, ...], theirs: tuple[torch.Tensor, ...]
) -> None:
    """Raises where the results differ by more than the dtype explains."""
    stray = group.suite.stray_rows if group.direction == BACKWARD else 0.0
    if group.dtype == "float32":
        assert_agree(ours, theirs, stray_rows=stray)
        return
    # Scores that were rounded to half precision are full of ties, whose order is anyone's, and the
    # gradients follow the order.
    tolerance, stray = gpu.TOLERANCES[group.dtype], float(stray > 0)
    assert_agree(ours, theirs, tolerance=tolerance, stray_rows=stray, swaps=1.0)


def _first(group: Group, contender: str) -> tuple[Call, tuple[torch.Tensor, ...]]:
    """A call and what it returned first; another's failure is a gap in the table, ours an error."""
    setup = functools.partial(gpu.setup, group.suite) if group.on_gpu else group.suite.setup
    try:
        call = setup(group.case(contender))
        return call, call()
    except UnavailableError:
        raise
    except Exception as error:
        if contender in group.suite.contenders[: group.suite.ours]:
            raise
        reason = str(error).strip().splitlines()[0]
        raise UnavailableError(f"{type(error).__name__}: {reason}") from error


def _results(config: pytest.Config, group: Group) -> Results:
    """What was measured so far; the machine itself is measured before the first contest."""
    if results_key not in config.stash:
        config.stash[works_key] = []
        if group.on_gpu:
            config.stash[results_key] = Results(gpu.machine(), {})
        else:
            config.stash[machine_key] = _measured(config)
            config.stash[results_key] = Results(info.report(), {})
    return config.stash[results_key]


def _measured(config: pytest.Config) -> Machine:
    return Machine.measure(0.03 if config.getoption("short") else 0.2)


def _add_bounds(config: pytest.Config, results: Results) -> None:
    """By the better of the machine's rates before the first contest and after the last."""
    if machine_key not in config.stash:
        return
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
        command = " ".join(["pytest", *config.invocation_params.args])
        write_atomically(path.with_suffix(".md"), markdown(results, command, ()).encode())
        terminalreporter.write_line(f"\nwritten: {path}")
