"""fusionops evaluate."""

import json

import numpy as np
import pytest

from fusionops.data import Encoded, IdMap


def test_all_protocols_in_one_object(shop, run):
    wanted = [f"--protocol={name}" for name in ("warm", "next_visit", "cold", "one_list")]
    result = run("evaluate", *shop.files, *wanted, "--date", shop.new_from, "-k", 5, "--json")
    assert result.code == 0, result.err
    found = json.loads(result.out)
    figures = found["protocols"]
    assert set(figures) == {"warm", "next_visit", "cold", "one_list"}
    assert {"Popularity", "ItemKNN", "EASE", "LinearFusion"} < set(figures["warm"])
    assert set(figures["cold"]) == {shop.new_from}
    assert set(figures["cold"][shop.new_from]) == {"Random", "CarriedEASE", "LinearFusion"}
    assert {"recall@5", "ndcg@5", "coverage@5"} < set(figures["warm"]["EASE"])
    # Two tastes told apart by their text: cold items of the right one beat a random order.
    cold = figures["cold"][shop.new_from]
    assert cold["LinearFusion"]["ndcg@5"] > cold["Random"]["ndcg@5"]
    difference = found["differences"]["cold"][shop.new_from]
    assert difference["baseline"] == "CarriedEASE"
    row = difference["ndcg@5"]
    gap = cold["LinearFusion"]["ndcg@5"] - cold["CarriedEASE"]["ndcg@5"]
    assert row["difference"] == pytest.approx(gap)
    assert row["low"] <= row["difference"] <= row["high"]
    assert 0 < found["basket_completion"]["warm"] < 1
    assert found["basket_completion"]["next_visit"] == 0
    assert found["seconds"] > 0


def test_the_table_says_how_much_of_warm_is_a_basket(shop, run):
    result = run("evaluate", *shop.files, "--model", "Popularity", "--model", "LinearFusion")
    assert result.code == 0, result.err
    assert "of the test pairs sit in the same session" in result.out
    assert "to Popularity" in result.out
    assert "EASE" not in result.out


def test_without_items_the_baseline_that_reads_text_is_left_out(shop, run):
    result = run(
        "evaluate", *shop.plain, "--protocol", "one_list", "--date", shop.new_from, "--json"
    )
    assert result.code == 0, result.err
    models = json.loads(result.out)["protocols"]["one_list"][shop.new_from]
    assert set(models) == {"Popularity", "EASE", "LinearFusion"}
    result = run("evaluate", *shop.plain, "--protocol", "cold", "--date", shop.new_from)
    assert result.code == 2
    assert "give --items FILE with a text column, or --features DIR" in result.err


def test_features_alone_rank_cold_items(shop, run, tmp_path):
    ids = [f"00{item:02d}" for item in range(32)]
    taste = np.arange(32) % 2  # the shop's users buy even or odd items
    vectors = np.eye(2, dtype=np.float32)[taste] + np.float32(0.1) * np.arange(32)[:, None] / 32
    Encoded(IdMap(ids), vectors.astype(np.float32), np.ones(32, np.bool_)).save(
        tmp_path / "title.safetensors"
    )
    command = ["evaluate", *shop.plain, "--protocol", "cold", "--date", shop.new_from, "-k", 3]
    result = run(*command, "--features", tmp_path, "--json")
    assert result.code == 0, result.err
    cold = json.loads(result.out)["protocols"]["cold"][shop.new_from]
    assert set(cold) == {"Random", "SummedCarriedEASE", "LinearFusion"}
    for name in ("SummedCarriedEASE", "LinearFusion"):
        assert cold[name]["ndcg@3"] > cold["Random"]["ndcg@3"]
    result = run(*command, *shop.files[-2:], "--features", tmp_path, "--json")
    assert result.code == 0, result.err
    both = json.loads(result.out)["protocols"]["cold"][shop.new_from]
    assert set(both) == {"Random", "CarriedEASE", "SummedCarriedEASE", "LinearFusion"}
    told = run(*command, "--features", tmp_path).out
    assert "SummedCarriedEASE the sum of those of text" in " ".join(told.split())


def test_large_catalogues_leave_out_what_inverts_a_matrix_of_them(shop, run, monkeypatch):
    monkeypatch.setattr("fusionops.cli.evaluate.DENSE_ITEMS", 10)
    result = run("evaluate", *shop.files, "--json")
    assert result.code == 0, result.err
    assert "EASE" not in json.loads(result.out)["protocols"]["warm"]
    assert json.loads(result.out)["differences"]["warm"]["baseline"] == "ItemKNN"
    assert "warning: warm: EASE would invert" in result.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--protocol", "hot"], "--protocol must be one of warm, next_visit, cold, one_list"),
        (["--protocol", "cold"], "needs --date"),
        (["--protocol", "cold", "--date", "soon"], "'soon'"),
        (["--protocol", "cold", "--date", "2030-01-01"], "has no user with test pairs"),
        (["--model", "BERT"], "--model must be one of"),
        (["--protocol", "next_visit", "--session-column", "visit"], "'visit'"),
    ],
)
def test_bad_requests_are_one_sentence(shop, run, options, said):
    result = run("evaluate", *shop.files, *options)
    assert result.code == 2
    assert said in result.err
    assert len(result.err.splitlines()) == 1
    assert result.out == ""


def test_too_few_rows_are_one_sentence(run, tmp_path):
    (tmp_path / "few.csv").write_text("user,item,time\na,b,2024-01-01\na,c,2024-01-02\n")
    result = run("evaluate", "--interactions", tmp_path / "few.csv")
    assert result.code == 2
    assert "warm has no user with test pairs" in result.err
    (tmp_path / "timeless.csv").write_text("user,item\na,b\na,c\n")
    result = run("evaluate", "--interactions", tmp_path / "timeless.csv")
    assert result.code == 2
    assert "time column" in result.err
