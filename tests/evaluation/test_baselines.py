"""Each baseline against its definition on a small shop."""

import numpy as np
import pytest

from fusionops.data import Encoded, IdMap, Interactions, Items
from fusionops.evaluation import (
    EASE,
    CarriedEASE,
    ItemKNN,
    Popularity,
    Random,
    SummedCarriedEASE,
)

N_USERS, N_ITEMS, N_COLD = 30, 12, 2
USERS = np.arange(N_USERS)


@pytest.fixture(scope="module")
def history():
    rng = np.random.default_rng(0)
    matrix = rng.random((N_USERS, N_ITEMS)) < 0.4
    matrix[:, -N_COLD:] = False
    return matrix.astype(np.float32)


@pytest.fixture(scope="module")
def interactions(history):
    user, item = np.nonzero(history)
    return Interactions(user, item, IdMap(USERS), IdMap([f"i{i:02d}" for i in range(N_ITEMS)]))


@pytest.fixture(scope="module")
def items(interactions):
    words = ["red mug", "blue mug", "red cup", "blue cup", "tin box", "big tin box"]
    text = [words[i % 6] for i in range(N_ITEMS - N_COLD)] + ["red tin mug", "sofa"]
    shuffled = np.random.default_rng(1).permutation(N_ITEMS)  # items come in an order of their own
    return Items(interactions.items, text={"title": text}).take(interactions.items.ids[shuffled])


def ease(history, penalty):
    gram = history.T @ history + penalty * np.eye(history.shape[1])
    inverse = np.linalg.inv(gram.astype(np.float64))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return weights


def test_popularity(interactions, history):
    model = Popularity().fit(interactions)
    np.testing.assert_array_equal(model.scores(USERS[:2]), np.tile(history.sum(axis=0), (2, 1)))
    _, ranked = model.rank(USERS, N_ITEMS, exclude_seen=False)
    assert ranked[0].tolist() == np.argsort(-history.sum(axis=0), kind="stable").tolist()


@pytest.mark.parametrize("neighbours", [3, 100])
def test_item_knn(interactions, history, neighbours):
    length = np.maximum(np.linalg.norm(history, axis=0), 1e-9)
    cosine = (history / length).T @ (history / length)
    np.fill_diagonal(cosine, 0.0)
    for column in cosine.T:  # of equal neighbours the first stay
        column[np.argsort(-column, kind="stable")[neighbours:]] = 0.0
    found = ItemKNN(neighbours).fit(interactions).scores(USERS)
    np.testing.assert_allclose(found, history @ cosine, rtol=1e-5, atol=1e-6)


def test_ease_by_its_closed_form_and_silent_about_cold_items(interactions, history):
    found = EASE(5.0).fit(interactions).scores(USERS)
    warm = slice(0, N_ITEMS - N_COLD)
    expected = history[:, warm] @ ease(history[:, warm], 5.0)
    np.testing.assert_allclose(found[:, warm], expected, rtol=1e-4, atol=1e-6)
    assert (found[:, -N_COLD:] == -np.inf).all()


def test_carried_ease_is_the_mean_of_the_nearest_in_text(interactions, items, history):
    model = CarriedEASE(5.0, neighbours=3).fit(interactions, items)
    warm = slice(0, N_ITEMS - N_COLD)
    weights = ease(history[:, warm], 5.0)
    found = model.scores(USERS)
    np.testing.assert_allclose(
        found[:, warm], EASE(5.0).fit(interactions).scores(USERS)[:, warm], rtol=1e-5
    )
    # "red tin mug" is nearest to the two "red mug" (0, 6), then to "tin box" (4), the shorter text.
    text = items.take(interactions.items).text["title"]
    assert [text[i] for i in (0, 6, 4)] == ["red mug", "red mug", "tin box"]
    columns = history[:, warm] @ weights[:, [0, 6, 4]]
    share = np.linalg.lstsq(columns, found[:, -2], rcond=None)[0]
    np.testing.assert_allclose(columns @ share, found[:, -2], atol=1e-5)
    assert share.sum() == pytest.approx(1.0, abs=1e-4)
    assert share[0] == pytest.approx(share[1], abs=1e-4)
    assert share[0] > share[2] > 0
    np.testing.assert_array_equal(found[:, -1], 0.0)  # no warm item shares a word with "sofa"


@pytest.fixture(scope="module")
def picture(interactions):
    """Vectors off centre; a warm and a cold item have none."""
    vectors = np.random.default_rng(5).standard_normal((N_ITEMS, 4)) + 3
    present = ~np.isin(np.arange(N_ITEMS), [2, N_ITEMS - 1])
    return Encoded(
        interactions.items, np.where(present[:, None], vectors, 0).astype(np.float32), present
    )


