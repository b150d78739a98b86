"""An encoder without a model, for what is done around encoders; also in processes of their own."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fusionops.models.encoders.base import Encoder, Unreadable

WIDTH = 4


class Letters(Encoder):
    """The mean of an embedding of the bytes of a text, or of a file that does not begin with BAD.

    Parameters
    ----------
    seed : int
        Of the weights.
    seconds : float
        That a batch takes.
    stop : BaseException, optional
        Raised in the third batch, as Ctrl-C and crashes are.

    Attributes
    ----------
    prepared : list
        What was handed to it, in order: what was not used again.
    batches : list of (int, int)
        Sizes and padded lengths of the batches.
    """

    modality = "text"

    def __init__(
        self, seed: int = 0, seconds: float = 0.0, stop: BaseException | None = None
    ) -> None:
        super().__init__(WIDTH, "full")
        self.embedding = nn.Embedding(257, WIDTH, padding_idx=256)
        weights = torch.randn(257, WIDTH, generator=torch.Generator().manual_seed(seed))
        self.embedding.weight.data.copy_(weights).data[256] = 0
        self.dropout = nn.Dropout(0.5)  # which is seen where evaluation mode is forgotten
        self.seconds, self.stop = seconds, stop
        self.prepared: list[Any] = []
        self.batches: list[tuple[int, int]] = []

    def prepare(self, content: Any) -> dict[str, Any]:
        self.prepared.append(content)
        data = content.read_bytes() if isinstance(content, Path) else str(content).encode()
        if data.startswith(b"BAD"):
            raise Unreadable("it begins with BAD")
        return {"codes": list(data)}

    def length(self, prepared: Mapping[str, Any]) -> int:
        return len(prepared["codes"])

    def collate(self, prepared: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        longest = max(len(one["codes"]) for one in prepared)
        rows = [one["codes"] + [256] * (longest - len(one["codes"])) for one in prepared]
        return {"codes": torch.tensor(rows)}

    def settings(self) -> dict[str, Any]:
        return {}

    def encode(self, codes: Tensor) -> Tensor:
        time.sleep(self.seconds)
        if self.stop is not None and len(self.batches) == 2:
            raise self.stop
        self.batches.append(tuple(codes.shape))
        total = self.dropout(self.embedding(codes)).sum(1)
        return total / (codes < 256).sum(1, keepdim=True)


class Files(Letters):
    """The same of files."""

    modality = "image"
