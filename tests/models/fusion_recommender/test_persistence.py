"""Save and load: the same bits, over older models, and damage is seen."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from recommender_support import encoded, fitted, shop
from transformers import AutoConfig, AutoModel

from fusionops.data import IdMap, Interactions, Items
from fusionops.models.fusion_recommender import FusionRecommender

FILES = [
    "config.json",
    "fusionops.json",
    "model.safetensors",
    "shelf.json",
    "shelf.safetensors",
]


@pytest.fixture(scope="module")
def model():
    interactions = shop(events=True)
    items = Items(interactions.items, numeric={"price": np.linspace(0, 1, 36)})
    inputs = {"items": items, "features": {"text": encoded(interactions.items, missing=(3,))}}
    return fitted(interactions, inputs=inputs, fusion="deep", rerank_candidates=8)


@pytest.fixture
def saved(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


CALLS = (
    lambda m: m.recommend([*m.users.ids, "nobody"], 12, at="2024-01-20", diversify=0.3),
    lambda m: m.recommend(m.users.ids, 5, item_filter={"price": slice(0.2, 0.9)}),
    lambda m: m.recommend_for([["i00", "i09"]], 5),
    lambda m: m.similar_items("i03", 5),
    lambda m: m.score([("u00", "i35"), ("u01", "i00")], recency="basket"),
)


def assert_same(one: FusionRecommender, other: FusionRecommender) -> None:
    for call in CALLS:
        assert call(one).equals(call(other))


@pytest.mark.parametrize("by", [FusionRecommender, AutoModel])
def test_the_same_answers_bit_for_bit(model, saved, by):
    again = by.from_pretrained(saved)
    assert isinstance(again, FusionRecommender)
    assert not again.training
    assert sorted(path.name for path in saved.iterdir()) == FILES
    assert_same(again, model)
    again.save_pretrained(saved)
    assert_same(FusionRecommender.from_pretrained(saved), model)


def test_a_loaded_model_does_not_need_its_folder(model, saved):
    again = FusionRecommender.from_pretrained(saved)
    shutil.rmtree(saved)
    assert_same(again, model)


def test_the_config_is_found_by_its_kind(model, saved):
    config = AutoConfig.from_pretrained(saved)
    assert type(config) is type(model.config)
    assert {name: getattr(config, name) for name in config.parameters()} == {
        name: getattr(model.config, name) for name in config.parameters()
    }


def test_added_items_are_kept(saved):
    grown = FusionRecommender.from_pretrained(saved).add_items({"item": ["new"], "price": [0.5]})
    grown.save_pretrained(saved)
    again = FusionRecommender.from_pretrained(saved)
    assert again.items.ids.ids[-1] == "new"
    assert np.array_equal(again.item_vectors, grown.item_vectors)
    assert_same(again, grown)


def test_integer_ids_without_times(tmp_path):
    rows = Interactions(
        np.array([0, 0, 1, 1]), np.array([0, 1, 1, 2]), IdMap([17, 4]), IdMap([30, 10, 20])
    )
    model = fitted(rows)
    model.save_pretrained(tmp_path)
    again = FusionRecommender.from_pretrained(tmp_path)
    assert again.recommend([17, 4, 99], 3).equals(model.recommend([17, 4, 99], 3))
    assert again.users.ids.dtype == np.int64


def test_shards_give_way_to_one_file_and_back(model, tmp_path):
    other = fitted(shop(events=True), arguments={"seed": 5})
    for chosen, size in ((other, "50GB"), (model, "8KB"), (other, "50GB"), (model, "8KB")):
        chosen.save_pretrained(tmp_path, max_shard_size=size)
        assert (len(list(tmp_path.glob("model*.safetensors"))) > 1) == (size == "8KB")
        again = FusionRecommender.from_pretrained(tmp_path)
        assert np.array_equal(again.item_vectors, chosen.item_vectors)


@pytest.mark.parametrize("moved", range(1, 5))
def test_a_save_that_dies_is_seen(model, saved, monkeypatch, moved):
    """Over another model, with some of the files moved; the next save is as if it had not been."""
    other = fitted(shop(events=True), arguments={"seed": 5})
    move, count = type(saved).replace, 0

    def dying(self, target):
        nonlocal count
        count += 1
        if count > moved:
            raise KeyboardInterrupt
        return move(self, target)

    monkeypatch.setattr(type(saved), "replace", dying)
    with pytest.raises(KeyboardInterrupt):
        other.save_pretrained(saved)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="is damaged: expected SHA-256"):
        FusionRecommender.from_pretrained(saved)
    other.save_pretrained(saved)
    assert np.array_equal(FusionRecommender.from_pretrained(saved).item_vectors, other.item_vectors)


@pytest.mark.parametrize("name", FILES)
class TestDamage:
    def test_a_missing_file(self, saved, name):
        (saved / name).unlink()
        with pytest.raises(FileNotFoundError, match=name.replace(".", r"\.")):
            FusionRecommender.from_pretrained(saved)

    def test_a_truncated_file(self, saved, name):
        content = (saved / name).read_bytes()
        (saved / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(ValueError, match=name.replace(".", r"\.") + " is damaged"):
            FusionRecommender.from_pretrained(saved)

    def test_a_flipped_bit(self, saved, name):
        content = bytearray((saved / name).read_bytes())
        content[len(content) // 2] ^= 1
        (saved / name).write_bytes(bytes(content))
        with pytest.raises((ValueError, FileNotFoundError), match=r"damaged|missing|expected"):
            FusionRecommender.from_pretrained(saved)


class TestManifest:
    def change(self, saved, **fields):
        file = saved / "fusionops.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))
        return FusionRecommender.from_pretrained(saved)

    def test_a_later_version(self, saved):
        with pytest.raises(ValueError, match="expected format version 1, got 2; use the fusionops"):
            self.change(saved, version=2)

    def test_another_format(self, saved):
        with pytest.raises(
            ValueError, match=r"expected a model of format 'fusionops\.FusionRecomm"
        ):
            self.change(saved, format="other")

    @pytest.mark.parametrize("files", [None, [], {}, {"config.json": "0"}])
    def test_nothing_is_read_that_it_does_not_vouch_for(self, saved, files):
        with pytest.raises(ValueError, match=r"is damaged"):
            self.change(saved, files=files)


def test_what_is_there_of_others_is_left_alone(model, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(FileExistsError, match=r"holds a config\.json that is no fusionops"):
        model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == {"model_type": "bert"}
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(FileExistsError, match="expected a directory, got the file"):
        model.save_pretrained(file)


def test_weights_are_there_in_full(model, saved):
    again = FusionRecommender.from_pretrained(saved)
    for (name, one), other in zip(
        model.state_dict().items(), again.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name
