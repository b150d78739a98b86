"""fusionops fit."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fusionops.data import Encoded, IdMap
from fusionops.models import LinearFusion


def test_the_saved_model_holds_the_items_of_nobody_and_ids_keep_their_zeros(shop):
    model = LinearFusion.from_pretrained(shop.model)
    assert len(model.users) == 60
    assert len(model.items) == 32
    assert model.items.ids.ids[0].startswith("00")
    assert list(model.items.text) == ["title"]
    assert list(model.items.numeric) == ["price"]


def test_json_is_one_object(shop, run, tmp_path):
    result = run("fit", *shop.files, "--out", tmp_path / "m", "--text", "title", "--json")
    assert result.code == 0
    found = json.loads(result.out)
    assert found["users"] == 60
    assert found["items"] == 32
    assert found["items_without_history"] == 2
    assert found["columns"] == ["title"]  # naming a column leaves the others out


def test_problems_are_printed_as_warnings(shop, run, tmp_path):
    sales = tmp_path / "sales.csv"
    shutil.copy(shop.interactions, sales)
    with open(sales, "a") as file:
        file.write("u00,0001,not a time,x\n,0001,2024-01-01,x\n")
    result = run(
        "fit", "--interactions", sales, "--user-column", "customer", "--item-column", "sku",
        "--out", tmp_path / "m", "--json",
    )  # fmt: skip
    assert result.code == 0
    problems = json.loads(result.out)["problems"]
    assert any("1 row without user id" in problem for problem in problems)
    assert any("'not a time'" in problem for problem in problems)
    for problem in problems:
        assert f"warning: {problem}" in result.err


def test_parquet_ids_of_integers_and_events_with_weights(run, tmp_path):
    n = 40
    users, items = [i % 8 for i in range(n)], [i * 7 % 5 for i in range(n)]
    kinds = ["purchase" if i % 3 else "look" for i in range(n)]
    table = pa.table({"user": users, "item": items, "what": kinds})
    pq.write_table(table, tmp_path / "i.parquet")
    common = ["fit", "--interactions", tmp_path / "i.parquet", "--event-column", "what"]
    result = run(*common, "--out", tmp_path / "m", "--json")
    assert json.loads(result.out)["rows"] == kinds.count("purchase")  # look has no weight ...
    assert "an event that has no weight" in result.err
    weights = ["--event-weight", "look=0.1", "--event-weight", "purchase=1"]
    result = run(*common, *weights, "--out", tmp_path / "m", "--json")
    assert json.loads(result.out)["rows"] == n  # ... and now it has one
    result = run("recommend", tmp_path / "m", "--user", "3", "-k", 2, "--include-seen", "--json")
    assert [row["user"] for row in json.loads(result.out)["recommendations"]] == [3, 3]
    result = run("recommend", tmp_path / "m", "--user", "three")
    assert result.code == 2
    assert "--user: ids are integers, got 'three'" in result.err


def test_ids_of_integers_meet_ids_of_text(run, tmp_path):
    pairs = {"user": [1, 1, 2, 2, 3], "item": [10, 11, 10, 12, 12]}
    pq.write_table(pa.table(pairs), tmp_path / "i.parquet")
    (tmp_path / "items.csv").write_text(
        "item,title\n10,red mug\n11,blue mug\n12,spade\n13,red cup\n"
    )
    result = run(
        "fit", "--interactions", tmp_path / "i.parquet", "--items", tmp_path / "items.csv",
        "--out", tmp_path / "m", "--json",
    )  # fmt: skip
    assert json.loads(result.out)["items"] == 4
    assert "both are read as text" in result.err


def features(folder, ids, seed=0):
    """Vectors of these items, as encode writes them."""
    vectors = np.random.default_rng(seed).normal(size=(len(ids), 6)).astype(np.float32)
    present = np.ones(len(ids), np.bool_)
    Encoded(IdMap(ids), vectors, present).save(folder / "title.safetensors")
    return folder


def test_features_are_content(shop, run, tmp_path):
    ids = LinearFusion.from_pretrained(shop.model).items.ids.ids
    command = ["fit", *shop.files, "--out", tmp_path / "m", "--json"]
    vectors = []
    for seed in (0, 1):
        folder = features(tmp_path / f"f{seed}", ids, seed)
        result = run(*command, "--features", folder)
        assert result.code == 0, result.err
        found = json.loads(result.out)
        assert found["features"] == {"title": 6}
        assert not any("features" in problem for problem in found["problems"])
        vectors.append(LinearFusion.from_pretrained(tmp_path / "m").item_vectors)
    assert not np.allclose(*vectors)
    result = run(*command[:-1], "--features", folder)
    assert "(columns: title, price; features: title)" in " ".join(result.out.split())
    features(folder, ids[:-1])  # the last one has no row: it is used by its columns
    result = run(*command, "--features", folder)
    assert "1 of the 32 items have no row" in result.err


def test_features_without_a_table_of_items_bring_the_items_of_nobody(run, tmp_path):
    pairs = {"user": [1, 1, 2, 2, 3], "item": [10, 11, 10, 12, 12]}
    pq.write_table(pa.table(pairs), tmp_path / "i.parquet")
    folder = features(tmp_path / "f", ["10", "11", "12", "13"])
    command = ["fit", "--interactions", tmp_path / "i.parquet", "--out", tmp_path / "m", "--json"]
    result = run(*command, "--features", folder)
    assert result.code == 0, result.err
    assert "features: ids are integers in one file and text in the other" in result.err
    assert json.loads(result.out)["items"] == 4
    assert json.loads(result.out)["items_without_history"] == 1


def test_bad_features_are_one_sentence(shop, run, tmp_path):
    folder = features(tmp_path / "f", ["x", "y"])
    command = ["fit", *shop.files, "--out", tmp_path / "m", "--features"]
    result = run(*command, folder)
    assert result.code == 2
    assert "features['title']: expected the ids of items, such as '00" in result.err
    (folder / "title.safetensors").write_text("a letter")
    for where, said in (
        (folder, "title.safetensors: expected a file of fusionops.Encoded"),
        (shop.items.parent, "got none"),
        (tmp_path / "none", "features: there is no folder"),
    ):
        result = run(*command, where)
        assert result.code == 2
        assert said in result.err
        assert len(result.err.splitlines()) == 1
    assert not (tmp_path / "m").exists()


def test_parameters(shop, run, tmp_path):
    result = run("fit", *shop.files, "--out", tmp_path / "m", "--set", "rank=4")
    assert result.code == 0
    assert LinearFusion.from_pretrained(tmp_path / "m").item_vectors.shape == (32, 4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--set", "rnk=4"], "got 'rnk'"),
        (["--set", "rank=many"], "rank: expected an int, got str"),
        (["--set", "rank=[1"], "--set rank must be a number, a word or a JSON value, got '[1'"),
        (["--set", "rank=0"], "rank: expected at least 1, got 0"),
        (["--set", "rank"], "--set must look like NAME=VALUE, got 'rank'"),
        (["--text", "titel"], "'titel'"),
        (["--event-weight", "view=1"], "--event-weight needs --event-column"),
        (["--event-column", "session", "--event-weight", "a=b"], "must hold a number, got 'b'"),
        (["--time-column", "when"], "'when'"),
    ],
)
def test_bad_options_are_one_sentence(shop, run, tmp_path, options, said):
    result = run("fit", *shop.files, "--out", tmp_path / "m", *options)
    assert result.code == 2
    assert said in result.err
    assert len(result.err.splitlines()) == 1
    assert not (tmp_path / "m").exists()


def test_bad_files_are_one_sentence(shop, run, tmp_path):
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "header.csv").write_text("user,item\n")
    (tmp_path / "not.parquet").write_text("user,item\n1,2\n")
    (tmp_path / "other.xlsx").write_text("")
    for name, said in (
        ("none.csv", "there is no file"),
        ("empty.csv", "cannot be read as csv"),
        ("header.csv", "the table is empty"),
        ("not.parquet", "cannot be read as parquet"),
        ("other.xlsx", "must end in .parquet"),
    ):
        result = run("fit", "--interactions", tmp_path / name, "--out", tmp_path / "m")
        assert result.code == 2, name
        assert said in result.err
        assert len(result.err.splitlines()) == 1
    result = run("fit", *shop.files, "--out", shop.items)
    assert result.code == 2
    assert "--out must be a folder" in result.err
