"""The shop as a whole: seeds, gaps, the truth as it is asked for, files."""

import subprocess
import sys
import wave

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from fusionops.data import Interactions, Items, read_table, synthetic


@pytest.fixture(scope="module")
def shop():
    return synthetic.make(60, 90, missing=0.4, seed=5)


def rows(shop):
    return [(r.user.tolist(), r.item.tolist(), r.time.tolist()) for r in [shop.interactions]]


def test_torch_is_not_needed():
    code = "import sys; from fusionops.data import synthetic; synthetic.make(2, 9); "
    code += "assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_same_seed_gives_the_same_shop_and_another_another(shop):
    again, other = synthetic.make(60, 90, missing=0.4, seed=5), synthetic.make(60, 90, seed=6)
    assert rows(again) == rows(shop) != rows(other)
    assert again.items.text == shop.items.text != other.items.text
    np.testing.assert_array_equal(again.pictures, shop.pictures)
    np.testing.assert_array_equal(again.sounds, shop.sounds)
    assert (other.pictures != shop.pictures).any()


def test_missing_changes_nothing_but_what_is_missing(shop):
    whole, less = synthetic.make(60, 90, seed=5), synthetic.make(60, 90, missing=0.1, seed=5)
    assert rows(whole) == rows(shop)
    np.testing.assert_array_equal(whole.affinity(), shop.affinity())
    np.testing.assert_array_equal(whole.truth.main, shop.truth.main)
    image, audio = shop.present["image"], shop.present["audio"]
    np.testing.assert_array_equal(whole.pictures[image], shop.pictures[image])
    np.testing.assert_array_equal(whole.sounds[audio], shop.sounds[audio])
    pairs = zip(whole.items.text["description"], shop.items.text["description"], strict=True)
    assert all(full == shown for full, shown in pairs if shown is not None)
    for name in shop.modalities:
        assert whole.present[name].all()
        assert (less.present[name] | ~shop.present[name]).all()


def test_missing_contents_are_marked_and_empty(shop):
    assert [text is not None for text in shop.items.text["description"]] == list(
        shop.present["text"]
    )
    assert not shop.pictures[~shop.present["image"]].any()
    assert not shop.sounds[~shop.present["audio"]].any()
    share = 1 - np.mean([synthetic.make(2, 2000, missing=0.4).present[m] for m in shop.modalities])
    assert share == pytest.approx(0.4, abs=0.03)


def test_contributions_add_up_to_the_affinity(shop):
    pairs = np.random.default_rng(0)
    users, items = pairs.integers(60, size=500), pairs.integers(90, size=500)
    found = shop.contributions(users, items)
    assert found.shape == (500, 3)
    np.testing.assert_allclose(found.sum(axis=1), shop.affinity()[users, items])
    np.testing.assert_allclose(shop.affinity([7, 2]), shop.affinity()[[7, 2]])
    by_hand = 3.0 * shop.truth.user["image"][users[0]] @ shop.truth.item["image"][items[0]]
    assert found[0, 1] == pytest.approx(by_hand)


def test_the_planted_modality_dominates_what_is_bought():
    shop = synthetic.make(300, 400, seed=2)
    bought = shop.interactions
    found = shop.contributions(bought.user, bought.item)
    planted = shop.truth.main[bought.user]
    assert np.mean(found.argmax(axis=1) == planted) > 0.9


def test_what_is_saved_is_what_fusionops_reads(shop, tmp_path):
    shop.save(tmp_path / "shop")
    folder = tmp_path / "shop"
    read = Interactions.from_table(
        read_table(folder / "interactions.parquet"),
        users=shop.interactions.users,
        items=shop.interactions.items,
    )
    assert [(read.user.tolist(), read.item.tolist(), read.time.tolist())] == rows(shop)
    table = read_table(folder / "items.parquet")
    items = Items.from_table(table, text=["description"], media=["picture", "sound"])
    assert items.ids == shop.items.ids
    assert items.text == shop.items.text
    for code, (picture, sound) in enumerate(
        zip(items.media["picture"], items.media["sound"], strict=True)
    ):
        assert (picture is not None) == shop.present["image"][code]
        assert (sound is not None) == shop.present["audio"][code]
        if picture is not None:
            np.testing.assert_array_equal(Image.open(folder / picture), shop.pictures[code])
        if sound is not None:
            with wave.open(str(folder / sound)) as file:
                assert (file.getframerate(), file.getnchannels()) == (8000, 1)
                samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32767
            np.testing.assert_allclose(samples, shop.sounds[code], atol=1e-4)
    truth = load_file(folder / "truth.safetensors")
    np.testing.assert_array_equal(truth["item.audio"], shop.truth.item["audio"])
    np.testing.assert_array_equal(truth["main"], shop.truth.main)
    assert "SYNTHETIC" in (folder / "README.txt").read_text()


def test_a_file_is_no_folder(shop, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="folder: expected a folder, got the file"):
        shop.save(tmp_path / "file")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"users": 0}, ValueError, "users: expected at least 1, got 0"),
        ({"items": 7}, ValueError, "items: expected at least 8, got 7"),
        ({"items": 9.0}, TypeError, "items: expected an int, got float"),
        ({"purchases": -1}, ValueError, "purchases: expected a finite number of at least 0"),
        ({"missing": 1.0}, ValueError, r"missing: expected less than 1, got 1\.0"),
        ({"missing": -0.1}, ValueError, "missing: expected a finite number of at least 0"),
        ({"factors": 0}, ValueError, "factors: expected at least 1, got 0"),
        ({"factors": 7}, ValueError, "factors: expected at most 6, got 7"),
        ({"sharpness": float("nan")}, ValueError, "sharpness: expected a finite number"),
        ({"side": 1.5}, ValueError, r"side: expected at most 1, got 1\.5"),
        ({"side": "0.3"}, TypeError, "side: expected a number, got str"),
        ({"seed": -1}, ValueError, "seed: expected at least 0, got -1"),
    ],
)
def test_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        synthetic.make(**arguments)


def test_codes_that_are_not_there(shop):
    with pytest.raises(IndexError, match=r"users: expected codes in 0\.\.59, got 60\.\.60"):
        shop.affinity([60])
    with pytest.raises(IndexError, match=r"items: expected codes in 0\.\.89, got -1\.\.-1"):
        shop.contributions([0], [-1])
    with pytest.raises(TypeError, match="users: expected integer codes, got float64"):
        shop.affinity([0.0])
    with pytest.raises(ValueError, match="items: expected the length of users, 1, got 2"):
        shop.contributions([0], [0, 1])
    with pytest.raises(ValueError, match=r"users: expected codes of one dimension, got shape \[\]"):
        shop.affinity(0)
