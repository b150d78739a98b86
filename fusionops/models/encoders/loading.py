"""An encoder by its modality and the name of its model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fusionops.models.encoders.adaptation import Adaptation
from fusionops.models.encoders.base import Encoder


def load_encoder(
    modality: str, model: str | Path, *, adaptation: Adaptation = "frozen", **options: Any
) -> Encoder:
    """Load a pretrained encoder.

    Parameters
    ----------
    modality : {"text", "image", "audio"}
        What it reads.
    model : str or Path
        A local folder or file, or an id on the Hugging Face hub.
    adaptation : {"frozen", "lora", "full"}
        What of its weights is trained.
    options
        Those of the ``from_pretrained`` of :class:`TextEncoder`, ``ImageEncoder`` or
        ``AudioEncoder``, e.g. ``pooling``, ``max_length``, ``rank``, ``dtype``.

    Raises
    ------
    OSError
        Nothing is there, or the hub does not give it; the message says how to use a folder.
    ValueError
        No such modality or option's value, or the folder does not hold such a model.

    Examples
    --------
    >>> encoder = load_encoder("text", "sentence-transformers/all-MiniLM-L6-v2")  # doctest: +SKIP
    >>> batch = encoder.collate([encoder.prepare("white metal lantern")])  # doctest: +SKIP
    >>> encoder(**batch).shape  # doctest: +SKIP
    torch.Size([1, 384])
    """
    if modality == "text":
        from fusionops.models.encoders.text import TextEncoder

        return TextEncoder.from_pretrained(model, adaptation=adaptation, **options)
    if modality == "image":
        from fusionops.models.encoders.image import ImageEncoder

        return ImageEncoder.from_pretrained(model, adaptation=adaptation, **options)
    raise ValueError(f"modality: expected 'text', 'image' or 'audio', got {modality!r}")
