"""The benchmark suites, counted: ours and eager PyTorch at their shapes, in both passes."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from comparison import cases, memory
from comparison.cases import EAGER, OURS, Call, Case, Shape, Suite
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from counting.counter import count
from counting.launches import Launch

DTYPES = ("float32", "bfloat16")
# What a GPU has no kernel of ours for, or what is not an operator.
LEFT_OUT = {"bench_mmr_rerank", "bench_catalog", "bench_training", "bench_explain"}
FOLDER = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Counted:
    """The launches of both at one size."""

    operator: str
    axes: tuple[str, ...]
    shape: Shape
    direction: str
    dtype: str
    ours: list[Launch]
    eager: list[Launch]


def suites() -> dict[str, Suite]:
    """By operator, and of several by variant: ``"attention_fusion, self"``."""
    found: dict[str, Suite] = {}
    for file in sorted(FOLDER.glob("bench_*.py")):
        if file.stem in LEFT_OUT:
            continue
        module, operator = importlib.import_module(file.stem), file.stem.removeprefix("bench_")
        variants = getattr(module, "SUITES", None)
        if variants is None:
            found[operator] = module.SUITE
        else:
            found |= {f"{operator}, {variant}": suite for variant, suite in variants.items()}
    return found


def counted() -> Iterator[Counted]:
    """Everything: the shapes of the tables for CPUs and for GPUs."""
    for operator, suite in suites().items():
        for shape in dict.fromkeys((*suite.shapes, *suite.gpu_shapes)):
            for direction in suite.directions:
                for dtype in DTYPES:
                    yield compare(operator, suite, shape, direction, dtype)


def compare(operator: str, suite: Suite, shape: Shape, direction: str, dtype: str) -> Counted:
    """Both at one size."""
    ours, eager = (
        launches_of(suite, Case(shape, direction, contender, dtype=dtype))
        for contender in (OURS, EAGER)
    )
    return Counted(operator, suite.axes, shape, direction, dtype, ours, eager)


def launches_of(suite: Suite, case: Case) -> list[Launch]:
    """Those of one contender's call, on fake tensors of any size."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with ExitStack() as stack:
        stack.callback(cases.gaussians.cache_clear)  # fake tensors belong to one mode
        stack.enter_context(patch.object(memory, "available", lambda device: None))
        cases.gaussians.cache_clear()
        return count(_call(suite, case, mode), mode)


def _call(suite: Suite, case: Case, mode: FakeTensorMode) -> Call:
    try:
        with mode:
            return suite.setup(case)
    except DataDependentOutputException:  # ragged lists, whose sizes are values
        cases.gaussians.cache_clear()
        return suite.setup(case)
