import numpy as np
import pytest

from fusionops.data import IdMap, Interactions, splits


def make(rows, n_users=3, n_items=12):
    """Interactions of (user, item, day, session) rows."""
    user, item, day, session = (
        np.array(column, dtype=np.int64) for column in zip(*rows, strict=True)
    )
    return Interactions(
        user,
        item,
        IdMap(np.arange(n_users)),
        IdMap(np.arange(n_items)),
        time=np.datetime64("2020-01-01", "ns") + day * np.timedelta64(1, "D"),
        session=session,
    )


def pairs(interactions):
    return list(zip(interactions.user.tolist(), interactions.item.tolist(), strict=True))


# User 0 buys 0..4 on five days (and 0 again at the end), user 1 one item only.
FIVE = [(0, item, item, item) for item in range(5)] + [(0, 0, 9, 9), (1, 7, 0, 100)]


def test_last_fraction_cuts_at_the_floor():
    split = splits.last_fraction(make(FIVE), 0.2)
    assert pairs(split.train) == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 7)]
    assert pairs(split.test) == [(0, 4)]
    assert split.users.tolist() == [0]
    assert split.candidates is None
    assert pairs(splits.last_fraction(make(FIVE), 0.5).test) == [(0, 2), (0, 3), (0, 4)]


def test_a_repeat_of_a_training_pair_is_training_only_before_the_cut():
    early = [*FIVE, (0, 1, 2, 2)]
    split = splits.last_fraction(make(early), 0.2)
    assert pairs(split.train).count((0, 1)) == 2
    assert pairs(split.train).count((0, 0)) == 1  # its repeat comes after the test row


def test_leave_last_out():
    split = splits.leave_last_out(make(FIVE))
    assert pairs(split.test) == [(0, 4)]
    assert pairs(splits.leave_last_out(make(FIVE), 2).test) == [(0, 3), (0, 4)]
    assert (1, 7) in pairs(split.train)


def test_next_visit_gives_the_cut_session_to_training():
    # The cut of ten pairs falls after item 7, inside session 50 of items 6..8.
    session = [0, 1, 2, 3, 4, 5, 50, 50, 50, 60]
    rows = [(0, item, min(item, 6) if item < 9 else 9, session[item]) for item in range(10)]
    split = splits.next_visit(make([*rows, (0, 2, 6, 50)]), 0.2)
    assert pairs(split.test) == [(0, 9)]
    assert pairs(split.train)[-1] == (0, 2)  # the repeat in the session is seen as well
    assert splits.same_session_share(split) == 0.0
    plain = splits.last_fraction(make(rows), 0.2)
    assert pairs(plain.test) == [(0, 8), (0, 9)]
    assert splits.same_session_share(plain) == 0.5


def test_next_visit_without_a_divided_session_is_the_last_fraction():
    rows = make(FIVE)
    assert pairs(splits.next_visit(rows).test) == pairs(splits.last_fraction(rows).test)


def test_global_time():
    split = splits.global_time(make(FIVE), "2020-01-04")
    assert pairs(split.train) == [(0, 0), (0, 1), (0, 2), (1, 7)]
    assert pairs(split.test) == [(0, 3), (0, 4)]  # the repeat of item 0 is no test pair
    unknown = splits.global_time(make([(2, 1, 5, 5), *FIVE]), "2020-01-04")
    assert 2 not in unknown.users


def test_cold_items_are_those_first_sold_later():
    rows = [*FIVE, (1, 4, 1, 101), (1, 9, 8, 102)]  # user 1 has had item 4 before the date
    split = splits.cold_items(make(rows), "2020-01-04")
    assert split.candidates.tolist() == [3, 9]
    assert pairs(split.test) == [(0, 3), (1, 9)]
    assert not np.isin(split.candidates, split.train.item).any()


def test_held_out_items_lose_all_rows():
    rows = [(user, item, item, item) for user in range(3) for item in range(10)]
    split = splits.held_out_items(make(rows), 0.2, seed=3)
    assert len(split.candidates) == 2
    assert len(split.test) == 6
    assert not np.isin(split.candidates, split.train.item).any()
    again = splits.held_out_items(make(rows), 0.2, seed=3)
    assert again.candidates.tolist() == split.candidates.tolist()


def test_k_core_repeats_until_all_have_k():
    # Item 2 has one user; without it user 2 has one item, without user 2 item 1 has two users.
    rows = make(
        [(0, 0, 0, 0), (0, 1, 1, 1), (1, 0, 0, 2), (1, 1, 1, 3), (2, 1, 0, 4), (2, 2, 1, 5)]
    )
    core = splits.k_core(rows, 2)
    assert core.users == IdMap([0, 1])
    assert core.items == IdMap([0, 1])
    assert len(core) == 4
    assert len(splits.k_core(rows, 3)) == 0


def test_train_and_test_share_their_id_maps():
    for split in (
        splits.last_fraction(make(FIVE)),
        splits.next_visit(make(FIVE)),
        splits.cold_items(make(FIVE), "2020-01-04"),
    ):
        assert split.train.users is split.test.users
        assert split.train.items is split.test.items


def test_errors():
    rows = make(FIVE)
    for fraction in (0.0, 1.0, 2.0):
        for split in (splits.last_fraction, splits.next_visit, splits.held_out_items):
            with pytest.raises(ValueError, match=r"fraction must be in \(0, 1\), got"):
                split(rows, fraction)
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        splits.leave_last_out(rows, 0)
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        splits.k_core(rows, 0)
    with pytest.raises(ValueError, match="expected a time"):
        splits.global_time(rows, "soon")
    bare = Interactions(rows.user, rows.item, rows.users, rows.items)
    for split in (splits.last_fraction, splits.leave_last_out):
        with pytest.raises(ValueError, match="needs interactions with a time column, got none"):
            split(bare)
    with pytest.raises(ValueError, match="needs interactions with a session column, got none"):
        splits.next_visit(bare)
