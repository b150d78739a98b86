"""What catalogues are built from: arrays, memory maps, tensors and streams."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusionops.catalog import Catalog

DTYPES = ["float32", "bfloat16", "int8"]
BIG = np.random.default_rng(4).normal(size=(40_000, 70)).astype(np.float32)  # several blocks


def chunks(vectors, sizes):
    at = 0
    for size in sizes:
        yield vectors[at : at + size]
        at += size


def assert_same(catalog, expected, users):
    for found, wanted in zip(catalog.search(users, 9), expected.search(users, 9), strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("to_file", [False, True])
@pytest.mark.parametrize("normalization", ["diagonal", "matrix"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_stream_is_the_same_as_its_array(tmp_path, dtype, normalization, to_file):
    if to_file and dtype == "float32":
        with pytest.raises(ValueError, match="path: expected none with dtype='float32'"):
            Catalog.build(BIG, dtype=dtype, path=tmp_path / "x.npy")
        return
    path = tmp_path / "vectors.npy" if to_file else None
    stream = chunks(BIG, [0, 1, 31, 33_000, 5, 0, 6_963])
    catalog = Catalog.build(stream, dtype=dtype, normalization=normalization, path=path)
    expected = Catalog.build(BIG, dtype=dtype, normalization=normalization)
    assert_same(catalog, expected, BIG[:5])
    if to_file:
        np.testing.assert_array_equal(np.load(path), BIG)


def test_float32_arrays_are_kept_and_not_copied(tmp_path):
    np.save(tmp_path / "v.npy", BIG)
    mapped = np.load(tmp_path / "v.npy", mmap_mode="r")
    for vectors in (BIG, mapped, torch.from_numpy(BIG), BIG.T.copy().T):
        catalog = Catalog.build(vectors, dtype="int8")
        kept = catalog._snapshot.parts[0].segment.vectors.whole()
        assert np.shares_memory(kept, np.asarray(vectors))
        # What lies in a file is not to be merged into memory.
        assert catalog._snapshot.parts[0].segment.pinned == isinstance(vectors, np.memmap)
        assert_same(catalog, Catalog.build(BIG), BIG[:3])


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64, torch.int8])
def test_tensors_of_other_dtypes_are_converted(kind):
    tensor = (torch.from_numpy(BIG[:500]) * 3).to(kind)
    catalog = Catalog.build(tensor, dtype="int8")
    user = torch.ones(1, 70, dtype=kind, requires_grad=kind.is_floating_point)
    expected = Catalog.build(tensor.float().numpy(), dtype="int8")
    np.testing.assert_array_equal(
        catalog.search(user, 9)[1], expected.search(np.ones((1, 70)), 9)[1]
    )


@pytest.mark.parametrize(
    "kind", [torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16, torch.float32, torch.int64]
)
def test_lists_of_tensors_are_taken_as_their_rows(kind):
    rows = torch.tensor([[1.0, 2.0], [2.0, 4.0], [4.0, 0.5]]).to(kind)
    if kind.is_floating_point and kind.itemsize > 1:
        rows.requires_grad_()
    expected = Catalog.build(rows.detach().float().numpy()).vectors([0, 1, 2])
    for vectors in (rows, list(rows)):
        np.testing.assert_array_equal(Catalog.build(vectors).vectors([0, 1, 2]), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_items_no_features_no_users(dtype):
    none = Catalog.build(iter([np.zeros((0, 3))]), dtype=dtype)
    assert none.search(np.ones((2, 3)), 1)[1].tolist() == [[-1], [-1]]
    assert none.search(np.ones((0, 3)), 4)[0].shape == (0, 4)
    narrow = Catalog.build(np.zeros((3, 0)), dtype=dtype)
    scores, ids = narrow.search(np.zeros((1, 0)), 4)
    assert ids.tolist() == [[0, 1, 2, -1]]
    assert scores[0, :3].tolist() == [0, 0, 0]
    empty = Catalog.build(np.zeros((0, 3)), dtype=dtype)
    empty.add(np.eye(3), ["a", "b", "c"])
    assert empty.search(np.eye(3), 1)[1].tolist() == [["a"], ["b"], ["c"]]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Catalog.build(iter([])), ValueError, "expected at least one chunk"),
        (
            lambda: Catalog.build(iter([np.eye(3), np.eye(2)])),
            ValueError,
            "expected chunks of width 3 as the first, got 2 in chunk 1",
        ),
        (lambda: Catalog.build(iter([np.ones(3)])), ValueError, "chunk 0: expected 2 dimensions"),
        (lambda: Catalog.build(iter([np.eye(3)]), [1]), ValueError, "ids: expected 3, one a vec"),
        (lambda: Catalog.build(np.eye(3), dtype="int4"), ValueError, "dtype: expected one of"),
        (lambda: Catalog.build(np.eye(3) > 0), TypeError, "vectors: expected numbers"),
        (lambda: Catalog.build([[1, 2], [3]]), ValueError, "vectors: expected an array, or rows"),
        (lambda: Catalog.build([np.eye(3), np.ones((1, 3))]), ValueError, "vectors: expected an a"),
        (lambda: Catalog.build(torch.eye(3) * 1j), TypeError, "vectors: expected numbers, got dt"),
        (
            lambda: Catalog.build(
                torch.zeros(2, 3, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
            ),
            TypeError,
            "vectors: expected numbers, got dtype torch.float4",
        ),
        (lambda: Catalog.build([[object()]]), TypeError, "vectors: expected numbers"),
        (lambda: Catalog.build(np.eye(3)).search([[1, 2, 3], [3]], 1), ValueError, "user: expect"),
        (lambda: Catalog.build(torch.eye(3).to_sparse()), TypeError, "expected a dense tensor"),
        (
            lambda: Catalog.build(np.full((3, 3), np.nan), normalization="matrix"),
            ValueError,
            "vectors: expected finite values",
        ),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize(
    ("chunks", "keywords", "message"),
    [
        ([np.eye(3), np.eye(2)], {}, "chunk 1"),
        ([np.eye(3)], {"ids": [1]}, "ids: expected 3, one a vector"),
        ([np.eye(3)], {"ids": [1, 2, 1]}, "ids: expected unique ids"),
        ([np.full((3, 3), np.nan)], {"normalization": "matrix"}, "expected finite values"),
    ],
)
def test_a_failed_build_leaves_the_file_alone(tmp_path, chunks, keywords, message, exists):
    path = tmp_path / "v.npy"
    if exists:
        path.write_bytes(b"old")
    with pytest.raises(ValueError, match=message):
        Catalog.build(iter(chunks), dtype="int8", path=path, **keywords)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"old"] * exists
