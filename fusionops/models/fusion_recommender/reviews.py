"""What users wrote themselves, with how they rated, as one token."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fusionops import ops
from fusionops.models.fusion_recommender.profile import unit_norm


class ReviewTokens(nn.Module):
    """The mean of a user's reviews beside their mean weighted by rating.

    The second is what tells praise from complaint: two users who write about the same things and
    rate them differently differ in it.

    Parameters
    ----------
    width : int
        Of the vectors of reviews.
    dim : int
        D.
    num_reviews, num_users : int

    Attributes
    ----------
    vectors, ratings, present : Tensor
        ``[R, width]``, ``[R]`` standardised with 0 for none, and bool ``[R]``; set by ``fit``.
    offsets : Tensor
        ``int64 [U + 1]``: the reviews of each user.
    """

    vectors: Tensor
    ratings: Tensor
    present: Tensor
    offsets: Tensor

    def __init__(self, width: int, dim: int, num_reviews: int, num_users: int) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.zeros(num_reviews, width))
        self.register_buffer("ratings", torch.zeros(num_reviews))
        self.register_buffer("present", torch.zeros(num_reviews, dtype=torch.bool))
        self.register_buffer("offsets", torch.zeros(num_users + 1, dtype=torch.long))
        self.projection = nn.Sequential(nn.Linear(2 * width, dim), unit_norm(dim))

    def forward(self, chosen: tuple[Tensor, Tensor] | None, users: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens ``[B, D]``, and where there is one.

        Parameters
        ----------
        chosen : pair of Tensor, optional
            ``int64 [B + 1]`` offsets and ``int64 [n]`` rows of reviews; by default all of the
            users'.
        users : Tensor
            ``int64 [B]`` codes, -1 for strangers.
        """
        offsets, rows = self._all_of(users) if chosen is None else chosen
        counted = self.present[rows].to(self.vectors.dtype)
        ones = torch.ones_like(counted)
        count = ops.history_fusion(counted[:, None], offsets, weights=ones)[:, 0]
        lengths = offsets.diff()
        share = counted / count.clamp(min=1).repeat_interleave(lengths, output_size=len(rows))
        means = [
            ops.history_fusion(self.vectors, offsets, weights=weights, ids=rows)
            for weights in (share, share * self.ratings[rows])
        ]
        return self.projection(torch.cat(means, 1)), count > 0

    def _all_of(self, users: Tensor) -> tuple[Tensor, Tensor]:
        known = users >= 0
        code = users.clamp(min=0)
        starts = self.offsets[code]
        lengths = torch.where(known, self.offsets[code + 1] - starts, 0)
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        shift = (starts - offsets[:-1]).repeat_interleave(lengths)
        return offsets, torch.arange(int(offsets[-1]), device=users.device) + shift
