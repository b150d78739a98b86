"""fusion_cross_entropy and fusion_contrastive on the GPU against float64."""

from dataclasses import replace

import pytest
import torch
from gpu_support import DEVICE, FLOATS, chosen, rounded_weights, servers
from layouts import LAYOUTS
from loss_support import (
    assert_loss,
    assert_loss_gradients,
    cases,
    contrastive_case,
    cross_entropy_case,
    gradients,
    loss_limit,
    targets,
)
from support import NORMALIZATIONS, epsilon, moved, name_of, normal

from fusionops import fusion_cross_entropy

SERVERS = servers("fusion_cross_entropy")
CASES = cases(users=33, items=130, batch=48, most=9)
# (U, P, D): ones, odd sizes around tiles, whole tiles, D past 256, few users and many items.
SHAPES = [(1, 1, 1), (127, 257, 31), (128, 512, 64), (5, 129, 300), (3, 9001, 40)]


def check(case, leaves, **norm):
    """The loss and its gradients are the float64 ones; a sum's error is that of all its rows."""
    there = replace(case, device=DEVICE)

    def function(**given):
        return there(**given, **norm)

    def truth(**given):
        return case.expected(**given, **norm)

    found = function(**leaves)
    expected = truth(**{name: leaf.double() for name, leaf in leaves.items()})
    scale, bias = float(leaves.get("scale", 1.0)), leaves.get("item_bias")
    rows = loss_limit(leaves["user"], leaves["item"], scale, bias, **norm)
    if case.name.startswith("contrastive"):
        rows = torch.maximum(rows, loss_limit(leaves["user"], leaves["item"], scale, dim=0, **norm))
    limit = rows if found.dim() else rows.sum() if "sum" in case.name else rows.max()
    slack = 64 * epsilon(found.dtype) * float(expected.detach().abs().max())
    assert_loss(found, expected, limit + slack, leaves["user"].dtype)
    grad = normal(*found.shape, dtype=found.dtype, seed=7) if found.dim() else None
    arrives = float(grad.norm()) if grad is not None else 1.0
    arrives = arrives * len(leaves["user"]) if "sum" in case.name else arrives
    slopes = gradients(function, leaves, grad)
    rounded = rounded_weights(leaves["user"].dtype)
    assert_loss_gradients(slopes, truth, leaves, grad, arrives, rounded, **norm)


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("dtype", FLOATS, ids=name_of)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_options(case, dtype, server):
    with chosen(server):
        check(case, case.leaves(dtype, 40))


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("dtype", FLOATS, ids=name_of)
@pytest.mark.parametrize("shape", SHAPES, ids=name_of)
def test_shapes_of_cross_entropy(shape, dtype, server):
    users, items, features = shape
    case = cross_entropy_case("plain", users, items, False)
    with chosen(server):
        check(case, case.leaves(dtype, features))


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("dtype", FLOATS, ids=name_of)
@pytest.mark.parametrize("shape", [(2, 1), (129, 31), (256, 64), (33, 300)], ids=name_of)
def test_shapes_of_contrastive(shape, dtype, server):
    case = contrastive_case("contrastive", shape[0])
    with chosen(server):
        check(case, case.leaves(dtype, shape[1]))


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("case", [CASES[1], CASES[4]], ids=str)
def test_normalizations(case, normalization, server):
    with chosen(server):
        check(case, case.leaves(torch.float32, 40), normalization=normalization)


@pytest.mark.parametrize("case", [CASES[1], CASES[5]], ids=str)
def test_float64_has_the_composition(case):
    check(case, case.leaves(torch.float64, 9))


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("layout", LAYOUTS[:4], ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("case", [CASES[1], CASES[5]], ids=str)
def test_strides(case, layout, server):
    def run(leaves):
        return gradients(replace(case, device=DEVICE).there(), leaves, None)

    leaves = moved(case.leaves(torch.bfloat16, 40), DEVICE)
    laid = {name: layout(x) if x.dim() > 1 else x for name, x in leaves.items()}
    with chosen(server):
        found, expected = run(laid), run(leaves)
    for name, slope in expected.items():
        reach = float(slope.abs().max())
        torch.testing.assert_close(
            found[name],
            slope,
            rtol=2 * epsilon(slope.dtype),
            atol=64 * epsilon(torch.float32) * reach,
        )


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("dtype", FLOATS, ids=name_of)
def test_logits_of_all_sizes(dtype, server):
    """Softmaxes of ones and zeros, and gradients that half precision could lose."""
    case = cross_entropy_case("plain", 65, 300, False)
    for scale in (0.0, 1e-3, 100.0):
        leaves = {**case.leaves(dtype, 40), "scale": torch.tensor(scale)}
        with chosen(server):
            check(case, leaves)


@pytest.mark.parametrize("server", SERVERS)
def test_a_target_out_of_range_has_the_loss_nan(server):
    """A GPU cannot raise without waiting for itself; the other rows keep theirs."""
    if DEVICE.type == "cpu":
        pytest.skip("the kernel for CPUs raises")
    user, item = normal(40, 16).to(DEVICE), normal(90, 16, seed=1).to(DEVICE)
    target = targets(40, 90)
    expected_target, target = target.to(DEVICE), target.clone()
    target[3], target[17] = 90, -5
    with chosen(server):
        found = fusion_cross_entropy(user, item, target.to(DEVICE), reduction="none")
        expected = fusion_cross_entropy(user, item, expected_target, reduction="none")
    stray = torch.tensor([3, 17], device=DEVICE)
    assert bool(found[stray].isnan().all())
    torch.testing.assert_close(found.index_fill(0, stray, 0), expected.index_fill(0, stray, 0))
