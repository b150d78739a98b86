"""The launches of our kernels on a GPU, operator by operator: every read, every write.

A tensor is read once by a launch: blocks that run together meet in the second-level cache. Left out
as small beside the rest: the lists and partial sums of work that is split over a few blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from counting.launches import FP32, Launch, gathered, size_of, unit_of

Arguments = dict[str, Any]
Results = tuple[Tensor, ...]
Formula = Callable[[Arguments, Results], list[Launch]]

FEW = 32  # queries and tokens up to which CUDA C++ serves attention_fusion; by FFMA, in registers
TILE = 64  # tokens up to which Triton has both sides of bidirectional_fusion in one tile
CHUNK = 32  # sorted entries that one program adds up toward a table


def _launch(
    name: str,
    given: Arguments,
    writes: Results,
    operations: float,
    unit: str,
    unread: tuple[str, ...] = (),
) -> Launch:
    """Reads every tensor that is given, the same one once; empty results cost nothing."""
    tensors = {key: x for key, x in given.items() if isinstance(x, Tensor) and key not in unread}
    once = {id(tensor): key for key, tensor in reversed(tensors.items())}
    reads = {key: size_of(tensors[key]) for key in once.values()}
    written = {str(place): size_of(x) for place, x in enumerate(writes) if x.numel()}
    return Launch(name, reads, written, operations, unit)


def _pairs(given: Arguments) -> int:
    """Twice the products of all pairs of users and items."""
    user, item = given["user"], given["item"]
    batch = user.shape[0] if user.dim() == 3 else 1
    return 2 * batch * user.shape[-2] * item.shape[-2] * user.shape[-1]


def _inverse_norm(given: Arguments, results: Results) -> list[Launch]:
    return [_launch("inverse_norm", given, results, 2 * given["x"].numel(), FP32)]


def _matrix(given: Arguments, results: Results) -> list[Launch]:
    unit = unit_of(given["user"], given["item"])
    return [_launch("fusion_matrix", given, results, _pairs(given), unit)]


def _contract(given: Arguments, results: Results) -> list[Launch]:
    left, right = given["left"], given["right"]
    operations = 2 * left.shape[0] * left.shape[1] * left.shape[2] * right.shape[2]
    return [_launch("fusion_contract", given, results, operations, unit_of(left, right))]


def _topk(given: Arguments, results: Results) -> list[Launch]:
    unit = unit_of(given["user"], given["item"])
    return [_launch("fusion_topk", given, results, _pairs(given), unit)]


def _cross_entropy(given: Arguments, results: Results) -> list[Launch]:
    """The logits of the targets, which read a row of each side for a user, then all logits."""
    user, item = given["user"], given["item"]
    unit = unit_of(user, item)
    sides = {"user": size_of(user), "item": min(size_of(user), size_of(item))}
    each = 2 * user.shape[0] * user.shape[1]
    target, logits = {"target": 8 * len(user)}, {"logits": 4 * len(user)}
    return [
        Launch("targets", {**sides, **target}, logits, each, unit),
        _launch("fusion_cross_entropy", given, results, _pairs(given), unit),
    ]


def _toward(given: Arguments, results: Results, wanted: dict[str, tuple[int, ...]]) -> list[Launch]:
    """A pass for each side whose gradient is wanted: the logits once more, and a product."""
    unit = unit_of(given["user"], given["item"])
    return [
        _launch(f"toward {side}", given, tuple(results[n] for n in places), 2 * _pairs(given), unit)
        for side, places in wanted.items()
        if given[f"{side}_wanted"]
    ]


def _cross_entropy_backward(given: Arguments, results: Results) -> list[Launch]:
    return _toward(given, results, {"user": (0, 2), "item": (1, 3, 4)})


def _contrastive(given: Arguments, results: Results) -> list[Launch]:
    """The cross-entropy of the rows, and that of the columns, each of logits of its own."""
    unit = unit_of(given["user"], given["item"])
    loss, statistics = results
    half = (loss, statistics[:2])
    return [_launch(name, given, half, _pairs(given), unit) for name in ("rows", "columns")]


def _contrastive_backward(given: Arguments, results: Results) -> list[Launch]:
    return _toward(given, results, {"user": (0, 2), "item": (1, 3)})


def _weighted(given: Arguments, results: Results) -> list[Launch]:
    values = given["values"]
    return [_launch("weighted_fusion", given, results, 2 * values.numel(), FP32)]


def _weighted_backward(given: Arguments, results: Results) -> list[Launch]:
    values = given["values"]
    return [_launch("weighted_fusion_backward", given, results, 4 * values.numel(), FP32)]


def _products(given: Arguments) -> int:
    """Twice the products of all queries with all tokens."""
    query, key = given["query"], given["key"]
    return 2 * key.shape[0] * query.shape[1] * key.shape[1] * key.shape[2]


def _few(given: Arguments) -> bool:
    return max(given["query"].shape[1], given["key"].shape[1]) <= FEW


def _attention(given: Arguments, results: Results) -> list[Launch]:
    unit = FP32 if _few(given) else unit_of(given["key"])
    return [_launch("attention_fusion", given, results, 2 * _products(given), unit)]


def _attention_backward(given: Arguments, results: Results) -> list[Launch]:
    """Few tokens: one pass makes the softmax anew and all gradients. Many: a pass a side."""
    if _few(given):
        name, unread = "attention_fusion_backward", ("out", "log_sum")
        return [_launch(name, given, results, 5 * _products(given), FP32, unread)]
    unit = unit_of(given["key"])
    sides = (("query", results[:1], 3), ("key", results[1:], 4))
    return [
        _launch(f"toward {side}", given, made, number * _products(given), unit)
        for side, made, number in sides
        if given[f"{side}_wanted"]
    ]


def _tokens(given: Arguments) -> int:
    return max(given["user"].shape[1], given["item"].shape[1])


def _bidirectional(given: Arguments, results: Results) -> list[Launch]:
    """Few tokens are one tile, with one matrix of scores; many a pass each way."""
    unit, products = unit_of(given["user"]), _pairs(given)
    if _tokens(given) <= TILE:
        return [_launch("bidirectional_fusion", given, results, 3 * products, unit)]
    ways = (("user from item", (0, 2)), ("item from user", (1, 3)))
    return [
        _launch(way, given, tuple(results[n] for n in places), 2 * products, unit)
        for way, places in ways
    ]


def _bidirectional_backward(given: Arguments, results: Results) -> list[Launch]:
    """Few tokens: one pass. Many: one for each side, from both softmaxes."""
    unit, products = unit_of(given["user"]), _pairs(given)
    if _tokens(given) <= TILE:
        name = "bidirectional_fusion_backward"
        unread = ("from_item", "from_user", "user_log_sum", "item_log_sum")
        return [_launch(name, given, results, 7 * products, unit, unread)]
    return [
        _launch(f"toward {side}", given, results[place::2], 5 * products, unit)
        for place, side in enumerate(("user", "item"))
        if given[f"{side}_wanted"]
    ]


def _gathered(given: Arguments) -> dict[str, int]:
    """What is read of the values: with ids, a row an entry, or each once if a cache has them."""
    values, ids = given["values"], given["ids"]
    if ids is None:
        return {"values": size_of(values)}
    rows = len(ids) * values.shape[1] * values.element_size()
    return {"values": gathered(size_of(values), rows), "ids": size_of(ids)}


def _history(given: Arguments, results: Results) -> list[Launch]:
    entries = len(given["values"] if given["ids"] is None else given["ids"])
    operations = (4 if given["query"] is not None else 2) * entries * given["values"].shape[1]
    found = _launch("history_fusion", given, results, operations, FP32)
    return [Launch(found.name, {**found.reads, **_gathered(given)}, found.writes, operations)]


def _history_backward(given: Arguments, results: Results) -> list[Launch]:
    """All gradients in one pass; that of a table from its entries, which are sorted by id."""
    values, ids, grad, query = (given[name] for name in ("values", "ids", "grad", "query"))
    entries, width = len(values if ids is None else ids), values.shape[1]
    listed = ids is not None and given["values_wanted"]
    by_query = query is not None
    found = _launch("history_fusion_backward", given, results[1:] if listed else results, 0, FP32)
    reads, writes = dict(found.reads), dict(found.writes)
    reads.pop("values")
    if by_query or given["weights_wanted"]:
        reads |= _gathered(given)
    operations = (8 if by_query else 0 if listed else 1) * entries * width
    if not listed:
        return [Launch(found.name, reads, writes, operations)]
    # Of each entry: whose it is, and its factors, which wait in memory for the second pass.
    notes = {"owners": 8 * entries, "factors": 4 * entries}
    notes |= {"slopes": 4 * entries} if by_query else {}
    sides = {"grad": size_of(grad)} | ({"query": size_of(query)} if by_query else {})
    order = {"keys": size_of(ids), "order": 8 * entries}
    rows = min(entries, len(values)) * width * values.element_size()
    parts = {"parts": -(-entries // CHUNK) * 2 * width * 4}
    return [
        Launch("zeros", {}, notes),
        Launch(found.name, reads, {**writes, **notes}, operations),
        Launch("zeros", {}, {"table": size_of(results[0])}),
        Launch("sort", {"ids": size_of(ids)}, order),
        Launch(
            "toward table",
            {**sides, **notes, **order},
            {"rows": rows, **parts},
            (4 if by_query else 2) * entries * width,
        ),
        Launch("runs", {"keys": order["keys"], **parts}, {}),
    ]


KERNELS: dict[str, Formula] = {
    "inverse_norm": _inverse_norm,
    "fusion_matrix": _matrix,
    "fusion_contract": _contract,
    "fusion_topk": _topk,
    "fusion_cross_entropy": _cross_entropy,
    "fusion_cross_entropy_backward": _cross_entropy_backward,
    "fusion_contrastive": _contrastive,
    "fusion_contrastive_backward": _contrastive_backward,
    "weighted_fusion": _weighted,
    "weighted_fusion_backward": _weighted_backward,
    "attention_fusion": _attention,
    "attention_fusion_backward": _attention_backward,
    "bidirectional_fusion": _bidirectional,
    "bidirectional_fusion_backward": _bidirectional_backward,
    "history_fusion": _history,
    "history_fusion_backward": _history_backward,
}
