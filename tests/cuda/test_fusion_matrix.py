"""fusion_matrix in CUDA C++, emulated: every tile and every way rows are read, against float64."""

from __future__ import annotations

import emulator
import pytest
import torch
from emulator import cuda
from layouts import LAYOUTS
from support import assert_bits, assert_within, bound, epsilon, inputs, name_of, normal

from fusionops import fusion_matrix, reference

pytestmark = pytest.mark.skipif(emulator.missing() is not None, reason=str(emulator.missing()))

FLOATS = [torch.float32, torch.bfloat16, torch.float16]
# (B, U, P, D). D stays in the ring of users or streams through it; rows begin at multiples of 16,
# 8, 4 and fewer bytes; tiles cut short on either side, and slabs too.
SMALL = [
    (1, 1, 1, 1),
    (2, 7, 31, 3),
    (1, 33, 127, 64),
    (3, 31, 33, 100),
    (1, 7, 200, 130),
    (1, 33, 5, 321),
]
# The fewest tiles that are worth large ones: 128 of 128 x 128 (64 x 128 in float32).
LARGE = [(9, 385, 400, 20), (128, 33, 31, 72)]
EMPTY = [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)]


@pytest.fixture(autouse=True, scope="module")
def emulated():
    with cuda.mode():
        yield


def sides(shape, dtype):
    batch, users, items, features = shape
    user = normal(batch, users, features, dtype=dtype)
    return user, normal(batch, items, features, dtype=dtype, seed=1)


def scores(*args):
    return torch.ops.fusionops_emulated.fusion_matrix(*args)


def check(found, user, item, dtype=None, user_scale=None, item_scale=None, relative=None):
    """`found` is the scaled product: one rounding to its dtype, and the sums'."""
    truth = user.double() @ item.double().mT
    sizes = user.double().abs() @ item.double().abs().mT
    for scale, dim in ((user_scale, -1), (item_scale, -2)):
        if scale is not None:
            factor = scale.double().unsqueeze(dim)
            truth, sizes = truth * factor, sizes * factor.abs()
    sums = relative or epsilon(torch.float64 if user.dtype == torch.float64 else torch.float32)
    assert found.dtype == (dtype or item.dtype)
    rounding = epsilon(found.dtype) * truth.abs() + torch.finfo(found.dtype).smallest_normal
    assert_within(found, truth, rounding + sums * (4 + user.shape[-1] ** 0.5) * sizes)


@pytest.mark.parametrize("dtype", [torch.float64, *FLOATS], ids=name_of)
@pytest.mark.parametrize("shape", [*SMALL, *LARGE], ids=name_of)
def test_values(shape, dtype):
    user, item = sides(shape, dtype)
    check(scores(user, item, None, None, None), user, item)


@pytest.mark.parametrize("order", ["forward", "shuffled"])
@pytest.mark.parametrize("dtype", [torch.float64, *FLOATS], ids=name_of)
@pytest.mark.parametrize("shape", [(2, 33, 140, 70), (9, 257, 385, 9)], ids=name_of)
def test_checked(shape, dtype, order):
    """No race, no byte that nobody wrote, no access outside the tensors, in any order."""
    user, item = sides(shape, dtype)
    batch, users, items, _ = shape
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    scales = normal(batch, users, dtype=wide, seed=2), normal(batch, items, dtype=wide, seed=3)
    with emulator.checks(order=order), emulator.guarded(user, item, *scales):
        found = scores(user, item, *scales, dtype)
    check(found, user, item, None, *scales)


@pytest.mark.parametrize("out", FLOATS, ids=name_of)
@pytest.mark.parametrize("dtype", FLOATS, ids=name_of)
@pytest.mark.parametrize("items", [31, 32, 34])
def test_dtype_of_the_result(items, dtype, out):
    """Rows of the result that begin at whole vectors, at halves of them, and anywhere."""
    user, item = sides((2, 5, items, 24), dtype)
    check(scores(user, item, None, None, out), user, item, out)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=name_of)
def test_sides_of_two_dtypes(dtype):
    """A gradient in float32 against a side in half precision, as backward passes have them."""
    user, item = sides((2, 5, 9, 24), torch.float32)
    check(scores(user, item.to(dtype), None, None, torch.float32), user, item.to(dtype), user.dtype)
    check(scores(user.to(dtype), item, None, None, torch.float32), user.to(dtype), item)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("dtype", [torch.float64, *FLOATS], ids=name_of)
def test_layouts(dtype, layout):
    """The same bits as of a contiguous copy."""
    user, item = (layout(side) for side in sides((2, 9, 39, 48), dtype))
    with emulator.guarded(user, item):
        found = scores(user, item, None, None, None)
    assert_bits(found, scores(user.contiguous(), item.contiguous(), None, None, None))


@pytest.mark.parametrize("dtype", FLOATS, ids=name_of)
@pytest.mark.parametrize("shift", range(9))
def test_alignment(shift, dtype):
    """Rows that begin anywhere in memory."""
    user, item = sides((1, 5, 37, 40), dtype)
    storage = torch.full((shift + 37 * 40,), torch.nan, dtype=dtype)
    moved = storage[shift:].view(1, 37, 40).copy_(item)
    with emulator.guarded(user, moved):
        found = scores(user, moved, None, None, None)
    assert_bits(found, scores(user, item, None, None, None))


