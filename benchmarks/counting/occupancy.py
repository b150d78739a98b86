"""How many threads of a CUDA C++ kernel fit on a multiprocessor, by what ptxas gave it."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from counting.devices import DEVICES, REGISTERS, THREADS

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "csrc" / "cuda"
MOST_BLOCKS = 32
# Registers are handed out to warps in pieces of this many.
PIECE = 256


def blocks_of(registers: int, threads: int, shared: int, room: int) -> int:
    """Blocks of `threads` that fit at a time, `room` being the shared memory for all of them."""
    warps = -(-threads // 32)
    each = -(-registers * 32 // PIECE) * PIECE * warps
    fits = [MOST_BLOCKS, THREADS // (32 * warps), REGISTERS // max(each, 1)]
    if shared:
        fits.append(room // shared)
    return min(fits)


def occupancy() -> list[dict[str, Any]]:
    """Of every kernel in ``csrc/cuda``, on each architecture of the devices; needs nvcc."""
    sys.path.append(str(ROOT / "tests"))
    from emulator import resources

    found = []
    rooms = {device.capability: device.shared for device in DEVICES}
    for source in sorted(SOURCES.glob("*.cu")):
        bounds = threads_of(source)
        for capability, room in rooms.items():
            for name, kernel in resources.of_cuda(source, capability).items():
                threads = bounds[name]
                blocks = blocks_of(kernel.registers, threads, kernel.shared, room)
                found.append(
                    {
                        "kernel": readable(name),
                        "capability": capability,
                        "registers": kernel.registers,
                        "spills": kernel.spill_stores + kernel.spill_loads,
                        "threads": threads,
                        "blocks": blocks,
                        "share": blocks * threads / THREADS,
                    }
                )
    return found


def threads_of(source: Path) -> dict[str, int]:
    """By mangled name, the most threads of a block: what ``__launch_bounds__`` says."""
    from emulator import toolchain

    flags = ("-std=c++20", "--expt-relaxed-constexpr", "-diag-suppress=177", f"-I{ROOT / 'csrc'}")
    with tempfile.TemporaryDirectory() as folder:
        ptx = Path(folder) / "kernels.ptx"
        toolchain.run([toolchain.nvcc(), *flags, "-arch=sm_80", "-ptx", source, "-o", ptx])
        text = ptx.read_text()
    found = re.findall(r"\.entry\s+([\w$]+)\([^)]*\)[^{]*?\.maxntid\s+(\d+)", text)
    return {name: int(threads) for name, threads in found}


def readable(mangled: str) -> str:
    """A kernel as C++ names it, without namespaces and parameters."""
    command = ["c++filt", mangled]
    name = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    name = re.sub(r"fusionops::cuda::|\(anonymous namespace\)::|^void ", "", name)
    return re.sub(r"\([^()]*\)$", "", name).replace("|", "/")
