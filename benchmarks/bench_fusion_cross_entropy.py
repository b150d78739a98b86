"""Cross-entropy over the catalogue: four products of U P D, and memory of O((U + P) D)."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from comparison import bounds
from comparison.cases import (
    BACKWARD,
    COMPILE,
    CUDA,
    EAGER,
    OURS,
    Call,
    Case,
    Suite,
    UnavailableError,
    call_of,
    doubling,
    gaussians,
)
from comparison.memory import require_matrices
from torch import Tensor

from fusionops import fusion_cross_entropy, reference

LINEAR, CHUNKED, CUT, LIGER = "linear", "linear chunked", "cut", "liger"


def _eager(user: Tensor, item: Tensor, target: Tensor) -> Tensor:
    return reference.fusion_cross_entropy(user, item, target)


def _peer(contender: str, device: str) -> Any:
    """A loss of ``(user, item, target)`` over items that are already normalised."""
    if contender == LIGER:
        try:
            from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy
        except ImportError as error:
            raise UnavailableError(f"liger-kernel cannot be imported: {error}") from error
        return liger_fused_linear_cross_entropy
    if contender == CUT:
        try:
            from cut_cross_entropy import linear_cross_entropy
        except ImportError as error:
            raise UnavailableError(f"cut-cross-entropy cannot be imported: {error}") from error
        # Its own kernel needs a GPU.
        return partial(linear_cross_entropy, impl="cce" if device == CUDA else "torch_compile")
    options = torch.nn.LinearCrossEntropyOptions() if contender == CHUNKED else None
    return partial(torch.nn.functional.linear_cross_entropy, options=options)


FUNCTIONS: dict[str, Any] = {OURS: fusion_cross_entropy, EAGER: _eager, COMPILE: _eager}


def setup(case: Case) -> Call:
    """The call of one contender."""
    users, items, features = case.shape
    if case.contender not in (OURS, CHUNKED):
        require_matrices(case, users * items)
    user, item = gaussians((users, features), (items, features))
    target = torch.randint(items, (users,), generator=torch.Generator().manual_seed(1))
    upstream = [torch.ones(())] if case.direction == BACKWARD else []
    if case.contender in FUNCTIONS:
        function = FUNCTIONS[case.contender]
    else:
        function = _peer(case.contender, case.device)
        item = torch.nn.functional.normalize(item, dim=-1)
    call = call_of(case, partial(_loss, function, target.to(case.device)), (user, item), *upstream)
    if case.contender in FUNCTIONS:
        return call
    # The gradient of normalised items is another thing than ours: it is computed, not compared.
    return lambda: call()[:2]


def _loss(function: Any, target: Tensor, user: Tensor, item: Tensor) -> Tensor:
    loss: Tensor = function(user, item, target)
    return loss


SUITE = Suite(
    title=(
        "mean, diagonal. Over items normalised before, whose gradient ends there: linear: "
        "torch.nn.functional.linear_cross_entropy; chunked: with LinearCrossEntropyOptions(); "
        "cut: cut-cross-entropy, on a CPU by its torch_compile; liger: "
        "liger_fused_linear_cross_entropy, on a GPU"
    ),
    contenders=(*FUNCTIONS, LINEAR, CHUNKED, CUT),
    setup=setup,
    work=lambda case: bounds.fusion_cross_entropy(*case.shape, case.direction == BACKWARD),
    shapes=((256, 10_000, 64), (2048, 50_000, 64)),
    growth=doubling(64, 64),
    not_in_growth=(COMPILE, CHUNKED),
    growth_direction=BACKWARD,
    gpu_shapes=((8192, 100_000, 128), (2048, 50_000, 64)),
    gpu_contenders=(LIGER,),
)


def bench_fusion_cross_entropy(contest: Any) -> None:
    contest()
