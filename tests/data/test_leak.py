"""No way from ``train`` to a test row.

A signal taken from the raw rows "up to the user's last training day" holds the user's own test
rows, since most of them are of that day. The splits hand over rows of training pairs only.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionops.data import IdMap, Interactions, online_retail, splits

N_USERS, N_ITEMS = 4, 8

rows_strategy = st.lists(
    st.tuples(
        st.integers(0, N_USERS - 1),
        st.integers(0, N_ITEMS - 1),
        st.integers(0, 6),  # the day; all rows of a user on a day are one session
    ),
    min_size=1,
    max_size=60,
)

SPLITS = {
    "last fraction": lambda rows: splits.last_fraction(rows, 0.3),
    "leave last out": splits.leave_last_out,
    "next visit": lambda rows: splits.next_visit(rows, 0.3),
    "global time": lambda rows: splits.global_time(rows, "2020-01-04"),
    "cold items": lambda rows: splits.cold_items(rows, "2020-01-04"),
    "held-out items": lambda rows: splits.held_out_items(rows, 0.3),
}


def make(rows, n_items=N_ITEMS):
    user, item, day = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    return Interactions(
        user,
        item,
        IdMap(np.arange(N_USERS)),
        IdMap(np.arange(n_items)),
        time=np.datetime64("2020-01-01", "ns") + day * np.timedelta64(1, "D"),
        session=user * 7 + day,
    )


def keys(interactions):
    return interactions.user * len(interactions.items) + interactions.item


@pytest.mark.parametrize("name", SPLITS)
@given(rows=rows_strategy)
@settings(max_examples=60, deadline=None)
def test_train_holds_no_row_of_a_test_pair(name, rows):
    split = SPLITS[name](make(rows))
    assert not np.isin(keys(split.train), keys(split.test)).any()
    assert len(np.unique(keys(split.test))) == len(split.test)
    assert set(split.users.tolist()) == set(split.test.user.tolist())


@pytest.mark.parametrize("name", ["last fraction", "leave last out", "next visit"])
@given(rows=rows_strategy)
@settings(max_examples=60, deadline=None)
def test_train_is_over_when_the_test_begins(name, rows):
    split = SPLITS[name](make(rows))
    for user in split.users:
        last = split.train.time[split.train.user == user].max()
        first = split.test.time[split.test.user == user].min()
        # Sessions are days here: next visit leaves a day between, the others cut inside one.
        assert last < first if name == "next visit" else last <= first


@pytest.mark.parametrize("name", ["last fraction", "leave last out", "next visit"])
@given(rows=rows_strategy, seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_train_is_the_same_whatever_the_test_rows_are(name, rows, seed):
    """Replace the items of the test pairs by others: nothing in train may move."""
    raw = make(rows, n_items=2 * N_ITEMS)
    split = SPLITS[name](raw)
    is_test = np.isin(keys(raw), keys(split.test))
    shuffled = np.random.default_rng(seed).permutation(N_ITEMS) + N_ITEMS
    item = np.where(is_test, shuffled[raw.item % N_ITEMS], raw.item)
    other = SPLITS[name](
        Interactions(raw.user, item, raw.users, raw.items, raw.time, session=raw.session)
    )
    for column in ("user", "item", "time", "session", "weight"):
        np.testing.assert_array_equal(getattr(split.train, column), getattr(other.train, column))
    assert len(other.test) == len(split.test)


def test_the_leak_is_real_on_raw_rows_and_closed_in_train():
    purchases, _ = online_retail.load()
    core = splits.k_core(purchases, 5)
    split = splits.last_fraction(core)
    last_day = np.zeros(len(core.users), dtype="datetime64[D]")
    last_day[split.train.user] = split.train.time.astype("datetime64[D]")  # sorted: the last stays
    raw = core.select(core.time.astype("datetime64[D]") <= last_day[core.user])
    leaked = np.isin(keys(split.test), keys(raw)).mean()
    assert leaked > 0.5  # what a signal from raw rows up to the last training day would give away
    assert not np.isin(keys(split.test), keys(split.train)).any()
