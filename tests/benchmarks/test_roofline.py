"""Counts of calls that are small enough to count by hand, the targets on paper, and the page."""

import importlib
import json
from pathlib import Path

import pytest
import torch
from comparison.cases import BACKWARD, EAGER, FORWARD, OURS, Case
from counting import kernels, suites
from counting.counter import count
from counting.devices import DEVICES, MEMORY, Device, time_of
from counting.launches import CACHE, FP32, HALF, TF32, Launch, gathered, size_of
from counting.occupancy import blocks_of
from counting.page import render, row_of
from torch._subclasses.fake_tensor import FakeTensorMode

import fusionops
from fusionops import cuda_library

PAGE = Path(__file__).parents[2] / "docs" / "performance" / "roofline.md"
TARGET = (1024, 1_000_000, 128)


def launches(function, *tensors):
    """Of a call on the tensors made fake."""
    return count(lambda: function(*tensors), FakeTensorMode(allow_non_fake_inputs=True))


def moved(found):
    return sum(launch.moved for launch in found)


def counted(operator, shape, direction, contender, dtype):
    case = Case(shape, direction, contender, dtype=dtype)
    return suites.launches_of(suites.suites()[operator], case)


def test_a_launch_reads_its_inputs_and_writes_its_outputs():
    (product,) = launches(torch.mm, torch.ones(3, 5), torch.ones(5, 7))
    assert (product.reads, product.writes) == ({"0": 4 * 15, "1": 4 * 35}, {"0": 4 * 21})
    assert (product.operations, product.unit) == (2 * 3 * 5 * 7, FP32)
    (product,) = launches(torch.mm, torch.ones(3, 5).half(), torch.ones(5, 7).half())
    assert (product.moved, product.unit) == (2 * (15 + 35 + 21), HALF)


def test_the_same_tensor_is_read_once():
    x = torch.ones(6)
    (product,) = launches(lambda: x * x)
    assert (product.reads, product.writes) == ({"0": 24}, {"0": 24})


def test_views_and_allocations_cost_nothing():
    def views(x):
        return (
            x.T,
            x[1:],
            x.view(-1),
            x.expand(9, 3, 4),
            x.detach(),
            torch.empty_like(x),
            x.to(x.dtype),
        )

    assert launches(views, torch.ones(3, 4)) == []


def test_what_is_expanded_is_there_once():
    assert size_of(torch.ones(1, 4).expand(9, 4)) == 16
    (total,) = launches(torch.add, torch.ones(1, 4).expand(9, 4), torch.ones(9, 4))
    assert sum(total.reads.values()) == 16 + 144


def test_fills_read_nothing_and_gathers_what_they_return():
    table, ids = torch.ones(1000, 8), torch.tensor([3, 7])
    (filled,) = launches(torch.zeros_like, table)
    assert (filled.reads, filled.writes) == ({}, {"0": 32_000})
    (rows,) = launches(lambda: table[ids])
    assert rows.moved == 64 + 16 + 64
    assert gathered(CACHE, 2 * CACHE) == CACHE
    assert gathered(CACHE + 1, 2 * CACHE) == 2 * CACHE
    (scattered,) = launches(lambda: table.index_put_((ids,), table.new_ones(()).expand(2, 8)))[1:]
    assert scattered.moved < 200


def test_operators_that_are_made_of_others_are_taken_apart():
    found = launches(torch.nn.functional.linear, torch.ones(2, 3, 5), torch.ones(7, 5))
    assert [launch.name for launch in found] == ["mm"]
    assert found[0].operations == 2 * 6 * 5 * 7


