"""The error of every bad argument to what fuses profiles (rule 8)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import fusionops
from fusionops import (
    attention_fusion,
    bidirectional_fusion,
    history_fusion,
    mmr_rerank,
    weighted_fusion,
)

B, Q, M, D, T, P = 2, 3, 4, 6, 7, 5
FLOATING = "float64, float32, bfloat16 or float16"
QUERY, TOKENS, ROWS, TABLE = (torch.ones(*s) for s in ((B, Q, D), (B, M, D), (T, D), (P, D)))
OFFSETS, IDS = torch.tensor([0, 3, 7]), torch.tensor([0, 1, 2, 3, 4, 4, 0])
SEED, PRESENT = torch.tensor(5), torch.ones(B, M, dtype=torch.bool)
# Calls that are right, of which the tables change one argument.
GOOD = {
    "weighted": (weighted_fusion, {"values": TOKENS, "logits": torch.ones(B, M)}),
    "attention": (attention_fusion, {"query": QUERY, "key": TOKENS, "value": TOKENS}),
    "bidirectional": (bidirectional_fusion, {"user": QUERY, "item": TOKENS}),
    "rows": (history_fusion, {"values": ROWS, "offsets": OFFSETS}),
    "ids": (history_fusion, {"values": TABLE, "offsets": OFFSETS, "ids": IDS}),
    "mmr": (mmr_rerank, {"scores": torch.ones(B, M), "vectors": TOKENS, "k": 3}),
}


def jagged(flat, lengths=(3, 4), layout=torch.jagged):
    return torch.nested.nested_tensor(list(flat.split(lengths)), layout=layout)


def meta(*shape, dtype=None):
    return torch.ones(*shape, dtype=dtype, device="meta")


def tensor(name, good, dims, complete=True):
    """Rows for a floating tensor: kind, dtype, layout and the number of dimensions."""
    shape = list(good.shape)
    rows = [
        (name, good.tolist, TypeError, "list", "Tensor"),
        (name, good.numpy, TypeError, "ndarray", "Tensor"),
        (name, lambda: 1.5, TypeError, "float", "Tensor"),
        (name, good.long, TypeError, "int64", FLOATING),
        (name, good.bool, TypeError, "bool", FLOATING),
        (name, lambda: good.to(torch.complex64), TypeError, "complex64", FLOATING),
        (name, lambda: good.to(torch.float8_e4m3fn), TypeError, "float8_e4m3fn", FLOATING),
        (name, good.to_sparse, TypeError, "sparse_coo", "dense"),
        (name, lambda: meta(*shape), ValueError, "meta", "cpu"),
        (name, lambda: good.unsqueeze(0).unsqueeze(0), ValueError, f"{[1, 1, *shape]}", dims),
        (name, lambda: torch.tensor(1.0), ValueError, "[]", dims),
    ]
    if complete:
        rows.append((name, lambda: None, TypeError, "None", "Tensor"))
    return rows


def mask(name, shape, expected):
    rows, tokens = shape
    good = torch.ones(rows, tokens).bool()
    return [
        (name, good.tolist, TypeError, "list", "bool"),
        (name, good.numpy, TypeError, "ndarray", "bool"),
        (name, lambda: True, TypeError, "bool", "bool tensor"),
        (name, good.float, TypeError, "float32", "bool"),
        (name, good.byte, TypeError, "uint8", "bool"),
        (name, lambda: good.to_sparse(), TypeError, "sparse_coo", "dense"),
        (name, lambda: meta(rows, tokens, dtype=torch.bool), ValueError, "meta", "cpu"),
        (name, lambda: good[:, :-1], ValueError, f"[{rows}, {tokens - 1}]", expected),
        (name, lambda: good[:1], ValueError, f"[1, {tokens}]", expected),
        (name, lambda: good[0, :-1], ValueError, f"[{tokens - 1}]", expected),
        (name, lambda: good.unsqueeze(1), ValueError, f"[{rows}, 1, {tokens}]", expected),
        (name, lambda: good[0, 0], ValueError, "[]", expected),
    ]


def number(name):
    return [
        (name, lambda: "1", TypeError, "str", "number"),
        (name, lambda: [1.0], TypeError, "list", "number"),
        (name, lambda: True, TypeError, "bool", "number"),
        (name, lambda: 1j, TypeError, "complex", "number"),
        (name, lambda: torch.tensor(0.5), TypeError, "Tensor", "number"),
        (name, lambda: math.nan, ValueError, "nan", "finite"),
        (name, lambda: math.inf, ValueError, "inf", "finite"),
        (name, lambda: -math.inf, ValueError, "-inf", "finite"),
    ]


def count(name):
    return [
        (name, lambda: 0, ValueError, "0", "at least 1"),
        (name, lambda: -3, ValueError, "-3", "at least 1"),
        (name, lambda: 2**63, ValueError, str(2**63), ""),
        (name, lambda: 2.0, TypeError, "float", "int"),
        (name, lambda: "3", TypeError, "str", "int"),
        (name, lambda: None, TypeError, "None", "int"),
        (name, lambda: True, TypeError, "bool", "int"),
    ]


def integers(name, good, complete=True):
    rows = [
        (name, good.tolist, TypeError, "list", "integer tensor"),
        (name, good.numpy, TypeError, "ndarray", "integer tensor"),
        (name, good.float, TypeError, "float32", "integer tensor"),
        (name, good.bool, TypeError, "bool", "integer tensor"),
        (name, good.to_sparse, TypeError, "sparse_coo", "dense"),
        (name, lambda: good.to("meta"), ValueError, "meta", "the device of values"),
        (name, lambda: good[0], ValueError, "[]", "1"),
        (name, lambda: good.unsqueeze(0), ValueError, f"{[1, *good.shape]}", "1"),
    ]
    return [*rows, (name, lambda: None, TypeError, "None", "integer tensor")] if complete else rows


def half(name, good):
    """Another dtype than the first tensor's."""
    return [
        (name, good.half, TypeError, "float16", "float32"),
        (name, good.double, TypeError, "float64", "float32"),
    ]


