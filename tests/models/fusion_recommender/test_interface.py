"""What a trained model can be asked, against its own profiles and the fusion matrix."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch
from recommender_support import (
    N_COLD,
    N_ITEMS,
    N_USERS,
    encoded,
    fitted,
    item_ids,
    shop,
)

import fusionops
from fusionops.data import IdMap, Interactions, Items, Users
from fusionops.models.fusion_recommender.serving import ragged
from fusionops.models.interface.recency import NEXT_VISIT

WARM = N_ITEMS - N_COLD


def columns(ids: IdMap) -> Items:
    return Items(
        ids,
        numeric={"price": np.linspace(1, 9, len(ids))},
        categorical={"kind": np.array(["mug", "lamp"] * (len(ids) // 2), dtype=object)},
    )


def of_users(interactions: Interactions) -> Users:
    ages = np.where(np.arange(N_USERS) % 2, 20.0, 60.0)
    return Users(interactions.users, numeric={"age": ages})


@pytest.fixture(scope="module")
def interactions() -> Interactions:
    return shop()


@pytest.fixture(scope="module")
def model(interactions):
    inputs = {
        "items": columns(interactions.items),
        "users": of_users(interactions),
        "features": {"text": encoded(interactions.items, missing=(3, 33))},
    }
    return fitted(interactions, inputs=inputs, arguments={"num_train_epochs": 4})


def column(table: pa.Table, name: str) -> list:
    return table[name].to_pylist()


class TestScores:
    @pytest.mark.parametrize("normalization", ["diagonal", "matrix", "cosine", "none"])
    def test_they_are_the_fusion_matrix_of_the_profiles(self, normalization):
        interactions = shop(cold=0)
        model = fitted(interactions, normalization=normalization, ridge=0.5, power=0.4)
        users = np.arange(N_USERS)
        scores, items = model.rank(users, N_ITEMS, exclude_seen=False)
        asked = model._asked(users, model._shelf.histories, "auto", None)
        with torch.no_grad():
            given = ragged(asked.histories, asked.pairs, model.device)
            item = model.item_tower()
            user, _ = model.user_tower(item, given, model.item_tower, None, torch.from_numpy(users))
            norm = {"power": 0.4, "ridge": 0.5} if normalization == "matrix" else {}
            expected = fusionops.fusion_matrix(user, item, normalization=normalization, **norm)
        np.testing.assert_allclose(
            scores, np.take_along_axis(expected.numpy(), items, 1), atol=2e-5, rtol=1e-4
        )
        assert (np.diff(scores) <= 0).all()

    def test_score_gives_what_recommend_gives(self, model):
        table = model.recommend(["u00", "u07", "nobody"], 6)
        pairs = {"user": table["user"], "item": table["item"]}
        again = model.score(pairs)
        np.testing.assert_allclose(column(again, "score"), column(table, "score"), rtol=1e-5)
        assert column(again, "how") == column(table, "how")

    def test_rank_is_recommend_in_codes(self, model, interactions):
        table = model.recommend(interactions.users.ids, 5)
        _, items = model.rank(np.arange(N_USERS), 5)
        assert column(table, "item") == interactions.items.decode(items.ravel()).tolist()
        varied = model.recommend(interactions.users.ids, 5, diversify=0.4)
        assert varied["item"] != table["item"]
        _, items = model.rank(np.arange(N_USERS), 5, diversify=0.4)
        assert column(varied, "item") == interactions.items.decode(items.ravel()).tolist()


class TestWho:
    def test_strangers_get_what_is_popular(self, model, interactions):
        table = model.recommend(["nobody", "u01"], 4)
        assert column(table, "how")[:4] == ["popularity"] * 4
        pairs = interactions.matrix().sum(axis=0)
        best = np.argsort(-pairs, kind="stable")[:4]
        assert column(table, "item")[:4] == interactions.items.decode(best).tolist()
        assert "popularity" not in column(table, "how")[4:]

    def test_histories_of_strangers_are_answered_as_those_of_users(self, interactions):
        model = fitted(interactions, inputs={"features": {"text": encoded(interactions.items)}})
        rows = interactions.ordered()
        own = interactions.items.decode(rows.item[rows.user == 5]).tolist()
        given = model.recommend_for({"she": own, "he": []}, 5, recency=NEXT_VISIT)
        own_list = model.recommend(["u05"], 5)
        assert column(given, "item")[:5] == column(own_list, "item")
        np.testing.assert_allclose(column(given, "score")[:5], column(own_list, "score"), rtol=1e-4)
        assert column(given, "how")[5:] == ["popularity"] * 5

    @pytest.mark.parametrize("reranked", [0, 8])
    def test_a_table_is_enough_for_a_user(self, interactions, reranked):
        """Two users without a row, one of whom has a table: content, and popularity."""
        ids = IdMap([*interactions.users.ids.tolist(), "tabled", "unknown"])
        more = Interactions(
            interactions.user, interactions.item, ids, interactions.items, interactions.time
        )
        ages = np.append(of_users(interactions).numeric["age"], [20.0, np.nan])
        model = fitted(
            more,
            inputs={"users": Users(ids, numeric={"age": ages})},
            rerank_candidates=reranked,
        )
        table = model.recommend(["tabled", "unknown"], 3)
        assert column(table, "how") == ["content"] * 3 + ["popularity"] * 3

    @pytest.mark.parametrize("behaviour", ["mean", "attention", "gru", "transformer"])
    def test_kinds_of_event_need_not_be_given(self, behaviour):
        model = fitted(shop(events=True), behaviour=behaviour, rerank_candidates=5)
        assert model.config.events == ["buy", "view"]
        assert model.user_tower.tokens[:2] == ("behaviour:buy", "behaviour:view")
        table = model.recommend_for([["i00", "i04"], ["i01"]], 3)
        assert column(table, "how") == ["history"] * 6
        assert model.recommend(["u00", "nobody"], 3).num_rows == 6

    def test_at_looks_at_nothing_later(self, model, interactions):
        moment = interactions.time[len(interactions) // 2]
        before = interactions.select(interactions.time <= moment).ordered()
        users = column(model.recommend(interactions.users.ids, 1, at=moment), "how")
        has = np.isin(np.arange(N_USERS), before.user)
        assert [how != "popularity" for how in users] == [True] * N_USERS  # they have a table
        user = int(np.flatnonzero(has)[-1])
        own = interactions.items.decode(before.item[before.user == user]).tolist()
        listed = model.recommend([f"u{user:02d}"], N_ITEMS, at=moment)
        assert not set(own) & set(column(listed, "item"))
        assert listed.num_rows == N_ITEMS - len(set(own))


class TestSecondStage:
    def test_it_ranks_the_best_of_the_first_again(self, interactions):
        model = fitted(interactions, rerank_candidates=6)
        users = np.arange(N_USERS)
        torch.nn.init.zeros_(model.reranker.output.weight)
        first = model.rank(users, 12)[1]
        torch.nn.init.normal_(model.reranker.output.weight, std=5.0)
        few, same, more = (model.rank(users, k)[1] for k in (3, 6, 12))
        assert np.array_equal(np.sort(same), np.sort(first[:, :6]))
        assert not np.array_equal(same, first[:, :6])
        assert np.array_equal(few, same[:, :3])
        assert np.array_equal(np.sort(more), np.sort(first))

    def test_limits_hold(self, interactions):
        model = fitted(interactions, rerank_candidates=50)
        table = model.recommend(["u00", "u01"], 9, candidates=item_ids(8), exclude=["i02"])
        assert set(column(table, "item")) <= set(item_ids(8)) - {"i02"}
        assert np.isfinite(column(table, "score")).all()


class TestItems:
    def test_similar_items_are_the_nearest_by_cosine(self, model):
        vectors = model.item_vectors
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        cosine = unit @ unit[6]
        cosine[6] = -2
        table = model.similar_items("i06", 4)
        assert column(table, "similar") == [f"i{code:02d}" for code in np.argsort(-cosine)[:4]]
        np.testing.assert_allclose(column(table, "score"), np.sort(cosine)[::-1][:4], rtol=1e-4)

    def test_cold_items_stand_in_the_lists_by_their_content(self, model):
        table = model.recommend(["u00"], N_ITEMS)
        cold = {f"i{code:02d}" for code in range(WARM, N_ITEMS)}
        how = dict(zip(column(table, "item"), column(table, "how"), strict=True))
        assert {item for item, kind in how.items() if kind == "content"} == cold

    def test_added_items_are_as_if_they_had_been_there_without_history(self, interactions):
        whole = encoded(interactions.items, missing=(3, 34))
        everything = columns(interactions.items)
        most = IdMap(item_ids(N_ITEMS - 2))
        fewer = Interactions(
            interactions.user, interactions.item, interactions.users, most, interactions.time
        )

        def inputs(ids):
            return {"features": {"text": whole.take(ids)}, "items": everything.take(ids)}

        model = fitted(fewer, inputs=inputs(most))
        before = model.item_vectors.copy()
        new = IdMap(item_ids(2, N_ITEMS - 2))
        model.add_items(everything.take(new), features={"text": whole.take(new)})
        assert np.array_equal(model.item_vectors[:-2], before)
        assert len(model.items) == len(model.item_vectors) == N_ITEMS
        twin = fitted(interactions, inputs=inputs(interactions.items)).item_tower
        for name in ("features_text", "present_text", "has_history", "id_known", "history_scale"):
            assert torch.equal(model.item_tower.get_buffer(name), twin.get_buffer(name)), name
        table = model.recommend(["u00"], N_ITEMS, exclude_seen=False)
        how = dict(zip(column(table, "item"), column(table, "how"), strict=True))
        assert how["i34"] == how["i35"] == "content"
        assert column(model.similar_items("i35", 2), "item") == ["i35", "i35"]

    def test_an_added_item_without_anything_has_a_zero_vector(self, interactions):
        model = fitted(interactions, inputs={"features": {"text": encoded(interactions.items)}})
        model.add_items({"item": ["new"]})
        assert not model.item_vectors[-1].any()


def test_missing_vectors_may_be_anything(interactions):
    """NaN stands where nothing is present, in training as in serving."""
    holes = encoded(interactions.items, missing=(0, 5, 9, 35))
    zeros = encoded(interactions.items, missing=(0, 5, 9, 35))
    zeros.vectors[~zeros.present] = 0
    vectors = []
    for part in (holes, zeros):
        model = fitted(interactions, inputs={"features": {"text": part}})
        assert all(p.isfinite().all() for p in model.parameters())
        vectors.append(model.item_vectors)
    assert np.isfinite(vectors[0]).all()
    assert np.array_equal(*vectors)


def test_vectors_follow_the_weights(model):
    """Training mode drops what was made from older ones."""
    before = model.item_vectors.copy()
    weight = model.item_tower.ids.weight
    model.train()
    with pytest.raises(RuntimeError, match=r"in training: call eval\(\) first"):
        model.recommend(["u00"], 1)
    with torch.no_grad():
        weight += 1
    model.eval()
    assert not np.array_equal(model.item_vectors, before)
    with torch.no_grad():
        weight -= 1
    model.train().eval()
