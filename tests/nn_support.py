"""Every module in every form of it, with inputs: what the tests of nn run over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from support import normal
from torch import Tensor, nn

from fusionops.nn import (
    AttentionFusion,
    BidirectionalFusion,
    DeepFusion,
    FusionLoss,
    FusionMatrix,
    HistoryFusion,
    WeightedFusion,
)

Inputs = dict[str, Tensor]
ITEMS, MODALITIES, WIDTH = 11, 3, 8


@dataclass
class Case:
    """A module by its constructor, and inputs for a batch and a dtype, by name."""

    build: Callable[..., nn.Module]
    inputs: Callable[[int, torch.dtype], Inputs]

    def module(self, seed: int = 0, **factory: Any) -> nn.Module:
        torch.manual_seed(seed)
        return self.build(**factory)


def presence(batch: int, tokens: int, seed: int = 0) -> Tensor:
    """A mask where the first entity has everything and the last, of several, nothing."""
    mask = normal(batch, tokens, seed=seed) > -0.5
    mask[:1] = True
    mask[1:][-1:] = False
    return mask


def tokens(batch: int, dtype: torch.dtype) -> Inputs:
    return {
        "tokens": normal(batch, MODALITIES, WIDTH, dtype=dtype),
        "mask": presence(batch, MODALITIES),
    }


def crossed(batch: int, dtype: torch.dtype) -> Inputs:
    return {
        **tokens(batch, dtype),
        "context": normal(batch, 5, WIDTH, dtype=dtype, seed=1),
        "context_mask": presence(batch, 5, seed=1),
    }


def two_sides(batch: int, dtype: torch.dtype) -> Inputs:
    return {
        "user": normal(batch, 4, WIDTH, dtype=dtype),
        "item": normal(batch, 5, WIDTH, dtype=dtype, seed=1),
        "user_mask": presence(batch, 4),
        "item_mask": presence(batch, 5, seed=1),
    }


def offsets(batch: int) -> Tensor:
    """Histories of 2, 3, 4, 0, 2, ... entries."""
    lengths = torch.tensor([0, *((2, 3, 4, 0)[number % 4] for number in range(batch))])
    return lengths.cumsum(0)


def by_ids(batch: int, dtype: torch.dtype) -> Inputs:
    found = offsets(batch)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(ITEMS, (int(found[-1]),), generator=generator)
    return {"history": ids, "offsets": found}


def by_rows(batch: int, dtype: torch.dtype) -> Inputs:
    found = offsets(batch)
    return {"history": normal(int(found[-1]), WIDTH, dtype=dtype), "offsets": found}


def with_query(batch: int, dtype: torch.dtype) -> Inputs:
    return {**by_ids(batch, dtype), "query": normal(batch, WIDTH, dtype=dtype, seed=1)}


def with_weights(batch: int, dtype: torch.dtype) -> Inputs:
    found = by_rows(batch, dtype)
    return {**found, "weights": normal(len(found["history"]), dtype=dtype, seed=1)}


def catalogue(batch: int, dtype: torch.dtype) -> Inputs:
    return {
        "user": normal(batch, WIDTH, dtype=dtype),
        "item": normal(ITEMS, WIDTH, dtype=dtype, seed=1),
        "target": torch.arange(batch) % ITEMS,
        "item_bias": normal(ITEMS, seed=2),
    }


def sides(batch: int, dtype: torch.dtype) -> Inputs:
    return {
        "user": normal(batch, WIDTH, dtype=dtype),
        "item": normal(ITEMS, WIDTH, dtype=dtype, seed=1),
    }


def pairs(batch: int, dtype: torch.dtype) -> Inputs:
    return {
        "user": normal(batch, WIDTH, dtype=dtype),
        "item": normal(batch, WIDTH, dtype=dtype, seed=1),
        "ids": torch.arange(batch) // 2,
    }


def own_table(mode: str, **options: Any) -> Callable[..., HistoryFusion]:
    return lambda **factory: HistoryFusion(WIDTH, mode, num_embeddings=ITEMS, **options, **factory)


CASES = {
    "matrix": Case(lambda **_: FusionMatrix(normalization="cosine"), sides),
    "weighted_global": Case(lambda **f: WeightedFusion(MODALITIES, **f), tokens),
    "weighted_content": Case(lambda **f: WeightedFusion(MODALITIES, WIDTH, **f), tokens),
    "attention_self": Case(lambda **f: AttentionFusion(WIDTH, 2, **f), tokens),
    "attention_cross": Case(lambda **f: AttentionFusion(WIDTH, 2, bias=False, **f), crossed),
    "attention_pooled": Case(lambda **f: AttentionFusion(WIDTH, 2, num_queries=1, **f), tokens),
    "attention_queries": Case(
        lambda **f: AttentionFusion(WIDTH, 4, num_queries=2, bias=False, **f), tokens
    ),
    "bidirectional": Case(lambda **f: BidirectionalFusion(WIDTH, **f), two_sides),
    "bidirectional_plain": Case(lambda **_: BidirectionalFusion(WIDTH, project=False), two_sides),
    "history_mean": Case(own_table("mean"), by_ids),
    "history_weighted": Case(lambda **f: HistoryFusion(WIDTH, "weighted", **f), with_weights),
    "history_attention": Case(own_table("attention"), with_query),
    "history_learned": Case(own_table("attention", learned_query=True), by_ids),
    "deep": Case(lambda **f: DeepFusion(WIDTH, 2, **f), tokens),
    "deep_mean": Case(lambda **f: DeepFusion(WIDTH, 2, pooling="mean", **f), tokens),
    "deep_attention": Case(lambda **f: DeepFusion(WIDTH, 2, 10, pooling="attention", **f), tokens),
    "loss_cross_entropy": Case(
        lambda **f: FusionLoss(normalization="cosine", label_smoothing=0.1, **f), catalogue
    ),
    "loss_contrastive": Case(
        lambda **f: FusionLoss("contrastive", normalization="cosine", **f), pairs
    ),
}

# The inputs that a mask says are there or not, by the name of the mask.
MASKED = {"mask": "tokens", "context_mask": "context", "user_mask": "user", "item_mask": "item"}


def call(module: nn.Module, inputs: Inputs) -> tuple[Tensor, ...]:
    result = module(**inputs)
    return result if isinstance(result, tuple) else (result,)


def loss_of(results: tuple[Tensor, ...]) -> Tensor:
    """One number of which every result has a gradient of its own."""
    return sum(
        (result * normal(*result.shape, dtype=result.dtype, seed=7 + number)).sum()
        for number, result in enumerate(results)
    )


def with_gradients(module: nn.Module, inputs: Inputs) -> dict[str, Tensor]:
    """Results and gradients toward all floating inputs and parameters, by name."""
    leaves = {
        name: value.detach().requires_grad_() if value.is_floating_point() else value
        for name, value in inputs.items()
    }
    module.zero_grad()
    results = call(module, leaves)
    loss_of(results).backward()
    found = {f"result{number}": result.detach() for number, result in enumerate(results)}
    for name, leaf in [*leaves.items(), *module.named_parameters()]:
        if leaf.grad is not None:
            found[f"{name}.grad"] = leaf.grad
    return found


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor], **bounds: float) -> None:
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(
            value, expected[name], msg=lambda m, n=name: f"{n}: {m}", **bounds
        )
