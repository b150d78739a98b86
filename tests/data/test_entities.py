import numpy as np
import pyarrow as pa
import pytest

from fusionops.data import IdMap, Items, Reviews, Users


@pytest.fixture
def items():
    return Items.from_table(
        {
            "item": ["a", "b", "c"],
            "title": ["Red mug", " ", None],
            "price": [1.0, 2.0, 4.0],
            "shelf": ["x", None, "y"],
            "picture": ["a.png", "b.png", None],
        },
        text=["title"],
        numeric=["price"],
        categorical=["shelf"],
        media=["picture"],
    )


def test_columns_by_kind(items):
    assert len(items) == 3
    assert items.columns == ["title", "price", "shelf", "picture"]
    assert items.text == {"title": ["Red mug", None, None]}
    assert items.numeric["price"].tolist() == [1.0, 2.0, 4.0]
    assert items.categorical["shelf"].tolist() == ["x", None, "y"]
    assert items.media == {"picture": ["a.png", "b.png", None]}
    assert items.row(0) == {
        "id": "a",
        "title": "Red mug",
        "price": 1.0,
        "shelf": "x",
        "picture": "a.png",
    }


def test_dictionary_columns_and_integer_categories():
    table = pa.table({"item": pa.array(["a", "b"]).dictionary_encode(), "shelf": [3, None]})
    items = Items.from_table(table, categorical=["shelf"])
    assert items.categorical["shelf"].tolist() == ["3", None]


def test_take_reorders_and_fills(items):
    taken = items.take(["c", "a"])
    assert taken.ids == IdMap(["c", "a"])
    assert taken.numeric["price"].tolist() == [4.0, 1.0]
    assert taken.text["title"] == [None, "Red mug"]
    filled = items.take(IdMap(["z", "b"]), missing="empty")
    np.testing.assert_array_equal(filled.numeric["price"], [np.nan, 2.0])
    assert filled.text["title"] == [None, None]
    assert filled.categorical["shelf"].tolist() == [None, None]
    assert filled.media["picture"] == [None, "b.png"]
    with pytest.raises(KeyError, match="1 of 2 ids are unknown, for example 'z'"):
        items.take(["z", "b"])
    with pytest.raises(ValueError, match="missing must be 'raise' or 'empty', got 'skip'"):
        items.take(["a"], missing="skip")


@pytest.mark.parametrize(
    ("where", "codes"),
    [
        ({"shelf": "x"}, [0]),
        ({"shelf": ["x", "y"]}, [0, 2]),
        ({"price": slice(1.5, 4.0)}, [1, 2]),
        ({"price": slice(None, 1.5)}, [0]),
        ({"price": 2}, [1]),
        ({"price": slice(1.5, None), "shelf": {"x", "y"}}, [2]),
        ({"id": ["a", "c"]}, [0, 2]),
        ({"shelf": None}, []),
        (lambda row: row["price"] > 1 and row["shelf"] is None, [1]),
    ],
)
def test_filter(items, where, codes):
    found = items.filter(where)
    assert found.dtype == np.int64
    assert found.tolist() == codes


def test_filter_errors(items):
    with pytest.raises(KeyError, match="there is no column 'colour'; the columns are 'title'"):
        items.filter({"colour": "red"})
    with pytest.raises(TypeError, match="where must be a mapping or a function of a row, got list"):
        items.filter([1])


def test_append_fills_the_columns_that_one_side_lacks(items):
    more = Items(IdMap(["d"]), numeric={"price": np.array([9.0]), "weight": np.array([0.5])})
    both = items.append(more)
    assert both.ids == IdMap(["a", "b", "c", "d"])
    np.testing.assert_array_equal(both.numeric["price"], [1, 2, 4, 9])
    np.testing.assert_array_equal(both.numeric["weight"], [np.nan, np.nan, np.nan, 0.5])
    assert both.text["title"] == ["Red mug", None, None, None]
    assert both.categorical["shelf"].tolist() == ["x", None, "y", None]
    with pytest.raises(ValueError, match="'a' comes more than once"):
        items.append(items)


def test_columns_must_fit_the_ids():
    with pytest.raises(ValueError, match="numeric column 'price' must have 2 rows, got 1"):
        Items(IdMap([1, 2]), numeric={"price": np.array([1.0])})


def test_users_are_a_table_of_the_same_shape():
    users = Users.from_table({"user": [5, 6], "city": ["Bath", "York"]}, categorical=["city"])
    assert users.filter({"city": "York"}).tolist() == [1]


def test_reviews():
    reviews = Reviews.from_table(
        {
            "user": [1, 2, 1],
            "item": ["b", "b", "a"],
            "text": ["good", "fine", ""],
            "rating": [5, 4, 1],
        },
        items=IdMap(["a", "b", "c"]),
    )
    assert reviews.users == IdMap([1, 2])
    assert reviews.item.tolist() == [1, 1, 0]
    assert reviews.text == ["good", "fine", None]
    assert reviews.text_of_items() == [None, "good\nfine", None]
    np.testing.assert_array_equal(reviews.mean_rating_of_items(), [1.0, 4.5, np.nan])
    with pytest.raises(ValueError, match="text must have the length of user, 3, got 1"):
        Reviews(reviews.user, reviews.item, reviews.users, reviews.items, ["x"], reviews.rating)
