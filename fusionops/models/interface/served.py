"""What a fitted recommender serves from, and how it comes to its answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fusionops.data.ids import Codes, IdMap
from fusionops.data.items import Items
from fusionops.data.times import as_time
from fusionops.models.interface import serving
from fusionops.models.interface.asked import Asked
from fusionops.models.interface.histories import Histories
from fusionops.models.interface.recency import Recency, resolve
from fusionops.models.interface.serving import Floats, Limits, Mask
from fusionops.models.interface.split_scores import Contributions, WithoutModality

Time = str | date | datetime | np.datetime64
Where = Mapping[str, Any] | Callable[[dict[str, Any]], bool]
IdLists = Sequence[Any] | npt.NDArray[Any] | Mapping[Any, Sequence[Any]]


class Shelf(Protocol):
    """What a fitted model serves from.

    Attributes
    ----------
    users : IdMap
    items : Items
        The catalogue; code p is row p of every item array.
    histories : Histories
        The training rows of ``users``.
    vectors : numpy.ndarray
        ``float32 [P, D]``: a score is the inner product of a profile with one of them.
    users_per_item : numpy.ndarray
        ``int64 [P]``; 0 for items without history.
    popularity : numpy.ndarray
        ``float32 [P]``: what users without a profile are served by.
    """

    @property
    def users(self) -> IdMap: ...  # noqa: D102
    @property
    def items(self) -> Items: ...  # noqa: D102
    @property
    def histories(self) -> Histories: ...  # noqa: D102
    @property
    def vectors(self) -> Floats: ...  # noqa: D102
    @property
    def users_per_item(self) -> Codes: ...  # noqa: D102
    @property
    def popularity(self) -> Floats: ...  # noqa: D102


class Served(ABC):
    """A catalogue, users and their histories, and the steps from a question to a list."""

    name: str

    @property
    @abstractmethod
    def _shelf(self) -> Shelf:
        """What was fitted; RuntimeError where nothing was."""

    @abstractmethod
    def _profiles(self, asked: Asked) -> tuple[Floats, Mask]:
        """Profiles, ``float32 [U, D]``, and who has one, ``bool [U]``."""

    @property
    def items(self) -> Items:
        """The catalogue; code p is row p of ``item_vectors``."""
        return self._shelf.items

    @property
    def users(self) -> IdMap:
        """The users that it was fitted on."""
        return self._shelf.users

    @property
    def item_vectors(self) -> Floats:
        """``float32 [P, D]``, for example for a Catalog. Do not write to it."""
        return self._shelf.vectors

    def _asked(
        self,
        users: Codes,
        histories: Histories,
        recency: Recency | str | None,
        at: Time | None,
    ) -> Asked:
        """Histories as of a moment, and their weighted pairs."""
        moment = None if at is None else as_time(at)
        if moment is not None:
            histories = histories.until(moment)
        chosen = resolve(recency, ordered=histories.ordered)
        pairs = histories.pairs(len(self._shelf.items), chosen, moment)
        return Asked(users, histories, pairs)

    def _ranked(
        self, asked: Asked, profiles: Floats, known: Mask, k: int, limits: Limits
    ) -> tuple[Floats, Codes]:
        """The k best items of each user; models with a second stage put it here."""
        shelf = self._shelf
        return serving.top_k_or_popular(profiles, known, shelf.vectors, shelf.popularity, k, limits)

    def _pool(self, k: int) -> int | None:
        """How many of the best are ranked again for a list of k; None without a second stage."""
        return None

    def _contributions(self, asked: Asked, history: Codes, items: Codes) -> Contributions | None:
        """The scores of items for one user as sums; None where they are none.

        Parameters
        ----------
        asked : Asked
        history : numpy.ndarray
            ``int64 [H]``, the items of weight above 0.
        items : numpy.ndarray
            ``int64 [n]``.
        """
        return None

    def _without_modalities(self, asked: Asked, items: Codes) -> Sequence[WithoutModality]:
        """One user and some items without each modality that the model takes."""
        return ()
