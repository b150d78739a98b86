"""Models that forget: what serving says of a user whose history is shorter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from fusionops.models import LinearFusion


def shelf_name(model: Any) -> str:
    """The attribute in which a model keeps what it serves from."""
    return "_fitted" if isinstance(model, LinearFusion) else "_kept"


@contextmanager
def shelf(model: Any, **changed: Any) -> Iterator[Any]:
    """The model, with other arrays on its shelf for a while."""
    name = shelf_name(model)
    kept = getattr(model, name)
    setattr(model, name, replace(model._shelf, **changed))
    try:
        yield model
    finally:
        setattr(model, name, kept)


@contextmanager
def forgotten(model: Any, user: Any, removed: Sequence[Any]) -> Iterator[Any]:
    """The model, from whose memory some items of one user are gone."""
    histories = model._shelf.histories
    code = model.users.ids.tolist().index(user)
    of_user = np.repeat(np.arange(len(histories)), np.diff(histories.offsets)) == code
    gone = np.isin(model.items.ids.ids[histories.items], list(removed))
    with shelf(model, histories=histories.where(~(of_user & gone))):
        yield model


def served_without(
    model: Any, user: Any, removed: Sequence[Any], allowed: Sequence[Any], width: int | None = None
) -> tuple[dict[Any, float], dict[Any, int]]:
    """Scores of all items, and ranks of those that may be listed, by ``score`` and ``recommend``.

    What is served without a profile has a popularity for a score.
    """
    with forgotten(model, user, removed):
        everything = model.items.ids.ids.tolist()
        scored = model.score([(user, item) for item in everything], recency=None)
        listed = model.recommend(
            [user],
            len(everything) if width is None else width,
            exclude_seen=False,
            candidates=list(allowed),
            recency=None,
        )
    scores = dict(zip(everything, scored["score"].to_pylist(), strict=True))
    return scores, dict(zip(listed["item"].to_pylist(), listed["rank"].to_pylist(), strict=True))
