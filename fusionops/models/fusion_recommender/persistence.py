"""A FusionRecommender in a folder: what transformers writes, and what it does not know of.

``config.json`` and ``model.safetensors`` are those of every PreTrainedModel. Beside them stand
``shelf.safetensors`` and ``shelf.json`` (histories, ids, columns) and ``fusionops.json``, which
holds the SHA-256 of all of them. Everything is written into a temporary folder first, then moved,
``fusionops.json`` last: a save that dies in between is seen when the model is loaded.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from fusionops.models.fusion_recommender.config import FORMAT_VERSION, FusionRecommenderConfig

FORMAT = "fusionops.FusionRecommender"

MODEL_TYPE = FusionRecommenderConfig.model_type

_MANIFEST, _CONFIG = "fusionops.json", "config.json"
_ARRAYS, _TABLES = "shelf.safetensors", "shelf.json"

Arrays = dict[str, npt.NDArray[Any]]


def save_folder(
    path: str | Path,
    write_network: Callable[[Path], None],
    tables: dict[str, Any],
    arrays: Arrays,
) -> None:
    """Write a model into a folder, over an older one or new.

    Parameters
    ----------
    path : str or Path
        Made where it does not exist.
    write_network : callable
        Writes what transformers knows of into a folder.
    tables, arrays : dict
        The shelf.

    Raises
    ------
    FileExistsError
        The path is a file, or holds the config of another kind of model.
    """
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"path: expected a directory, got the file {folder}")
    if not (folder / _MANIFEST).exists() and _is_foreign(folder / _CONFIG):
        raise FileExistsError(
            f"path: {folder} holds a {_CONFIG} that is no {FORMAT}, and is left as it is"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.saving-", dir=folder.parent))
    try:
        write_network(temporary)
        save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, temporary / _ARRAYS)
        (temporary / _TABLES).write_text(json.dumps(tables, ensure_ascii=False, allow_nan=False))
        names = sorted(str(f.relative_to(temporary)) for f in temporary.rglob("*") if f.is_file())
        manifest = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "files": {name: _digest(temporary / name) for name in names},
        }
        (temporary / _MANIFEST).write_text(json.dumps(manifest, indent=2))
        before = _names_in(folder / _MANIFEST)
        for name in (*names, _MANIFEST):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (temporary / name).replace(folder / name)
        for name in before - set(names):  # weights in other shards would be read in place of ours
            (folder / name).unlink(missing_ok=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def load_shelf(path: str | Path) -> tuple[dict[str, Any], Arrays]:
    """Check all files of a saved model, and read those that transformers does not.

    Raises
    ------
    FileNotFoundError
        There is no model, or one of its files is gone.
    ValueError
        A file is damaged, of something else, or of a later version.
    """
    folder = Path(path)
    file = folder / _MANIFEST
    if not file.exists():
        raise FileNotFoundError(
            f"path: expected a directory with {_MANIFEST}, as FusionRecommender.save_pretrained "
            f"writes it, got {folder}"
        )
    manifest = _read_json(file)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
        raise ValueError(f"{file}: expected a model of format {FORMAT!r}, got {found!r}")
    if manifest.get("version") != FORMAT_VERSION:
        raise ValueError(
            f"{file}: expected format version {FORMAT_VERSION}, got {manifest.get('version')!r}; "
            "use the fusionops that wrote it"
        )
    files = manifest.get("files")
    lacking = {_CONFIG, _ARRAYS, _TABLES} - set(files if isinstance(files, dict) else ())
    if lacking or not isinstance(files, dict):
        raise ValueError(f"{file} is damaged: expected the SHA-256 of {min(lacking)}, got none")
    for name, expected in files.items():
        if not (folder / name).exists():
            raise FileNotFoundError(f"{folder / name} is missing; the model cannot be read without")
        found = _digest(folder / name)
        if found != expected:
            raise ValueError(
                f"{folder / name} is damaged: expected SHA-256 {expected[:16]}..., "
                f"got {found[:16]}..."
            )
    try:
        return _read_json(folder / _TABLES), load_file(folder / _ARRAYS)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{folder} is damaged or incomplete: {error}") from None


def _is_foreign(config: Path) -> bool:
    """Whether a config is there, and not one of ours beside which a save has died."""
    try:
        return bool(json.loads(config.read_bytes()).get("model_type") != MODEL_TYPE)
    except FileNotFoundError:
        return False
    except (ValueError, AttributeError):
        return True


def _names_in(manifest: Path) -> set[str]:
    """The files of the model that is there now."""
    try:
        return set(json.loads(manifest.read_bytes())["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file} is damaged: it is not JSON ({error})") from None


def _digest(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while block := opened.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
