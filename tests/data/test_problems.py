"""Every problem of the input: one sentence with the count and an example, and no silent loss."""

import warnings

import numpy as np
import pyarrow as pa
import pytest

from fusionops.data import (
    IdMap,
    InputError,
    InputWarning,
    Interactions,
    Items,
    Report,
    Reviews,
    Users,
)

GOOD = {"user": ["u", "v", "w"], "item": [1, 2, 3], "time": ["2011-09-01"] * 3}


def interactions(report=None, columns=(), **keywords):
    return Interactions.from_table({**GOOD, **dict(columns)}, report=report, **keywords)


def test_a_good_table_has_no_problem():
    report = Report()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(interactions(report)) == 3
        assert len(interactions()) == 3
    assert str(report) == "no problems"
    report.raise_if("note")


# Problems whose rows are left out: (columns, keywords, count, example, the sentence)
DROPPED = [
    (
        {"time": ["2011-09-01", "soon", "later"]},
        {},
        2,
        "soon",
        "interactions: 2 rows whose time in column 'time' is missing or cannot be read, "
        "for example 'soon' in row 1; left out",
    ),
    (
        {"user": ["u", None, " "]},
        {},
        2,
        1,
        "interactions: 2 rows without user id in column 'user', for example row 1; left out",
    ),
    (
        {"item": [1.0, float("nan"), 3.0]},
        {},
        1,
        1,
        "interactions: 1 row without item id in column 'item', for example row 1; left out",
    ),
    (
        {},
        {"users": IdMap(["u", "v"])},
        1,
        "w",
        "interactions: 1 row with an unknown user id in column 'user', "
        "for example 'w' in row 2; left out",
    ),
    (
        {},
        {"items": IdMap([3])},
        2,
        1,
        "interactions: 2 rows with an unknown item id in column 'item', "
        "for example 1 in row 0; left out",
    ),
    (
        {"stars": [5.0, float("nan"), float("inf")]},
        {"weight": "stars"},
        2,
        float("nan"),
        "interactions: 2 rows whose number in column 'stars' is missing, NaN or cannot be read, "
        "for example nan in row 1; left out",
    ),
    (
        {"stars": ["5", "many", None]},
        {"weight": "stars"},
        2,
        "many",
        "interactions: 2 rows whose number in column 'stars' is missing, NaN or cannot be read, "
        "for example 'many' in row 1; left out",
    ),
    (
        {"kind": ["view", "gift", None]},
        {"event": "kind", "event_weights": {"view": 0.2}},
        2,
        "gift",
        "interactions: 2 rows with an event that has no weight in column 'kind', "
        "for example 'gift' in row 1; left out",
    ),
]


@pytest.mark.parametrize(("columns", "keywords", "count", "example", "sentence"), DROPPED)
def test_rows_that_cannot_be_used(columns, keywords, count, example, sentence):
    report = Report()
    found = interactions(report, columns, **keywords)
    assert len(found) == 3 - count
    (problem,) = report.problems
    assert problem.sentence == sentence
    assert problem.count == count
    np.testing.assert_equal(problem.example, example)  # NaN equals NaN here
    assert problem.severity == "dropped"
    with pytest.raises(InputError) as raised:
        interactions(None, columns, **keywords)
    assert str(raised.value) == sentence + " if report=Report() is given"
    with pytest.raises(InputError, match="left out"):
        report.raise_if()


def test_the_row_in_the_sentence_is_the_row_of_the_file():
    report = Report()
    columns = {"user": [None, "v", "w"], "time": ["2011-09-01", "2011-09-01", "never"]}
    assert len(interactions(report, columns)) == 1
    assert "'never' in row 2" in str(report)


ERRORS = [
    (
        {"user": ["u"], "time": ["2011-09-01"]},
        "interactions: 1 column missing, for example 'item'; the columns are 'user', 'time'",
    ),
    ({"user": [], "item": [], "time": []}, "interactions: the table is empty, 0 rows"),
    (
        {"user": [1.5, 2.0], "item": [1, 2], "time": ["2011-09-01"] * 2},
        "interactions: 1 row whose id in column 'user' is no whole number, "
        "for example 1.5 in row 0",
    ),
]


