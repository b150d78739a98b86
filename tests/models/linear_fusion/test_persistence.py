"""Save and load: the same bits, in one step or not at all, and nothing foreign."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from fusionops.data import IdMap, Interactions, Items
from fusionops.models import LinearFusion


def files(directory):
    return sorted(file.name for file in directory.iterdir())


def test_the_same_answers_bit_for_bit(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    again = LinearFusion.from_pretrained(tmp_path / "model")
    assert again.parameters == model.parameters
    for call in (
        lambda m: m.recommend([*m.users.ids, "nobody"], 12, at="2024-01-15", diversify=0.3),
        lambda m: m.recommend(m.users.ids, 5, item_filter={"price": slice(2, 9)}),
        lambda m: m.similar_items("i03", 5),
        lambda m: m.score([("u00", "i39"), ("u01", "i00")], recency="basket"),
    ):
        assert call(again).equals(call(model))
    new = Items(
        IdMap(["new"]),
        text={"title": ["red teapot for the kitchen"]},
        numeric={"price": np.array([np.nan])},
        categorical={"section": np.array([None], dtype=object)},
    )
    fresh = LinearFusion.from_pretrained(tmp_path / "model").add_items(new)
    again.add_items(new)
    np.testing.assert_array_equal(fresh.item_vectors, again.item_vectors)
    again.save_pretrained(tmp_path / "model")
    assert LinearFusion.from_pretrained(tmp_path / "model").items.ids == again.items.ids
    assert len(files(tmp_path / "model")) == 3


def test_integer_ids_times_and_no_content(tmp_path):
    rows = Interactions(
        user=np.array([0, 0, 1, 1]),
        item=np.array([0, 1, 1, 2]),
        users=IdMap([17, 4]),
        items=IdMap([30, 10, 20]),
    )
    model = LinearFusion().fit(rows)
    model.save_pretrained(tmp_path)
    again = LinearFusion.from_pretrained(tmp_path)
    assert again.recommend([17, 4, 99], 3).equals(model.recommend([17, 4, 99], 3))
    assert again.users.ids.dtype == np.int64


@pytest.mark.parametrize("dies_at", [1, 2, 3])
def test_a_killed_save_leaves_the_old_model(interactions, items, tmp_path, monkeypatch, dies_at):
    old = LinearFusion(rank=4).fit(interactions, items)
    old.save_pretrained(tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}
    calls = 0

    def replace(source, target):
        nonlocal calls
        calls += 1
        if calls == dies_at:
            raise KeyboardInterrupt
        rename(source, target)

    rename = os.replace
    new = (
        LinearFusion(rank=5)
        .fit(interactions, items)
        .add_items({"item": ["x"], "title": ["mug"], "price": [1.0], "section": ["kitchen"]})
    )
    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        new.save_pretrained(tmp_path)
    monkeypatch.undo()
    for name, data in before.items():
        assert (tmp_path / name).read_bytes() == data
    assert LinearFusion.from_pretrained(tmp_path).item_vectors.shape[1] == 4
    new.save_pretrained(tmp_path)
    assert LinearFusion.from_pretrained(tmp_path).item_vectors.shape[1] == 5
    assert len(files(tmp_path)) == 3


def test_a_save_killed_by_the_system_leaves_the_old_model(model, tmp_path):
    model.save_pretrained(tmp_path)
    code = f"""
import os, signal
import numpy as np
from fusionops.models.linear_fusion import persistence
os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
persistence.save_directory({str(tmp_path)!r}, {{}}, {{}}, {{"a": np.zeros(3)}})
"""
    killed = subprocess.run([sys.executable, "-c", code], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(files(tmp_path)) == 4  # a temporary file was left
    again = LinearFusion.from_pretrained(tmp_path)
    np.testing.assert_array_equal(again.item_vectors, model.item_vectors)
    again.save_pretrained(tmp_path)
    assert len(files(tmp_path)) == 3


def damage(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("pattern", ["model-*.safetensors", "tables-*.json"])
@pytest.mark.parametrize("how", ["a flipped bit", "truncated", "gone"])
def test_damaged_data_is_refused(model, tmp_path, pattern, how):
    model.save_pretrained(tmp_path)
    (file,) = tmp_path.glob(pattern)
    if how == "a flipped bit":
        damage(file)
    elif how == "truncated":
        file.write_bytes(file.read_bytes()[:-1])
    else:
        file.unlink()
    error, sentence = (
        (FileNotFoundError, "is missing") if how == "gone" else (ValueError, "damaged")
    )
    with pytest.raises(error, match=sentence):
        LinearFusion.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ("{", "is damaged: it is not JSON"),
        ("[]", "expected a model of format 'fusionops.LinearFusion', got 'list'"),
        ('{"model_type": "bert"}', "expected a model of format 'fusionops.LinearFusion', got None"),
        (
            '{"format": "fusionops.LinearFusion", "version": 99}',
            "expected format version 3, got 99",
        ),
        (
            '{"format": "fusionops.LinearFusion", "version": 1}',
            "expected format version 3, got 1; use the fusionops that wrote it",
        ),
        ('{"format": "fusionops.LinearFusion", "version": 3}', "is damaged: it has no 'files'"),
    ],
)
def test_foreign_config_is_refused(tmp_path, config, sentence):
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(ValueError, match=sentence):
        LinearFusion.from_pretrained(tmp_path)


def test_a_config_does_not_read_files_elsewhere(model, tmp_path):
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["files"]["tables"]["name"] = "../secret.json"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"damaged: it names the file '\.\./secret\.json'"):
        LinearFusion.from_pretrained(tmp_path)


def test_nothing_foreign_is_overwritten(model, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected a directory with config\.json"):
        LinearFusion.from_pretrained(tmp_path / "nowhere")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError, match="expected a directory, got the file"):
        model.save_pretrained(tmp_path / "file")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(FileExistsError, match="and is left as it is"):
        model.save_pretrained(tmp_path)
    assert files(tmp_path) == ["config.json", "file"]
