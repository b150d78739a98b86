"""What the calls of LinearFusion promise."""

import numpy as np
import pyarrow as pa
import pytest

from fusionops.data import IdMap, Interactions, Items
from fusionops.models import LinearFusion, Recency

WARM = 36


def lists(table, key="user", value="item"):
    found = {}
    for row in table.to_pylist():
        found.setdefault(row[key], []).append(row[value])
    return found


def bought(interactions, user):
    code = interactions.users.encode([user])[0]
    return set(interactions.items.decode(interactions.item[interactions.user == code]).tolist())


class TestRecommend:
    def test_columns_order_and_seen_items(self, model, interactions):
        table = model.recommend(["u01", "u00"], 10)
        assert table.column_names == ["user", "item", "rank", "score", "how"]
        assert table["user"].to_pylist() == ["u01"] * 10 + ["u00"] * 10
        assert table["rank"].to_pylist() == [*range(1, 11)] * 2
        scores = table["score"].to_numpy().reshape(2, 10)
        assert (np.diff(scores, axis=1) <= 0).all()
        for user, items in lists(table).items():
            assert not bought(interactions, user) & set(items)
            assert len(set(items)) == 10
        again = lists(model.recommend(["u00"], 40, exclude_seen=False))["u00"]
        assert len(again) == 40
        assert bought(interactions, "u00") & set(again[:10])

    def test_taste_is_followed(self, model):
        table = model.recommend(model.users.ids, 3)
        own = [
            int(user[1:]) % 2 == int(item[1:]) % 2
            for user, item in zip(table["user"].to_pylist(), table["item"].to_pylist(), strict=True)
        ]
        assert np.mean(own) > 0.75

    def test_unknown_users_are_served_by_popularity(self, model, interactions):
        table = model.recommend(["stranger", "u00"], 5)
        how = lists(table, value="how")
        assert how["stranger"] == ["popularity"] * 5
        assert "popularity" not in how["u00"]
        count = interactions.matrix().sum(axis=0)
        expected = interactions.items.decode(np.argsort(-count, kind="stable")[:5])
        assert lists(table)["stranger"] == expected.tolist()

    def test_how_tells_content_from_history(self, model, items):
        table = model.recommend(["u00"], 40)
        cold = set(items.ids.ids[WARM:].tolist())
        for row in table.to_pylist():
            assert row["how"] == ("content" if row["item"] in cold else "history")
        assert {"content", "history"} == set(table["how"].to_pylist())

    def test_exclude_and_candidates_for_all_and_per_user(self, model):
        best = lists(model.recommend(["u00", "u01"], 3))
        out = lists(model.recommend(["u00", "u01"], 3, exclude=best["u00"][:2]))
        assert not set(best["u00"][:2]) & (set(out["u00"]) | set(out["u01"]))
        one = lists(model.recommend(["u00", "u01"], 3, exclude={"u00": best["u00"][:1]}))
        assert one["u00"][:2] == best["u00"][1:]
        assert one["u01"] == best["u01"]
        few = lists(model.recommend(["u00", "u01"], 3, candidates=best["u00"][1:]))
        assert few["u00"] == best["u00"][1:]
        each = {"u00": best["u00"][2:], "u01": best["u01"][:1]}
        assert lists(model.recommend(["u00", "u01"], 3, candidates=each)) == each

    def test_item_filter_on_columns(self, model, items):
        price = dict(zip(items.ids.ids.tolist(), items.numeric["price"], strict=True))
        where = {"price": slice(5.0, 10.0), "section": "garden"}
        found = model.recommend(["u00"], 40, item_filter=where)["item"].to_pylist()
        assert found
        assert all(5.0 <= price[item] <= 10.0 and int(item[1:]) % 2 == 1 for item in found)
        by_row = model.recommend(
            ["u00"], 40, item_filter=lambda row: row["title"].startswith("red")
        )
        assert all(
            items.text["title"][int(item[1:])].startswith("red")
            for item in by_row["item"].to_pylist()
        )

    def test_limits_hold_for_popularity_and_diversified_lists_too(self, model):
        where = {"section": "garden"}
        table = model.recommend(["u00", "stranger"], 5, item_filter=where, diversify=0.5)
        assert all(int(item[1:]) % 2 == 1 for item in table["item"].to_pylist())
        assert set(lists(table)) == {"u00", "stranger"}

    def test_nothing_allowed_is_an_empty_table(self, model):
        table = model.recommend(["u00"], 5, item_filter={"section": "attic"})
        assert table.num_rows == 0
        assert table.column_names == ["user", "item", "rank", "score", "how"]
        assert model.recommend([], 5).num_rows == 0
        assert model.recommend(["u00"], 5, candidates=[]).num_rows == 0

    def test_recency_and_at_change_the_question(self, model, interactions):
        plain = model.recommend(["u00"], 10, recency=None)
        sharp = model.recommend(["u00"], 10, recency=Recency(0.5, 0.0))
        assert plain["item"] != sharp["item"]
        same = model.recommend(["u00"], 10, recency=Recency(0.5, 1.0))
        assert same["item"] == plain["item"]
        early = model.recommend(["u00"], 40, at="2024-01-02")
        code = interactions.user == 0
        then = interactions.select(code & (interactions.time <= np.datetime64("2024-01-02", "ns")))
        assert early.num_rows == 40 - len(set(then.item.tolist()))
        before = model.recommend(["u00"], 5, at="2023-01-01")
        assert set(before["how"].to_pylist()) == {"popularity"}

    def test_diversify_trades_score_for_variety(self, model):
        unit = model.item_vectors / np.linalg.norm(model.item_vectors, axis=1, keepdims=True)

        def similarity(diversify):
            table = model.recommend(model.users.ids, 8, diversify=diversify)
            codes = model.items.ids.encode(table["item"].to_pylist()).reshape(-1, 8)
            cosine = np.einsum("uad,ubd->uab", unit[codes], unit[codes])
            return cosine.mean(), codes[:, 0].tolist()

        values, first = zip(*(similarity(d) for d in (0.0, 0.3, 0.9)), strict=True)
        assert values[0] > values[1] > values[2]
        assert first[0] == first[1] == first[2]
        assert model.recommend(["u00"], 8, diversify=0.0).equals(model.recommend(["u00"], 8))


