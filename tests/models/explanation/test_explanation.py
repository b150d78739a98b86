"""An explanation as a table, as JSON, in words and as a picture."""

from __future__ import annotations

import io
import json
import math
import warnings
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from fusionops.models.explanation import Explanation, Part, Removal
from fusionops.models.explanation.explanation import largest_first

NAN = math.nan


def explanation(**changed) -> Explanation:
    """Exact contributions by hand: 1.0 = 0.6 + 0.42 - 0.02 = 0.7 + 0.298 + 0.002."""
    parts = {
        "user": "ann",
        "item": 7,
        "label": "red mug",
        "score": 1.0,
        "rank": 2,
        "how": "history",
        "method": "contributions",
        "baseline": 0.0,
        "history": (
            Part(3, "blue mug", 0.6, 0.4),
            Part(1, "teapot", 0.42, 0.58),
            Part(2, "spade", -0.02, 1.02),
        ),
        "modalities": (
            Part("behaviour", "behaviour", 0.7, 0.3),
            Part("image", "image", 0.298, 0.702),
            Part("price", "price", 0.002, 0.998),
        ),
        "list_length": 10,
        "removal": Removal((3,), ("blue mug",), 14, True, 3, 5),
    }
    return Explanation(**{**parts, **changed})


def counterfactual(**changed) -> Explanation:
    parts = {
        "method": "counterfactuals",
        "history": (
            Part(3, "blue mug", 0.5, 0.5, 4),
            Part(1, "teapot", 0.1, 0.9, 2),
            Part(2, "spade", -0.3, 1.3, 1),
        ),
        "modalities": (Part("text", "text", 0.2, 0.8, None), Part("id", "id", 0.001, 0.999, 2)),
        "removal": None,
    }
    return explanation(**{**parts, **changed})


SENTENCES = {
    "contributions": (
        explanation(),
        "red mug is number 2, with a score of 1. Of what the user had, it rests most on "
        "blue mug (60%) and teapot (42%). It comes from what customers had together (70%) and its "
        "image (30%). Without blue mug it would leave the first 10 (to number 14).",
    ),
    "an item that nobody had": (
        explanation(how="content", baseline=0.2, modalities=(Part("text", "text", 0.8, 0.2),)),
        "red mug is number 2, with a score of 1. Of what the user had, it rests most on "
        "blue mug (60%) and teapot (42%). It comes from its text (80%) and what any new item would "
        "get (20%). Without blue mug it would leave the first 10 (to number 14).",
    ),
    "several items, the smallest set": (
        explanation(removal=Removal((3, 1), ("blue mug", "teapot"), None, True, 6, 5)),
        "red mug is number 2, with a score of 1. Of what the user had, it rests most on "
        "blue mug (60%) and teapot (42%). It comes from what customers had together (70%) and its "
        "image (30%). Without blue mug and teapot it would leave the first 10; no smaller set does "
        "that.",
    ),
    "several items, perhaps not the smallest": (
        explanation(
            history=(), modalities=(), removal=Removal((3, 1, 2), ("a", "b", "c"), 11, False, 6, 5)
        ),
        "red mug is number 2, with a score of 1. Without a, b and c it would leave the first 10 "
        "(to number 11); no smaller set was found.",
    ),
    "no set within the bound": (
        explanation(history=(), modalities=(), removal=Removal((), (), None, True, 25, 1)),
        "red mug is number 2, with a score of 1. No set of up to 1 item of the history would take "
        "it out of the first 10.",
    ),
    "no set that was tried": (
        explanation(history=(), modalities=(), removal=Removal((), (), None, False, 2000, 5)),
        "red mug is number 2, with a score of 1. Of 2,000 sets of up to 5 items of the history "
        "that were tried, none would take it out of the first 10.",
    ),
    "counterfactuals": (
        counterfactual(),
        "red mug is number 2, with a score of 1. Without blue mug its score would be 50% lower and "
        "it would be number 4. Without teapot its score would be 10% lower. Without its text its "
        "score would be 20% lower.",
    ),
    "nothing left to go by": (
        counterfactual(history=(Part(3, "blue mug", 1.0, NAN, 9),), modalities=()),
        "red mug is number 2, with a score of 1. Without blue mug there would be nothing to go by.",
    ),
    "who may not be listed": (
        counterfactual(rank=None, history=(), modalities=()),
        "red mug may not be listed, with a score of 1.",
    ),
    "a score below 0": (
        explanation(score=-0.51234, rank=30, removal=None),
        "red mug is number 30, with a score of -0.512.",
    ),
    "popularity": (
        explanation(how="popularity", score=1234.0, history=(), modalities=(), removal=None),
        "red mug is number 2: 1,234 users had it, and there is no history to go by.",
    ),
    "popularity of one": (
        explanation(how="popularity", score=1.0, history=(), modalities=(), rank=None),
        "red mug may not be listed: 1 user had it, and there is no history to go by.",
    ),
    "popularity of none": (
        explanation(how="popularity", score=0.63, history=(), modalities=()),
        "red mug is number 2: 0 users had it, and there is no history to go by.",
    ),
}


