"""fusion_topk on the GPU: values, order, ties, lists and gradients."""

import pytest
import torch
from gpu_support import DEVICE, FLOATS, chosen, servers
from support import (
    NORMALIZATIONS,
    accumulation,
    assert_bits,
    assert_gradients,
    assert_topk,
    bound,
    epsilon,
    inputs,
    listed,
    moved,
    name_of,
    normal,
    random_lists,
)

from fusionops import fusion_topk, reference

SERVERS = servers("fusion_topk")
# (U, P, D): ones, a padded list, odd sizes, few users against many items, D past 256.
SHAPES = [
    (1, 1, 1),
    (7, 15, 3),
    (127, 1009, 31),
    (5, 129, 513),
    (1, 40_001, 32),
    (130, 4100, 64),
    (33, 9001, 128),
]


def topk(user, item, k, **options):
    """The lists on the CPU, of arguments on the CPU."""
    given = moved({"user": user, "item": item, **options}, DEVICE)
    return moved(fusion_topk(given.pop("user"), given.pop("item"), k, **given), "cpu")


def truth(user, item, **norm):
    scores = reference.fusion_matrix(user.double(), item.double(), **norm)
    return scores, bound(user, item, accumulation(user.dtype), **norm)


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("dtype", FLOATS, ids=name_of)
@pytest.mark.parametrize("shape", SHAPES, ids=name_of)
def test_values(shape, dtype, server):
    user, item = inputs(shape, dtype)
    scores, limit = truth(user, item, normalization="diagonal")
    with chosen(server):
        found = topk(user, item, 20)
    assert found[0].dtype == torch.float32
    assert_topk(found, scores, 20, limit)


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("k", [1, 2, 31, 128, 300, 1024])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=name_of)
@pytest.mark.parametrize("shape", [(3, 1000, 7), (40, 5000, 32)], ids=name_of)
def test_lengths(shape, dtype, k, server):
    user, item = inputs(shape, dtype)
    scores, limit = truth(user, item, normalization="diagonal")
    with chosen(server):
        assert_topk(topk(user, item, k), scores, k, limit)


def test_longer_lists_have_the_composition():
    user, item = inputs((3, 4097, 8), torch.float32)
    scores, limit = truth(user, item, normalization="diagonal")
    assert_topk(topk(user, item, 1500), scores, 1500, limit)


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("dtype", FLOATS, ids=name_of)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_normalizations(normalization, dtype, server):
    user, item = inputs((33, 700, 24), dtype)
    scores, limit = truth(user, item, normalization=normalization)
    with chosen(server):
        assert_topk(topk(user, item, 10, normalization=normalization), scores, 10, limit)


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("dtype", FLOATS, ids=name_of)
@pytest.mark.parametrize("items", [97, 4100, 20_000])
@pytest.mark.parametrize("k", [1, 10, 500])
def test_ties(k, items, dtype, server):
    """Few distinct whole scores, exact in every dtype: the order is known entry by entry."""
    generator = torch.Generator().manual_seed(items)
    item = torch.randint(-3, 4, (items, 1), generator=generator).to(dtype)
    user = torch.tensor([[1.0], [-1.0], [2.0], [0.0]], dtype=dtype).repeat(5, 1)
    everything = user.double() @ item.double().T
    expected = torch.argsort(everything, dim=1, descending=True, stable=True)[:, :k]
    with chosen(server):
        scores, indices = topk(user, item, k, normalization="none")
    assert torch.equal(indices[:, :items], expected)
    assert torch.equal(scores[:, :items].double(), everything.gather(1, expected))


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=name_of)
@pytest.mark.parametrize("shape", [(9, 300, 5), (40, 9000, 32)], ids=name_of)
@pytest.mark.parametrize("names", [("exclude",), ("candidates",), ("allowed",), ("all",)], ids=str)
def test_lists(names, shape, dtype, server):
    user, item = inputs(shape, dtype)
    lists = {
        "exclude": random_lists(*shape[:2], most=90, seed=1),
        "candidates": random_lists(*shape[:2], most=200, seed=2),
        "allowed": normal(*shape[:2], seed=3) > -1,
    }
    lists = lists if names == ("all",) else {name: lists[name] for name in names}
    scores, limit = truth(user, item, normalization="diagonal")
    for name, value in lists.items():
        mask = value if name == "allowed" else listed(value, *shape[:2])
        scores = scores.masked_fill(mask == (name == "exclude"), -torch.inf)
    with chosen(server):
        assert_topk(topk(user, item, 12, **lists), scores, 12, limit)


