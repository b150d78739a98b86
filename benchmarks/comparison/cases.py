"""A case: one contender at one shape in one direction, and how to turn it into a call.

A suite names the contenders of an operator, ours first, and has a factory that turns a case into a
call. Speed, memory and agreement are all taken from what that call does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from comparison.bounds import Work

OURS, EAGER, COMPILE = "fusionops", "eager", "torch.compile"
FAISS, USEARCH = "faiss", "usearch"
CPU, CUDA = "cpu", "cuda"
FORWARD, BACKWARD = DIRECTIONS = ("forward", "forward+backward")

Call = Callable[[], tuple[Tensor, ...]]


class UnavailableError(Exception):
    """A contender that cannot take part here; the message is the reason that the table gives."""


# The sizes of a case, in the order of its suite's axes.
Shape = tuple[int, ...]


def parse_shape(text: str) -> Shape:
    """``"256x10000x64"`` as a shape."""
    sizes = text.lower().replace("_", "").split("x")
    if not all(size.isdigit() and int(size) > 0 for size in sizes):
        raise ValueError(f"shapes: expected sizes as in 256x10000x64, got {text!r}")
    return tuple(map(int, sizes))


@dataclass(frozen=True)
class Case:
    """One contender at one shape in one direction, on a device, in a dtype."""

    shape: Shape
    direction: str
    contender: str
    device: str = CPU
    dtype: str = "float32"

    def place(self, tensor: Tensor) -> Tensor:
        """On the device, and in the dtype if it is floating."""
        dtype = getattr(torch, self.dtype) if tensor.is_floating_point() else None
        return tensor.to(self.device, dtype)

    def __str__(self) -> str:
        return "-".join(("x".join(map(str, self.shape)), self.direction, self.contender))


# A case becomes a call that does the work once, or raises UnavailableError.
Setup = Callable[[Case], Call]

DEFAULT_SHAPES: tuple[Shape, ...] = ((256, 10_000, 64), (1024, 100_000, 64), (16, 1_000_000, 128))
"""A small call, the middle of the field, and few users against a large catalogue."""


def doubling(
    users: int, features: int, first: int = 62_500, last: int = 4_000_000
) -> tuple[Shape, ...]:
    """Shapes of twice the items each, for the plot of time against size."""
    sizes = []
    while first <= last:
        sizes.append((users, first, features))
        first *= 2
    return tuple(sizes)


def few_users(shape: Shape) -> Shape:
    """8 users against a small catalogue, or against themselves."""
    users, items, features = shape
    return 8, 8 if users == items else 1024, features


def few_entities(shape: Shape) -> Shape:
    """8 of them, with at most 64 tokens (or what else stands before the last two sizes)."""
    return (8, *(min(size, 64) for size in shape[1:-2]), *shape[-2:])


@dataclass(frozen=True)
class Suite:
    """How an operator is measured, and against whom.

    Attributes
    ----------
    title : str
        What was computed, and who the peers are.
    contenders : tuple of str
        Ours first: the results of all others are compared with those of the first.
    setup : callable
        The factory of the calls.
    work : callable
        The least work of one call; see :mod:`comparison.bounds`.
    ours : int
        How many of `contenders` are ours; each gets a column of ratios.
    axes : tuple of str
        What the sizes of a shape are called.
    shapes : tuple of Shape
        The first is the one of the smoke run.
    forward_only : tuple of Shape
        Those of `shapes` whose both passes would take the run too long.
    growth : tuple of Shape
        Each of twice the size along `grows`, for the plot of time against size.
    grows : str
        One of `axes`.
    small : callable
        A shape that takes little memory, of a shape; see :mod:`comparison.memory`.
    not_in_growth : tuple of str
        Contenders that would take minutes at those sizes.
    growth_direction : str
        What is plotted; an operator made for training is plotted with its backward pass.
    directions : tuple of str
        Without the backward pass where nothing can be differentiated.
    gpu_shapes : tuple of Shape
        Those on a GPU, where there is more room; without any the suite is of the CPU alone.
    gpu_contenders : tuple of str
        Who takes part on a GPU only.
    stray_rows : float
        The share of rows that may disagree in the backward pass; see
        :func:`comparison.agreement.assert_agree`.
    """

    title: str
    contenders: tuple[str, ...]
    setup: Setup
    work: Callable[[Case], Work]
    ours: int = 1
    axes: tuple[str, ...] = ("U", "P", "D")
    shapes: tuple[Shape, ...] = DEFAULT_SHAPES
    forward_only: tuple[Shape, ...] = ()
    growth: tuple[Shape, ...] = ()
    grows: str = "P"
    small: Callable[[Shape], Shape] = few_users
    not_in_growth: tuple[str, ...] = (COMPILE,)  # half a minute of compilation for each size
    growth_direction: str = FORWARD
    directions: tuple[str, ...] = DIRECTIONS
    gpu_shapes: tuple[Shape, ...] = ()
    gpu_contenders: tuple[str, ...] = ()
    stray_rows: float = 0.0


@functools.lru_cache(maxsize=1)
def gaussians(*sizes: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Standard normal float32 tensors, the same for every contender; the last set is kept."""
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(size, generator=generator) for size in sizes)


def compiled(function: Callable[..., object]) -> Callable[..., object]:
    """`function` by ``torch.compile`` for exactly the shapes of its first call, in one graph."""
    torch._dynamo.reset()  # one case's graphs neither guard nor fall back in another's
    # A pool of compiler processes would cost each child more than it saves.
    torch._inductor.config.compile_threads = 1
    return torch.compile(function, fullgraph=True, dynamic=False)


def call_of(
    case: Case,
    function: Callable[..., object],
    inputs: tuple[Tensor, ...],
    *upstream: Tensor,
) -> Call:
    """The work to measure: the forward pass without gradients, or both passes.

    Parameters
    ----------
    case : Case
        Whose contender decides whether `function` is compiled by ``torch.compile``, and which says
        where `inputs` and `upstream` are put.
    function : callable
        Of `inputs`; returns a tensor, or a tuple whose first are the differentiable ones.
    inputs : tuple of Tensor
        Every one of them gets a gradient in the backward pass.
    *upstream : Tensor
        The gradients that come in, of the first outputs; without any the call is the forward pass
        alone.

    Returns
    -------
    callable
        Returns the outputs, followed by the gradients of `inputs` if there is an `upstream`.
    """
    if case.contender == COMPILE:
        function = compiled(function)
    inputs, upstream = (tuple(map(case.place, tensors)) for tensors in (inputs, upstream))
    if not upstream:

        def forward() -> tuple[Tensor, ...]:
            with torch.no_grad():
                return _outputs(function(*inputs))

        return forward

    leaves = [tensor.detach().requires_grad_() for tensor in inputs]
    arriving = list(upstream)

    def both() -> tuple[Tensor, ...]:
        outputs = _outputs(function(*leaves))
        for place, (output, grad) in enumerate(zip(outputs, arriving, strict=False)):
            if output.dtype != grad.dtype:  # a loss of half inputs; the first call tells
                arriving[place] = grad.to(output.dtype)
        gradients = torch.autograd.grad(outputs[: len(arriving)], leaves, arriving)
        return (*(output.detach() for output in outputs), *gradients)

    return both


def _outputs(result: object) -> tuple[Tensor, ...]:
    return (result,) if isinstance(result, Tensor) else tuple(result)  # type: ignore[arg-type]
