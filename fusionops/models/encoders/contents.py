"""What is to be encoded: where a file is, and the hash that says whether a content has changed."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fusionops.data import Encoded, IdMap, Problem
from fusionops.data.encoded_file import HASH_BYTES, Hashes
from fusionops.models.encoders.base import Unreadable

Vector = npt.NDArray[np.float32]

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Content:
    """One thing to encode.

    Attributes
    ----------
    value : str, Path or array
        What the encoder takes: text, the path of a file, or the samples or pixels themselves.
    hash : bytes
        SHA-256 of the text, of the bytes of the file, or of the array with its shape.
    size : int
        Characters, bytes or numbers: what things are roughly sorted by.
    """

    value: Any
    hash: bytes
    size: int


class Contents:
    """The contents of all rows, and why some of them cannot be read.

    Attributes
    ----------
    distinct : dict of bytes to Content
        By hash, in the order in which they come first.
    counts : Counter of bytes
        How many rows have a content.
    refused : dict of bytes to str
        Why a content has no vector; to be filled by who finds out.
    """

    def __init__(self, values: Sequence[Any], modality: str, base_folder: Path) -> None:
        self._values, self._modality = values, modality
        self._unopened: dict[int, str] = {}
        self._contents: list[Content | None] = []
        for row, value in enumerate(values):
            content = None
            try:
                content = read_content(value, modality, base_folder)
            except Unreadable as error:
                self._unopened[row] = str(error)
            self._contents.append(content)
        self.distinct: dict[bytes, Content] = {}
        for one in self._contents:
            if one is not None:
                self.distinct.setdefault(one.hash, one)
        self.counts = Counter(one.hash for one in self._contents if one is not None)
        self.refused: dict[bytes, str] = {}

    def gather(
        self, ids: IdMap, vectors: Mapping[bytes, Vector], width: int, source: Mapping[str, str]
    ) -> tuple[Encoded, Hashes]:
        """The vectors in the order of the rows, and the hashes of those that have one."""
        table = np.zeros((len(ids), width), np.float32)
        hashes = np.zeros((len(ids), HASH_BYTES), np.uint8)
        present = np.zeros(len(ids), np.bool_)
        for row, content in enumerate(self._contents):
            if content is not None and content.hash in vectors:
                table[row] = vectors[content.hash]
                hashes[row] = np.frombuffer(content.hash, np.uint8)
                present[row] = True
        return Encoded(ids, table, present, source), hashes

    def problems(self, ids: IdMap) -> list[Problem]:
        """What cannot be read, one a row."""
        found = []
        for row, (content, value) in enumerate(zip(self._contents, self._values, strict=True)):
            reason = self._unopened.get(row)
            if content is not None:
                reason = self.refused.get(content.hash)
            if reason is not None:
                id = ids.ids[row].item()
                found.append(Problem(self._sentence(id, value, reason), 1, id, "note"))
        return found

    def _sentence(self, id: Any, value: Any, reason: str) -> str:
        is_path = isinstance(value, (str, Path)) and self._modality != "text"
        subject = f"{self._modality} of {id!r}" + (f", {value}" if is_path else "")
        return f"{subject}: {reason}; taken as missing"


def read_content(value: Any, modality: str, base_folder: Path) -> Content | None:
    """The content of a cell of a table, None where there is none.

    Parameters
    ----------
    value : str, Path, array or None
        Text is what it says for the modality ``text``, and the path of a file for all others.
        Blank text is no content.
    modality : str
        Of the encoder.
    base_folder : Path
        What relative paths are relative to.

    Raises
    ------
    Unreadable
        The file cannot be opened.
    TypeError
        It is none of these.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if modality == "text":
        if not isinstance(value, str):
            raise TypeError(f"contents: expected text or None, got {type(value).__name__}")
        text = value.encode("utf-8", "surrogatepass")
        return Content(value, hashlib.sha256(text).digest(), len(text))
    if isinstance(value, (str, Path)):
        return _file(base_folder / Path(value).expanduser())
    if hasattr(value, "__array__") or hasattr(value, "__array_interface__"):
        array = np.asarray(value)
        digest = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
        digest.update(array.tobytes())
        return Content(value, digest.digest(), array.size)
    raise TypeError(f"contents: expected paths, arrays or None, got {type(value).__name__}")


def _file(path: Path) -> Content:
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from None
    except ValueError as error:  # a path with a NUL in it
        raise Unreadable(str(error)) from None
    return Content(path, digest.digest(), size)
