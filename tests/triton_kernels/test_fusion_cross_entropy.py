"""fusion_cross_entropy in Triton: the losses and gradients of float64, options, lists, edges."""

from __future__ import annotations

import emulator
import pytest
import torch
from loss_support import (
    assert_loss,
    assert_loss_gradients,
    cases,
    cross_entropy_case,
    gradients,
    loss_limit,
    targets,
)
from support import assert_bits, epsilon, name_of, normal, random_lists
from triton_support import INTERPRETED, needs_triton, rounded, served

from fusionops import fusion_cross_entropy

pytestmark = needs_triton

OPERATORS = torch.ops.fusionops_triton
CASES = cases(users=21, items=70, batch=19, most=9)[:4]
# (U, P, D): ones, odd sizes, features past a tile, items past a split of the forward.
SHAPES = [(1, 1, 1), (33, 130, 31), (5, 40, 300), (3, 1100, 7), (150, 70, 16)]


def check(case, leaves, mode):
    """The loss and its gradients are the float64 ones; a sum's error is that of all its rows."""
    with served(mode):
        found = case(**leaves)
    expected = case.expected(**{name: leaf.double() for name, leaf in leaves.items()})
    scale = float(leaves.get("scale", 1.0))
    rows = loss_limit(leaves["user"], leaves["item"], scale, leaves.get("item_bias"))
    limit = rows if found.dim() else rows.sum() if "sum" in case.name else rows.max()
    slack = 64 * epsilon(found.dtype) * float(expected.detach().abs().max())
    assert_loss(found, expected, limit + slack, leaves["user"].dtype)
    grad = normal(*found.shape, dtype=found.dtype, seed=7) if found.dim() else None
    arrives = float(grad.norm()) if grad is not None else 1.0
    arrives = arrives * len(leaves["user"]) if "sum" in case.name else arrives

    with served(mode):
        slopes = gradients(case, leaves, grad)
    rounding = rounded(leaves["user"].dtype)
    assert_loss_gradients(slopes, case.expected, leaves, grad, arrives, rounding)


@pytest.mark.parametrize("way", INTERPRETED, ids=lambda way: name_of(way[1]))
@pytest.mark.parametrize("case", CASES, ids=str)
def test_options(case, way):
    mode, dtype = way
    check(case, case.leaves(dtype, 20), mode)


@pytest.mark.parametrize("way", INTERPRETED, ids=lambda way: name_of(way[1]))
@pytest.mark.parametrize("shape", SHAPES, ids=name_of)
def test_shapes(shape, way):
    (users, items, features), (mode, dtype) = shape, way
    case = cross_entropy_case("plain", users, items, False)
    check(case, case.leaves(dtype, features), mode)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=name_of)
def test_as_compiled(dtype):
    """All options, a split of the items, a whole tile of users for eight warps."""
    case = cross_entropy_case("all-none", 75, 1100, True, 9, reduction="none")
    check(case, case.leaves(dtype, 20), "compiled")


@pytest.mark.parametrize(("dtype", "features"), [(torch.float32, 20), (torch.bfloat16, 300)])
def test_features_in_pieces_as_compiled(dtype, features):
    """More of them than a tile has: for exact float32, and for gradients in pieces."""
    case = cross_entropy_case("plain", 7, 40, False)
    check(case, case.leaves(dtype, features), "compiled")


def call(mode, user, item, target, *, scales=(None, None, None), lists=(None, None), options):
    """The operators themselves: losses, statistics and all five gradients."""
    args = (user, item, target, *scales, *lists, *options)
    with served(mode):
        loss, statistics = OPERATORS.fusion_cross_entropy(*args)
        grad = normal(user.shape[0], seed=9)
        slopes = OPERATORS.fusion_cross_entropy_backward(grad, statistics, *args, True, True, True)
    return loss, statistics, *slopes


PLAIN = (0.0, -100, 0.0)


def test_any_strides():
    user, item, target = normal(33, 20), normal(70, 20, seed=1), targets(33, 70)
    lists = random_lists(33, 70, 9)
    expected = call("interpreted", user, item, target, lists=lists, options=PLAIN)
    laid = normal(33, 40).T.contiguous().T[:, ::2].copy_(user), item.T.contiguous().T
    found = call("interpreted", *laid, target, lists=lists, options=PLAIN)
    for ours, theirs in zip(found, expected, strict=True):
        assert_bits(ours, theirs)


def test_ignored_rows_are_not_read():
    """Whatever stands in them: their loss and gradients are zeros, and nothing leaks."""
    user, item, target = normal(40, 20), normal(70, 20, seed=1), targets(40, 70)
    scales = (normal(40, seed=2), None, None)
    target[::3] = -100
    clean = call("interpreted", user, item, target, scales=scales, options=PLAIN)
    user[::3], scales[0][::3] = float("nan"), float("inf")
    found = call("interpreted", user, item, target, scales=scales, options=PLAIN)
    for ours, theirs in zip(found, clean, strict=True):
        assert_bits(ours, theirs)
    assert not found[0][::3].any()
    assert not found[2][::3].any()


