"""What fuses profiles: the same bits for any number of threads and on every run (rule 4)."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from profile_support import Case, cases, cotangents
from support import assert_bits, name_of

# Many entities; few with long rows; one, with a table whose rows are listed again and again.
SIZES = {
    "many": {"batch": 800, "rows": 3, "tokens": 4, "features": 16, "table": 9},
    "long": {"batch": 2, "rows": 130, "tokens": 700, "features": 10, "table": 3},
    "wide": {"batch": 33, "rows": 5, "tokens": 9, "features": 260, "table": 50},
}
NAMES = [case.name for case in cases()]
CASES = {size: dict(zip(NAMES, cases(**options), strict=True)) for size, options in SIZES.items()}


def run(case, leaves, threads):
    torch.set_num_threads(threads)
    wanting = {name: leaf.detach().requires_grad_() for name, leaf in leaves.items()}
    results = case(**wanting)
    found = torch.autograd.grad(results, list(wanting.values()), cotangents(results))
    torch.set_num_threads(1)
    return [*(result.detach() for result in results), *found]


def assert_same(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        assert_bits(ours, theirs)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_threads(name, size):
    case = CASES[size][name]
    leaves = case.leaves(torch.float32)
    expected = run(case, leaves, 1)
    for threads in (2, 3):
        assert_same(run(case, leaves, threads), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=name_of)
@pytest.mark.parametrize("name", ["weighted-shared", "shared", "bidirectional-values", "ids-mean"])
def test_threads_in_other_dtypes(name, dtype):
    case = CASES["many"][name]
    leaves = case.leaves(dtype)
    assert_same(run(case, leaves, 2), run(case, leaves, 1))


@pytest.mark.parametrize("kind", ["mean", "weights", "attention"])
def test_threads_of_a_table(kind):
    """20,000 entries of 7 rows: each row's gradient is a sum over thousands."""
    offsets = torch.arange(0, 20_001, 50)
    ids = torch.randint(0, 7, (20_000,), generator=torch.Generator().manual_seed(1))
    ids[:15_000:2] = 3
    shapes = {"values": (7, 24)}
    if kind == "weights":
        shapes["weights"] = (20_000,)
    if kind == "attention":
        shapes["query"] = (400, 24)
    case = Case(kind, "history_fusion", shapes, {"offsets": offsets, "ids": ids})
    leaves = case.leaves(torch.float32)
    expected = run(case, leaves, 1)
    for threads in (2, 3, 2):
        assert_same(run(case, leaves, threads), expected)


def test_threads_of_one_long_history():
    shapes = {"values": (50_000, 8), "query": (1, 8)}
    case = Case("long", "history_fusion", shapes, {"offsets": torch.tensor([0, 50_000])})
    leaves = case.leaves(torch.float32)
    assert_same(run(case, leaves, 2), run(case, leaves, 1))


@pytest.mark.parametrize("name", NAMES)
def test_runs(name):
    """Where threads race for tasks, another run would give other bits."""
    case = CASES["many"][name]
    leaves = case.leaves(torch.float32)
    expected = run(case, leaves, 2)
    for _ in range(2):
        assert_same(run(case, leaves, 2), expected)


@pytest.mark.parametrize("name", ["weighted", "self", "cross-masks", "bidirectional-values"])
def test_an_entity_does_not_depend_on_its_company(name):
    """Alone, in pairs or among hundreds: the same bits."""
    case = CASES["many"][name]
    leaves = case.leaves(torch.float32)
    expected = case(**leaves)
    for rows in (slice(0, 1), slice(7, 9), slice(700, 749)):
        fixed = {
            key: value[rows] if isinstance(value, torch.Tensor) and value.dim() == 2 else value
            for key, value in case.fixed.items()
        }
        some = Case("some", case.operator, case.shapes, fixed)
        found = some(**{key: leaf[rows] for key, leaf in leaves.items()})
        for ours, theirs in zip(found, expected, strict=True):
            assert_bits(ours, theirs[rows])


def test_calls_from_several_python_threads():
    some = [CASES["many"][name] for name in ("weighted-shared", "shared", "ids-attention")]
    leaves = [case.leaves(torch.float32) for case in some]

    def call(number):
        wanting = {name: leaf.detach().requires_grad_() for name, leaf in leaves[number].items()}
        results = some[number](**wanting)
        return torch.autograd.grad(results, list(wanting.values()), cotangents(results))

    expected = [call(number) for number in range(3)]
    with ThreadPoolExecutor(4) as pool:
        for index, found in enumerate([pool.submit(call, index % 3) for index in range(9)]):
            assert_same(found.result(), expected[index % 3])


# Scores of 8 x 2,000 x 2,000 are 122 MiB in float32; 400,000 rows of 64 are 98 MiB.
MEMORY = """
import resource, sys, torch, fusionops
torch.set_num_threads(int(sys.argv[1]))

def pairs(tokens):
    sides = [torch.randn(8, tokens, 16, requires_grad=True) for _ in range(2)]
    sum(part.sum() for part in fusionops.bidirectional_fusion(*sides)).backward()

def histories(entries):
    table, query = torch.randn(50, 64, requires_grad=True), torch.randn(entries // 50, 64)
    offsets, ids = torch.arange(0, entries + 1, 50), torch.randint(50, (entries,))
    fusionops.history_fusion(table, offsets, query, ids=ids).sum().backward()

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

pairs(16), histories(100)
before = peak()
pairs(2000)
middle = peak()
histories(400_000)
print(middle - before, peak() - middle)
"""


@pytest.mark.parametrize("threads", [2])
def test_memory(threads):
    """No matrix of scores of large sides, and no gathered rows."""
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(threads)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    bidirectional, history = map(float, done.stdout.split())
    assert bidirectional < 48, f"{bidirectional:.0f} MiB for 8 x (2,000, 2,000)"
    assert history < 48, f"{history:.0f} MiB for 400,000 entries"
