"""history_fusion: mean, weighted sum and attention, from rows or by ids, offsets or jagged."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from profile_support import (
    Case,
    assert_gradients,
    assert_results,
    check,
    cotangents,
    gradients,
    random_ids,
    random_offsets,
)
from support import DTYPES, assert_bits, name_of, normal

import fusionops
from fusionops import history_fusion

# (B, longest history, D, rows of the table)
SIZES = [
    (1, 1, 1, 1),
    (7, 3, 31, 5),
    (31, 9, 64, 127),
    (127, 4, 7, 31),
    (7, 127, 127, 300),
    (3, 300, 300, 7),
    (2, 31, 513, 9),
    (1, 4096, 7, 33),
]
KINDS = ["mean", "weights", "attention"]
SOURCES = ["rows", "ids"]


def case_of(size, kind, source, seed=0):
    batch, most, features, table = size
    offsets = random_offsets(batch, most, seed)
    total = int(offsets[-1])
    shapes = {"values": (table if source == "ids" else total, features)}
    if kind == "weights":
        shapes["weights"] = (total,)
    if kind == "attention":
        shapes["query"] = (batch, features)
    fixed = {"offsets": offsets}
    if source == "ids":
        fixed["ids"] = random_ids(total, table, seed)
    return Case(f"{source}-{kind}", "history_fusion", shapes, fixed)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("size", SIZES, ids=name_of)
def test_values_and_gradients(size, dtype, kind, source):
    case = case_of(size, kind, source)
    check(case, case.leaves(dtype))


@pytest.mark.parametrize("weights_kind", DTYPES, ids=name_of)
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_weights_of_any_floating_dtype(dtype, source, weights_kind):
    """The result has the dtype of the values, the gradient of the weights theirs."""
    case = case_of((31, 9, 17, 20), "weights", source)
    leaves = case.leaves(dtype)
    leaves["weights"] = (leaves["weights"] * 4).round().to(weights_kind) / 4
    check(case, leaves)


@pytest.mark.parametrize("kind", KINDS)
def test_by_hand(kind):
    values = torch.tensor([[4.0, 8.0], [8.0, 0.0], [1.0, 1.0]], requires_grad=True)
    ids, offsets = torch.tensor([0, 1, 2, 1]), torch.tensor([0, 2, 2, 4])
    options, first, last = {
        "mean": ({}, [6.0, 4.0], [4.5, 0.5]),
        "weights": ({"weights": torch.tensor([1.0, 2.0, -1.0, 3.0])}, [20.0, 8.0], [23.0, -1.0]),
        "attention": (  # scores (0, ln 3), and (0, 0)
            {"query": torch.tensor([[math.log(3) * math.sqrt(2) / 4, 0.0]] * 3)},
            None,
            None,
        ),
    }[kind]
    if kind == "attention":
        options["query"] = torch.tensor(
            [[math.log(3) * math.sqrt(2) / 4, 0.0], [9.0, 9.0], [0.0, 0.0]]
        )
        first, last = [7.0, 2.0], [4.5, 0.5]
    fused = history_fusion(values, offsets, ids=ids, **options)
    torch.testing.assert_close(fused, torch.tensor([first, [0.0, 0.0], last]))
    assert_bits(history_fusion(values[ids], offsets, **options), fused)
    if kind == "weights":
        fused[:, 0].sum().backward()
        torch.testing.assert_close(values.grad[:, 0], torch.tensor([1.0, 2.0 + 3.0, -1.0]))
        assert not values.grad[:, 1].any()


def test_is_exported():
    assert fusionops.history_fusion is fusionops.ops.history_fusion
    found = history_fusion(torch.ones(1, 1), torch.tensor([0, 1]))
    assert type(found) is torch.Tensor


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=name_of)
def test_is_gather_and_segment_reduction(dtype, kind):
    case = case_of((40, 12, 9, 30), kind, "ids")
    leaves = case.leaves(dtype)
    offsets, ids = case.fixed["offsets"], case.fixed["ids"]
    rows, lengths = leaves["values"][ids], offsets.diff()
    if kind == "weights":
        rows = rows * leaves["weights"].unsqueeze(1)
    if kind == "attention":
        scores = (rows * leaves["query"].repeat_interleave(lengths, 0)).sum(1) / 3
        shares = [part.softmax(0) for part in scores.split(lengths.tolist())]
        rows = rows * torch.cat(shares).unsqueeze(1)
    reduced = torch.segment_reduce(
        rows, "mean" if kind == "mean" else "sum", lengths=lengths, initial=0
    )
    reduced = reduced.nan_to_num()
    rounding = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(case(**leaves)[0], reduced, rtol=rounding, atol=rounding)


def test_the_mean_is_embedding_bag():
    table = normal(30, 9, dtype=torch.float64).requires_grad_()
    offsets, ids = random_offsets(20, 12), random_ids(int(random_offsets(20, 12)[-1]), 30)
    weights = normal(len(ids), dtype=torch.float64, seed=1).requires_grad_()
    bag = torch.nn.functional.embedding_bag
    options = {"mode": "mean", "include_last_offset": True}
    pairs = [(history_fusion(table, offsets, ids=ids), bag(ids, table, offsets, **options))]
    options |= {"mode": "sum", "per_sample_weights": weights}
    pairs.append(
        (
            history_fusion(table, offsets, ids=ids, weights=weights),
            bag(ids, table, offsets, **options),
        )
    )
    for (ours, theirs), leaves in zip(pairs, ([table], [table, weights]), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
        grad = normal(*ours.shape, dtype=torch.float64, seed=9)
        found = torch.autograd.grad(ours, leaves, grad)
        expected = torch.autograd.grad(theirs, leaves, grad)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_attention_is_scaled_dot_product_attention():
    case = case_of((9, 12, 8, 30), "attention", "rows")
    leaves = case.leaves(torch.float64)
    offsets = case.fixed["offsets"].tolist()
    found = case(**leaves)[0]
    for entity, (begin, end) in enumerate(itertools.pairwise(offsets)):
        if begin < end:
            rows = leaves["values"][begin:end]
            expected = torch.nn.functional.scaled_dot_product_attention(
                leaves["query"][entity : entity + 1], rows, rows
            )
            torch.testing.assert_close(found[entity], expected[0], rtol=1e-12, atol=1e-12)


def jagged_with_holes(flat, offsets):
    """Rows with two more after each history, which must not be read."""
    bounds = offsets.tolist()
    trash = torch.full((2, *flat.shape[1:]), 10**6)
    trash = trash.to(flat.dtype) if not flat.is_floating_point() else trash * torch.nan
    parts, starts = [], []
    for begin, end in itertools.pairwise(bounds):
        starts.append(sum(map(len, parts)))
        parts += [flat[begin:end], trash.to(flat.dtype)]
    values = torch.cat(parts)
    return torch.nested.nested_tensor_from_jagged(
        values, torch.tensor([*starts, len(values)]), offsets.diff()
    )


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=name_of)
def test_jagged(dtype, kind, source):
    """Of rows, of ids and of weights, alone and together: the bits and gradients of offsets."""
    case = case_of((9, 7, 12, 20), kind, source)
    leaves = case.leaves(dtype)
    offsets = case.fixed["offsets"]
    expected = case(**leaves)
    grads = cotangents(expected)
    slopes = gradients(case, leaves, grads)

    def function(weights_too, values, weights=None, **rest):
        def nested(flat):
            return torch.nested.nested_tensor_from_jagged(flat, offsets)

        if source == "ids":
            rest["ids"] = nested(case.fixed["ids"])
        else:
            values = nested(values)
        if weights is not None:
            rest["weights"] = nested(weights) if weights_too else weights
        return (history_fusion(values, **rest),)

    for weights_too in (False, True) if kind == "weights" else (False,):
        assert_bits(function(weights_too, **leaves)[0], expected[0])
        found = gradients(lambda **s: function(weights_too, **s), leaves, grads)  # noqa: B023
        for name, grad in found.items():
            torch.testing.assert_close(grad, slopes[name])


@pytest.mark.parametrize("kind", KINDS)
def test_jagged_with_holes(kind):
    case = case_of((9, 7, 12, 20), kind, "rows")
    leaves = case.leaves(torch.float32)
    offsets = case.fixed["offsets"]
    values = jagged_with_holes(leaves.pop("values"), offsets)
    expected = case(values=values.contiguous().values(), **leaves)[0]
    assert_bits(history_fusion(values, **leaves), expected)
    case = case_of((9, 7, 12, 20), kind, "ids")
    leaves = case.leaves(torch.float32)
    ids = jagged_with_holes(case.fixed["ids"], case.fixed["offsets"])
    assert_bits(history_fusion(**leaves, ids=ids), case(**leaves)[0])
    if kind == "weights":
        leaves["weights"] = jagged_with_holes(leaves["weights"], case.fixed["offsets"])
        assert_bits(
            history_fusion(**leaves, ids=ids),
            case_of((9, 7, 12, 20), kind, "ids")(
                **case_of((9, 7, 12, 20), kind, "ids").leaves(torch.float32)
            )[0],
        )


def test_jagged_weights_alone():
    """Beside flat rows they say where the histories end."""
    values, offsets, weights = normal(7, 3), torch.tensor([0, 2, 2, 7]), normal(7, seed=1)
    nested = torch.nested.nested_tensor_from_jagged(weights, offsets)
    assert_bits(
        history_fusion(values, weights=nested), history_fusion(values, offsets, weights=weights)
    )


@pytest.mark.parametrize("kind", [torch.int64, torch.int32, torch.int16, torch.uint8])
def test_dtypes_of_indices(kind):
    for of in KINDS:
        case = case_of((9, 7, 12, 20), of, "ids")
        leaves = case.leaves(torch.float32)
        fixed = {name: part.to(kind) for name, part in case.fixed.items()}
        other = Case("integers", case.operator, case.shapes, fixed)
        assert_bits(other(**leaves)[0], case(**leaves)[0])


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize(
    ("offsets", "features", "table"),
    [([0], 5, 3), ([0, 0, 0], 5, 3), ([0, 0], 5, 0), ([0, 2, 2, 3], 0, 3)],
    ids=["B=0", "T=0", "P=0", "D=0"],
)
def test_empty(offsets, features, table, dtype, kind, source):
    total, batch = offsets[-1], len(offsets) - 1
    rows = table if source == "ids" else total
    leaves = {"values": torch.ones(rows, features, dtype=dtype)}
    if kind == "weights":
        leaves["weights"] = torch.ones(total)
    if kind == "attention":
        leaves["query"] = torch.ones(batch, features, dtype=dtype)
    fixed = {"offsets": torch.tensor(offsets)}
    if source == "ids":
        fixed["ids"] = torch.arange(total)
    case = Case("empty", "history_fusion", {}, fixed)
    result = case(**leaves)[0]
    assert result.shape == (batch, features)
    assert result.dtype == dtype
    assert not result.any()
    for name, grad in gradients(case, leaves, [torch.ones_like(result)]).items():
        assert grad.shape == leaves[name].shape
        assert grad.dtype == leaves[name].dtype
        assert not grad.any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_empty_histories_give_zeros_and_zero_gradients(dtype, kind):
    """First, last and between; what their query is does not matter."""
    offsets = torch.tensor([0, 0, 3, 3, 3, 7, 7])
    shapes = {"values": (7, 9)}
    if kind == "weights":
        shapes["weights"] = (7,)
    if kind == "attention":
        shapes["query"] = (6, 9)
    case = Case(kind, "history_fusion", shapes, {"offsets": offsets})
    leaves = case.leaves(dtype)
    check(case, leaves)
    empty = offsets.diff() == 0
    if kind == "attention":
        leaves["query"][empty] = torch.nan
    result = case(**leaves)[0]
    assert not result[empty].any()
    grads = gradients(case, leaves, [torch.ones_like(result)])
    assert all(grad.isfinite().all() for grad in grads.values())
    if kind == "attention":
        assert not grads["query"][empty].any()


@pytest.mark.parametrize("special", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=name_of)
def test_rows_that_no_history_has_are_not_read(dtype, kind, special):
    case = case_of((9, 7, 12, 200), kind, "ids")
    leaves = case.leaves(dtype)
    unlisted = torch.ones(200, dtype=torch.bool)
    unlisted[case.fixed["ids"]] = False
    assert unlisted.any()
    leaves["values"][unlisted] = special
    truth = {**leaves, "values": leaves["values"].masked_fill(unlisted.unsqueeze(1), 0)}
    result = case(**leaves)
    assert_results(case, result, truth)
    grads = cotangents(result)
    found = gradients(case, leaves, grads)
    assert_gradients(case, found, truth, grads)
    assert not found["values"][unlisted].any()


@pytest.mark.parametrize("special", [math.nan, math.inf])
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_finite_stays_in_its_history(kind, source, special):
    case = case_of((9, 7, 12, 60), kind, source)
    leaves = case.leaves(torch.float32)
    expected = case(**leaves)[0]
    offsets = case.fixed["offsets"]
    ids = case.fixed.get("ids", torch.arange(len(leaves["values"])))
    row = int(ids[0])
    leaves["values"][row] = special
    found = case(**leaves)[0]
    owner = torch.repeat_interleave(torch.arange(9), offsets.diff())
    touched = torch.zeros(9, dtype=torch.bool)
    touched[owner[ids == row]] = True
    assert_bits(found[~touched], expected[~touched])
    assert not found[touched].isfinite().any()


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_huge_scores(dtype, source):
    """Whole numbers, exact in every dtype: scores of +-10,000 and more overflow nothing."""
    case = case_of((9, 70, 4, 40), "attention", source)
    generator = torch.Generator().manual_seed(3)
    leaves = {
        name: torch.randint(-3, 4, shape, generator=generator).to(dtype)
        for name, shape in case.shapes.items()
    }
    leaves["query"] *= 8192
    check(case, leaves, arrives=2.0**-14)  # gradients in the range of float16


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("kind", KINDS)
def test_one_row_many_times(kind, dtype):
    """The gradient of a table's row that is listed 5,000 times is a long sum."""
    offsets = torch.tensor([0, 2000, 2001, 5000])
    ids = torch.ones(5000, dtype=torch.int64)
    ids[::50] = 0
    shapes = {"values": (3, 7), "weights": (5000,), "query": (3, 7)}
    names = (
        ("values",) if kind == "mean" else ("values", "weights" if kind == "weights" else "query")
    )
    case = Case(
        kind,
        "history_fusion",
        {name: shapes[name] for name in names},
        {"offsets": offsets, "ids": ids},
    )
    check(case, case.leaves(dtype))


