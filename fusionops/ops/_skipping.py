"""Whether the backward of fusion_cross_entropy may leave out what is too small to matter."""

from __future__ import annotations

import torch

from fusionops.ops import _checks
from fusionops.scopes import Scope, Setting

# Of thresholds; 0: by the dtype.
_choice: Setting[float | None] = Setting()


class skip_small_gradients(Scope[float | None]):  # noqa: N801 - named as torch.no_grad is
    """Let the backward of :func:`fusionops.fusion_cross_entropy` leave out small softmaxes.

    A tile of users and items in which every softmax is below the threshold, and no target stands,
    then adds nothing to the gradients of users and items. Off by default: gradients are exact.
    Calls made inside are affected, whenever their backward runs. With label smoothing, where every
    item has a part of the target's weight, nothing is left out.

    Parameters
    ----------
    below : float, optional
        The threshold, above 0 and at most 1. Without it, the machine epsilon of the inputs' dtype
        divided by the number of items: all that is left out of a row then sums to less than one
        rounding of its weight and cannot change the gradient in that dtype by more. A larger one
        is faster and not exact: with 50,000 items an even softmax is 2e-5 everywhere, so that
        ``2**-12``, the choice of Wijmans et al. (2025), "Cut your losses in large-vocabulary
        language models", leaves all negatives out until the model has learned to tell them apart.

    Notes
    -----
    The choice is global to the process, not to a thread; of several, that entered last holds.
    docs/design.md has measurements.

    Examples
    --------
    >>> import torch, fusionops
    >>> user, item = torch.eye(2, requires_grad=True), torch.eye(2)
    >>> with fusionops.ops.skip_small_gradients():
    ...     loss = fusionops.fusion_cross_entropy(user, item, torch.tensor([0, 1]))
    >>> loss.backward()
    """

    def __init__(self, below: float | None = None) -> None:
        if below is not None:
            below = _checks.number("below", below)
            if not 0 < below <= 1:
                raise ValueError(f"below: expected more than 0 and at most 1, got {below}")
        super().__init__(_choice, 0.0 if below is None else float(below))


def threshold(dtype: torch.dtype, items: int) -> float:
    """The threshold for inputs of `dtype`; 0 where nothing may be left out."""
    chosen = _choice.get(None)
    if chosen is None:
        return 0.0
    return chosen or torch.finfo(dtype).eps / max(items, 1)