def carried_by_picture(scores, picture, neighbours):
    """The scores of the cold items, item by item: what a warm one without a picture says, goes."""
    warm = range(N_ITEMS - N_COLD)
    mean = picture.vectors[[i for i in warm if picture.present[i]]].mean(axis=0)
    result = np.zeros((len(scores), N_ITEMS))
    result[:, : N_ITEMS - N_COLD] = scores
    for cold in range(N_ITEMS - N_COLD, N_ITEMS):
        if not picture.present[cold]:
            continue
        a = picture.vectors[cold] - mean
        cosines = []
        for item in warm:
            b = picture.vectors[item] - mean
            near = a @ b / np.linalg.norm(a) / np.linalg.norm(b) if picture.present[item] else 0.0
            cosines.append((near, item))
        best = [(c, i) for c, i in sorted(cosines, reverse=True)[:neighbours] if c > 0]
        total = sum(c for c, _ in best)
        result[:, cold] = sum(c / total * scores[:, i] for c, i in best)
    return result


def standardised(scores):
    centred = scores - scores.mean(axis=1, keepdims=True)
    return centred / np.maximum(centred.std(axis=1, keepdims=True), 1e-12)


@pytest.mark.parametrize("columns", [None, np.array([1, 4, 9, 10, 11])])
def test_summed_carried_ease_adds_what_text_and_pictures_say(
    interactions, items, picture, history, columns
):
    warm = history[:, : N_ITEMS - N_COLD]
    by_picture = carried_by_picture(warm @ ease(warm, 5.0), picture, 3)
    by_text = CarriedEASE(5.0, neighbours=3).fit(interactions, items).scores(USERS)
    asked = slice(None) if columns is None else columns
    expected = standardised(by_text[:, asked]) + standardised(by_picture[:, asked])
    order = np.random.default_rng(2).permutation(N_ITEMS)
    shuffled = {"picture": picture.take(IdMap(interactions.items.ids[order].tolist()))}
    model = SummedCarriedEASE(5.0, neighbours=3).fit(interactions, items, features=shuffled)
    np.testing.assert_allclose(model.scores(USERS, columns), expected, atol=2e-4)
    alone = SummedCarriedEASE(5.0, neighbours=3).fit(interactions, features=shuffled)
    expected = standardised(by_picture[:, asked])
    np.testing.assert_allclose(alone.scores(USERS, columns), expected, atol=2e-4)


def test_random_is_reproducible_and_seeded(interactions):
    first = Random(1).fit(interactions).rank(USERS, 5)[1]
    np.testing.assert_array_equal(first, Random(1).fit(interactions).rank(USERS, 5)[1])
    assert (first != Random(2).fit(interactions).rank(USERS, 5)[1]).any()


@pytest.mark.parametrize("model", [Random(), Popularity(), ItemKNN(3), EASE(5.0)])
def test_rank_leaves_out_what_was_seen_and_keeps_to_candidates(model, interactions, history):
    model.fit(interactions)
    scores, ranked = model.rank(USERS, 8)
    assert (scores.dtype, ranked.dtype) == (np.float32, np.int64)
    assert scores.shape == ranked.shape == (N_USERS, 8)
    found = ranked >= 0
    assert not history[np.nonzero(found)[0], ranked[found]].any()
    assert (scores[~found] == -np.inf).all()
    assert (scores[:, 1:] <= scores[:, :-1]).all()

    candidates = np.array([7, 2, 2])
    _, few = model.rank(USERS, 3, candidates=candidates)
    assert np.isin(few, [2, 7, -1]).all()
    assert (few[:, 2] == -1).all()
    _, seen = model.rank(USERS, 3, candidates=candidates, exclude_seen=False)
    assert (np.sort(seen, axis=1) == [-1, 2, 7]).all()


def test_a_candidate_list_is_the_whole_list_with_the_others_gone(interactions):
    model = EASE(5.0).fit(interactions)
    candidates = np.array([1, 4, 5, 9])
    _, whole = model.rank(USERS, N_ITEMS)
    _, part = model.rank(USERS, 4, candidates=candidates)
    for row, few in zip(whole, part, strict=True):
        assert [i for i in row if i in candidates] == [i for i in few if i >= 0]


def test_no_users(interactions):
    scores, ranked = EASE(5.0).fit(interactions).rank(np.empty(0, dtype=np.int64), 3)
    assert scores.shape == ranked.shape == (0, 3)


def test_errors(interactions, items):
    with pytest.raises(ValueError, match=r"penalty must be above 0, got 0\.0"):
        EASE(0.0)
    with pytest.raises(ValueError, match="needs items with a text column, got none"):
        CarriedEASE().fit(interactions)
    with pytest.raises(ValueError, match="needs features of at least one modality, got none"):
        SummedCarriedEASE().fit(interactions, items)
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        Popularity().fit(interactions).rank(USERS, 0)
