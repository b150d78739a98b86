"""Vectors of items that nobody has yet, from content alone."""

from dataclasses import replace

import numpy as np
import pytest

from fusionops.data import Encoded, IdMap, Items
from fusionops.models import LinearFusion
from fusionops.models.linear_fusion.cold import ColdItems
from fusionops.models.linear_fusion.content import Content
from fusionops.models.linear_fusion.landmarks import Landmarks
from fusionops.models.linear_fusion.parameters import Parameters

WARM = 36


def fitted(items, streamed=False, columns=None):
    rng = np.random.default_rng(1)
    warm = items.take(items.ids.ids[:WARM])
    content = Content.fit(warm, columns)
    features = content.features(warm)
    kernel = content.kernel(features, features)
    vectors = rng.standard_normal((WARM, 6)).astype(np.float32)
    users = rng.integers(1, 50, WARM)
    chosen = Landmarks(content, features) if streamed else kernel.copy()
    return ColdItems.fit(content, features, chosen, vectors, users), content, kernel, vectors, users


def blank_item() -> Items:
    return Items(
        IdMap(["blank"]),
        text={"title": [None]},
        numeric={"price": np.array([np.nan])},
        categorical={"section": np.array([None], dtype=object)},
    )


def test_regression_and_neighbours_against_float64(items):
    cold, content, kernel, vectors, users = fitted(items)
    new = items.take(items.ids.ids[WARM:])
    features = content.features(new)
    parameters = Parameters(neighbours=3, neighbour_weight=0.5, cold_factor=2.0)
    found, log = cold.vectors(features, vectors, parameters)

    warm_features = content.features(items.take(items.ids.ids[:WARM]))
    cross = content.kernel(features, warm_features).astype(np.float64)
    weights = np.linalg.solve(kernel.astype(np.float64) + 2.0 * np.eye(WARM), cross.T).T
    rest = 1 - weights.sum(axis=1, keepdims=True)
    regression = weights @ vectors + rest * vectors.mean(axis=0)
    near = np.zeros_like(cross)
    for row, order in enumerate(np.argsort(-cross, axis=1, kind="stable")[:, :3]):
        near[row, order] = cross[row, order] / cross[row, order].sum()
    expected = 2.0 * (regression + 0.5 * near @ vectors) / 1.5
    np.testing.assert_allclose(found, expected, atol=1e-4)
    target = np.log1p(users)
    np.testing.assert_allclose(log, weights @ target + rest[:, 0] * target.mean(), atol=1e-4)