@pytest.mark.parametrize(("table", "sentence"), ERRORS)
@pytest.mark.parametrize("given", [True, False])
def test_tables_that_cannot_be_used_raise_in_any_case(table, sentence, given):
    with pytest.raises(InputError) as raised:
        Interactions.from_table(table, report=Report() if given else None)
    assert str(raised.value) == sentence


def test_a_table_without_a_usable_row_says_both():
    report = Report()
    with pytest.raises(InputError, match="has no usable row left, 0 rows"):
        interactions(report, {"time": ["a", "b", "c"]})
    assert [problem.count for problem in report.problems] == [3, 0]


def test_ids_of_another_kind_than_the_known_ones():
    with pytest.raises(InputError) as raised:
        interactions(Report(), items=IdMap(["a", "b"]))
    assert str(raised.value) == (
        "interactions: column 'item' must hold text, as the known ids, got integers, for example 1"
    )


def test_duplicate_rows_are_kept_and_said():
    table = {name: column + column[:1] for name, column in GOOD.items()}
    sentence = (
        "interactions: 1 row that repeats an earlier row in 'user', 'item', 'time', "
        "for example row 3; kept"
    )
    report = Report()
    assert len(Interactions.from_table(table, report=report)) == 4
    assert str(report) == sentence
    report.raise_if("dropped")
    with pytest.raises(InputError):
        report.raise_if("note")
    with pytest.warns(InputWarning, match="that repeats an earlier row"):
        Interactions.from_table(table)


@pytest.mark.parametrize(("kind", "name"), [(Items, "item"), (Users, "user")])
def test_duplicate_ids_keep_the_first_row(kind, name):
    table = {name: ["a", "b", "a"], "title": ["first", "second", "third"]}
    report = Report()
    found = kind.from_table(table, text=["title"], report=report)
    assert found.text["title"] == ["first", "second"]
    assert str(report) == (
        f"{name}s: 1 row that repeats an earlier id in column {name!r}, "
        "for example 'a' in row 2; left out"
    )
    with pytest.raises(InputError, match="repeats an earlier id"):
        kind.from_table(table)


def test_missing_and_unreadable_numbers_of_items_are_told_apart_and_the_rows_stay():
    table = pa.table({"item": [1, 2, 3, 4], "price": ["1.5", None, "cheap", "inf"]})
    report = Report()
    items = Items.from_table(table, numeric=["price"], report=report)
    np.testing.assert_array_equal(items.numeric["price"], [1.5, np.nan, np.nan, np.nan])
    assert [problem.sentence for problem in report.problems] == [
        "items: 2 rows with a number that cannot be read in column 'price', "
        "for example 'cheap' in row 2; taken as missing",
        "items: 1 row with a missing number or NaN in column 'price', "
        "for example None in row 1; taken as missing",
    ]
    with pytest.warns(InputWarning, match="taken as missing"):
        Items.from_table({"item": [1], "price": [float("nan")]}, numeric=["price"])


def test_problems_of_reviews():
    table = {
        "user": ["u", "x", "u"],
        "item": ["a", "a", "b"],
        "text": ["good", "bad", None],
        "rating": [5, 1, None],
    }
    report = Report()
    users = IdMap(["u"])
    assert len(Reviews.from_table(table, users=users, report=report)) == 2
    assert [problem.count for problem in report.problems] == [1, 1]
    assert "reviews: 1 row with an unknown user id in column 'user', for example 'x'" in str(report)
    with pytest.raises(InputError, match="unknown user id"):
        Reviews.from_table(table, users=users)


def test_a_wrong_kind_of_table():
    with pytest.raises(TypeError, match=r"must be a pyarrow.Table or a mapping .* got list"):
        Interactions.from_table([1, 2])
    with pytest.raises(TypeError, match="text must be a sequence of column names, got the string"):
        Items.from_table({"item": [1]}, text="title")
    with pytest.raises(ValueError, match="event_weights was given without event"):
        interactions(event_weights={"view": 1.0})
