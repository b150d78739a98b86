"""Float64 truths of the operators that fuse profiles, their error bounds, and cases for all forms.

The truths take the arguments of the public functions. They go entity by entity and look only at
what is present, with PyTorch's autograd, apart from the project's own reference, which is tested
against them too.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from support import accumulation, epsilon, moved, normal
from torch import Tensor

import fusionops

Leaves = dict[str, Tensor]
Results = tuple[Tensor, ...]

OPERATORS = ["weighted_fusion", "attention_fusion", "bidirectional_fusion", "history_fusion"]
# What autocast casts; logits and weights keep their dtype.
CAST = ("values", "tokens", "query", "key", "value", "user", "item", "user_value", "item_value")
# The mask that belongs to an argument.
MASK_OF = {
    "values": "mask",
    "logits": "mask",
    "tokens": "mask",
    "key": "mask",
    "value": "mask",
    "query": "query_mask",
    "user": "user_mask",
    "user_value": "user_mask",
    "item": "item_mask",
    "item_value": "item_mask",
}


def softmax(scores: Tensor) -> Tensor:
    """Over the last dimension; zeros where there is nothing, or nothing but -inf."""
    if scores.shape[-1] == 0:
        return scores
    peak = scores.detach().amax(-1, keepdim=True)
    nothing = peak == -torch.inf
    powers = (scores - peak.masked_fill(nothing, 0)).exp()
    return powers / powers.sum(-1, keepdim=True).masked_fill(nothing, 1)


def places(mask: Tensor | None, entity: int, count: int) -> Tensor:
    """The places in ``[0, count)`` at which a mask ``[B, count]`` or ``[count]`` is True."""
    if mask is None:
        return torch.arange(count)
    return (mask if mask.dim() == 1 else mask[entity]).nonzero()[:, 0]


def stacked(parts: list[Tensor], like: Tensor, *shape: int) -> Tensor:
    return torch.stack(parts) if parts else like.new_zeros(0, *shape)


def weighted(values: Tensor, logits: Tensor, mask: Tensor | None = None) -> Results:
    """The definition of ``weighted_fusion``."""
    batch, tokens, features = values.shape
    rows = []
    for entity in range(batch):
        there = places(mask, entity, tokens)
        own = logits if logits.dim() == 1 else logits[entity]
        rows.append(softmax(own[there]) @ values[entity, there])
    return (stacked(rows, values, features),)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    *,
    num_heads: int = 1,
    scale: float | None = None,
    dropout_p: float = 0.0,
    seed: Tensor | None = None,
    return_weights: bool = False,
    query_mask: Tensor | None = None,
) -> Results:
    """The definition of ``attention_fusion``."""
    batch, tokens, features = key.shape
    rows = query.shape[-2]
    query = query if query.dim() == 3 else query.unsqueeze(0)
    width, value_width = features // num_heads, value.shape[2] // num_heads
    scale = 1 / math.sqrt(width) if scale is None else scale
    factors = torch.ones(batch, num_heads, rows, tokens, dtype=torch.float64)
    if dropout_p > 0:
        assert seed is not None
        factors = kept(factors.shape, dropout_p, int(seed)).double()
        factors = factors / (1 - dropout_p) if dropout_p < 1 else factors * 0
    fused, weights = [], []
    for entity in range(batch):
        asking, there = places(query_mask, entity, rows), places(mask, entity, tokens)
        parts, maps = [], []
        for head in range(num_heads):
            own = slice(head * width, (head + 1) * width)
            asked = query[entity if len(query) > 1 else 0][asking, own]
            shares = softmax(scale * asked @ key[entity][there, own].T)
            full = key.new_zeros(rows, tokens)
            full = full.index_put((asking.unsqueeze(1), there.unsqueeze(0)), shares)
            full = full * factors[entity, head].to(full.dtype)
            heads = slice(head * value_width, (head + 1) * value_width)
            parts.append(full[:, there] @ value[entity][there, heads])
            maps.append(full)
        fused.append(torch.cat(parts, 1))
        weights.append(torch.stack(maps))
    result = stacked(fused, value, rows, value.shape[2])
    if not return_weights:
        return (result,)
    return result, stacked(weights, value, num_heads, rows, tokens)


def bidirectional(
    user: Tensor,
    item: Tensor,
    user_value: Tensor | None = None,
    item_value: Tensor | None = None,
    *,
    user_mask: Tensor | None = None,
    item_mask: Tensor | None = None,
    scale: float | None = None,
) -> Results:
    """The definition of ``bidirectional_fusion``."""
    user_value = user if user_value is None else user_value
    item_value = item if item_value is None else item_value
    scale = 1 / math.sqrt(user.shape[2]) if scale is None else scale
    found: tuple[list[Tensor], list[Tensor]] = ([], [])
    for entity in range(len(user)):
        left = places(user_mask, entity, user.shape[1])
        right = places(item_mask, entity, item.shape[1])
        scores = scale * user[entity, left] @ item[entity, right].T
        for out, own, summed, side, other in (
            (found[0], left, softmax(scores), user, item_value[entity, right]),
            (found[1], right, softmax(scores.T), item, user_value[entity, left]),
        ):
            blank = side.new_zeros(side.shape[1], other.shape[1])
            out.append(blank.index_put((own,), summed @ other))
    return (
        stacked(found[0], user, user.shape[1], item_value.shape[2]),
        stacked(found[1], item, item.shape[1], user_value.shape[2]),
    )


def history(
    values: Tensor,
    offsets: Tensor,
    query: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    ids: Tensor | None = None,
) -> Results:
    """The definition of ``history_fusion``."""
    bounds = offsets.tolist()
    rows = []
    for entity, (begin, end) in enumerate(itertools.pairwise(bounds)):
        own = values[begin:end] if ids is None else values[ids[begin:end].long()]
        if begin == end:
            rows.append(own.sum(0))
        elif query is not None:
            rows.append(softmax(own @ query[entity] / math.sqrt(values.shape[1])) @ own)
        elif weights is not None:
            rows.append(weights[begin:end] @ own)
        else:
            rows.append(own.mean(0))
    return (stacked(rows, values, values.shape[1]),)


TRUTHS: dict[str, Callable[..., Results]] = dict(
    zip(OPERATORS, (weighted, attention, bidirectional, history), strict=True)
)


def philox(key: int, counter: int) -> list[int]:
    """Philox4x32-10 on Python's integers: a 64-bit key, a 128-bit counter, four words out."""
    word = 0xFFFFFFFF
    c = [(counter >> 32 * i) & word for i in range(4)]
    k = [key & word, (key >> 32) & word]
    for _ in range(10):
        first, second = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(second >> 32) ^ c[1] ^ k[0], second & word, (first >> 32) ^ c[3] ^ k[1], first & word]
        k = [(k[0] + 0x9E3779B9) & word, (k[1] + 0xBB67AE85) & word]
    return c


