"""What the encoders of every modality have in common: raw content in, one vector each out."""

from __future__ import annotations

import enum
import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fusionops.models.encoders.adaptation import Adaptation, checked


class Unreadable(ValueError):  # noqa: N818 - what content is, as StopIteration
    """The content of one thing cannot be read; the message says why, without saying whose it is."""


class Encoder(nn.Module, ABC):
    """Turns raw content of one modality into vectors.

    Content goes through :meth:`prepare` one by one (which is where files are read, and what a
    worker process can do), through :meth:`collate` into batches, and through the module itself. A
    vector does not depend on what else is in its batch, up to rounding.

    Parameters
    ----------
    width : int
        Of the vectors.
    adaptation : {"frozen", "lora", "full"}
        What of the weights is trained; see :mod:`fusionops.models.encoders.adaptation`. A frozen
        encoder stays in evaluation mode whatever ``train`` says, and gives no gradient.

    Attributes
    ----------
    modality : str
        Of the class: ``"text"``, ``"image"`` or ``"audio"``.
    width : int
        Of the vectors.
    adaptation : str
        As given.
    """

    modality: ClassVar[str]

    def __init__(self, width: int, adaptation: Adaptation) -> None:
        super().__init__()
        self.width = width
        self.adaptation = checked(adaptation)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return next(self.parameters()).dtype

    @abstractmethod
    def prepare(self, content: Any) -> dict[str, Any]:
        """Read one thing into what the model takes.

        Parameters
        ----------
        content : object
            A text; a path; an array; what the modality knows.

        Raises
        ------
        Unreadable
            It is missing, damaged, empty or something else.
        """

    def length(self, prepared: Mapping[str, Any]) -> int:
        """What a batch of it costs, in tokens, samples or windows: group by this to pad little."""
        return 1

    @abstractmethod
    def collate(self, prepared: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Stack what :meth:`prepare` gave to a batch, padded on the right."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """All that a vector depends on besides the weights, for :meth:`fingerprint`."""

    @abstractmethod
    def encode(self, **batch: Tensor) -> Tensor:
        """What :meth:`forward` does, with or without a gradient."""

    def forward(self, **batch: Tensor) -> Tensor:
        """The vectors of a batch of :meth:`collate`.

        Returns
        -------
        Tensor
            ``[B, width]`` in the dtype of the weights, with a gradient unless frozen.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.adaptation != "frozen"):
            return self.encode(**batch)

    def save(self, folder: Path) -> dict[str, Any]:
        """Write weights, configuration and preprocessing as :func:`load_encoder` reads them.

        The additions of LoRA are added to the weights. See :mod:`fusionops.models.encoders.saving`.

        Parameters
        ----------
        folder : Path
            Is there.

        Returns
        -------
        dict
            For JSON: the options of :func:`load_encoder` with which it is this encoder again, and
            as ``model`` the file in the folder, where it is one.
        """
        raise NotImplementedError(f"{type(self).__name__} has no format to be saved in")

    @property
    def dtype_name(self) -> str:
        """The dtype of the weights by its name, as options say it."""
        return str(self.dtype).removeprefix("torch.")

    def train(self, mode: bool = True) -> Encoder:
        """Choose training or evaluation mode; what is frozen is always in the latter.

        The statistics of batch normalisation are frozen, too: a few things say less of them than
        what the model was pretrained on, and vectors would depend on what else is in the batch.
        """
        super().train(mode and self.adaptation != "frozen")
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def fingerprint(self) -> str:
        """A hash over weights, configuration and preprocessing, the key of cached vectors.

        Returns
        -------
        str
            SHA-256 in hexadecimal digits, the same in every process and on every device.
        """
        settings = {"encoder": type(self).__name__, **self.settings()}
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=_plain).encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(f"\0{name} {tensor.dtype} {list(tensor.shape)}\0".encode())
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().data)
        return digest.hexdigest()


def path_of(content: Any) -> str | None:
    """`content` as the path of a file that is there, None where it is no path.

    Raises
    ------
    Unreadable
        There is no such file, or it is empty.
    """
    if not isinstance(content, (str, os.PathLike)):
        return None
    path = os.path.expanduser(os.fspath(content))
    if not os.path.isfile(path):
        raise Unreadable("there is no such file" if not os.path.exists(path) else "not a file")
    if os.path.getsize(path) == 0:
        raise Unreadable("the file is empty")
    return path


def reason(error: BaseException) -> str:
    """What a library says of an error, on one line."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def _plain(value: Any) -> Any:
    """For JSON, what settings of libraries hold; never an address in memory."""
    if isinstance(value, enum.Enum):
        return value.value
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (torch.dtype, os.PathLike)):
        return str(value)
    return sorted(map(str, value)) if isinstance(value, (set, frozenset)) else type(value).__name__
