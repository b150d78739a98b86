import numpy as np
import pytest

from fusionops.data import IdMap, Items
from fusionops.data.features import Features, Left, clean_text


@pytest.fixture
def items():
    return Items(
        ids=IdMap(list("abcdef")),
        numeric={
            "price": np.array([1.0, 2.0, 3.0, np.nan, 5.0, 100.0]),
            "constant": np.full(6, 0.1),
        },
        categorical={
            "colour": np.array(["red", "red", "blue", "green", None, "red"], dtype=object)
        },
    )


def column(features, matrix, name):
    return matrix[:, [features.names.index(name)]].toarray().ravel()


def test_numbers_are_imputed_flagged_and_scaled(items):
    features = Features().fit(items)
    matrix = features.transform(items)
    assert matrix.shape == (6, len(features.names))
    assert matrix.dtype == np.float32
    filled = np.array([1.0, 2.0, 3.0, 3.0, 5.0, 100.0])
    expected = (filled - filled.mean()) / filled.std()
    np.testing.assert_allclose(column(features, matrix, "price"), expected, rtol=1e-6)
    np.testing.assert_array_equal(column(features, matrix, "price is missing"), [0, 0, 0, 1, 0, 0])


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        ("none", [1, 2, 3, 3, 5, 100]),
        ("minmax", (np.array([1, 2, 3, 3, 5, 100]) - 1) / 99),
        ("robust", (np.array([1, 2, 3, 3, 5, 100]) - 3) / (4.5 - 2.25)),
    ],
)
def test_scaling(items, scaling, expected):
    features = Features(scaling=scaling).fit(items)
    np.testing.assert_allclose(
        column(features, features.transform(items), "price"), expected, rtol=1e-6
    )


def test_quantile_scaling_keeps_the_order_within_0_and_1(items):
    features = Features(scaling="quantile").fit(items)
    price = column(features, features.transform(items), "price")
    assert price.min() == 0
    assert price.max() == 1
    assert (np.argsort(price, kind="stable") == np.arange(6)).all()


def test_a_constant_feature_is_left_out_and_named(items):
    features = Features().fit(items)
    assert features.left_out == [Left("constant", "constant")]
    assert "constant" not in features.names


def test_categories_are_one_column_each_and_rare_ones_share_one(items):
    features = Features(min_count=2).fit(items)
    matrix = features.transform(items)
    assert "colour = red" in features.names
    np.testing.assert_array_equal(column(features, matrix, "colour = red"), [1, 1, 0, 0, 0, 1])
    np.testing.assert_array_equal(column(features, matrix, "colour = rare"), [0, 0, 1, 1, 1, 0])
    assert "colour = missing" in Features().fit(items).names


def test_an_unseen_category_counts_as_rare_or_as_none(items):
    other = Items(
        IdMap(["z"]),
        numeric={"price": np.array([2.0]), "constant": np.array([0.1])},
        categorical={"colour": np.array(["violet"], dtype=object)},
    )
    grouped = Features(min_count=2).fit(items)
    assert column(grouped, grouped.transform(other), "colour = rare") == [1]
    single = Features().fit(items)
    colours = [i for i, name in enumerate(single.names) if name.startswith("colour")]
    assert single.transform(other)[:, colours].nnz == 0


def test_mutual_information_keeps_what_speaks_of_the_target():
    rng = np.random.default_rng(0)
    signal = rng.normal(size=400)
    noise = rng.normal(size=(400, 3))
    items = Items(
        IdMap(np.arange(400)),
        numeric={"signal": signal, **{f"noise{i}": noise[:, i] for i in range(3)}},
    )
    continuous = Features(max_features=1).fit(items, np.exp(signal))
    assert continuous.names == ["signal"]
    assert [left.name for left in continuous.left_out] == ["noise0", "noise1", "noise2"]
    assert all(left.reason.startswith("mutual information") for left in continuous.left_out)
    assert max(continuous.information, key=continuous.information.get) == "signal"
    classes = Features(max_features=1).fit(items, signal > 0)
    assert classes.names == ["signal"]


def test_variance_threshold():
    items = Items(
        IdMap([1, 2, 3, 4]),
        numeric={"small": np.array([0, 0, 0, 0.01]), "large": np.array([0.0, 1, 2, 3])},
    )
    features = Features(scaling="none", min_variance=0.1).fit(items)
    assert features.names == ["large"]
    assert features.left_out[0].reason.startswith("variance")


def test_no_columns_give_no_features():
    items = Items(IdMap([1, 2]))
    assert Features().fit(items).transform(items).shape == (2, 0)


def test_errors(items):
    with pytest.raises(ValueError, match=r"scaling must be .* got 'big'"):
        Features(scaling="big")
    with pytest.raises(ValueError, match="min_count must be at least 1, got 0"):
        Features(min_count=0)
    with pytest.raises(ValueError, match="max_features must be at least 1, got 0"):
        Features(max_features=0)
    with pytest.raises(ValueError, match="max_features needs a target"):
        Features(max_features=2).fit(items)
    with pytest.raises(ValueError, match=r"target must have shape \[6\], got \[2\]"):
        Features().fit(items, [1.0, 2.0])
    with pytest.raises(ValueError, match="must be fitted"):
        Features().transform(items)
    with pytest.raises(ValueError, match="must have a row"):
        Features().fit(Items(IdMap([])))


def test_clean_text():
    texts = ["  RED \t Mug\u0000 ", None, "   ", "\ufb01ne"]  # the last holds the ligature fi
    assert clean_text(texts) == ["red mug", None, None, "fine"]
    assert clean_text(["Red  Mug"], lower=False) == ["Red Mug"]
