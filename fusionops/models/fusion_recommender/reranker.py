"""The second stage: a user's latest items and the best candidates, looking at each other."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fusionops.nn import BidirectionalFusion


class Reranker(nn.Module):
    r"""Scores of candidates from interactive fusion with the items of a history.

    Parameters
    ----------
    dim : int
        D.

    Notes
    -----
    With :math:`H` the tokens of the history and :math:`C` those of the candidates, bidirectional
    fusion gives what each candidate takes from the history, :math:`\tilde C`, and what each token
    of the history takes from the candidates, whose mean is :math:`\tilde h`. Then

    .. math::
        z_c = s_c + w^\top \operatorname{gelu} (W [C_c, \tilde C_c, C_c \odot \tilde C_c, \tilde h])

    with :math:`s_c` the score of retrieval. :math:`w` begins at 0, and so the second stage at the
    order of the first.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fusion = BidirectionalFusion(dim)
        self.norm = nn.LayerNorm(dim)
        self.hidden = nn.Linear(4 * dim, dim)
        self.output = nn.Linear(dim, 1, bias=False)
        nn.init.zeros_(self.output.weight)

    def forward(
        self,
        history: Tensor,
        candidates: Tensor,
        scores: Tensor,
        *,
        history_mask: Tensor,
        candidate_mask: Tensor,
    ) -> Tensor:
        """The scores.

        Parameters
        ----------
        history : Tensor
            ``[B, N, D]``.
        candidates : Tensor
            ``[B, C, D]``.
        scores : Tensor
            ``[B, C]``, of retrieval.
        history_mask, candidate_mask : Tensor
            Bool ``[B, N]`` and ``[B, C]``.

        Returns
        -------
        Tensor
            ``[B, C]``, -inf where there is no candidate.
        """
        history, candidates = self.norm(history), self.norm(candidates)
        of_history, of_candidates = self.fusion(
            history, candidates, user_mask=history_mask, item_mask=candidate_mask
        )
        count = history_mask.sum(1, keepdim=True).clamp(min=1)
        context = (of_history.sum(1) / count)[:, None].expand_as(candidates)
        joined = torch.cat([candidates, of_candidates, candidates * of_candidates, context], 2)
        change = self.output(nn.functional.gelu(self.hidden(joined))).squeeze(2)
        ranked: Tensor = (scores + change).masked_fill(~candidate_mask, float("-inf"))
        return ranked
