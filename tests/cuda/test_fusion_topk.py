"""fusion_topk in CUDA C++, emulated: through the public function and directly, against float64."""

from __future__ import annotations

import emulator
import pytest
import torch
from emulator import cuda
from layouts import LAYOUTS
from support import (
    assert_bits,
    assert_topk,
    bound,
    epsilon,
    inputs,
    listed,
    name_of,
    normal,
    random_lists,
)

from fusionops import fusion_topk, reference

pytestmark = pytest.mark.skipif(emulator.missing() is not None, reason=str(emulator.missing()))

FLOATS = [torch.float32, torch.bfloat16, torch.float16]
# (U, P, D, k): small tiles and large ones (from 33 users on), cut short on every side; one run of
# items and several; users that stay in their ring and users that stream; lists of one to several
# chunks of 32, and longer than the catalogue.
SHAPES = [
    (1, 1, 1, 1),
    (7, 31, 1, 3),
    (1, 127, 31, 10),
    (33, 127, 64, 10),
    (31, 200, 100, 31),
    (70, 300, 130, 40),
    (2, 5000, 7, 20),
    (35, 2200, 16, 33),
    (3, 700, 8, 300),
]


@pytest.fixture(autouse=True, scope="module")
def emulated():
    with cuda.mode():
        yield


def call(user, item, k, scales=(None, None), bias=None, exclude=None, allowed=None, among=None):
    none = (None, None)
    return torch.ops.fusionops_emulated.fusion_topk(
        user, item, k, *scales, bias, *(exclude or none), allowed, *(among or none)
    )


def check(user, item, k, **options):
    found = call(user, item, k, **options)
    truth, limit = truth_of(user, item, **options)
    assert_topk(found, truth, k, limit)
    return found


def truth_of(user, item, scales=(None, None), bias=None, exclude=None, allowed=None, among=None):
    """All scores in float64, -inf where an item may not be listed; and how well they are known."""
    truth = user.double() @ item.double().mT
    sizes = user.double().abs() @ item.double().abs().mT
    for scale, dim in zip(scales, (-1, -2), strict=True):
        if scale is not None:
            truth, sizes = (x * scale.double().unsqueeze(dim) for x in (truth, sizes))
    if bias is not None:
        truth, sizes = truth + bias.double(), sizes + bias.double().abs()
    sides = user.shape[0], item.shape[0]
    if exclude is not None:
        truth = truth.masked_fill(listed(exclude, *sides), -torch.inf)
    if among is not None:
        truth = truth.masked_fill(~listed(among, *sides), -torch.inf)
    if allowed is not None:
        truth = truth.masked_fill(~allowed, -torch.inf)
    limit = epsilon(torch.float32) * (8 + user.shape[1] ** 0.5) * sizes
    return truth, limit + torch.finfo(torch.float32).smallest_normal


def positive(size, seed):
    return normal(size, seed=seed).abs() + 0.1


def options_of(form, users, items):
    """Arguments of each kind, alone and together."""
    lists = {"exclude": random_lists(users, items, 60, 1), "among": random_lists(users, items, 90)}
    masks = {"allowed-items": normal(items) > 0, "allowed-pairs": normal(users, items, seed=4) > 0}
    options = {name: lists[name] for name in lists if name in form}
    for name, mask in masks.items():
        if name in form:
            options["allowed"] = mask
    if "scales" in form:
        options["scales"] = positive(users, 2), positive(items, 3)
    if "bias" in form:
        options["bias"] = normal(items, seed=5)
    return options


FORMS = [
    "scales",
    "bias",
    "exclude",
    "allowed-items",
    "allowed-pairs",
    "among",
    "among-bias-scales",
    "exclude-allowed-pairs-scales-bias",
    "exclude-allowed-items",
    "among-exclude-allowed-pairs",
]


@pytest.mark.parametrize("dtype", FLOATS, ids=name_of)
@pytest.mark.parametrize("shape", SHAPES, ids=name_of)
def test_values(shape, dtype):
    users, items, features, k = shape
    user, item = normal(users, features, dtype=dtype), normal(items, features, dtype=dtype, seed=1)
    check(user, item, k, scales=(None, positive(items, 2)))


@pytest.mark.parametrize("dtype", FLOATS, ids=name_of)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(7, 500, 33, 10), (37, 650, 16, 20)], ids=name_of)
def test_options(shape, form, dtype):
    users, items, features, k = shape
    user, item = normal(users, features, dtype=dtype), normal(items, features, dtype=dtype, seed=1)
    check(user, item, k, **options_of(form, users, items))


