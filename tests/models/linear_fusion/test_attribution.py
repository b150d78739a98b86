"""Scores of LinearFusion as sums: over the history, and over what the items are known by."""

from dataclasses import replace

import numpy as np
import pytest

from fusionops.data import Encoded, IdMap, Interactions, Items
from fusionops.models import LinearFusion
from fusionops.models.explanation import Situation

N_COLD = 4


def encodings(picture: Encoded) -> dict[str, Encoded]:
    """A second modality beside the pictures, missing elsewhere."""
    rng = np.random.default_rng(8)
    present = np.arange(len(picture)) % 3 != 1
    vectors = rng.standard_normal((len(picture), 4)).astype(np.float32)
    return {"image": picture, "sound": Encoded(picture.ids, vectors, present)}


def explained(model, user: str, codes=None):
    """The explanations of items, by default of the whole catalogue, by exact contributions."""
    ids = model.items.ids.ids
    wanted = ids if codes is None else ids[codes]
    return [
        model.explain(user, item, exclude_seen=False, method="contributions", budget=1)
        for item in wanted.tolist()
    ]


def check_sums(model, users=("u00", "u07"), codes=None) -> None:
    for user in users:
        found = explained(model, user, codes)
        served = model.score([(user, one.item) for one in found])["score"].to_numpy()
        close = 1e-6 * float(np.abs(served).max())
        for one, score in zip(found, served.tolist(), strict=True):
            assert one.method == "contributions"
            assert one.score == pytest.approx(score, rel=1e-6, abs=close)
            of_history = sum(part.effect for part in one.history)
            of_modalities = one.baseline + sum(part.effect for part in one.modalities)
            assert of_history == pytest.approx(score, rel=1e-6, abs=close)
            assert of_modalities == pytest.approx(score, rel=1e-6, abs=close)


