"""fusion_cross_entropy: values, dtypes, scale, bias, smoothing, ignored rows, edges, gradients."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loss_support import (
    assert_loss,
    cross_entropy,
    gradients,
    loss_limit,
    targets,
)
from support import (
    DTYPES,
    NORMALIZATIONS,
    SHAPES,
    accumulation,
    assert_bits,
    epsilon,
    inputs,
    name_of,
    normal,
    random_lists,
)

from fusionops import fusion_cross_entropy, reference

REDUCTIONS = ["none", "sum", "mean"]


def check(user, item, target, **options):
    """Every reduction against the truth; returns the losses of the rows."""
    norms = ("normalization", "power", "ridge", "eps")
    norm = {name: options[name] for name in norms if name in options}
    bias, scale = options.get("item_bias"), options.get("scale", 1.0)
    doubles = {**options, "item_bias": None if bias is None else bias.double()}
    limit = loss_limit(user, item, float(scale), bias, **norm)
    counted = target != options.get("ignore_index", -100)
    limit = limit.masked_fill(~counted, 0)
    sums = 16 * epsilon(accumulation(user.dtype))
    rows = cross_entropy(user.double(), item.double(), target, reduction="none", **doubles)
    found = fusion_cross_entropy(user, item, target, reduction="none", **options)
    assert_loss(found, rows, limit, user.dtype)
    total = fusion_cross_entropy(user, item, target, reduction="sum", **options)
    spread = limit.sum() + sums * rows.abs().sum()
    assert_loss(total, rows.sum(), spread, user.dtype)
    count = int(counted.sum())
    if count:
        mean = fusion_cross_entropy(user, item, target, **options)
        assert_loss(mean, rows.sum() / count, spread / count, user.dtype)
    return found


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("shape", SHAPES, ids=name_of)
def test_values(shape, dtype, normalization):
    user, item = inputs(shape, dtype)
    check(user, item, targets(*shape[:2]), normalization=normalization)


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
@pytest.mark.parametrize("shape", [(7, 31, 17), (7, 17, 31)], ids=name_of)
def test_variants(shape, dtype, norm):
    user, item = inputs(shape, dtype)
    check(user, item, targets(*shape[:2]), **norm)


def test_diagonal_is_the_default():
    user, item = inputs((5, 9, 4), torch.float32)
    target = targets(5, 9)
    assert_bits(
        fusion_cross_entropy(user, item, target),
        fusion_cross_entropy(
            user, item, target, normalization="diagonal", power=0.5, ridge=0.0, eps=0.0, scale=1.0
        ),
    )


def test_by_hand():
    """Logits ln 1, ln 2, ln 5 of weights 1, 2 and 5: probabilities 1/8, 1/4 and 5/8."""
    user, item = torch.ones(3, 1).double(), torch.tensor([1.0, 2.0, 5.0]).double().log()
    losses = fusion_cross_entropy(
        user, item.unsqueeze(1), torch.arange(3), normalization="none", reduction="none"
    )
    torch.testing.assert_close(losses, torch.tensor([8.0, 4.0, 1.6]).double().log())


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("label_smoothing", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("ignore_index", [-100, 3])
def test_is_cross_entropy_of_the_logits(ignore_index, label_smoothing, reduction):
    """``torch.nn.functional.cross_entropy`` itself, gradient included."""
    sides = [side.requires_grad_() for side in inputs((40, 21, 6), torch.float64)]
    target = targets(40, 21)
    target[5] = -100 if ignore_index == -100 else 3
    options = {
        "ignore_index": ignore_index,
        "label_smoothing": label_smoothing,
        "reduction": reduction,
    }
    found = fusion_cross_entropy(*sides, target, normalization="none", scale=0.7, **options)
    expected = torch.nn.functional.cross_entropy(0.7 * sides[0] @ sides[1].T, target, **options)
    torch.testing.assert_close(found, expected)
    grad = normal(40, dtype=torch.float64)
    grad = grad if reduction == "none" else grad[0]
    for ours, theirs in zip(
        torch.autograd.grad(found, sides, grad),
        torch.autograd.grad(expected, sides, grad),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_the_reference_is_the_definition(reduction, normalization):
    """The project's float64 truth against this file's."""
    user, item = inputs((9, 31, 5), torch.float64)
    target = targets(9, 31)
    target[4] = 7
    options = {
        "normalization": normalization,
        "scale": 2.5,
        "item_bias": normal(31, dtype=torch.float64, seed=2),
        "exclude": random_lists(9, 31, 25, seed=3),
        "label_smoothing": 0.1,
        "ignore_index": 7,
        "reduction": reduction,
    }
    expected = cross_entropy(user, item, target, **options)
    torch.testing.assert_close(
        reference.fusion_cross_entropy(user, item, target, **options), expected
    )


@pytest.mark.parametrize("kind", [torch.int32, torch.int16, torch.uint8])
def test_targets_of_other_integers(kind):
    user, item = inputs((9, 31, 5), torch.float32)
    target = targets(9, 31)
    assert_bits(
        fusion_cross_entropy(user, item, target.to(kind)), fusion_cross_entropy(user, item, target)
    )


@pytest.mark.parametrize("scale", [0.0, 0.05, 20, -3.0])
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_scale(dtype, scale):
    """A float, an int or a 0-d tensor, of the accumulation dtype or of the inputs'."""
    user, item = inputs((9, 130, 31), dtype)
    target = targets(9, 130)
    found = check(user, item, target, normalization="cosine", scale=scale)
    for kind in (accumulation(dtype), dtype):
        tensor = torch.tensor(float(scale), dtype=kind)
        again = check(user, item, target, normalization="cosine", scale=tensor)
        if scale != 0.05 or kind == torch.float64:  # exact in every dtype, or rounded to half
            torch.testing.assert_close(again, found, rtol=1e-6, atol=1e-6)