@pytest.mark.parametrize("case", SENTENCES)
def test_the_sentence(case):
    given, expected = SENTENCES[case]
    assert given.sentence() == expected
    assert given.to_dict()["sentence"] == expected


def test_more_is_not_named_than_can_be_read():
    parts = tuple(Part(code, f"item {code}", 0.1, 0.9) for code in range(10))
    said = explanation(history=parts, modalities=parts, removal=None).sentence()
    assert "item 0 (10%), item 1 (10%) and item 2 (10%)" in said
    assert "item 3" not in said


def test_the_table():
    table = explanation().to_table()
    assert table.column_names == [
        "kind", "id", "label", "effect", "share", "score_without", "rank_without",
    ]  # fmt: skip
    assert table["kind"].to_pylist() == ["history"] * 3 + ["modality"] * 3
    assert table["id"].to_pylist() == ["3", "1", "2", "behaviour", "image", "price"]
    assert table["share"].to_pylist() == table["effect"].to_pylist()
    assert table["score_without"][0].as_py() == 0.4
    assert table["rank_without"].null_count == 6
    assert counterfactual().to_table()["rank_without"].to_pylist() == [4, 2, 1, None, 2]


def test_an_empty_table_has_the_same_columns():
    empty = explanation(history=(), modalities=()).to_table()
    assert isinstance(empty, pa.Table)
    assert empty.num_rows == 0
    assert empty.schema == explanation().to_table().schema


def test_shares_are_of_the_score():
    part = Part("x", "x", 0.3, 0.0)
    assert explanation(score=1.5).share(part) == pytest.approx(0.2)
    assert explanation(score=-1.5).share(part) == pytest.approx(-0.2)
    assert math.isnan(explanation(score=0.0).share(part))


def test_json_has_no_number_that_there_is_not():
    odd = counterfactual(
        user=np.int64(17850),
        item=np.str_("mug"),
        list_length=np.int64(10),
        score=NAN,
        history=(Part(np.int64(3), "blue mug", NAN, -math.inf, np.int64(4)),),
        removal=Removal((np.int64(3),), ("blue mug",), None, False, 3, np.int64(5)),
    )
    plain = json.loads(json.dumps(odd.to_dict(), allow_nan=False))
    assert plain["user"] == 17850
    assert plain["score"] is None
    assert plain["history"][0] == {
        "id": 3, "label": "blue mug", "effect": None, "score": None, "rank": 4,
    }  # fmt: skip
    assert plain["removal"]["items"] == [3]
    assert set(plain) == {
        "user", "item", "label", "score", "rank", "how", "method", "baseline", "history",
        "modalities", "list_length", "removal", "sentence",
    }  # fmt: skip


def test_the_largest_come_first():
    parts = [Part(0, "", -1, 0), Part(1, "", NAN, 0), Part(2, "", 3, 0), Part(3, "", 3, 0)]
    assert [part.id for part in largest_first(parts)] == [2, 3, 0, 1]


