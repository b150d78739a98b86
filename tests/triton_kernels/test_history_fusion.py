"""history_fusion in Triton: parts of long histories, runs of one id, ids that are not there."""

from __future__ import annotations

import pytest
import torch
from profile_support import Case, check
from support import assert_bits, name_of, normal
from triton_support import INTERPRETED, needs_triton, rounded, served

import fusionops

pytestmark = needs_triton

FORMS = {"mean": {}, "weights": {"weights": None}, "attention": {"query": None}}
# Lengths of the histories, features, rows of the table.
SIZES = {
    "short": ([3, 0, 1, 40, 0], 33, 7),
    "parts": ([1000, 0, 5], 9, 400),
    "one feature": ([2, 17], 1, 3),
    "wide": ([1, 2], 1100, 4),
}
COMPILED_PARTS = [800, 0, 5], 9, 40


def case_of(form: str, lengths: list[int], features: int, table: int, listed: bool) -> Case:
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    total = int(offsets[-1])
    shapes = {"values": (table if listed else total, features)}
    shapes |= {"mean": {}, "weights": {"weights": (total,)}}.get(
        form, {"query": (len(lengths), features)}
    )
    fixed = {"offsets": offsets}
    if listed:  # the first row three times out of four: a run of it spans chunks
        place = torch.arange(total)
        fixed["ids"] = torch.where(place % 4 == 3, place * 7 % table, 0)
    return Case(form, "history_fusion", shapes, fixed)


@pytest.mark.parametrize(("mode", "dtype"), INTERPRETED, ids=name_of)
@pytest.mark.parametrize("listed", [False, True], ids=["rows", "ids"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", SIZES)
def test_sizes(size, form, listed, mode, dtype):
    case = case_of(form, *SIZES[size], listed)
    with served(mode):
        check(case, case.leaves(dtype), weights=rounded(dtype))


def cut(lengths, features):
    """Into how many parts a history is cut."""
    from fusionops.triton import history_fusion  # needs Triton

    return history_fusion._tile(len(lengths), sum(lengths), features)["PARTS"]


def test_parts_are_parts():
    """What the tests of this file call so: shorter ones would leave the kernels that join out."""
    assert cut(*SIZES["parts"][:2]) > 1
    assert cut(*COMPILED_PARTS[:2]) > 1
    assert cut(*SIZES["short"][:2]) == 1


@pytest.mark.parametrize("listed", [False, True], ids=["rows", "ids"])
def test_compiled_in_parts(listed):
    case = case_of("attention", *COMPILED_PARTS, listed)
    with served("compiled"):
        check(case, case.leaves(torch.bfloat16), weights=rounded(torch.bfloat16))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=name_of)
def test_ids_outside_the_table_are_left_out(form, dtype):
    """They cannot be told without a wait for the GPU; what they would name is never read."""
    offsets, table = torch.tensor([0, 4, 6]), normal(5, 8)
    kept = torch.tensor([True, False, True, True, False, True])
    ids = torch.where(kept, torch.arange(6) % 5, torch.tensor([-1, -7, 5, 6, 2**31 - 1, 0]))
    query = normal(2, 8, seed=1) if form == "attention" else None
    weights = normal(6, seed=2) if form == "weights" else None
    operators = torch.ops.fusionops_triton
    rest = torch.tensor([0, 3, 4])
    lengths = offsets.diff() / rest.diff() if form == "mean" else torch.ones(2)
    given = (offsets, query, weights, ids.to(dtype))
    fewer = (rest, query, None if weights is None else weights[kept], ids[kept])
    with served("interpreted"):
        found, statistics = operators.history_fusion(table, *given)
        slopes = operators.history_fusion_backward(found, statistics, table, *given, *[True] * 3)
        expected, statistics = operators.history_fusion(table, *fewer)
        grad = found / lengths.unsqueeze(1)
        others = operators.history_fusion_backward(grad, statistics, table, *fewer, *[True] * 3)
    torch.testing.assert_close(found * lengths.unsqueeze(1), expected)
    torch.testing.assert_close(slopes[0], others[0])
    torch.testing.assert_close(slopes[1], others[1])
    if weights is not None:
        torch.testing.assert_close(slopes[2][kept], others[2])
        assert not slopes[2][~kept].any()


def test_a_long_run_of_one_id_beside_others():
    """More chunks than are added up at a time, between runs that end at a chunk's edge."""
    ids = torch.cat([torch.zeros(32), torch.ones(31), torch.full((700,), 2), torch.full((5,), 4)])
    order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(0))
    ids, table = ids.long()[order], normal(6, 5).requires_grad_()
    offsets, weights = torch.tensor([0, 300, len(ids)]), normal(len(ids), seed=1)
    grad = normal(2, 5, seed=2)
    with served("interpreted"):
        fused = fusionops.history_fusion(table, offsets, weights=weights, ids=ids)
        (found,) = torch.autograd.grad(fused, table, grad)
    owner = torch.arange(len(ids)) >= 300
    terms = weights.double().unsqueeze(1) * grad.double()[owner.long()]
    expected = torch.zeros(6, 5, dtype=torch.float64).index_add(0, ids, terms)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-4)
    assert_bits(found[[3, 5]], torch.zeros(2, 5))


def test_no_history():
    values = normal(0, 4).requires_grad_()
    with served("interpreted"):
        fused = fusionops.history_fusion(values, torch.zeros(1, dtype=torch.int64))
        (slope,) = torch.autograd.grad(fused.sum(), values)
    assert fused.shape == slope.shape == (0, 4)
