"""Inputs, float64 truths and error bounds for the tests of the operators."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import fusionops
from fusionops import reference

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
NORMALIZATIONS = ["diagonal", "matrix", "cosine", "none"]
OPERATORS = ["fusion_matrix", "fusion_recommend", "fusion_topk"]

# (U, P, D): ones, odd sizes around vector widths and tiles, D past 256, P past a split of top-k.
SHAPES = [
    (1, 1, 1),
    (7, 31, 1),
    (31, 7, 127),
    (1, 127, 31),
    (127, 1, 7),
    (127, 127, 31),
    (31, 127, 127),
    (7, 31, 300),
    (5, 129, 513),
    (3, 4500, 31),
    (7, 9001, 7),
]


def name_of(value: object) -> str:
    """Short test ids: ``bfloat16``, ``3x4500x31``."""
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return str(value)


def normal(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    """Standard normal numbers, the same for every dtype up to rounding."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def conditioned(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    """Vectors of unit variance whose singular values lie in ``[1, 2]`` up to one scale.

    Of any shape, so that the powers of their Gram matrix are well determined in every dtype.
    """
    rows, columns = shape[-2:]
    rank = min(rows, columns)
    if 0 in shape:
        return normal(*shape, dtype=dtype, seed=seed)
    tall, _ = torch.linalg.qr(normal(*shape[:-2], rows, rank, dtype=torch.float64, seed=seed))
    wide, _ = torch.linalg.qr(
        normal(*shape[:-2], columns, rank, dtype=torch.float64, seed=seed + 1)
    )
    spectrum = torch.linspace(1, 2, rank, dtype=torch.float64)
    return ((tall * spectrum) @ wide.mT * math.sqrt(max(rows, columns)) / 1.5).to(dtype)


def inputs(shape: tuple[int, int, int], dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A user and an item side for ``(U, P, D)``."""
    users, items, features = shape
    return (
        normal(users, features, dtype=dtype, seed=seed),
        conditioned(items, features, dtype=dtype, seed=seed + 10),
    )


def moved(value: Any, device: str | torch.device) -> Any:
    """`value`, with all tensors in its tuples and dictionaries on `device`."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {name: moved(part, device) for name, part in value.items()}
    return tuple(moved(part, device) for part in value) if isinstance(value, tuple) else value


def accumulation(dtype: torch.dtype) -> torch.dtype:
    """The dtype of sums, and of the scores of top-k."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def epsilon(dtype: torch.dtype) -> float:
    return float(torch.finfo(dtype).eps)


def magnitude(user: Tensor, item: Tensor, **norm: Any) -> Tensor:
    """What rounding errors of ``F`` are proportional to, ``[*, U, P]`` in float64.

    The sum of the absolute products where the normalisation is a scale; with the matrix power the
    lengths of the two vectors, as every entry of ``W`` mixes with every other.
    """
    user, item = user.double(), item.double()
    if norm.get("normalization") != "matrix":
        products = user.abs() @ item.abs().mT
        eps = norm.get("eps", 0.0)
        if norm["normalization"] in ("diagonal", "cosine"):
            products = products * reference.inverse_norm(item, eps).unsqueeze(-2)
        if norm["normalization"] == "cosine":
            products = products * reference.inverse_norm(user, eps).unsqueeze(-1)
        return products
    power, ridge = norm.get("power", 0.5), norm.get("ridge", 0.0)
    if 0 in item.shape:
        return user @ item.mT
    gram = reference.gram_power(item.mT @ item, power, ridge, item.shape[-2])
    largest = torch.linalg.matrix_norm(gram, ord=2)[..., None, None]
    return user.norm(dim=-1).unsqueeze(-1) * largest * item.norm(dim=-1).unsqueeze(-2)


def bound(user: Tensor, item: Tensor, dtype: torch.dtype | None = None, **norm: Any) -> Tensor:
    """Largest error of ``F`` that correct code makes: one rounding of the result, and its sums."""
    truth = reference.fusion_matrix(user.double(), item.double(), **norm)
    terms = math.sqrt(user.shape[-1])
    if norm.get("normalization") == "matrix":
        terms += math.sqrt(item.shape[-2])  # of the Gram matrix
    sums = epsilon(accumulation(user.dtype)) * (4 + terms)
    tiny = torch.finfo(dtype or user.dtype).smallest_normal
    return epsilon(dtype or user.dtype) * truth.abs() + sums * magnitude(user, item, **norm) + tiny


def assert_within(result: Tensor, truth: Tensor, limit: Tensor | float) -> None:
    """Every entry of `result` is within its `limit` of the float64 `truth`."""
    assert result.shape == truth.shape
    error = (result.double() - truth).abs()
    excess = error - limit
    assert bool((excess <= 0).all()), (
        f"{int((~(excess <= 0)).sum())} of {excess.numel()} entries are off; "
        f"worst ratio to the limit {float((error / limit).max()):.3g}"
    )