class TestRecommendFor:
    def test_equals_recommend_for_the_same_history(self, model, interactions):
        rows = interactions.select(interactions.user == 5)
        history = interactions.items.decode(rows.item).tolist()
        expected = model.recommend(["u05"], 10)
        found = model.recommend_for({"guest": history}, 10)
        assert found["item"] == expected["item"]
        assert found["score"] == expected["score"]
        numbered = model.recommend_for([history], 10)
        assert numbered["user"].to_pylist() == [0] * 10
        table = pa.table(
            {"user": ["guest"] * len(rows), "item": history, "time": pa.array(rows.time)}
        )
        assert model.recommend_for(table, 10).equals(found)

    def test_the_order_counts(self, model):
        history = ["i00", "i02", "i01", "i03"]
        ahead = model.recommend_for([history], 10, recency=Recency(1.0, 0.0))
        behind = model.recommend_for([history[::-1]], 10, recency=Recency(1.0, 0.0))
        assert ahead["item"] != behind["item"]
        a = model.recommend_for([history], 10, recency=None)
        b = model.recommend_for([history[::-1]], 10, recency=None)
        np.testing.assert_allclose(a["score"].to_numpy(), b["score"].to_numpy(), rtol=1e-5)

    def test_an_empty_history_is_served_and_says_so(self, model):
        table = model.recommend_for({"new": [], "old": ["i00"]}, 3)
        how = lists(table, value="how")
        assert how["new"] == ["popularity"] * 3
        assert "popularity" not in how["old"]

    def test_a_history_of_items_nobody_has_is_content(self, model):
        table = model.recommend_for([["i36"]], 5)
        assert set(table["how"].to_pylist()) == {"content"}
        assert sum(int(item[1:]) % 2 == 0 for item in table["item"].to_pylist()) >= 4


