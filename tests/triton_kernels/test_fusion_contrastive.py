"""fusion_contrastive in Triton: rows and columns against the diagonal, ids, shapes, edges."""

from __future__ import annotations

import pytest
import torch
from loss_support import (
    assert_loss,
    assert_loss_gradients,
    contrastive_case,
    gradients,
    loss_limit,
)
from support import assert_bits, epsilon, name_of, normal
from triton_support import INTERPRETED, needs_triton, rounded, served

pytestmark = needs_triton

OPERATORS = torch.ops.fusionops_triton


def check(case, leaves, mode, **norm):
    """The loss and its gradients are the float64 ones."""

    def truth(**given):
        return case.expected(**given, **norm)

    with served(mode):
        found = case(**leaves, **norm)
        slopes = gradients(lambda **given: case(**given, **norm), leaves, None)
    expected = truth(**{name: leaf.double() for name, leaf in leaves.items()})
    sides = leaves["user"], leaves["item"], float(leaves["scale"])
    rows = torch.maximum(loss_limit(*sides, **norm), loss_limit(*sides, dim=0, **norm))
    slack = 64 * epsilon(found.dtype) * float(expected.detach().abs().max())
    assert_loss(found, expected, rows.max() + slack, leaves["user"].dtype)
    rounding = rounded(leaves["user"].dtype)
    assert_loss_gradients(slopes, truth, leaves, None, 1.0, rounding, **norm)


@pytest.mark.parametrize("way", INTERPRETED, ids=lambda way: name_of(way[1]))
@pytest.mark.parametrize("shape", [(2, 1), (19, 7), (70, 130)], ids=name_of)
def test_shapes(shape, way):
    (batch, features), (mode, dtype) = shape, way
    check(contrastive_case("contrastive", batch), _leaves(batch, dtype, features), mode)


@pytest.mark.parametrize("normalization", ["cosine", "none", "matrix"])
def test_normalizations(normalization):
    case = contrastive_case("contrastive", 19)
    check(case, case.leaves(torch.float32, 7), "interpreted", normalization=normalization)


@pytest.mark.parametrize(
    "way",
    [*INTERPRETED, ("compiled", torch.bfloat16)],
    ids=lambda way: "-".join(map(name_of, way)),
)
def test_equal_ids_are_no_negatives(way):
    """Of pairs and triples, in no order."""
    mode, dtype = way
    ids = torch.randperm(75) // 3 - 4
    case = contrastive_case("contrastive-ids", 75, ids=ids)
    check(case, case.leaves(dtype, 20), mode, normalization="cosine")


def _leaves(batch, dtype, features):
    return contrastive_case("contrastive", batch).leaves(dtype, features)


def test_one_id_for_all_leaves_nothing_to_tell_apart():
    user, item = normal(9, 4), normal(9, 4, seed=1)
    ids = torch.zeros(9, dtype=torch.int64)
    with served("interpreted"):
        loss, statistics = OPERATORS.fusion_contrastive(user, item, None, None, ids)
        slopes = OPERATORS.fusion_contrastive_backward(
            normal(9), statistics, user, item, None, None, ids, True, True
        )
    torch.testing.assert_close(loss, torch.zeros(9), atol=1e-5, rtol=0)
    for slope in slopes:
        torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-5, rtol=0)


def test_what_is_not_wanted_is_empty():
    user, item = normal(9, 4), normal(9, 4, seed=1)
    with served("interpreted"):
        _, statistics = OPERATORS.fusion_contrastive(user, item, None, None, None)
        args = normal(9), statistics, user, item, None, None, None
        full = OPERATORS.fusion_contrastive_backward(*args, True, True)
        for wanted in [(True, False), (False, True), (False, False)]:
            found = OPERATORS.fusion_contrastive_backward(*args, *wanted)
            for ours, theirs, present in zip(found, full, wanted * 2, strict=True):
                assert_bits(ours, theirs if present else theirs[:0])


def test_empty():
    user, item = normal(0, 4), normal(0, 4)
    with served("interpreted"):
        loss, statistics = OPERATORS.fusion_contrastive(user, item, None, None, None)
        found = OPERATORS.fusion_contrastive_backward(
            loss, statistics, user, item, None, None, None, True, True
        )
    shapes = [tuple(part.shape) for part in (loss, statistics, *found)]
    assert shapes == [(0,), (4, 0), (0, 4), (0, 4), (0,), (0,)]