def test_a_backward_pass_is_counted():
    x = torch.ones(3, 5, requires_grad=True)

    def both():
        return torch.autograd.grad((x * 2.0).sum(), x)

    names = [launch.name for launch in launches(both)]
    assert names == ["mul", "sum", "ones_like", "mul"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_small_fusion_matrix(dtype):
    """Without a normalisation it is one launch: both sides in, the matrix out."""
    user, item = torch.ones(3, 5, dtype=dtype), torch.ones(7, 5, dtype=dtype)
    (only,) = launches(lambda u, p: fusionops.fusion_matrix(u, p, normalization="none"), user, item)
    assert only.reads == {"user": user.nbytes, "item": item.nbytes}
    assert only.writes == {"0": 21 * user.element_size()}
    assert (only.operations, only.unit) == (210, FP32 if dtype == torch.float32 else HALF)


def test_a_small_cross_entropy():
    """Both sides twice for the gradients, and nothing of the size of the logits."""
    user, item = (torch.ones(n, 64, requires_grad=True) for n in (4000, 3000))
    target = torch.zeros(4000, dtype=torch.int64)

    def both():
        loss = fusionops.fusion_cross_entropy(user, item, target, normalization="none")
        return torch.autograd.grad(loss, (user, item))

    found = launches(both)
    passes = [launch for launch in found if launch.operations > 1e6]
    names = ["fusion_cross_entropy", "toward user", "toward item"]
    assert [launch.name for launch in passes] == names
    products = 2 * 4000 * 3000 * 64
    assert [launch.operations for launch in passes] == [products, 2 * products, 2 * products]
    assert max(launch.moved for launch in found) < 4000 * 3000


def test_histories_read_the_rows_that_they_have():
    table, ids = torch.ones(1000, 8), torch.arange(5)
    offsets = torch.tensor([0, 2, 5])
    found = launches(lambda: fusionops.history_fusion(table, offsets, ids=ids))
    (only,) = [launch for launch in found if launch.name == "history_fusion"]
    assert only.reads == {"values": 5 * 32, "offsets": 24, "ids": 40}
    assert only.writes == {"0": 64}


def test_topk_moves_less_than_a_twentieth_of_what_eager_does():
    """Scores, scaled scores and their lists against one pass for the norms and one for the rest."""
    ours, eager = (
        counted("fusion_topk", TARGET, FORWARD, contender, "bfloat16")
        for contender in (OURS, EAGER)
    )
    assert moved(ours) < 0.05 * moved(eager)
    assert moved(ours) >= 2 * 2 * TARGET[1] * TARGET[2]  # norms and scores read the items
    (scores,) = [launch for launch in ours if launch.name == "fusion_topk"]
    for device in DEVICES:
        assert time_of(ours, device).by == "tensor cores"
        assert time_of([scores], device).by == "tensor cores"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_attention_reads_and_writes_each_byte_once(dtype):
    """Query, key and value in, the result out, and a log-sum-exp for each query and head."""
    batch, tokens, features, heads = shape = (512, 4, 64, 2)
    side = batch * tokens * features * (4 if dtype == "float32" else 2)
    log_sum = 4 * batch * heads * tokens
    (forward,) = counted("attention_fusion, self", shape, FORWARD, OURS, dtype)
    assert forward.reads == dict.fromkeys(("query", "key", "value"), side)
    assert forward.writes == {"0": side, "2": log_sum}
    again, backward = counted("attention_fusion, self", shape, BACKWARD, OURS, dtype)
    assert again == forward
    assert backward.reads == dict.fromkeys(("grad", "query", "key", "value"), side)
    assert backward.writes == {"0": side, "1": side, "2": side}


def test_the_formulas_are_of_the_kernels_that_are_there():
    pytest.importorskip("triton")
    from fusionops.ops import attention_fusion
    from fusionops.triton import HOMES, _pairing, _table_gradient

    assert set(kernels.KERNELS) == cuda_library.OPERATORS | set(HOMES)
    assert kernels.TILE == _pairing._MOST_TOKENS
    assert kernels.CHUNK == _table_gradient._LENGTH
    rows = torch.ones(1, kernels.FEW, 8), torch.ones(1, kernels.FEW + 1, 8)
    within = importlib.import_module(attention_fusion.__module__)._within
    assert within(rows[0], rows[0])
    assert not within(rows[0], rows[1])


DEVICE = Device("a device", 80, 100.0, {FP32: 10.0, TF32: 20.0, HALF: 40.0}, 0, 1, 1)


def test_the_cache_is_the_smallest():
    assert min(device.cache for device in DEVICES) == CACHE


def test_times_of_launches_add_up():
    copy = Launch("copy", {"0": 100}, {"0": 100})
    product = Launch("product", {"0": 100}, {}, 100.0, HALF)
    assert time_of([copy], DEVICE) == (2.0, MEMORY)
    assert time_of([product], DEVICE) == (2.5, "tensor cores")
    assert time_of([copy, product], DEVICE) == (4.5, "tensor cores")
    assert time_of([Launch("exact", {}, {}, 100.0, FP32)], DEVICE) == (10.0, "FFMA")


@pytest.mark.parametrize(
    ("registers", "threads", "shared", "blocks"),
    [
        (32, 256, 0, 8),  # threads
        (128, 128, 0, 4),  # registers
        (33, 128, 0, 12),  # in pieces: 40 registers a thread
        (16, 32, 0, 32),  # blocks
        (32, 128, 50 << 10, 3),  # shared memory
    ],
)
def test_occupancy(registers, threads, shared, blocks):
    assert blocks_of(registers, threads, shared, 164 << 10) == blocks


def test_the_page_is_what_the_command_writes():
    """All of it from the data beside it, and some rows of these counted anew."""
    data = json.loads(PAGE.with_suffix(".json").read_text(encoding="utf-8"))
    assert PAGE.read_text(encoding="utf-8") == render(data, "python benchmarks/roofline.py")
    assert len({row["operator"] for row in data["rows"]}) == len(suites.suites())
    for operator in ("fusion_topk", "attention_fusion, self", "weighted_fusion"):
        suite = suites.suites()[operator]
        rows = [row for row in data["rows"] if row["operator"] == operator]
        for direction in suite.directions:
            found = suites.compare(operator, suite, suite.shapes[0], direction, "bfloat16")
            assert row_of(found) in rows
