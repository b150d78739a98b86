"""Gradient x input over the items of a history, by captum: the method that ours is set beside.

The input is what an item of the history brings into the score: its weight, and where a model
attends to the items and does not ask for weights, its profile too. Attention reads the profiles
alone, and the other tokens of a user the weights alone, so nothing counts twice.

(Shrikumar, Greenside and Kundaje 2017, "Learning important features through propagating activation
differences", compare with it; in captum it is InputXGradient.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fusionops.models import FusionRecommender, LinearFusion
from fusionops.models.explanation import Situation
from fusionops.models.fusion_recommender.histories import RaggedHistories
from fusionops.models.fusion_recommender.serving import ragged

Values = npt.NDArray[np.float64]
Explain = Callable[[Situation, int], Values]


def gradient_x_input(model: Any) -> Explain:
    """Return a function from a question and the code of an item to ``float64 [H]``.

    Parameters
    ----------
    model : LinearFusion or FusionRecommender
        The latter with the behaviour ``"mean"`` or ``"attention"``.

    Raises
    ------
    TypeError, ValueError
        Another model, or another behaviour.
    """
    if isinstance(model, LinearFusion):
        return lambda situation, item: _linear(model, situation, item)
    if not isinstance(model, FusionRecommender):
        raise TypeError(
            f"model: expected LinearFusion or FusionRecommender, got {type(model).__name__}"
        )
    behaviour = model.config.behaviour
    if behaviour not in ("mean", "attention"):
        raise ValueError(f"model: expected behaviour 'mean' or 'attention', got {behaviour!r}")
    with torch.no_grad():
        item = model.item_tower()
        vectors, mapping = model.score_vectors(item, model.trained_rows())
    return _Network(model, item, vectors, mapping)


def _linear(model: LinearFusion, situation: Situation, item: int) -> Values:
    pairs = situation.asked.pairs
    weights = torch.from_numpy(pairs.data[pairs.data > 0].astype(np.float64))
    history = situation.history
    scale = torch.from_numpy(model.item_scale[history].astype(np.float64))
    rows = torch.from_numpy(model.item_vectors[history].astype(np.float64))
    vector = torch.from_numpy(model.item_vectors[item].astype(np.float64))

    def score(weights: Tensor) -> Tensor:
        return (weights * scale) @ rows @ vector

    return _attribute(score, weights[None])[0].numpy()[0]


class _Network:
    """The scores of a network as a differentiable function of what a history brings."""

    def __init__(
        self, model: FusionRecommender, item: Tensor, vectors: Tensor, mapping: Tensor | None
    ) -> None:
        self.model, self.item, self.vectors, self.mapping = model, item, vectors, mapping
        self.by_profiles = model.config.behaviour == "attention"

    def __call__(self, situation: Situation, item: int) -> Values:
        asked = situation.asked
        histories = ragged(asked.histories, asked.pairs, self.item.device)
        user = torch.from_numpy(asked.users)
        codes = histories.items

        def score(weights: Tensor, rows: Tensor) -> Tensor:
            places = torch.arange(len(codes))
            own = RaggedHistories(places, histories.offsets, weights[0])
            found, _ = self.model.user_tower(rows[0], own, self.model.item_tower, codes, user)
            return self.model.user_vectors(found, self.mapping) @ self.vectors[item]

        weights, rows = histories.weights[None], self.item[codes][None]
        if self.by_profiles:
            of_weights, of_rows = _attribute(score, weights, rows)
            found = of_weights[0] + of_rows[0].sum(dim=1)
        else:
            (of_weights,) = _attribute(lambda weights: score(weights, rows), weights)
            found = of_weights[0]
        # The network has the items by time, the question by code.
        return found.numpy()[np.argsort(codes.numpy(), kind="stable")].astype(np.float64)


def _attribute(score: Callable[..., Tensor], *inputs: Tensor) -> tuple[Tensor, ...]:
    """The gradient times the input, for each of the inputs, ``[1, ...]`` each."""
    try:
        from captum.attr import InputXGradient
    except ImportError as error:
        raise ImportError(
            "gradient x input: expected captum to be installed; pip install captum"
        ) from error
    given = tuple(one.detach().requires_grad_() for one in inputs)
    found = InputXGradient(score).attribute(given)
    return tuple(one.detach() for one in found)
