"""A case: one contender at one shape in one direction, and how to turn it into a call."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

OURS, EAGER, COMPILE, PEER = CONTENDERS = ("fusionops", "eager", "torch.compile", "peer")
FORWARD, BACKWARD = DIRECTIONS = ("forward", "forward+backward")

Call = Callable[[], tuple[Tensor, ...]]


class UnavailableError(Exception):
    """A contender that cannot take part here; the message is the reason that the table gives."""


class Shape(NamedTuple):
    """Users, items and features."""

    users: int
    items: int
    features: int

    def __str__(self) -> str:
        return " x ".join(f"{size:,}" for size in self)

    @classmethod
    def parse(cls, text: str) -> Shape:
        """``"256x10000x64"`` as a shape."""
        sizes = text.lower().replace("_", "").split("x")
        if len(sizes) != 3 or not all(size.isdigit() and int(size) > 0 for size in sizes):
            raise ValueError(f"shapes: expected USERSxITEMSxFEATURES, got {text!r}")
        return cls(*map(int, sizes))


@dataclass(frozen=True)
class Case:
    """One contender at one shape in one direction."""

    shape: Shape
    direction: str
    contender: str

    def __str__(self) -> str:
        return "-".join(("x".join(map(str, self.shape)), self.direction, self.contender))


# The factory of an operator: a case becomes a call that does the work once. Speed, memory and
# agreement are all taken from what it returns.
Setup = Callable[[Case], Call]


@functools.lru_cache(maxsize=1)
def gaussians(*sizes: tuple[int, int]) -> tuple[Tensor, ...]:
    """Standard normal float32 tensors, the same for every contender; the last set is kept."""
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(size, generator=generator) for size in sizes)


def _compiled(function: Callable[..., object]) -> Callable[..., object]:
    """`function` by ``torch.compile`` for exactly the shapes of its first call, in one graph."""
    torch._dynamo.reset()  # one case's graphs neither guard nor fall back in another's
    # A pool of compiler processes would cost each child more than it saves.
    torch._inductor.config.compile_threads = 1
    return torch.compile(function, fullgraph=True, dynamic=False)


def call_of(
    case: Case,
    function: Callable[..., object],
    inputs: tuple[Tensor, ...],
    upstream: Tensor | None = None,
) -> Call:
    """The work to measure: the forward pass without gradients, or both passes.

    Parameters
    ----------
    case : Case
        Whose contender decides whether `function` is compiled.
    function : callable
        Of `inputs`; returns a tensor, or a tuple whose first is the differentiable one.
    inputs : tuple of Tensor
        Every one of them gets a gradient in the backward pass.
    upstream : Tensor, optional
        The gradient that comes in; without it the call is the forward pass alone.

    Returns
    -------
    callable
        Returns the outputs, followed by the gradients of `inputs` if there is an `upstream`.
    """
    if case.contender == COMPILE:
        function = _compiled(function)
    if upstream is None:

        def forward() -> tuple[Tensor, ...]:
            with torch.no_grad():
                return _outputs(function(*inputs))

        return forward

    leaves = [tensor.detach().requires_grad_() for tensor in inputs]

    def both() -> tuple[Tensor, ...]:
        outputs = _outputs(function(*leaves))
        gradients = torch.autograd.grad(outputs[0], leaves, upstream)
        return (*(output.detach() for output in outputs), *gradients)

    return both


def _outputs(result: object) -> tuple[Tensor, ...]:
    return (result,) if isinstance(result, Tensor) else tuple(result)  # type: ignore[arg-type]


def assert_agree(
    ours: tuple[Tensor, ...],
    theirs: tuple[Tensor, ...],
    *,
    tolerance: float = 1e-4,
    stray_rows: float = 0.0,
) -> None:
    """Floating results must agree to `tolerance` of the largest entry, row by row.

    Of indices, one in a hundred may differ: float32 sums in another order swap neighbours whose
    scores are equal to rounding. `stray_rows` is the share of rows that may differ in floating
    results, for gradients that follow such a swap.
    """
    assert len(ours) == len(theirs), f"{len(ours)} results of ours, {len(theirs)} of theirs"
    for place, (our, their) in enumerate(zip(ours, theirs, strict=True)):
        assert our.shape == their.shape, f"result {place}: {our.shape} and {their.shape}"
        if not our.is_floating_point():
            swapped = (our != their).double().mean().item()
            assert swapped <= 0.01, f"result {place}: {swapped:.2%} of the indices differ"
            continue
        furthest = (our - their).abs_().amax(-1) / our.abs().max()
        # Counted by what agrees, so that a NaN is a disagreement.
        stray = 1.0 - (furthest <= tolerance).double().mean().item()
        assert stray <= stray_rows, (
            f"result {place}: {stray:.2%} of the rows differ by more than {tolerance:g} of the "
            f"largest entry, the worst by {furthest.max().item():.3g}"
        )
