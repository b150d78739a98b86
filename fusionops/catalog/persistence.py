"""Catalogues in files: one safetensors file, written as a stream, compacted, replaced as a whole.

Tensors: ``panels``, ``stats``, ``vectors``, ``item_scale`` of all items in order of insertion; ids
as ``ids`` (integers; with ``ids_ascending`` and ``ids_order`` where they do not ascend), as
``id_bytes`` (UTF-8) with ``id_ends``, or as a range in the metadata; ``user_map``; ``checksums``
of :mod:`fusionops.catalog.tensor_file`.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fusionops.catalog.ids import Ids, IntegerIds, RangeIds, StringIds, make_ids
from fusionops.catalog.normalization import Norm
from fusionops.catalog.segment import DTYPES, Segment, pack, packed_specs
from fusionops.catalog.snapshot import Part, Snapshot
from fusionops.catalog.tensor_file import TensorSpec, TensorWriter, read_tensors, whole_number
from fusionops.catalog.verified import CatalogFileError, Verified
from fusionops.files import replacing_file

FORMAT = "fusionops.Catalog"
VERSION = 1

_Arrays = dict[str, npt.NDArray[Any]]


def save(snapshot: Snapshot, path: Path) -> None:
    """Write the living items of a snapshot; see :meth:`fusionops.catalog.Catalog.save`."""
    if path.is_dir():
        raise IsADirectoryError(f"path: expected a file, got the folder {path}")
    names = snapshot.names(snapshot.order)
    ids = make_ids("ids", names)
    arrays = _id_arrays(ids, names)
    if snapshot.user_map is not None:
        arrays["user_map"] = snapshot.user_map
    specs = _item_specs(snapshot.norm, snapshot.dtype, len(snapshot), snapshot.width)
    specs |= {name: TensorSpec(array.dtype, array.shape) for name, array in arrays.items()}
    # Panels first, at the page they are aligned to; then by element size, which aligns the rest.
    order = sorted(
        specs, key=lambda name: (name != "panels", -np.dtype(specs[name].dtype).itemsize)
    )
    with replacing_file(path) as file:
        writer = TensorWriter(file, _metadata(snapshot, ids), {name: specs[name] for name in order})
        for name, array in arrays.items():
            writer.append(name, array)
        _append_items(writer, snapshot)
        writer.finish()


def load(path: Path, *, mapped: bool, verify: bool) -> Snapshot:
    """Read a snapshot; see :meth:`fusionops.catalog.Catalog.load`."""
    metadata, tensors = read_tensors(path, mapped=mapped, verify=verify)
    if metadata.get("format") != FORMAT:
        raise CatalogFileError(
            f"{path}: expected a file of format {FORMAT}, got {metadata.get('format')!r}"
        )
    if metadata.get("version") != str(VERSION):
        raise CatalogFileError(
            f"{path}: expected format version {VERSION}, got {metadata.get('version')}; use the "
            "fusionops that wrote it"
        )
    try:
        return _snapshot(json.loads(metadata["catalog"]), tensors, pinned=mapped)
    except CatalogFileError:
        raise
    except KeyError as error:
        raise CatalogFileError(f"{path} is damaged: it has no {error}") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise CatalogFileError(f"{path} is damaged: {error}") from None


def _metadata(snapshot: Snapshot, ids: Ids) -> dict[str, str]:
    norm = snapshot.norm
    settings = {
        "count": len(snapshot),
        "width": snapshot.width,
        "dtype": snapshot.dtype,
        "normalization": norm.normalization,
        "power": norm.power,
        "ridge": norm.ridge,
        "eps": norm.eps,
        "ids": snapshot.kind,
        "first_id": ids.start if isinstance(ids, RangeIds) else None,
    }
    return {"format": FORMAT, "version": str(VERSION), "catalog": json.dumps(settings)}


def _item_specs(norm: Norm, dtype: str, count: int, width: int) -> dict[str, TensorSpec]:
    specs = packed_specs(dtype, count, width)
    if dtype != "float32":
        specs["vectors"] = TensorSpec(np.float32, (count, width))
    if norm.scales_items:
        specs["item_scale"] = TensorSpec(np.float32, (count,))
    return specs


def _append_items(writer: TensorWriter, snapshot: Snapshot) -> None:
    """Pack all items anew, in order of insertion: the same bytes, whatever segments they are in."""
    for block in snapshot.blocks():
        specs = _item_specs(snapshot.norm, snapshot.dtype, len(block), snapshot.width)
        arrays = {name: np.empty(spec.shape, spec.dtype) for name, spec in specs.items()}
        packed = (arrays[name] for name in ("panels", "stats") if name in arrays)
        pack(snapshot.dtype, snapshot.norm, block, arrays.get("item_scale"), *packed)
        if "vectors" in arrays:
            arrays["vectors"] = block
        for name, array in arrays.items():
            writer.append(name, array)


def _id_arrays(ids: Ids, names: npt.NDArray[Any]) -> _Arrays:
    if isinstance(ids, StringIds):
        texts = [name.encode("utf-8", "surrogatepass") for name in names.tolist()]
        ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
        data = b"".join(texts)
        data += b"\0" * (-len(data) % 8)  # so that what follows is aligned
        return {"id_ends": ends, "id_bytes": np.frombuffer(data, dtype=np.uint8)}
    if not isinstance(ids, IntegerIds):
        return {}
    found = {"ids": ids.names, "ids_ascending": ids.ascending, "ids_order": ids.order}
    return {name: array.whole() for name, array in found.items() if array is not None}


def _snapshot(settings: dict[str, Any], tensors: dict[str, Verified], pinned: bool) -> Snapshot:
    norm = Norm.checked(*(settings[key] for key in ("normalization", "power", "ridge", "eps")))
    count, width = whole_number(settings["count"]), whole_number(settings["width"])
    dtype = settings["dtype"]
    if dtype not in DTYPES or settings["ids"] not in ("int", "str"):
        raise ValueError(f"it is in {dtype!r} with ids {settings['ids']!r}")
    specs = _item_specs(norm, dtype, count, width)
    if norm.maps_users:
        specs["user_map"] = TensorSpec(np.float32, (width, width))
    for name, spec in specs.items():
        tensor = tensors[name]
        if tensor.shape != spec.shape or tensor.dtype != spec.dtype:
            raise ValueError(f"its {name} is {tensor.dtype} {list(tensor.shape)}")
    segment = Segment(
        dtype=dtype,
        ids=_read_ids(settings, tensors, count),
        keys=0,
        panels=tensors["panels"],
        stats=tensors.get("stats"),
        vectors=tensors.get("vectors"),
        item_scale=tensors.get("item_scale"),
        pinned=pinned,
    )
    user_map = tensors["user_map"].whole() if norm.maps_users else None
    parts = (Part.of(segment),) if count else ()
    return Snapshot(norm, dtype, width, settings["ids"], parts, count, user_map)


def _read_ids(settings: dict[str, Any], tensors: dict[str, Verified], count: int) -> Ids:
    first = settings["first_id"]
    if first is not None:
        last = first + max(0, count - 1) if type(first) is int else None
        if settings["ids"] != "int" or last is None or first < -(1 << 63) or last >= 1 << 63:
            raise ValueError(
                f"its ids are {settings['ids']}, of which {first!r} cannot be the first"
            )
        return RangeIds(first, count)
    kinds = (
        {"ids": "i8", "ids_ascending": "i8", "ids_order": "u4" if count <= 1 << 32 else "i8"}
        if settings["ids"] == "int"
        else {"id_ends": "i8"}
    )
    found = {name: tensors[name] for name in kinds if name in tensors}
    for name, array in found.items():
        if array.shape != (count,) or array.dtype != kinds[name]:
            raise ValueError(f"its {name} is {array.dtype} {list(array.shape)}")
    if settings["ids"] == "int":
        return IntegerIds(tensors["ids"], found.get("ids_ascending"), found.get("ids_order"))
    data = tensors["id_bytes"].whole().tobytes()
    ends = tensors["id_ends"].whole().tolist()
    if any(start > end for start, end in itertools.pairwise([0, *ends, len(data)])):
        raise ValueError("its id_ends do not rise to the end of its id_bytes")
    names = np.empty(count, dtype=object)
    names[:] = [
        data[start:end].decode("utf-8", "surrogatepass")
        for start, end in itertools.pairwise([0, *ends])
    ]
    return StringIds(names)
