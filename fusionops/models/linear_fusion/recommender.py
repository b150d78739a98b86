"""LinearFusion: the closed form of the fusion matrix as a recommender."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from typing_extensions import Self

from fusionops.data.encoded import Encoded
from fusionops.data.ids import Codes
from fusionops.data.interactions import Interactions
from fusionops.data.items import Items
from fusionops.models.interface import requests
from fusionops.models.interface.asked import Asked
from fusionops.models.interface.recommender import Recommender
from fusionops.models.interface.serving import Floats, Mask
from fusionops.models.interface.split_scores import Contributions
from fusionops.models.linear_fusion.attribution import Attribution
from fusionops.models.linear_fusion.parameters import Parameters
from fusionops.models.linear_fusion.persistence import load_directory, save_directory
from fusionops.models.linear_fusion.state import State, fit_state


class LinearFusion(Recommender):
    """A recommender in closed form: one matrix power instead of training.

    An item is its column of the history matrix beside its content, a user is the sum of the
    items of the history, and the scores are the fusion matrix ``F = S_UP (S_PP + ridge I)^-power``
    (power 1: a ridge regression of every item on all others, as EASE without its zero diagonal).
    Items nobody has yet get their vectors from content, by regression on those of the others, and
    stand in the same lists. Fitting takes seconds on thousands of items; serving holds one vector
    per item and scores users by :func:`fusionops.fusion_topk`.

    Parameters
    ----------
    **parameters
        See :class:`Parameters`; all have defaults.

    Examples
    --------
    >>> interactions, items = online_retail.load()
    >>> model = LinearFusion().fit(interactions, items)
    >>> model.recommend([17850, 13047], k=5).to_pandas()
    """

    name = "LinearFusion"

    def __init__(self, **parameters: Any) -> None:
        self.parameters = Parameters(**parameters)
        self._fitted: State | None = None
        self._split: Attribution | None = None

    def fit(
        self,
        interactions: Interactions,
        items: Items | None = None,
        *,
        features: Mapping[str, Encoded] | None = None,
    ) -> Self:
        """Learn item vectors from who had what, and from what items are like.

        Parameters
        ----------
        interactions : Interactions
            Training rows; the catalogue is ``interactions.items``, which may hold items without
            rows. A pair counts with the largest weight among its rows, and recency is taken from
            these rows alone.
        items : Items, optional
            Content of the catalogue, in any order.
        features : mapping of str to Encoded, optional
            What encoders say of the catalogue, by modality, each in any order. An item without a
            modality is compared by the others.

        Raises
        ------
        TypeError, ValueError
            No rows, negative weights, a content column that ``items`` lacks, or features of other
            things than these items.
        """
        self._fitted = fit_state(interactions, items, features, self.parameters)
        self._split = None
        return self

    def add_items(
        self,
        table: pa.Table | Mapping[str, Any] | Items,
        *,
        id: str = "item",
        features: Mapping[str, Encoded] | None = None,
    ) -> Self:
        """Put items without history into the catalogue, without a refit.

        They get the vectors that a refit without rows of theirs would give them.

        Parameters
        ----------
        table : pyarrow.Table, mapping of columns, or Items
            With every column that the catalogue has.
        id : str
            The column of ids of a table.
        features : mapping of str to Encoded, optional
            What the encoders of the fit say of these items; other ids in them do no harm.

        Raises
        ------
        TypeError, ValueError, InputError
            An id is in the catalogue already, a column is missing, or features are of a modality or
            a width that the fit did not have.
        """
        state = self._state
        added = requests.new_items(table, state.items, id)
        self._fitted = state.with_items(added, features, self.parameters)
        if self._split is not None:
            self._split = replace(self._split, state=self._fitted)
        return self

    def save_pretrained(self, path: str | Path) -> None:
        """Write the model into a directory, over an older one in one step.

        Parameters
        ----------
        path : str or Path
            ``config.json``, a safetensors file and a JSON file of ids and columns.

        Raises
        ------
        FileExistsError
            The path is a file, or holds the config of something else.
        """
        config, columns, arrays = self._state.to_parts()
        save_directory(path, {"parameters": asdict(self.parameters), **config}, columns, arrays)

    @classmethod
    def from_pretrained(cls, path: str | Path) -> Self:
        """Read a model that :meth:`save_pretrained` wrote; its answers are the same bit for bit.

        Raises
        ------
        FileNotFoundError, ValueError
            There is no model, or it is damaged, of something else, or of a later version.
        """
        config, columns, arrays = load_directory(path)
        try:
            model = cls(**config["parameters"])
            model._fitted = State.from_parts(config, columns, arrays)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged or incomplete: {error}") from None
        return model

    @property
    def item_scale(self) -> Floats:
        """``float32 [P]``, with which an item enters a profile. Do not write to it."""
        return self._state.item_scale

    def __repr__(self) -> str:
        if self._fitted is None:
            return "LinearFusion(not fitted)"
        return f"LinearFusion({len(self.users)} users, {len(self.items)} items)"

    @property
    def _state(self) -> State:
        if self._fitted is None:
            raise RuntimeError("LinearFusion is not fitted: call fit or from_pretrained first")
        return self._fitted

    @property
    def _shelf(self) -> State:
        return self._state

    def _profiles(self, asked: Asked) -> tuple[Floats, Mask]:
        return self._state.profiles(asked.pairs), requests.has_profile(asked.pairs)

    def _contributions(self, asked: Asked, history: Codes, items: Codes) -> Contributions:
        state = self._state
        if self._split is None:
            self._split = Attribution.of(state, self.parameters)
        weights = np.asarray(asked.pairs[:, history].toarray(), np.float64)[0]
        had = state.vectors[history] * (weights * state.item_scale[history])[:, None]
        modalities, baseline = self._split.of_items(had.sum(axis=0), items)
        return Contributions(had @ state.vectors[items].T, modalities, baseline)
