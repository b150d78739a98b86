"""Ragged pooling of histories: mean, weighted sum or attention, from rows or by item ids."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fusionops import backend, reference
from fusionops.ops import _checks, composition_histories
from fusionops.ops._dtypes import accumulator, without_autocast
from fusionops.ops._library import apply, loop_vmap, operator, register
from fusionops.ops._ragged import check_indices, check_offsets, own, unpacked

_op = operator("history_fusion")
_backward_op = operator("history_fusion_backward")


def history_fusion(
    values: Tensor,
    offsets: Tensor | None = None,
    query: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    ids: Tensor | None = None,
) -> Tensor:
    r"""One profile for each history: the mean of its rows, their weighted sum, or attention.

    Parameters
    ----------
    values : Tensor
        ``[T, D]``, the rows of all histories one after the other, or a jagged ``torch.nested``
        tensor ``[B, *, D]``. With `ids`, a table ``[P, D]``. float64, float32, bfloat16 or float16,
        of any strides; under autocast in its dtype, as for ``torch.matmul``.
    offsets : Tensor, optional
        ``[B + 1]``, integers that rise from 0 to T: history b has the rows
        ``offsets[b]:offsets[b + 1]``. None where `values` or `ids` is jagged.
    query : Tensor, optional
        ``[B, D]`` in the dtype of `values`: weights ``softmax(values . query / sqrt(D))`` over each
        history.
    weights : Tensor, optional
        ``[T]`` of any floating dtype, or jagged ``[B, *]``: the weighted sum, not normalised. Not
        together with `query`.
    ids : Tensor, optional
        ``[T]``, integers in ``[0, P)``, or jagged ``[B, *]``: row t of a history is
        ``values[ids[t]]``. The rows are never gathered in memory.

    Returns
    -------
    Tensor
        ``[B, D]`` in the dtype of `values`; zeros for an empty history.

    Raises
    ------
    TypeError
        An argument that is not a tensor of a dtype listed above.
    ValueError
        Shapes or devices that do not belong together.
    IndexError
        An id that is not in ``[0, P)``, or offsets that do not rise from 0 to T.

    Notes
    -----
    .. math::
        y_b = \sum_{t \in \mathcal{H}_b} w_t v_t

        w_t = \frac{1}{|\mathcal{H}_b|}
        \qquad \text{without query and weights}

        w_t = \frac{\exp (v_t \cdot q_b / \sqrt{D})}
        {\sum_{s \in \mathcal{H}_b} \exp (v_s \cdot q_b / \sqrt{D})}
        \qquad \text{with a query}

    with :math:`v_t` the rows of history b, :math:`q` in `query`, and otherwise :math:`w` in
    `weights`.

    The attention is that of Zhou et al. (2018), "Deep interest network for click-through rate
    prediction", with scaled products and a softmax. The gradient toward a table is dense, ``[P,
    D]``, with the same bits for any number of threads. It can be differentiated once, toward
    `values`, `query` and `weights`.

    Examples
    --------
    >>> import torch, fusionops
    >>> table = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]])
    >>> offsets, ids = torch.tensor([0, 2, 2, 3]), torch.tensor([0, 2, 1])
    >>> fusionops.history_fusion(table, offsets, ids=ids)
    tensor([[1.5000, 1.0000],
            [0.0000, 0.0000],
            [0.0000, 1.0000]])
    """
    if ids is not None and isinstance(values, Tensor) and values.is_nested:
        raise TypeError("values: expected a dense table together with ids, got a nested tensor")
    offsets, values, weights, ids = _flat(values, offsets, weights, ids)
    (values,) = _checks.sides(batched=False, values=values)
    if ids is not None:
        ids = _checked_ids(ids, values)
    rows, entries = offsets.shape[0] - 1, (values if ids is None else ids).shape[0]
    if query is not None and weights is not None:
        raise ValueError("query: expected None together with weights, got both")
    if query is not None:
        query = _checked_query(query, values, rows)
    if weights is not None:
        weights = _checked_weights(weights, values, entries)
    fused: Tensor
    server = backend.serving("history_fusion", values)
    if server == "kernels":
        if query is values:  # as many histories as rows: see own
            query = own(query)
        fused = apply(_HistoryFusion, _op, values, own(offsets), query, weights, ids)[0]
        return fused
    if not values.is_meta and not torch.compiler.is_compiling():
        check_offsets("offsets:", offsets, entries, "rows")
        if ids is not None:
            check_indices("ids", ids, len(values))
    home = reference if server == "reference" else composition_histories
    with without_autocast(values.device):
        fused = home.history_fusion(values, offsets, query, weights, ids=ids)
    return fused


def _flat(values: Any, offsets: Any, weights: Any, ids: Any) -> tuple[Tensor, Any, Any, Any]:
    """The offsets and the flat tensors, whatever of them came jagged."""
    jagged = None
    flat = {"values": values, "weights": weights, "ids": ids}
    for name, value in flat.items():
        if isinstance(value, Tensor) and value.is_nested:
            if value.layout != torch.jagged:
                raise TypeError(
                    f"{name}: expected a jagged nested tensor, got layout {value.layout}"
                )
            found, flat[name] = unpacked(value)
            if jagged is not None:
                _check_alike(name, found, *jagged)
            jagged = jagged or (name, found)
    if jagged is not None:
        if offsets is not None:
            raise ValueError(f"offsets: expected None together with jagged {jagged[0]}, got both")
        offsets = jagged[1]
    return _checked_offsets(offsets, values), flat["values"], flat["weights"], flat["ids"]


def _check_alike(name: str, offsets: Tensor, other_name: str, other: Tensor) -> None:
    """Two jagged tensors must have the same histories."""
    if offsets.shape != other.shape:
        raise ValueError(
            f"{name}: expected {len(other) - 1} histories as {other_name} has, "
            f"got {len(offsets) - 1}"
        )
    hidden = offsets.is_meta or other.is_meta or torch.compiler.is_compiling()
    if offsets is not other and not hidden and not torch.equal(offsets, other):
        raise ValueError(f"{name}: expected histories of the lengths that {other_name} has")


def _checked_offsets(offsets: Any, values: Any) -> Tensor:
    _checks.integer("offsets", offsets)
    if isinstance(values, Tensor):
        _checks.same_device("offsets", offsets, "values", values)
    if offsets.dim() != 1 or offsets.shape[0] == 0:
        raise ValueError(f"offsets: expected shape [B + 1], got {_checks.describe(offsets)}")
    found: Tensor = offsets.to(torch.int64)
    return found


def _checked_ids(ids: Any, values: Tensor) -> Tensor:
    _checks.integer("ids", ids)
    if ids.dim() != 1:
        raise ValueError(f"ids: expected 1 dimension, got {_checks.describe(ids)}")
    return _checks.integers("ids", ids, ids.shape[0], values, "values")


def _checked_query(query: Tensor, values: Tensor, rows: int) -> Tensor:
    _, query = _checks.sides(batched=False, values=values, query=query)
    if tuple(query.shape) != (rows, values.shape[1]):
        raise ValueError(
            f"query: expected shape [{rows}, {values.shape[1]}], got {_checks.describe(query)}"
        )
    return query


def _checked_weights(weights: Tensor, values: Tensor, entries: int) -> Tensor:
    _checks.floating("weights", weights)
    _checks.same_device("weights", weights, "values", values)
    if tuple(weights.shape) != (entries,):
        raise ValueError(f"weights: expected shape [{entries}], got {_checks.describe(weights)}")
    return weights.to(accumulator(values.dtype))


_Two = tuple[Tensor, Tensor]
_Three = tuple[Tensor, Tensor, Tensor]


class _HistoryFusion(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        values: Tensor,
        offsets: Tensor,
        query: Tensor | None,
        weights: Tensor | None,
        ids: Tensor | None,
    ) -> _Two:
        result: _Two = _op(values, offsets, query, weights, ids)
        return result

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: _Two) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1], *inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
        needs = ctx.needs_input_grad
        wanted = needs[0], needs[2], needs[3]
        values, query, weights = apply(
            _HistoryFusionBackward, _backward_op, grad, *ctx.saved_tensors, *wanted
        )
        return (
            values if needs[0] else None,
            None,
            query if needs[2] else None,
            weights if needs[3] else None,
            None,
        )


class _HistoryFusionBackward(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        grad: Tensor,
        statistics: Tensor,
        values: Tensor,
        offsets: Tensor,
        query: Tensor | None,
        weights: Tensor | None,
        ids: Tensor | None,
        values_wanted: bool,
        query_wanted: bool,
        weights_wanted: bool,
    ) -> _Three:
        wanted = values_wanted, query_wanted, weights_wanted
        result: _Three = _backward_op(
            grad, statistics, values, offsets, query, weights, ids, *wanted
        )
        return result

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        raise NotImplementedError(
            "history_fusion can be differentiated once, not twice: use backend 'reference'"
        )


def _fake(
    values: Tensor,
    offsets: Tensor,
    query: Tensor | None,
    weights: Tensor | None,
    ids: Tensor | None,
) -> _Two:
    rows = offsets.shape[0] - 1
    statistics = (2, 0 if query is None else rows)
    return (
        values.new_empty((rows, values.shape[1])),
        values.new_empty(statistics, dtype=accumulator(values.dtype)),
    )


def _fake_backward(
    grad: Tensor,
    statistics: Tensor,
    values: Tensor,
    offsets: Tensor,
    query: Tensor | None,
    weights: Tensor | None,
    ids: Tensor | None,
    values_wanted: bool,
    query_wanted: bool,
    weights_wanted: bool,
) -> _Three:
    depth, sums = values.shape[1], accumulator(values.dtype)
    queries = offsets.shape[0] - 1 if query_wanted and query is not None else 0
    entries = weights.shape[0] if weights_wanted and weights is not None else 0
    return (
        values.new_empty((values.shape[0] if values_wanted else 0, depth)),
        values.new_empty((queries, depth)),
        values.new_empty((entries,), dtype=sums),
    )


register("history_fusion", _fake, _HistoryFusion, loop_vmap(_op))
register("history_fusion_backward", _fake_backward, _HistoryFusionBackward, loop_vmap(_backward_op))
