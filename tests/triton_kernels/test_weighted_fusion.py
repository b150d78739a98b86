"""weighted_fusion in Triton where its tiles end: many tokens, wide rows, many blocks."""

from __future__ import annotations

import pytest
import torch
from layouts import LAYOUTS
from profile_support import Case, check, cotangents, gradients, presence
from support import assert_bits, name_of, normal
from triton_support import INTERPRETED, needs_triton, rounded, served

pytestmark = needs_triton

# Entities, tokens, features.
SIZES = [(1, 1, 1), (2, 70, 17), (3, 3, 1100), (40, 4, 31), (3, 64, 1)]


def case_of(entities: int, tokens: int, features: int, shared: bool) -> Case:
    shapes = {
        "values": (entities, tokens, features),
        "logits": (tokens,) if shared else (entities, tokens),
    }
    fixed = {"mask": presence(entities, tokens)} if tokens > 1 else {}
    return Case("sizes", "weighted_fusion", shapes, fixed)


@pytest.mark.parametrize(("mode", "dtype"), INTERPRETED, ids=name_of)
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "own"])
@pytest.mark.parametrize("size", SIZES, ids=name_of)
def test_sizes(size, shared, mode, dtype):
    case = case_of(*size, shared)
    with served(mode):
        check(case, case.leaves(dtype), weights=rounded(dtype))


def test_compiled_with_more_tokens_than_a_tile():
    case = case_of(2, 70, 17, True)
    with served("compiled"):
        check(case, case.leaves(torch.float32))


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_strides(layout):
    values, logits = normal(3, 5, 6), normal(3, 5, seed=1)
    mask = presence(3, 5)
    given = {"values": layout(values), "logits": layout(logits)}
    case = Case("strides", "weighted_fusion", {}, {"mask": layout(mask.int()).bool()})
    with served("interpreted"):
        grads = [layout(grad) for grad in cotangents(case(**given))]
        found = [*case(**given), *gradients(case, given, grads).values()]
        plain = {name: leaf.contiguous() for name, leaf in given.items()}
        expected = [*case(**plain), *gradients(case, plain, grads).values()]
    for ours, theirs in zip(found, expected, strict=True):
        assert_bits(ours, theirs)


@pytest.mark.parametrize("empty", [(0, 3, 4), (2, 0, 4), (2, 3, 0)], ids=name_of)
def test_empty(empty):
    case = Case("empty", "weighted_fusion", {"values": empty, "logits": empty[:2]})
    leaves = case.leaves(torch.float32)
    with served("interpreted"):
        (found,) = case(**leaves)
        slopes = gradients(case, leaves, cotangents((found,)))
    assert found.shape == (empty[0], empty[2])
    assert not found.any()
    assert not slopes["logits"].any()


@pytest.mark.parametrize("wanted", [(True, False), (False, True)])
def test_gradients_that_are_not_wanted_are_empty(wanted):
    values, logits, grad = normal(5, 3, 4), normal(5, 3, seed=1), normal(5, 4, seed=2)
    operator = torch.ops.fusionops_triton.weighted_fusion_backward
    with served("interpreted"):
        both = operator(grad, values, logits, None, True, True)
        found = operator(grad, values, logits, None, *wanted)
    for ours, all_, asked in zip(found, both, wanted, strict=True):
        assert_bits(ours, all_ if asked else all_[:0])
