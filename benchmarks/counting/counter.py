"""Counts the launches of a call on fake tensors: nothing is computed and no memory is taken.

Every operator that PyTorch dispatches is one launch that reads its inputs once and writes its
outputs once, which flatters those that take several (sorts, norms, reductions). Views and
allocations are none. An operator of ours is the launches of :mod:`counting.kernels`, or, where a
GPU has a composition instead, those of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from counting.kernels import KERNELS
from counting.launches import FP32, Launch, gathered, size_of, unit_of
from fusionops.ops import _torch_blocks

ALLOCATIONS = ("empty", "new_empty", "_unsafe_view", "detach", "alias", "lift_fresh")
# Nothing that these are given is read.
FILLS = {
    "zeros", "ones", "full", "arange", "new_zeros", "new_ones", "new_full", "zeros_like",
    "ones_like", "full_like", "fill_", "zero_", "scalar_tensor",
}  # fmt: skip
# These read of their first argument what they return.
GATHERS = {"index", "gather", "index_select", "embedding"}
# These change as much of it, in place, as they are given.
SCATTERS = {"index_put_", "_index_put_impl_", "scatter_", "scatter_add_", "index_add_"}


class Counter(TorchDispatchMode):
    """Appends the launches of what is called inside to `launches`."""

    def __init__(self) -> None:
        super().__init__()
        self.launches: list[Launch] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = func._schema.name.partition("::")[2], kwargs or {}
        if func.namespace == "fusionops" and name not in KERNELS:
            with self:
                return getattr(_torch_blocks, name)(*args)
        if func.namespace == "prim":  # a question, such as for the device
            return func(*args, **kwargs)
        if func._can_decompose():
            with self:
                return func.decompose(*args, **kwargs)
        result = func(*args, **kwargs)
        if func.namespace == "fusionops":
            names = [argument.name for argument in func._schema.arguments]
            results = (result,) if isinstance(result, Tensor) else tuple(result)
            self.launches += KERNELS[name](dict(zip(names, args, strict=True)), results)
        elif _tensors(result) and not _is_free(func, name):
            self.launches.append(_launch(func, name, args, kwargs, result))
        return result


def count(call: Callable[[], object], mode: FakeTensorMode) -> list[Launch]:
    """The launches of `call`; `mode` is that of its fake tensors, real ones become such."""
    counter = Counter()
    with mode, counter:
        call()
    return counter.launches


def _is_free(func: Any, name: str) -> bool:
    shown = any(one.alias_info and not one.alias_info.is_write for one in func._schema.returns)
    return shown or name.startswith(ALLOCATIONS)


def _launch(func: Any, name: str, args: Any, kwargs: Any, result: Any) -> Launch:
    given, made = _tensors((args, kwargs)), _tensors(result)
    reads = {f"{place}": size_of(tensor) for place, tensor in enumerate(given)}
    writes = {f"{place}": size_of(tensor) for place, tensor in enumerate(made)}
    if name in FILLS:
        reads = {}
    elif name in GATHERS:
        reads["0"] = gathered(reads["0"], writes["0"])
    elif name in SCATTERS:
        touched = min(reads["0"], max(size_of(part) for part in given[1:]))
        reads["0"] = writes["0"] = touched
    elif name == "copy_":
        reads.pop("0")
    operations = 0.0
    if func._overloadpacket in flop_registry:
        formula = flop_registry[func._overloadpacket]
        operations = float(formula(*args, **kwargs, out_val=result))
    unit = unit_of(*(t for t in given if t.is_floating_point())) if operations else FP32
    return Launch(name, reads, writes, operations, unit)


def _tensors(values: Any) -> list[Tensor]:
    """Each once, in order."""
    found: Iterable[Tensor] = (leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor))
    return list({id(tensor): tensor for tensor in found}.values())