@pytest.mark.parametrize("order", ["forward", "backward", "shuffled"])
@pytest.mark.parametrize("dtype", FLOATS, ids=name_of)
@pytest.mark.parametrize("form", ["exclude-allowed-pairs-scales-bias", "among-exclude"])
@pytest.mark.parametrize("users", [3, 37])
def test_checked(users, form, dtype, order):
    """No race, no byte that nobody wrote, no access outside the tensors, in any order."""
    user, item = normal(users, 40, dtype=dtype), normal(2100, 40, dtype=dtype, seed=1)
    options = options_of(form, users, 2100)
    given = [
        x for value in options.values() for x in ([value] if torch.is_tensor(value) else value)
    ]
    plain = call(user, item, 15, **options)
    with emulator.checks(order=order), emulator.guarded(user, item, *given):
        found = check(user, item, 15, **options)
    for ours, expected in zip(found, plain, strict=True):
        assert_bits(ours, expected)


@pytest.mark.parametrize("k", [31, 32, 33, 1024])
def test_long_lists(k):
    """Around a chunk of a list, and the longest that there is; at P = 1,000 it also pads."""
    for items in (1000, 4100):
        check(normal(2, 5), normal(items, 5, seed=1), k)


@pytest.mark.parametrize("k", [0, 1025])
def test_lengths_that_are_not_served(k):
    with pytest.raises(RuntimeError, match="k must be in"):
        call(normal(2, 5), normal(9, 5), k)


@pytest.mark.parametrize("users", [3, 40])
@pytest.mark.parametrize("items", [1, 33, 5000])
@pytest.mark.parametrize("k", [1, 20, 200])
def test_all_equal(items, k, users):
    """Nothing but ties: the first k, whatever the tiles, runs and warps."""
    scores, indices = call(torch.ones(users, 2), torch.ones(1, 2).expand(items, 2), k)
    kept = min(items, k)
    assert torch.equal(indices[:, :kept], torch.arange(kept).expand(users, kept))
    assert bool((scores[:, :kept] == 2).all())
    assert bool((indices[:, kept:] == -1).all())
    assert bool((scores[:, kept:] == -torch.inf).all())


@pytest.mark.parametrize("dtype", FLOATS, ids=name_of)
@pytest.mark.parametrize("items", [97, 4100])
@pytest.mark.parametrize("k", [1, 10, 100])
def test_ties(k, items, dtype):
    """Few distinct whole scores, exact in every dtype, so the order is known entry by entry."""
    generator = torch.Generator().manual_seed(items)
    item = torch.randint(-3, 4, (items, 1), generator=generator).to(dtype)
    user = torch.tensor([[1.0], [-1.0], [2.0], [0.0]], dtype=dtype)
    exact = user.float() @ item.float().T
    expected = torch.argsort(exact, dim=1, descending=True, stable=True)[:, :k]
    scores, indices = call(user, item, k)
    kept = expected.shape[1]
    assert torch.equal(indices[:, :kept], expected)
    assert torch.equal(scores[:, :kept], exact.gather(1, expected))


@pytest.mark.parametrize("users", [1, 34])
def test_ties_among_candidates_in_any_order(users):
    """The lowest of equal ones, though it comes last; named twice, it counts once."""
    offsets = torch.arange(users + 1) * 600
    indices = torch.arange(299, -1, -1).repeat_interleave(2).repeat(users)
    scores, found = call(torch.ones(users, 2), torch.ones(300, 2), 40, among=(offsets, indices))
    assert torch.equal(found, torch.arange(40).expand(users, 40))
    assert bool((scores == 2).all())


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("users", [1, 33])
def test_sorted_catalogue(users, descending):
    """The best and the worst order for a threshold that rises."""
    ranks = torch.arange(3000, dtype=torch.float32)
    item = (ranks.flip(0) if descending else ranks).unsqueeze(1)
    scores, indices = call(torch.ones(users, 1), item, 70)
    assert torch.equal(scores, ranks.flip(0)[:70].expand(users, 70))
    best = torch.arange(70) if descending else 2999 - torch.arange(70)
    assert torch.equal(indices, best.expand(users, 70))


@pytest.mark.parametrize("k", [3, 50])
def test_nan_and_infinities(k):
    item = torch.tensor([1.0, torch.nan, torch.inf, -torch.inf, 2.0, -torch.nan, -3.0])
    scores, indices = call(torch.ones(2, 1), item.unsqueeze(1), k)
    expected = [2, 4, 0, 6][:k]
    for row, line in zip(indices.tolist(), scores.tolist(), strict=True):
        assert row == expected + [-1] * (k - len(expected))
        assert line[: len(expected)] == [torch.inf, 2.0, 1.0, -3.0][:k]
        assert line[len(expected) :] == [-torch.inf] * (k - len(expected))