TABLE_OF = {
    "weighted": [
        *tensor("values", TOKENS, "3 dimensions"),
        ("values", lambda: jagged(ROWS), TypeError, "nested", "dense"),
        *tensor("logits", torch.ones(B, M), "[4] or [2, 4]"),
        ("logits", lambda: torch.ones(B), ValueError, "[2]", "[4] or [2, 4]"),
        ("logits", lambda: torch.ones(1, M), ValueError, "[1, 4]", "[4] or [2, 4]"),
        ("logits", lambda: torch.ones(M, B), ValueError, "[4, 2]", "[4] or [2, 4]"),
        *mask("mask", (B, M), "[4] or [2, 4]"),
    ],
    "attention": [
        *tensor("query", QUERY, "dimensions"),
        *tensor("key", TOKENS, "3 dimensions"),
        *tensor("value", TOKENS, "3 dimensions"),
        *half("query", QUERY),
        *half("value", TOKENS),
        ("key", lambda: jagged(ROWS), TypeError, "nested", "dense"),
        ("query", lambda: torch.ones(B + 1, Q, D), ValueError, "[3, 3, 6]", "2"),
        ("query", lambda: torch.ones(Q, D + 1), ValueError, "[1, 3, 7]", "6"),
        ("query", lambda: torch.ones(D), ValueError, "[6]", "2 or 3 dimensions"),
        ("value", lambda: torch.ones(B + 1, M, D), ValueError, "[3, 4, 6]", "2"),
        ("value", lambda: torch.ones(1, M, D), ValueError, "[1, 4, 6]", "2"),
        ("value", lambda: torch.ones(B, M + 1, D), ValueError, "[2, 5, 6]", "4"),
        *mask("mask", (B, M), "[4] or [2, 4]"),
        *mask("query_mask", (B, Q), "[3] or [2, 3]"),
        *count("num_heads"),
        ("num_heads", lambda: 4, ValueError, "4", "divisor"),
        ("num_heads", lambda: 12, ValueError, "12", "divisor"),
        *number("scale"),
        *number("dropout_p"),
        ("dropout_p", lambda: None, TypeError, "None", "number"),
        ("dropout_p", lambda: -0.1, ValueError, "-0.1", "0"),
        ("dropout_p", lambda: 1.1, ValueError, "1.1", "[0, 1]"),
        ("seed", lambda: 5, TypeError, "int", "int64 tensor"),
        ("seed", lambda: SEED.numpy(), TypeError, "ndarray", "int64 tensor"),
        ("seed", lambda: SEED.int(), TypeError, "int32", "int64"),
        ("seed", lambda: SEED.float(), TypeError, "float32", "int64"),
        ("seed", lambda: SEED.expand(2), ValueError, "[2]", "one number"),
        ("seed", lambda: SEED.expand(0), ValueError, "[0]", "one number"),
        ("seed", lambda: SEED.to("meta"), ValueError, "meta", "cpu"),
        ("return_weights", lambda: 1, TypeError, "int", "bool"),
        ("return_weights", lambda: None, TypeError, "None", "bool"),
        ("return_weights", lambda: torch.tensor(True), TypeError, "Tensor", "bool"),
    ],
    "bidirectional": [
        *tensor("user", QUERY, "3 dimensions"),
        *tensor("item", TOKENS, "3 dimensions"),
        *half("item", TOKENS),
        ("user", lambda: jagged(ROWS), TypeError, "nested", "dense"),
        ("item", lambda: torch.ones(B, M, D + 1), ValueError, "[2, 4, 7]", "6"),
        ("item", lambda: torch.ones(B + 1, M, D), ValueError, "[3, 4, 6]", "2"),
        ("item", lambda: torch.ones(1, M, D), ValueError, "[1, 4, 6]", "2"),
        *tensor("user_value", QUERY, "3 dimensions", complete=False),
        *half("user_value", QUERY),
        ("user_value", lambda: torch.ones(B, Q + 1, D), ValueError, "[2, 4, 6]", "[2, 3, *]"),
        ("user_value", lambda: torch.ones(1, Q, D), ValueError, "[1, 3, 6]", "[2, 3, *]"),
        *tensor("item_value", TOKENS, "3 dimensions", complete=False),
        *half("item_value", TOKENS),
        ("item_value", lambda: torch.ones(B, M + 1, D), ValueError, "[2, 5, 6]", "[2, 4, *]"),
        ("item_value", lambda: torch.ones(B, Q, D), ValueError, "[2, 3, 6]", "[2, 4, *]"),
        *mask("user_mask", (B, Q), "[3] or [2, 3]"),
        *mask("item_mask", (B, M), "[4] or [2, 4]"),
        *number("scale"),
    ],
    "rows": [
        *tensor("values", ROWS, "2 dimensions"),
        ("values", lambda: jagged(ROWS), ValueError, "both", "None"),
        ("values", lambda: jagged(ROWS, layout=torch.strided), TypeError, "strided", "jagged"),
        *integers("offsets", OFFSETS),
        ("offsets", lambda: OFFSETS[:0], ValueError, "[0]", "[B + 1]"),
        *tensor("query", torch.ones(B, D), "2 dimensions", complete=False),
        *half("query", torch.ones(B, D)),
        ("query", lambda: torch.ones(B + 1, D), ValueError, "[3, 6]", "[2, 6]"),
        ("query", lambda: torch.ones(1, D), ValueError, "[1, 6]", "[2, 6]"),
        ("query", lambda: torch.ones(B, D + 1), ValueError, "[2, 7]", "[2, 6]"),
        *tensor("weights", torch.ones(T), "[7]", complete=False),
        ("weights", lambda: torch.ones(T + 1), ValueError, "[8]", "[7]"),
        ("weights", lambda: torch.ones(B), ValueError, "[2]", "[7]"),
        ("weights", lambda: jagged(torch.ones(T)), ValueError, "both", "None"),
    ],
    "ids": [
        *tensor("values", TABLE, "2 dimensions"),
        *integers("ids", IDS, complete=False),
        ("ids", lambda: jagged(IDS), ValueError, "both", "None"),
        ("ids", lambda: jagged(IDS, layout=torch.strided), TypeError, "strided", "jagged"),
        ("ids", lambda: IDS - 1, IndexError, "-1", "5 items"),
        ("ids", lambda: IDS + 1, IndexError, "5", "5 items"),
        ("offsets", lambda: OFFSETS + 1, IndexError, "1", "start at 0"),
        ("offsets", lambda: OFFSETS.flip(0), IndexError, "7", "start at 0"),
        ("weights", lambda: torch.ones(P), ValueError, "[5]", "[7]"),
    ],
    "mmr": [
        *tensor("scores", torch.ones(B, M), "[2, 4]"),
        *tensor("vectors", TOKENS, "3 dimensions"),
        ("scores", lambda: torch.ones(M), ValueError, "[4]", "[2, 4]"),
        ("scores", lambda: torch.ones(1, M), ValueError, "[1, 4]", "[2, 4]"),
        ("scores", lambda: torch.ones(B, M + 1), ValueError, "[2, 5]", "[2, 4]"),
        *count("k"),
        *number("trade_off"),
        ("trade_off", lambda: None, TypeError, "None", "number"),
        ("trade_off", lambda: -0.1, ValueError, "-0.1", "0"),
        ("trade_off", lambda: 1.5, ValueError, "1.5", "[0, 1]"),
        *mask("mask", (B, M), "[4] or [2, 4]"),
    ],
}
ROWS_OF_ALL = [(name, *row) for name, rows in TABLE_OF.items() for row in rows]


