"""Saving a model: arrays in safetensors, the rest in JSON, replaced as a whole or not at all.

The data files carry their SHA-256 in their names, and ``config.json``, written last and moved into
place in one step, says which of them belong together. A save that dies leaves the old config and
the old files; what it had written already is removed by the next one. One writer at a time.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load, save

from fusionops.files import write_atomically

FORMAT = "fusionops.LinearFusion"
VERSION = 3  # 2 did not keep what items without history are like; 1 had another kernel

_CONFIG = "config.json"
_DATA_FILE = re.compile(r"(model-[0-9a-f]{16}\.safetensors|tables-[0-9a-f]{16}\.json)")
_TEMPORARY = ".saving-"

Arrays = dict[str, npt.NDArray[Any]]


def save_directory(
    path: str | Path, config: Mapping[str, Any], tables: Mapping[str, Any], arrays: Arrays
) -> None:
    """Write a model into a directory, over an older one or new.

    Parameters
    ----------
    path : str or Path
        Made where it does not exist.
    config : mapping
        Small and readable: parameters.
    tables : mapping
        Large and textual: ids and columns.
    arrays : dict of str to numpy.ndarray

    Raises
    ------
    FileExistsError
        The path is a file, or a directory with another ``config.json`` than one of ours.
    """
    directory = Path(path)
    if directory.exists() and not directory.is_dir():
        raise FileExistsError(f"path: expected a directory, got the file {directory}")
    if (directory / _CONFIG).exists() and not _is_ours(directory / _CONFIG):
        raise FileExistsError(
            f"path: {directory} holds a {_CONFIG} that is no {FORMAT}, and is left as it is"
        )
    directory.mkdir(parents=True, exist_ok=True)
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    files = {
        "arrays": _write_data(directory, "model-{}.safetensors", save(contiguous)),
        "tables": _write_data(directory, "tables-{}.json", _json(tables)),
    }
    whole = {"format": FORMAT, "version": VERSION, **config, "files": files}
    write_atomically(directory / _CONFIG, _json(whole, indent=2), _TEMPORARY)
    current = {entry["name"] for entry in files.values()}
    for file in directory.iterdir():
        old = _DATA_FILE.fullmatch(file.name) and file.name not in current
        if old or file.name.startswith(_TEMPORARY):
            file.unlink()


def load_directory(path: str | Path) -> tuple[dict[str, Any], dict[str, Any], Arrays]:
    """The config, tables and arrays of a saved model.

    Raises
    ------
    FileNotFoundError
        There is no model, or one of its files is gone.
    ValueError
        A file is damaged, of something else, or of a later version.
    """
    directory = Path(path)
    file = directory / _CONFIG
    if not file.exists():
        raise FileNotFoundError(f"path: expected a directory with {_CONFIG}, got {directory}")
    try:
        config = json.loads(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file} is damaged: it is not JSON ({error})") from None
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        found = config.get("format") if isinstance(config, dict) else type(config).__name__
        raise ValueError(f"{file}: expected a model of format {FORMAT!r}, got {found!r}")
    if config.get("version") != VERSION:
        raise ValueError(
            f"{file}: expected format version {VERSION}, got {config.get('version')!r}; "
            "use the fusionops that wrote it"
        )
    try:
        names = {role: config["files"][role] for role in ("arrays", "tables")}
        arrays = load(_read_data(directory, names["arrays"]))
        tables = json.loads(_read_data(directory, names["tables"]))
    except KeyError as error:
        raise ValueError(f"{file} is damaged: it has no {error}") from None
    return config, tables, arrays


def _is_ours(config: Path) -> bool:
    try:
        found = json.loads(config.read_bytes())
    except ValueError:
        return False
    return isinstance(found, dict) and found.get("format") == FORMAT


def _json(value: Any, indent: int | None = None) -> bytes:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    return text.encode() + b"\n"


def _write_data(directory: Path, pattern: str, data: bytes) -> dict[str, str]:
    digest = hashlib.sha256(data).hexdigest()
    name = pattern.format(digest[:16])
    write_atomically(directory / name, data, _TEMPORARY)
    return {"name": name, "sha256": digest}


def _read_data(directory: Path, entry: Mapping[str, str]) -> bytes:
    name, digest = entry["name"], entry["sha256"]
    if not _DATA_FILE.fullmatch(name):
        raise ValueError(f"{directory / _CONFIG} is damaged: it names the file {name!r}")
    if not (directory / name).exists():
        raise FileNotFoundError(f"{directory / name} is missing; the model cannot be read without")
    data = (directory / name).read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        raise ValueError(
            f"{directory / name} is damaged: expected SHA-256 {digest[:16]}..., got {found[:16]}..."
        )
    return data