LONG = "a very long title " * 30
ODD = {
    "usual": explanation(),
    "counterfactuals": counterfactual(),
    "no parts": explanation(history=(), modalities=()),
    "nothing of the history": explanation(history=()),
    "dollars": explanation(
        label="$5 off $10 {x}^_",
        history=(Part(1, r"from $1 to $2 \$ \frac", 0.5, 0.5), Part(2, "$", 0.5, 0.5)),
    ),
    "long labels": explanation(label=LONG, history=(Part(1, LONG, 0.5, 0.5),)),
    "one long word": explanation(label="x" * 400, history=(Part(1, "y" * 400, 0.5, 0.5),)),
    "no label": explanation(label="", history=(Part(1, "", 0.5, 0.5), Part(2, " \n", 0.5, 0.5))),
    "NaN": explanation(
        history=(Part(1, "a", NAN, NAN), Part(2, "b", 0.1, NAN)),
        modalities=(Part("text", "text", NAN, NAN), Part("image", "image", 0.1, 0.9)),
    ),
    "only NaN": explanation(
        history=(Part(1, "a", NAN, NAN),), modalities=(Part("text", "text", NAN, NAN),)
    ),
    "nothing but 0": explanation(
        score=0.0, history=(Part(1, "a", 0.0, 0.0),), modalities=(Part("text", "text", 0.0, 0.0),)
    ),
    "against": explanation(score=-2.0, baseline=-0.5, history=(Part(1, "a", -2.0, 0.0),)),
    "no score": explanation(score=NAN, rank=None),
    "the same label twice": explanation(
        history=(Part(1, "mug", 0.5, 0.5), Part(2, "mug", 0.5, 0.5))
    ),
    "a long history": explanation(
        history=tuple(Part(code, f"item {code}", 0.001, 0.9) for code in range(3000))
    ),
    "popularity": explanation(how="popularity", score=12.0, history=(), modalities=()),
}


@pytest.mark.parametrize("case", ODD)
def test_the_chart_is_a_picture(case):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = Image.open(io.BytesIO(ODD[case].chart()))
    assert picture.format == "PNG"
    assert picture.size[0] == 1200
    assert 150 < picture.size[1] < 1500
    assert np.ptp(np.asarray(picture.convert("L"))) > 100
    assert ODD[case].sentence()
    json.dumps(ODD[case].to_dict(), allow_nan=False)


def bars_of(given: Explanation, monkeypatch, **arguments) -> list:
    """What is drawn: label, effect and whether it is a rest, panel by panel."""
    from fusionops.models.explanation import chart

    drawn = []
    monkeypatch.setattr(chart, "_bars", lambda axes, title, bars: drawn.append((title, [*bars])))
    given.chart(**arguments)
    return drawn


def test_bars_of_contributions_add_up(monkeypatch):
    history, modalities = bars_of(explanation(baseline=0.1), monkeypatch, most=1)
    assert history == (
        "What the user had",
        [("blue mug", 0.6, False), ("2 others", pytest.approx(0.4), True)],
    )
    assert modalities[1][-1] == ("what any new item gets", 0.1, True)
    assert [label for label, _, _ in modalities[1]][:2] == ["what customers had together",
                                                            "its image"]  # fmt: skip


def test_counterfactuals_have_no_rest(monkeypatch):
    history, _ = bars_of(counterfactual(), monkeypatch, most=2)
    # Of the largest size, and what speaks against the item is one of them.
    assert history[1] == [("blue mug", 0.5, False), ("spade", -0.3, False)]


def test_labels_are_cut_within_a_word_where_there_is_only_one():
    from fusionops.models.explanation.chart import short

    assert short("red mug", 20) == "red mug"
    assert short("a red  mug\nfor the kitchen", 14) == "a red mug for…"
    assert short("x" * 30, 10) == "x" * 9 + "…"


def test_a_part_is_told_from_an_equal_one(monkeypatch):
    one = replace(explanation(), history=(Part(1, "a", 0.2, 0.8), Part(2, "a", 0.2, 0.8)))
    history, _ = bars_of(one, monkeypatch, most=1)
    assert [bar[2] for bar in history[1]] == [False, True]
