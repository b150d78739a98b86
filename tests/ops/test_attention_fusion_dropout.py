"""attention_fusion: dropout on the weights by a counter-based generator and a seed."""

from __future__ import annotations

import math

import pytest
import torch
from profile_support import Case, assert_gradients, check, gradients, kept, philox, presence
from support import DTYPES, assert_bits, name_of, normal

from fusionops import attention_fusion, reference

SHAPES = {"query": (3, 5, 8), "key": (3, 7, 8), "value": (3, 7, 6)}
SEEDS = [0, 1, 12345, 2**32 - 1, 2**32, 2**63 - 1, -1, -(2**63), -(2**40) + 3]


def case_of(dropout_p, seed, shapes=SHAPES, **fixed):
    fixed |= {"num_heads": 2, "dropout_p": dropout_p, "seed": torch.tensor(seed)}
    return Case("dropout", "attention_fusion", shapes, {**fixed, "return_weights": True})


def dropped(shape, dropout_p, seed, value=None, **options):
    """The weights of equal scores, and so 1/M where they were kept."""
    batch, heads, rows, tokens = shape
    query, key = torch.zeros(batch, rows, heads), torch.zeros(batch, tokens, heads)
    value = key if value is None else value
    return attention_fusion(
        query,
        key,
        value,
        num_heads=heads,
        dropout_p=dropout_p,
        seed=seed,
        return_weights=True,
        **options,
    )[1]


@pytest.mark.parametrize(
    ("key", "counter", "words"),
    [
        (0, 0, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        (2**64 - 1, 2**128 - 1, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    ],
)
def test_known_answers(key, counter, words):
    """Of Random123, for the definition that the rest of this file holds the operator to."""
    assert philox(key, counter) == words


@pytest.mark.parametrize("seed", SEEDS)
def test_the_reference_is_philox(seed):
    counters = [0, 1, 2, 2**31, 2**32 - 1, 2**32, 2**40 + 5, 2**62]
    found = reference.philox(torch.tensor(seed), torch.tensor(counters))
    assert found.tolist() == [philox(seed % 2**64, counter) for counter in counters]


@pytest.mark.parametrize("dropout_p", [0.0, 2**-24, 0.1, 0.5, 1 / 3, 0.999, 1.0])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 5, 7), (0, 2, 3, 4)], ids=name_of)
def test_what_the_reference_keeps(shape, dropout_p):
    for seed in SEEDS[:4]:
        found = reference.dropout_kept(shape, dropout_p, torch.tensor(seed))
        assert torch.equal(found, kept(shape, dropout_p, seed))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 1, 1, 7), (3, 2, 5, 9), (2, 1, 3, 70)])
def test_what_is_kept(shape, seed):
    """Number e of the weights, in row-major order: the words of the definition, entry by entry."""
    weights = dropped(shape, 0.4, torch.tensor(seed))
    expected = kept(shape, 0.4, seed) / (shape[-1] * (1 - 0.4))
    torch.testing.assert_close(weights, expected)
    assert torch.equal(weights != 0, expected != 0)


def test_the_threshold_is_exact():
    """A number of 24 bits is dropped below ``round(dropout_p * 2^24)``, and kept at it."""
    shape, seed = (2, 2, 5, 9), 11
    numbers = [word >> 8 for block in range(45) for word in philox(seed, block)]
    for place in (0, 1, 2, 3, 77, 178, 179):
        for step, stays in ((-1, True), (0, True), (0.4, True), (0.6, False), (1, False)):
            dropout_p = (numbers[place] + step) / 2**24
            weights = dropped(shape, dropout_p, torch.tensor(seed))
            assert bool(weights.flatten()[place] != 0) == stays
            assert torch.equal(weights != 0, kept(shape, dropout_p, seed))


