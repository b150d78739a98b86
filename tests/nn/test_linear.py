"""Linear layers by our kernels are those of PyTorch, and PyTorch's own where ours do not serve."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import fusionops
from fusionops.nn._linear import Linear, linear


class Called(TorchDispatchMode):
    """Whose product was called."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.add(function.name().partition(".")[0])
        return function(*args, **(kwargs or {}))

    @property
    def ours(self):
        return "fusionops::fusion_matrix" in self.names


def inputs(dtype, *shape):
    generator = torch.Generator().manual_seed(0)
    sizes = (shape, (5, shape[-1]), (5,))
    return [torch.randn(size, generator=generator).to(dtype) for size in sizes]


@pytest.mark.parametrize("shape", [(3,), (4, 3), (2, 4, 3), (0, 3)])
@pytest.mark.parametrize("biased", [False, True])
def test_values_and_gradients_are_pytorchs(shape, biased):
    found = []
    for function in (linear, nn.functional.linear):
        x, weight, bias = (part.requires_grad_() for part in inputs(torch.float32, *shape))
        result = function(x, weight, bias if biased else None)
        leaves = [x, weight, bias] if biased else [x, weight]
        found.append([result.detach(), *torch.autograd.grad(result.square().sum(), leaves)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_our_kernels_serve_float32_alone():
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        with Called() as called:
            linear(*inputs(dtype, 4, 3))
        assert called.ours == (dtype == torch.float32)


def test_another_choice_is_heard():
    sides = inputs(torch.float32, 4, 3)
    with fusionops.use_backend("reference"), Called() as called:
        linear(*sides)
    assert not called.ours
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(*sides).dtype == torch.bfloat16


def test_layer_is_a_linear_layer():
    torch.manual_seed(0)
    ours = Linear(3, 5)
    theirs = nn.Linear(3, 5)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(4, 3)
    torch.testing.assert_close(ours(x), theirs(x))
