"""What a call cannot be faster than, and the rates of this machine that say so.

The bound of a call is the longer of its arithmetic at the machine's measured peak and its memory
traffic at the measured bandwidth. The traffic is what must pass at least: every input read once,
every result written once; a call whose data fits in the caches can beat that. A multiplication and
an addition are two operations; exponentials, comparisons and rescoring are not counted, so no
kernel reaches the arithmetic bound entirely.

Every formula is here, of the sizes of a shape; sizes are those of float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

FLOAT = 4  # bytes

KINDS = ("float64", "float32", "bfloat16", "int8")
TILE_DEPTHS = (64, 128, 256)
BUFFER = 256 * 2**20  # bytes; several times the last-level cache of a desktop or a cloud machine


class Work(NamedTuple):
    """The least work of one call."""

    operations: float
    read: float
    written: float
    kind: str = "float32"


def fusion_matrix(U: int, P: int, D: int, backward: bool) -> Work:
    """One product forward; two backward, which read the incoming gradient."""
    sides = FLOAT * D * (U + P)
    matrix = FLOAT * U * P
    if not backward:
        return Work(2 * U * P * D, sides, matrix)
    return Work(6 * U * P * D, sides + matrix, matrix + sides)


def fusion_recommend(U: int, P: int, D: int, R: int, backward: bool) -> Work:
    """``user @ (item.T @ values)`` or ``(user @ item.T) @ values``, the cheaper; backward twice."""
    operations = min(2 * D * R * (U + P), 2 * U * P * (D + R))
    read = FLOAT * (U * D + P * D + P * R)
    if not backward:
        return Work(operations, read, FLOAT * U * R)
    return Work(3 * operations, read + FLOAT * U * R, FLOAT * U * R + read)


def fusion_topk(U: int, P: int, D: int, k: int, backward: bool) -> Work:
    """All scores forward; backward touches the k chosen ones and writes dense gradients."""
    sides = FLOAT * D * (U + P)
    lists = U * k * (FLOAT + 8)
    if not backward:
        return Work(2 * U * P * D, sides, lists)
    return Work(2 * U * P * D + 4 * U * k * D, sides, lists + sides)


def fusion_cross_entropy(U: int, P: int, D: int, backward: bool) -> Work:
    """The scores forward; backward the scores again and a product for each side's gradient."""
    sides = FLOAT * D * (U + P)
    if not backward:
        return Work(2 * U * P * D, sides, FLOAT)
    return Work(8 * U * P * D, sides, sides)


def catalog(U: int, P: int, D: int, k: int, kind: str) -> Work:
    """All scores in the arithmetic of the catalogue, whose panels are read once.

    The reduced ones come with three float32 figures an item for the error bound.
    """
    width, figures = {"float32": (4, 0), "bfloat16": (2, 3), "int8": (1, 3)}[kind]
    panels = P * (D * width + FLOAT * figures)
    return Work(2 * U * P * D, FLOAT * U * D + panels, U * k * (FLOAT + 8), kind)


def weighted_fusion(B: int, M: int, D: int, backward: bool) -> Work:
    """One product; backward a scaled copy of the gradient for each token, and a product with it."""
    values, logits, fused = FLOAT * B * M * D, FLOAT * B * M, FLOAT * B * D
    if not backward:
        return Work(2 * B * M * D, values + logits, fused)
    return Work(5 * B * M * D, values + logits + fused, fused + values + logits)


def attention_fusion(B: int, M: int, D: int, H: int, backward: bool) -> Work:
    """Self-attention, which is two products; backward four more, the weights being few."""
    tokens = FLOAT * B * M * D
    if not backward:
        return Work(4 * B * M * M * D, 3 * tokens, tokens)
    return Work(12 * B * M * M * D, 4 * tokens, 4 * tokens)


def attention_pooling(B: int, M: int, D: int, backward: bool) -> Work:
    """The same with one query for all, and tokens that are keys and values."""
    tokens, fused, query = FLOAT * B * M * D, FLOAT * B * D, FLOAT * D
    if not backward:
        return Work(4 * B * M * D, tokens + query, fused)
    return Work(12 * B * M * D, tokens + query + fused, fused + tokens + query)


def bidirectional_fusion(B: int, N: int, M: int, D: int, backward: bool) -> Work:
    """One matrix of scores and two products; backward the scores again and six products."""
    sides = FLOAT * B * (N + M) * D
    if not backward:
        return Work(6 * B * N * M * D, sides, sides)
    return Work(20 * B * N * M * D, 2 * sides, 2 * sides)


