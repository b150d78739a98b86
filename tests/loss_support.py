"""Float64 truths of the two losses, their error bounds, and cases that stand for both.

The truths are written from the definitions with ``[U, P]`` logits and PyTorch's autograd, apart
from the project's own reference, which is tested against them too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from support import accumulation, bound, conditioned, epsilon, listed, moved, normal, random_lists
from torch import Tensor

import fusionops

Lists = tuple[Tensor, Tensor]


def inverse_length(vectors: Tensor, eps: float) -> Tensor:
    """``(x.x + eps)^(-1/2)`` per row; zero vectors score 0 and have gradient 0."""
    squares = vectors.square().sum(-1)
    zero = squares == 0
    return (squares.masked_fill(zero, 1) + eps).rsqrt().masked_fill(zero, 0)


def fusion(
    user: Tensor,
    item: Tensor,
    *,
    normalization: str = "diagonal",
    power: float = 0.5,
    ridge: float = 0.0,
    eps: float = 0.0,
) -> Tensor:
    """F by the singular values of the items: ``S_UP (S_PP + ridge I)^(-power)`` on the row space.

    Differentiable where they differ, as those of :func:`support.conditioned` do.
    """
    if normalization == "matrix":
        left, values, right = torch.linalg.svd(item, full_matrices=False)
        return (user @ right.mT * (values * (values.square() + ridge) ** -power)) @ left.mT
    scores = user @ item.mT
    if normalization in ("diagonal", "cosine"):
        scores = scores * inverse_length(item, eps)
    if normalization == "cosine":
        scores = scores * inverse_length(user, eps).unsqueeze(1)
    return scores


def logits_of(
    user: Tensor,
    item: Tensor,
    scale: float | Tensor = 1.0,
    item_bias: Tensor | None = None,
    **norm: Any,
) -> Tensor:
    """``scale * F + item_bias``."""
    scores = scale * fusion(user, item, **norm)
    return scores if item_bias is None else scores + item_bias


def cross_entropy(
    user: Tensor,
    item: Tensor,
    target: Tensor,
    *,
    scale: float | Tensor = 1.0,
    item_bias: Tensor | None = None,
    exclude: Lists | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    reduction: str = "mean",
    **norm: Any,
) -> Tensor:
    """The definition of ``fusion_cross_entropy``."""
    logits = logits_of(user, item, scale, item_bias, **norm)
    counted = target != ignore_index
    rows, own = torch.arange(len(target))[counted], target[counted]
    barred = torch.zeros(logits.shape, dtype=torch.bool)
    if exclude is not None:
        barred = listed(exclude, *logits.shape)
        barred[rows, own] = False
    surprise = -logits.masked_fill(barred, -torch.inf)[rows].log_softmax(1)
    losses = surprise[torch.arange(len(own)), own]
    if label_smoothing:
        spread = surprise.masked_fill(barred[rows], 0).sum(1) / (~barred[rows]).sum(1)
        losses = (1 - label_smoothing) * losses + label_smoothing * spread
    if reduction == "none":
        return logits.new_zeros(len(target)).index_put((rows,), losses)
    return losses.sum() if reduction == "sum" else losses.sum() / len(own)


def contrastive(
    user: Tensor,
    item: Tensor,
    *,
    scale: float | Tensor = 1.0,
    ids: Tensor | None = None,
    **norm: Any,
) -> Tensor:
    """The definition of ``fusion_contrastive``."""
    logits = logits_of(user, item, scale, **norm)
    if ids is not None:
        same = ids.unsqueeze(0) == ids.unsqueeze(1)
        logits = logits.masked_fill(same.fill_diagonal_(False), -torch.inf)
    rows, columns = logits.log_softmax(1).diagonal(), logits.log_softmax(0).diagonal()
    return -(rows.mean() + columns.mean()) / 2


def targets(users: int, items: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, items, (users,), generator=generator)


def loss_limit(
    user: Tensor,
    item: Tensor,
    scale: float = 1.0,
    item_bias: Tensor | None = None,
    dim: int = 1,
    **norm: Any,
) -> Tensor:
    """Largest error of each row's (``dim=0``: column's) loss that correct code makes.

    Twice that of its worst logit: for the target and for the log-sum-exp, whose own sums and
    roundings come on top.
    """
    norm.setdefault("normalization", "diagonal")
    acc = accumulation(user.dtype)
    bias = None if item_bias is None else item_bias.double()
    logits = logits_of(user.double(), item.double(), scale, bias, **norm).abs()
    logits = logits.masked_fill(logits.isinf(), 0)
    if bias is not None:
        logits = logits + bias.abs().masked_fill(bias.isinf(), 0)
    error = abs(scale) * bound(user, item, acc, **norm)
    count = max(logits.shape[dim], 1)
    if 0 in logits.shape:
        return logits.new_zeros(logits.shape[1 - dim])
    sums = epsilon(acc) * (8 * logits + 8 + 2 * math.log(count))
    return (2 * error + sums).amax(dim)


def assert_loss(found: Tensor, truth: Tensor, limit: Tensor | float, dtype: torch.dtype) -> None:
    """`found` has the dtype of losses of `dtype` inputs and is within `limit` of the `truth`."""
    assert found.dtype == accumulation(dtype)
    assert found.shape == truth.shape
    error = (found.detach().double() - truth.detach()).abs()
    assert bool((error <= limit).all()), (
        f"worst error {float(error.max()):.3g}, worst ratio {float((error / limit).max()):.3g}"
    )


Leaves = dict[str, Tensor]


def gradients(function: Callable[..., Tensor], leaves: Leaves, grad: Tensor | None) -> Leaves:
    """The gradients of ``function(**leaves)`` with respect to all its leaves."""
    wanting = {name: leaf.detach().requires_grad_() for name, leaf in leaves.items()}
    result = function(**wanting)
    if grad is None:
        grad = torch.ones_like(result)
    found = torch.autograd.grad(result, list(wanting.values()), grad)
    return dict(zip(wanting, found, strict=True))


def gradient_floors(leaves: Leaves, grad: float, **norm: Any) -> dict[str, float]:
    """Sizes of single terms of the gradients, where what is left of the sum may be less.

    `grad` is the norm of what arrives at the rows' losses.
    """
    user, item = leaves["user"].detach().double(), leaves["item"].detach().double()
    scale = abs(float(leaves["scale"])) if "scale" in leaves else 1.0
    scores = fusion(user, item, **norm).abs()
    left, right = user, item
    if norm.get("normalization") == "matrix":
        _, values, axes = torch.linalg.svd(item, full_matrices=False)
        powers = (values.square() + norm.get("ridge", 0.0)) ** -norm.get("power", 0.5)
        left, right = user @ (axes.mT * powers) @ axes, item @ (axes.mT * powers) @ axes
    if norm.get("normalization", "diagonal") in ("diagonal", "cosine"):
        lengths = inverse_length(item, norm.get("eps", 0.0))
        right, left = item * lengths.unsqueeze(1), user * float(lengths.max())
    if norm.get("normalization") == "cosine":
        lengths = inverse_length(user, norm.get("eps", 0.0))
        left, right = left * lengths.unsqueeze(1), right * float(lengths.max())
    return {
        "user": grad * scale * float(right.norm(dim=1).max()),
        "item": grad * scale * float(left.norm(dim=1).max()),
        "scale": grad * float(scores.max()),
        "item_bias": grad,
    }


def assert_loss_gradients(
    found: Leaves,
    truth: Callable[..., Tensor],
    leaves: Leaves,
    grad: Tensor | None = None,
    arrives: float = 1.0,
    rounded: float = 0.0,
    **norm: Any,
) -> None:
    """`found` are the gradients of ``truth(**leaves)`` as float64 autograd has them.

    Errors of a softmax's weights are those of its logits, so the tolerance grows with these. What
    is too small for the dtype of the gradient may be lost. `rounded` is the unit of weights that
    are multiplied with vectors as halves.
    """
    doubles = {name: leaf.detach().double() for name, leaf in leaves.items()}
    expected = gradients(truth, doubles, None if grad is None else grad.double())
    scale = float(doubles.get("scale", torch.ones(())))
    largest = abs(scale) * float(fusion(doubles["user"], doubles["item"], **norm).abs().max())
    acc = epsilon(accumulation(leaves["user"].dtype))
    floors = gradient_floors(leaves, arrives, **norm)
    for name, leaf in leaves.items():
        assert found[name].dtype == leaf.dtype, name
        assert found[name].shape == leaf.shape, name
        size = float(expected[name].norm()) + floors[name]
        error = float((found[name].double() - expected[name]).norm())
        tolerance = epsilon(leaf.dtype) + acc * (64 + 8 * largest)
        tolerance += rounded if name != "item_bias" else 0.0
        tiny = torch.finfo(leaf.dtype).smallest_normal * epsilon(leaf.dtype) * leaf.numel() ** 0.5
        assert error <= tolerance * size + tiny, f"{name}: error {error:.3g}, {error / size:.3g}"


@dataclass(frozen=True)
class Case:
    """A loss with options set, as a function of its differentiable inputs alone.

    With a `device` it runs there, of leaves and with results on the CPU, where the truth is.
    """

    name: str
    users: int
    items: int
    function: Callable[..., Tensor]
    truth: Callable[..., Tensor]
    names: tuple[str, ...]
    fixed: dict[str, Any] = field(default_factory=dict)
    device: torch.device | None = None

    def __str__(self) -> str:
        return self.name

    def leaves(self, dtype: torch.dtype = torch.float64, features: int = 4) -> Leaves:
        """Inputs; `scale` and `item_bias` in the accumulation dtype."""
        acc = accumulation(dtype)
        everything = {
            "user": normal(self.users, features, dtype=dtype),
            "item": conditioned(self.items, features, dtype=dtype, seed=1),
            "scale": torch.tensor(1.5, dtype=acc),
            "item_bias": normal(self.items, dtype=acc, seed=2),
        }
        return {name: everything[name] for name in self.names}

    def __call__(self, **leaves: Any) -> Tensor:
        if self.device is not None:
            return self.there()(**moved(leaves, self.device)).cpu()
        return self.function(**leaves, **self.fixed)

    def there(self) -> Case:
        """The same for leaves that are on the device already."""
        assert self.device is not None
        return replace(self, fixed=moved(self.fixed, self.device), device=None)

    def expected(self, **leaves: Any) -> Tensor:
        return self.truth(**leaves, **self.fixed)


def cross_entropy_case(
    name: str, users: int, items: int, everything: bool, most: int = 0, **fixed: Any
) -> Case:
    names = ("user", "item", "scale", "item_bias") if everything else ("user", "item")
    target = targets(users, items, seed=4)
    if everything:
        target[::4] = 2
        fixed |= {
            "exclude": random_lists(users, items, most or items - 2, seed=5),
            "label_smoothing": 0.2,
            "ignore_index": 2,
        }
    fixed["target"] = target
    return Case(name, users, items, fusionops.fusion_cross_entropy, cross_entropy, names, fixed)


def contrastive_case(name: str, batch: int, **fixed: Any) -> Case:
    names = ("user", "item", "scale")
    return Case(name, batch, batch, fusionops.fusion_contrastive, contrastive, names, fixed)


def cases(users: int, items: int, batch: int, most: int = 0) -> list[Case]:
    """Both losses, plain and with all that they take, in every reduction.

    Up to `most` items are excluded, or up to nearly all of them.
    """
    ids = torch.arange(batch) // 3
    return [
        cross_entropy_case("plain", users, items, False),
        cross_entropy_case("all-none", users, items, True, most, reduction="none"),
        cross_entropy_case("all-mean", users, items, True, most, reduction="mean"),
        cross_entropy_case("all-sum", users, items, True, most, reduction="sum"),
        contrastive_case("contrastive", batch),
        contrastive_case("contrastive-ids", batch, ids=ids),
    ]
