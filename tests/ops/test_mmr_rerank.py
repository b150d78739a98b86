"""mmr_rerank: the lists of a naive loop, ties, masks, edges, threads and transforms."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from layouts import LAYOUTS
from support import DTYPES, assert_bits, name_of, normal
from torch._dynamo.testing import CompileCounterWithBackend

import fusionops
from fusionops import backend, mmr_rerank

# (U, C, D, k): ones, odd sizes, more to choose than there is, D past 256.
SIZES = [
    (1, 1, 1, 1),
    (7, 3, 31, 5),
    (31, 9, 64, 3),
    (127, 4, 7, 4),
    (7, 33, 127, 7),
    (2, 127, 300, 9),
    (3, 300, 3, 31),
    (9, 31, 1, 31),
    (1, 1000, 7, 20),
]


def cosine(left, right):
    product = sum(a * b for a, b in zip(left, right, strict=True))
    lengths = math.hypot(*left) * math.hypot(*right)
    return product / lengths if lengths else 0.0


def naive(scores, vectors, k, trade_off=0.5, mask=None):
    """The definition in Python's floats, one choice after the other."""
    rows = []
    for user, own in enumerate(scores.double().tolist()):
        allowed = [True] * len(own)
        if mask is not None:
            allowed = (mask if mask.dim() == 1 else mask[user]).tolist()
        left = [c for c, s in enumerate(own) if allowed[c] and not math.isnan(s) and s > -math.inf]
        table = vectors[user].double().tolist()
        closest = dict.fromkeys(left, 0.0)
        chosen = []
        while left and len(chosen) < k:
            best = max(left, key=lambda c: (trade_off * own[c] - (1 - trade_off) * closest[c], -c))
            left.remove(best)
            for c in left:
                near = cosine(table[c], table[best])
                closest[c] = near if not chosen else max(closest[c], near)
            chosen.append(best)
        rows.append(chosen + [-1] * (k - len(chosen)))
    return torch.tensor(rows, dtype=torch.int64).reshape(len(scores), k)


def inputs(size, dtype=torch.float64, seed=0):
    users, candidates, features = size[:3]
    scores = normal(users, candidates, dtype=dtype, seed=seed)
    return scores, normal(users, candidates, features, dtype=dtype, seed=seed + 1)


@pytest.mark.parametrize("trade_off", [0.0, 0.3, 0.5, 0.9, 1, 1.0])
@pytest.mark.parametrize("size", SIZES, ids=name_of)
def test_is_the_naive_loop(size, trade_off):
    scores, vectors = inputs(size)
    if size[2] == 1:  # all cosines are 1 or -1, up to roundings
        vectors = vectors.sign()
    found = mmr_rerank(scores, vectors, size[3], trade_off=trade_off)
    assert_bits(found, naive(scores, vectors, size[3], trade_off))
    few = scores[:3], vectors[:3]
    mask = normal(len(few[0]), size[1], seed=5) > -0.3
    for part in (mask, mask[0]):
        found = mmr_rerank(*few, size[3], trade_off=trade_off, mask=part)
        assert_bits(found, naive(*few, size[3], trade_off, part))


def gains(scores, vectors, chosen, trade_off):
    """The float64 gain of every candidate before each choice of a list, ``[places, C]``."""
    unit = torch.nn.functional.normalize(vectors.double(), dim=-1)
    relevance = trade_off * scores.double()
    closest, result = torch.zeros_like(relevance), []
    for place, best in enumerate(chosen):
        result.append(relevance - (1 - trade_off) * closest)
        near = unit @ unit[best]
        closest = near if place == 0 else torch.maximum(closest, near)
    return torch.stack(result)


@pytest.mark.parametrize("kind", DTYPES, ids=name_of)
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("size", [(7, 33, 127, 12), (3, 127, 31, 20), (5, 60, 5, 60)], ids=name_of)
def test_every_dtype(size, dtype, kind):
    """No choice is worse than the best left by more than float32 rounds."""
    scores, vectors = inputs(size)
    scores, vectors = scores.to(kind), vectors.to(dtype)
    found = mmr_rerank(scores, vectors, size[3], trade_off=0.4)
    assert found.shape == (size[0], size[3])
    for own, table, chosen in zip(scores, vectors, found.tolist(), strict=True):
        assert len(set(chosen)) == len(chosen)
        gain = gains(own, table, chosen, 0.4)
        for place, best in enumerate(chosen):
            gain[place, chosen[:place]] = -torch.inf
            assert float(gain[place].max() - gain[place, best]) < 2e-6


