"""What every recommender of the package can be asked, whatever it has learned from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse

from fusionops.data.ids import Codes
from fusionops.models.explanation.explainable import Explainable
from fusionops.models.interface import diversify as mmr
from fusionops.models.interface import requests, serving, tables
from fusionops.models.interface.asked import Asked
from fusionops.models.interface.recency import Recency
from fusionops.models.interface.served import IdLists, Time, Where
from fusionops.models.interface.serving import Floats, Limits, Mask


class Recommender(Explainable):
    """Lists, scores and similar items from item vectors and user profiles."""

    def recommend(
        self,
        users: Sequence[Any] | npt.NDArray[Any],
        k: int = 10,
        *,
        exclude_seen: bool = True,
        exclude: IdLists | None = None,
        candidates: IdLists | None = None,
        item_filter: Where | None = None,
        recency: Recency | str | None = "auto",
        at: Time | None = None,
        diversify: float = 0.0,
    ) -> pa.Table:
        """The k best items for each user.

        Parameters
        ----------
        users : sequence of ids
            Users that the model has not seen are served by popularity, and ``how`` says so.
        k : int
            Length of the lists; shorter where fewer items may be recommended.
        exclude_seen : bool
            Leave out the items of the user's history.
        exclude : sequence of item ids, or mapping of user to item ids, optional
            Never recommended, to anyone or to that user.
        candidates : sequence of item ids, or mapping of every user to item ids, optional
            Only these are ranked.
        item_filter : mapping or callable, optional
            Only items whose columns satisfy it, see :meth:`fusionops.data.Items.filter`.
        recency : {"auto", "next_visit", "basket"} or Recency or None
            How fast older items of a history fade: the question asked. ``"auto"`` is
            ``"next_visit"`` where the interactions had times, else None, no fading.
        at : time, optional
            Answer as of that moment: later rows of the histories are not looked at, and ages in
            days end there.
        diversify : float
            Weight of variety in [0, 1], one minus the trade-off of maximal marginal relevance:
            0 ranks by score alone; docs/diversity.md has what it costs and brings.

        Returns
        -------
        pyarrow.Table
            ``user``, ``item``, ``rank`` (from 1), ``score``, ``how``: ``history`` (from what users
            did with the item), ``content`` (nobody has had the item, or nothing of the history:
            from what it is like) or ``popularity`` (there is no history). A popularity score is a
            number of users and not comparable with the others.
        """
        shelf = self._shelf
        labels, codes = requests.user_ids(users, shelf.users)
        limits = requests.Request(exclude_seen, exclude, candidates, item_filter)
        histories = shelf.histories.of(codes)
        asked = self._asked(codes, histories, recency, at)
        return self._table(labels, asked, k, limits, diversify)

    def recommend_for(
        self,
        histories: Mapping[Any, Sequence[Any]] | Sequence[Sequence[Any]] | pa.Table,
        k: int = 10,
        *,
        exclude_seen: bool = True,
        exclude: IdLists | None = None,
        candidates: IdLists | None = None,
        item_filter: Where | None = None,
        recency: Recency | str | None = "auto",
        at: Time | None = None,
        diversify: float = 0.0,
    ) -> pa.Table:
        """The k best items for histories of users that the model need not have seen.

        Parameters
        ----------
        histories : mapping of label to item ids, sequence of item ids, or pyarrow.Table
            Each oldest first. Without labels they are 0, 1, ...; a table has the columns ``user``
            and ``item``, and ``time`` if their order matters.
        k, exclude_seen, exclude, candidates, item_filter, recency, at, diversify
            As for :meth:`recommend`.

        Raises
        ------
        KeyError, InputError
            A history holds an item that the model does not know.
        """
        labels, ragged = requests.given_histories(histories, self._shelf.items.ids)
        limits = requests.Request(exclude_seen, exclude, candidates, item_filter)
        strangers = np.full(len(labels), -1, np.int64)
        asked = self._asked(strangers, ragged, recency, at)
        return self._table(labels, asked, k, limits, diversify)

    def rank(
        self,
        users: Codes,
        k: int,
        *,
        candidates: Codes | None = None,
        exclude_seen: bool = True,
        recency: Recency | str | None = "auto",
        at: Time | None = None,
        diversify: float = 0.0,
    ) -> tuple[Floats, Codes]:
        """As :meth:`recommend`, from codes to codes, for evaluation.

        Parameters
        ----------
        users : numpy.ndarray
            ``int64 [U]`` codes of ``interactions.users``.
        candidates : numpy.ndarray, optional
            ``int64`` codes of the items to rank; by default the catalogue.
        exclude_seen, recency, at, diversify
            As for :meth:`recommend`.

        Returns
        -------
        scores, items : numpy.ndarray
            ``float32`` and ``int64 [U, k]``; ties by the lower code, padded with -inf and -1.
        """
        shelf = self._shelf
        users = np.asarray(users, dtype=np.int64)
        if len(users) and not (users.min() >= 0 and users.max() < len(shelf.users)):
            raise ValueError(
                f"users: expected codes in 0..{len(shelf.users) - 1}, "
                f"got {users.min()}..{users.max()}"
            )
        allowed = None
        if candidates is not None:
            allowed = np.zeros(len(shelf.items), dtype=bool)
            allowed[np.asarray(candidates, dtype=np.int64)] = True
        requests.check_k(k)
        requests.check_diversify(diversify)
        asked = self._asked(users, shelf.histories.of(users), recency, at)
        limits = Limits(allowed, asked.pairs if exclude_seen else None)
        return self._diversified(asked, *self._profiles(asked), k, limits, diversify)

    def similar_items(
        self,
        items: Any,
        k: int = 10,
        *,
        candidates: Sequence[Any] | None = None,
        item_filter: Where | None = None,
    ) -> pa.Table:
        """The items nearest to an item, by the cosine in S_PP.

        Parameters
        ----------
        items : id or sequence of ids
        k, candidates, item_filter
            As for :meth:`recommend`.

        Returns
        -------
        pyarrow.Table
            ``item``, ``similar``, ``rank``, ``score`` (cosine).
        """
        shelf = self._shelf
        requests.check_k(k)
        ids = items if isinstance(items, (list, tuple, np.ndarray)) else [items]
        codes = serving.item_codes("items", ids, shelf.items.ids)
        request = requests.Request(False, None, candidates, item_filter)
        limits = request.limits(shelf.items, codes, None)
        itself = sparse.csr_array(
            (np.ones(len(codes), np.float32), codes, np.arange(len(codes) + 1)),
            shape=(len(codes), len(shelf.items)),
        )
        scores, similar = serving.top_k(
            shelf.vectors[codes],
            shelf.vectors,
            k,
            Limits(limits.allowed, itself),
            normalization="cosine",
        )
        return tables.similar_table(shelf.items.ids, codes, scores, similar)

    def score(
        self,
        pairs: pa.Table | Mapping[str, Any] | Sequence[tuple[Any, Any]],
        *,
        recency: Recency | str | None = "auto",
        at: Time | None = None,
    ) -> pa.Table:
        """The scores of given pairs, seen ones too.

        Parameters
        ----------
        pairs : pyarrow.Table or mapping of columns, or sequence of tuples
            Columns ``user`` and ``item``, or tuples of both.
        recency, at
            As for :meth:`recommend`.

        Returns
        -------
        pyarrow.Table
            ``user``, ``item``, ``score``, ``how``, in the order given.
        """
        shelf = self._shelf
        users, items = requests.pair_columns(pairs)
        labels, codes = requests.user_ids(users, shelf.users)
        distinct, row = np.unique(codes, return_inverse=True)
        item = serving.item_codes("pairs", items, shelf.items.ids)
        asked = self._asked(distinct, shelf.histories.of(distinct), recency, at)
        profiles, known = self._profiles(asked)
        scores = np.where(
            known[row],
            np.einsum("nd,nd->n", profiles[row], shelf.vectors[item]),
            shelf.popularity[item],
        )
        how = requests.how(asked.pairs, known, shelf.users_per_item)
        return pa.table(
            {
                "user": pa.array(labels),
                "item": pa.array(shelf.items.ids.decode(item)),
                "score": pa.array(scores.astype(np.float32)),
                "how": tables.how_column(how(row, item)),
            }
        )

    def user_profiles(
        self,
        users: Sequence[Any] | npt.NDArray[Any],
        *,
        recency: Recency | str | None = "auto",
        at: Time | None = None,
    ) -> Floats:
        """The profiles of users, to search a Catalog of :attr:`item_vectors` with.

        Parameters
        ----------
        users : sequence of ids
        recency, at
            As for :meth:`recommend`.

        Returns
        -------
        numpy.ndarray
            ``float32 [U, D]``: scores are inner products with ``item_vectors`` (for a model with a
            second stage, those of the first). Zeros for users without a profile.
        """
        _, codes = requests.user_ids(users, self._shelf.users)
        profiles, known = self._profiles(
            self._asked(codes, self._shelf.histories.of(codes), recency, at)
        )
        return np.where(known[:, None], profiles, np.float32(0))

    def _diversified(
        self,
        asked: Asked,
        profiles: Floats,
        known: Mask,
        k: int,
        limits: Limits,
        diversify: float,
    ) -> tuple[Floats, Codes]:
        """The lists of :meth:`_ranked`, or k varied items out of longer ones."""
        if diversify == 0:
            return self._ranked(asked, profiles, known, k, limits)
        vectors = self._shelf.vectors
        pool = mmr.pool_size(k, len(vectors))
        scores, items = self._ranked(asked, profiles, known, pool, limits)
        return mmr.rerank(scores, items, vectors, k, diversify)

    def _table(
        self,
        labels: npt.NDArray[Any],
        asked: Asked,
        k: int,
        request: requests.Request,
        diversify: float,
    ) -> pa.Table:
        shelf = self._shelf
        requests.check_k(k)
        requests.check_diversify(diversify)
        limits = request.limits(shelf.items, labels, asked.pairs)
        profiles, known = self._profiles(asked)
        scores, items = self._diversified(asked, profiles, known, k, limits, diversify)
        how = requests.how(asked.pairs, known, shelf.users_per_item)
        row = np.arange(len(labels))[:, None]
        return tables.lists_table(labels, shelf.items.ids, scores, items, how(row, items))