class TestRankAndScore:
    @pytest.mark.parametrize("diversify", [0.0, 0.4])
    def test_rank_is_recommend_in_codes(self, model, diversify):
        scores, items = model.rank(np.arange(60), 7, diversify=diversify)
        table = model.recommend(model.users.ids, 7, diversify=diversify)
        assert model.items.ids.decode(items).ravel().tolist() == table["item"].to_pylist()
        np.testing.assert_array_equal(scores.ravel(), table["score"].to_numpy())
        assert scores.dtype == np.float32
        assert items.dtype == np.int64

    def test_rank_of_candidates_pads(self, model):
        scores, items = model.rank(np.array([0]), 6, candidates=np.arange(WARM, 40))
        assert sorted(items[0, :4].tolist()) == [36, 37, 38, 39]
        assert items[0, 4:].tolist() == [-1, -1]
        assert (scores[0, 4:] == -np.inf).all()

    def test_diversify_chooses_other_items_of_the_same_candidates(self, model):
        candidates = np.arange(0, 40, 2)
        asked = {"candidates": candidates, "exclude_seen": False}
        _, plain = model.rank(np.arange(60), 5, **asked)
        _, varied = model.rank(np.arange(60), 5, diversify=0.8, **asked)
        assert (plain[:, 0] == varied[:, 0]).all()
        assert (plain != varied).any()
        assert np.isin(varied, candidates).all()

    def test_lists_longer_than_the_catalogue_are_padded_when_diversified_too(self, model):
        scores, items = model.rank(np.array([0]), 60, exclude_seen=False, diversify=0.5)
        assert sorted(items[0, :40].tolist()) == list(range(40))
        assert items[0, 40:].tolist() == [-1] * 20
        assert (scores[0, 40:] == -np.inf).all()

    def test_score_gives_the_scores_of_the_lists(self, model):
        table = model.recommend(["u07", "stranger"], 40, exclude_seen=False)
        scored = model.score(table.select(["user", "item"]))
        np.testing.assert_allclose(
            scored["score"].to_numpy(), table["score"].to_numpy(), rtol=1e-4, atol=1e-6
        )
        assert scored["how"] == table["how"]
        tuples = list(zip(table["user"].to_pylist(), table["item"].to_pylist(), strict=True))
        assert model.score(tuples).equals(scored)
        assert model.score([]).num_rows == 0

    def test_order_of_users_does_not_matter(self, model):
        alone = model.rank(np.array([3]), 5)
        among = model.rank(np.array([9, 3, 4]), 5)
        np.testing.assert_array_equal(alone[1][0], among[1][1])
        np.testing.assert_allclose(alone[0][0], among[0][1], rtol=1e-5)


class TestSimilarItems:
    def test_is_the_cosine_in_s_pp(self, model):
        table = model.similar_items(["i00", "i39"], 39)
        vectors = model.item_vectors.astype(np.float64)
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        for item, similar in lists(table, "item", "similar").items():
            code = int(item[1:])
            cosine = unit @ unit[code]
            assert item not in similar
            assert len(similar) == 39
            found = cosine[[int(name[1:]) for name in similar]]
            assert (np.diff(found) < 1e-6).all()
        np.testing.assert_allclose(
            table["score"].to_numpy()[0], np.sort(unit @ unit[0])[-2], rtol=1e-5
        )

    def test_limits(self, model):
        one = model.similar_items("i00", 3, candidates=["i01", "i03"])
        assert set(one["similar"].to_pylist()) == {"i01", "i03"}
        two = model.similar_items("i00", 3, item_filter={"section": "garden"})
        assert all(int(item[1:]) % 2 == 1 for item in two["similar"].to_pylist())


