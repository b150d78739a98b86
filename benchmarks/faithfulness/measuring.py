"""Every explanation of some users' lists, and how faithful its order is."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from fusionops.evaluation.faithfulness import Curves, measure, order_of, random_orders
from fusionops.models.explanation import Explanation, Situation

from .gradients import gradient_x_input

OURS, GRADIENT, RANDOM = "ours", "gradient x input", "random"
LISTED = 3
DRAWS = 20

Values = npt.NDArray[np.float64]


def questions(model: Any, users: list[int], *, draws: int = DRAWS) -> list[dict[str, Any]]:
    """Measure the methods on the best items of some users.

    Parameters
    ----------
    model : Recommender
    users : list of int
        Codes.
    draws : int
        Random orders a question.

    Returns
    -------
    list of dict
        One a user and item: ``user``, ``item``, ``history`` (H), ``apart`` (how far gradient x
        input is from ours, relative to the largest effect of ours) and ``curves`` by method.
    """
    gradient = gradient_x_input(model)
    found = []
    for user in users:
        id = model.users.ids[user].item()
        situation = Situation.of(model, id)
        for explanation in model.explain_list(id, LISTED):
            item = int(model.items.ids.encode([explanation.item])[0])
            ours, theirs = effects(explanation, situation), gradient(situation, item)
            curves = measure(
                partial(situation.scores, item),
                {
                    OURS: order_of(ours),
                    GRADIENT: order_of(theirs),
                    RANDOM: random_orders(len(ours), draws, seed=(user, item)),
                },
            )
            found.append(
                {
                    "user": user,
                    "item": item,
                    "history": len(ours),
                    "apart": float(np.abs(theirs - ours).max() / (np.abs(ours).max() or 1)),
                    "curves": {name: _plain(one) for name, one in curves.items()},
                }
            )
    return found


def effects(explanation: Explanation, situation: Situation) -> Values:
    """The effects of an explanation in the order of the history, ``float64 [H]``."""
    ids = situation.model.items.ids
    codes = ids.encode([part.id for part in explanation.history])
    found = np.empty(len(codes))
    found[np.searchsorted(situation.history, codes)] = [part.effect for part in explanation.history]
    return found


def _plain(curves: Curves) -> dict[str, list[float]]:
    return {"deletion": curves.deletion.tolist(), "insertion": curves.insertion.tolist()}
