"""The error of every bad argument: which argument, what came, what was expected (rule 8)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.sparse
import torch

import fusionops
from fusionops import (
    fusion_contrastive,
    fusion_cross_entropy,
    fusion_matrix,
    fusion_recommend,
    fusion_topk,
)

U, P, D, R = 4, 6, 3, 2
USER, ITEM, VALUES = torch.ones(U, D), torch.ones(P, D), torch.ones(P, R)
PAIRED, TARGET, IDS = torch.ones(P, D), torch.tensor([0, 5, 2, 2]), torch.arange(P)
OFFSETS, INDICES = torch.tensor([0, 1, 1, 1, 2]), torch.tensor([0, 1])
GOOD = {
    fusion_matrix: {"user": USER, "item": ITEM},
    fusion_recommend: {"user": USER, "item": ITEM, "values": VALUES},
    fusion_topk: {"user": USER, "item": ITEM, "k": 2},
    fusion_cross_entropy: {"user": USER, "item": ITEM, "target": TARGET},
    fusion_contrastive: {"user": PAIRED, "item": ITEM},
}
FLOATING = "float64, float32, bfloat16 or float16"


def jagged(*shape, dtype=torch.int64, rows=U, layout=torch.jagged):
    return torch.nested.nested_tensor([torch.zeros(*shape, dtype=dtype)] * rows, layout=layout)


# (argument, a function that makes the bad value, exception, what came, what was expected)
EVERYWHERE = [
    ("user", lambda: [[1.0]], TypeError, "list", "Tensor"),
    ("user", lambda: np.ones((U, D)), TypeError, "ndarray", "Tensor"),
    ("user", lambda: None, TypeError, "None", "Tensor"),
    ("user", lambda: USER.long(), TypeError, "int64", FLOATING),
    ("user", lambda: USER.to(torch.complex64), TypeError, "complex64", FLOATING),
    ("user", lambda: USER.to(torch.float8_e4m3fn), TypeError, "float8_e4m3fn", FLOATING),
    ("user", lambda: USER.to_sparse(), TypeError, "sparse_coo", "dense"),
    ("user", lambda: jagged(1, D, dtype=torch.float32), TypeError, "nested", "dense"),
    (
        "user",
        lambda: jagged(1, D, dtype=torch.float32, layout=torch.strided),
        TypeError,
        "nested",
        "dense",
    ),
    ("user", lambda: USER.to("meta"), ValueError, "meta", "cpu"),
    ("user", lambda: torch.ones(D), ValueError, "[3]", "2 dimensions"),
    ("user", lambda: torch.tensor(1.0), ValueError, "[]", "2 dimensions"),
    ("item", lambda: 3.0, TypeError, "float", "Tensor"),
    ("item", lambda: ITEM.numpy(), TypeError, "ndarray", "Tensor"),
    ("item", lambda: ITEM.bool(), TypeError, "bool", FLOATING),
    ("item", lambda: ITEM.half(), TypeError, "float16", "float32"),
    ("item", lambda: ITEM.double(), TypeError, "float64", "float32"),
    ("item", lambda: ITEM.to_sparse_csr(), TypeError, "sparse_csr", "dense"),
    ("item", lambda: ITEM.to("meta"), ValueError, "meta", "cpu"),
    ("item", lambda: torch.ones(D), ValueError, "[3]", "2 dimensions"),
    ("item", lambda: torch.ones(P, D + 1), ValueError, "[6, 4]", "3"),
    ("item", lambda: ITEM.T, ValueError, "[3, 6]", "3"),
    ("normalization", lambda: "cosin", ValueError, "'cosin'", "diagonal, matrix, cosine, none"),
    ("normalization", lambda: "", ValueError, "''", "diagonal, matrix, cosine, none"),
    ("power", lambda: "a", TypeError, "str", "number"),
    ("power", lambda: None, TypeError, "None", "number"),
    ("power", lambda: torch.tensor(0.5), TypeError, "Tensor", "number"),
    ("power", lambda: math.nan, ValueError, "nan", "finite"),
    ("power", lambda: -math.inf, ValueError, "-inf", "finite"),
    ("ridge", lambda: "1", TypeError, "str", "number"),
    ("ridge", lambda: -1.0, ValueError, "-1.0", "at least 0"),
    ("ridge", lambda: math.nan, ValueError, "nan", "at least 0"),
    ("ridge", lambda: math.inf, ValueError, "inf", "finite"),
    ("eps", lambda: [0], TypeError, "list", "number"),
    ("eps", lambda: 1j, TypeError, "complex", "number"),
    ("eps", lambda: -1e-9, ValueError, "-1e-09", "at least 0"),
    ("eps", lambda: math.nan, ValueError, "nan", "at least 0"),
    ("eps", lambda: math.inf, ValueError, "inf", "finite"),
]
OF_RECOMMEND = [
    ("values", lambda: None, TypeError, "None", "Tensor"),
    ("values", lambda: VALUES.numpy(), TypeError, "ndarray", "Tensor"),
    ("values", lambda: VALUES.double(), TypeError, "float64", "float32"),
    ("values", lambda: VALUES.long(), TypeError, "int64", FLOATING),
    ("values", lambda: VALUES.to_sparse(), TypeError, "sparse_coo", "dense"),
    ("values", lambda: VALUES.to("meta"), ValueError, "meta", "cpu"),
    ("values", lambda: torch.ones(P), ValueError, "[6]", "2 dimensions"),
    ("values", lambda: torch.ones(P + 1, R), ValueError, "[7, 2]", "6"),
    ("values", lambda: torch.ones(1, R), ValueError, "[1, 2]", "6"),
]
UNBATCHED = [
    ("user", lambda: torch.ones(2, U, D), ValueError, "[2, 4, 3]", "2 dimensions"),
    ("item", lambda: torch.ones(2, P, D), ValueError, "[2, 6, 3]", "2 dimensions"),
]
OF_TOPK = [
    ("k", lambda: 0, ValueError, "0", "at least 1"),
    ("k", lambda: -3, ValueError, "-3", "at least 1"),
    ("k", lambda: 2**63, ValueError, str(2**63), ""),
    ("k", lambda: 1 << 62, ValueError, str(1 << 62), "memory"),
    ("k", lambda: 1 << 44, ValueError, str(1 << 44), "memory"),
    ("k", lambda: 2.0, TypeError, "float", "int"),
    ("k", lambda: "3", TypeError, "str", "int"),
    ("k", lambda: None, TypeError, "None", "int"),
    ("k", lambda: True, TypeError, "bool", "int"),
    ("allowed", lambda: [True] * P, TypeError, "list", "bool"),
    ("allowed", lambda: np.ones(P, bool), TypeError, "ndarray", "bool"),
    ("allowed", lambda: torch.ones(P), TypeError, "float32", "bool"),
    ("allowed", lambda: torch.ones(P, dtype=torch.uint8), TypeError, "uint8", "bool"),
    ("allowed", lambda: torch.ones(P + 1).bool(), ValueError, "[7]", "[6] or [4, 6]"),
    ("allowed", lambda: torch.ones(P, U).bool(), ValueError, "[6, 4]", "[6] or [4, 6]"),
    ("allowed", lambda: torch.ones(1, P).bool(), ValueError, "[1, 6]", "[6] or [4, 6]"),
    ("allowed", lambda: torch.ones(P, device="meta").bool(), ValueError, "meta", "cpu"),
]
OF_BIAS = [
    ("item_bias", lambda: 1.0, TypeError, "float", "Tensor"),
    ("item_bias", lambda: np.zeros(P), TypeError, "ndarray", "Tensor"),
    ("item_bias", lambda: torch.ones(P).long(), TypeError, "int64", FLOATING),
    ("item_bias", lambda: torch.ones(P + 1), ValueError, "[7]", "[6]"),
    ("item_bias", lambda: torch.ones(1), ValueError, "[1]", "[6]"),
    ("item_bias", lambda: torch.ones(U, P), ValueError, "[4, 6]", "[6]"),
    ("item_bias", lambda: torch.ones(P, device="meta"), ValueError, "meta", "cpu"),
]
OF_LOSSES = [
    ("scale", lambda: "1", TypeError, "str", "number"),
    ("scale", lambda: None, TypeError, "None", "number"),
    ("scale", lambda: True, TypeError, "bool", "number"),
    ("scale", lambda: 1j, TypeError, "complex", "number"),
    ("scale", lambda: np.ones(()), TypeError, "ndarray", "number"),
    ("scale", lambda: torch.tensor(1), TypeError, "int64", FLOATING),
    ("scale", lambda: torch.ones(1), ValueError, "[1]", "0"),
    ("scale", lambda: torch.ones(U), ValueError, "[4]", "0"),
    ("scale", lambda: torch.tensor(1.0, device="meta"), ValueError, "meta", "cpu"),
    ("scale", lambda: math.nan, ValueError, "nan", "finite"),
    ("scale", lambda: -math.inf, ValueError, "-inf", "finite"),
]
OF_CROSS_ENTROPY = [
    ("target", lambda: None, TypeError, "None", "integer tensor"),
    ("target", lambda: TARGET.tolist(), TypeError, "list", "integer tensor"),
    ("target", lambda: TARGET.numpy(), TypeError, "ndarray", "integer tensor"),
    ("target", lambda: TARGET.float(), TypeError, "float32", "integer tensor"),
    ("target", lambda: torch.ones(U, P), TypeError, "float32", "integer tensor"),
    ("target", lambda: torch.ones(U).bool(), TypeError, "bool", "integer tensor"),
    ("target", lambda: TARGET.to_sparse(), TypeError, "sparse_coo", "dense"),
    ("target", lambda: TARGET[:3], ValueError, "[3]", "[4]"),
    ("target", lambda: TARGET.unsqueeze(1), ValueError, "[4, 1]", "[4]"),
    ("target", lambda: TARGET[0], ValueError, "[]", "[4]"),
    ("target", lambda: TARGET.to("meta"), ValueError, "meta", "cpu"),
    ("label_smoothing", lambda: "0.1", TypeError, "str", "number"),
    ("label_smoothing", lambda: None, TypeError, "None", "number"),
    ("label_smoothing", lambda: torch.tensor(0.1), TypeError, "Tensor", "number"),
    ("label_smoothing", lambda: -0.1, ValueError, "-0.1", "0"),
    ("label_smoothing", lambda: 1.5, ValueError, "1.5", "1"),
    ("label_smoothing", lambda: math.nan, ValueError, "nan", "0"),
    ("ignore_index", lambda: 1.0, TypeError, "float", "int"),
    ("ignore_index", lambda: None, TypeError, "None", "int"),
    ("ignore_index", lambda: True, TypeError, "bool", "int"),
    ("ignore_index", lambda: 2**63, ValueError, str(2**63), ""),
    ("reduction", lambda: "avg", ValueError, "'avg'", "none"),
    ("reduction", lambda: None, ValueError, "None", "mean"),
]
OF_CONTRASTIVE = [
    ("item", lambda: torch.ones(P + 1, D), ValueError, "[7, 3]", "6"),
    ("ids", lambda: IDS.tolist(), TypeError, "list", "integer tensor"),
    ("ids", lambda: IDS.numpy(), TypeError, "ndarray", "integer tensor"),
    ("ids", lambda: IDS.float(), TypeError, "float32", "integer tensor"),
    ("ids", lambda: IDS.to_sparse(), TypeError, "sparse_coo", "dense"),
    ("ids", lambda: IDS[:-1], ValueError, "[5]", "[6]"),
    ("ids", lambda: IDS.unsqueeze(0), ValueError, "[1, 6]", "[6]"),
    ("ids", lambda: IDS.to("meta"), ValueError, "meta", "cpu"),
]
OF_LISTS = [
    (lambda: 3, TypeError, "int", "pair (offsets, indices)"),
    (lambda: "ab", TypeError, "str", "pair (offsets, indices)"),
    (lambda: {1: 2}, TypeError, "dict", "pair (offsets, indices)"),
    (lambda: np.zeros((U, P)), TypeError, "ndarray", "pair (offsets, indices)"),
    (lambda: (OFFSETS,), TypeError, "tuple", "pair (offsets, indices)"),
    (lambda: (OFFSETS, INDICES, INDICES), TypeError, "tuple", "pair (offsets, indices)"),
    (lambda: (None, INDICES), TypeError, "None", "offsets"),
    (lambda: (OFFSETS, None), TypeError, "None", "indices"),
    (lambda: (OFFSETS.float(), INDICES), TypeError, "float32", "integer offsets"),
    (lambda: (OFFSETS, INDICES.float()), TypeError, "float32", "integer indices"),
    (lambda: (OFFSETS, INDICES.bool()), TypeError, "bool", "integer indices"),
    (lambda: (OFFSETS[:-1], INDICES), ValueError, "3", "4 users"),
    (lambda: (OFFSETS[:0], INDICES), ValueError, "", "4 users"),
    (lambda: (OFFSETS.unsqueeze(0), INDICES), ValueError, "[1, 5]", "1-d offsets"),
    (lambda: (OFFSETS, INDICES.unsqueeze(0)), ValueError, "[1, 2]", "1-d indices"),
    (lambda: (OFFSETS.to("meta"), INDICES), ValueError, "meta", "cpu"),
    (lambda: OFFSETS, TypeError, "strided", "jagged"),
    (lambda: torch.zeros(U, P), TypeError, "strided", "jagged"),
    (lambda: jagged(2, dtype=torch.float32), TypeError, "float32", "integer indices"),
    (lambda: jagged(2, rows=3), ValueError, "3", "4 users"),
    (lambda: jagged(2, 2), ValueError, "2]", "1-d"),
    (lambda: torch.zeros(U, P).to_sparse(), TypeError, "sparse_coo", "CSR"),
    (lambda: torch.zeros(U, P).to_sparse_csc(), TypeError, "sparse_csc", "CSR"),
    (lambda: torch.zeros(U, P + 1).to_sparse_csr(), ValueError, "7", "6"),
    (lambda: torch.zeros(U + 1, P).to_sparse_csr(), ValueError, "5", "4"),
    (lambda: scipy.sparse.coo_matrix((U, P)), TypeError, "coo_matrix", "CSR"),
    (lambda: scipy.sparse.csc_matrix((U, P)), TypeError, "csc_matrix", "CSR"),
    (lambda: scipy.sparse.bsr_matrix((U, P)), TypeError, "bsr_matrix", "CSR"),
    (lambda: scipy.sparse.csr_matrix((U, P + 1)), ValueError, "7", "6"),
    (lambda: scipy.sparse.csr_matrix((U - 1, P)), ValueError, "3", "4"),
]
TABLE = [
    *[(function, *row) for function in GOOD for row in EVERYWHERE],
    *[(fusion_recommend, *row) for row in OF_RECOMMEND],
    *[(fusion_topk, *row) for row in UNBATCHED + OF_TOPK + OF_BIAS],
    *[(fusion_topk, name, *row) for name in ("exclude", "candidates") for row in OF_LISTS],
    *[(fusion_cross_entropy, *row) for row in UNBATCHED + OF_BIAS + OF_LOSSES + OF_CROSS_ENTROPY],
    *[(fusion_cross_entropy, "exclude", *row) for row in OF_LISTS],
    *[(fusion_contrastive, *row) for row in UNBATCHED + OF_LOSSES + OF_CONTRASTIVE],
]


@pytest.mark.parametrize(
    ("function", "argument", "make", "error", "came", "expected"),
    [pytest.param(*row, id=f"{row[0].__name__}-{row[1]}-{row[4] or row[5]}") for row in TABLE],
)
def test_bad_argument(function, argument, make, error, came, expected):
    arguments = {**GOOD[function], argument: make()}
    with pytest.raises(error) as caught:
        function(**arguments)
    assert type(caught.value) is error
    message = str(caught.value)
    if argument == "user" and came == "meta":
        argument = "item"  # measured against the device of user
    assert argument in message
    assert came in message
    assert expected in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("function", GOOD, ids=lambda function: function.__name__)
def test_good_arguments_pass(function):
    """What the table above changes one argument of."""
    for norm in ({}, {"normalization": "matrix", "power": 1, "ridge": 0, "eps": 0}):
        result = function(**GOOD[function], **norm)
        first = result[0] if isinstance(result, tuple) else result
        losses = (fusion_cross_entropy, fusion_contrastive)
        assert first.shape[:1] == ((U,) if function not in losses else ())


@pytest.mark.parametrize("function", GOOD, ids=lambda function: function.__name__)
def test_arguments_are_checked_whatever_the_backend_and_size(function):
    with fusionops.use_backend("reference"), pytest.raises(ValueError, match="item"):
        function(**{**GOOD[function], "item": torch.ones(P, D + 1)})
    with pytest.raises(ValueError, match="item"):
        function(**{**GOOD[function], "user": torch.ones(0, D), "item": torch.ones(0, D + 1)})


@pytest.mark.parametrize("function", [fusion_matrix, fusion_recommend])
def test_batches_that_do_not_broadcast(function):
    batched = {**GOOD[function], "user": torch.ones(2, U, D), "item": torch.ones(3, P, D)}
    with pytest.raises(ValueError, match=r"user.*item.*broadcast.*\[2, 4, 3\].*\[3, 6, 3\]"):
        function(**batched)
    if function is fusion_recommend:
        batched = {**GOOD[function], "item": torch.ones(2, P, D), "values": torch.ones(3, P, R)}
        with pytest.raises(ValueError, match=r"values.*broadcast.*\[3, 6, 2\]"):
            function(**batched)


def test_square_scipy_csc_is_not_taken_for_csr():
    """With U = P its arrays have the lengths of a CSR matrix, and mean the transposed one."""
    matrix = scipy.sparse.csc_matrix(np.triu(np.ones((P, P))))
    for name in ("exclude", "candidates"):
        with pytest.raises(TypeError, match=f"{name}.*CSR.*csc_matrix"):
            fusion_topk(ITEM, ITEM, 2, **{name: matrix})


def test_unknown_backend():
    with pytest.raises(ValueError, match=r"name.*cpu, cuda, triton, reference.*'opencl'"):
        fusionops.use_backend("opencl").__enter__()


@pytest.mark.parametrize("name", ["cuda", "triton"])
def test_backend_that_cannot_be_had(name):
    """Because it is not installed, or because the tensors are on the CPU."""
    with pytest.raises(RuntimeError, match=name), fusionops.use_backend(name):
        fusion_matrix(USER, ITEM)
    assert fusion_matrix(USER, ITEM).shape == (U, P)


def test_matrix_of_items_that_are_not_finite_names_item():
    item = ITEM.clone()
    item[1, 1] = torch.nan
    with pytest.raises(ValueError, match="item: expected finite values"):
        fusionops.fusion_matrix(USER, item, normalization="matrix")


def test_a_numpy_integer_is_a_k():
    assert fusionops.fusion_topk(USER, ITEM, np.int64(2))[1].shape == (len(USER), 2)


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16, np.longdouble])
def test_numpy_numbers_are_numbers(kind):
    half = kind(0.5)
    sides = {"user": USER, "item": ITEM}
    for function, arguments in (
        (fusion_matrix, {**sides, "normalization": "matrix", "power": half, "ridge": half}),
        (fusion_topk, {**sides, "k": 2, "eps": half}),
        (fusion_cross_entropy, {**sides, "target": TARGET, "scale": half, "label_smoothing": half}),
        (fusion_cross_entropy, {**sides, "target": TARGET, "scale": np.int64(2)}),
        (fusion_contrastive, {"user": PAIRED, "item": ITEM, "scale": half}),
    ):
        plain = {
            name: float(value) if isinstance(value, (np.floating, np.integer)) else value
            for name, value in arguments.items()
        }
        torch.testing.assert_close(function(**arguments), function(**plain), rtol=0, atol=0)
    with fusionops.ops.skip_small_gradients(half):
        pass


def test_bad_numpy_numbers_are_named():
    with pytest.raises(ValueError, match=r"eps: expected a finite number of at least 0, got -1"):
        fusion_matrix(USER, ITEM, eps=np.float32(-1))
    with pytest.raises(TypeError, match="scale: expected a number, got bool"):
        fusion_contrastive(PAIRED, ITEM, scale=np.bool_(True))


@pytest.mark.parametrize("server", ["cpu", "reference"])
def test_empty_lists_of_python(server):
    with fusionops.use_backend(server):
        found = fusion_topk(USER, ITEM, 2, exclude=([0] * (U + 1), []))
        assert torch.equal(found[1], fusion_topk(USER, ITEM, 2)[1])
        found = fusion_topk(USER, ITEM, 2, candidates=([0] * (U + 1), ()))
        assert bool((found[1] == -1).all())


def test_reversed_numpy_arrays_are_lists():
    offsets, indices = OFFSETS.numpy(), INDICES.numpy()
    backwards = offsets[::-1].copy()[::-1], indices[::-1].copy()[::-1]
    assert backwards[0].strides[0] < 0
    found = fusion_topk(USER, ITEM, 2, exclude=backwards)
    assert torch.equal(found[1], fusion_topk(USER, ITEM, 2, exclude=(OFFSETS, INDICES))[1])
