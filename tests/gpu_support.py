"""Where the tests of ``tests/gpu`` run their operators, by whom, and calls that stand for all.

Inputs are made and results judged on the CPU; the operators run on `DEVICE`, a GPU. To try the
tests themselves without one: ``FUSIONOPS_TEST_DEVICE=cpu pytest -m gpu``.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import loss_support
import profile_support
import pytest
import torch
from support import conditioned, moved, normal, random_lists
from torch import Tensor

import fusionops
from fusionops import cuda_library, triton

Leaves = dict[str, Tensor]
Results = tuple[Tensor, ...]

DEVICE = torch.device(os.environ.get("FUSIONOPS_TEST_DEVICE", "cuda"))
FLOATS = [torch.float32, torch.bfloat16, torch.float16]  # float64 has the composition
AUTO = "auto"
# Without a choice a call goes to the first that serves it.
SERVED = {
    "cuda": {"fusion_matrix", "fusion_topk", "attention_fusion"},
    "triton": {
        "fusion_matrix", "fusion_cross_entropy", "fusion_contrastive", "attention_fusion",
        "weighted_fusion", "bidirectional_fusion", "history_fusion",
    },
}  # fmt: skip


def servers(operator: str) -> list[str]:
    """Who can be chosen for an operator: nobody in particular, and those that have it."""
    return [AUTO, *(name for name, operators in SERVED.items() if operator in operators)]


@contextmanager
def chosen(server: str) -> Iterator[None]:
    """Every operator by `server`; skips the test, with the reason, where it cannot be had."""
    if server == AUTO:
        yield
        return
    if DEVICE.type != "cuda":
        pytest.skip("needs a GPU")
    if not available(server):
        pytest.skip(f"{server} does not serve this GPU: see fusionops info")
    with fusionops.use_backend(server):
        yield


def available(server: str) -> bool:
    """Whether this installation has kernels of `server` for this GPU."""
    return cuda_library.covers(DEVICE.index) if server == "cuda" else triton.AVAILABLE


def rounded_weights(dtype: torch.dtype) -> float:
    """The unit of softmax weights that tensor cores multiply with half values; else 0."""
    return float(torch.finfo(dtype).eps) if dtype in (torch.bfloat16, torch.float16) else 0.0


@dataclass(frozen=True)
class Call:
    """An operator as a function of tensors, which returns a tuple of tensors.

    The gradients of all `leaves` can be taken, of the first `differentiable` results.
    """

    name: str
    operator: str
    leaves: Leaves
    function: Callable[..., Results]
    differentiable: int | None = None  # all of them

    def __call__(self, leaves: Leaves) -> Results:
        """The results and, of what can be differentiated, the gradients for a fixed cotangent."""
        if self.differentiable == 0:
            return self.function(**leaves)
        wanting = {name: leaf.detach().requires_grad_() for name, leaf in leaves.items()}
        results = self.function(**wanting)
        found = results[: self.differentiable]
        slopes = torch.autograd.grad(found, list(wanting.values()), list(map(_cotangent, found)))
        return *(part.detach() for part in results), *slopes


def _cotangent(part: Tensor) -> Tensor:
    """Without random numbers, so that a CUDA graph can capture it."""
    return (torch.arange(part.numel(), device=part.device) % 7).view_as(part).to(part.dtype)


@functools.cache
def calls(
    dtype: torch.dtype = torch.float32, size: int = 1, device: torch.device = DEVICE
) -> dict[str, Call]:
    """All operators with most of what they take; `size` multiplies users, items and entities."""
    found = (*_scores(dtype, size, device), *_losses(dtype, size, device))
    return {call.name: call for call in (*found, *_profiles(dtype, size, device))}


def _scores(dtype: torch.dtype, size: int, device: torch.device) -> list[Call]:
    users, items, features = 33 * size, 500 * size, 40
    user, item = normal(users, features, dtype=dtype), conditioned(items, features, dtype=dtype)
    bias, values = normal(items, seed=2), normal(items, 24, dtype=dtype, seed=3)
    candidates = {
        "scores": normal(users, 40, dtype=dtype, seed=4),
        "vectors": normal(users, 40, features, dtype=dtype, seed=5),
    }
    exclude = moved(random_lists(users, items, 9), device)
    sides = {"user": user, "item": item}

    def matrix(user: Tensor, item: Tensor) -> Results:
        return (fusionops.fusion_matrix(user, item, normalization="cosine"),)

    def topk(user: Tensor, item: Tensor, item_bias: Tensor) -> Results:
        return fusionops.fusion_topk(user, item, 20, item_bias=item_bias, exclude=exclude)

    def recommend(user: Tensor, item: Tensor, values: Tensor) -> Results:
        return (fusionops.fusion_recommend(user, item, values),)

    def rerank(scores: Tensor, vectors: Tensor) -> Results:
        return (fusionops.mmr_rerank(scores, vectors, 7),)

    plain: list[tuple[str, Leaves, Callable[..., Results], int | None]] = [
        ("fusion_matrix", sides, matrix, None),
        ("fusion_topk", {**sides, "item_bias": bias}, topk, 1),
        ("fusion_recommend", {**sides, "values": values}, recommend, None),
        ("mmr_rerank", candidates, rerank, 0),
    ]
    return [
        Call(name, name, moved(leaves, device), function, count)
        for name, leaves, function, count in plain
    ]


def _losses(dtype: torch.dtype, size: int, device: torch.device) -> list[Call]:
    made = loss_support.cases(users=33 * size, items=130 * size, batch=48 * size, most=9)
    found = []
    for case in (made[2], made[5]):
        there = replace(case, device=device).there()
        operator = case.function.__name__
        leaves = moved(case.leaves(dtype, 40), device)
        found.append(Call(operator, operator, leaves, functools.partial(_loss, there)))
    return found


def _loss(case: loss_support.Case, **leaves: Tensor) -> Results:
    return (case(**leaves),)


def _profiles(dtype: torch.dtype, size: int, device: torch.device) -> list[Call]:
    made = profile_support.cases(batch=9 * size, rows=5, tokens=9, features=32, table=50)
    return [
        Call(
            case.name,
            case.operator,
            moved(case.leaves(dtype), device),
            replace(case, device=device).there(),
        )
        for case in made
    ]


CALLS = {name: call.operator for name, call in calls(device=torch.device("cpu")).items()}
"""Which operator each of the calls is of."""

SERVED_CALLS = [(name, server) for name, operator in CALLS.items() for server in servers(operator)]