def test_landmarks_give_the_same_regression(items):
    columns = ["title", "section"]  # the price would make the kernel indefinite
    dense, content, _, vectors, _ = fitted(items, columns=columns)
    streamed, *_ = fitted(items, streamed=True, columns=columns)
    features = content.features(items.take(items.ids.ids[WARM:]))
    expected, _ = dense.vectors(features, vectors, Parameters())
    found, _ = streamed.vectors(features, vectors, Parameters())
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_an_item_without_content_gets_the_mean(items):
    cold, content, _, vectors, users = fitted(items)
    blank = content.features(blank_item())
    found, log = cold.vectors(blank, vectors, Parameters(cold_factor=1.0))
    np.testing.assert_allclose(found[0], vectors.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(log[0], np.log1p(users).mean(), atol=1e-5)


@pytest.mark.parametrize("dense_items", [10_000, 0])
def test_adding_items_equals_a_refit_without_their_history(interactions, items, dense_items):
    parameters = {"dense_items": dense_items}
    together = LinearFusion(**parameters).fit(interactions, items)
    warm = interactions.restrict(users=np.arange(len(interactions.users)), items=np.arange(WARM))
    later = LinearFusion(**parameters).fit(warm, items).add_items(items.take(items.ids.ids[WARM:]))
    assert later.items.ids == together.items.ids
    pairs = [(user, item) for user in together.users.ids for item in items.ids.ids]
    expected = together.score(pairs)
    found = later.score(pairs)
    assert found["how"] == expected["how"]
    scores = expected["score"].to_numpy()
    # eigh and GEMM may order their sums by shape, so equal up to float32 rounding.
    np.testing.assert_allclose(found["score"].to_numpy(), scores, atol=1e-5 * scores.max())


def test_cold_items_go_to_the_users_of_their_taste(model, items):
    table = model.recommend(model.users.ids, k=1, candidates=items.ids.ids[WARM:])
    sections = dict(zip(items.ids.ids.tolist(), items.categorical["section"], strict=True))
    fits = [
        sections[item] == ("kitchen" if int(user[1:]) % 2 == 0 else "garden")
        for user, item in zip(table["user"].to_pylist(), table["item"].to_pylist(), strict=True)
    ]
    assert np.mean(fits) > 0.8
    assert set(table["how"].to_pylist()) == {"content"}


def test_without_content_cold_items_are_the_mean_item(interactions):
    model = LinearFusion(cold_factor=1.0).fit(interactions)
    np.testing.assert_allclose(
        model.item_vectors[WARM:],
        np.tile(model.item_vectors[:WARM].mean(axis=0), (len(model.items) - WARM, 1)),
        atol=1e-6,
    )


@pytest.mark.parametrize("neighbours", [0, 3, 100])
def test_the_split_of_scores_term_by_term(items, picture, neighbours):
    """Each term of the kernel on its own, in float64; together they are the vectors."""
    rng = np.random.default_rng(5)
    warm, features = np.arange(1, WARM + 1), {"image": picture}
    warm_items = items.take(items.ids.ids[warm])
    content = Content.fit(warm_items, encoded=features)
    of_warm = content.features(warm_items, features)
    vectors = rng.standard_normal((len(items), 5)).astype(np.float32)
    kernel, users = content.kernel(of_warm, of_warm), rng.integers(1, 50, WARM)
    cold = ColdItems.fit(content, of_warm, kernel.copy(), vectors[warm], users)
    new = content.features(items.take(items.ids.ids[[0, 37, 38, 39]]), features)
    new = new.append(content.features(blank_item()))
    parameters = Parameters(neighbours=neighbours, neighbour_weight=0.7, cold_factor=1.3)
    user = rng.standard_normal(5)

    terms, average = cold.split(new, vectors, warm, user, parameters)
    whole, _ = cold.vectors(new, vectors[warm], parameters)
    np.testing.assert_allclose(sum(terms.values()) + average, whole @ user, atol=1e-5)

    scores = vectors[warm].astype(np.float64) @ user
    solved = np.linalg.solve(kernel + 2.0 * np.eye(WARM), np.stack([scores, np.ones(WARM)], 1))
    of_warm_items = solved[:, 0] - solved[:, 1] * scores.mean()
    cross = content.kernel(new, of_warm).astype(np.float64)
    near = np.zeros_like(cross)
    for row, order in enumerate(np.argsort(-cross, axis=1, kind="stable")[:, :neighbours]):
        kept = order[cross[row, order] > 0]
        near[row, kept] = 1 / max(cross[row, kept].sum(), 1e-30)
    scale = 1.3 / 1.7
    assert set(terms) == {"text", "category", "price", "image"}
    for name, part in content.terms(new, of_warm).items():
        expected = scale * (part @ of_warm_items + 0.7 * (part * near) @ scores)
        np.testing.assert_allclose(terms[name], expected, atol=1e-5, err_msg=name)
    alone = near.sum(axis=1) == 0
    assert alone[-1]
    np.testing.assert_allclose(average, scale * scores.mean() * (1 + 0.7 * alone), atol=1e-6)
    assert [float(term[-1]) for term in terms.values()] == [0, 0, 0, 0]


def test_neighbours_that_are_barely_alike_share_without_dividing_by_nothing():
    """Terms of opposite signs cancel to a kernel of almost 0, which shares are taken of."""
    rng = np.random.default_rng(2)
    ids = IdMap([f"i{code}" for code in range(6)])
    direction = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1], [1, 0], [-1, 0]], np.float32)
    first = Encoded(ids, direction, np.ones(6, bool))
    second = Encoded(ids, -direction, np.ones(6, bool))
    content = Content.fit(Items(ids), encoded={"one": first})
    twice = replace(
        content,
        modalities=(content.modalities[0], replace(content.modalities[0], name="two")),
    )
    features = twice.features(Items(ids), {"one": first, "two": first})
    opposed = twice.features(Items(ids), {"one": first, "two": second})
    vectors = rng.standard_normal((6, 3)).astype(np.float32)
    kernel = twice.kernel(features, features)
    cold = ColdItems.fit(twice, features, kernel, vectors, np.ones(6, np.int64))
    user = rng.standard_normal(3)
    terms, average = cold.split(opposed, vectors, np.arange(6), user, Parameters(neighbours=3))
    whole, _ = cold.vectors(opposed, vectors, Parameters(neighbours=3))
    assert all(np.isfinite(term).all() for term in terms.values())
    np.testing.assert_allclose(sum(terms.values()) + average, whole @ user, atol=1e-5)
