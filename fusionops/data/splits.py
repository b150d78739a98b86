"""Ways to divide interactions into what a model may see and what it is asked for.

In every split ``train`` holds only rows of training pairs, and in the splits by user no row after
the user's last training pair (or its session): a model cannot meet a test row, whatever it takes
from ``train`` (times, repeats, baskets). ``test`` holds each test pair once, and no pair that is in
``train``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fusionops.data.ids import Codes
from fusionops.data.interactions import Interactions
from fusionops.data.times import Time, as_time

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Split:
    """A training and a test part over the same users and the same catalogue.

    Attributes
    ----------
    train : Interactions
        All rows that a model may see, by user, time and row. Repeated pairs are kept.
    test : Interactions
        The pairs to be found, each once, by user, time and row.
    candidates : numpy.ndarray or None
        ``int64`` codes of the items to be ranked, sorted; None for the whole catalogue.
    users : numpy.ndarray
        ``int64`` codes of the users with test pairs, sorted. Lists are evaluated in this order.
    name : str
        The protocol, for tables.
    notes : tuple of str
        What a reader of the figures has to know.
    """

    train: Interactions
    test: Interactions
    candidates: Codes | None
    users: Codes
    name: str
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        ranked = len(self.train.items) if self.candidates is None else len(self.candidates)
        return (
            f"Split({self.name}: {len(self.train)} training rows, {len(self.test)} test pairs of "
            f"{len(self.users)} users, {ranked} items ranked)"
        )


def last_fraction(
    interactions: Interactions, fraction: float = 0.2, *, name: str = "last fraction"
) -> Split:
    """Return the last pairs of each user, by the time of their first row.

    Of n pairs the first ``floor((1 - fraction) n)`` are training, at least one.

    Parameters
    ----------
    interactions : Interactions
        With times.
    fraction : float
        In (0, 1).
    """
    if not 0.0 < fraction < 1.0:
        raise ValueError(f"fraction must be in (0, 1), got {fraction}")
    walk = _Walk(interactions)
    return walk.split(walk.rank < _cut(walk, fraction), name=name)


def leave_last_out(
    interactions: Interactions, n: int = 1, *, name: str = "leave last out"
) -> Split:
    """Return the last ``n`` pairs of each user; one with ``n`` pairs or fewer is training only."""
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    walk = _Walk(interactions)
    return walk.split((walk.rank < walk.count - n) | (walk.count <= n), name=name)


def next_visit(
    interactions: Interactions, fraction: float = 0.2, *, name: str = "next visit"
) -> Split:
    """As :func:`last_fraction`, but the session that the cut falls into goes wholly to training.

    What is asked for is then what the user takes on later visits, not the rest of a basket.

    Parameters
    ----------
    interactions : Interactions
        With times and sessions.
    fraction : float
        In (0, 1).
    """
    if not 0.0 < fraction < 1.0:
        raise ValueError(f"fraction must be in (0, 1), got {fraction}")
    if interactions.session is None:
        raise ValueError("next_visit needs interactions with a session column, got none")
    walk = _Walk(interactions)
    last_before_cut = walk.start + _cut(walk, fraction) - 1
    session = walk.pairs.session
    assert session is not None
    training = (walk.rank < _cut(walk, fraction)) | (session == session[last_before_cut])
    return walk.split(training, name=name, whole_session=True)


def global_time(interactions: Interactions, date: Time, *, name: str = "global time") -> Split:
    """Before a moment and from it on; users and items without a training row stay in the id maps.

    Test pairs are those whose first row lies at the moment or later, of users with a training row.
    """
    rows = _timed(interactions).ordered()
    assert rows.time is not None
    before = rows.time < as_time(date)
    pairs = rows.first_pairs()
    assert pairs.time is not None
    known = np.zeros(len(rows.users), dtype=bool)
    known[rows.user[before]] = True
    return make_split(
        rows.select(before),
        pairs.select((pairs.time >= as_time(date)) & known[pairs.user]),
        name=name,
    )


def cold_items(interactions: Interactions, date: Time, *, name: str = "cold items") -> Split:
    """As :func:`global_time`, but only for items that are first sold at the moment or later."""
    whole = global_time(interactions, date, name=name)
    warm = np.zeros(len(interactions.items), dtype=bool)
    warm[whole.train.item] = True
    sold = np.zeros_like(warm)
    sold[interactions.item] = True
    return make_split(
        whole.train,
        whole.test.select(~warm[whole.test.item]),
        candidates=np.flatnonzero(sold & ~warm),
        name=name,
    )


def held_out_items(
    interactions: Interactions,
    fraction: float = 0.1,
    *,
    seed: int = 0,
    name: str = "held-out items",
) -> Split:
    """Random items lose all their rows and are the ones to be ranked: cold start without a date."""
    if not 0.0 < fraction < 1.0:
        raise ValueError(f"fraction must be in (0, 1), got {fraction}")
    rows = interactions.ordered()
    sold = np.unique(rows.item)
    chosen = np.random.default_rng(seed).permutation(sold)[: max(1, round(fraction * len(sold)))]
    held = np.zeros(len(rows.items), dtype=bool)
    held[chosen] = True
    pairs = rows.first_pairs()
    return make_split(
        rows.select(~held[rows.item]),
        pairs.select(held[pairs.item]),
        candidates=np.sort(chosen),
        name=name,
    )


def k_core(interactions: Interactions, k: int = 5) -> Interactions:
    """Keep users and items with ``k`` distinct partners or more, until all have; new id maps."""
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    matrix = interactions.matrix()
    users, items = np.ones(matrix.shape[0], dtype=bool), np.ones(matrix.shape[1], dtype=bool)
    while True:
        kept_users = users & (matrix @ items.astype(np.float32) >= k)
        kept_items = items & (matrix.T @ kept_users.astype(np.float32) >= k)
        if (kept_users == users).all() and (kept_items == items).all():
            return interactions.restrict(users=np.flatnonzero(users), items=np.flatnonzero(items))
        users, items = kept_users, kept_items


def same_session_share(split: Split) -> float:
    """Return the share of test pairs in the same session as the user's last training pair.

    A high share says that the split asks for the completion of a basket, which is easier than the
    next visit.
    """
    train, test = split.train.first_pairs(), split.test
    if train.session is None or test.session is None:
        raise ValueError("same_session_share needs interactions with a session column, got none")
    if len(test) == 0:
        return float("nan")
    last = np.full(len(train.users), -1, dtype=np.int64)
    last[train.user] = np.arange(
        len(train)
    )  # sorted by user and time: the last write is the last pair
    has_train = last[test.user] >= 0
    return float(np.mean(has_train & (train.session[last[test.user]] == test.session)))


def make_split(
    train: Interactions,
    test: Interactions,
    *,
    candidates: Codes | None = None,
    name: str,
    notes: tuple[str, ...] = (),
) -> Split:
    """Return a Split over these parts, with the users that have test pairs."""
    return Split(train, test, candidates, np.unique(test.user), name, notes)


class _Walk:
    """The pairs by user and time: ``rank`` 0, 1, ... within the user, ``count`` of the user."""

    def __init__(self, interactions: Interactions) -> None:
        self.rows = _timed(interactions).ordered()
        self.first = np.flatnonzero(self.rows.is_first_of_pair())
        self.pairs = self.rows.select(self.first)
        per_user = np.bincount(self.pairs.user, minlength=len(self.rows.users))
        self.count = per_user[self.pairs.user]
        self.start = (np.cumsum(per_user) - per_user)[self.pairs.user]
        self.rank = np.arange(len(self.pairs)) - self.start

    def split(self, training: Mask, *, name: str, whole_session: bool = False) -> Split:
        """Return the split whose training pairs are those of the mask."""
        rows, n = self.rows, len(self.rows.users)
        pair = rows.user * len(rows.items) + rows.item
        of_training_pair = np.isin(pair, pair[self.first[training]])
        # The first row of the last training pair is where the user's training ends.
        end = np.full(n, -1, dtype=np.int64)
        end[self.pairs.user[training]] = self.first[training]
        end = end[rows.user]
        inside = np.arange(len(rows)) <= end
        if whole_session:
            assert rows.session is not None
            inside |= (rows.session == rows.session[end]) & (end >= 0)
        seen = of_training_pair & inside
        return make_split(rows.select(seen), self.pairs.select(~training), name=name)


def _cut(walk: _Walk, fraction: float) -> Codes:
    """Return the number of training pairs of each pair's user."""
    # 1e-9: (1 - 0.2) * 5 must floor to 4 whatever the last bit of the product is.
    cut = np.floor((1.0 - fraction) * walk.count + 1e-9).astype(np.int64)
    return np.asarray(np.maximum(1, cut))


def _timed(interactions: Interactions) -> Interactions:
    if interactions.time is None:
        raise ValueError("a split by time needs interactions with a time column, got none")
    return interactions
