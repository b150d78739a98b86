"""Missing tokens: what stands there is never read, has gradient 0, and nothing gives zeros."""

from __future__ import annotations

import math

import pytest
import torch
from profile_support import (
    Case,
    assert_gradients,
    assert_results,
    cases,
    cotangents,
    gradients,
    presence,
)
from support import DTYPES, assert_bits, name_of, normal

from fusionops import attention_fusion, bidirectional_fusion, weighted_fusion

SPECIAL = [math.nan, math.inf, -math.inf, 3e4]


def masked_cases(**sizes):
    return [case for case in cases(**sizes) if any("mask" in name for name in case.fixed)]


SMALL = masked_cases(batch=9, rows=5, tokens=7, features=18)
LONG = masked_cases(batch=3, rows=70, tokens=130, features=6)


def planted(case, leaves, special):
    """The leaves with `special` in all their missing places, and these places."""
    missing = {name: case.missing(name, leaf) for name, leaf in leaves.items()}
    other = {}
    for name, leaf in leaves.items():
        other[name] = leaf.clone()
        if missing[name] is not None:
            other[name][missing[name]] = special
    return other, missing


@pytest.mark.parametrize("special", SPECIAL)
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("case", SMALL, ids=str)
def test_what_is_masked_never_leaks(case, dtype, special):
    """Into no result and no gradient; and its own gradient is exactly 0."""
    leaves = case.leaves(dtype)
    dirty, missing = planted(case, leaves, special)
    assert any(places is not None and places.any() for places in missing.values())
    expected, found = case(**leaves), case(**dirty)
    for ours, theirs in zip(found, expected, strict=True):
        assert_bits(ours, theirs)
    grads = cotangents(expected)
    clean, slopes = gradients(case, leaves, grads), gradients(case, dirty, grads)
    for name, grad in slopes.items():
        assert_bits(grad, clean[name])
        if missing[name] is not None:
            assert not grad[missing[name]].any()
    assert_results(case, found, leaves)
    assert_gradients(case, slopes, leaves, grads)


@pytest.mark.parametrize("special", [math.nan, math.inf])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=name_of)
@pytest.mark.parametrize("case", LONG, ids=str)
def test_nor_in_long_rows(case, dtype, special):
    leaves = case.leaves(dtype)
    dirty, missing = planted(case, leaves, special)
    found = case(**dirty)
    assert_results(case, found, leaves)
    grads = cotangents(found)
    slopes = gradients(case, dirty, grads)
    assert_gradients(case, slopes, leaves, grads)
    for name, grad in slopes.items():
        if missing[name] is not None:
            assert not grad[missing[name]].any()


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_what_is_masked_costs_no_other_its_bits(case):
    """NaN in missing places of one entity: a vectorised loop over many must not mix them."""
    leaves = case.leaves(torch.float32)
    expected = case(**leaves)
    for entity in range(9):
        dirty, missing = planted(case, leaves, math.nan)
        for name, places in missing.items():
            if places is not None and len(places) == 9:
                keep = torch.arange(9) != entity
                dirty[name][keep] = leaves[name][keep]
        for ours, theirs in zip(case(**dirty), expected, strict=True):
            assert_bits(ours, theirs)


@pytest.mark.parametrize("special", [0.0, math.nan, math.inf])
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("size", [(3, 4, 6), (2, 130, 40)], ids=name_of)
def test_nothing_present_anywhere(size, dtype, special):
    """Zeros and zero gradients for every entity, whatever stands in the tokens."""
    batch, tokens, features = size
    side = (batch, tokens, features)
    query = {"query": (batch, 3, features), "key": side, "value": side}
    both = {"user": (batch, 3, features), "item": side}
    gone, rows = torch.zeros(tokens, dtype=torch.bool), torch.zeros(3, dtype=torch.bool)
    heads = {"num_heads": 2, "return_weights": True}
    # Of the tokens that are present, the numbers are good: they could matter.
    for operator, shapes, fixed, dirty in (
        ("weighted_fusion", {"values": side, "logits": (batch, tokens)}, {"mask": gone}, None),
        ("weighted_fusion", {"values": side, "logits": (tokens,)}, {"mask": gone}, None),
        ("attention_fusion", query, {"mask": gone, **heads}, ("key", "value")),
        ("attention_fusion", query, {"query_mask": rows, **heads}, ("query",)),
        ("attention_fusion", query, {"mask": gone, "query_mask": rows}, None),
        ("bidirectional_fusion", both, {"item_mask": gone}, ("item",)),
        ("bidirectional_fusion", both, {"user_mask": rows}, ("user",)),
    ):
        case = Case("nothing", operator, shapes, fixed)
        leaves = case.leaves(dtype)
        for name in dirty or leaves:
            leaves[name].fill_(special)
        results = case(**leaves)
        assert not any(result.any() for result in results), operator
        for grad in gradients(case, leaves, cotangents(results)).values():
            assert not grad.any(), operator


@pytest.mark.parametrize("special", [math.nan, math.inf])
@pytest.mark.parametrize("form", ["cross", "shared", "weighted", "bidirectional"])
def test_entities_with_nothing_present(form, special):
    """Some of many: their results and all gradients through them are 0."""
    case = next(
        case
        for case in SMALL
        if case.name == {"cross": "cross-masks", "weighted": "weighted-mask"}.get(form, form)
        or case.name == "bidirectional-masks" == f"{form}-masks"
    )
    fixed, leaves = dict(case.fixed), case.leaves(torch.float32)
    empty = torch.tensor([True, False, False, True, False, False, False, True, True])
    names = ("user_mask", "item_mask") if form == "bidirectional" else ("mask",)
    for name in names:
        tokens = 5 if name == "user_mask" else 7
        fixed[name] = presence(9, tokens, 5, None) & ~empty.unsqueeze(1)
    case = Case(form, case.operator, case.shapes, fixed)
    dirty, _ = planted(case, leaves, special)
    results = case(**dirty)
    assert_results(case, results, leaves)
    slopes = gradients(case, dirty, cotangents(results))
    for result in results:
        assert not result[empty].any()
        assert result[~empty].any()
    for name, grad in slopes.items():
        if len(grad) == 9:
            assert not grad[empty].any(), name
        assert grad.isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_a_mask_is_the_absence_of_tokens(dtype):
    """The result of what is present alone, as if the missing tokens had never been listed."""
    mask = torch.tensor([True, False, True, True, False, True, False])
    values, logits = normal(5, 7, 19, dtype=dtype), normal(5, 7, seed=1)
    close = torch.testing.assert_close
    close(weighted_fusion(values, logits, mask), weighted_fusion(values[:, mask], logits[:, mask]))
    query = normal(5, 3, 19, dtype=dtype, seed=2)
    close(
        attention_fusion(query, values, values, mask),
        attention_fusion(query, values[:, mask], values[:, mask]),
    )
    found = bidirectional_fusion(query, values, item_mask=mask)
    expected = bidirectional_fusion(query, values[:, mask])
    close(found[0], expected[0])
    close(found[1][:, mask], expected[1])
    assert not found[1][:, ~mask].any()


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_a_mask_of_all_is_no_mask(case):
    leaves = case.leaves(torch.float32)
    full = {n: torch.ones_like(v) if "mask" in n else v for n, v in case.fixed.items()}
    none = {n: v for n, v in case.fixed.items() if "mask" not in n}
    results = [Case("mask", case.operator, case.shapes, fixed)(**leaves) for fixed in (full, none)]
    torch.testing.assert_close(*results)
