"""Peak memory of one call beyond what was there before it, seen from a process of its own.

The process is forked from a server that has imported torch and done nothing else, so no other
contender's pools, caches or freed blocks are in it. Its inputs (and a peer's index) are made first,
the high-water mark is reset, and the call is made: what the mark rises by is results, gradients and
temporaries together, from whatever allocator they came.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
from dataclasses import replace
from multiprocessing.connection import Connection

import torch

from comparison.cases import BACKWARD, COMPILE, CUDA, Case, Setup, Shape, UnavailableError


def peak_of(setup: Setup, case: Case, small: Shape) -> int:
    """Bytes; raises `UnavailableError` where the process did not live to tell, or cannot.

    A call at the shape `small` comes first: thread stacks and the pages of libraries are no part of
    an operator's memory.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "fusionops.ops"])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(
        target=_measure, args=(sender, setup, case, small, torch.get_num_threads()), daemon=True
    )
    process.start()
    sender.close()
    try:
        answer = receiver.recv()
    except EOFError:
        process.join()
        answer = f"the process that measured it ended with status {process.exitcode}"
    process.join()
    if isinstance(answer, str):
        raise UnavailableError(f"memory: {answer}")
    return int(answer)


def available(device: str) -> int | None:
    """Bytes that a new allocation could get, or None where the system does not say."""
    if device == CUDA:
        return torch.cuda.mem_get_info()[0]
    return _bytes("/proc/meminfo", "MemAvailable")


def require_matrices(case: Case, entries: int) -> None:
    """Raises `UnavailableError` where a contender's few matrices of scores would not fit."""
    matrices = 8 if case.direction == BACKWARD else 4  # those that agreement needs included
    size = matrices * 4 * entries
    free = available(case.device)
    if free is not None and size > 0.9 * free:
        raise UnavailableError(f"needs about {size / 1e9:.1f} GB of {free / 1e9:.1f} GB free")


def _measure(sender: Connection, setup: Setup, case: Case, small: Shape, threads: int) -> None:
    torch.set_num_threads(threads)
    try:
        sender.send(_rise(setup, case, small))
    except Exception as error:  # every failure is an answer: the parent prints it
        sender.send(f"{type(error).__name__}: {error}".splitlines()[0])


def _rise(setup: Setup, case: Case, small: Shape) -> int:
    if case.contender != COMPILE:
        setup(replace(case, shape=small))()
    call = setup(case)
    if case.contender == COMPILE:
        call()  # compiles, for this shape only
    before = _reset_mark()
    result = call()
    after = _bytes("/proc/self/status", "VmHWM")
    del result
    if before is None or after is None:
        raise UnavailableError("the system keeps no high-water mark in /proc/self/status")
    return max(0, after - before)


def _reset_mark() -> int | None:
    gc.collect()
    try:
        # Freed blocks that malloc keeps would be reused unseen by the mark.
        ctypes.CDLL(None).malloc_trim(0)
        with open("/proc/self/clear_refs", "w", encoding="ascii") as mark:
            mark.write("5")
    except (OSError, AttributeError):
        return None
    return _bytes("/proc/self/status", "VmHWM")


def _bytes(path: str, field: str) -> int | None:
    try:
        with open(path, encoding="ascii") as lines:
            for line in lines:
                if line.startswith(f"{field}:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None