def kept(shape: Sequence[int], dropout_p: float, seed: int) -> Tensor:
    """What a dropout keeps: number e has word ``e % 4`` of ``philox(seed, e // 4)``, 24 bits of it.

    The seed's bits are those of its two's complement.
    """
    count = math.prod(shape)
    words = [word for block in range(-(-count // 4)) for word in philox(seed % 2**64, block)]
    limit = round(dropout_p * 2**24)
    return torch.tensor([word >> 8 >= limit for word in words[:count]]).bool().reshape(*shape)


@dataclass(frozen=True)
class Case:
    """An operator with options set, as a function of its differentiable inputs alone.

    The leaf ``tokens`` is query, key and value in one. With a `device` the operator runs there, of
    leaves and with results and gradients on the CPU, where the truth is.
    """

    name: str
    operator: str
    shapes: dict[str, tuple[int, ...]]
    fixed: dict[str, Any] = field(default_factory=dict)
    device: torch.device | None = None

    def __str__(self) -> str:
        return self.name

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.shapes)

    def leaves(self, dtype: torch.dtype = torch.float64, seed: int = 0) -> Leaves:
        """Inputs in `dtype`; logits and weights in the accumulation dtype."""
        return {
            name: normal(
                *shape, dtype=dtype if name in CAST else accumulation(dtype), seed=seed + number
            )
            for number, (name, shape) in enumerate(self.shapes.items())
        }

    def arguments(self, leaves: Leaves) -> dict[str, Any]:
        given: dict[str, Any] = {**leaves, **self.fixed}
        if "tokens" in given:
            given |= dict.fromkeys(("query", "key", "value"), given.pop("tokens"))
        return given

    def __call__(self, **leaves: Tensor) -> Results:
        if self.device is not None:
            found: Results = moved(self.there()(**moved(leaves, self.device)), "cpu")
            return found
        result = getattr(fusionops, self.operator)(**self.arguments(leaves))
        return result if isinstance(result, tuple) else (result,)

    def there(self) -> Case:
        """The same for leaves that are on the device already."""
        assert self.device is not None
        return replace(self, fixed=moved(self.fixed, self.device), device=None)

    def expected(self, **leaves: Tensor) -> Results:
        return TRUTHS[self.operator](**self.arguments(leaves))

    def missing(self, name: str, leaf: Tensor) -> Tensor | None:
        """Where nothing of `leaf` is present, in its first dimensions; None without a mask."""
        mask = self.fixed.get(MASK_OF.get(name, ""))
        if mask is None:
            return None
        if name == "tokens":
            mask = mask | self.fixed["query_mask"]
        shared = leaf.dim() == 1 or (name == "query" and (leaf.dim() == 2 or len(leaf) == 1))
        if shared:
            gone = ~mask if mask.dim() == 1 else ~mask.any(0)
            return gone.unsqueeze(0) if leaf.dim() == 3 else gone
        return ~mask.expand(leaf.shape[:2])


def cotangents(results: Results, seed: int = 50) -> list[Tensor]:
    """Gradients that arrive at the results."""
    return [
        normal(*result.shape, dtype=result.dtype, seed=seed + number)
        for number, result in enumerate(results)
    ]


def gradients(function: Callable[..., Results], leaves: Leaves, grads: Sequence[Tensor]) -> Leaves:
    """The gradients of ``function(**leaves)`` with respect to all its leaves."""
    wanting = {name: leaf.detach().requires_grad_() for name, leaf in leaves.items()}
    found = torch.autograd.grad(
        function(**wanting),
        list(wanting.values()),
        grads,
        allow_unused=True,
        materialize_grads=True,
    )
    return dict(zip(wanting, found, strict=True))


def doubles(leaves: Leaves) -> Leaves:
    return {name: leaf.detach().double() for name, leaf in leaves.items()}


def longest(rows: Any) -> float:
    """The length of the longest finite row, or the largest finite number of a vector."""
    if rows is None or rows.numel() == 0:
        return 0.0
    clean = rows.detach().double().nan_to_num(0, 0, 0)
    return float(clean.norm(dim=-1).max() if clean.dim() > 1 else clean.abs().max())


@dataclass(frozen=True)
class Scales:
    """Sizes that rounding errors are proportional to."""

    logit: float  # the largest sum of absolute products that makes a logit
    terms: int  # the most summands of a result
    value: float  # the largest number that is summed
    floors: Leaves  # sizes of single terms of gradients, for what the results got from 1


def scales(case: Case, leaves: Leaves) -> Scales:
    """Of a case in float64; what is not finite counts for nothing."""
    given = case.arguments({name: x.double().nan_to_num(0, 0, 0) for name, x in leaves.items()})
    length = {name: longest(x) for name, x in given.items() if isinstance(x, Tensor)}
    drop = given.get("dropout_p", 0.0)
    drop = 1 / (1 - drop) if drop < 1 else 1.0
    if case.operator == "weighted_fusion":
        values, logits = given["values"], given["logits"]
        logit, terms = longest(logits.flatten()), values.shape[1]
        floors = {"values": 1.0, "logits": length["values"]}
    elif case.operator == "history_fusion":
        values, query, weights = given["values"], given.get("query"), given.get("weights")
        terms, root = int(given["offsets"].diff().max()), math.sqrt(max(values.shape[1], 1))
        most = 1.0 if weights is None else longest(weights)
        drop = most * max(math.sqrt(terms), 1)
        logit = 0.0 if query is None else length["values"] * length["query"] / root
        pull = length["values"] * length.get("query", 0) / root
        floors = {
            "values": most + pull,
            "weights": length["values"],
            "query": length["values"] ** 2 / root,
        }
    else:
        left, right = ("user", "item") if "user" in given else ("query", "key")
        heads = given.get("num_heads", 1)
        scale = given.get("scale") or math.sqrt(heads / max(given[left].shape[-1], 1))
        scale = abs(scale)
        sums = given[left].abs() @ given[right].abs().mT
        logit = scale * longest(sums.flatten())
        terms = max(sums.shape[-2:])
        summed = [given[name] for name in given if "value" in name] or [given[left], given[right]]
        values = torch.cat([part.flatten() for part in summed])
        reach = drop * (1 + max(longest(part) for part in summed))
        floors = {
            left: scale * reach * length[right] + drop,
            right: scale * reach * length[left] + drop,
        } | dict.fromkeys(("value", "user_value", "item_value"), drop)
        floors["tokens"] = floors[left] + floors[right] + drop
    return Scales(logit, terms, drop * longest(values.flatten()), floors)


def assert_results(case: Case, found: Results, leaves: Leaves, weights: float = 0.0) -> None:
    """`found` has the dtype of the profiles and is the truth of the `leaves`, within roundings.

    One rounding of the result, and those of the logits, the weights and the sums; `weights` is the
    unit that softmax weights are rounded to before they are multiplied, if they are.
    """
    truths = case.expected(**doubles(leaves))
    dtype = next(leaf.dtype for name, leaf in leaves.items() if name in CAST)
    sizes = scales(case, leaves)
    steps = epsilon(accumulation(dtype)) * (16 + 2 * math.sqrt(sizes.terms) + 4 * sizes.logit)
    steps += weights
    tiny = torch.finfo(dtype).smallest_normal
    assert len(found) == len(truths)
    for number, (ours, truth) in enumerate(zip(found, truths, strict=True)):
        assert ours.dtype == dtype
        assert ours.shape == truth.shape
        reach = 1.0 if case.operator == "attention_fusion" and number else max(sizes.value, 1e-30)
        limit = epsilon(dtype) * truth.abs() + steps * reach + tiny
        excess = (ours.detach().double() - truth).abs() - limit
        assert bool((excess <= 0).all()), (
            f"result {number}: {int((~(excess <= 0)).sum())} of {excess.numel()} entries are off; "
            f"worst ratio to the limit {float(((excess + limit) / limit).max()):.3g}"
        )


def assert_gradients(
    case: Case, found: Leaves, leaves: Leaves, grads: Sequence[Tensor], weights: float = 0.0
) -> None:
    """`found` are the gradients of the truth, each in the dtype of its leaf."""
    expected = gradients(case.expected, doubles(leaves), [grad.double() for grad in grads])
    sizes = scales(case, leaves)
    arrives = math.sqrt(sum(float(grad.double().norm()) ** 2 for grad in grads))
    dtype = next(leaf.dtype for name, leaf in leaves.items() if name in CAST)
    steps = epsilon(accumulation(dtype)) * (32 + 2 * math.sqrt(sizes.terms) + 4 * sizes.logit)
    steps += weights
    for name, leaf in leaves.items():
        assert found[name].dtype == leaf.dtype, name
        assert found[name].shape == leaf.shape, name
        truth = expected[name]
        size = float(truth.norm())
        error = float((found[name].double() - truth).norm())
        tiny = torch.finfo(leaf.dtype).smallest_normal * epsilon(leaf.dtype) * leaf.numel() ** 0.5
        limit = epsilon(leaf.dtype) * size + steps * (size + arrives * sizes.floors[name]) + tiny
        assert error <= limit, f"{name}: error {error:.3g} of {size:.3g}, limit {limit:.3g}"


def check(case: Case, leaves: Leaves, arrives: float = 1.0, weights: float = 0.0) -> Results:
    """Values and gradients of a case are those of its truth, for what arrives in that size."""
    found = case(**leaves)
    assert_results(case, found, leaves, weights)
    grads = [arrives * grad for grad in cotangents(found)]
    assert_gradients(case, gradients(case, leaves, grads), leaves, grads, weights)
    return found


def random_offsets(batch: int, most: int, seed: int = 0) -> Tensor:
    """Of histories of up to `most` rows, some of them empty."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, most + 1, (batch,), generator=generator)
    lengths[1::4] = 0
    if batch:
        lengths[0] = most
    return torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])


def random_ids(count: int, rows: int, seed: int = 0) -> Tensor:
    return torch.randint(0, rows, (count,), generator=torch.Generator().manual_seed(seed))


def presence(batch: int, tokens: int, seed: int = 0, nothing: int | None = -1) -> Tensor:
    """A mask ``[B, M]`` of two thirds; the entity `nothing` (the last) has nothing present."""
    mask = normal(batch, tokens, seed=seed + 100) > -0.4
    if tokens and batch:
        mask[:, seed % tokens] = True
        if nothing is not None and batch > 1:
            mask[nothing] = False
    return mask


def cases(
    batch: int = 4, rows: int = 3, tokens: int = 5, features: int = 4, table: int = 7
) -> list[Case]:
    """All forms of the differentiable operators; two heads, so `features` must be even."""
    B, Q, M, D = batch, rows, tokens, features
    both = presence(B, M, 3)
    shared = presence(1, M, 1, None)[0]
    some = {"mask": presence(B, M), "query_mask": presence(B, Q, 1, 0)}
    sides = {"query": (B, Q, D), "key": (B, M, D), "value": (B, M, 2 * D)}
    pooled = {"query": (1, D), "key": (B, M, D), "value": (B, M, D)}
    pair = {"user": (B, Q, D), "item": (B, M, D)}
    own = {"user_value": (B, Q, D + 1), "item_value": (B, M, D - 1)}
    seed = torch.tensor(-(2**62) - 12345)
    offsets = random_offsets(B, M + 1, 2)
    total = int(offsets[-1])
    ids = {"offsets": offsets, "ids": random_ids(total, table)}
    plain = {"values": (total, D)}
    listed = {"values": (table, D)}
    weighted, attention, bidirectional, history = OPERATORS
    logits = {"values": (B, M, D), "logits": (B, M)}
    drop = {"num_heads": 2, "dropout_p": 0.4, "seed": seed, "return_weights": True}
    return [
        Case("weighted", weighted, logits),
        Case("weighted-mask", weighted, logits, {"mask": presence(B, M)}),
        Case("weighted-shared", weighted, {**logits, "logits": (M,)}, {"mask": presence(B, M)}),
        Case("weighted-shared-mask", weighted, {**logits, "logits": (M,)}, {"mask": shared}),
        Case("self", attention, {"tokens": (B, M, D)}, {"mask": both, "query_mask": both}),
        Case("cross", attention, sides, {"num_heads": 2}),
        Case("cross-masks", attention, sides, {**some, "scale": 0.7, "return_weights": True}),
        Case("pooled", attention, pooled, {"mask": presence(B, M, 2)}),
        Case(
            "shared",
            attention,
            {**sides, "query": (1, Q, D)},
            {
                "num_heads": 2,
                "mask": shared,
                "return_weights": True,
                "query_mask": some["query_mask"],
            },
        ),
        Case("dropout", attention, sides, {**drop, **some}),
        Case("bidirectional", bidirectional, pair),
        Case(
            "bidirectional-masks",
            bidirectional,
            pair,
            {"user_mask": presence(B, Q, 1, 0), "item_mask": presence(B, M, 2)},
        ),
        Case(
            "bidirectional-values",
            bidirectional,
            {**pair, **own},
            {"user_mask": presence(B, Q, 2, 1), "item_mask": shared, "scale": -0.6},
        ),
        Case("history-mean", history, plain, {"offsets": offsets}),
        Case("history-weights", history, {**plain, "weights": (total,)}, {"offsets": offsets}),
        Case("history-attention", history, {**plain, "query": (B, D)}, {"offsets": offsets}),
        Case("ids-mean", history, listed, ids),
        Case("ids-weights", history, {**listed, "weights": (total,)}, ids),
        Case("ids-attention", history, {**listed, "query": (B, D)}, ids),
    ]
