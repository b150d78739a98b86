"""fusionops explain."""

import json

import pytest


def explanations(result):
    assert result.code == 0, result.err
    return json.loads(result.out)["explanations"]


def test_a_list_in_words(shop, run):
    result = run("explain", shop.model, "--user", "u00", "-k", 2)
    assert result.code == 0, result.err
    assert "is number 1, with a score of" in result.out
    assert "is number 2, with a score of" in result.out
    assert "of the history" in result.out
    assert "behaviour" in result.out
    assert "#" in result.out


def test_json_adds_up_to_what_recommend_says(shop, run):
    found = explanations(run("explain", shop.model, "--user", "u00", "-k", 4, "--json"))
    listed = run("recommend", shop.model, "--user", "u00", "-k", 4, "--json")
    rows = json.loads(listed.out)["recommendations"]
    assert [one["item"] for one in found] == [row["item"] for row in rows]
    for one, row in zip(found, rows, strict=True):
        assert one["rank"] == row["rank"]
        assert sum(part["effect"] for part in one["history"]) == pytest.approx(row["score"])
        modalities = sum(part["effect"] for part in one["modalities"])
        assert one["baseline"] + modalities == pytest.approx(row["score"])
        assert one["sentence"]


def test_one_item_for_someone_new(shop, run):
    base = ["explain", shop.model, "--history", "0001", "--history", "0003", "--item", "0005"]
    (one,) = explanations(run(*base, "--json"))
    assert {part["id"] for part in one["history"]} == {"0001", "0003"}
    assert one["user"] is None
    (other,) = explanations(run(*base, "--method", "counterfactuals", "--json"))
    assert other["method"] == "counterfactuals"
    assert all(part["rank"] is not None for part in other["history"])
    shown = run(*base, "--method", "counterfactuals")
    assert "rank without" in shown.out


def test_an_item_that_is_excluded_has_no_rank(shop, run):
    base = ["explain", shop.model, "--user", "u00", "--item", "0004", "--json"]
    (one,) = explanations(run(*base, "--exclude", "0004"))
    assert one["rank"] is None
    assert one["removal"] is None


def test_charts_are_files_named_after_the_items(shop, run, tmp_path):
    folder = tmp_path / "charts" / "deep"
    result = run(
        "explain", shop.model, "--user", "u00", "--item", "0031", "--chart", folder, "--most", 2
    )
    assert result.code == 0, result.err
    assert [file.name for file in folder.iterdir()] == ["0031.png"]
    assert (folder / "0031.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "explain needs --user ID or --history ITEM, one of the two"),
        (["--user", "nobody"], "--user: the model does not know 'nobody'"),
        (["--user", "u00", "--item", "none"], "--item: the model does not know 'none'"),
        (["--user", "u00", "--method", "magic"], "method: expected one of 'auto'"),
        (["--history", "0001", "--at", "2024-01-02"], "--at needs --user ID"),
    ],
)
def test_bad_input_is_a_sentence(shop, run, arguments, sentence):
    result = run("explain", shop.model, *arguments)
    assert result.code == 2
    assert sentence in result.err
    assert not result.out
