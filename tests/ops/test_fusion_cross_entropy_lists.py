"""fusion_cross_entropy: excluded items (known positives are not negatives) and bad indices."""

from __future__ import annotations

import pytest
import torch
from list_forms import FORMS
from loss_support import cross_entropy, gradients, loss_limit, targets
from support import (
    accumulation,
    assert_bits,
    assert_within,
    inputs,
    listed,
    name_of,
    normal,
    random_lists,
)

import fusionops
from fusionops import fusion_cross_entropy

NONE = torch.zeros(0, dtype=torch.int64)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
@pytest.mark.parametrize("shape", [(9, 40, 5), (4, 5000, 7)], ids=name_of)
def test_forms(shape, form):
    users, items, _ = shape
    user, item = inputs(shape, torch.float32)
    target = targets(users, items)
    lists = random_lists(users, items, items // 2, seed=1)
    truth = cross_entropy(
        user.double(), item.double(), target, exclude=lists, scale=2.0, reduction="none"
    )
    found = fusion_cross_entropy(
        user, item, target, exclude=form(lists, items), scale=2.0, reduction="none"
    )
    assert_within(found, truth, loss_limit(user, item, 2.0))
    plain = fusion_cross_entropy(user, item, target, scale=2.0, reduction="none")
    longer = lists[0].diff() > 2
    assert bool((found < plain)[longer].all())
    leaves = {"user": user, "item": item}
    ours = gradients(
        lambda **s: fusion_cross_entropy(target=target, exclude=form(lists, items), **s),
        leaves,
        None,
    )
    pairs = gradients(
        lambda **s: fusion_cross_entropy(target=target, exclude=lists, **s), leaves, None
    )
    for name, grad in ours.items():  # the order within a list may differ, its items do not
        torch.testing.assert_close(grad, pairs[name])


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=name_of)
@pytest.mark.parametrize("shape", [(37, 70, 5), (5, 5000, 7)], ids=name_of)
def test_own_target_stays(shape, dtype, smoothing):
    """Whole histories, the target among them: as if it were not listed."""
    users, items, _ = shape
    user, item = inputs(shape, dtype)
    mask = listed(random_lists(users, items, items // 2, seed=2), users, items)
    target = targets(users, items)
    options = {"label_smoothing": smoothing, "reduction": "none"}
    for own in (True, False):
        mask[torch.arange(users), target] = own
        lists = torch.cat([torch.zeros(1).long(), mask.sum(1).cumsum(0)]), mask.nonzero()[:, 1]
        found = fusion_cross_entropy(user, item, target, exclude=lists, **options)
        truth = cross_entropy(user.double(), item.double(), target, exclude=lists, **options)
        assert_within(found, truth, loss_limit(user, item))


def test_an_excluded_item_of_one_row_is_a_negative_of_another():
    user, item = torch.ones(2, 1).double(), torch.zeros(4, 1).double()
    exclude = torch.tensor([0, 2, 2]), torch.tensor([3, 1])
    losses = fusion_cross_entropy(
        user, item, torch.tensor([0, 3]), exclude=exclude, reduction="sum"
    )
    torch.testing.assert_close(losses, torch.tensor(8.0).double().log())


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("items", [6, 5000])
def test_everything_excluded_leaves_the_target(items, smoothing):
    """A certainty: loss 0, gradient 0."""
    users = 3
    user, item = inputs((users, items, 5), torch.float32)
    lists = torch.arange(users + 1) * items, torch.arange(items).repeat(users)
    leaves = {"user": user, "item": item, "item_bias": normal(items), "scale": torch.tensor(3.0)}

    def function(**leaves):
        return fusion_cross_entropy(
            target=targets(users, items), exclude=lists, label_smoothing=smoothing, **leaves
        )

    torch.testing.assert_close(function(**leaves), torch.tensor(0.0), rtol=0, atol=1e-5)
    for grad in gradients(function, leaves, None).values():
        torch.testing.assert_close(grad, torch.zeros_like(grad), rtol=0, atol=1e-5)


def test_everything_excluded_from_an_ignored_row():
    user, item = inputs((2, 6, 5), torch.float32)
    lists = torch.tensor([0, 6, 6]), torch.arange(6)
    leaves = {"user": user, "item": item, "item_bias": normal(6), "scale": torch.tensor(3.0)}
    for smoothing in (0.0, 0.3):

        def function(smoothing=smoothing, **leaves):
            return fusion_cross_entropy(
                target=torch.tensor([-100, 4]), exclude=lists, label_smoothing=smoothing, **leaves
            )

        expected = fusion_cross_entropy(
            **{**leaves, "user": user[1:]}, target=torch.tensor([4]), label_smoothing=smoothing
        )
        torch.testing.assert_close(function(**leaves), expected)
        for grad in gradients(function, leaves, None).values():
            assert grad.isfinite().all()


def test_empty_lists_change_nothing():
    user, item = inputs((5, 300, 7), torch.float32)
    lists = torch.zeros(6, dtype=torch.int64), NONE
    for smoothing in (0.0, 0.2):
        found = fusion_cross_entropy(
            user, item, targets(5, 300), exclude=lists, label_smoothing=smoothing
        )
        expected = fusion_cross_entropy(user, item, targets(5, 300), label_smoothing=smoothing)
        torch.testing.assert_close(found, expected)


def test_repeated_and_unsorted_items_count_once():
    user, item = inputs((1, 300, 7), torch.float32)
    target = torch.tensor([200])
    once = torch.tensor([0, 4]), torch.tensor([5, 17, 120, 299])
    often = torch.tensor([0, 8]), torch.tensor([299, 5, 120, 5, 17, 5, 299, 120])
    for smoothing in (0.0, 0.2):
        options = {"label_smoothing": smoothing}
        torch.testing.assert_close(
            fusion_cross_entropy(user, item, target, exclude=often, **options),
            fusion_cross_entropy(user, item, target, exclude=once, **options),
        )


def test_excluded_items_have_no_gradient():
    users, items = 6, 400
    leaves = dict(zip(("user", "item"), inputs((users, items, 5), torch.float64), strict=True))
    leaves["item_bias"] = normal(items, dtype=torch.float64)
    barred = torch.arange(100, 300)
    lists = torch.arange(users + 1) * 200, barred.repeat(users)
    for smoothing in (0.0, 0.2):
        found = gradients(
            lambda smoothing=smoothing, **s: fusion_cross_entropy(
                target=targets(users, 100), exclude=lists, label_smoothing=smoothing, **s
            ),
            leaves,
            None,
        )
        assert not found["item"][barred].any()
        assert not found["item_bias"][barred].any()
        assert found["item_bias"][[*range(100), *range(300, 400)]].all()


def test_excluded_items_may_be_anything():
    """Scores of NaN and infinity that no row may see."""
    users, items = 4, 90
    user, item = inputs((users, items, 5), torch.float32)
    lists = torch.arange(users + 1) * 3, torch.tensor([3, 40, 80]).repeat(users)
    target = torch.tensor([1, 2, 50, 89])
    expected = fusion_cross_entropy(user, item, target, exclude=lists, normalization="none")
    item[3], item[40], item[80] = torch.nan, torch.inf, -torch.inf
    found = fusion_cross_entropy(user, item, target, exclude=lists, normalization="none")
    torch.testing.assert_close(found, expected)


def test_strides_of_lists():
    user, item = inputs((6, 90, 5), torch.float32)
    offsets, indices = random_lists(6, 90, most=20)
    wide = torch.stack([offsets, offsets + 1], 1)[:, 0], torch.stack([indices, indices], 1)[:, 1]
    assert not wide[1].is_contiguous()
    assert_bits(
        fusion_cross_entropy(user, item, targets(6, 90), exclude=wide),
        fusion_cross_entropy(user, item, targets(6, 90), exclude=(offsets, indices)),
    )


@pytest.mark.parametrize(
    ("offsets", "indices"),
    [
        ([0, 1, 2], [0, 40]),
        ([0, 1, 2], [0, -1]),
        ([0, 1, 2], [2**40, 0]),
        ([0, 2, 1], [0, 1]),
        ([0, 3, 2], [0, 1]),
        ([1, 1, 2], [0, 1]),
        ([0, 1, 3], [0, 1]),
        ([0, 1, 1], [0, 1]),
        ([0, 2**40, 2], [0, 1]),
    ],
)
@pytest.mark.parametrize("server", ["kernels", "composition", "reference"])
def test_bad_lists(offsets, indices, server, monkeypatch):
    monkeypatch.setattr(fusionops.backend, "serving", lambda *_: server)
    user, item = inputs((2, 40, 3), torch.float32)
    exclude = torch.tensor(offsets), torch.tensor(indices)
    with pytest.raises(IndexError, match="exclude"):
        fusion_cross_entropy(user, item, torch.tensor([0, 1]), exclude=exclude)


@pytest.mark.parametrize("bad", [-1, 40, 41, 2**40, -(2**63), 2**63 - 1, -99])
@pytest.mark.parametrize("reduction", ["none", "mean"])
@pytest.mark.parametrize("server", ["kernels", "composition", "reference"])
def test_targets_out_of_range(bad, reduction, server, monkeypatch):
    monkeypatch.setattr(fusionops.backend, "serving", lambda *_: server)
    user, item = inputs((9, 40, 3), torch.float32)
    target = targets(9, 40)
    target[7] = bad
    with pytest.raises(IndexError, match=f"target.*{bad}"):
        fusion_cross_entropy(user, item, target, reduction=reduction)
    fusion_cross_entropy(user, item, target, reduction=reduction, ignore_index=bad)


def test_minus_100_is_out_of_range_where_another_index_is_ignored():
    user, item = inputs((2, 40, 3), torch.float32)
    with pytest.raises(IndexError, match="target"):
        fusion_cross_entropy(user, item, torch.tensor([-100, 5]), ignore_index=5)


def test_dtypes_with_exclusion_and_bias():
    for dtype in (torch.float64, torch.bfloat16, torch.float16):
        user, item = inputs((9, 700, 31), dtype)
        bias = normal(700, dtype=accumulation(dtype), seed=4)
        lists = random_lists(9, 700, 600, seed=3)
        options = {"exclude": lists, "normalization": "cosine", "scale": 10.0}
        found = fusion_cross_entropy(
            user, item, targets(9, 700), item_bias=bias, reduction="none", **options
        )
        truth = cross_entropy(
            user.double(),
            item.double(),
            targets(9, 700),
            item_bias=bias.double(),
            reduction="none",
            **options,
        )
        limit = loss_limit(user, item, 10.0, bias, normalization="cosine")
        assert_within(found, truth, limit)
