"""fusion_contrastive: values, ids, edges and gradients."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loss_support import (
    assert_loss,
    assert_loss_gradients,
    contrastive,
    gradients,
    loss_limit,
)
from support import (
    DTYPES,
    NORMALIZATIONS,
    accumulation,
    assert_bits,
    epsilon,
    inputs,
    name_of,
    normal,
)

from fusionops import fusion_contrastive, fusion_cross_entropy, reference

# (B, D): ones, odd sizes around vector widths and tiles, D past 256, B past a block.
SIZES = [(1, 1), (1, 7), (7, 1), (7, 31), (31, 127), (127, 31), (127, 300), (33, 513), (701, 7)]


def check(user, item, **options):
    norms = ("normalization", "power", "ridge", "eps")
    norm = {name: options[name] for name in norms if name in options}
    scale = float(options.get("scale", 1.0))
    truth = contrastive(user.double(), item.double(), **options)
    rows = loss_limit(user, item, scale, **norm)
    columns = loss_limit(user, item, scale, dim=0, **norm)
    limit = (rows.mean() + columns.mean()) / 2
    limit = limit + 16 * epsilon(accumulation(user.dtype)) * truth.abs()
    found = fusion_contrastive(user, item, **options)
    assert_loss(found, truth, limit, user.dtype)
    return found


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("size", SIZES, ids=name_of)
def test_values(size, dtype, normalization):
    batch, features = size
    user, item = inputs((batch, batch, features), dtype)
    check(user, item, normalization=normalization)
    check(user, item, normalization=normalization, ids=torch.arange(batch) // 4)


@pytest.mark.parametrize(
    "norm",
    [
        {"normalization": "diagonal", "eps": 0.3},
        {"normalization": "cosine", "eps": 0.3},
        {"normalization": "matrix", "power": 0.0},
        {"normalization": "matrix", "power": 1.0, "ridge": 2.5},
        {"normalization": "matrix", "power": -0.5, "ridge": 0.5},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=name_of)
@pytest.mark.parametrize("size", [(31, 17), (17, 31)], ids=name_of)
def test_variants(size, dtype, norm):
    user, item = inputs((size[0], *size), dtype)
    check(user, item, **norm)


def test_defaults():
    user, item = inputs((9, 9, 4), torch.float32)
    assert_bits(
        fusion_contrastive(user, item),
        fusion_contrastive(
            user,
            item,
            normalization="diagonal",
            power=0.5,
            ridge=0.0,
            eps=0.0,
            scale=1.0,
            ids=None,
        ),
    )


def test_by_hand():
    """Logits (0, ln 3), (0, ln 2): the rows cost ln 4 and ln 3/2, the columns ln 2 and ln 5/2."""
    user = torch.tensor([[0.0, 3.0], [0.0, 2.0]]).double()
    user[:, 1] = user[:, 1].log()
    loss = fusion_contrastive(user, torch.eye(2).double(), normalization="none")
    torch.testing.assert_close(loss, torch.tensor(4 * 1.5 * 2 * 2.5).double().log() / 4)


@pytest.mark.parametrize("normalization", ["cosine", "none"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=name_of)
def test_is_the_mean_of_both_cross_entropies(dtype, normalization):
    leaves = dict(zip(("user", "item"), inputs((130, 130, 19), dtype), strict=True))
    norm = {"normalization": normalization, "scale": 3.0}
    target = torch.arange(130)

    def both(user, item):
        rows = fusion_cross_entropy(user, item, target, **norm)
        return (rows + fusion_cross_entropy(item, user, target, **norm)) / 2

    torch.testing.assert_close(fusion_contrastive(**leaves, **norm), both(**leaves))
    expected = gradients(both, leaves, None)
    for name, grad in gradients(lambda **s: fusion_contrastive(**s, **norm), leaves, None).items():
        torch.testing.assert_close(grad, expected[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("ids", [None, torch.tensor([3, 1, 3, 3, 2, 1, 9, 8, 7])], ids=["", "ids"])
def test_the_reference_is_the_definition(ids, normalization):
    user, item = inputs((9, 9, 5), torch.float64)
    options = {"normalization": normalization, "scale": 2.5, "ids": ids}
    expected = contrastive(user, item, **options)
    torch.testing.assert_close(reference.fusion_contrastive(user, item, **options), expected)


@pytest.mark.parametrize("scale", [0.0, 0.05, 20, -3.0])
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_scale(dtype, scale):
    user, item = inputs((61, 61, 31), dtype)
    found = check(user, item, normalization="cosine", scale=scale)
    for kind in (accumulation(dtype), dtype):
        tensor = torch.tensor(float(scale), dtype=kind)
        again = check(user, item, normalization="cosine", scale=tensor)
        if scale != 0.05 or kind == torch.float64:  # exact in every dtype, or rounded to half
            torch.testing.assert_close(again, found, rtol=1e-6, atol=1e-6)
    if scale == 0:
        torch.testing.assert_close(float(found), math.log(61), rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("batch", [5, 700])
def test_huge_logits(batch, dtype):
    """Whole numbers, exact in every dtype: logits of +-10,000 and more overflow nothing."""
    generator = torch.Generator().manual_seed(batch)
    leaves = {
        "user": torch.randint(-3, 4, (batch, 4), generator=generator).to(dtype),
        "item": torch.randint(-3, 4, (batch, 4), generator=generator).to(dtype),
    }
    doubles = {name: leaf.double() for name, leaf in leaves.items()}
    options = {"normalization": "none", "scale": 1e4}
    expected = contrastive(**doubles, **options)
    assert float(expected) > 1e4
    found = fusion_contrastive(**leaves, **options)
    assert found.dtype == accumulation(dtype)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    grads = gradients(lambda **s: fusion_contrastive(**s, **options), leaves, None)
    truth = gradients(lambda **s: contrastive(**s, **options), doubles, None)
    for name, grad in grads.items():
        error = (grad.double() - truth[name]).norm() / truth[name].norm()
        assert float(error) < 4 * epsilon(dtype) + 1e-5


def test_equal_ids_are_negatives_in_neither_direction():
    """Rows 0 and 2 are one item: (0, 2) and (2, 0) drop out, the diagonal stays."""
    user, item = inputs((3, 3, 4), torch.float64)
    logits = (user @ item.T).clone()
    logits[0, 2] = logits[2, 0] = -torch.inf
    diagonal = torch.arange(3)
    expected = torch.nn.functional.cross_entropy(logits, diagonal)
    expected = (expected + torch.nn.functional.cross_entropy(logits.T, diagonal)) / 2
    for ids in ([7, 5, 7], [-(2**63), 0, -(2**63)], [2**40, 0, 2**40], [-100, -1, -100]):
        found = fusion_contrastive(user, item, normalization="none", ids=torch.tensor(ids))
        torch.testing.assert_close(found, expected)


def test_ids_that_agree_in_their_low_bits_differ():
    user, item = inputs((3, 3, 4), torch.float32)
    ids = torch.tensor([5, 5 + 2**32, 5 - 2**63])
    torch.testing.assert_close(
        fusion_contrastive(user, item, ids=ids), fusion_contrastive(user, item)
    )


@pytest.mark.parametrize("batch", [1, 40, 700])
def test_all_ids_equal_is_a_certainty(batch):
    user, item = inputs((batch, batch, 5), torch.float32)
    leaves = {"user": user, "item": item, "scale": torch.tensor(4.0)}
    for ids in (torch.zeros(batch, dtype=torch.int64), torch.zeros(1).long().expand(batch)):

        def function(ids=ids, **leaves):
            return fusion_contrastive(ids=ids, **leaves)

        torch.testing.assert_close(function(**leaves), torch.tensor(0.0), rtol=0, atol=1e-5)
        for grad in gradients(function, leaves, None).values():
            torch.testing.assert_close(grad, torch.zeros_like(grad), rtol=0, atol=1e-5)


@pytest.mark.parametrize("batch", [9, 700])
def test_distinct_ids_change_nothing(batch):
    user, item = inputs((batch, batch, 5), torch.float32)
    torch.testing.assert_close(
        fusion_contrastive(user, item, ids=torch.arange(batch).flip(0)),
        fusion_contrastive(user, item),
    )


def test_strides_of_ids():
    user, item = inputs((300, 300, 5), torch.float32)
    ids = torch.stack([torch.arange(300) // 3, torch.arange(300)], 1)[:, 0]
    assert not ids.is_contiguous()
    assert_bits(
        fusion_contrastive(user, item, ids=ids),
        fusion_contrastive(user, item, ids=ids.contiguous()),
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_empty_batch(normalization, dtype):
    """The mean over nothing, as PyTorch has it."""
    leaves = {
        "user": torch.ones(0, 3, dtype=dtype),
        "item": torch.ones(0, 3, dtype=dtype),
        "scale": torch.tensor(2.0),
    }
    for ids in (None, torch.zeros(0, dtype=torch.int64)):

        def function(ids=ids, **leaves):
            return fusion_contrastive(normalization=normalization, ids=ids, **leaves)

        loss = function(**leaves)
        assert loss.dtype == accumulation(dtype)
        assert loss.shape == ()
        assert loss.isnan()
        found = gradients(function, leaves, None)
        assert found["user"].shape == found["item"].shape == (0, 3)
        assert found["scale"].shape == ()


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_no_features(normalization):
    side = torch.ones(7, 0, requires_grad=True)
    loss = fusion_contrastive(side, side, normalization=normalization)
    torch.testing.assert_close(loss, torch.tensor(math.log(7)))
    assert torch.autograd.grad(loss, side)[0].shape == (7, 0)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_one_pair_is_a_certainty(normalization):
    """Loss 0 and gradient 0, whatever the pair."""
    leaves = {"user": normal(1, 5), "item": normal(1, 5, seed=1), "scale": torch.tensor(3.0)}

    def function(**leaves):
        return fusion_contrastive(normalization=normalization, **leaves)

    torch.testing.assert_close(function(**leaves), torch.tensor(0.0), rtol=0, atol=1e-6)
    for grad in gradients(function, leaves, None).values():
        torch.testing.assert_close(grad, torch.zeros_like(grad), rtol=0, atol=1e-6)


def test_one_tensor_on_both_sides():
    """Views of one memory, whose gradients add up."""
    side = normal(40, 6, dtype=torch.float64).requires_grad_()
    for normalization in ("cosine", "none"):
        found = fusion_contrastive(side, side, normalization=normalization, scale=2.0)
        expected = contrastive(side, side, normalization=normalization, scale=2.0)
        torch.testing.assert_close(found, expected)
        ours, theirs = (torch.autograd.grad(loss, side)[0] for loss in (found, expected))
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_zero_vectors_score_zero_and_have_gradient_zero(normalization):
    user, item = inputs((40, 40, 5), torch.float64)
    item[[3, 30]] = 0
    user[1] = 0
    leaves = {"user": user, "item": item}
    found = gradients(
        lambda **s: fusion_contrastive(normalization=normalization, **s), leaves, None
    )
    assert found["user"].isfinite().all()
    assert found["item"].isfinite().all()
    if normalization in ("diagonal", "cosine"):
        assert not found["item"][[3, 30]].any()
    if normalization == "cosine":
        assert not found["user"][1].any()
        torch.testing.assert_close(
            fusion_contrastive(user, item, normalization="cosine"),
            contrastive(user, item, normalization="cosine"),
        )


@pytest.mark.parametrize("with_ids", [False, True], ids=["plain", "ids"])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("size", [(1, 3), (7, 1), (31, 127), (127, 31), (33, 300), (701, 7)])
def test_gradients(size, dtype, normalization, with_ids):
    batch, features = size
    user, item = inputs((batch, batch, features), dtype)
    leaves = {"user": user, "item": item, "scale": torch.tensor(1.3, dtype=accumulation(dtype))}
    ids = torch.randint(0, batch, (batch,), generator=torch.Generator().manual_seed(1))
    options = {"normalization": normalization, "ids": ids if with_ids else None}
    grad = torch.tensor(-1.7, dtype=accumulation(dtype))
    assert_loss_gradients(
        gradients(lambda **s: fusion_contrastive(**s, **options), leaves, grad),
        lambda **s: contrastive(**s, **options),
        leaves,
        grad,
        arrives=1.7 / batch**0.5,
        normalization=normalization,
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=name_of)
def test_gradient_of_the_scale_has_its_dtype(dtype):
    user, item = inputs((40, 40, 5), dtype)
    for kind in (torch.float32, dtype):
        scale = torch.tensor(2.0, dtype=kind, requires_grad=True)
        loss = fusion_contrastive(user, item, scale=scale)
        assert loss.dtype == torch.float32
        loss.backward()
        assert scale.grad.dtype == kind
        assert scale.grad.shape == ()
        assert float(scale.grad.abs()) > 0


@given(
    batch=st.integers(1, 150),
    features=st.integers(1, 40),
    dtype=st.sampled_from(DTYPES),
    normalization=st.sampled_from(NORMALIZATIONS),
    scale=st.sampled_from([1.0, 0.3, 8.0]),
    groups=st.sampled_from([None, 1, 3, 40]),
    seed=st.integers(0, 1000),
)
def test_any_shape(batch, features, dtype, normalization, scale, groups, seed):
    user, item = inputs((batch, batch, features), dtype, seed)
    generator = torch.Generator().manual_seed(seed)
    ids = None if groups is None else torch.randint(0, groups, (batch,), generator=generator)
    check(user, item, normalization=normalization, scale=scale, ids=ids)