@pytest.mark.parametrize(
    ("call", "argument", "make", "error", "came", "expected"),
    [pytest.param(*row, id=f"{row[0]}-{row[1]}-{row[4]}") for row in ROWS_OF_ALL],
)
def test_bad_argument(call, argument, make, error, came, expected):
    function, good = GOOD[call]
    with pytest.raises(error) as caught:
        function(**{**good, argument: make()})
    assert type(caught.value) is error
    message = str(caught.value)
    # Others are measured against the device of the first tensor, and against what is jagged.
    named = message if came in ("meta", "both") else message.split(" expected")[0]
    assert argument in named
    assert came in message
    assert expected in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("call", GOOD)
def test_good_arguments_pass(call):
    """What the table above changes one argument of."""
    function, good = GOOD[call]
    result = function(**good)
    assert len(result[0] if isinstance(result, tuple) else result) == B


@pytest.mark.parametrize("call", GOOD)
def test_arguments_are_checked_whatever_the_backend_and_size(call):
    function, good = GOOD[call]
    name = next(iter(good))
    with fusionops.use_backend("reference"), pytest.raises(TypeError, match=name):
        function(**{**good, name: good[name].long()})
    empty = {
        key: value[:0] if isinstance(value, torch.Tensor) and value.is_floating_point() else value
        for key, value in good.items()
    }
    with pytest.raises(TypeError, match=name):
        function(**{**empty, name: empty[name].long()})


