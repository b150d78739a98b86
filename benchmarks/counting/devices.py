"""GPUs by their vendor's data sheets, and what a launch takes on them at least.

Peak rates of dense products at the boost clock, as published: none was measured here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from counting.launches import FP32, HALF, TF32, Launch


@dataclass(frozen=True)
class Device:
    """Rates a second, and the sizes that decide occupancy."""

    name: str
    capability: int  # times ten
    bandwidth: float  # bytes
    rates: dict[str, float]  # operations, by unit
    cache: int  # bytes of the second level
    multiprocessors: int
    shared: int  # bytes a multiprocessor


# SXM boards; all have 65,536 registers and room for 2,048 threads a multiprocessor.
DEVICES = (
    Device("A100", 80, 2.039e12, {FP32: 19.5e12, TF32: 156e12, HALF: 312e12},
           40 << 20, 108, 164 << 10),
    Device("H100", 90, 3.35e12, {FP32: 67e12, TF32: 495e12, HALF: 989e12},
           50 << 20, 132, 228 << 10),
    Device("H200", 90, 4.8e12, {FP32: 67e12, TF32: 495e12, HALF: 989e12},
           50 << 20, 132, 228 << 10),
    Device("B200", 100, 8.0e12, {FP32: 75e12, TF32: 1125e12, HALF: 2250e12},
           126 << 20, 148, 228 << 10),
)  # fmt: skip
REGISTERS, THREADS = 65_536, 2048

MEMORY = "memory"
BOUNDS = {FP32: "FFMA", TF32: "tensor cores", HALF: "tensor cores"}


class Time(NamedTuple):
    """Of launches one after another: seconds at least, and what most of them wait for."""

    seconds: float
    by: str


def time_of(launches: Iterable[Launch], device: Device) -> Time:
    """Each launch takes the longer of its traffic and its arithmetic."""
    spent: dict[str, float] = {MEMORY: 0.0}
    for launch in launches:
        traffic = launch.moved / device.bandwidth
        arithmetic = launch.operations / device.rates[launch.unit]
        by = BOUNDS[launch.unit] if arithmetic > traffic else MEMORY
        spent[by] = spent.get(by, 0.0) + max(traffic, arithmetic)
    return Time(sum(spent.values()), max(spent, key=lambda by: spent[by]))
