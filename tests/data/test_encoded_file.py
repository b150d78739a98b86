"""Vectors in files: whole, ours, undamaged, or an error that names the file."""

import json
import struct

import numpy as np
import pytest
from safetensors.numpy import save_file

from fusionops.data import Encoded, IdMap, load_features
from fusionops.data.encoded_file import read_encoded, write_encoded


def encoded(ids=("a", "b", "c")) -> Encoded:
    vectors = np.array([[1, 2], [0, 0], [5, 6]], np.float32)
    return Encoded(IdMap(ids), vectors, np.array([True, False, True]), {"model": "m"})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "title.safetensors"


@pytest.mark.parametrize("ids", [("a", "ß", "\ud800"), (7, -1, 2**62)])
def test_what_is_saved_is_loaded(path, ids):
    saved = encoded(ids)
    saved.save(path)
    loaded = Encoded.load(path)
    assert loaded.ids == saved.ids
    assert loaded.vectors.tobytes() == saved.vectors.tobytes()
    assert loaded.present.tolist() == [True, False, True]
    assert loaded.source == {"model": "m"}


def test_hashes_go_with_their_rows_and_default_to_none(path):
    hashes = np.arange(96, dtype=np.uint8).reshape(3, 32)
    write_encoded(path, encoded(), hashes)
    assert np.array_equal(read_encoded(path)[1], hashes)
    encoded().save(path)
    assert not read_encoded(path)[1].any()
    with pytest.raises(ValueError, match=r"hashes: expected the shape \[3, 32\], got \[2, 32\]"):
        write_encoded(path, encoded(), hashes[:2])


def test_no_rows(path):
    nothing = Encoded(IdMap([]), np.zeros((0, 4), np.float32), np.zeros(0, bool))
    nothing.save(path)
    assert Encoded.load(path).width == 4


def test_any_strides(path):
    wide = np.arange(12, dtype=np.float32).reshape(2, 6)
    Encoded(IdMap([1, 2]), wide[:, ::2], np.array([True, True, True, True])[::2]).save(path)
    assert Encoded.load(path).vectors.tolist() == [[0, 2, 4], [6, 8, 10]]


def test_a_flipped_bit_anywhere_is_told_with_the_file(path):
    encoded().save(path)
    whole = path.read_bytes()
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"title\.safetensors"):
            Encoded.load(path)


def test_truncation_is_always_told(path):
    encoded().save(path)
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"title\.safetensors"):
            Encoded.load(path)


def test_other_files_are_refused(path, tmp_path):
    path.parent.mkdir()
    save_file({"vectors": np.ones((2, 2), np.float32)}, path)
    with pytest.raises(ValueError, match=r"expected a file of fusionops\.Encoded, got the format"):
        Encoded.load(path)
    path.write_text("id,title\n1,mug\n")
    with pytest.raises(ValueError, match="one that is not safetensors"):
        Encoded.load(path)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        Encoded.load(tmp_path / "none")
    for use in (Encoded.load, encoded().save):
        with pytest.raises(IsADirectoryError, match="got the folder"):
            use(tmp_path)


def test_another_version_is_refused(path, monkeypatch):
    monkeypatch.setattr("fusionops.data.encoded_file.VERSION", "2")
    encoded().save(path)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="expected format version 1, got '2'; use the fusionops"):
        Encoded.load(path)


def test_a_missing_tensor_is_named(path):
    encoded().save(path)
    whole = path.read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    header = json.loads(whole[8 : 8 + length])
    metadata = header["__metadata__"]
    save_file({"vectors": np.ones((1, 2), np.float32)}, path, metadata | {"sha256": "0"})
    with pytest.raises(ValueError, match="is damaged: its checksum is another"):
        Encoded.load(path)
    del metadata["source"]
    save_file({"vectors": np.ones((1, 2), np.float32)}, path, metadata)
    with pytest.raises(ValueError, match="is damaged: it has no 'source'"):
        Encoded.load(path)


def test_a_failed_save_keeps_what_was_there(path, monkeypatch):
    encoded().save(path)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        encoded((1, 2, 3)).save(path)
    monkeypatch.undo()
    assert list(path.parent.iterdir()) == [path]
    assert Encoded.load(path).ids.ids.tolist() == ["a", "b", "c"]


def test_a_folder_of_features(path):
    encoded().save(path)
    encoded((1, 2, 3)).save(path.with_name("photo.v2.safetensors"))
    (path.parent / "notes.txt").write_text("not ours")
    (path.parent / ".title.safetensors.saving-12").write_text("of a save under way")
    (path.parent / "._title.safetensors").write_text("what macOS leaves on foreign disks")
    features = load_features(path.parent)
    assert {name: len(one) for name, one in features.items()} == {"photo.v2": 3, "title": 3}
    path.write_text("damaged")
    with pytest.raises(ValueError, match=r"title\.safetensors"):
        load_features(path.parent)


def test_a_folder_without_features(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"\*\.safetensors as fusionops encode .* got none"):
        load_features(tmp_path)
    with pytest.raises(FileNotFoundError, match="features: there is no folder"):
        load_features(tmp_path / "none")
