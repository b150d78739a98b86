"""What FusionRecommender's scores and ranks become, against models that really do not know it."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from explanation_support import served_without
from recommender_support import encoded, fitted, item_ids, shop

from fusionops.data import Encoded, IdMap, Items, Reviews, Users
from fusionops.models.explanation import Explanation

USER, K = "u05", 4


def inputs(interactions: Any, items: Items) -> dict[str, Any]:
    """Two modalities with gaps, tables of both sides and reviews."""
    users, rng = interactions.users, np.random.default_rng(3)
    count = 60
    reviews = Reviews(
        rng.integers(0, len(users), count),
        rng.integers(0, len(items), count),
        users,
        items.ids,
        ["fine"] * count,
        rng.integers(1, 6, count).astype(float),
    )
    written = IdMap(np.arange(count))
    vectors = Encoded(
        written, rng.standard_normal((count, 3)).astype(np.float32), np.ones(count, bool)
    )
    return {
        "items": items,
        "features": {
            "text": encoded(items.ids, missing=(4, 7, 33)),
            "image": encoded(items.ids, 4, missing=(0, 5, 6, 34), seed=2),
        },
        "users": Users(users, numeric={"age": rng.normal(40, 9, len(users))}),
        "reviews": (reviews, vectors),
    }


CHOICES: dict[str, dict[str, Any]] = {
    "usual": {},
    "deep": {"fusion": "deep", "normalization": "cosine", "user_ids": True},
    "attention": {"fusion": "attention", "normalization": "diagonal", "behaviour": "attention"},
    "matrix": {"normalization": "matrix", "power": 0.5, "ridge": 0.1},
    "gru": {"behaviour": "gru", "residual": False},
    "transformer": {"behaviour": "transformer", "touched": False, "missing": "zeros"},
    "lengths": {"token_norm": False, "missing": "zeros", "item_ids": False},
    "second stage": {"rerank_candidates": 9},
}


@pytest.fixture(scope="module", params=CHOICES)
def rich(request: pytest.FixtureRequest, interactions: Any, items: Items) -> Any:
    """A model with all that there can be, whose parts have been made to differ."""
    model = fitted(interactions, inputs=inputs(interactions, items), **CHOICES[request.param])
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.train()  # its vectors are of before
    return model.eval()


def counterfactuals(model: Any, user: str, item: str, **limits: Any) -> Explanation:
    found = model.explain(user, item, k=K, recency=None, **limits)
    assert found.method == "counterfactuals"
    assert found.baseline == 0
    return found


def asked_items(model: Any) -> list[str]:
    """The first of the list, one far down, and one that nobody has had."""
    listed = model.recommend([USER], 36, recency=None)["item"].to_pylist()
    return [listed[0], listed[-3], "i34"]


def test_without_each_item_of_the_history(rich):
    width = max(K, rich.config.rerank_candidates) if rich.config.rerank_candidates else None
    for item in asked_items(rich):
        found = counterfactuals(rich, USER, item)
        ids, had = rich.items.ids.ids, {part.id for part in found.history}
        allowed = [one for one in ids.tolist() if one not in had]
        scores, _ = served_without(rich, USER, [], allowed)
        assert found.score == pytest.approx(scores[item], rel=1e-4, abs=1e-5)
        for part in found.history:
            scores, ranks = served_without(rich, USER, [part.id], allowed, width)
            assert part.score == pytest.approx(scores[item], rel=1e-4, abs=1e-5)
            assert part.effect == pytest.approx(found.score - part.score, abs=1e-6)
            below = sorted(allowed, key=lambda one, scores=scores: -scores[one])
            assert part.rank == ranks.get(item, below.index(item) + 1)


def cleared(model: Any, name: str, codes: Sequence[int], user: int) -> Any:
    """A copy that does not know a modality of some items, or something of one user."""
    other = copy.copy(model)
    other._modules = dict(copy.deepcopy(dict(model._modules)))
    tower, users = other.item_tower, other.user_tower
    codes = torch.as_tensor(list(codes))
    if name == "table":
        tower.numeric[codes] = missing_row(tower)
    elif name == "id":
        tower.id_known[codes] = False
    elif name == "user table":
        users.numeric[user] = missing_row(users)
    elif name == "user reviews":
        start, stop = users.reviews.offsets[user], users.reviews.offsets[user + 1]
        users.reviews.present[start:stop] = False
    else:
        tower.presence(name)[codes] = False
    return other


def missing_row(tower: Any) -> torch.Tensor:
    """The numbers of something of which the table says nothing."""
    nothing = {name: np.array([np.nan]) for name in ("price", "age")}
    return tower.table.rows_of(Items(IdMap(["nothing"]), numeric=nothing))[0][0]


def test_without_each_modality(rich):
    """Masked in the items asked about and in those of the history; all others as they are."""
    users = torch.tensor([5])
    for item in asked_items(rich):
        found = counterfactuals(rich, USER, item)
        names = {part.id for part in found.modalities}
        expected = {*rich.item_tower.tokens, "user table", "user reviews"}
        assert names == expected | ({"user id"} if rich.config.user_ids else set())
        code = rich.items.ids.ids.tolist().index(item)
        had = rich.items.ids.encode([part.id for part in found.history])
        asked = rich._asked(np.array([5]), rich._shelf.histories.of(np.array([5])), None, None)
        for part in found.modalities:
            if part.id == "user id":  # no presence of its own: a stranger with the same history
                continue
            other = cleared(rich, part.id, [*had, code], 5)
            with torch.no_grad():
                profiles = other.item_tower()
                histories = rich._histories(asked, np.array([0]))
                profile, _ = other.user_tower(profiles, histories, other.item_tower, None, users)
                own = profiles
                if rich._mapping is None:
                    own, _ = other.score_vectors(profiles, None)
                score = float(own[code] @ rich.user_vectors(profile, rich._mapping)[0])
                user = rich.user_vectors(profile, rich._mapping)[0].numpy()
            assert part.score == pytest.approx(score, rel=1e-4, abs=1e-5), part.id
            assert part.effect == pytest.approx(found.score - part.score, abs=1e-6)
            if rich.reranker is not None:  # which ranks by more than these scores
                assert part.rank is None
                continue
            others = rich.item_vectors @ user
            others[code] = score
            able = np.setdiff1d(np.arange(36), had)
            order = able[np.argsort(-others[able], kind="stable")]
            assert part.rank == order.tolist().index(code) + 1


def test_lists_are_explained_as_their_items_are(rich):
    listed = rich.explain_list(USER, K, recency=None)
    table = rich.recommend([USER], K, recency=None)
    assert [one.item for one in listed] == table["item"].to_pylist()
    assert [one.rank for one in listed] == table["rank"].to_pylist()
    for one in listed:
        alone = counterfactuals(rich, USER, one.item)
        assert one.removal is None
        assert (one.rank, one.how) == (alone.rank, alone.how)
        for name in ("history", "modalities"):
            parts = {part.id: part for part in getattr(one, name)}
            for other in getattr(alone, name):
                assert parts[other.id].effect == pytest.approx(other.effect, abs=1e-5)
                assert parts[other.id].rank == other.rank


def test_a_stranger_is_someone_without_an_id(interactions):
    """The effect of who the user is: a stranger with the same history."""
    model = fitted(interactions, user_ids=True)
    found = counterfactuals(model, USER, "i03")
    history = model._shelf.histories.of(np.array([5]))
    asked = model._asked(np.array([-1]), history, None, None)
    profile, _ = model._profiles(asked)
    score = model.item_vectors[3] @ profile[0]
    (part,) = [part for part in found.modalities if part.id == "user id"]
    assert part.score == pytest.approx(score, rel=1e-5)
    assert abs(part.effect) > 1e-6
    (part,) = [part for part in model.explain_for(["i00"], "i03").modalities if part.id != "id"]
    assert (part.id, part.effect) == ("user id", pytest.approx(0, abs=1e-7))


class TestLittleIsKnown:
    def test_an_item_of_one_token(self, interactions):
        """A cold item has no id: without its one modality there is nothing left of it."""
        features = {"text": encoded(interactions.items)}
        model = fitted(interactions, inputs={"features": features})
        for normalization in ("none", "cosine", "diagonal", "matrix"):
            model.config.normalization = normalization
            model.train()
            model.eval()
            found = model.explain(USER, "i34")
            json.dumps(found.to_dict(), allow_nan=False)
            (text,) = [part for part in found.modalities if part.id == "text"]
            assert text.score == 0
            assert text.effect == pytest.approx(found.score)

    def test_a_user_of_one_item_and_nothing_else(self, interactions):
        model = fitted(interactions, touched=False)
        found = model.explain_for(["i00"], "i04")
        assert [part.id for part in found.history] == ["i00"]
        (part,) = found.history
        assert math.isnan(part.score)
        assert part.effect == found.score
        popular = model.recommend(["nobody"], 36, exclude=["i00"])["item"].to_pylist()
        assert part.rank == popular.index("i04") + 1
        plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
        assert plain["history"][0]["score"] is None
        if part.effect > 0:
            assert "there would be nothing to go by" in found.sentence()

    def test_a_user_with_a_table_and_no_history(self, interactions, items):
        users = IdMap([*interactions.users.ids.tolist(), "tabled"])
        rows = replace(interactions, users=users)
        table = Users(users, numeric={"age": np.linspace(20, 60, len(users))})
        model = fitted(rows, inputs={"users": table, "items": items})
        found = model.explain("tabled", "i03")
        assert found.how == "content"
        assert found.history == ()
        assert found.removal is None
        (of_table,) = [part for part in found.modalities if part.id == "user table"]
        assert math.isnan(of_table.score)
        assert of_table.rank == model.explain("nobody", "i03").rank
        json.dumps(found.to_dict(), allow_nan=False)

    def test_a_modality_that_is_called_like_what_users_have(self, interactions, items):
        """Neither takes the place of the other."""
        more = inputs(interactions, items)
        more["features"] = {"reviews": more["features"]["text"]}
        model = fitted(interactions, inputs=more)
        found = model.explain(USER, "i00")
        names = [part.id for part in found.modalities]
        assert len(names) == len(set(names)) == len(model.item_tower.tokens) + 2

    def test_a_modality_that_item_and_history_lack_changes_nothing(self, interactions):
        lacking = tuple(range(35))
        features = {
            "text": encoded(interactions.items),
            "image": encoded(interactions.items, 4, missing=lacking, seed=2),
        }
        model = fitted(interactions, inputs={"features": features})
        found = model.explain(USER, "i00")
        (image,) = [part for part in found.modalities if part.id == "image"]
        assert image.effect == pytest.approx(0, abs=1e-6)
        assert image.rank == found.rank


def test_events_of_a_kind(interactions):
    model = fitted(shop(events=True))
    found = counterfactuals(model, USER, "i34")
    had = {part.id for part in found.history}
    for part in found.history:
        allowed = [one for one in item_ids(36) if one not in had]
        scores, ranks = served_without(model, USER, [part.id], allowed)
        assert part.score == pytest.approx(scores["i34"], rel=1e-4, abs=1e-6)
        assert part.rank == ranks["i34"]


def test_contributions_are_not_to_be_had(rich):
    with pytest.raises(ValueError, match="method: expected 'counterfactuals' or 'auto', as the"):
        rich.explain(USER, "i00", method="contributions")
