"""An adapted encoder in a folder of its own, which needs neither peft nor the hub to be read."""

from __future__ import annotations

import json
from pathlib import Path

from fusionops.models.encoders.adaptation import Adaptation
from fusionops.models.encoders.base import Encoder
from fusionops.models.encoders.loading import load_encoder

FILE = "encoder.json"


def save_encoder(encoder: Encoder, folder: str | Path) -> None:
    """Write what an encoder has become.

    The folder is that of a model of its library; what LoRA has learned is added to the weights,
    where it moves vectors by rounding.

    Parameters
    ----------
    encoder : Encoder
    folder : str or Path
        Made where it does not exist.
    """
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    options = encoder.save(path)
    described = {"modality": encoder.modality, "options": options}
    (path / FILE).write_text(json.dumps(described, indent=2))


def load_saved(folder: str | Path, *, adaptation: Adaptation = "frozen") -> Encoder:
    """Read what :func:`save_encoder` wrote.

    Parameters
    ----------
    folder : str or Path
    adaptation : {"frozen", "lora", "full"}
        What is trained from now on.

    Raises
    ------
    FileNotFoundError
        There is no encoder.
    ValueError
        It is damaged.
    """
    path = Path(folder)
    if not (path / FILE).exists():
        raise FileNotFoundError(f"folder: expected an encoder with {FILE}, got {path}")
    try:
        described = json.loads((path / FILE).read_bytes())
        modality, options = described["modality"], dict(described["options"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path / FILE} is damaged: {error}") from None
    model = path / options.pop("model", "")
    return load_encoder(modality, model, adaptation=adaptation, **options)
