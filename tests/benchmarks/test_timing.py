"""Turns: whatever slows the machine for a while falls on every contender alike."""

import pytest
from comparison.timing import LEAST, Times, interleave


class Clock:
    """Time that passes only when someone works."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order: list[str] = []

    def __call__(self) -> float:
        return self.now

    def work(self, name, seconds):
        def call() -> None:
            self.order.append(name)
            self.now += seconds(self.now) if callable(seconds) else seconds

        return call


def test_rounds_reverse_the_order():
    clock = Clock()
    calls = [clock.work("a", 0.1), clock.work("b", 0.1)]
    interleave(calls, seconds=0.0, rounds=3, clock=clock)
    # Each begins with a call that is not timed, as nothing is known of its length.
    assert "".join(clock.order) == "aabb" + "ba" + "ab"


def test_a_machine_that_slows_down_does_not_bias_the_ratio():
    clock = Clock()

    def slow_down(seconds):
        return lambda now: seconds * (1.0 + now / 10)

    calls = [clock.work("a", slow_down(0.1)), clock.work("b", slow_down(0.2))]
    a, b = interleave(calls, seconds=1.0, rounds=5, clock=clock)
    assert b.median / a.median == pytest.approx(2.0, rel=0.1)
    assert a.minimum < a.median
    assert a.rounds == b.rounds >= 5


def test_short_calls_fill_their_turn_and_long_ones_sit_out():
    clock = Clock()
    calls = [clock.work("short", 0.001), clock.work("long", 3.0)]
    short, long = interleave(calls, seconds=0.5, rounds=10, clock=clock)
    assert short.rounds >= 10 * 20
    assert long.rounds == LEAST
    assert long.median == pytest.approx(3.0)


def test_times():
    assert Times.of([4.0, 1.0, 2.0, 3.0, 5.0]) == Times(3.0, 1.0, 2.0, 5)