def test_scale_of_zero_is_uniform():
    user, item = inputs((9, 130, 31), torch.float32)
    losses = fusion_cross_entropy(user, item, targets(9, 130), scale=0.0, reduction="none")
    torch.testing.assert_close(losses, torch.full((9,), math.log(130)))


@pytest.mark.parametrize("bias_dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_item_bias(dtype, bias_dtype):
    user, item = inputs((7, 300, 31), dtype)
    bias = 3 * normal(300, dtype=bias_dtype, seed=4)
    check(user, item, targets(7, 300), item_bias=bias, normalization="cosine", scale=5.0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=name_of)
@pytest.mark.parametrize("items", [40, 5000])
def test_bias_of_minus_infinity_removes_an_item(items, dtype):
    sides = [side.requires_grad_() for side in inputs((9, items, 5), dtype)]
    kept = torch.arange(items) % 3 == 1
    bias = normal(items, dtype=dtype).masked_fill(~kept, -torch.inf).requires_grad_()
    target = targets(9, int(kept.sum()))
    loss = fusion_cross_entropy(*sides, 1 + 3 * target, item_bias=bias)
    fewer = [sides[0], sides[1][kept], bias[kept]]
    expected = fusion_cross_entropy(fewer[0], fewer[1], target, item_bias=fewer[2])
    torch.testing.assert_close(loss, expected)
    found = torch.autograd.grad(loss, (*sides, bias))
    for ours, theirs in zip(found, torch.autograd.grad(expected, (*sides, bias)), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert not found[1][~kept].any()
    assert not found[2][~kept].any()


def test_target_of_probability_zero():
    """An infinite loss with a finite gradient, as PyTorch has it, and only in its row."""
    sides = [side.requires_grad_() for side in inputs((4, 40, 5), torch.float64)]
    bias = torch.zeros(40, dtype=torch.float64)
    bias[:3] = -torch.inf
    target = torch.tensor([0, 5, 2, 6])
    losses = fusion_cross_entropy(*sides, target, item_bias=bias, reduction="none")
    assert losses.isinf().tolist() == [True, False, True, False]
    expected = cross_entropy(*sides, target, item_bias=bias, reduction="none")
    torch.testing.assert_close(losses, expected)
    grad = torch.ones(4, dtype=torch.float64)
    for ours, theirs in zip(
        torch.autograd.grad(losses, sides, grad),
        torch.autograd.grad(expected, sides, grad),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("items", [5, 700, 9001])
def test_huge_logits(items, dtype):
    """Whole numbers, exact in every dtype: logits of +-10,000 and more overflow nothing."""
    generator = torch.Generator().manual_seed(items)
    user = torch.randint(-3, 4, (31, 4), generator=generator).to(dtype)
    item = torch.randint(-3, 4, (items, 4), generator=generator).to(dtype)
    target = targets(31, items)
    options = {"normalization": "none", "scale": 1e4, "label_smoothing": 0.1}
    leaves = {"user": user, "item": item}
    rows = cross_entropy(user.double(), item.double(), target, reduction="none", **options)
    assert float(rows.max()) > 1e4
    found = fusion_cross_entropy(user, item, target, reduction="none", **options)
    assert found.dtype == accumulation(dtype)
    torch.testing.assert_close(found.double(), rows, rtol=1e-5, atol=1e-5)
    grads = gradients(lambda **s: fusion_cross_entropy(target=target, **s, **options), leaves, None)
    doubles = {name: leaf.double() for name, leaf in leaves.items()}
    truth = gradients(lambda **s: cross_entropy(target=target, **s, **options), doubles, None)
    for name, grad in grads.items():
        error = (grad.double() - truth[name]).norm() / truth[name].norm()
        assert float(error) < 4 * epsilon(dtype) + 1e-5


def test_rising_and_falling_logits():
    """The best and the worst order for a running maximum."""
    ranks = torch.arange(20_000, dtype=torch.float64).unsqueeze(1) / 10
    for item in (ranks, ranks.flip(0)):
        check(torch.ones(2, 1).double(), item, targets(2, 20_000), normalization="none")
        check(-torch.ones(2, 1), item.float(), targets(2, 20_000), normalization="none")


@pytest.mark.parametrize("smoothing", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("shape", [(7, 31, 17), (3, 9001, 7), (5, 1, 3)], ids=name_of)
def test_label_smoothing(shape, dtype, smoothing):
    user, item = inputs(shape, dtype)
    check(user, item, targets(*shape[:2]), label_smoothing=smoothing, scale=3.0)


@pytest.mark.parametrize("ignore_index", [-100, -1, 2, 10**12])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_ignore_index(smoothing, ignore_index):
    """Outside the catalogue or inside: the row costs nothing, changes nothing, is not counted."""
    leaves = dict(zip(("user", "item"), inputs((9, 40, 5), torch.float64), strict=True))
    target = targets(9, 40)
    target[target == 2] = 3
    target[[0, 4, 8]] = ignore_index
    options = {"label_smoothing": smoothing, "ignore_index": ignore_index}
    losses = check(*leaves.values(), target, **options)
    assert not losses[[0, 4, 8]].any()
    assert losses[[1, 2, 3, 5, 6, 7]].all()
    found = gradients(lambda **s: fusion_cross_entropy(target=target, **s, **options), leaves, None)
    assert not found["user"][[0, 4, 8]].any()
    truth = gradients(lambda **s: cross_entropy(target=target, **s, **options), leaves, None)
    for name, grad in found.items():
        torch.testing.assert_close(grad, truth[name])


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize(("users", "items"), [(4, 9), (0, 9), (0, 0)])
def test_nothing_counted(users, items, dtype, smoothing):
    """All rows ignored, or none there: NaN, 0 and zeros, with gradients of zeros."""
    leaves = {
        "user": normal(users, 3, dtype=dtype),
        "item": normal(items, 3, dtype=dtype),
        "item_bias": normal(items),
        "scale": torch.tensor(2.0),
    }
    target = torch.full((users,), -100)
    for reduction in REDUCTIONS:

        def function(reduction=reduction, **leaves):
            return fusion_cross_entropy(
                **leaves, target=target, label_smoothing=smoothing, reduction=reduction
            )

        loss = function(**leaves)
        assert loss.dtype == accumulation(dtype)
        assert loss.shape == ((users,) if reduction == "none" else ())
        assert bool(loss.isnan().all()) if reduction == "mean" else not loss.any()
        for name, grad in gradients(function, leaves, None).items():
            assert grad.shape == leaves[name].shape
            assert grad.dtype == leaves[name].dtype
            assert not grad.any(), (name, reduction)


def test_no_items():
    """A row that is counted has a target, which cannot be there; ignored rows are as ever."""
    user, item = torch.ones(3, 2), torch.ones(0, 2)
    with pytest.raises(IndexError, match="target"):
        fusion_cross_entropy(user, item, torch.zeros(3, dtype=torch.int64))
    ignored = torch.full((3,), -100)
    assert fusion_cross_entropy(user, item, ignored, reduction="none").tolist() == [0, 0, 0]
    assert fusion_cross_entropy(user, item, ignored).isnan()


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_no_features(normalization):
    user = torch.ones(3, 0, requires_grad=True)
    item = torch.ones(7, 0, requires_grad=True)
    loss = fusion_cross_entropy(user, item, targets(3, 7), normalization=normalization)
    torch.testing.assert_close(loss, torch.tensor(math.log(7)))
    assert [g.shape for g in torch.autograd.grad(loss, (user, item))] == [(3, 0), (7, 0)]


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_zero_vectors_score_zero_and_have_gradient_zero(normalization):
    user, item = inputs((4, 40, 5), torch.float64)
    item[[3, 30]] = 0
    user[1] = 0
    target = torch.tensor([3, 4, 30, 6])
    losses = fusion_cross_entropy(user, item, target, normalization=normalization, reduction="none")
    torch.testing.assert_close(losses[1], torch.tensor(math.log(40)).double())
    leaves = {"user": user, "item": item}

    def function(**sides):
        return fusion_cross_entropy(target=target, normalization=normalization, **sides)

    found = gradients(function, leaves, None)
    assert found["user"].isfinite().all()
    assert found["item"].isfinite().all()
    if normalization in ("diagonal", "cosine"):
        assert not found["item"][[3, 30]].any()
    if normalization == "cosine":
        assert not found["user"][1].any()


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_a_row_of_nan_stays_in_its_row(dtype):
    user, item = inputs((37, 300, 5), dtype)
    target = targets(37, 300)
    expected = fusion_cross_entropy(user, item, target, reduction="none")
    user[5, 2] = torch.nan
    found = fusion_cross_entropy(user, item, target, reduction="none")
    others = torch.arange(37) != 5
    assert found[5].isnan()
    assert_bits(found[others], expected[others])
    item[7] = torch.nan
    assert fusion_cross_entropy(user, item, target, reduction="none").isnan().all()


def test_three_million_items_by_strides():
    """Items that are one row of memory; the bias tells them apart."""
    items = 3_000_000
    item = torch.tensor([[1.0, 2.0]]).expand(items, 2)
    bias = normal(items)
    target = torch.tensor([items - 1, 17])
    found = fusion_cross_entropy(
        torch.ones(2, 2), item, target, item_bias=bias, reduction="none", normalization="none"
    )
    expected = bias.double().logsumexp(0) - bias[target].double()
    torch.testing.assert_close(found.double(), expected, rtol=2e-6, atol=0)


@pytest.mark.slow
def test_past_two_to_the_31_pairs():
    users = items = 46_400
    user, item = torch.zeros(users, 1), torch.ones(items, 1)
    user[-1] = 1
    item[-1] = 3
    target = torch.full((users,), items - 1)
    losses = fusion_cross_entropy(user, item, target, normalization="none", reduction="none")
    torch.testing.assert_close(losses[:-1], torch.full((users - 1,), math.log(items)))
    last = math.log((items - 1) * math.e + math.exp(3)) - 3
    torch.testing.assert_close(losses[-1], torch.tensor(last))


def test_training_step_raises_the_target():
    user, item = (side.requires_grad_() for side in inputs((50, 300, 16), torch.float32))
    target = targets(50, 300)
    first = fusion_cross_entropy(user, item, target, normalization="cosine", scale=10.0)
    optimizer = torch.optim.SGD([user, item], lr=1.0)
    for _ in range(5):
        optimizer.zero_grad()
        fusion_cross_entropy(user, item, target, normalization="cosine", scale=10.0).backward()
        optimizer.step()
    last = fusion_cross_entropy(user, item, target, normalization="cosine", scale=10.0)
    assert float(last.detach()) < 0.9 * float(first.detach())


@given(
    users=st.integers(1, 70),
    items=st.integers(1, 300),
    features=st.integers(1, 40),
    dtype=st.sampled_from(DTYPES),
    normalization=st.sampled_from(NORMALIZATIONS),
    scale=st.sampled_from([1.0, 0.3, 8.0]),
    smoothing=st.sampled_from([0.0, 0.1]),
    ignore_index=st.sampled_from([-100, 0]),
    bias=st.booleans(),
    exclude=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_shape_and_options(
    users,
    items,
    features,
    dtype,
    normalization,
    scale,
    smoothing,
    ignore_index,
    bias,
    exclude,
    seed,
):
    user, item = inputs((users, items, features), dtype, seed)
    target = targets(users, items, seed)
    check(
        user,
        item,
        target,
        normalization=normalization,
        scale=scale,
        label_smoothing=smoothing,
        ignore_index=ignore_index,
        item_bias=normal(items, seed=seed) if bias else None,
        exclude=random_lists(users, items, items, seed) if exclude else None,
    )
