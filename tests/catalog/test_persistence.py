"""Files: what is saved is loaded, what is damaged is refused, a killed save leaves the old one."""

from __future__ import annotations

import json
import math
import os
import signal
import struct
import subprocess
import sys
import textwrap
import time
import zlib

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from fusionops.catalog import Catalog, CatalogFileError, persistence
from fusionops.catalog.verified import BLOCK, Verified

DTYPES = ["float32", "bfloat16", "int8"]
IDS = {
    "default": lambda n: None,
    "range": lambda n: range(7, n + 7),
    "ascending": lambda n: np.arange(n) * 3,
    "any": lambda n: np.random.default_rng(3).permutation(n) - 10,
    "strings": lambda n: [f"Ж{i}" for i in range(n)],
    "no text": lambda n: ["\ud800" * i for i in range(n)],
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "items.safetensors"


def assert_same(one, other, users, k=20):
    np.testing.assert_array_equal(one.ids, other.ids)
    for found, expected in zip(one.search(users, k), other.search(users, k), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("ids", IDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_saved_is_loaded(path, vectors, users, dtype, ids, mmap):
    catalog = Catalog.build(vectors, IDS[ids](len(vectors)), dtype=dtype, normalization="cosine")
    catalog.save(path)
    loaded = Catalog.load(path, mmap=mmap)
    assert (loaded.dtype, loaded.normalization, loaded.width) == (dtype, "cosine", 17)
    assert_same(loaded, catalog, users)


def test_the_matrix_power_is_kept_and_can_be_refitted(path, vectors, users):
    catalog = Catalog.build(vectors[:300], normalization="matrix", power=0.7, ridge=0.1)
    catalog.add(vectors[300:], np.arange(300, 501))
    catalog.save(path)
    loaded = Catalog.load(path)
    assert_same(loaded, catalog, users)
    loaded.refit()
    whole = Catalog.build(vectors, normalization="matrix", power=0.7, ridge=0.1)
    np.testing.assert_array_equal(loaded.search(users, 9)[1], whole.search(users, 9)[1])
    np.testing.assert_allclose(loaded.search(users, 9)[0], whole.search(users, 9)[0], rtol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_saving_compacts_to_the_file_of_a_fresh_catalogue(path, vectors, dtype):
    catalog = Catalog.build(vectors[:400], dtype=dtype)
    catalog.save(path)
    before = path.read_bytes()
    changed = Catalog.load(path)
    changed.add(vectors[400:], np.arange(400, 501))
    changed.update([5, 450], vectors[:2])
    changed.remove(np.arange(0, 501, 9))
    assert path.read_bytes() == before
    changed.save(path)  # over the file that it is mapped from
    rows = vectors.copy()
    rows[[5, 450]] = vectors[:2]
    kept = np.arange(501) % 9 > 0
    fresh = path.with_name("fresh")
    Catalog.build(rows[kept], np.flatnonzero(kept), dtype=dtype).save(fresh)
    assert path.read_bytes() == fresh.read_bytes()
    assert sorted(file.name for file in path.parent.iterdir()) == ["fresh", path.name]


def test_the_safetensors_library_reads_it(path, vectors):
    Catalog.build(vectors, [f"i{i}" for i in range(501)], dtype="int8").save(path)
    tensors = load_file(path)
    np.testing.assert_array_equal(tensors["vectors"], vectors)
    assert tensors["panels"].shape == (16, 5, 32, 4)
    assert tensors["panels"].dtype == np.uint8


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("dtype", DTYPES)
def test_small_catalogues(path, dtype, count):
    Catalog.build(np.ones((count, 3)), dtype=dtype, normalization="matrix").save(path)
    for mmap in (True, False):
        loaded = Catalog.load(path, mmap=mmap)
        assert len(loaded) == count
        assert loaded.search(np.ones((1, 3)), 2)[1].tolist() == [[-1, -1] if not count else [0, -1]]
        loaded.add(np.ones((1, 3)), [9])
        assert 9 in loaded


# --- damage ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_flipped_bit_is_seen(path, dtype):
    """A bit in each region of a small file, header and table included, on a normal load."""
    vectors = np.random.default_rng(5).normal(size=(40, 6)).astype(np.float32)
    Catalog.build(vectors, [f"i{i}" for i in range(40)], dtype=dtype).save(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    places = [*range(0, 60), *range(len(whole) - 60, len(whole))]
    places += rng.integers(0, len(whole), 200).tolist()
    for at in places:
        damaged = bytearray(whole)
        damaged[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        for keywords in ({"mmap": False}, {"verify": True}):
            with pytest.raises(CatalogFileError) as caught:
                Catalog.load(path, **keywords)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tensor", ["panels", "stats", "vectors", "item_scale"])
def test_a_mapped_block_is_verified_when_it_is_first_used(path, users, dtype, tensor):
    vectors = np.random.default_rng(6).normal(size=(30_000, 17)).astype(np.float32)
    Catalog.build(vectors, dtype=dtype).save(path)
    header, at = read_header(path)
    if tensor not in header:
        assert dtype == "float32"
        return
    begin, end = header[tensor]["data_offsets"]
    flip(path, at + end - 5)
    catalog = Catalog.load(path)
    assert 3 in catalog  # needs no block
    if tensor != "vectors":
        with pytest.raises(CatalogFileError, match=f"{tensor} is damaged"):
            catalog.search(users, 5)
        return
    assert (end - begin) / BLOCK > 3
    allowed = np.arange(len(vectors)) < 20_000
    catalog.search(users, 5, allowed=allowed)  # rescores in blocks that are right
    with pytest.raises(CatalogFileError, match="vectors is damaged"):
        catalog.vectors([29_999])
    with pytest.raises(CatalogFileError, match="vectors is damaged"):
        catalog.save(path.with_name("copy"))
    assert not path.with_name("copy").exists()


@pytest.mark.parametrize("tensor", ["ids", "ids_ascending", "ids_order"])
def test_damaged_ids_of_a_mapped_file_are_told(path, tensor):
    vectors = np.ones((30_000, 2), dtype=np.float32)
    Catalog.build(vectors, np.arange(30_000)[::-1] * 2).save(path)
    header, at = read_header(path)
    flip(path, at + header[tensor]["data_offsets"][1] - 5)
    catalog = Catalog.load(path)
    uses = [lambda: 4 in catalog, lambda: "x" in catalog or catalog.vectors([4])]
    if tensor == "ids":
        assert 4 in catalog
        uses = [lambda: catalog.ids, lambda: catalog.save(path.with_name("copy"))]
    for use in uses:
        with pytest.raises(CatalogFileError, match=f"{tensor} is damaged"):
            use()
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header, _: header["panels"].update(shape=[1e999]), "describes no tensors"),
        (lambda header, _: header["panels"].update(shape=[2.0, 6, 32]), "describes no tensors"),
        (lambda header, _: header["panels"].update(shape=[-2, -6, 32]), "describes no tensors"),
        (
            lambda header, _: header["panels"].update(data_offsets=[math.inf, 1]),
            "describes no tensors",
        ),
        (
            lambda header, _: header["empty"].update(shape=[0, 1 << 62, 1 << 62]),
            "no array has the shape of its empty",
        ),
        (lambda _, settings: settings.update(count=math.inf), "from 0 to 2^63 - 1, got inf"),
        (lambda _, settings: settings.update(width=True), "from 0 to 2^63 - 1, got True"),
        (lambda _, settings: settings.update(first_id=2**63), "cannot be the first"),
        (lambda _, settings: settings.update(first_id=2**63 - 39), "cannot be the first"),
        (lambda _, settings: settings.update(first_id=-(2**63) - 1), "cannot be the first"),
        (lambda _, settings: settings.update(first_id=math.inf), "cannot be the first"),
        (lambda _, settings: settings.update(ids="str"), "ids are str, of which 0 cannot"),
        (lambda _, settings: settings.update(first_id=None), "it has no 'ids'"),
        (lambda _, settings: settings.pop("power"), "it has no 'power'"),
    ],
)
def test_crafted_headers_are_refused(path, change, message, mmap):
    Catalog.build(np.ones((40, 6)), normalization="none").save(path)
    rewrite(path, lambda header, _: None)
    assert len(Catalog.load(path, mmap=mmap)) == 40
    rewrite(path, change)
    with pytest.raises(CatalogFileError) as caught:
        Catalog.load(path, mmap=mmap)
    assert message in str(caught.value)


def test_crafted_ids_are_refused(path):
    Catalog.build(np.ones((40, 6)), [f"i{i}" for i in range(40)]).save(path)
    header, _ = read_header(path)
    settings = json.loads(header["__metadata__"]["catalog"])
    for ends in (np.arange(40)[::-1], np.arange(40) * 100, np.arange(40) - 5, np.arange(40.0)):
        tensors = {name: Verified(array) for name, array in load_file(path).items()}
        with pytest.raises(ValueError, match="id_ends"):
            persistence._snapshot(settings, tensors | {"id_ends": Verified(ends)}, pinned=False)


def test_a_link_stays_a_link(path, vectors):
    Catalog.build(vectors).save(path)
    link = path.with_name("link")
    link.symlink_to(path.name)
    changed = Catalog.load(link)
    changed.remove([0])
    changed.save(link)
    assert link.is_symlink()
    assert len(Catalog.load(path)) == 500


def test_truncation_is_always_seen(path, vectors):
    Catalog.build(vectors, dtype="int8").save(path)
    whole = path.read_bytes()
    for size in (0, 5, 8, 100, 4096, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        for mmap in (True, False):
            with pytest.raises(CatalogFileError):
                Catalog.load(path, mmap=mmap)
    path.write_bytes(whole + b"x")
    with pytest.raises(CatalogFileError, match="is damaged: expected"):
        Catalog.load(path)


def test_other_files_are_refused(path, vectors, tmp_path):
    save_file({"panels": vectors}, path)
    with pytest.raises(CatalogFileError, match="safetensors file without checksums"):
        Catalog.load(path)
    save_file({"panels": vectors, "checksums": np.zeros(3, np.uint32)}, path)
    with pytest.raises(CatalogFileError, match="checksums"):
        Catalog.load(path)
    np.save(tmp_path / "a.npy", vectors)
    with pytest.raises(CatalogFileError, match="not safetensors"):
        Catalog.load(tmp_path / "a.npy")
    with pytest.raises(CatalogFileError, match="got a folder"):
        Catalog.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        Catalog.load(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        Catalog.build(vectors).save(tmp_path)


def test_a_later_version_is_refused(path, vectors, monkeypatch):
    monkeypatch.setattr("fusionops.catalog.persistence.VERSION", 2)
    Catalog.build(vectors).save(path)
    monkeypatch.undo()
    with pytest.raises(CatalogFileError, match="expected format version 1, got 2"):
        Catalog.load(path)


def read_header(path):
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        return json.loads(file.read(length)), 8 + length


def rewrite(path, change):
    """Change the header (and an empty tensor in it), and let the checksums say that it is right."""
    header, at = read_header(path)
    header.setdefault("empty", {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]})
    settings = json.loads(header["__metadata__"]["catalog"])
    change(header, settings)
    header["__metadata__"]["catalog"] = json.dumps(settings)
    data = path.read_bytes()
    text = data[:8] + json.dumps(header).encode().ljust(at - 8)
    table = data[at:][header["checksums"]["data_offsets"][0] :][:-8]
    table += struct.pack("<I", zlib.crc32(text))
    table += struct.pack("<I", zlib.crc32(table))
    path.write_bytes(text + data[at : -len(table)] + table)


def flip(path, at):
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 16]))


# --- a process that dies ----------------------------------------------------------------------

SAVER = """
    import sys
    from fusionops.catalog import Catalog
    old = Catalog.load(sys.argv[1])
    old.remove([0])
    print("saving", flush=True)
    for _ in range(1000):
        old.save(sys.argv[1])
"""


def test_a_killed_save_leaves_a_whole_file(path):
    vectors = np.random.default_rng(8).normal(size=(20_000, 64)).astype(np.float32)
    Catalog.build(vectors, dtype="int8").save(path)
    leftovers = 0
    for delay in np.linspace(0.0, 0.12, 12):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(SAVER), str(path)],
            env=os.environ,
            stdout=subprocess.PIPE,
        )
        assert process.stdout.read(7) == b"saving\n"
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        leftovers += len(list(path.parent.iterdir())) > 1
        found = Catalog.load(path, mmap=False)
        assert len(found) in (19_999, 20_000)
        assert 1 in found
        if 0 not in found:
            found.add(vectors[:1], [0])
            found.save(path)  # and what the killed process left is cleared away
            assert list(path.parent.iterdir()) == [path]
    assert leftovers  # some died while they were writing
