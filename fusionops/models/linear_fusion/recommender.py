"""LinearFusion: the closed form of the fusion matrix as a recommender."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse
from typing_extensions import Self

from fusionops.data.ids import Codes, IdMap
from fusionops.data.interactions import Interactions
from fusionops.data.items import Items
from fusionops.data.times import as_time
from fusionops.models.linear_fusion import diversify as mmr
from fusionops.models.linear_fusion import requests, serving, tables
from fusionops.models.linear_fusion.histories import Histories
from fusionops.models.linear_fusion.parameters import Parameters
from fusionops.models.linear_fusion.persistence import load_directory, save_directory
from fusionops.models.linear_fusion.recency import Recency, resolve
from fusionops.models.linear_fusion.serving import Limits
from fusionops.models.linear_fusion.state import State, fit_state

Floats = npt.NDArray[np.float32]
Time = str | date | datetime | np.datetime64
Where = Mapping[str, Any] | Callable[[dict[str, Any]], bool]
IdLists = Sequence[Any] | npt.NDArray[Any] | Mapping[Any, Sequence[Any]]


class LinearFusion:
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

    def fit(self, interactions: Interactions, items: Items | None = None) -> Self:
        """Learn item vectors from who had what, and from what items are like.

        Parameters
        ----------
        interactions : Interactions
            Training rows; the catalogue is ``interactions.items``, which may hold items without
            rows. A pair counts with the largest weight among its rows, and recency is taken from
            these rows alone.
        items : Items, optional
            Content of the catalogue, in any order.

        Raises
        ------
        TypeError, ValueError
            No rows, negative weights, or a content column that ``items`` lacks.
        """
        self._fitted = fit_state(interactions, items, self.parameters)
        return self

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
            0 ranks by score alone, 0.3 is a mild choice.

        Returns
        -------
        pyarrow.Table
            ``user``, ``item``, ``rank`` (from 1), ``score``, ``how``: ``history`` (from what users
            did with the item), ``content`` (nobody has had the item, or nothing of the history:
            from what it is like) or ``popularity`` (there is no history). A popularity score is a
            number of users and not comparable with the others.
        """
        state = self._state
        labels, codes = requests.user_ids(users, state.users)
        limits = requests.Request(exclude_seen, exclude, candidates, item_filter)
        histories = state.histories.of(codes)
        return self._table(labels, histories, k, limits, recency, at, diversify)

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
        labels, ragged = requests.given_histories(histories, self._state.items.ids)
        limits = requests.Request(exclude_seen, exclude, candidates, item_filter)
        return self._table(labels, ragged, k, limits, recency, at, diversify)

    def rank(
        self,
        users: Codes,
        k: int,
        *,
        candidates: Codes | None = None,
        exclude_seen: bool = True,
        recency: Recency | str | None = "auto",
        at: Time | None = None,
    ) -> tuple[Floats, Codes]:
        """As :meth:`recommend`, from codes to codes, for evaluation.

        Parameters
        ----------
        users : numpy.ndarray
            ``int64 [U]`` codes of ``interactions.users``.
        candidates : numpy.ndarray, optional
            ``int64`` codes of the items to rank; by default the catalogue.

        Returns
        -------
        scores, items : numpy.ndarray
            ``float32`` and ``int64 [U, k]``; ties by the lower code, padded with -inf and -1.
        """
        state = self._state
        users = np.asarray(users, dtype=np.int64)
        if len(users) and not (users.min() >= 0 and users.max() < len(state.users)):
            raise ValueError(
                f"users: expected codes in 0..{len(state.users) - 1}, "
                f"got {users.min()}..{users.max()}"
            )
        allowed = None
        if candidates is not None:
            allowed = np.zeros(len(state.items), dtype=bool)
            allowed[np.asarray(candidates, dtype=np.int64)] = True
        pairs = self._pairs(state.histories.of(users), recency, at)
        limits = Limits(allowed, pairs if exclude_seen else None)
        requests.check_k(k)
        return serving.top_k_or_popular(
            state.profiles(pairs),
            requests.has_profile(pairs),
            state.vectors,
            state.popularity,
            k,
            limits,
        )

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
        state = self._state
        requests.check_k(k)
        ids = items if isinstance(items, (list, tuple, np.ndarray)) else [items]
        codes = serving.item_codes("items", ids, state.items.ids)
        request = requests.Request(False, None, candidates, item_filter)
        limits = request.limits(state.items, codes, None)
        itself = sparse.csr_array(
            (np.ones(len(codes), np.float32), codes, np.arange(len(codes) + 1)),
            shape=(len(codes), len(state.items)),
        )
        scores, similar = serving.top_k(
            state.vectors[codes],
            state.vectors,
            k,
            Limits(limits.allowed, itself),
            normalization="cosine",
        )
        return tables.similar_table(state.items.ids, codes, scores, similar)

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
        state = self._state
        users, items = requests.pair_columns(pairs)
        labels, codes = requests.user_ids(users, state.users)
        distinct, row = np.unique(codes, return_inverse=True)
        item = serving.item_codes("pairs", items, state.items.ids)
        history = self._pairs(state.histories.of(distinct), recency, at)
        profiles, known = state.profiles(history), requests.has_profile(history)
        scores = np.where(
            known[row],
            np.einsum("nd,nd->n", profiles[row], state.vectors[item]),
            state.popularity[item],
        )
        how = requests.how(history, known, state.users_per_item)
        return pa.table(
            {
                "user": pa.array(labels),
                "item": pa.array(state.items.ids.decode(item)),
                "score": pa.array(scores.astype(np.float32)),
                "how": tables.how_column(how(row, item)),
            }
        )

    def add_items(self, table: pa.Table | Mapping[str, Any] | Items, *, id: str = "item") -> Self:
        """Put items without history into the catalogue, without a refit.

        They get the vectors that a refit without rows of theirs would give them.

        Parameters
        ----------
        table : pyarrow.Table, mapping of columns, or Items
            With every column that the catalogue has.
        id : str
            The column of ids of a table.

        Raises
        ------
        ValueError, InputError
            An id is in the catalogue already, or a column is missing.
        """
        state = self._state
        added = requests.new_items(table, state.items, id)
        self._fitted = state.with_items(added, self.parameters)
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
    def items(self) -> Items:
        """The catalogue; code p is row p of ``item_vectors``."""
        return self._state.items

    @property
    def users(self) -> IdMap:
        """The users that it was fitted on."""
        return self._state.users

    @property
    def item_vectors(self) -> Floats:
        """``float32 [P, rank]``, for example for a Catalog. Do not write to it."""
        return self._state.vectors

    def __repr__(self) -> str:
        if self._fitted is None:
            return "LinearFusion(not fitted)"
        return f"LinearFusion({len(self.users)} users, {len(self.items)} items)"

    @property
    def _state(self) -> State:
        if self._fitted is None:
            raise RuntimeError("LinearFusion is not fitted: call fit or from_pretrained first")
        return self._fitted

    def _pairs(
        self, histories: Histories, recency: Recency | str | None, at: Time | None
    ) -> sparse.csr_array:
        """The weighted pairs of histories as of a moment, ``[U, P]``."""
        moment = None if at is None else as_time(at)
        if moment is not None:
            histories = histories.until(moment)
        chosen = resolve(recency, ordered=histories.ordered)
        return histories.pairs(len(self._state.items), chosen, moment)

    def _table(
        self,
        labels: npt.NDArray[Any],
        histories: Histories,
        k: int,
        request: requests.Request,
        recency: Recency | str | None,
        at: Time | None,
        diversify: float,
    ) -> pa.Table:
        state = self._state
        requests.check_k(k)
        requests.check_diversify(diversify)
        pairs = self._pairs(histories, recency, at)
        known = requests.has_profile(pairs)
        pool = k if diversify == 0 else mmr.pool_size(k, len(state.items))
        scores, items = serving.top_k_or_popular(
            state.profiles(pairs),
            known,
            state.vectors,
            state.popularity,
            pool,
            request.limits(state.items, labels, pairs),
        )
        if diversify > 0:
            scores, items = mmr.rerank(scores, items, state.vectors, k, diversify)
        how = requests.how(pairs, known, state.users_per_item)
        row = np.arange(len(labels))[:, None]
        return tables.lists_table(labels, state.items.ids, scores, items, how(row, items))
