"""Losses of the fusion matrix with a learned temperature."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from fusionops import ops
from fusionops.nn import _checks

KINDS = ("cross_entropy", "contrastive")
REDUCTIONS = ("mean", "sum", "none")


class FusionLoss(nn.Module):
    r"""Softmax loss of ``scale * F``, over the whole catalogue or within the batch.

    Parameters
    ----------
    kind : {"cross_entropy", "contrastive"}
        :func:`fusionops.fusion_cross_entropy`, each user's item against the whole catalogue, or
        :func:`fusionops.fusion_contrastive`, each pair of the batch against all others, both ways.
    normalization, power, ridge, eps
        As for :func:`fusionops.fusion_matrix`; ``"cosine"`` is the usual choice with
        ``"contrastive"``.
    scale : float
        The inverse temperature: the first one where it is learned.
    learnable : bool
        Whether `scale` is learned, by its logarithm, or fixed.
    max_scale : float
        What a learned scale is clamped to.
    label_smoothing, ignore_index, reduction
        Of ``"cross_entropy"``, as for :func:`fusionops.fusion_cross_entropy`.
    device, dtype
        Of the parameter, as for every module of PyTorch.

    Attributes
    ----------
    log_scale : Parameter or None
        ``[1]``, the logarithm of a learned scale. (FSDP takes no 0-d parameters.)

    Raises
    ------
    TypeError, ValueError
        An argument of the wrong kind, out of range, or without meaning for the `kind`.

    Notes
    -----
    .. math::
        \ell = - \log \frac{\exp z_{u,t(u)}}{\sum_j \exp z_{uj}},
        \qquad z = \min (e^{\theta}, s_{\max}) \, F + b

    with :math:`t` in `target`, :math:`\theta` in `log_scale`, :math:`s_{\max}` in `max_scale` and
    :math:`b` in `item_bias`; for ``"contrastive"`` the mean of the rows' and the columns' loss
    against the diagonal.

    The temperature of Radford et al. (2021), "Learning transferable visual models from natural
    language supervision": learned as a logarithm, 0.07 at first, the scale clamped to 100. There
    the parameter is clamped after each step. Here the value is, and at the bound only a gradient
    that leads back below it passes, so that training needs no line for it and still cannot get
    stuck.

    Popularity: ``item_bias=log_popularity`` in training, left out in serving, is the logit
    adjustment of Menon et al. (2021), "Long-tail learning via logit adjustment". In-batch softmax
    with the correction of Yi et al. (2019) is ``"cross_entropy"`` over the items of the batch, with
    ``target=torch.arange(B)`` and ``item_bias=-log_sampling_probability``.

    Shapes: `user` ``[U, D]`` and `item` ``[P, D]`` to a scalar, or ``[U]`` for reduction
    ``"none"``; float64 for float64 inputs and float32 for float32, bfloat16 and float16.

    Examples
    --------
    >>> import torch
    >>> from fusionops.nn import FusionLoss
    >>> loss = FusionLoss("contrastive", normalization="cosine", scale=2.0)
    >>> loss(torch.eye(3), torch.eye(3))
    tensor(0.2395, grad_fn=...)
    >>> fixed = FusionLoss(scale=1.0, learnable=False)
    >>> item = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])
    >>> fixed(torch.eye(2), item, torch.tensor([0, 1]))
    tensor(0.7067)
    """

    log_scale: nn.Parameter | None

    def __init__(
        self,
        kind: str = "cross_entropy",
        *,
        normalization: str = "diagonal",
        power: float = 0.5,
        ridge: float = 0.0,
        eps: float = 0.0,
        scale: float = 1 / 0.07,
        learnable: bool = True,
        max_scale: float = 100.0,
        label_smoothing: float = 0.0,
        ignore_index: int = -100,
        reduction: str = "mean",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.kind = _checks.choice("kind", kind, KINDS)
        found = _checks.norm(normalization, power, ridge, eps)
        self.normalization, self.power, self.ridge, self.eps = found
        self.label_smoothing = _checks.probability("label_smoothing", label_smoothing)
        self.ignore_index = _checks.count("ignore_index", ignore_index, -(1 << 63))
        self.reduction = _checks.choice("reduction", reduction, REDUCTIONS)
        if self.kind == "contrastive":
            self._check_unused("label_smoothing", label_smoothing, 0.0)
            self._check_unused("ignore_index", ignore_index, -100)
            self._check_unused("reduction", reduction, "mean")
        self.initial_scale = _checks.number("scale", scale)
        self.max_scale = _checks.number("max_scale", max_scale)
        if _checks.flag("learnable", learnable):
            if not 0 < self.initial_scale <= self.max_scale:
                raise ValueError(
                    f"scale: expected a number in (0, max_scale = {max_scale:g}], got {scale}"
                )
            self.log_scale = nn.Parameter(torch.empty(1, device=device, dtype=dtype))
        else:
            self.register_parameter("log_scale", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The initial scale."""
        if self.log_scale is not None:
            nn.init.constant_(self.log_scale, math.log(self.initial_scale))

    @property
    def scale(self) -> Tensor | float:
        """What scores are multiplied by: a 0-d tensor where it is learned, or a number."""
        if self.log_scale is None:
            return self.initial_scale
        log_scale = self.log_scale.squeeze(0)
        if log_scale.dtype != torch.float64:
            log_scale = log_scale.float()  # an exp in half would be coarse
        bounded: Tensor = _Bounded.apply(log_scale, math.log(self.max_scale))
        return bounded.exp()

    def forward(
        self,
        user: Tensor,
        item: Tensor,
        target: Tensor | None = None,
        *,
        item_bias: Tensor | None = None,
        exclude: Any = None,
        ids: Tensor | None = None,
    ) -> Tensor:
        """The loss.

        Parameters
        ----------
        user : Tensor
            ``[U, D]``.
        item : Tensor
            ``[P, D]``: the catalogue, or for ``"contrastive"`` the item of each user.
        target : Tensor
            ``[U]``, integers: the item of each user. Not for ``"contrastive"``.
        item_bias : Tensor, optional
            ``[P]``, added to the logits, e.g. a correction for popularity. Not for
            ``"contrastive"``.
        exclude : ragged lists of item indices per user, optional
            Items that are no negatives. Not for ``"contrastive"``.
        ids : Tensor, optional
            ``[U]``: rows with one id are not each other's negatives. Only for ``"contrastive"``.

        Returns
        -------
        Tensor
            A scalar, or ``[U]`` for reduction ``"none"``.

        Raises
        ------
        TypeError, ValueError, IndexError
            As for the operators; ValueError for an argument that the `kind` does not take.
        """
        norm: dict[str, Any] = {
            "normalization": self.normalization,
            "power": self.power,
            "ridge": self.ridge,
            "eps": self.eps,
        }
        if self.kind == "contrastive":
            for name, value in (("target", target), ("item_bias", item_bias), ("exclude", exclude)):
                self._check_unused(name, value, None)
            return ops.fusion_contrastive(user, item, scale=self.scale, ids=ids, **norm)
        self._check_unused("ids", ids, None)
        return ops.fusion_cross_entropy(
            user,
            item,
            target,  # type: ignore[arg-type] # a missing one is the operator's to name
            scale=self.scale,
            item_bias=item_bias,
            exclude=exclude,
            label_smoothing=self.label_smoothing,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            **norm,
        )

    def _check_unused(self, name: str, value: Any, default: object) -> None:
        """`value` must be left at its default, as the kind of loss has no use for it."""
        if value is default or (default is not None and value == default):
            return
        got = type(value).__name__ if default is None else repr(value)
        raise ValueError(f"{name}: expected {default!r} for kind {self.kind!r}, got {got}")

    def extra_repr(self) -> str:
        """The kind, the normalisation and the scale, for ``repr``."""
        bound = f"max_scale={self.max_scale:g}" if self.log_scale is not None else "learnable=False"
        return (
            f"{self.kind!r}, normalization={self.normalization!r}, "
            f"scale={self.initial_scale:.4g}, {bound}"
        )


class _Bounded(torch.autograd.Function):
    """``min(x, most)``, whose gradient at the bound is 0 only where a step along it leads out."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, most: float) -> Tensor:
        return x.clamp(max=most)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.most = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return grad.masked_fill((x >= ctx.most) & (grad < 0), 0), None