def check_same_parts(one, other) -> None:
    for name in ("history", "modalities"):
        parts = {part.id: part.effect for part in getattr(one, name)}
        others = {part.id: part.effect for part in getattr(other, name)}
        assert parts == pytest.approx(others, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("choices", [{}, {"rank": 6}, {"dense_items": 0, "rank": 12}])
def test_parts_add_up_to_the_score(interactions, items, picture, power, choices):
    model = LinearFusion(power=power, ridge=0.7, content_weight=0.4, **choices)
    model.fit(interactions, items, features=encodings(picture))
    check_sums(model)
    names = {part.id for part in explained(model, "u00", [0])[0].modalities}
    assert names == {"behaviour", "text", "category", "price", "image", "sound"}


@pytest.mark.parametrize(
    "choices",
    [
        {"content": ()},
        {"content": ("price",)},
        {"content": ("section",), "neighbours": 0},
        {"weights": {"char": 0, "category": 0}},
        {"neighbour_weight": 0.0, "cold_factor": 0.3},
    ],
)
def test_parts_of_any_content_add_up(interactions, items, choices):
    check_sums(LinearFusion(**choices).fit(interactions, items), users=["u03"])


def test_without_content_all_is_behaviour(interactions):
    model = LinearFusion(rank=8).fit(interactions)
    check_sums(model)
    bought, cold = explained(model, "u00", [0, len(model.items) - 1])
    assert [part.id for part in bought.modalities] == ["behaviour"]
    assert bought.baseline == 0
    assert [part.effect for part in cold.modalities] == [0]
    assert cold.baseline == pytest.approx(cold.score, rel=1e-6)


def test_without_items_that_nobody_has(interactions, items):
    warm = items.ids.ids[:-N_COLD]
    rows = Interactions(
        interactions.user, interactions.item, interactions.users, IdMap(warm), interactions.time
    )
    model = LinearFusion().fit(rows, items.take(warm))
    check_sums(model, users=["u01"])
    model.add_items(items.take(items.ids.ids[-N_COLD:]))
    check_sums(model, users=["u01"])


@pytest.mark.parametrize("asked_before", [False, True])
def test_added_items_are_explained(interactions, items, picture, asked_before):
    """Some items are cold at the fit, more are added in two steps."""
    start = items.ids.ids[:-2]
    rows = Interactions(
        interactions.user, interactions.item, interactions.users, IdMap(start), interactions.time
    )
    features = encodings(picture)
    model = LinearFusion().fit(rows, items.take(start), features=features)
    if asked_before:
        model.explain("u00", "i00")
    for item in items.ids.ids[-2:].tolist():
        model.add_items(items.take([item]), features=features)
    check_sums(model, codes=np.arange(30, 40))
    together = LinearFusion().fit(interactions, items, features=features)
    last = np.arange(35, 40)
    for one, other in zip(
        explained(model, "u00", last), explained(together, "u00", last), strict=True
    ):
        assert one.baseline == pytest.approx(other.baseline, rel=1e-5)
        check_same_parts(one, other)


@pytest.mark.parametrize("dense_items", [0, 10_000])
def test_a_loaded_model_gives_the_same_bits(interactions, items, picture, dense_items, tmp_path):
    model = LinearFusion(rank=12, dense_items=dense_items)
    model.fit(interactions, items, features=encodings(picture))
    model.save_pretrained(tmp_path / "model")
    again = LinearFusion.from_pretrained(tmp_path / "model")
    for one, other in zip(explained(model, "u00"), explained(again, "u00"), strict=True):
        assert one.to_dict() == other.to_dict()
    again.add_items({"item": ["new"], "title": ["red mug"], "price": [2.0], "section": ["kitchen"]})
    check_sums(again, users=["u00"], codes=[0, 39, 40])


def test_a_fit_forgets_the_split_of_the_one_before(interactions, items):
    model = LinearFusion().fit(interactions, items)
    model.explain("u00", "i00")
    model.fit(interactions)
    assert [part.id for part in explained(model, "u00", [0])[0].modalities] == ["behaviour"]


def by_definition(model, interactions, items, features, weights):
    """``h (S_PP + ridge I)^-power S_m`` of each summand ``S_m`` of ``S_PP``, all in float64."""
    parameters = model.parameters
    warm = np.unique(interactions.item)
    pairs = np.zeros((len(interactions.users), len(warm)))
    pairs[interactions.user, np.searchsorted(warm, interactions.item)] = 1
    n_user, n_item = pairs.sum(axis=1), pairs.sum(axis=0)
    scale = n_item**-parameters.item_exponent
    scaled = n_user[:, None] ** -parameters.user_exponent * pairs * scale
    behaviour = scaled.T @ scaled
    unit = np.diag(behaviour).mean()

    cosines = {}
    for name, one in features.items():
        known = one.present[warm]
        centred = one.vectors[warm].astype(np.float64)
        centred = np.where(known[:, None], centred - centred[known].mean(axis=0), 0)
        length = np.linalg.norm(centred, axis=1)
        centred /= np.where(length > 0, length, 1)[:, None]
        cosines[name] = (weights[name] * centred @ centred.T, known)
    price = items.numeric["price"][warm]
    width = model.parameters.numeric["price"][1]
    near = np.exp(-(((price[:, None] - price) / width) ** 2) / 2)
    cosines["price"] = (weights["price"] * near, np.ones(len(warm), bool))
    section = np.array([str(value) for value in items.categorical["section"][warm]])
    same = (section[:, None] == section).astype(float)
    cosines["category"] = (weights["category"] * same, np.ones(len(warm), bool))

    squares = sum(weights[name] * known for name, (_, known) in cosines.items())
    lengths = np.sqrt(np.outer(squares, squares))
    whole = sum(matrix for matrix, _ in cosines.values()) / lengths
    summands = {"behaviour": behaviour}
    for name, (matrix, _) in cosines.items():
        part = np.abs(whole) ** 0.5 * matrix / lengths
        summands[name] = parameters.content_weight * unit * part
    gram = sum(summands.values())
    values, vectors = np.linalg.eigh(gram)
    # An indefinite kernel would have no vectors E with all of G in their products.
    assert values[0] > 1e-3 * unit
    power = (vectors * (values + parameters.ridge * unit) ** -parameters.power) @ vectors.T
    history = pairs * scale
    return {name: history @ power @ part for name, part in summands.items()}


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_each_part_is_what_the_definition_says(interactions, items, picture, power):
    weights = {"image": 0.5, "sound": 0.2, "price": 0.3, "category": 0.4}
    features = encodings(picture)
    model = LinearFusion(
        power=power,
        ridge=0.3,
        content_weight=0.8,
        content=("price", "section"),
        numeric={"price": ("linear", 0.4)},
        weights=weights,
    ).fit(interactions, items, features=features)
    expected = by_definition(model, interactions, items, features, weights)
    for user in (0, 1, 17):
        situation = Situation.of(model, f"u{user:02d}", recency=None)
        codes = np.arange(len(items) - N_COLD)
        found = model._contributions(situation.asked, situation.history, codes)
        assert set(found.modalities) == set(expected)
        assert not found.baseline.any()
        for name, part in found.modalities.items():
            size = np.abs(expected[name][user]).max()
            np.testing.assert_allclose(part, expected[name][user], atol=2e-5 * size, err_msg=name)


def test_each_item_of_the_history_adds_what_it_would_alone(model):
    """A profile is a sum, so an item's part is the score of a history of it alone."""
    history = ["i02", "i04", "i05", "i36"]  # the last one is new to everyone
    one = model.explain_for(history, "i08", recency=None, method="contributions")
    for part in one.history:
        alone = model.explain_for([part.id], "i08", recency=None, method="contributions")
        assert part.effect == pytest.approx(alone.score, rel=1e-5)
        assert part.score == pytest.approx(one.score - part.effect, rel=1e-5)


def test_recency_is_in_the_contributions(model):
    user = "u05"
    without, auto = (
        model.explain(user, "i00", exclude_seen=False, recency=recency)
        for recency in (None, "basket")
    )
    effects = {part.id: part.effect for part in without.history}
    faded = {part.id: part.effect for part in auto.history}
    assert effects.keys() == faded.keys()
    shares = [faded[name] / effects[name] for name in effects if abs(effects[name]) > 1e-6]
    assert 0.09 < min(shares) < max(shares) <= 1 + 1e-6


def test_explaining_a_list_is_explaining_each_of_its_items(model):
    listed = model.explain_list("u02", 12, candidates=[f"i{code:02d}" for code in range(28, 40)])
    assert any(one.how == "content" for one in listed)
    for one in listed:
        check_same_parts(one, model.explain("u02", one.item, k=12))


class TestDegenerate:
    def test_items_that_are_all_the_same(self):
        """The Gram matrix has many eigenvalues that are 0 but for rounding."""
        ids = IdMap([f"i{code}" for code in range(12)])
        items = Items(ids, text={"title": ["mug"] * 6 + ["lamp"] * 6}, numeric={"p": np.ones(12)})
        pairs = np.array([(user, item) for user in range(3) for item in range(user, 12, 3)])
        rows = Interactions(pairs[:, 0], pairs[:, 1], IdMap(["a", "b", "c"]), ids)
        for power in (0.0, 0.5, 1.0, 1.5):
            check_sums(LinearFusion(power=power).fit(rows, items), users=["a", "b"])
        parts = {
            one.item: {part.id: part.effect for part in one.modalities}
            for one in explained(LinearFusion().fit(rows, items), "a")
        }
        # i0, i3 are mugs of user a; i6, i9 lamps of the same user: symmetry tells what each gets.
        assert parts["i0"] == pytest.approx(parts["i3"], rel=1e-3)
        assert parts["i6"] == pytest.approx(parts["i9"], rel=1e-3)

    def test_a_column_that_is_called_behaviour(self, interactions, items, picture):
        """What has the name of a special part is added to it, and the sum stays."""
        named = replace(items, numeric={"behaviour": items.numeric["price"]})
        model = LinearFusion().fit(interactions, named, features={"zoom": picture})
        check_sums(model, users=["u00"])

    def test_one_item_with_history(self):
        ids = IdMap(["a", "b", "c"])
        items = Items(ids, text={"title": ["red mug", "blue mug", "lamp"]})
        rows = Interactions(np.array([0]), np.array([0]), IdMap(["u"]), ids)
        check_sums(LinearFusion().fit(rows, items), users=["u"])