@pytest.mark.parametrize("server", SERVERS)
def test_shared_allowed_and_bias(server):
    """A bias of NaN or -inf is never listed; +inf is first."""
    user, item = inputs((40, 5000, 32), torch.float32)
    allowed, bias = normal(5000, seed=2) > 0, normal(5000, seed=3)
    bias[5], bias[6], bias[7] = torch.nan, -torch.inf, torch.inf
    allowed[5:8] = True
    scores, limit = truth(user, item, normalization="diagonal")
    barred = ~allowed | bias.isnan() | (bias == -torch.inf)
    finite = bias.nan_to_num(0, 0, 0)
    scores = (scores + finite).masked_fill(barred, -torch.inf)
    with chosen(server):
        values, indices = topk(user, item, 12, item_bias=bias, allowed=allowed)
    assert bool((indices[:, 0] == 7).all())
    assert bool((values[:, 0] == torch.inf).all())
    scores[:, 7] = -torch.inf
    rest = limit + epsilon(torch.float32) * (scores.abs().nan_to_num(0, 0, 0) + finite.abs())
    assert_topk((values[:, 1:], indices[:, 1:]), scores, 11, rest)


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("argument", ["exclude", "candidates"])
def test_indices_out_of_range_are_left_out(argument, server):
    """A GPU cannot raise without waiting for itself."""
    if DEVICE.type == "cpu":
        pytest.skip("the kernel for CPUs raises")
    user, item = inputs((9, 300, 5), torch.float32)
    offsets, indices = random_lists(9, 300, most=90, seed=1)
    stray = indices.clone()
    stray[::5] = 300 + 2**33
    stray[1::5] = -1
    kept = (stray >= 0) & (stray < 300)
    lengths = torch.stack([part.sum() for part in kept.split(offsets.diff().tolist())])
    clean = torch.cat([offsets[:1], lengths.cumsum(0)]), stray[kept]
    with chosen(server):
        found = topk(user, item, 12, **{argument: (offsets, stray)})
        expected = topk(user, item, 12, **{argument: clean})
    for ours, theirs in zip(found, expected, strict=True):
        assert_bits(ours, theirs)


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("dtype", FLOATS, ids=name_of)
@pytest.mark.parametrize("normalization", ["diagonal", "cosine", "matrix"])
def test_gradients(normalization, dtype, server):
    user, item = inputs((33, 700, 24), dtype)
    leaves = [side.to(DEVICE).requires_grad_() for side in (user, item)]
    with chosen(server):
        scores, indices = fusion_topk(*leaves, 10, normalization=normalization)
        grad = normal(33, 10, seed=5)
        slopes = moved(torch.autograd.grad(scores, leaves, grad.to(DEVICE)), "cpu")

    def listed_scores(user, item):
        matrix = reference.fusion_matrix(user, item, normalization=normalization)
        return matrix.gather(1, indices.cpu())

    assert_gradients(slopes, listed_scores, grad, user, item)


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("shape", [(0, 5, 3), (5, 0, 3), (5, 3, 0)], ids=name_of)
def test_empty(shape, server):
    user, item = inputs(shape, torch.float32)
    scores, limit = truth(user, item, normalization="none")
    with chosen(server):
        assert_topk(topk(user, item, 4, normalization="none"), scores, 4, limit)
