"""Pictures to vectors by vision models of transformers (ViT, CLIP, ResNet...) or of timm."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fusionops.models.encoders import _hub, _timm
from fusionops.models.encoders.adaptation import Adaptation, adapt, merged
from fusionops.models.encoders.base import Encoder, Unreadable, path_of, reason


class ImageEncoder(Encoder):
    """A network over pictures, and what is done to them first.

    Parameters
    ----------
    backbone : torch.nn.Module
        Pixels ``[B, 3, H, W]`` to vectors ``[B, width]``; :meth:`from_pretrained` loads one.
    transform : callable
        A PIL picture in RGB to its pixels ``[3, H, W]``, of one size for all pictures.
    description : dict
        What the vectors depend on besides the weights, for JSON: configuration and transform.
    adaptation : {"frozen", "lora", "full"}
        What of the weights is trained.
    rank : int
        Of ``"lora"``, which goes to the linear layers, or to the convolutions of a network that has
        no linear ones.
    """

    modality = "image"

    def __init__(
        self,
        backbone: nn.Module,
        transform: Callable[[Any], Tensor],
        description: Mapping[str, Any],
        *,
        adaptation: Adaptation = "frozen",
        rank: int = 8,
    ) -> None:
        super().__init__(_width(backbone, transform), adaptation)
        self.transform = transform
        self.description = dict(description)
        adapt(backbone, adaptation, rank)
        self.backbone = backbone
        self.train(self.training)

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        architecture: str | None = None,
        adaptation: Adaptation = "frozen",
        rank: int = 8,
        dtype: str = "float32",
        revision: str | None = None,
    ) -> ImageEncoder:
        """Load a model with its preprocessing.

        Of a model of several towers, such as CLIP, the one of pictures is taken.

        Parameters
        ----------
        model : str or Path
            A folder of transformers or of timm, an id on the Hugging Face hub (``"timm/..."`` is
            loaded by timm), or a file of weights, ``.pth`` or ``.safetensors``.
        architecture : str, optional
            For a file of weights: the name of the model in timm. Weights with other names are taken
            in order, where all their shapes agree.
        adaptation, rank
            As of the class.
        dtype : str
            Of the weights; ``"auto"``: that of the checkpoint.
        revision : str, optional
            On the hub.

        Raises
        ------
        OSError
            Nothing is there, or the hub does not give it.
        ValueError
            The folder or file is not that of a model, or lacks weights.
        """
        parts = _timm.load(model, architecture, dtype, revision)
        return cls(
            *(parts or _load(_hub.locate(model, revision=revision), dtype)),
            adaptation=adaptation,
            rank=rank,
        )

    def prepare(self, content: Any) -> dict[str, Any]:
        """Pixels of a picture.

        Parameters
        ----------
        content : str, Path, PIL.Image.Image or numpy.ndarray
            A file of any format that PIL reads; an array is ``uint8 [H, W]`` or ``[H, W, 3]``, or
            ``[H, W, 4]`` with opacity. What is transparent is laid on white.

        Returns
        -------
        dict of str to Tensor
            ``pixels``: ``[3, H, W]``.

        Raises
        ------
        Unreadable
            It is missing, damaged or no picture.
        """
        return {"pixels": self.transform(open_picture(content))}

    def collate(self, prepared: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Stack to ``pixels [B, 3, H, W]``."""
        return {"pixels": torch.stack([one["pixels"] for one in prepared])}

    def encode(self, **batch: Tensor) -> Tensor:
        """The vectors ``[B, width]``."""
        vectors: Tensor = self.backbone(batch["pixels"].to(self.dtype))
        return vectors

    def save(self, folder: Path) -> dict[str, Any]:
        """Write a folder of transformers or of timm.

        Raises
        ------
        TypeError
            The backbone is of neither.
        """
        backbone = merged(self.backbone)
        if isinstance(backbone, _Features) and isinstance(self.transform, _Processing):
            backbone.network.save_pretrained(folder)
            self.transform.processor.save_pretrained(folder)
        else:
            _timm.save(backbone, folder)
        return {"dtype": self.dtype_name}

    def settings(self) -> dict[str, Any]:
        """The configuration, and how pictures are resized, cropped and scaled."""
        return self.description


def open_picture(content: Any) -> Any:
    """A PIL picture in RGB, upright; for an animation, its first.

    Raises
    ------
    Unreadable
        It is missing, damaged or no picture.
    """
    from PIL import Image, UnidentifiedImageError

    path = path_of(content)
    try:
        if path is not None:
            with Image.open(path) as picture:
                return _rgb(picture)
        if isinstance(content, np.ndarray):
            return _rgb(Image.fromarray(content))
        if isinstance(content, Image.Image):
            return _rgb(content)
    except UnidentifiedImageError as error:
        raise Unreadable("it is no picture of a known format") from error
    except Exception as error:  # decoders raise whatever damage makes them meet
        raise Unreadable(f"the picture cannot be read: {reason(error)}") from error
    raise Unreadable(f"expected a path, a picture or an array, got {type(content).__name__}")


def _rgb(picture: Any) -> Any:
    from PIL import Image, ImageOps

    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I"):  # 16 bits, which PIL would cut at 255
        picture = Image.fromarray((np.asarray(picture, np.float64) / 257).astype(np.uint8))
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layer = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


class _Features(nn.Module):
    """A vision model of transformers down to one vector a picture."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        output = self.network(pixel_values=pixels)
        pooled: Tensor | None = output.get("pooler_output")
        if pooled is not None:
            return pooled.flatten(1)
        states: Tensor = output.last_hidden_state
        return states.mean((2, 3)) if states.dim() == 4 else states[:, 0]


@dataclass(frozen=True)
class _Processing:
    """What an image processor of transformers does to one picture."""

    processor: Any

    def __call__(self, picture: Any) -> Tensor:
        pixels: Tensor = self.processor(images=picture, return_tensors="pt")["pixel_values"][0]
        return pixels


def _load(
    source: _hub.Source, dtype: str
) -> tuple[nn.Module, Callable[[Any], Tensor], dict[str, Any]]:
    from transformers import AutoImageProcessor

    config = _hub.load_config(source, "vision")
    processor = _hub.load(AutoImageProcessor, "image processor", source)
    backbone = _Features(_hub.load_backbone(source, config, dtype)).eval()

    description = {
        "config": _hub.configuration(config),
        "processor": {"class": type(processor).__name__, **processor.to_dict()},
    }
    return backbone, _Processing(processor), description


def _width(backbone: nn.Module, transform: Callable[[Any], Tensor]) -> int:
    """Models name it in too many ways: one picture through the network tells."""
    from PIL import Image

    pixels = transform(Image.new("RGB", (64, 64)))
    with torch.no_grad():
        vectors = backbone(pixels[None].to(next(backbone.parameters()).dtype))
    if vectors.dim() != 2:
        raise ValueError(
            f"backbone: expected vectors [B, width] of pictures, got shape {list(vectors.shape)}"
        )
    return int(vectors.shape[1])
