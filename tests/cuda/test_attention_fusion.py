"""attention_fusion in CUDA C++, emulated: through the public function, against float64."""

from __future__ import annotations

import math

import emulator
import pytest
import torch
from emulator import cuda
from layouts import LAYOUTS
from profile_support import (
    Case,
    assert_gradients,
    assert_results,
    cases,
    check,
    cotangents,
    doubles,
    gradients,
    kept,
    presence,
)
from support import assert_bits, name_of, normal

from fusionops import attention_fusion, backend, use_backend

pytestmark = pytest.mark.skipif(emulator.missing() is not None, reason=str(emulator.missing()))

FLOATS = [torch.float32, torch.bfloat16, torch.float16]
FORMS = ["plain", "mask", "one-mask", "both-masks", "shared", "shared-masks"]
CASES = [case for case in cases() if case.operator == "attention_fusion"]
# (B, Q, M, D, Dv, H). Rows that are read 16 bytes a lane, by groups of 1 to 32 lanes and, from 129
# numbers of a head on, in chunks; tiles of 1, 4 and 8 queries and 4 tokens, cut short or not; more
# heads than a block has groups; and wide score tables, which leave fewer groups a block.
PACKED = [
    (1, 1, 1, 8, 8, 1),
    (70, 1, 4, 64, 64, 4),
    (5, 1, 7, 32, 128, 2),
    (9, 4, 4, 64, 64, 1),
    (3, 3, 2, 320, 16, 1),
    (4, 8, 8, 128, 128, 4),
    (2, 7, 3, 16, 272, 1),
    (2, 32, 32, 16, 16, 1),
    (3, 31, 32, 8, 8, 1),
]
# One number a lane: odd widths, or none.
SINGLE = [
    (1, 1, 1, 1, 1, 1),
    (7, 3, 4, 3, 3, 1),
    (5, 1, 31, 10, 6, 2),
    (2, 7, 7, 33, 66, 1),
    (3, 32, 2, 12, 4, 4),
    (2, 2, 32, 132, 4, 4),
    (40, 5, 5, 4, 4, 4),
]


@pytest.fixture(autouse=True, scope="module")
def emulated():
    cuda.load()
    with backend.emulate("cuda"):
        yield


def case_of(size, form, **fixed):
    batch, rows, tokens, features, width, heads = size
    shapes = {
        "query": (1 if "shared" in form else batch, rows, features),
        "key": (batch, tokens, features),
        "value": (batch, tokens, width),
    }
    fixed["num_heads"] = heads
    if "mask" in form:
        mask = presence(batch, tokens, 1)
        fixed["mask"] = mask[0] if "one" in form else mask
    if "masks" in form:
        fixed["query_mask"] = presence(batch, rows, 2, 0)
    return Case(form, "attention_fusion", shapes, fixed)


@pytest.mark.parametrize("dtype", FLOATS, ids=name_of)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_forms(case, dtype):
    check(case, case.leaves(dtype))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", FLOATS, ids=name_of)
@pytest.mark.parametrize("size", PACKED, ids=name_of)
def test_rows_of_packs(size, dtype, form):
    case = case_of(size, form, return_weights=form in ("mask", "shared-masks"))
    check(case, case.leaves(dtype))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=name_of)
@pytest.mark.parametrize("size", SINGLE, ids=name_of)
def test_rows_of_single_numbers(size, dtype, form):
    case = case_of(size, form, return_weights=form in ("mask", "shared-masks"))
    check(case, case.leaves(dtype))


