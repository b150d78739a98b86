"""Vectors of encoders in LinearFusion: fit, added items, landmarks, files, errors."""

import numpy as np
import pytest

from fusionops.data import Encoded, IdMap, InputWarning
from fusionops.models import LinearFusion

WARM = 36


def scores(model):
    pairs = [(user, item) for user in model.users.ids[:20] for item in model.items.ids.ids]
    return model.score(pairs)["score"].to_numpy()


def test_features_change_where_cold_items_stand(interactions, items, picture):
    plain = LinearFusion().fit(interactions, items)
    seen = LinearFusion().fit(interactions, items, features={"picture": picture})
    cold = slice(WARM, None)
    assert not np.allclose(plain.item_vectors[cold], seen.item_vectors[cold], atol=1e-3)


def test_features_alone_are_content(interactions, picture):
    model = LinearFusion().fit(interactions, features={"picture": picture})
    vectors = model.item_vectors[WARM:]
    assert not np.allclose(vectors[0], vectors[1], atol=1e-3)


def test_rows_may_come_in_any_order(interactions, items, picture):
    order = IdMap(picture.ids.ids[::-1].tolist())
    straight = LinearFusion().fit(interactions, items, features={"picture": picture})
    turned = LinearFusion().fit(interactions, items, features={"picture": picture.take(order)})
    np.testing.assert_array_equal(straight.item_vectors, turned.item_vectors)


@pytest.mark.parametrize("dense_items", [10_000, 0])
def test_adding_items_equals_a_refit_without_their_history(
    interactions, items, picture, dense_items
):
    features = {"picture": picture}
    parameters = {"dense_items": dense_items}
    together = LinearFusion(**parameters).fit(interactions, items, features=features)
    warm = interactions.restrict(users=np.arange(len(interactions.users)), items=np.arange(WARM))
    later = LinearFusion(**parameters).fit(
        warm, items, features={"picture": picture.take(warm.items)}
    )
    later.add_items(items.take(items.ids.ids[WARM:]), features=features)
    expected = scores(together)
    # eigh and GEMM may order their sums by shape, so equal up to float32 rounding.
    np.testing.assert_allclose(scores(later), expected, atol=1e-5 * expected.max())


def test_landmarks_are_near_the_dense_form(interactions, items, picture):
    features = {"picture": picture}
    dense = LinearFusion().fit(interactions, items, features=features)
    streamed = LinearFusion(dense_items=0).fit(interactions, items, features=features)
    expected, found = scores(dense), scores(streamed)
    # The landmarks keep the positive part of the kernel, which prices make slightly indefinite.
    assert np.corrcoef(expected, found)[0, 1] > 0.999
    assert np.abs(found - expected).max() < 0.05 * expected.max()


def test_the_same_answers_bit_for_bit(interactions, items, picture, tmp_path):
    parameters = {
        "numeric": {"price": ("log", 0.7)},
        "weights": {"picture": 0.5, "word": 0.0},
        "content": ["title", "price"],
    }
    model = LinearFusion(**parameters).fit(interactions, items, features={"picture": picture})
    model.save_pretrained(tmp_path)
    again = LinearFusion.from_pretrained(tmp_path)
    assert again.parameters == model.parameters
    np.testing.assert_array_equal(again.item_vectors, model.item_vectors)
    new = {"item": ["new"], "title": [None], "price": [None], "section": [None]}
    vectors = Encoded(IdMap(["new"]), picture.vectors[:1], np.array([True]))
    for one in (model, again):
        with pytest.warns(InputWarning, match="missing number"):
            one.add_items(new, features={"picture": vectors})
    np.testing.assert_array_equal(again.item_vectors, model.item_vectors)


def test_an_added_item_without_a_modality_is_compared_by_the_rest(interactions, items, picture):
    model = LinearFusion().fit(interactions, items, features={"picture": picture})
    new = items.take(items.ids.ids[:1])
    twin = type(new)(IdMap(["twin"]), new.text, new.numeric, new.categorical)
    with pytest.warns(InputWarning, match="fitted with 'picture', and the added items come with"):
        model.add_items(twin)
    section = dict(zip(items.ids.ids.tolist(), items.categorical["section"], strict=True))
    near = model.similar_items("twin", 5)["similar"].to_pylist()
    assert sum(section[item] == section["i00"] for item in near) >= 4


class TestBadInput:
    def test_of_fit(self, interactions, items, picture):
        with pytest.raises(TypeError, match="expected a mapping of modality to Encoded, got list"):
            LinearFusion().fit(interactions, items, features=[picture])
        with pytest.raises(TypeError, match="features: expected modalities as str, got 3"):
            LinearFusion().fit(interactions, items, features={3: picture})
        with pytest.raises(TypeError, match=r"features\['picture'\]: expected .*got ndarray"):
            LinearFusion().fit(interactions, items, features={"picture": picture.vectors})
        strange = Encoded(IdMap([3, 4]), np.ones((2, 2), np.float32), np.ones(2, bool))
        with pytest.raises(ValueError, match=r"ids of items, such as 'i00', got none of .* as 3"):
            LinearFusion().fit(interactions, items, features={"picture": strange})
        part = picture.take(IdMap(picture.ids.ids[:39].tolist()))
        with pytest.warns(InputWarning, match=r"1 of the 40 items have no row, .*'i39'"):
            LinearFusion().fit(interactions, items, features={"picture": part})
        with pytest.raises(ValueError, match="got 1 rows with NaN"):
            Encoded(IdMap(["i00"]), np.full((1, 2), np.nan, np.float32), np.array([True]))

    def test_of_add_items(self, interactions, items, picture):
        model = LinearFusion().fit(interactions, items, features={"picture": picture})
        new = {"item": ["new"], "title": ["mug"], "price": [2.0], "section": ["kitchen"]}

        def vectors(width):
            return Encoded(IdMap(["new"]), np.ones((1, width), np.float32), np.array([True]))

        with pytest.raises(ValueError, match=r"the modalities of the fit \('picture'\), got 'snd'"):
            model.add_items(new, features={"snd": vectors(6)})
        with pytest.raises(ValueError, match="expected vectors of 6 features as in the fit, got 5"):
            model.add_items(new, features={"picture": vectors(5)})
        with pytest.raises(ValueError, match="got none of them but such as 'i00'"):
            model.add_items(new, features={"picture": picture})
        assert "new" not in model.items.ids.ids
