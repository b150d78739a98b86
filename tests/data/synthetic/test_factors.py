"""What users buy follows what they are said to like."""

import numpy as np
import pytest

from fusionops.data import synthetic


@pytest.fixture(scope="module")
def shop():
    return synthetic.make(400, 600, purchases=20, seed=3)


def bought(shop):
    return shop.interactions.matrix().toarray() > 0


def ranks_above(liked, rows):
    """The chance that something bought is liked more than something that is not."""
    order = liked.argsort(axis=1).argsort(axis=1)
    n, everything = rows.sum(axis=1), rows.shape[1]
    above = (order * rows).sum(axis=1) - n * (n - 1) / 2
    return float(np.mean(above / (n * (everything - n))))


def test_factors_are_independent_and_standard_normal(shop):
    factors = np.concatenate([shop.truth.item[name] for name in shop.modalities], axis=1)
    assert factors.shape == (600, 12)
    np.testing.assert_allclose(np.cov(factors.T), np.eye(12), atol=0.2)
    np.testing.assert_allclose(factors.mean(axis=0), 0, atol=0.2)


def test_the_planted_modality_has_a_taste_of_length_1_and_the_others_of_side(shop):
    lengths = np.stack([np.linalg.norm(shop.truth.user[m], axis=1) for m in shop.modalities], 1)
    planted = np.arange(3) == shop.truth.main[:, None]
    np.testing.assert_allclose(lengths, np.where(planted, 1, 0.3))
    assert np.bincount(shop.truth.main).min() > 100


def test_purchases_follow_the_affinity(shop):
    rows = bought(shop)
    assert ranks_above(shop.affinity(), rows) > 0.9
    shuffled = shop.affinity(np.random.default_rng(0).permutation(400))
    assert 0.4 < ranks_above(shuffled, rows) < 0.6


def test_without_sharpness_only_popularity_counts():
    shop = synthetic.make(300, 100, sharpness=0, seed=1)
    sold = np.bincount(shop.interactions.item, minlength=100)
    assert np.corrcoef(sold, shop.truth.popularity)[0, 1] > 0.8


def test_purchases_are_drawn_in_proportion_to_the_exponential_of_the_affinity():
    """Of items of two kinds, the first purchases are shared as exp says, 3 to 1."""
    shop = synthetic.make(4000, 400, purchases=0, sharpness=0, seed=2)
    rng = np.random.default_rng(0)
    popularity = np.where(np.arange(400) < 200, np.log(3), 0.0)
    truth = synthetic.Truth(shop.truth.item, shop.truth.user, shop.truth.main, popularity, 0.0)
    _, item, _ = synthetic.factors.draw_purchases(truth, 0, rng)
    # Eight of 400 leave the shares nearly what they were.
    assert np.mean(item < 200) == pytest.approx(0.75, abs=0.01)


def test_a_user_buys_a_poisson_number_of_different_items_in_random_order(shop):
    rows = shop.interactions
    counts = np.bincount(rows.user)
    assert counts.min() >= 8
    assert counts.mean() == pytest.approx(20, abs=1)
    assert rows.is_first_of_pair().all()
    assert (np.diff(rows.time)[np.diff(rows.user) == 0] >= np.timedelta64(0)).all()
    # Were the best bought first, early purchases would be liked more than late ones.
    liked = shop.affinity()[rows.user, rows.item]
    place = np.concatenate([np.arange(n) / n for n in counts])
    assert abs(np.corrcoef(liked, place)[0, 1]) < 0.05


def test_all_items_are_bought_where_there_are_few():
    shop = synthetic.make(5, 8, seed=1)
    assert bought(shop).all()