class TestAddItems:
    def test_a_table_or_items(self, interactions, items):
        columns = {
            "item": ["n1", "n2"],
            "title": ["red mug for the kitchen", "white spade for the garden"],
            "price": [3.0, None],
            "section": ["kitchen", None],
        }
        model = LinearFusion().fit(interactions, items).add_items(columns)
        other = LinearFusion().fit(interactions, items)
        other.add_items(Items.from_table(columns, text=["title"], numeric=["price"],
                                         categorical=["section"]))  # fmt: skip
        np.testing.assert_array_equal(model.item_vectors, other.item_vectors)
        table = model.recommend(["u00"], 2, candidates=["n1", "n2"])
        assert table["item"].to_pylist() == ["n1", "n2"]
        assert table["how"].to_pylist() == ["content", "content"]
        assert model.recommend_for([["n1"]], 3).num_rows == 3
        with pytest.raises(ValueError, match=r"not in the catalogue, got 2 that are.*'n1'"):
            model.add_items(columns)

    def test_popularity_puts_what_somebody_has_first(self, interactions, items):
        model = LinearFusion().fit(interactions, items)
        everything = model.recommend(["stranger"], 40)["item"].to_pylist()
        assert all(int(item[1:]) >= WARM for item in everything[WARM:])


class TestEventWeights:
    def test_weights_count_and_zero_is_seen_but_no_taste(self, items):
        rows = Interactions(
            user=np.array([0, 0, 1, 1, 2]),
            item=np.array([0, 1, 0, 2, 1]),
            users=IdMap(["a", "b", "c"]),
            items=items.ids,
            weight=np.array([1.0, 0.2, 1.0, 1.0, 0.0], np.float32),
        )
        model = LinearFusion().fit(rows, items)
        table = model.recommend(["c"], 40)
        assert "i01" not in table["item"].to_pylist()
        assert set(table["how"].to_pylist()) == {"popularity"}