@pytest.mark.parametrize("tokens", [1, 2, 3, 4, 5, 8, 9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=name_of)
def test_self_attention(dtype, tokens):
    """Query, key and value are one tensor, whose gradients add up; both masks are one."""
    mask = presence(5, tokens, 1)
    shapes = {"tokens": (5, tokens, 16)}
    fixed = {"mask": mask, "query_mask": mask, "return_weights": True, "num_heads": 2}
    case = Case("self", "attention_fusion", shapes, fixed)
    check(case, case.leaves(dtype))


@pytest.mark.parametrize("order", ["forward", "backward", "shuffled"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=name_of)
@pytest.mark.parametrize("size", [PACKED[2], PACKED[5], SINGLE[2], SINGLE[6]], ids=name_of)
def test_no_race_nothing_unwritten_and_the_same_bits(size, dtype, order):
    """In any order of threads; a query's gradient is of a thousand samples, in parts."""
    results = []
    for form in ("both-masks", "shared-masks"):
        case = case_of((40, *size[1:]), form, return_weights=True)
        leaves = case.leaves(dtype)

        def run(case=case, leaves=leaves):
            found = case(**leaves)
            return [*found, *gradients(case, leaves, cotangents(found)).values()]

        expected = run()
        with emulator.checks(race=True, init=True, order=order):
            results += zip(run(), expected, strict=True)
    for ours, theirs in results:
        assert_bits(ours, theirs)


@pytest.mark.parametrize("dtype", FLOATS, ids=name_of)
@pytest.mark.parametrize("size", [(4097, 1, 2, 1, 1, 1), (8200, 1, 1, 8, 8, 1)], ids=name_of)
def test_a_shared_query_of_many_samples(size, dtype):
    """More samples than parts: groups that compute several, the last of them fewer."""
    case = case_of(size, "shared", return_weights=True)
    leaves = case.leaves(dtype)
    grads = cotangents(case(**leaves))
    with emulator.guarded(*leaves.values(), *grads):
        found = gradients(case, leaves, grads)
    with use_backend("reference"):
        expected = gradients(case, doubles(leaves), [grad.double() for grad in grads])
    rounding = torch.finfo(dtype).eps + 1e-6 * math.sqrt(size[0])
    for name, truth in expected.items():
        assert float((found[name] - truth).norm()) <= rounding * float(truth.norm() + 1), name


def run_with(leaves, layouts, options):
    """The results and the gradients, with the layouts of inputs and of incoming gradients kept."""
    wanting = [leaf.detach().requires_grad_() for leaf in leaves]
    results = attention_fusion(*wanting, return_weights=True, **options)
    grads = [layouts(normal(*x.shape, dtype=x.dtype, seed=7)) for x in results]
    return [*(x.detach() for x in results), *torch.autograd.grad(results, wanting, grads)]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=name_of)
def test_strides(dtype, layout):
    """Against contiguous tensors: another order of additions at most."""
    shapes = ((3, 5, 16), (3, 7, 16), (3, 7, 32))
    leaves = [layout(normal(*s, dtype=dtype, seed=n)) for n, s in enumerate(shapes)]
    mask, rows = presence(3, 14, 1)[:, ::2], presence(3, 1, 2, 0).expand(3, 5)
    assert not mask.is_contiguous()
    assert not rows.is_contiguous()
    options = {"num_heads": 2, "mask": mask, "query_mask": rows}
    found = run_with(leaves, layout, options)
    options = {"num_heads": 2, "mask": mask.contiguous(), "query_mask": rows.contiguous()}
    expected = run_with(
        [leaf.contiguous() for leaf in leaves], lambda x: layout(x).contiguous(), options
    )
    limit = 4 * torch.finfo(dtype).eps
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=limit, atol=limit * float(theirs.abs().max()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=name_of)
@pytest.mark.parametrize("shift", [0, 1, 4, 8])
def test_any_address(shift, dtype):
    """Rows whose first number is not at a multiple of 16 bytes are read one number a lane."""
    leaves = [normal(2, 3, 16, dtype=dtype, seed=n) for n in range(3)]
    moved = [
        torch.cat([x.new_full((shift,), math.nan), x.flatten()])[shift:].view(x.shape)
        for x in leaves
    ]
    limit = 4 * torch.finfo(dtype).eps
    with emulator.guarded(*moved):
        found = attention_fusion(*moved, num_heads=2)
    expected = attention_fusion(*leaves, num_heads=2)
    torch.testing.assert_close(found, expected, rtol=limit, atol=limit)


def test_offsets_past_31_bits():
    """Samples, rows and numbers 2^31 elements apart, in memory of which little is touched."""
    far = 2**31 + 8
    room = torch.empty(far + 4096, dtype=torch.bfloat16)
    for shape, strides in (
        ((2, 3, 16), (far, 16, 1)),
        ((2, 2, 16), (64, far, 1)),
        ((2, 3, 2), (64, 2, far)),
    ):
        leaves = [normal(*shape, dtype=torch.bfloat16, seed=n) for n in range(3)]
        views = [room.as_strided(shape, strides, 256 * n) for n in range(3)]
        for view, leaf in zip(views, leaves, strict=True):
            view.copy_(leaf)
        found = run_with(views, lambda x: x, {})
        for ours, theirs in zip(found, run_with(leaves, lambda x: x, {}), strict=True):
            torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("special", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=name_of)
@pytest.mark.parametrize(
    "case",
    [
        *(case for case in CASES if "mask" in case.fixed),
        case_of((6, 3, 9, 16, 16, 2), "both-masks", return_weights=True),
        case_of((6, 8, 4, 16, 32, 1), "shared-masks"),
    ],
    ids=str,
)
def test_what_is_masked_never_leaks(case, dtype, special):
    """Into no result and no gradient; and its own gradient is exactly 0."""
    leaves = case.leaves(dtype)
    missing = {name: case.missing(name, leaf) for name, leaf in leaves.items()}
    dirty = {name: leaf.clone() for name, leaf in leaves.items()}
    for name, places in missing.items():
        if places is not None:
            dirty[name][places] = special
    expected, found = case(**leaves), case(**dirty)
    for ours, theirs in zip(found, expected, strict=True):
        assert_bits(ours, theirs)
    grads = cotangents(expected)
    clean, slopes = gradients(case, leaves, grads), gradients(case, dirty, grads)
    for name, grad in slopes.items():
        assert_bits(grad, clean[name])
        assert missing[name] is None or not grad[missing[name]].any()
    assert_results(case, found, leaves)
    assert_gradients(case, slopes, leaves, grads)


@pytest.mark.parametrize("special", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["query", "key", "value"])
def test_what_is_present_and_not_finite_stays_in_its_entity(name, special):
    """And out of tokens that are missing: their gradient is 0 all the same."""
    case = case_of((5, 3, 6, 16, 16, 2), "mask", return_weights=True)
    mask = case.fixed["mask"]
    mask[2] = torch.tensor([True, True, False, True, False, True])
    leaves = case.leaves(torch.float32)
    expected = case(**leaves)
    grads = [torch.ones_like(result) for result in expected]
    clean = gradients(case, leaves, grads)
    leaves[name][2, 1] = special
    found = case(**leaves)
    others = torch.arange(5) != 2
    for ours, theirs in zip(found, expected, strict=True):
        assert_bits(ours[others], theirs[others])
    assert not found[0][2].isfinite().all()
    slopes = gradients(case, leaves, grads)
    for key, grad in slopes.items():
        assert_bits(grad[others], clean[key][others])
    assert not slopes["key"][2, ~mask[2]].any()
    assert not slopes["value"][2, ~mask[2]].any()


def test_nothing_but_minus_infinity_gives_zeros():
    leaves = {"query": torch.ones(2, 1, 4), "key": torch.full((2, 3, 4), -math.inf)}
    leaves["value"] = normal(2, 3, 4)
    fused, weights = attention_fusion(*leaves.values(), return_weights=True)
    assert not fused.any()
    assert not weights.any()


@pytest.mark.parametrize("dtype", FLOATS, ids=name_of)
def test_huge_scores(dtype):
    """Whole numbers, exact in every dtype: scores of +-10,000 and more overflow nothing."""
    generator = torch.Generator().manual_seed(3)
    case = case_of((3, 7, 5, 8, 8, 1), "both-masks", scale=1e4, return_weights=True)
    leaves = {
        name: torch.randint(-3, 4, shape, generator=generator).to(dtype)
        for name, shape in case.shapes.items()
    }
    check(case, leaves, arrives=2.0**-14)  # gradients in the range of float16


@pytest.mark.parametrize("seed", [0, 2**32, 2**63 - 1, -(2**40) + 3])
@pytest.mark.parametrize("shape", [(1, 1, 1, 7), (3, 2, 5, 9)], ids=name_of)
def test_what_a_dropout_keeps(shape, seed):
    """Weight by weight; and the backward pass drops the same."""
    batch, heads, rows, tokens = shape
    query, key = torch.zeros(batch, rows, heads), torch.zeros(batch, tokens, heads)
    weights = attention_fusion(
        query,
        key,
        key,
        num_heads=heads,
        dropout_p=0.4,
        seed=torch.tensor(seed),
        return_weights=True,
    )[1]
    assert torch.equal(weights != 0, kept(shape, 0.4, seed))
    size = (batch, rows, tokens, 8 * heads, 8 * heads, heads)
    drop = {"dropout_p": 0.4, "seed": torch.tensor(seed), "return_weights": True}
    case = case_of(size, "shared", **drop)
    check(case, case.leaves(torch.float32))


@pytest.mark.parametrize("dropout_p", [0.0, 1.0])
def test_a_dropout_of_nothing_and_of_all(dropout_p):
    case = case_of((2, 3, 4, 8, 8, 2), "mask", dropout_p=dropout_p, seed=torch.tensor(5))
    (fused,) = check(case, case.leaves(torch.float32))
    assert bool(fused.any()) == (dropout_p == 0)


@pytest.mark.parametrize("form", ["plain", "both-masks", "shared"])
@pytest.mark.parametrize(
    "size",
    [(0, 3, 4, 6, 6, 2), (2, 0, 4, 6, 6, 2), (2, 3, 0, 6, 6, 2), (2, 3, 4, 0, 0, 2)],
    ids=name_of,
)
def test_empty(size, form):
    batch, rows, tokens, _, width, heads = size
    case = case_of(size, form, return_weights=True)
    leaves = case.leaves(torch.float32)
    fused, weights = case(**leaves)
    assert fused.shape == (batch, rows, width)
    assert weights.shape == (batch, heads, rows, tokens)
    assert not fused.any()
    grads = gradients(case, leaves, [torch.ones_like(fused), torch.zeros_like(weights)])
    for name, grad in grads.items():
        assert grad.shape == leaves[name].shape
        assert not grad.any()


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(
    "wanted", [(True, False, False), (False, True, False), (False,) * 2 + (True,)]
)
def test_gradients_that_are_not_wanted_are_not_made(wanted, shared):
    leaves = [normal(1 if shared else 3, 2, 8), normal(3, 4, 8, seed=1), normal(3, 4, 8, seed=2)]
    grad = normal(3, 2, 8, seed=3)
    unread = grad.new_full((3, 2, 8), math.nan), grad.new_full((3, 1, 2), math.nan)
    fixed = (None, *unread, *leaves, None, None, 1, None, 0.0, None)
    operator = torch.ops.fusionops_emulated.attention_fusion_backward
    with emulator.guarded(grad, *leaves):
        found = operator(grad, *fixed, *wanted)
        every = operator(grad, *fixed, True, True, True)
    for ours, theirs, leaf, want in zip(found, every, leaves, wanted, strict=True):
        assert ours.shape == (len(leaf) if want else 0, *leaf.shape[1:])
        if want:
            assert_bits(ours, theirs)


def test_weights_that_are_not_wanted_change_no_bit():
    leaves = [normal(3, 2, 8), normal(3, 4, 8, seed=1), normal(3, 4, 8, seed=2)]
    fused, weights = attention_fusion(*leaves, num_heads=2, return_weights=True)
    assert_bits(attention_fusion(*leaves, num_heads=2), fused)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 2, 2))


def test_the_log_sum_is_that_of_the_scores():
    leaves = [normal(3, 2, 8), normal(3, 4, 8, seed=1)]
    mask = torch.ones(3, 4, dtype=torch.bool)
    mask[0] = False
    found = torch.ops.fusionops_emulated.attention_fusion(
        *leaves, None, mask, None, 1, 0.5, 0.0, None, False
    )[2]
    expected = (0.5 * leaves[0] @ leaves[1].mT).logsumexp(-1).unsqueeze(1)
    torch.testing.assert_close(found[1:], expected[1:])
    assert not found[0].any()


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((2, 33, 8), torch.float32, "up to 32"),
        ((2, 3, 8), torch.float64, "no float64"),
    ],
)
def test_what_it_refuses(shape, dtype, message):
    side = normal(*shape, dtype=dtype)
    with pytest.raises(RuntimeError, match=message):
        torch.ops.fusionops_emulated.attention_fusion(
            side, side, None, None, None, 1, None, 0.0, None, False
        )