def history_fusion(B: int, L: int, P: int, D: int, backward: bool, *, attention: bool) -> Work:
    """Sums over B L rows of a table, each read once if at all; backward a dense gradient of it.

    With attention there are products with the query, and backward three products more than sums.
    """
    rows, profiles = B * L, FLOAT * B * D
    forward, both = (4, 12) if attention else (1, 2)
    read = FLOAT * D * min(rows, P) + 8 * (rows + B) + attention * profiles
    if not backward:
        return Work(forward * rows * D, read, profiles)
    gradients = FLOAT * P * D + attention * profiles
    return Work(both * rows * D, read + profiles, profiles + gradients)


def mmr_rerank(U: int, C: int, D: int, k: int) -> Work:
    """The lengths and the cosines to the first choice; most others need not be known."""
    return Work(4 * U * C * D, FLOAT * U * C * (D + 1), 8 * U * k)


def deep_training(B: int, P: int, D: int, H: int, widths: tuple[int, ...]) -> Work:
    """Three passes over the tokens of items and users, the loss, and the step of the optimiser.

    A token is projected from its features, which take no gradient, or learned. The features pass
    twice, as the loss lies between; of the learned table there are values, gradients and moments.
    """
    tokens = len(widths) + 1
    projections = 2 * 2 * D * sum(widths)
    block = tokens * (24 * D * D + 4 * tokens * D)
    pooling = 4 * H * tokens * D + 4 * D * D
    operations = (P + B) * (projections + 3 * (block + pooling))
    table, features = FLOAT * P * D, FLOAT * P * sum(widths)
    loss = fusion_cross_entropy(B, P, D, True).operations
    return Work(operations + loss, 2 * features + 4 * table, 4 * table)


def contributions(H: int, P: int, D: int, k: int, M: int) -> Work:
    """A list over the catalogue, and its scores by history item and by M modalities."""
    operations = 2 * P * D + 2 * H * k * D + 2 * M * (D * D + k * D)
    return Work(operations, FLOAT * D * (P + H + M * D), 2 * FLOAT * k * (H + M))


def counterfactuals(H: int, P: int, D: int, k: int) -> Work:
    """Scores of every item for H users, each without one item of a history."""
    return Work(2 * H * P * D, FLOAT * P * D, 2 * FLOAT * H * k)


@dataclass(frozen=True)
class Bound:
    """The bound of one call on this machine: its time, and what sets it."""

    seconds: float
    by: str


@dataclass
class Machine:
    """Measured rates: operations a second by kind, bytes a second by direction."""

    peak: dict[str, float]
    tile: dict[str, dict[int, float]]
    memory: dict[str, float]

    @classmethod
    def measure(cls, seconds: float) -> Machine:
        """Measure all of them, at least `seconds` each."""
        from fusionops import _native  # of no use where only a GPU is measured

        tile = {
            kind: {depth: _native.operation_rate(kind, depth, seconds) for depth in TILE_DEPTHS}
            for kind in KINDS
        }
        # Where a step is emulated by several instructions the tile shares some of them between its
        # columns, and can pass what the step alone reaches.
        peak = {
            kind: max(_native.operation_rate(kind, 0, seconds), *tile[kind].values())
            for kind in KINDS
        }
        buffer = np.ones(BUFFER // FLOAT, dtype=np.float32)
        memory = {
            traffic: _native.memory_rate(traffic, buffer, seconds)
            for traffic in ("read", "write", "copy")
        }
        return cls(peak, tile, memory)

    def best_of(self, other: Machine) -> Machine:
        """The higher of each rate: whoever shares the machine only lowers them."""
        return Machine(
            {kind: max(rate, other.peak[kind]) for kind, rate in self.peak.items()},
            {
                kind: {depth: max(rate, other.tile[kind][depth]) for depth, rate in rates.items()}
                for kind, rates in self.tile.items()
            },
            {traffic: max(rate, other.memory[traffic]) for traffic, rate in self.memory.items()},
        )

    def bound(self, work: Work) -> Bound:
        """How long `work` takes at least."""
        arithmetic = work.operations / self.peak[work.kind]
        # Reads and writes share the bus, and each alone cannot exceed its own rate.
        memory = work.read / self.memory["read"] + work.written / self.memory["write"]
        if arithmetic >= memory:
            return Bound(arithmetic, f"{work.kind} arithmetic")
        return Bound(memory, "memory")

    def as_json(self) -> dict[str, Any]:
        """For the report."""
        return {
            "operations_per_second": self.peak,
            "score_tile_operations_per_second": self.tile,
            "memory_bytes_per_second": self.memory,
        }
