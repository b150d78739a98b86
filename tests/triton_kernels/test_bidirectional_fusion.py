"""bidirectional_fusion in Triton: few tokens in a tile, many a pass each way."""

from __future__ import annotations

import math

import emulator
import pytest
import torch
from profile_support import Case, check, presence
from support import assert_bits, name_of, normal
from triton_support import INTERPRETED, needs_triton, rounded, served

from fusionops import bidirectional_fusion

pytestmark = needs_triton

# Tokens of the user and of the item, and features.
SIZES = [(1, 1, 1), (64, 3, 10), (65, 3, 10), (2, 66, 130), (3, 5, 131), (70, 67, 7)]


def case_of(users: int, items: int, features: int, own: bool) -> Case:
    """With values of another width and masks, or of sides that are their own values."""
    shapes = {"user": (2, users, features), "item": (2, items, features)}
    if own:
        return Case("own", "bidirectional_fusion", shapes, {"scale": 0.3})
    shapes |= {"user_value": (2, users, features + 3), "item_value": (2, items, 2 * features)}
    masks = {"user_mask": presence(2, users, 1), "item_mask": presence(2, items, 2)}
    return Case("values", "bidirectional_fusion", shapes, masks)


@pytest.mark.parametrize(("mode", "dtype"), INTERPRETED, ids=name_of)
@pytest.mark.parametrize("own", [True, False], ids=["own", "values"])
@pytest.mark.parametrize("size", SIZES, ids=name_of)
def test_sizes(size, own, mode, dtype):
    case = case_of(*size, own)
    with served(mode):
        check(case, case.leaves(dtype), weights=rounded(dtype))


def test_compiled_along_many_tokens():
    case = case_of(70, 18, 18, False)
    with served("compiled"), emulator.checks(order="shuffled"):
        check(case, case.leaves(torch.bfloat16), weights=rounded(torch.bfloat16))


@pytest.mark.parametrize("special", [math.nan, math.inf])
@pytest.mark.parametrize("place", ["user", "item_value"])
def test_an_entity_does_not_spoil_its_neighbours(place, special):
    names = ("user", "item", "user_value", "item_value")
    leaves = {name: normal(5, 3, 4, seed=i) for i, name in enumerate(names)}
    dirty = {name: leaf.clone() for name, leaf in leaves.items()}
    dirty[place][2, 1, 3] = special
    others = [0, 1, 3, 4]

    def run(given):
        wanting = {name: leaf.requires_grad_() for name, leaf in given.items()}
        fused = bidirectional_fusion(**wanting)
        ones = [torch.ones_like(part) for part in fused]
        return [*fused, *torch.autograd.grad(fused, list(wanting.values()), ones)]

    with served("interpreted"):
        clean, found = run(leaves), run(dirty)
    for ours, theirs in zip(found, clean, strict=True):
        assert_bits(ours[others], theirs[others])


@pytest.mark.parametrize("empty", ["entities", "users", "items"])
def test_empty(empty):
    batch, users, items = ({"entities": 2, "users": 3, "items": 4} | {empty: 0}).values()
    sides = [normal(batch, count, 4).requires_grad_() for count in (users, items)]
    with served("interpreted"):
        fused = bidirectional_fusion(*sides)
        slopes = torch.autograd.grad(fused[0].sum() + fused[1].sum(), sides)
    assert [part.shape for part in fused] == [side.shape for side in sides]
    assert not any(part.any() for part in (*fused, *slopes))
