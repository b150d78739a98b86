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
        A local folder or file, or an id on the Hugging Face hub. A ``.pt`` or ``.safetensors`` file
        for sounds is that of a recurrent encoder; the word ``"recurrent"`` is one without weights,
        to be trained from nothing.
    adaptation : {"frozen", "lora", "full"}
        What of its weights is trained.
    options
        Those of the ``from_pretrained`` of the encoder, e.g. ``pooling``, ``max_length``, ``rank``,
        ``dtype``.

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
    if modality == "audio":
        return _audio(model, adaptation, options)
    raise ValueError(f"modality: expected 'text', 'image' or 'audio', got {modality!r}")


def _audio(model: str | Path, adaptation: Adaptation, options: dict[str, Any]) -> Encoder:
    from fusionops.models.encoders.audio import AudioEncoder
    from fusionops.models.encoders.recurrent_audio import RecurrentAudioEncoder

    if model == "recurrent":
        if adaptation == "frozen":
            raise ValueError(
                "adaptation: expected 'full' for a recurrent encoder without weights, got 'frozen'"
            )
        return RecurrentAudioEncoder(adaptation=adaptation, **options)
    if isinstance(model, (str, Path)) and Path(model).suffix in (".pt", ".safetensors"):
        return RecurrentAudioEncoder.from_pretrained(model, adaptation=adaptation, **options)
    return AudioEncoder.from_pretrained(model, adaptation=adaptation, **options)
