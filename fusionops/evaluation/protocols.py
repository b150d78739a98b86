"""The four questions asked of a recommender, and their validation counterparts.

warm
    The rest of what known users buy among known items: 5-core, the last 20 % of each user's pairs.
    On shop data much of it is basket completion;
    :func:`fusionops.data.splits.same_session_share` says how much.
next_visit
    The same, but the session that the cut falls into is wholly training: what a shop asks.
cold
    Only items first sold at a date or later are ranked, for the users known by then.
one_list
    The same date, items with and without history in one list; every later purchase of an unseen
    item counts.

The validation counterparts take the training part of a split and hold out a part of it in the same
way, so that nothing is chosen on a test part.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fusionops.data import splits
from fusionops.data.ids import Codes
from fusionops.data.interactions import Interactions
from fusionops.data.splits import Split
from fusionops.data.times import Time, as_time

CORE = 5
FRACTION = 0.2
ONLINE_RETAIL_DATES = ("2011-07-01", "2011-09-01", "2011-10-01")
"""The cut dates of the cold and one-list figures on Online Retail."""


def warm(interactions: Interactions) -> Split:
    """5-core on users and items, then the last 20 % of each user's pairs.

    Where sessions are known, ``notes`` says how much of the test is the completion of a basket.
    """
    split = splits.last_fraction(splits.k_core(interactions, CORE), FRACTION, name="warm")
    if interactions.session is None:
        return split
    share = splits.same_session_share(split)
    note = f"{share:.0%} of the test pairs are of the same session as the user's last training pair"
    return replace(split, notes=(note,))


def next_visit(interactions: Interactions) -> Split:
    """5-core on users and items, then the last 20 % but for the session that the cut falls into."""
    return splits.next_visit(splits.k_core(interactions, CORE), FRACTION, name="next visit")


def cold(interactions: Interactions, date: Time) -> Split:
    """Items first sold at the date or later, for users with 5 training pairs or more.

    Items with fewer than 5 buyers over all time are left out of the catalogue.
    """
    return splits.cold_items(_dated(interactions, date), date, name=f"cold {_day(date)}")


def one_list(interactions: Interactions, date: Time) -> Split:
    """As :func:`cold`, with all items of the catalogue in one list."""
    return splits.global_time(_dated(interactions, date), date, name=f"one list {_day(date)}")


def warm_validation(split: Split) -> Split:
    """Return the last 20 % of the training part of a warm split, over the same catalogue."""
    return splits.last_fraction(split.train, FRACTION, name=f"{split.name}, validation")


def next_visit_validation(split: Split) -> Split:
    """Return the next visit within the training part of a split, over the same catalogue."""
    return splits.next_visit(split.train, FRACTION, name=f"{split.name}, validation")


def cold_validation(split: Split, date: Time) -> Split:
    """Return an earlier window: items first sold between ``date`` and the cut of ``split``."""
    return splits.cold_items(
        _dated(split.train, date), date, name=f"{split.name}, validation {_day(date)}"
    )


def one_list_validation(split: Split, date: Time) -> Split:
    """As :func:`cold_validation`, with all items in one list."""
    return splits.global_time(
        _dated(split.train, date), date, name=f"{split.name}, validation {_day(date)}"
    )


def held_out_validation(split: Split, fraction: float = 0.1, *, seed: int = 0) -> Split:
    """Random items of the training part without their rows, as if they were cold."""
    return splits.held_out_items(
        split.train, fraction, seed=seed, name=f"{split.name}, held-out items"
    )


def _dated(interactions: Interactions, date: Time) -> Interactions:
    """Items with 5 buyers or more, then users with 5 pairs or more before the date."""
    if interactions.time is None:
        raise ValueError("a split by time needs interactions with a time column, got none")
    buyers = _distinct(interactions, interactions.item, len(interactions.items))
    kept = interactions.restrict(
        users=np.arange(len(interactions.users)), items=np.flatnonzero(buyers >= CORE)
    )
    assert kept.time is not None
    before = kept.select(kept.time < as_time(date))
    pairs = _distinct(before, before.user, len(kept.users))
    return kept.restrict(users=np.flatnonzero(pairs >= CORE), items=np.arange(len(kept.items)))


def _distinct(interactions: Interactions, side: Codes, n: int) -> Codes:
    """Return the number of distinct pairs of each user or item."""
    return np.bincount(side[interactions.is_first_of_pair()], minlength=n)


def _day(date: Time) -> str:
    return str(as_time(date).astype("datetime64[D]"))