def test_heads_must_divide_both_widths():
    query, key = torch.ones(B, Q, 8), torch.ones(B, M, 8)
    with pytest.raises(ValueError, match=r"num_heads.*value \(6\), got 4"):
        attention_fusion(query, key, TOKENS, num_heads=4)


def test_query_and_weights_exclude_each_other():
    with pytest.raises(ValueError, match=r"query.*weights"):
        history_fusion(ROWS, OFFSETS, torch.ones(B, D), torch.ones(T))


def test_jagged_tensors_of_other_lengths():
    with pytest.raises(ValueError, match=r"weights.*2.*3"):
        history_fusion(jagged(ROWS), weights=jagged(torch.ones(T), (3, 3, 1)))


def test_jagged_tensors_that_part_the_rows_otherwise():
    """As many histories and as many rows: weights of one history would go to another."""
    with pytest.raises((ValueError, IndexError), match="weights"):
        history_fusion(jagged(ROWS), weights=jagged(torch.ones(T), (4, 3)))
    with pytest.raises((ValueError, IndexError), match="weights"):
        history_fusion(TABLE, ids=jagged(IDS), weights=jagged(torch.ones(T), (4, 3)))


@pytest.mark.parametrize("ids", [IDS, jagged(IDS)], ids=["dense", "jagged"])
def test_a_table_is_not_jagged(ids):
    with pytest.raises((TypeError, ValueError), match="values"):
        history_fusion(jagged(ROWS), ids=ids)


def test_jagged_rows_of_more_dimensions():
    with pytest.raises(ValueError, match="values: expected 2 dimensions"):
        history_fusion(jagged(torch.ones(T, D, 2)))
    with pytest.raises(ValueError, match="ids"):
        history_fusion(TABLE, ids=jagged(torch.zeros(T, 2, dtype=torch.int64)))


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16, np.longdouble])
def test_numpy_numbers_are_numbers(kind):
    half = kind(0.5)
    for function, good, changed in (
        (attention_fusion, GOOD["attention"][1], {"scale": half, "dropout_p": half, "seed": SEED}),
        (attention_fusion, GOOD["attention"][1], {"scale": np.int64(2), "num_heads": np.int64(2)}),
        (bidirectional_fusion, GOOD["bidirectional"][1], {"scale": half}),
        (mmr_rerank, GOOD["mmr"][1], {"trade_off": half, "k": np.int32(2)}),
    ):
        plain = {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in changed.items()
        }
        plain = {n: float(v) if isinstance(v, np.longdouble) else v for n, v in plain.items()}
        torch.testing.assert_close(
            function(**{**good, **changed}), function(**{**good, **plain}), rtol=0, atol=0
        )


@pytest.mark.parametrize("number", [-0.5, 1.5, 1e300, float("inf"), float("nan")])
def test_direct_calls_check_ranges(number):
    """The kernels would read outside their memory, or cast what no integer holds."""
    sides = list(torch.ones(3, 2, 3, 4))
    with pytest.raises(RuntimeError, match="trade_off"):
        torch.ops.fusionops.mmr_rerank(sides[0][..., 0], sides[0], 2, number, None)
    with pytest.raises(RuntimeError, match="dropout_p"):
        torch.ops.fusionops.attention_fusion(
            *sides, None, None, 1, None, number, torch.tensor(1), False
        )