class TestBadInput:
    @pytest.mark.parametrize(
        ("call", "error", "sentence"),
        [
            (lambda m: m.recommend("u00"), TypeError, "users: expected a sequence of user ids"),
            (lambda m: m.recommend([1]), TypeError, "users: ids are strings, got integers"),
            (lambda m: m.recommend(["u00"], 0), ValueError, "k: expected at least 1, got 0"),
            (lambda m: m.recommend(["u00"], 2.0), TypeError, "k: expected an int, got float"),
            (
                lambda m: m.recommend(["u00"], exclude=["i00", "zz"]),
                KeyError,
                "exclude: 1 of 2 ids are unknown, for example 'zz'",
            ),
            (lambda m: m.recommend(["u00"], exclude="i00"), TypeError, "exclude: expected a seq"),
            (
                lambda m: m.recommend(["u00"], exclude={"u09": ["i00"]}),
                KeyError,
                "exclude: expected users of this call, got 1 others, for example 'u09'",
            ),
            (
                lambda m: m.recommend(["u00", "u01"], candidates={"u00": ["i00"]}),
                KeyError,
                "candidates: expected a list for every user, got none for 'u01'",
            ),
            (lambda m: m.recommend(["u00"], item_filter={"size": 3}), KeyError, "no column 'size'"),
            (
                lambda m: m.recommend(["u00"], diversify=2),
                ValueError,
                r"diversify: expected a number in \[0, 1\], got 2",
            ),
            (lambda m: m.recommend(["u00"], at="soon"), ValueError, "expected a time such as"),
            (lambda m: m.recommend(["u00"], recency="old"), ValueError, "recency: expected 'auto'"),
            (
                lambda m: m.recommend_for({"g": ["i00", "zz"]}),
                KeyError,
                r"histories\['g'\]: 1 of 2 ids are unknown, for example 'zz'",
            ),
            (lambda m: m.recommend_for("i00"), TypeError, "histories: expected a mapping"),
            (lambda m: m.recommend_for([["i00"]], at="2024-01-01"), ValueError, "at: expected"),
            (lambda m: m.rank(np.array([60]), 5), ValueError, r"users: expected codes in 0\.\.59"),
            (
                lambda m: m.rank(np.array([0]), 5, diversify="much"),
                TypeError,
                "diversify: expected a number, got str",
            ),
            (lambda m: m.similar_items("zz"), KeyError, "items: 1 of 1 ids are unknown"),
            (lambda m: m.score({"user": ["u00"]}), ValueError, "pairs: expected a column 'item'"),
            (lambda m: m.score([("u00",)]), ValueError, "pairs: expected .user, item. tuples"),
            (lambda m: m.add_items({"item": ["n"]}), ValueError, "title"),
            (lambda m: m.add_items(Items(IdMap(["n"]))), ValueError, "table: expected the columns"),
            (
                lambda m: m.add_items(
                    Items(
                        IdMap([7]),
                        {"title": ["x"]},
                        {"price": np.ones(1)},
                        {"section": np.array(["y"], object)},
                    )
                ),
                TypeError,
                "ids are strings, got integers",
            ),
        ],
    )
    def test_of_calls(self, model, call, error, sentence):
        with pytest.raises(error, match=sentence):
            call(model)

    def test_not_fitted(self):
        with pytest.raises(RuntimeError, match="not fitted: call fit or from_pretrained first"):
            LinearFusion().recommend(["u00"])

    def test_of_fit(self, interactions, items):
        with pytest.raises(TypeError, match="interactions: expected Interactions, got dict"):
            LinearFusion().fit({})
        with pytest.raises(TypeError, match="items: expected Items, got dict"):
            LinearFusion().fit(interactions, {})
        with pytest.raises(ValueError, match="interactions: expected at least one row, got none"):
            LinearFusion().fit(interactions.select(np.zeros(len(interactions), bool)))
        weight = np.full(len(interactions), -1.0, np.float32)
        negative = Interactions(
            interactions.user, interactions.item, interactions.users, interactions.items,
            weight=weight,
        )  # fmt: skip
        with pytest.raises(ValueError, match="expected finite weights of at least 0, got -1"):
            LinearFusion().fit(negative)
        with pytest.raises(
            ValueError, match="content: expected text, categorical or numeric columns"
        ):
            LinearFusion(content=["colour"]).fit(interactions, items)
        with pytest.warns(UserWarning, match="4 of the 40 items of the interactions have no row"):
            LinearFusion().fit(interactions, items.take(items.ids.ids[:WARM]))

    def test_histories_without_times_have_no_recency(self, interactions):
        model = LinearFusion().fit(
            Interactions(
                interactions.user, interactions.item, interactions.users, interactions.items
            )
        )
        assert model.recommend(["u00"], 3).equals(model.recommend(["u00"], 3, recency=None))
        with pytest.raises(ValueError, match="recency: expected histories with times"):
            model.recommend(["u00"], 3, recency="basket")
        with pytest.raises(ValueError, match="at: expected histories with times"):
            model.recommend(["u00"], 3, at="2024-01-01")


class TestUserProfiles:
    def test_scores_are_inner_products_with_the_items(self, model, items):
        users, at = ["u00", "u07"], "2024-01-10"
        profiles = model.user_profiles(users, recency="basket")
        assert profiles.dtype == np.float32
        pairs = [(user, item) for user in users for item in items.ids.ids]
        scores = model.score(pairs, recency="basket")["score"].to_numpy().reshape(2, -1)
        np.testing.assert_allclose(profiles @ model.item_vectors.T, scores, rtol=1e-5, atol=1e-6)
        assert not np.array_equal(model.user_profiles(users, recency=None), profiles)
        assert not np.array_equal(model.user_profiles(users, recency="basket", at=at), profiles)

    def test_strangers_have_zeros(self, model):
        profiles = model.user_profiles(["stranger", "u00"])
        assert not profiles[0].any()
        assert profiles[1].any()
