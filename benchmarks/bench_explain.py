"""Explanations: a list taken apart exactly, and what a network would say without each item had."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from bench_training import eager_of, network
from comparison import bounds
from comparison.cases import (
    COMPILE,
    EAGER,
    FORWARD,
    OURS,
    Call,
    Case,
    Shape,
    Suite,
    UnavailableError,
    call_of,
)
from comparison.memory import require_matrices
from torch import Tensor

from fusionops.data import IdMap, Items
from fusionops.models import LinearFusion
from fusionops.models.explanation import Explanation, Situation
from fusionops.models.fusion_recommender.recommender import FusionRecommender
from fusionops.models.fusion_recommender.shelf import Shelf
from fusionops.models.interface.histories import Histories
from fusionops.models.linear_fusion.attribution import BEHAVIOUR, Attribution
from fusionops.models.linear_fusion.state import State

MODALITIES = ("text", "image", "sound", "price")
CAPTUM, BATCHED = "captum", "eager, batched"
K = 20


def _history(shape: Shape) -> np.ndarray[Any, np.dtype[np.int64]]:
    length, items = shape[:2]
    return np.sort(np.random.default_rng(1).choice(items, length, replace=False))


def linear(shape: Shape) -> LinearFusion:
    """A fitted model of random vectors, of one user; its parts are those of a fit."""
    _, items, dim, _ = shape
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((items, dim), dtype=np.float32) / dim
    model = LinearFusion(rank=dim)
    model._fitted = State(
        IdMap([0]),
        Items(IdMap(np.arange(items))),
        Histories.from_sequences([_history(shape)]),
        vectors,
        rng.uniform(0.2, 1, items).astype(np.float32),
        np.full(items, 5),
        np.full(items, 5, np.float32),
        None,
        None,
    )
    maps = {name: rng.standard_normal((dim, dim), dtype=np.float32) / dim for name in MODALITIES}
    model._split = Attribution(model._fitted, model.parameters, maps)
    return model


def _numbers(explanations: list[Explanation]) -> tuple[Tensor, ...]:
    """Effects of the history by size, and of the modalities by name, ``[k, H]`` and ``[k, M]``."""
    history = [[part.effect for part in one.history] for one in explanations]
    modalities = [{part.id: part.effect for part in one.modalities} for one in explanations]
    named = [[found[name] for name in (*MODALITIES, BEHAVIOUR)] for found in modalities]
    return torch.tensor(history), torch.tensor(named)


def list_setup(case: Case) -> Call:
    """The call of one contender."""
    model, k = linear(case.shape), case.shape[3]
    if case.contender == OURS:
        return lambda: _numbers(model.explain_list(0, k, recency=None))
    state, codes = model._state, torch.from_numpy(_history(case.shape))
    vectors, weights = torch.from_numpy(state.vectors), torch.from_numpy(state.item_scale)[codes]
    assert model._split is not None
    maps = torch.stack([torch.from_numpy(part) for part in model._split.maps.values()])
    if case.contender == CAPTUM:
        return _captum(vectors, weights, codes, k)

    def eager(vectors: Tensor, weights: Tensor, maps: Tensor) -> tuple[Tensor, ...]:
        had = vectors[codes] * weights[:, None]
        user = had.sum(0)
        scores = (vectors @ user).index_fill(0, codes, -torch.inf)
        listed = vectors[scores.topk(k).indices]
        content = listed @ (user @ maps).mT
        behaviour = listed @ user - content.sum(1)
        ordered = (listed @ had.mT).sort(1, descending=True).values
        return ordered, torch.cat([content, behaviour[:, None]], 1)

    return call_of(case, eager, (vectors, weights, maps))


def _captum(vectors: Tensor, weights: Tensor, codes: Tensor, k: int) -> Call:
    """Gradient x input of the weights of the history, of one item after the other."""
    try:
        from captum.attr import InputXGradient
    except ImportError:
        raise UnavailableError("captum is not installed") from None

    def scores(weights: Tensor) -> Tensor:
        return (weights @ vectors[codes]) @ vectors.mT

    method = InputXGradient(scores)

    def call() -> tuple[Tensor, ...]:
        with torch.no_grad():
            listed = scores(weights[None])[0].index_fill(0, codes, -torch.inf).topk(k).indices
        inputs = weights[None].clone().requires_grad_()
        found = [method.attribute(inputs, target=int(item)) for item in listed]
        return (torch.cat(found).detach().sort(1, descending=True).values,)

    return call


def network_model(shape: Shape) -> FusionRecommender:
    """A deep model of random parameters and features, of one user, its items at hand."""
    length, items, dim = shape[:3]
    model = cast("FusionRecommender", network((1, items, dim), FusionRecommender))
    histories = Histories.from_sequences([_history((length, items))])
    none = np.empty((0, 0), np.float32)
    catalogue = Items(IdMap(np.arange(items)))
    model._kept = Shelf(IdMap([0]), catalogue, histories, np.full(items, 5), none)
    model.eval()
    assert model._shelf.vectors.shape == (items, dim)
    return model


def counterfactual_setup(case: Case) -> Call:
    """The call of one contender: scores and ranks of k items without each item of the history."""
    length, items, _, k = case.shape
    if case.contender == BATCHED or case.contender == COMPILE:
        require_matrices(case, length * items)
    model, codes = network_model(case.shape), torch.from_numpy(_history(case.shape))
    situation = Situation.of(model, 0, k=k, recency=None)
    listed = torch.from_numpy(situation.lists(np.ones((1, length), bool))[1][0, :k].copy())
    without = ~np.eye(length, dtype=bool)
    if case.contender == OURS:

        def ours() -> tuple[Tensor, ...]:
            situation = Situation.of(model, 0, k=k, recency=None)
            scores, ranks = situation.outcomes(listed.numpy(), without)
            return torch.from_numpy(scores).float(), torch.from_numpy(ranks)

        return ours
    theirs, item = eager_of(model), torch.from_numpy(model._shelf.vectors)
    kept = torch.from_numpy(without)

    def of_variants(item: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        count = len(kept)
        owner = torch.arange(count).repeat_interleave(length - 1)
        had = codes.expand(count, -1)[kept]
        scale = model.item_tower.history_scale
        scores = theirs.profiles(item, had, owner, scale, count) @ item.mT
        own = scores[:, listed]
        scores = scores.index_fill(1, codes, -torch.inf)
        return own, torch.stack([(scores > one[:, None]).sum(1) + 1 for one in own.unbind(1)], 1)

    def one_at_a_time(item: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        found = [of_variants(item, row) for row in kept.split(1)]
        return torch.cat([scores for scores, _ in found]), torch.cat([ranks for _, ranks in found])

    function = one_at_a_time if case.contender == EAGER else of_variants
    return call_of(case, function, (item, kept))


SUITES = {
    "exact, a list": Suite(
        title=(
            "a list of k over P items of D dimensions, and its scores by the H items of a history "
            "and by five modalities; eager: the same sums by hand; captum: gradient x input of the "
            "history alone, an item after the other"
        ),
        contenders=(OURS, EAGER, COMPILE, CAPTUM),
        setup=list_setup,
        work=lambda case: bounds.contributions(*case.shape, len(MODALITIES) + 1),
        axes=("H", "P", "D", "k"),
        shapes=((50, 10_000, 256, K), (50, 100_000, 256, K), (50, 100_000, 1024, K)),
        small=lambda shape: (8, 1024, *shape[2:]),
        directions=(FORWARD,),
    ),
    "counterfactuals": Suite(
        title=(
            "scores and ranks of k items among P without each of the H items of a history, by the "
            "deep FusionRecommender; eager: one variant after the other; batched: all at once"
        ),
        contenders=(OURS, EAGER, COMPILE, BATCHED),
        setup=counterfactual_setup,
        work=lambda case: bounds.counterfactuals(*case.shape),
        axes=("H", "P", "D", "k"),
        shapes=((20, 10_000, 64, K), (50, 100_000, 64, K)),
        small=lambda shape: (8, 1024, *shape[2:]),
        directions=(FORWARD,),
    ),
}


def bench_explain(contest: Any) -> None:
    contest()
