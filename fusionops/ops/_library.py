"""Loads the native operators and hangs fakes, gradients and vmap rules on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from fusionops import NOT_BUILT, backend, cuda_library, triton
from fusionops.ops import _torch_blocks

LIBRARY = Path(__file__).resolve().parent.parent / "lib" / "libfusionops_torch_cpu.so"

if not LIBRARY.exists():
    raise ImportError(NOT_BUILT)
torch.ops.load_library(str(LIBRARY))
if cuda_library.PATH.exists():
    torch.ops.load_library(str(cuda_library.PATH))
triton.register()

NAMESPACES = ("fusionops", "fusionops_triton")


def operator(name: str, within: Callable[..., bool] | None = None) -> Callable[..., Any]:
    """The native operator `name`, by whoever serves its first argument.

    Parameters
    ----------
    name : str
        Its name in ``csrc/torch/schemas.h``.
    within : callable, optional
        Whether arguments are in the range of the CUDA C++ kernel.
    """
    native = getattr(torch.ops.fusionops, name).default
    rounding = _rounding(torch.ops.fusionops, name)
    by_triton = getattr(torch.ops.fusionops_triton, name).default
    by_torch = getattr(_torch_blocks, name, None)

    def call(*args: Any) -> Any:
        server = backend.provider(name, args[0], within is None or within(*args))
        if server == "native":
            rounds = rounding is not native and args[0].is_cuda and _tf32()
            return (rounding if rounds else native)(*args)
        if server == "triton":
            return by_triton(*args)
        if server == "emulated":
            emulated = torch.ops.fusionops_emulated
            return (_rounding(emulated, name) if _tf32() else getattr(emulated, name))(*args)
        if by_torch is None:
            raise RuntimeError(f"no kernel serves {name} on {args[0].device}")
        return by_torch(*args)

    return call


def _rounding(namespace: Any, name: str) -> Callable[..., Any]:
    """The operator that may round float32 to tf32, where that is one of its own."""
    if hasattr(namespace, f"{name}_tf32"):
        name = f"{name}_tf32"
    found: Callable[..., Any] = getattr(namespace, name).default
    return found


# Dynamo cannot trace the setting, but guards on it, as on all of PyTorch's global state.
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _tf32() -> bool:
    """Whether PyTorch is told that products of float32 may round to tf32."""
    return bool(torch.backends.cuda.matmul.fp32_precision == "tf32")


def register(
    name: str,
    fake: Callable[..., Any],
    function: type[torch.autograd.Function] | None,
    vmap: Callable[..., Any],
) -> None:
    """Registers what PyTorch must know of the operator `name`, in every namespace.

    The public functions apply `function` themselves, as ``torch.func`` needs it; the same formulas
    serve a direct call of ``torch.ops.fusionops``. None: the operator has no gradient.
    """
    names = [each for each in (name, f"{name}_tf32") if hasattr(torch.ops.fusionops, each)]
    for qualified in (f"{space}::{each}" for space in NAMESPACES for each in names):
        torch.library.register_fake(qualified, fake)
        if function is not None:
            torch.library.register_autograd(
                qualified, function.backward, setup_context=function.setup_context
            )
        torch.library.register_vmap(qualified, vmap)


def apply(function: type[torch.autograd.Function], operator: Callable[..., Any], *args: Any) -> Any:
    """``function.apply(*args)``, or, where nothing differentiates or transforms, the operator.

    A ``torch.autograd.Function`` costs 15 us a call, which small inputs would feel.
    """
    if torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active():
        # Dynamo does not see that the very argument of torch.func.grad requires a gradient, and
        # would drop it; of a view of it, it does.
        args = tuple(arg.view_as(arg) if isinstance(arg, Tensor) else arg for arg in args)
    if (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0  # the Function refuses forward mode, in words
        or (torch.is_grad_enabled() and any(_requires_grad(value) for value in args))
    ):
        return function.apply(*args)
    return operator(*args)


def _requires_grad(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


def fold_vmap(operator: Callable[..., Any]) -> Callable[..., Any]:
    """A vmap rule for an operator whose tensors all have a batch dimension in front: fold into it.

    A tensor that vmap does not map is repeated with stride 0, which the kernels take as it is.
    """

    def rule(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Any, Any]:
        size = info.batch_size
        batches = []

        def fold(value: Any, dim: int | None) -> Any:
            if not isinstance(value, Tensor):
                return value
            mapped = value.expand(size, *value.shape) if dim is None else value.movedim(dim, 0)
            batches.append(mapped.shape[1])
            return mapped.flatten(0, 1)

        def unfold(result: Tensor) -> Any:
            # What was not wanted is empty, [0, ...]; so is everything where there is no sample.
            return result.unflatten(0, (size, result.shape[0] // size if size else batches[0]))

        results = operator(*map(fold, args, in_dims))
        if isinstance(results, Tensor):
            return unfold(results), 0
        return tuple(map(unfold, results)), (0,) * len(results)

    return rule


def loop_vmap(operator: Callable[..., Any]) -> Callable[..., Any]:
    """A vmap rule for an operator without a batch dimension: one call a sample."""

    def rule(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Any, Any]:
        def sample(i: int) -> list[Any]:
            return [
                value if dim is None else value.select(dim, i)
                for value, dim in zip(args, in_dims, strict=True)
            ]

        if info.batch_size == 0:
            return _no_samples(operator, in_dims, args)
        results = [operator(*sample(i)) for i in range(info.batch_size)]
        if isinstance(results[0], Tensor):
            return torch.stack(results), 0
        stacked = tuple(torch.stack(parts) for parts in zip(*results, strict=True))
        return stacked, (0,) * len(stacked)

    return rule


def _no_samples(
    operator: Callable[..., Any], in_dims: tuple[int | None, ...], args: tuple[Any, ...]
) -> tuple[Any, Any]:
    """The empty results of :func:`loop_vmap`, shaped by the fake of one sample."""

    def sample(value: Any, dim: int | None) -> Any:
        if not isinstance(value, Tensor):
            return value
        shape = list(value.shape)
        if dim is not None:
            del shape[dim]
        return value.new_empty(shape, device="meta")

    device = next(value.device for value in args if isinstance(value, Tensor))
    results = operator(*map(sample, args, in_dims))
    if isinstance(results, Tensor):
        return results.new_empty((0, *results.shape), device=device), 0
    empty = tuple(part.new_empty((0, *part.shape), device=device) for part in results)
    return empty, (0,) * len(empty)