@pytest.mark.parametrize("form", ["plain", "masks", "shared"])
@pytest.mark.parametrize("dropout_p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_values_and_gradients(dtype, dropout_p, form):
    """The backward drops what the forward dropped."""
    shapes, fixed = SHAPES, {}
    if form == "masks":
        fixed = {"mask": presence(3, 7), "query_mask": presence(3, 5, 1, 0)}
    if form == "shared":
        shapes = {**SHAPES, "query": (1, 5, 8)}
    case = case_of(dropout_p, 99, shapes, **fixed)
    check(case, case.leaves(dtype))


@pytest.mark.parametrize("tokens", [31, 127, 300])
def test_longer_rows(tokens):
    shapes = {"query": (2, 3, 8), "key": (2, tokens, 8), "value": (2, tokens, 6)}
    case = case_of(0.3, -5, shapes, mask=presence(2, tokens))
    check(case, case.leaves(torch.float32))


def test_without_the_weights_the_same_is_dropped():
    case = case_of(0.4, 7)
    leaves = case.leaves(torch.float32)
    fused = case(**leaves)[0]
    alone = Case("alone", case.operator, case.shapes, {**case.fixed, "return_weights": False})
    assert_bits(alone(**leaves)[0], fused)
    grads = [normal(*fused.shape, seed=9)]
    assert_gradients(alone, gradients(alone, leaves, grads), leaves, grads)


def test_a_mask_does_not_move_what_is_dropped():
    """Places count, not tokens that are present."""
    mask = presence(4, 9, 1, None)
    weights = dropped((4, 2, 3, 9), 0.4, torch.tensor(3), mask=mask)
    expected = kept((4, 2, 3, 9), 0.4, 3) & mask[:, None, None, :]
    assert torch.equal(weights != 0, expected)


@pytest.mark.parametrize("dropout_p", [0.05, 0.3, 0.8])
def test_rate(dropout_p):
    """Over all weights, and over those of each head, row and token, within 5 deviations."""
    weights = dropped((64, 2, 8, 16), dropout_p, torch.tensor(2024)) != 0
    for dims in ((0, 1, 2, 3), (0, 2, 3), (0, 1, 3), (0, 1, 2)):
        rates = weights.double().mean(dims)
        count = weights.numel() / rates.numel()
        deviation = math.sqrt(dropout_p * (1 - dropout_p) / count)
        assert float((rates - (1 - dropout_p)).abs().max()) < 5 * deviation
    other = dropped((64, 2, 8, 16), dropout_p, torch.tensor(2025)) != 0
    agree = float((weights == other).double().mean())
    chance = dropout_p**2 + (1 - dropout_p) ** 2
    assert abs(agree - chance) < 0.02


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_nothing_is_dropped_at_zero(dtype):
    leaves = case_of(0.0, 5).leaves(dtype)
    for seed in (None, torch.tensor(5)):
        found = attention_fusion(**leaves, num_heads=2, dropout_p=0.0, seed=seed)
        assert_bits(found, attention_fusion(**leaves, num_heads=2))


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_everything_is_dropped_at_one(dtype):
    """Zeros and zero gradients, not 0/0."""
    case = case_of(1.0, 5, mask=presence(3, 7))
    leaves = case.leaves(dtype)
    results = check(case, leaves)
    assert not any(result.any() for result in results)
    grads = gradients(case, leaves, [torch.ones_like(result) for result in results])
    assert not any(grad.any() for grad in grads.values())


def test_the_default_seed_follows_torch():
    leaves = case_of(0.5, 0).leaves(torch.float32)

    def call():
        return attention_fusion(**leaves, dropout_p=0.5)

    torch.manual_seed(3)
    first, second = call(), call()
    assert not torch.equal(first, second)
    torch.manual_seed(3)
    assert_bits(call(), first)
    assert_bits(call(), second)
    state = torch.get_rng_state()
    attention_fusion(**leaves, dropout_p=0.5, seed=torch.tensor(1))
    attention_fusion(**leaves)
    assert torch.equal(torch.get_rng_state(), state), "the generator moved without need"


def test_the_backward_of_the_default_seed():
    """Whatever was drawn: the gradient of the values is the weights that were returned."""
    leaves = case_of(0.5, 0).leaves(torch.float64)
    value = leaves.pop("value").requires_grad_()
    fused, weights = attention_fusion(**leaves, value=value, dropout_p=0.5, return_weights=True)
    grad = normal(*fused.shape, dtype=torch.float64, seed=9)
    torch.testing.assert_close(
        torch.autograd.grad(fused, value, grad)[0], weights.detach()[:, 0].mT @ grad
    )


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)], ids=name_of)
def test_shapes_of_the_seed(shape):
    seed = torch.full(shape, 77)
    assert_bits(dropped((2, 1, 3, 5), 0.5, seed), dropped((2, 1, 3, 5), 0.5, torch.tensor(77)))


def test_compiled_it_drops_the_same():
    """Forward and backward, by a seed that is an input; and other weights when torch draws it."""
    torch._dynamo.reset()
    case = case_of(0.4, 0)
    leaves = case.leaves(torch.float32)

    def function(seed, query, key, value):
        return attention_fusion(
            query, key, value, num_heads=2, dropout_p=0.4, seed=seed, return_weights=True
        )

    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    for seed in (5, -(2**50)):
        case = case_of(0.4, seed)
        found = compiled(torch.tensor(seed), *leaves.values())
        for ours, theirs in zip(found, case(**leaves), strict=True):
            torch.testing.assert_close(ours, theirs)
        grads = [normal(*part.shape, seed=9) for part in found]

        def call(seed=seed, **leaves):
            return compiled(torch.tensor(seed), **leaves)

        assert_gradients(case, gradients(call, leaves, grads), leaves, grads)

    drawing = torch.compile(
        lambda *sides: function(None, *sides), fullgraph=True, dynamic=True, backend="aot_eager"
    )
    value = leaves["value"].requires_grad_()
    maps = []
    for _ in range(2):
        fused, weights = drawing(leaves["query"], leaves["key"], value)
        grad = torch.ones_like(fused)
        ours = torch.autograd.grad(fused, value, grad)[0]
        expected = weights.detach().sum(2).transpose(1, 2).repeat_interleave(3, -1)
        torch.testing.assert_close(ours, expected)
        maps.append(weights.detach())
    assert not torch.equal(*maps)
    torch._dynamo.reset()
