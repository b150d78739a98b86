"""Anonymous memory of a catalogue whose vectors lie in a file."""

from __future__ import annotations

import numpy as np
import pytest

WIDTH = 128

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

    path, mode = sys.argv[1:]
    vectors = np.load(path, mmap_mode="r")
    ids = np.arange(len(vectors))[::-1] * 3  # neither ascending nor consecutive
    users = vectors[:8].copy()
    start = anonymous() - ids.nbytes
    watcher = threading.Thread(target=watch)
    watcher.start()
    if mode == "stream":
        chunks = (vectors[at : at + 50_000] for at in range(0, len(vectors), 50_000))
        catalog = Catalog.build(chunks, ids, dtype="int8", path=path + ".kept.npy")
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


def write_vectors(path, count):
    """Gaussian vectors, a piece at a time."""
    file = np.lib.format.open_memmap(path, "w+", np.float32, (count, WIDTH))
    rng = np.random.default_rng(0)
    for at in range(0, count, 100_000):
        rows = min(100_000, count - at)
        file[at : at + rows] = rng.standard_normal((rows, WIDTH), dtype=np.float32)
    file.flush()


def needed(count):
    """Bytes of panels, statistics, scales, ids, and of sorting the ids."""
    return count * (WIDTH + 12 + 4 + 8 + 8 + 4 + 8)


@pytest.mark.parametrize("mode", ["array", "stream", "save"])
def test_anonymous_memory_is_that_of_the_panels(folder, run_python, mode):
    count = 200_000
    write_vectors(folder / "vectors.npy", count)
    peak, right = map(int, run_python(MEASURE, folder / "vectors.npy", mode).split())
    assert right == 8
    assert count * WIDTH < peak < needed(count) + (70 << 20)  # blocks, lists, the interpreter


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["array", "stream"])
def test_a_million_items(folder, run_python, mode):
    write_vectors(folder / "vectors.npy", 1_000_000)
    peak, right = map(int, run_python(MEASURE, folder / "vectors.npy", mode).split())
    assert right == 8
    assert peak < needed(1_000_000) + (70 << 20)


@pytest.mark.slow
def test_ten_million_items_in_under_two_gigabytes(folder, run_python):
    write_vectors(folder / "vectors.npy", 10_000_000)
    peak, right = map(int, run_python(MEASURE, folder / "vectors.npy", "stream").split())
    assert right == 8
    assert peak < 2_000_000_000