def assert_bits(left: Tensor, right: Tensor) -> None:
    """The same dtype, shape and values, bit for bit (zeros of either sign are equal)."""
    assert left.dtype == right.dtype
    assert left.shape == right.shape
    assert torch.equal(left, right)


def assert_topk(
    found: tuple[Tensor, Tensor], scores: Tensor, k: int, limit: Tensor | float
) -> None:
    """`found` is a top-k list of the float64 `scores` ``[U, P]``, each known within `limit`.

    An item that may not be listed has score -inf.
    """
    values, indices = found
    users, items = scores.shape
    assert values.shape == indices.shape == (users, k)
    assert indices.dtype == torch.int64
    limit = torch.as_tensor(limit, dtype=torch.float64).expand_as(scores)
    listed = indices >= 0
    lengths = (scores > -torch.inf).sum(-1).clamp(max=k)
    assert torch.equal(listed, torch.arange(k) < lengths.unsqueeze(-1)), "wrong list lengths"
    assert bool((indices[~listed] == -1).all())
    assert bool((values[~listed] == -torch.inf).all())
    if items == 0:
        return
    spot = indices.clamp_min(0)
    assert_within(values[listed], scores.gather(1, spot)[listed], limit.gather(1, spot)[listed])
    # Descending, equal scores by ascending index, so no index twice either.
    ordered = (values[:, :-1] > values[:, 1:]) | (
        (values[:, :-1] == values[:, 1:]) & (indices[:, :-1] < indices[:, 1:])
    )
    assert bool((ordered | ~listed[:, 1:]).all()), "not sorted by score, then by index"
    # Nothing that was left out is better than the last of a full list.
    rest = (scores - limit).scatter(1, spot, -torch.inf) if k else scores - limit
    full = lengths == k
    last = values[:, -1].double()
    slack = limit.gather(1, spot)[:, -1]
    assert bool((rest.amax(-1)[full] <= (last + slack)[full]).all()), "a better item was left out"


def scores_of(
    operator: str, user: Tensor, item: Tensor, values: Tensor, k: int = 5, **norm: Any
) -> Tensor:
    """The floating result of any of the three operators, for rules that hold for all."""
    if operator == "fusion_matrix":
        return fusionops.fusion_matrix(user, item, **norm)
    if operator == "fusion_recommend":
        return fusionops.fusion_recommend(user, item, values, **norm)
    return fusionops.fusion_topk(user, item, k, **norm)[0]


def assert_gradients(
    found: Sequence[Tensor], function: Callable[..., Tensor], grad: Tensor, *leaves: Tensor
) -> None:
    """`found` are the gradients of ``function(*leaves)`` as float64 autograd has them."""
    truths = [leaf.detach().double().requires_grad_() for leaf in leaves]
    expected = torch.autograd.grad(function(*truths), truths, grad.double())
    # A rounding of each of the terms, by the vector and by its scale; the rest is of the sums.
    tolerance = epsilon(leaves[0].dtype) + 16 * epsilon(accumulation(leaves[0].dtype))
    for ours, truth, leaf in zip(found, expected, leaves, strict=True):
        assert ours.dtype == leaf.dtype
        size = float(truth.norm())
        if leaf.shape[-1] == 1:
            # The normalisation of one number leaves its sign: the gradient is what two equal
            # terms leave of each other, so it is measured by such a term.
            size += float(
                grad.double().norm()
                * truths[0].detach().abs().max()
                / leaf.detach().double().abs().min()
            )
        difference = float((ours.double() - truth).norm())
        assert difference <= tolerance * size, f"relative error {difference / (size or 1):.3g}"


def random_lists(users: int, items: int, most: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Ragged lists ``(offsets, indices)`` of up to `most` items, some empty, unsorted, repeated."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, most + 1, (users,), generator=generator)
    lengths[::3] = 0
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    return offsets, torch.randint(0, items, (int(offsets[-1]),), generator=generator)


def listed(lists: tuple[Tensor, Tensor], users: int, items: int) -> Tensor:
    """A mask ``[users, items]`` of the pairs in ragged lists, row by row."""
    mask = torch.zeros(users, items, dtype=torch.bool)
    bounds, indices = lists[0].tolist(), lists[1].tolist()
    for user in range(users):
        for position in range(bounds[user], bounds[user + 1]):
            mask[user, indices[position]] = True
    return mask


class Recorder(TorchDispatchMode):
    """Keeps the calls of native operators, with copies of their arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, list[Any]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace.startswith("fusionops"):
            assert not kwargs  # schemas are positional only
            self.calls.append(
                (func, [x.detach().clone() if isinstance(x, Tensor) else x for x in args])
            )
        return func(*args, **kwargs or {})