def test_zeros_of_either_sign_are_equal():
    item = torch.tensor([[-0.0], [0.0], [-0.0], [1.0], [0.0]])
    assert call(torch.tensor([[1.0], [-1.0]]), item, 5)[1].tolist() == [
        [3, 0, 1, 2, 4],
        [0, 1, 2, 4, 3],
    ]


@pytest.mark.parametrize("dtype", FLOATS, ids=name_of)
@pytest.mark.parametrize("users", [5, 50])
def test_scores_are_the_entries_of_fusion_matrix(users, dtype):
    """Bit for bit: a score's additions run in one order whatever tile holds it."""
    user, item = normal(users, 33, dtype=dtype), normal(1500, 33, dtype=dtype, seed=1)
    scales = positive(users, 2), positive(1500, 3)
    matrix = torch.ops.fusionops_emulated.fusion_matrix(
        user[None], item[None], scales[0][None], scales[1][None], torch.float32
    )[0]
    scores, indices = call(user, item, 25, scales=scales)
    assert_bits(scores, matrix.gather(1, indices))
    every = torch.arange(users + 1) * 1500, torch.arange(1500).repeat(users)
    for ours, gathered in zip(
        (scores, indices), call(user, item, 25, scales=scales, among=every), strict=True
    ):
        assert_bits(ours, gathered)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("dtype", FLOATS, ids=name_of)
def test_layouts(dtype, layout):
    user, item = layout(normal(9, 48, dtype=dtype)), layout(normal(139, 48, dtype=dtype, seed=1))
    with emulator.guarded(user, item):
        found = call(user, item, 12)
    expected = call(user.contiguous(), item.contiguous(), 12)
    for ours, contiguous in zip(found, expected, strict=True):
        assert_bits(ours, contiguous)


@pytest.mark.parametrize("name", ["exclude", "among"])
def test_indices_out_of_range_are_left_out(name):
    """Never read: a GPU cannot raise without waiting."""
    user, item = normal(2, 8), normal(50, 8, seed=1)
    offsets = torch.tensor([0, 5, 8])
    named = torch.tensor([3, -1, 50, 7, 2**40, 2**32 + 9, 4, -(2**33)])
    kept = (torch.tensor([0, 2, 3]), torch.tensor([3, 7, 4]))
    with emulator.guarded(user, item, offsets, named):
        found = call(user, item, 6, **{name: (offsets, named)})
    for ours, expected in zip(found, call(user, item, 6, **{name: kept}), strict=True):
        assert_bits(ours, expected)


@pytest.mark.parametrize("shape", [(0, 5, 3), (4, 0, 3), (4, 5, 0), (0, 0, 0)], ids=name_of)
def test_empty(shape):
    users, items, features = shape
    scores, indices = call(torch.ones(users, features), torch.ones(items, features), 3)
    assert scores.shape == indices.shape == (users, 3)
    if items == 0:
        assert bool((indices == -1).all())
        assert bool((scores == -torch.inf).all())
    else:
        assert torch.equal(indices, torch.arange(3).expand(users, 3))
        assert not scores.any()


@pytest.mark.parametrize("shape", [(5, 300, 40, 10), (40, 300, 40, 10)], ids=name_of)
def test_tf32(shape):
    users, items, features, k = shape
    user, item = normal(users, features), normal(items, features, seed=1)
    none = [None] * 8
    found = torch.ops.fusionops_emulated.fusion_topk_tf32(user, item, k, *none)
    limit = 2.0**-10 * (user.double().abs() @ item.double().abs().T)
    assert_topk(found, user.double() @ item.double().T, k, limit)
    assert not torch.equal(found[0], call(user, item, k)[0])


@pytest.mark.parametrize("normalization", ["diagonal", "matrix", "cosine", "none"])
@pytest.mark.parametrize("dtype", FLOATS, ids=name_of)
def test_public_function(dtype, normalization):
    user, item = (side.requires_grad_() for side in inputs((9, 141, 12), dtype))
    scores, indices = fusion_topk(user, item, 8, normalization=normalization)
    truth = reference.fusion_matrix(user.double(), item.double(), normalization=normalization)
    limit = bound(user, item, torch.float32, normalization=normalization)
    assert_topk((scores.detach(), indices), truth.detach(), 8, limit.detach())
    grads = torch.autograd.grad(scores.sum(), (user, item))
    wide = [side.detach().double().requires_grad_() for side in (user, item)]
    chosen = reference.fusion_matrix(*wide, normalization=normalization).gather(1, indices)
    for ours, exact in zip(grads, torch.autograd.grad(chosen.sum(), wide), strict=True):
        error = float((ours.double() - exact).norm())
        assert error <= (epsilon(dtype) + 16 * epsilon(torch.float32)) * float(exact.norm())
