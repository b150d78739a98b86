"""The operators that fuse profiles, on the GPU against float64."""

import math
from dataclasses import replace

import pytest
import torch
from gpu_support import DEVICE, FLOATS, chosen, rounded_weights, servers
from layouts import LAYOUTS
from profile_support import (
    Case,
    cases,
    check,
    cotangents,
    gradients,
    presence,
    random_ids,
    random_offsets,
)
from support import accumulation, assert_bits, epsilon, moved, name_of, normal

from fusionops import mmr_rerank, reference

CASES = cases(batch=5, rows=3, tokens=7, features=32, table=40)
WIDE = cases(batch=3, rows=40, tokens=70, features=64, table=500)
ODD = cases(batch=4, rows=1, tokens=31, features=126, table=33)

# Of the CUDA C++ kernel of attention_fusion.
MOST_TOKENS = 32


def served(made):
    """Each case by each of those that have its operator, and of its size."""
    return [
        pytest.param(case, server, id=f"{case}-{server}")
        for case in made
        for server in servers(case.operator)
        if server != "cuda" or all(shape[-2] <= MOST_TOKENS for shape in case.shapes.values())
    ]


@pytest.mark.parametrize("dtype", FLOATS, ids=name_of)
@pytest.mark.parametrize(("case", "server"), served(CASES))
def test_forms(case, server, dtype):
    with chosen(server):
        check(replace(case, device=DEVICE), case.leaves(dtype), weights=rounded_weights(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=name_of)
@pytest.mark.parametrize(("case", "server"), served([*ODD[::3], *WIDE[1::3]]))
def test_sizes(case, server, dtype):
    with chosen(server):
        check(replace(case, device=DEVICE), case.leaves(dtype), weights=rounded_weights(dtype))


@pytest.mark.parametrize("case", CASES[::4], ids=str)
def test_float64_has_the_composition(case):
    check(replace(case, device=DEVICE), case.leaves(torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=name_of)
@pytest.mark.parametrize("special", [math.nan, math.inf])
@pytest.mark.parametrize(
    ("case", "server"), served([case for case in CASES if any("mask" in n for n in case.fixed)])
)
def test_what_is_masked_never_leaks(case, server, special, dtype):
    leaves = case.leaves(dtype)
    missing = {name: case.missing(name, leaf) for name, leaf in leaves.items()}
    dirty = {name: leaf.clone() for name, leaf in leaves.items()}
    for name, places in missing.items():
        if places is not None:
            dirty[name][places] = special
    there = replace(case, device=DEVICE)
    with chosen(server):
        expected, found = there(**leaves), there(**dirty)
        grads = cotangents(expected)
        clean, slopes = gradients(there, leaves, grads), gradients(there, dirty, grads)
    for ours, theirs in zip(found, expected, strict=True):
        assert_bits(ours, theirs)
    for name, places in missing.items():
        assert_bits(slopes[name], clean[name])
        assert places is None or not slopes[name][places].any()


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize(("case", "server"), served(CASES[2::5]))
def test_strides(case, server, layout):
    """Of inputs and of incoming gradients: another order of additions at most."""
    dtype = torch.float32
    there = replace(case, device=DEVICE).there()
    given = moved(case.leaves(dtype), DEVICE)
    leaves = {name: layout(x) if x.dim() > 1 else x for name, x in given.items()}

    def run(leaves, grads):
        wanting = {name: leaf.detach().requires_grad_() for name, leaf in leaves.items()}
        results = there(**wanting)
        slopes = torch.autograd.grad(results, list(wanting.values()), grads)
        return [*(result.detach() for result in results), *slopes]

    with chosen(server):
        grads = [layout(grad) for grad in moved(tuple(cotangents(there(**leaves))), DEVICE)]
        found = run(leaves, grads)
        plain = {name: leaf.contiguous() for name, leaf in leaves.items()}
        expected = run(plain, [grad.contiguous() for grad in grads])
    for ours, theirs in zip(found, expected, strict=True):
        reach = max(float(theirs.abs().max()), 1)
        torch.testing.assert_close(
            ours, theirs, rtol=2 * epsilon(dtype), atol=64 * epsilon(dtype) * reach
        )


@pytest.mark.parametrize("dtype", FLOATS, ids=name_of)
@pytest.mark.parametrize(("rows", "tokens"), [(1, 2), (4, 4), (16, 16), (32, 32), (1, 33), (33, 5)])
@pytest.mark.parametrize("server", servers("attention_fusion"))
def test_attention_around_its_kernels(server, rows, tokens, dtype):
    """CUDA C++ serves Q and M up to 32."""
    if server == "cuda" and max(rows, tokens) > 32:
        pytest.skip("not a size of this kernel")
    shapes = {"query": (3, rows, 64), "key": (3, tokens, 64), "value": (3, tokens, 64)}
    case = Case("sides", "attention_fusion", shapes, {"num_heads": 4, "mask": presence(3, tokens)})
    with chosen(server):
        check(replace(case, device=DEVICE), case.leaves(dtype), weights=rounded_weights(dtype))


@pytest.mark.parametrize("server", servers("history_fusion"))
@pytest.mark.parametrize("form", ["mean", "weights", "attention"])
def test_histories_of_very_different_lengths(form, server):
    offsets = random_offsets(6, 3000, 1)
    total = int(offsets[-1])
    shapes = {"values": (200, 24)}
    shapes |= {"mean": {}, "weights": {"weights": (total,)}, "attention": {"query": (6, 24)}}[form]
    fixed = {"offsets": offsets, "ids": random_ids(total, 200).int()}
    case = Case(form, "history_fusion", shapes, fixed)
    with chosen(server):
        check(replace(case, device=DEVICE), case.leaves(torch.float32))


@pytest.mark.parametrize(
    ("case", "server"), served([CASES[0], CASES[5], CASES[10], CASES[13], CASES[15]])
)
def test_no_entity(case, server):
    empty = {name: (0, *shape[1:]) for name, shape in case.shapes.items()}
    fixed = {"offsets": torch.zeros(1, dtype=torch.int64)} if "offsets" in case.fixed else {}
    nothing = replace(case, shapes=empty, fixed=fixed, device=DEVICE)
    leaves = nothing.leaves(torch.float32)
    with chosen(server):
        found = nothing(**leaves)
        slopes = gradients(nothing, leaves, cotangents(found))
    assert all(len(result) == 0 for result in found)
    assert {name: slope.shape for name, slope in slopes.items()} == empty


@pytest.mark.parametrize("dtype", FLOATS, ids=name_of)
def test_reranking(dtype):
    """Lists of the reference in float64; vectors far from ties."""
    scores, vectors = normal(40, 90, dtype=dtype), normal(40, 90, 24, dtype=dtype, seed=1)
    mask = normal(40, 90, seed=2) > -1
    found = mmr_rerank(scores.to(DEVICE), vectors.to(DEVICE), 12, mask=mask.to(DEVICE)).cpu()
    expected = reference.mmr_rerank(
        scores.to(accumulation(dtype)).double(), vectors.double(), 12, trade_off=0.5, mask=mask
    )
    assert float((found != expected).double().mean()) <= 0.01
