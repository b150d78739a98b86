"""Triton kernels as compiled: for sm_80 they run on the CPU, for other GPUs they are read."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.runtime.jit import JITFunction, create_function_from_signature

from . import settings
from .runtime import EmulationError
from .translated import Module

# What the emulator runs: later architectures have instructions that it does not know.
EMULATED = 80
_C_TYPES = {
    "i1": ctypes.c_int8,
    "i8": ctypes.c_int8,
    "i16": ctypes.c_int16,
    "i32": ctypes.c_int32,
    "i64": ctypes.c_int64,
    "u8": ctypes.c_uint8,
    "u16": ctypes.c_uint16,
    "u32": ctypes.c_uint32,
    "u64": ctypes.c_uint64,
    "fp32": ctypes.c_float,
    "fp64": ctypes.c_double,
}
_compiled: dict[tuple, Any] = {}


@dataclass(frozen=True)
class _Call:
    """A kernel and its arguments, specialised as Triton does it before a launch."""

    kernel: JITFunction
    target: GPUTarget
    bound: dict[str, Any]
    signature: dict[str, str]
    constexprs: dict
    attributes: dict
    options: Any

    def compile(self):
        """Triton's compiled kernel; Triton keeps it on disk, and this process in memory."""
        key = (
            self.kernel.cache_key,
            self.target,
            str(self.signature),
            str(self.constexprs),
            str(self.attributes),
            str(self.options),
        )
        if key not in _compiled:
            source = ASTSource(self.kernel, self.signature, self.constexprs, self.attributes)
            options = self.options.__dict__
            _compiled[key] = triton.compile(source, target=self.target, options=options)
        return _compiled[key]

    def arguments(self) -> list[tuple[str, Any]]:
        """The types and values that the compiled kernel takes, constants left out."""
        types = self.signature.items()
        return [(kind, self.bound[name]) for name, kind in types if kind != "constexpr"]


def _specialise(kernel: JITFunction, args: Sequence, meta: Mapping, capability: int) -> _Call:
    """What `kernel[grid](*args, **meta)` would compile: alignment, ones and constants included."""
    target = GPUTarget("cuda", capability, 32)
    backend = make_backend(target)
    bind = create_function_from_signature(kernel.signature, kernel.params, backend)
    bound, specialization, extra = bind(*args, **meta)
    options, signature, constexprs, attributes = kernel._pack_args(
        backend, dict(meta), bound, specialization, extra
    )
    return _Call(kernel, target, bound, signature, constexprs, attributes, options)


def compile_for(
    kernel: JITFunction, args: Sequence, meta: Mapping, capability: int
) -> tuple[str, bytes, Any]:
    """The PTX, the cubin and the metadata of a kernel that would be started with `args`."""
    compiled = _specialise(kernel, args, meta, capability).compile()
    return compiled.asm["ptx"], compiled.asm["cubin"], compiled.metadata


def _as_c(kind: str, value: Any):
    if kind.startswith("*"):
        return ctypes.c_void_p(value.data_ptr())
    return _C_TYPES[kind](value)


def launch(kernel: JITFunction, grid: Sequence[int], *args: Any, **meta: Any) -> None:
    """Start a kernel as compiled for sm_80 on CPU tensors.

    Without a guard, every access must lie inside the tensors that the kernel was given.
    """
    call = _specialise(kernel, args, meta, EMULATED)
    compiled = call.compile()
    if getattr(compiled.metadata, "global_scratch_size", 0):
        raise EmulationError(f"{kernel.__name__}: global scratch memory is not emulated")
    arguments = call.arguments()
    tensors = [value for _, value in arguments if isinstance(value, torch.Tensor)]
    values = [_as_c(kind, value) for kind, value in arguments]
    values += [ctypes.c_void_p(), ctypes.c_void_p()]  # scratch memory, global and of the profiler
    module = Module(compiled.asm["ptx"])
    with settings.watched(tensors):
        module.start(
            compiled.metadata.name,
            grid,
            32 * compiled.metadata.num_warps,
            values,
            compiled.metadata.shared,
        )


def functions() -> contextlib.AbstractContextManager[None]:
    """Nothing to prepare: functions are compiled as they are."""
    return contextlib.nullcontext()