def test_by_hand():
    """After (1, 0): the like (1, 0.1) is worth 1.45 - 0.4975, the other (0, 1) 1.0 - 0."""
    scores = torch.tensor([[3.0, 2.9, 2.0, 0.5]])
    vectors = torch.tensor([[[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [-1.0, 0.0]]])
    assert mmr_rerank(scores, vectors, 4).tolist() == [[0, 2, 1, 3]]
    assert mmr_rerank(scores, vectors, 4, trade_off=1.0).tolist() == [[0, 1, 2, 3]]
    # By difference alone: all are equal at first, then the opposite, -1, then the two others.
    assert mmr_rerank(scores, vectors, 4, trade_off=0.0).tolist() == [[0, 3, 2, 1]]
    assert fusionops.mmr_rerank is fusionops.ops.mmr_rerank


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_ties_by_ascending_place(dtype):
    """Whole numbers and unit vectors of the axes: gains are exact, and equals abound."""
    generator = torch.Generator().manual_seed(3)
    scores = torch.randint(-2, 3, (40, 30), generator=generator).to(dtype)
    axes = torch.randint(0, 4, (40, 30), generator=generator)
    vectors = torch.nn.functional.one_hot(axes, 4).to(dtype)
    vectors = vectors * 2.0 ** torch.randint(-2, 3, (40, 30, 1), generator=generator).to(dtype)
    for trade_off in (0.0, 0.5, 1.0):
        found = mmr_rerank(scores, vectors, 30, trade_off=trade_off)
        assert_bits(found, naive(scores, vectors, 30, trade_off))
    same = mmr_rerank(torch.zeros(2, 9), torch.ones(2, 9, 3), 9)
    assert_bits(same, torch.arange(9).expand(2, 9))


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_scores_alone_are_a_stable_sort(dtype):
    scores, vectors = inputs((9, 70, 5), dtype)
    scores = (scores * 2).round()
    expected = torch.argsort(scores, dim=1, descending=True, stable=True)
    assert_bits(mmr_rerank(scores, vectors, 70, trade_off=1.0), expected)


@pytest.mark.parametrize("trade_off", [0.0, 0.5, 1.0])
def test_scores_that_are_never_chosen(trade_off):
    """NaN and -inf, whatever their vectors are; +inf comes first."""
    scores, vectors = inputs((5, 20, 6))
    scores[:, 3], scores[:, 4], scores[4] = torch.nan, -torch.inf, torch.nan
    expected = naive(scores, vectors, 20, trade_off)
    assert_bits(mmr_rerank(scores, vectors, 20, trade_off=trade_off), expected)
    assert (expected[4] == -1).all()
    assert (expected[:4, 18:] == -1).all()
    for special in (torch.nan, torch.inf):
        vectors[:, 3:5] = special
        assert_bits(mmr_rerank(scores, vectors, 20, trade_off=trade_off), expected)
    if trade_off:
        scores[0, 9] = torch.inf
        assert mmr_rerank(scores, vectors, 20, trade_off=trade_off)[0, 0] == 9


@pytest.mark.parametrize("special", [math.nan, math.inf, -math.inf, 1e30])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=name_of)
def test_masked_places_are_not_read(dtype, special):
    scores, vectors = inputs((7, 20, 6), dtype)
    mask = normal(7, 20, seed=5) > -0.3
    mask[3] = False
    expected = mmr_rerank(scores, vectors, 20, mask=mask)
    assert (expected[3] == -1).all()
    assert_bits((expected >= 0).sum(1), mask.sum(1))
    scores[~mask] = special
    vectors[~mask] = special
    assert_bits(mmr_rerank(scores, vectors, 20, mask=mask), expected)


def test_zero_vectors_have_cosine_zero():
    scores, vectors = inputs((5, 20, 6))
    vectors[:, ::3] = 0
    for trade_off in (0.0, 0.5):
        found = mmr_rerank(scores, vectors, 20, trade_off=trade_off)
        assert_bits(found, naive(scores, vectors, 20, trade_off))
    # A zero vector is farther than anything on the same side, and nearer than the opposite.
    vectors = torch.tensor([[[1.0], [2.0], [0.0], [-3.0]]])
    assert mmr_rerank(torch.zeros(1, 4), vectors, 4, trade_off=0.0).tolist() == [[0, 3, 2, 1]]


@pytest.mark.parametrize("size", [1e-15, 1e15, 1e-140, 1e140])
def test_lengths_do_not_matter(size):
    dtype = torch.float32 if 1e-30 < size < 1e30 else torch.float64
    scores, vectors = inputs((5, 20, 6))
    expected = naive(scores, vectors, 10, 0.3)
    sizes = size * (1 + torch.arange(20).double().unsqueeze(1))
    found = mmr_rerank(scores.to(dtype), (vectors * sizes).to(dtype), 10, trade_off=0.3)
    assert_bits(found, expected)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("size", [(0, 5, 3), (4, 0, 3), (4, 5, 0), (0, 0, 0)], ids=name_of)
def test_empty(size, dtype, masked):
    scores, vectors = inputs(size, dtype)
    mask = torch.ones(size[:2], dtype=torch.bool) if masked else None
    found = mmr_rerank(scores, vectors, 7, trade_off=1.0, mask=mask)
    assert found.dtype == torch.int64
    assert found.shape == (size[0], 7)
    assert_bits(found, naive(scores, vectors, 7, 1.0))


