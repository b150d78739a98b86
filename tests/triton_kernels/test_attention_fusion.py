"""attention_fusion in Triton: few tokens and many, heads wider than a chunk, dropout."""

from __future__ import annotations

import math

import emulator
import pytest
import torch
from profile_support import Case, check, presence
from support import assert_bits, name_of, normal
from triton_support import needs_triton, rounded, served

from fusionops import attention_fusion, reference

pytestmark = needs_triton

# Queries, tokens, features and heads: a tile's edge, past it on either side, chunks of features.
SIZES = [
    (64, 64, 8, 1),
    (33, 5, 12, 3),
    (1, 1, 1, 1),
    (65, 2, 6, 2),
    (2, 131, 10, 1),
    (70, 66, 6, 2),
    (3, 4, 134, 1),
    (3, 66, 130, 1),
]


def case_of(queries: int, tokens: int, features: int, heads: int, form: str) -> Case:
    """A case of two entities, one of which has no token at all where some are missing."""
    shapes = {
        "query": (1 if form == "shared" else 2, queries, features),
        "key": (2, tokens, features),
        "value": (2, tokens, 2 * features),
    }
    if form == "own":  # one tensor is key and value, and the query as well
        return Case("own", "attention_fusion", {"tokens": (2, tokens, features)}, {})
    fixed = {"num_heads": heads, "return_weights": form != "plain"}
    if form in ("masks", "dropout"):
        fixed |= {"mask": presence(2, tokens, 1), "query_mask": presence(2, queries, 0)}
    if form == "dropout":
        fixed |= {"dropout_p": 0.3, "seed": torch.tensor(-(2**61) - 3)}
    return Case(form, "attention_fusion", shapes, fixed)


@pytest.mark.parametrize(
    ("form", "dtype"),
    [
        ("plain", torch.float32),
        ("shared", torch.float32),
        ("dropout", torch.float32),
        ("dropout", torch.float16),
        ("own", torch.float16),
    ],
    ids=name_of,
)
@pytest.mark.parametrize("size", SIZES, ids=name_of)
def test_sizes(size, form, dtype):
    case = case_of(*size, form)
    with served("interpreted"):
        check(case, case.leaves(dtype), weights=rounded(dtype))


@pytest.mark.parametrize(
    ("size", "form", "dtype"),
    [
        ((17, 70, 18, 1), "dropout", torch.bfloat16),
        ((66, 66, 18, 1), "own", torch.float16),
        ((2, 66, 18, 1), "masks", torch.float32),
    ],
    ids=name_of,
)
def test_compiled_along_many_tokens(size, form, dtype):
    case = case_of(*size, form)
    # Triton's sums over fewer rows than there are threads are made, and written, more than once.
    with served("compiled"), emulator.checks(race=False, order="shuffled"):
        check(case, case.leaves(dtype), weights=rounded(dtype))


@pytest.mark.parametrize("special", [math.nan, math.inf])
@pytest.mark.parametrize("place", ["query", "key", "value"])
def test_an_entity_does_not_spoil_its_neighbours(place, special):
    """Entities share a tile, whose products are all made at once."""
    leaves = {name: normal(5, 3, 4, seed=i) for i, name in enumerate(("query", "key", "value"))}
    dirty = {name: leaf.clone() for name, leaf in leaves.items()}
    dirty[place][2, 1, 3] = special
    others = [0, 1, 3, 4]

    def run(given):
        wanting = {name: leaf.requires_grad_() for name, leaf in given.items()}
        fused = attention_fusion(**wanting)
        slopes = torch.autograd.grad(fused, list(wanting.values()), torch.ones_like(fused))
        return [fused.detach(), *slopes]

    with served("interpreted"):
        clean, found = run(leaves), run(dirty)
    for ours, theirs in zip(found, clean, strict=True):
        assert_bits(ours[others], theirs[others])
    assert not all(part[2].isfinite().all() for part in found)


@pytest.mark.parametrize("tokens", [5, 67])
@pytest.mark.parametrize("dropout_p", [0.25, 1.0])
def test_dropout_draws_the_references_numbers(tokens, dropout_p):
    seed = torch.tensor(2**62 + 9)
    query, tokens = normal(3, 4, 6), normal(3, tokens, 6, seed=1)
    with served("interpreted"):
        _, weights = attention_fusion(
            query, tokens, tokens, dropout_p=dropout_p, seed=seed, return_weights=True
        )
    assert (weights != 0).equal(reference.dropout_kept(weights.shape, dropout_p, seed))


@pytest.mark.parametrize("tokens", [4, 66])
@pytest.mark.parametrize(
    "wanted", [(True, False, False), (False, True, False), (False, False, True)]
)
def test_each_gradient_alone(tokens, wanted):
    query, key, value = normal(2, 3, 4), normal(2, tokens, 4, seed=1), normal(2, tokens, 4, seed=2)
    grad = normal(2, 3, 4, seed=3)
    forms = (None, None, 2, None, 0.0, None)
    operators = torch.ops.fusionops_triton
    with served("interpreted"):
        fused, _, log_sum = operators.attention_fusion(query, key, value, *forms, False)
        given = (grad, None, fused, log_sum, query, key, value, *forms)
        every = operators.attention_fusion_backward(*given, True, True, True)
        found = operators.attention_fusion_backward(*given, *wanted)
    for ours, all_, asked in zip(found, every, wanted, strict=True):
        assert_bits(ours, all_ if asked else all_[:0])


@pytest.mark.parametrize("empty", ["entities", "queries", "tokens"])
def test_empty(empty):
    sizes = {"entities": 2, "queries": 3, "tokens": 4} | {empty: 0}
    batch, rows, tokens = sizes.values()
    query = normal(batch, rows, 4).requires_grad_()
    sides = [normal(batch, tokens, 4, seed=i).requires_grad_() for i in (1, 2)]
    with served("interpreted"):
        fused = attention_fusion(query, *sides)
        slopes = torch.autograd.grad(fused.sum(), [query, *sides])
    assert fused.shape == query.shape
    assert not fused.any()
    assert not any(slope.any() for slope in slopes)
