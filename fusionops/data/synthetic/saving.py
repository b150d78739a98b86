"""A synthetic shop as a folder of files."""

from __future__ import annotations

import io
import wave
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import parquet
from safetensors.numpy import save as safetensors_bytes

from fusionops.data.synthetic.factors import MODALITIES
from fusionops.data.synthetic.sounds import RATE
from fusionops.files import write_atomically

if TYPE_CHECKING:
    from fusionops.data.synthetic.shop import Synthetic

README = """\
THIS DATA IS SYNTHETIC. No person bought any of this; no item exists.

It was made by fusionops.data.synthetic: purchases, texts, pictures and sounds are drawn
from known factors, to measure what real data cannot tell.

interactions.parquet  user, item, time; the times mean nothing but an order, which is random
items.parquet         item, description, picture, sound; empty where a content is missing
pictures/, sounds/    PNG, 24 x 24 pixels; WAV, half a second at 8 kHz
truth.safetensors     item.* and user.*, the factors and tastes by modality; main, the user's
                      planted modality (0 text, 1 image, 2 audio); popularity; sharpness
"""


def save(shop: Synthetic, folder: Path) -> None:
    """Write the files; the tables last, so that what they point to is there."""
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"folder: expected a folder, got the file {folder}")
    write_atomically(folder / "README.txt", README.encode())
    write_atomically(folder / "truth.safetensors", safetensors_bytes(_tensors(shop)))
    present = shop.present
    picture = _contents(shop, folder, "pictures/{}.png", shop.pictures, present["image"], _png)
    sound = _contents(shop, folder, "sounds/{}.wav", shop.sounds, present["audio"], _wav)
    ids = {"item": shop.items.ids.ids.tolist()}
    _write_table(
        folder / "items.parquet", {**ids, **shop.items.text, "picture": picture, "sound": sound}
    )
    rows = shop.interactions
    _write_table(
        folder / "interactions.parquet",
        {
            "user": rows.users.decode(rows.user).tolist(),
            "item": rows.items.decode(rows.item).tolist(),
            "time": rows.time,
        },
    )


def _contents(
    shop: Synthetic,
    folder: Path,
    name: str,
    contents: npt.NDArray[Any],
    present: npt.NDArray[np.bool_],
    encode: Callable[[npt.NDArray[Any]], bytes],
) -> list[str | None]:
    """Write a file for each content, and return their paths from the folder."""
    paths: list[str | None] = []
    for id, content, there in zip(shop.items.ids.ids, contents, present, strict=True):
        paths.append(name.format(id) if there else None)
        if there:
            write_atomically(folder / name.format(id), encode(content))
    return paths


def _tensors(shop: Synthetic) -> dict[str, npt.NDArray[Any]]:
    truth = shop.truth
    tensors: dict[str, npt.NDArray[Any]] = {"main": truth.main, "popularity": truth.popularity}
    tensors["sharpness"] = np.array([truth.sharpness], np.float64)
    for name in MODALITIES:
        tensors |= {f"item.{name}": truth.item[name], f"user.{name}": truth.user[name]}
    return tensors


def _png(picture: npt.NDArray[np.uint8]) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="png")
    return buffer.getvalue()


def _wav(sound: npt.NDArray[np.float32]) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.rint(sound * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def _write_table(path: Path, columns: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    parquet.write_table(pa.table(columns), buffer)
    write_atomically(path, buffer.getvalue())
