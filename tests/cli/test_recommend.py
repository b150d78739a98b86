"""fusionops recommend."""

import json
import shutil

import pytest


def rows(result):
    assert result.code == 0, result.err
    return json.loads(result.out)["recommendations"]


def test_lists_in_words(shop, run):
    result = run("recommend", shop.model, "--user", "u00", "--user", "u01", "-k", 3)
    assert result.code == 0
    assert "for u00" in result.out
    assert "for u01" in result.out
    assert "for the kitchen" in result.out.split("for u01")[0]  # the taste of even users
    assert "for the garden" in result.out.split("for u01")[1]


def test_json(shop, run):
    found = rows(run("recommend", shop.model, "--user", "u00", "-k", 3, "--json"))
    assert [row["rank"] for row in found] == [1, 2, 3]
    assert set(found[0]) == {"user", "item", "rank", "score", "how", "text"}


def test_someone_new_by_a_history(shop, run):
    history = ["--history", "0001", "--history", "0003"]
    found = rows(run("recommend", shop.model, *history, "-k", 5, "--json"))
    assert all("garden" in row["text"] for row in found)
    assert {"0001", "0003"}.isdisjoint(row["item"] for row in found)
    again = rows(run("recommend", shop.model, *history, "-k", 32, "--include-seen", "--json"))
    assert {"0001", "0003"} <= {row["item"] for row in again}


def test_limits(shop, run):
    base = ["recommend", shop.model, "--user", "u00", "-k", 32, "--include-seen", "--json"]
    everything = {row["item"] for row in rows(run(*base))}
    assert len(everything) == 32
    assert {row["item"] for row in rows(run(*base, "--exclude", "0003"))} == everything - {"0003"}
    assert [row["item"] for row in rows(run(*base, "--candidate", "0004"))] == ["0004"]
    found = rows(run(*base, "--filter", "price=3..5"))
    assert {row["item"] for row in found} == {"0002", "0003", "0004"}
    found = rows(run(*base, "--filter", "price=3", "--filter", "price=5"))
    assert {row["item"] for row in found} == {"0002", "0004"}
    title = "red mug for the kitchen"
    found = rows(run(*base, "--filter", f"title={title}"))
    assert found
    assert {row["text"] for row in found} == {title}


def test_items_of_nobody_come_from_their_content(shop, run):
    (row,) = rows(run("recommend", shop.model, "--user", "u00", "--candidate", "0031", "--json"))
    assert row["how"] == "content"


def test_recency_and_time_and_variety_change_the_list(shop, run):
    base = ["recommend", shop.model, "--user", "u00", "-k", 20, "--include-seen", "--json"]
    scores = [
        [(row["item"], row["score"]) for row in rows(run(*base, *options))]
        for options in (
            ["--recency", "none"], ["--recency", "basket"], ["--at", "2024-02-01"],
            ["--diversify", "0.9"],
        )
    ]  # fmt: skip
    assert all(a != b for i, a in enumerate(scores) for b in scores[:i])


def test_a_short_list_says_so(shop, run):
    result = run("recommend", shop.model, "--user", "u00", "--candidate", "0031")
    assert "warning: 1 of 10 for u00: no other item is allowed" in result.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--user", "nobody"], "--user: the model does not know 'nobody'; for someone new give"),
        (["--history", "nothing"], "--history: the model does not know 'nothing'"),
        ([], "needs --user ID or --history ITEM"),
        (["--user", "u00", "--history", "0001"], "one of the two"),
        (["--user", "u00", "--exclude", "x"], "--exclude: the model does not know 'x'"),
        (["--user", "u00", "--filter", "colour=red"], "no item column 'colour'"),
        (["--user", "u00", "--filter", "price=low"], "--filter price must hold a number"),
        (["--user", "u00", "--recency", "soon"], "'soon'"),
        (["--user", "u00", "--at", "soon"], "'soon'"),
        (["--user", "u00", "--filter", "price=1", "--filter", "price=1..2"], "range"),
        (["--user", "u00", "--filter", "price=1..2", "--filter", "price=1"], "range"),
    ],
)
def test_bad_requests_are_one_sentence(shop, run, options, said):
    result = run("recommend", shop.model, *options)
    assert result.code == 2
    assert said in result.err
    assert result.err.startswith("error: ")
    assert len(result.err.splitlines()) == 1
    assert result.out == ""


def test_a_corrupt_or_missing_model_is_one_sentence(shop, run, tmp_path):
    result = run("recommend", tmp_path / "none", "--user", "u00")
    assert result.code == 2
    assert "config.json" in result.err
    for damaged in sorted(path.name for path in shop.model.iterdir()):
        copy = tmp_path / f"copy-{damaged}"
        shutil.copytree(shop.model, copy)
        (copy / damaged).write_bytes((copy / damaged).read_bytes()[:-20])
        result = run("recommend", copy, "--user", "u00")
        assert result.code == 2, damaged
        assert "damaged" in result.err
        assert len(result.err.splitlines()) == 1