def test_numbers_that_require_a_gradient():
    """The list has none, and asks for none."""
    scores, vectors = (part.requires_grad_() for part in inputs((4, 9, 3)))
    found = mmr_rerank(scores, vectors, 5)
    assert not found.requires_grad
    assert_bits(found, mmr_rerank(scores.detach(), vectors.detach(), 5))
    chosen = torch.func.grad(lambda s: s.gather(1, mmr_rerank(s, vectors.detach(), 5)).sum())
    assert int(chosen(scores.detach()).sum()) == 20


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=name_of)
def test_strides(dtype, layout):
    """Expanded scores meet distinct vectors, and the reverse: no rounding decides a tie."""
    plain, mask = inputs((7, 31, 6), dtype), normal(7, 31, seed=5) > -0.3
    masks = mask, mask.T.contiguous().T, mask[0], mask[:1].expand(7, 31)
    one_too_many = torch.stack([layout(plain[1]), plain[1]], 1)[:, 0]
    for number, scores, vectors in (
        (0, layout(plain[0]), plain[1]),
        (1, plain[0], layout(plain[1])),
        (2, plain[0], one_too_many),
        (3, plain[0].T.contiguous().T, plain[1].movedim(0, 2).contiguous().movedim(2, 0)),
    ):
        form = masks[number]
        expected = mmr_rerank(scores.contiguous(), vectors.contiguous(), 9, mask=form.contiguous())
        assert_bits(mmr_rerank(scores, vectors, 9, mask=form), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=name_of)
@pytest.mark.parametrize("size", [(200, 40, 33), (1, 5000, 40), (3, 300, 300)], ids=name_of)
def test_threads(size, dtype):
    scores, vectors = inputs(size, dtype)
    expected = mmr_rerank(scores, vectors, 20)
    for threads in (2, 3):
        torch.set_num_threads(threads)
        assert_bits(mmr_rerank(scores, vectors, 20), expected)


def test_users_do_not_depend_on_their_company():
    scores, vectors = inputs((40, 50, 33), torch.float32)
    expected = mmr_rerank(scores, vectors, 20)
    for rows in (slice(0, 1), slice(7, 9), slice(11, 40)):
        assert_bits(mmr_rerank(scores[rows], vectors[rows], 20), expected[rows])


@pytest.mark.parametrize("server", ["kernels", "composition", "reference"])
def test_every_server(server, monkeypatch):
    monkeypatch.setattr(backend, "serving", lambda *_: server)
    for size in SIZES[:6]:
        scores, vectors = inputs(size)
        scores[:, ::5] = torch.nan
        mask = normal(*size[:2], seed=5) > -0.5
        found = mmr_rerank(scores, vectors, size[3], trade_off=0.3, mask=mask)
        assert_bits(found, naive(scores, vectors, size[3], 0.3, mask))


@pytest.mark.parametrize("dims", [(0, 0, 0), (None, 0, None), (0, None, None), (None, None, 0)])
def test_vmap(dims):
    scores, vectors = inputs((4, 9, 3))
    mask = normal(4, 9, seed=5) > -0.5
    samples = [
        torch.stack([part, part.flip(0), part.flip(1)]) if dim == 0 else part
        for part, dim in zip((scores, vectors, mask), dims, strict=True)
    ]

    def function(scores, vectors, mask):
        return mmr_rerank(scores, vectors, 5, mask=mask)

    found = torch.func.vmap(function, in_dims=dims)(*samples)
    for index in range(3):
        row = [part[index] if dim == 0 else part for part, dim in zip(samples, dims, strict=True)]
        assert_bits(found[index], function(*row))


def test_compile_with_dynamic_shapes():
    torch._dynamo.reset()

    def function(scores, vectors, mask):
        return mmr_rerank(scores.exp(), vectors, 6, trade_off=0.3, mask=mask) + 1

    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend=counter)
    for size in ((5, 20, 4), (8, 31, 7), (3, 50, 9)):
        scores, vectors = inputs(size)
        mask = normal(*size[:2], seed=5) > -0.5
        arguments = scores.requires_grad_(), vectors, mask
        assert_bits(compiled(*arguments), function(*arguments))
    assert counter.frame_count == 1
    torch._dynamo.reset()


def test_autocast_and_meta():
    """Scores are read as they are: 1.001 and 1.002, which bfloat16 does not tell apart."""
    scores, vectors = torch.tensor([[1.001, 1.002]]), torch.ones(1, 2, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert mmr_rerank(scores, vectors, 2, trade_off=1.0).tolist() == [[1, 0]]
    found = mmr_rerank(*(part.to("meta") for part in inputs((4, 9, 3))), 12)
    assert found.device.type == "meta"
    assert (found.shape, found.dtype) == ((4, 12), torch.int64)


@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 40), st.integers(1, 40)),
    k=st.integers(1, 50),
    trade_off=st.sampled_from([0.0, 0.25, 0.7, 1.0]),
    masked=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_shape(size, k, trade_off, masked, seed):
    scores, vectors = inputs(size, seed=seed)
    mask = normal(*size[:2], seed=seed + 5) > 0 if masked else None
    found = mmr_rerank(scores, vectors, k, trade_off=trade_off, mask=mask)
    # Of one feature all cosines are 1 or -1 up to roundings, which may decide; distinct scores
    # decide instead unless they do not count.
    if trade_off > 0 or size[2] > 1:
        assert_bits(found, naive(scores, vectors, k, trade_off, mask))