BAD_OFFSETS = [[1, 2, 4], [0, 2, 3], [0, 2, 5], [0, 3, 2, 4], [-1, 2, 4], [0, 5, 4], [0, 2**40, 4]]
BAD_IDS = [-1, 9, 2**40, -(2**63), 2**32]


@pytest.mark.parametrize("options", ["mean", "weights", "query"])
@pytest.mark.parametrize("bounds", BAD_OFFSETS, ids=str)
def test_offsets_that_do_not_rise_to_the_end(bounds, options):
    more = {
        "mean": {},
        "weights": {"weights": torch.ones(4)},
        "query": {"query": torch.ones(len(bounds) - 1, 3)},
    }[options]
    values = torch.ones(4, 3, requires_grad=True)
    with pytest.raises(IndexError, match="offsets"):
        history_fusion(values, torch.tensor(bounds), **more)
    with pytest.raises(IndexError, match="offsets"):
        history_fusion(torch.ones(9, 3), torch.tensor(bounds), ids=torch.zeros(4).long(), **more)


def test_offsets_of_nothing_must_be_zero():
    for bounds in ([1], [0, 1], [0, 1, 0]):
        with pytest.raises(IndexError, match="offsets"):
            history_fusion(torch.ones(0, 3), torch.tensor(bounds))


@pytest.mark.parametrize("place", [0, 7, 39])
@pytest.mark.parametrize("bad", BAD_IDS)
def test_ids_outside_of_the_table(bad, place):
    ids = torch.zeros(40, dtype=torch.int64)
    ids[place] = bad
    for threads in (1, 2):
        torch.set_num_threads(threads)
        with pytest.raises(IndexError, match="ids"):
            history_fusion(torch.ones(9, 3, requires_grad=True), torch.tensor([0, 40]), ids=ids)
    with pytest.raises(IndexError, match="ids"):
        history_fusion(torch.ones(0, 3), torch.tensor([0, 1]), ids=torch.zeros(1).long())


@given(
    size=st.tuples(st.integers(1, 40), st.integers(0, 40), st.integers(1, 70), st.integers(1, 60)),
    kind=st.sampled_from(KINDS),
    source=st.sampled_from(SOURCES),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 1000),
)
def test_any_shape(size, kind, source, dtype, seed):
    case = case_of(size, kind, source, seed)
    check(case, case.leaves(dtype, seed))
