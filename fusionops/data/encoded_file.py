"""Encoded vectors in files: one safetensors file a modality, with the hash of every content.

Tensors: ``vectors`` float32 [n, width], ``present`` bool [n], ``hashes`` uint8 [n, 32] and ``ids``,
JSON in UTF-8 (a header of safetensors ends at 100 MB, which the ids of a large catalogue pass).
Metadata: format, version, the source, and a SHA-256 over all of it, so that damage is seen.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fusionops.data.encoded import Encoded
from fusionops.data.ids import IdMap
from fusionops.files import replacing_file

FORMAT = "fusionops.Encoded"
VERSION = "1"
SUFFIX = ".safetensors"

HASH_BYTES = 32
"""Of a content: its SHA-256. All zeros where there is none."""

Hashes = npt.NDArray[np.uint8]
_Tensors = dict[str, npt.NDArray[Any]]


def write_encoded(path: str | Path, encoded: Encoded, hashes: Hashes | None = None) -> None:
    """Write vectors to a file, which appears whole or not at all.

    Parameters
    ----------
    path : str or Path
        The file; its folder is made where it is missing.
    encoded : Encoded
        What to write.
    hashes : numpy.ndarray, optional
        ``uint8 [n, 32]``, the SHA-256 of the content of each row, zeros where there is none.
        Vectors without hashes are never taken for those of a content.

    Raises
    ------
    IsADirectoryError
        The path is a folder.
    ValueError
        The hashes have another shape.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"path: expected a file, got the folder {path}")
    if hashes is None:
        hashes = np.zeros((len(encoded), HASH_BYTES), np.uint8)
    if hashes.shape != (len(encoded), HASH_BYTES):
        raise ValueError(
            f"hashes: expected the shape [{len(encoded)}, {HASH_BYTES}], got {list(hashes.shape)}"
        )
    tensors = {
        "vectors": np.ascontiguousarray(encoded.vectors),
        "present": np.ascontiguousarray(encoded.present),
        "hashes": np.ascontiguousarray(hashes, np.uint8),
        "ids": np.frombuffer(json.dumps(encoded.ids.ids.tolist()).encode(), np.uint8),
    }
    source = json.dumps(dict(encoded.source), sort_keys=True)
    metadata = {"format": FORMAT, "version": VERSION, "source": source}
    metadata["sha256"] = _digest(source, tensors)
    with replacing_file(path) as file:
        file.write(save(tensors, metadata))


def read_encoded(path: str | Path) -> tuple[Encoded, Hashes]:
    """Vectors of a file of :func:`write_encoded`, and the hashes of their contents.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It is something else, of another version, or damaged.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"path: expected a file of {FORMAT}, got the folder {path}")
    if not path.exists():
        raise FileNotFoundError(f"path: there is no file {path}")
    metadata, tensors = _open(path)
    try:
        if _digest(metadata["source"], tensors) != metadata["sha256"]:
            raise ValueError("its checksum is another")
        source = json.loads(metadata["source"])
        ids = IdMap(json.loads(tensors["ids"].tobytes()))
        encoded = Encoded(ids, tensors["vectors"], tensors["present"], source)
        return encoded, tensors["hashes"].reshape(len(encoded), HASH_BYTES)
    except KeyError as error:
        raise ValueError(f"{path} is damaged: it has no {error}") from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None


def load_features(folder: str | Path) -> dict[str, Encoded]:
    """The vectors of a folder of files, each under its name without ``.safetensors``.

    Parameters
    ----------
    folder : str or Path
        As ``fusionops encode`` writes it.

    Raises
    ------
    FileNotFoundError
        There is no such folder, or no such file in it.
    ValueError
        A file is something else, of another version, or damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"features: there is no folder {folder}")
    files = sorted(folder.glob(f"[!.]*{SUFFIX}"))
    if not files:
        raise FileNotFoundError(
            f"features: expected files *{SUFFIX} as fusionops encode writes them in {folder}, "
            "got none"
        )
    return {file.name.removesuffix(SUFFIX): Encoded.load(file) for file in files}


def _open(path: Path) -> tuple[dict[str, str], _Tensors]:
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            _check_kind(path, metadata)
            return metadata, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(
            f"{path}: expected a file of {FORMAT}, got a damaged one or one that is not "
            f"safetensors ({error})"
        ) from None


def _check_kind(path: Path, metadata: dict[str, str]) -> None:
    found = metadata.get("format")
    if found != FORMAT:
        raise ValueError(f"{path}: expected a file of {FORMAT}, got the format {found!r}")
    if metadata.get("version") != VERSION:
        raise ValueError(
            f"{path}: expected format version {VERSION}, got {metadata.get('version')!r}; use the "
            "fusionops that wrote it"
        )


def _digest(source: str, tensors: _Tensors) -> str:
    digest = hashlib.sha256(source.encode())
    for _, array in sorted(tensors.items()):
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
