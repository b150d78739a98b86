"""Shapes of any number of sizes, and calls with several gradients."""

import pytest
import torch
from comparison.cases import (
    BACKWARD,
    OURS,
    Case,
    call_of,
    few_entities,
    few_users,
    parse_shape,
)


def test_shapes_are_parsed():
    assert parse_shape("256x10_000X64") == (256, 10_000, 64)
    assert parse_shape("8192x4x128x4") == (8192, 4, 128, 4)


@pytest.mark.parametrize("text", ["", "10x", "10x0x4", "10x-1", "axb"])
def test_what_is_no_shape_is_said(text):
    with pytest.raises(ValueError, match="expected sizes as in"):
        parse_shape(text)


def test_small_shapes():
    assert few_users((1024, 100_000, 128)) == (8, 1024, 128)
    assert few_users((1024, 1024, 128)) == (8, 8, 128)
    assert few_entities((65_536, 4, 64)) == (8, 4, 64)
    assert few_entities((4, 4096, 64, 1)) == (8, 64, 64, 1)


def test_each_upstream_gradient_goes_to_its_output():
    def function(x, y):
        return x * y, x + y, torch.arange(3)

    x, y = torch.tensor([2.0, 3.0, 4.0]), torch.tensor([5.0, 6.0, 7.0])
    case = Case((3,), BACKWARD, OURS)
    outputs = call_of(case, function, (x, y), torch.ones(3), torch.full((3,), 10.0))()
    assert [part.tolist() for part in outputs[3:]] == [(y + 10).tolist(), (x + 10).tolist()]
    assert not any(part.requires_grad for part in outputs)
    assert len(call_of(case, function, (x, y))()) == 3