@pytest.mark.parametrize("dtype", FLOATS, ids=name_of)
def test_a_score_has_the_same_bits_in_any_tile(dtype):
    user, item = sides((1, 1100, 1100, 20), dtype)
    whole = scores(user, item, None, None, torch.float32)
    rows, columns = slice(130, 150), slice(77, 300)
    part = scores(user[:, rows], item[:, columns], None, None, torch.float32)
    assert_bits(part, whole[:, rows, columns])


@pytest.mark.parametrize("dtype", [torch.float64, *FLOATS], ids=name_of)
@pytest.mark.parametrize("shape", EMPTY, ids=name_of)
def test_empty(shape, dtype):
    user, item = sides(shape, dtype)
    found = scores(user, item, None, None, None)
    assert found.shape == (shape[0], *shape[1:3])
    assert not found.any()


@pytest.mark.parametrize("dtype", FLOATS, ids=name_of)
def test_nan_stays_in_its_rows(dtype):
    user, item = sides((1, 40, 70, 9), dtype)
    clean = scores(user, item, None, None, None)
    user[0, 2, 3], item[0, 17, 0] = torch.nan, torch.inf
    found = scores(user, item, None, None, None)
    rows = [row for row in range(40) if row != 2]
    columns = [column for column in range(70) if column != 17]
    assert found[0, 2].isnan().all()
    assert_bits(found[0][rows][:, columns], clean[0][rows][:, columns])


@pytest.mark.parametrize("order", ["forward", "shuffled"])
@pytest.mark.parametrize("shape", [(1, 33, 127, 64), (2, 7, 31, 3), (128, 33, 31, 40)], ids=name_of)
def test_tf32(shape, order):
    """The operator that may round float32 to the 11 bits of tf32 does."""
    user, item = sides(shape, torch.float32)
    with emulator.checks(order=order), emulator.guarded(user, item):
        found = torch.ops.fusionops_emulated.fusion_matrix_tf32(user, item, None, None, None)
    assert not torch.equal(found, scores(user, item, None, None, None))
    check(found, user, item, relative=2.0**-11)


def test_tf32_is_rounded_not_cut():
    """To the nearest of 10 bits of mantissa, away from zero between two, on both sides."""
    near, between = 1 + 3 * 2.0**-12, -(1 + 2.0**-11)
    whole, rough = torch.tensor([[[1.0]]]), torch.tensor([[[near], [between], [1 + 2.0**-12]]])
    rounded = [1 + 2.0**-10, -(1 + 2.0**-10), 1.0]
    product = torch.ops.fusionops_emulated.fusion_matrix_tf32
    assert product(whole, rough, None, None, None).flatten().tolist() == rounded
    assert product(rough, whole, None, None, None).flatten().tolist() == rounded


@pytest.fixture
def allow_tf32():
    torch.backends.cuda.matmul.allow_tf32 = True
    yield
    torch.backends.cuda.matmul.allow_tf32 = False


def test_tf32_where_pytorch_allows_it(allow_tf32):
    user, item = normal(5, 40), normal(9, 40, seed=1)
    one_batch = user[None], item[None], None, None, None
    rounded = torch.ops.fusionops_emulated.fusion_matrix_tf32(*one_batch)[0]
    assert not torch.equal(rounded, scores(*one_batch)[0])
    assert_bits(fusion_matrix(user, item, normalization="none"), rounded)


@pytest.mark.parametrize("normalization", ["diagonal", "matrix", "cosine", "none"])
@pytest.mark.parametrize("dtype", FLOATS, ids=name_of)
def test_public_function(dtype, normalization):
    user, item = inputs((9, 41, 12), dtype)
    leaves = user.requires_grad_(), item.requires_grad_()
    found = fusion_matrix(*leaves, normalization=normalization)
    truth = reference.fusion_matrix(user.double(), item.double(), normalization=normalization)
    assert_within(found, truth, bound(user, item, normalization=normalization))
    grad = normal(9, 41, dtype=dtype, seed=5)
    wide = [leaf.detach().double().requires_grad_() for leaf in leaves]
    expected = torch.autograd.grad(
        reference.fusion_matrix(*wide, normalization=normalization), wide, grad.double()
    )
    for ours, exact in zip(torch.autograd.grad(found, leaves, grad), expected, strict=True):
        error = float((ours.double() - exact).norm())
        assert error <= (epsilon(dtype) + 16 * epsilon(torch.float32)) * float(exact.norm())


def test_the_row_of_a_large_stride():
    """Offsets past 2^31 bytes, in memory that nothing else touches."""
    apart = 2**30 + 8
    storage = torch.empty(2 * apart + 8, dtype=torch.float16)
    item = storage.as_strided((1, 3, 4), (0, apart, 1))
    item.copy_(torch.tensor([[[1.0, 0, 0, 0], [3.0, 4, 0, 0], [0, 0, 5, 0]]]))
    user = torch.tensor([[[1.0, 2, 3, 0]]], dtype=torch.float16)
    assert scores(user, item, None, None, None).tolist() == [[[1, 11, 15]]]
