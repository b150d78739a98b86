"""Searches from many threads while others write, and in forked children."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fusionops.catalog import Catalog


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_search_sees_one_snapshot(dtype):
    """A writer swaps generations: all lists of a search are of one of them, whole.

    Generation g has 40 items; each change replaces them in one update, by vectors that score g.
    """
    count, width, generations = 40, 8, 150
    others = np.zeros((1000, width), dtype=np.float32)
    direction = np.ones((1, width), dtype=np.float32) / width
    catalog = Catalog.build(
        np.concatenate([others, np.repeat(direction * width, count, 0)]),
        normalization="none",
        dtype=dtype,
    )
    ids = np.arange(1000, 1000 + count)
    users = np.ones((3, width), dtype=np.float32)
    done = threading.Event()

    def read():
        seen = set()
        while True:
            last = done.is_set()
            scores, found = catalog.search(users, count)
            assert (found == ids).all()
            assert len(np.unique(scores)) == 1
            seen.add(float(scores[0, 0]))
            if last:
                return seen

    with ThreadPoolExecutor(8) as pool:
        readers = [pool.submit(read) for _ in range(8)]
        try:
            for generation in range(1, generations + 1):
                rows = np.repeat(direction * np.float32(width * (1 + generation)), count, 0)
                catalog.update(ids, rows)
                catalog.add(others[:1], [10_000 + generation])
                if generation % 3 == 0:
                    catalog.remove([10_000 + generation])
        finally:
            done.set()
        seen = set.union(*(reader.result() for reader in readers))
    assert max(seen) == pytest.approx(width * (1 + generations) / 1)
    assert len(seen) > 2


def test_writers_take_turns():
    catalog = Catalog.build(np.zeros((0, 4)))

    def write(worker):
        for at in range(50):
            catalog.add(np.full((1, 4), worker), [worker * 1000 + at])
            if at % 2:
                catalog.remove([worker * 1000 + at])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    expected = [worker * 1000 + at for worker in range(8) for at in range(0, 50, 2)]
    assert sorted(catalog.ids.tolist()) == expected


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of forking with threads, on purpose
def test_a_forked_child_searches_and_writes(vectors, users):
    catalog = Catalog.build(vectors, dtype="int8")
    expected = catalog.search(users, 5)[1]  # starts the pool of threads
    with catalog._writing:  # a thread that is writing at that moment
        child = os.fork()
        if child == 0:
            same = (catalog.search(users, 5)[1] == expected).all()
            catalog.add(vectors[:1], [9999])
            os._exit(0 if same and 9999 in catalog else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert 9999 not in catalog


FORKS = """
    import os, signal, threading
    import numpy as np
    from fusionops.catalog import Catalog

    os.environ["FUSIONOPS_NUM_THREADS"] = "2"
    vectors = np.random.default_rng(0).normal(size=(9000, 4)).astype(np.float32)
    catalog = Catalog.build(vectors, dtype="int8")

    def search():
        while True:
            catalog.search(vectors[:2], 1)

    for _ in range(2):
        threading.Thread(target=search, daemon=True).start()
    failed = 0
    for _ in range(300):
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            catalog.search(vectors[:20], 5)
            os._exit(0)
        failed = os.waitpid(child, 0)[1]
        if failed:
            break
    print(failed, flush=True)
    os._exit(0)
"""


def test_a_child_forked_in_the_middle_of_searches_searches(run_python):
    """Whatever state the parent's threads left the pool in: it is not the child's."""
    assert run_python(FORKS).strip() == "0"


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_python_runs_while_a_search_does(dtype):
    rng = np.random.default_rng(2)
    catalog = Catalog.build(rng.normal(size=(20_000, 64)), dtype=dtype)
    users = rng.normal(size=(4000, 64)).astype(np.float32)
    ticks, done = [], threading.Event()

    def tick():
        while not done.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.002)

    ticker = threading.Thread(target=tick)
    ticker.start()
    try:
        for _ in range(5):  # the cores may be busy with others
            begin = time.perf_counter()
            catalog.search(users, 10)
            took = time.perf_counter() - begin
            # A kernel that kept the lock would leave no tick between the call's first and last
            # moments, in which Python prepares it and puts the lists together.
            inside = sum(begin + took / 4 < at < begin + 3 * took / 4 for at in ticks)
            if inside > 3:
                break
    finally:
        done.set()
        ticker.join()
    assert inside > 3


def test_a_save_sees_one_snapshot(tmp_path):
    count = 40
    ids = np.arange(1000, 1000 + count)
    catalog = Catalog.build(np.zeros((3000, 4)), np.arange(5000, 8000), dtype="int8")
    catalog.add(np.zeros((count, 4)), ids)
    done = threading.Event()

    def change():
        generation = 0
        while not done.is_set():
            generation += 1
            catalog.update(ids, np.full((count, 4), generation))
            catalog.add(np.zeros((1, 4)), [0])
            catalog.remove([0])
        return generation

    seen = set()
    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(change)
        try:
            for _ in range(40):
                catalog.save(tmp_path / "x")
                loaded = Catalog.load(tmp_path / "x", mmap=False)
                generations = np.unique(loaded.vectors(ids))
                assert len(generations) == 1
                assert len(loaded) - 3000 - count in (0, 1)
                seen.add(float(generations[0]))
        finally:
            done.set()
        writer.result()
    assert len(seen) > 1
