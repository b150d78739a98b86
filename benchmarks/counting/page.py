"""What was counted, as data for a file of JSON, and that data as a page of Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from counting.devices import DEVICES, time_of
from counting.launches import FP32, HALF, TF32, Launch
from counting.suites import Counted
from fusionops.cli.bench_report import Table

Row = dict[str, Any]
Data = dict[str, Any]

INTRODUCTION = """\
# On paper: bytes, operations, and what GPUs allow

Written by `{command}`. **Nothing on this page was measured**: bytes and operations are counted
from the code, and the times are what data sheets allow for them at least.

* *Ours* are the launches behind the public function, glue between operators included: our kernels
  by a formula for each ([below](#our-launches)), and PyTorch's operators where there is no kernel
  of ours (the gradients of norms and of lists). The counted call runs on fake tensors, so no size
  is too large.
* *Eager* is the eager contender of the [benchmarks](../../benchmarks/README.md), counted from the
  operators that PyTorch dispatches in the same way. For half inputs it is the reference, which
  computes in float32.
* A launch reads each input once and writes each output once. That favours PyTorch's sorts,
  reductions and softmaxes, which take several passes over long rows, and ours where a side is
  read again by blocks that run later than the second-level cache remembers. Views and allocations
  cost nothing; what is expanded is there once; a gather reads as much as it returns, or, of a
  table that the smallest of the second-level caches holds, each row once. Lists and partial sums
  of work that is split over a few blocks are left out of ours.
* Operations are those of products: exponentials, comparisons and sums along rows are not counted.
  Products of halves run on the tensor cores, those of float32 by fused multiply-adds (FFMA): TF32
  is off, which is PyTorch's default. Kernels that keep a few tokens in registers use FFMA for
  halves too.
* A launch takes the longer of its bytes at the full bandwidth and its operations at the full
  dense rate; launches run one after another, and starting them is free. Real kernels reach less:
  `mma.sync`, which ours are written with, gets about two thirds of an H100's tensor cores. So a
  row says what limits a call and how far it can be from eager at most, not how fast it is.
* The ratio is the time of eager by the time of ours, by the same rules for both.
* `matrix` normalisation, masks, lists and biases are not in the suites, and not here.

## The GPUs

Data sheets of the SXM boards, as published by NVIDIA: dense rates at the boost clock. 65,536
registers and room for 2,048 threads a multiprocessor on all of them.
"""


def row_of(counted: Counted) -> Row:
    """One line of the tables."""
    ours, eager = counted.ours, counted.eager
    times = {}
    for device in DEVICES:
        own, theirs = time_of(ours, device), time_of(eager, device)
        times[device.name] = {
            "ours": own.seconds,
            "by": own.by,
            "eager": theirs.seconds,
            "eager_by": theirs.by,
        }
    return {
        "operator": counted.operator,
        "axes": list(counted.axes),
        "shape": list(counted.shape),
        "direction": counted.direction,
        "dtype": counted.dtype,
        "ours": _sums(ours),
        "eager": _sums(eager),
        "times": times,
    }


def data_of(found: Iterable[Counted]) -> Data:
    """All of them, and our launches at the first shape of each operator."""
    rows, launches = [], []
    seen = set()
    for one in found:
        rows.append(row_of(one))
        place = (one.operator, one.direction)
        if place not in seen:
            seen.add(place)
            launches.append({**rows[-1], "launches": [_fields(launch) for launch in one.ours]})
    keep = ("operator", "axes", "shape", "direction", "dtype", "launches")
    return {"rows": rows, "launches": [{name: row[name] for name in keep} for row in launches]}


def _sums(launches: list[Launch]) -> dict[str, float]:
    return {
        "bytes": sum(launch.moved for launch in launches),
        "operations": sum(launch.operations for launch in launches),
        "launches": len(launches),
    }


def _fields(launch: Launch) -> dict[str, Any]:
    return {
        "name": launch.name,
        "reads": launch.reads,
        "writes": launch.writes,
        "operations": launch.operations,
        "unit": launch.unit,
    }


def render(data: Data, command: str) -> str:
    """The page."""
    parts = [INTRODUCTION.format(command=command), _devices().markdown()]
    for operator in dict.fromkeys(row["operator"] for row in data["rows"]):
        rows = [row for row in data["rows"] if row["operator"] == operator]
        parts += [f"## {operator}", _table(rows).markdown()]
    parts += [
        "## Our launches",
        "Of each operator's first shape, in the first dtype. What is not named after one of ours "
        "is an operator of PyTorch, whose tensors are numbered; those of less than a percent of "
        "the bytes are summed up.",
    ]
    for one in data["launches"]:
        size = " x ".join(f"{size:,}" for size in one["shape"])
        parts.append(f"**{one['operator']}**, {one['direction']}, {size}, {one['dtype']}:")
        parts.append("\n".join(_lines(one["launches"])))
    if data.get("occupancy"):
        parts += _occupancy(data["occupancy"])
    return "\n\n".join(parts) + "\n"


def _devices() -> Table:
    units = {FP32: "FP32", TF32: "TF32", HALF: "BF16, FP16"}
    header = [
        "",
        "TB/s",
        *(f"{name} TFLOP/s" for name in units.values()),
        "L2 MiB",
        "SMs",
        "shared KiB",
    ]
    lines = [
        [
            device.name,
            f"{device.bandwidth / 1e12:.2f}",
            *(f"{device.rates[unit] / 1e12:,.4g}" for unit in units),
            f"{device.cache >> 20}",
            f"{device.multiprocessors}",
            f"{device.shared >> 10}",
        ]
        for device in DEVICES
    ]
    return Table(header, lines)


def _table(rows: list[Row]) -> Table:
    names = [device.name for device in DEVICES]
    header = [" x ".join(rows[0]["axes"]), "pass", "dtype", "ours MB", "eager MB", "share"]
    header += [f"{name} µs, eager / ours" for name in names]
    lines = []
    last = None
    for row in rows:
        place = (" x ".join(f"{size:,}" for size in row["shape"]), row["direction"])
        ours, eager = row["ours"]["bytes"], row["eager"]["bytes"]
        lines.append(
            [
                *(place if place != last else ("", "")),
                row["dtype"],
                f"{ours / 1e6:,.1f}",
                f"{eager / 1e6:,.1f}",
                f"{100 * ours / eager:.1f} %",
                *(_cell(row["times"][name]) for name in names),
            ]
        )
        last = place
    return Table(header, lines, texts=3)


def _cell(time: dict[str, Any]) -> str:
    return f"{1e6 * time['ours']:,.1f} {time['by']}, {time['eager'] / time['ours']:.1f}"


def _lines(launches: list[dict[str, Any]]) -> list[str]:
    moved = [sum(one["reads"].values()) + sum(one["writes"].values()) for one in launches]
    lines, small = [], 0
    for one, size in zip(launches, moved, strict=True):
        if size < 0.01 * sum(moved):
            small += size
            continue
        done = f"; {one['operations'] / 1e9:,.3g} GFLOP, {one['unit']}" if one["operations"] else ""
        lines.append(
            f"* `{one['name']}`: reads {_bytes(one['reads'])}; writes {_bytes(one['writes'])}{done}"
        )
    return [*lines, f"* others: {small / 1e6:,.2f} MB"] if small else lines


def _bytes(tensors: dict[str, int]) -> str:
    return ", ".join(f"{name} {size / 1e6:,.2f} MB" for name, size in tensors.items()) or "nothing"


def _occupancy(kernels: list[dict[str, Any]]) -> list[str]:
    capabilities = sorted({one["capability"] for one in kernels})
    header = ["kernel", "threads", *(f"sm_{capability}" for capability in capabilities)]
    rows: dict[str, list[str]] = {}
    for one in kernels:
        rows.setdefault(one["kernel"], [f"`{one['kernel']}`", str(one["threads"])])
        spilled = f", {one['spills']} bytes spilled" if one["spills"] else ""
        text = f"{one['registers']}{spilled}; {one['blocks']}, {100 * one['share']:.0f} %"
        rows[one["kernel"]].append(text)
    text = (
        "Of the CUDA C++ kernels on the architectures of these GPUs: the registers that ptxas "
        "gives a thread; the blocks that fit on a multiprocessor by registers and threads, and the "
        "share of its threads that they are. Shared memory that is asked for at the launch, by the "
        "shape, can leave room for fewer."
    )
    return ["## Occupancy", text, Table(header, list(rows.values())).markdown()]
