"""Anonymous memory of a catalogue whose vectors lie in a file."""

from __future__ import annotations

import pytest

WIDTH = 128
OVERHEAD = 110 << 20  # chunks, blocks, lists, buffers of the search

MEASURE = """
    import re, sys, threading, time
    import numpy as np
    from fusionops.catalog import Catalog

    def anonymous():
        status = open("/proc/self/status").read()
        return 1024 * int(re.search(r"RssAnon:\\s+(\\d+)", status).group(1))

    peak, done = 0, False
    def watch():
        global peak
        while not done:
            peak = max(peak, anonymous())
            time.sleep(0.002)

    def piece(at):
        return np.random.default_rng(at).standard_normal((50_000, 128), dtype=np.float32)

    start = anonymous()
    path, mode, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if mode != "stream":
        vectors = np.lib.format.open_memmap(path, "w+", np.float32, (count, 128))
        for at in range(0, count, 50_000):
            vectors[at : at + 50_000] = piece(at)
        vectors = np.load(path, mmap_mode="r")
    ids = np.arange(count)[::-1] * 3  # neither ascending nor consecutive
    users = piece(0)[:8].copy()
    watcher = threading.Thread(target=watch)
    watcher.start()
    if mode == "stream":
        chunks = map(piece, range(0, count, 50_000))
        catalog = Catalog.build(chunks, ids, dtype="int8", path=path)
    else:
        catalog = Catalog.build(vectors, ids, dtype="int8")
    best = catalog.search(users, 10)[1][:, 0]
    if mode == "save":
        catalog.save(path + ".saved")
        catalog = Catalog.load(path + ".saved")
        assert (catalog.search(users, 10)[1][:, 0] == best).all()
    done = True
    watcher.join()
    print(peak - start, int((best == ids[:8]).sum()))
"""


@pytest.fixture
def folder(tmp_path):
    """Emptied at the end: pytest keeps the folders of several runs."""
    yield tmp_path
    for file in tmp_path.iterdir():
        file.unlink()


def needed(count):
    """Bytes of panels, statistics, scales, ids, of sorting the ids, and of the test's own ids."""
    return count * (WIDTH + 12 + 4 + 8 + 8 + 4 + 8 + 8)


@pytest.fixture
def measure(folder, run_python):
    """Peak of the anonymous memory, and whether the search was right."""

    def run(mode, count):
        peak, right = map(int, run_python(MEASURE, folder / "vectors.npy", mode, count).split())
        assert right == 8
        return peak

    return run


@pytest.mark.parametrize("mode", ["array", "stream", "save"])
def test_anonymous_memory_is_that_of_the_panels(measure, mode):
    count = 200_000
    assert count * WIDTH < measure(mode, count) < needed(count) + OVERHEAD


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["array", "stream"])
def test_a_million_items(measure, mode):
    assert measure(mode, 1_000_000) < needed(1_000_000) + OVERHEAD


@pytest.mark.slow
def test_ten_million_items_in_under_two_gigabytes(measure):
    assert measure("stream", 10_000_000) < 2_000_000_000
