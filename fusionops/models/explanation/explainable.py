"""A recommender that can be asked why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fusionops.models.explanation.explaining import explain_items
from fusionops.models.explanation.explanation import Explanation
from fusionops.models.explanation.removal import Bound
from fusionops.models.explanation.situation import Situation
from fusionops.models.interface import requests, serving
from fusionops.models.interface.histories import Histories
from fusionops.models.interface.recency import Recency
from fusionops.models.interface.served import IdLists, Served, Time, Where


class Explainable(Served):
    """Explanations of single recommendations and of lists."""

    def explain(
        self,
        user: Any,
        item: Any,
        *,
        k: int = 10,
        exclude_seen: bool = True,
        exclude: IdLists | None = None,
        candidates: IdLists | None = None,
        item_filter: Where | None = None,
        recency: Recency | str | None = "auto",
        at: Time | None = None,
        method: str = "auto",
        largest_removal: int = 5,
        budget: int = 2000,
    ) -> Explanation:
        """Why an item has its place in a user's list.

        Parameters
        ----------
        user, item : ids
            An item outside the list, or one that the user has had, is explained, too.
        k : int
            Length of the list that the smallest removal is about.
        exclude_seen, exclude, candidates, item_filter, recency, at
            As for ``recommend``: which list is asked about.
        method : {"auto", "contributions", "counterfactuals"}
            Exact contributions where the model's scores are sums (LinearFusion), else what the
            score and the rank become without an item of the history or a modality.
        largest_removal, budget : int
            Bounds of the search for the smallest set of history items whose removal drops the item
            from the list: of how many items, and how many sets are tried beside single items.

        Returns
        -------
        Explanation
            As a table, a sentence, a bar chart or plain values.

        Raises
        ------
        KeyError, TypeError, ValueError
            The model does not know the item, or an argument is out of range.
        """
        limits = requests.Request(exclude_seen, exclude, candidates, item_filter)
        situation = Situation.of(self, user, k=k, request=limits, recency=recency, at=at)
        return self._explained(situation, user, item, method, Bound(largest_removal, budget))

    def explain_for(
        self,
        history: Sequence[Any],
        item: Any,
        *,
        k: int = 10,
        exclude_seen: bool = True,
        exclude: IdLists | None = None,
        candidates: IdLists | None = None,
        item_filter: Where | None = None,
        recency: Recency | str | None = "auto",
        method: str = "auto",
        largest_removal: int = 5,
        budget: int = 2000,
    ) -> Explanation:
        """As :meth:`explain`, for the history of somebody whom the model need not have seen.

        Parameters
        ----------
        history : sequence of item ids
            Oldest first.
        item : id
        k, exclude_seen, exclude, candidates, item_filter, recency
            As for ``recommend_for``.
        method, largest_removal, budget
            As for :meth:`explain`.
        """
        codes = serving.item_codes("history", history, self._shelf.items.ids)
        ragged = Histories.from_sequences([codes])
        asked = self._asked(np.full(1, -1), ragged, recency, None)
        limits = requests.Request(exclude_seen, exclude, candidates, item_filter)
        situation = Situation.given(self, np.array(["history"]), asked, limits, k)
        return self._explained(situation, None, item, method, Bound(largest_removal, budget))

    def explain_list(
        self,
        user: Any,
        k: int = 10,
        *,
        exclude_seen: bool = True,
        exclude: IdLists | None = None,
        candidates: IdLists | None = None,
        item_filter: Where | None = None,
        recency: Recency | str | None = "auto",
        at: Time | None = None,
        method: str = "auto",
    ) -> list[Explanation]:
        """Why each item of a list is in it, without the search for the smallest removal.

        Parameters
        ----------
        user : id
        k, exclude_seen, exclude, candidates, item_filter, recency, at
            As for ``recommend``.
        method
            As for :meth:`explain`.

        Returns
        -------
        list of Explanation
            In the order of the list.
        """
        limits = requests.Request(exclude_seen, exclude, candidates, item_filter)
        situation = Situation.of(self, user, k=k, request=limits, recency=recency, at=at)
        _, listed = situation.lists(np.ones((1, len(situation.history)), bool))
        items = listed[0, :k]
        items = items[items >= 0]
        ranks = np.arange(1, len(items) + 1)
        return explain_items(situation, user, items, method, None, ranks=ranks)

    def _explained(
        self, situation: Situation, user: Any, item: Any, method: str, bound: Bound
    ) -> Explanation:
        requests.check_one("item", item)
        code = serving.item_codes("item", [item], self._shelf.items.ids)
        return explain_items(situation, user, code, method, bound)[0]
