"""Wall time of several contenders, taken in turns.

Timed one after the other, whatever else a shared machine does falls on some of them and biases
their ratios. Here every round gives each contender a turn, in an order that reverses from round to
round, so that a slow spell or a drift falls on all alike.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

SHORT = 0.02
"""Seconds. A turn of calls shorter than this begins with one that is not timed (the caches hold the
previous contender's data, its threads may still spin) and goes on until this long has passed."""

LEAST, PATIENCE = 3, 5.0
"""A contender sits out once it has had this many calls and took this many times its share."""


@dataclass(frozen=True)
class Times:
    """What the timed calls of one contender took, in seconds."""

    median: float
    minimum: float
    spread: float
    rounds: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Times:
        """The median, the minimum and the interquartile range of at least two."""
        low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive")
        return cls(middle, min(seconds), high - low, len(seconds))


def interleave(
    calls: Sequence[Callable[[], object]],
    *,
    seconds: float,
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Times]:
    """Times of every call, in the order given.

    Parameters
    ----------
    calls : sequence of callables
        Each has been called before, so that nothing is compiled or allocated for the first time.
    seconds : float
        Rounds go on until this long a contender has passed.
    rounds : int
        The least number of rounds, at least 2, for those that do not sit out.
    clock : callable
        Seconds; tests bring their own.
    """
    taken: list[list[float]] = [[] for _ in calls]
    order = list(range(len(calls)))
    collects = gc.isenabled()
    gc.disable()
    try:
        begin, done = clock(), 0
        while done < rounds or clock() - begin < seconds * len(calls):
            for place in order:
                if len(taken[place]) < LEAST or sum(taken[place]) < PATIENCE * seconds:
                    _turn(calls[place], taken[place], clock)
            order.reverse()
            done += 1
            gc.collect(0)  # graphs in reference cycles would fill the memory
    finally:
        if collects:
            gc.enable()
    return [Times.of(one) for one in taken]


def _turn(call: Callable[[], object], taken: list[float], clock: Callable[[], float]) -> None:
    if not taken or taken[-1] < SHORT:
        call()
    spent = 0.0
    while spent < SHORT:
        begin = clock()
        result = call()
        end = clock()
        del result  # freed outside of what is timed, as pages given back cost time
        taken.append(end - begin)
        spent += end - begin