def test_indices_out_of_range():
    """An excluded item that is none is left out; a target that is none gives NaN, gradients too."""
    user, item, target = normal(9, 8), normal(30, 8, seed=1), targets(9, 30)
    offsets = torch.tensor([0, 3, *[4] * 8])
    indices = torch.tensor([-1, 30, 5, 1 << 40])
    found = call("interpreted", user, item, target, lists=(offsets, indices), options=PLAIN)
    offsets = torch.tensor([0, *[1] * 9])
    expected = call("interpreted", user, item, target, lists=(offsets, indices[2:3]), options=PLAIN)
    for ours, theirs in zip(found, expected, strict=True):
        assert_bits(ours, theirs)
    target[2], target[5] = 30, -3
    loss, statistics, user_grad, *_ = call("interpreted", user, item, target, options=PLAIN)
    for lost in (loss, statistics[1], user_grad[:, 0]):
        assert lost.isnan().nonzero().flatten().tolist() == [2, 5]


def test_lists_that_leave_the_target_alone():
    """Long ones, unsorted and repeated: a row without negatives has the loss 0."""
    user, item, target = normal(3, 8), normal(300, 8, seed=1), targets(3, 300)
    indices = torch.cat([torch.randperm(300), torch.randperm(300)])
    offsets = torch.tensor([0, 0, 600, 600])
    found = call("interpreted", user, item, target, lists=(offsets, indices), options=PLAIN)
    plain = call("interpreted", user, item, target, options=PLAIN)
    assert float(found[0][1]) == pytest.approx(0.0, abs=1e-5)
    assert_bits(found[0][::2], plain[0][::2])
    torch.testing.assert_close(found[2][1], torch.zeros(8), atol=1e-5, rtol=0)


@pytest.mark.parametrize("mode", ["interpreted", "compiled"])
def test_small_softmaxes_can_be_skipped(mode):
    """Tiles that matter to no user are left out, by as much as the threshold allows."""
    user, item, target = 2 * normal(3, 16), normal(200, 16, seed=1), targets(3, 200)
    exact = call(mode, user, item, target, options=PLAIN)
    found = call(mode, user, item, target, options=(0.0, -100, 0.02))
    assert_bits(found[0], exact[0])
    changed = 0
    for ours, theirs in zip(found[2:4], exact[2:4], strict=True):
        changed += int((ours != theirs).sum())
        torch.testing.assert_close(ours, theirs, atol=0.2, rtol=0)
    assert changed > 0


@pytest.mark.parametrize(("users", "items"), [(0, 5), (4, 0), (0, 0)])
def test_empty(users, items):
    target = torch.full((users,), -100)
    found = call("interpreted", normal(users, 3), normal(items, 3), target, options=PLAIN)
    assert [tuple(part.shape) for part in found] == [
        (users,),
        (2, users),
        (users, 3),
        (items, 3),
        (users,),
        (items,),
        (items,),
    ]
    assert not any(part.any() for part in (found[0], *found[2:]))


def test_what_is_not_wanted_is_empty():
    args = (normal(9, 8), normal(30, 8, seed=1), targets(9, 30), *[None] * 5, *PLAIN)
    with served("interpreted"):
        _, statistics = OPERATORS.fusion_cross_entropy(*args)
        full = OPERATORS.fusion_cross_entropy_backward(
            normal(9), statistics, *args, True, True, True
        )
        for wanted in [(True, False, False), (False, True, False), (False, False, True)]:
            found = OPERATORS.fusion_cross_entropy_backward(normal(9), statistics, *args, *wanted)
            by_part = [wanted[0], wanted[1], wanted[0], wanted[1], wanted[2]]
            for ours, theirs, present in zip(found, full, by_part, strict=True):
                assert_bits(ours, theirs if present else theirs[:0])


def test_any_order_of_threads_has_the_same_bits():
    """Nothing is read before it is written, and no two threads race."""
    user = normal(33, 20, dtype=torch.bfloat16)
    item = normal(130, 20, dtype=torch.bfloat16, seed=1)
    given = {"lists": random_lists(33, 130, 20), "options": (0.1, -100, 0.0)}
    expected = call("compiled", user, item, targets(33, 130), **given)
    with emulator.checks(race=True, init=True, order="shuffled"):
        found = call("compiled", user, item, targets(33, 130), **given)
    for ours, theirs in zip(found, expected, strict=True):
        assert_bits(ours, theirs)


def test_reductions_by_the_public_function():
    """As the C++ kernel has them."""
    user, item, target = normal(9, 8), normal(30, 8, seed=1), targets(9, 30)
    for reduction in ("mean", "sum", "none"):
        expected = fusion_cross_entropy(user, item, target, reduction=reduction)
        with served("interpreted"):
            found = fusion_cross_entropy(user, item, target, reduction=reduction)
        torch.testing.assert_close(found, expected)
