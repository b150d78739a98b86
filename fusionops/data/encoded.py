"""What a pretrained encoder says of things: one vector each, some missing, with their ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from fusionops.data.ids import IdMap


@dataclass(frozen=True)
class Encoded:
    """Vectors of items or users in one modality; row i is the thing of code i.

    Attributes
    ----------
    ids : IdMap
    vectors : numpy.ndarray
        ``float32 [n, width]``; rows of what is missing are zeros, and mean nothing.
    present : numpy.ndarray
        ``bool [n]``, False where there is no content or it could not be read.
    source : dict of str to str
        Where the vectors are from, for people and for caches: the model, its hash.
    """

    ids: IdMap
    vectors: npt.NDArray[np.float32]
    present: npt.NDArray[np.bool_]
    source: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.ids, IdMap):
            raise TypeError(f"ids: expected IdMap, got {type(self.ids).__name__}")
        vectors, present = np.asarray(self.vectors), np.asarray(self.present)
        if vectors.dtype != np.float32:
            raise TypeError(f"vectors: expected float32, got {vectors.dtype}")
        if present.dtype != np.bool_:
            raise TypeError(f"present: expected bool, got {present.dtype}")
        if vectors.ndim != 2 or len(vectors) != len(self.ids):
            raise ValueError(
                f"vectors: expected the shape [{len(self.ids)}, width], got {list(vectors.shape)}"
            )
        if present.shape != (len(self.ids),):
            raise ValueError(
                f"present: expected the shape [{len(self.ids)}], got {list(present.shape)}"
            )
        bad = np.flatnonzero(present & ~np.isfinite(vectors).all(axis=1))
        if len(bad):
            raise ValueError(
                f"vectors: expected finite numbers where present, got {len(bad)} rows with NaN or "
                f"Inf, for example that of {self.ids.ids[bad[0]].item()!r}"
            )

    @property
    def width(self) -> int:
        """The number of features."""
        return int(self.vectors.shape[1])

    def take(self, ids: IdMap, *, missing: Literal["raise", "empty"] = "raise") -> Encoded:
        """These vectors in this order.

        Parameters
        ----------
        ids : IdMap
            The ids wanted.
        missing : {"raise", "empty"}
            What an id that is not here does: raise KeyError, or become a missing row.
        """
        codes = self.ids.encode(ids.ids, unknown="raise" if missing == "raise" else "mark")
        present = np.append(self.present, False)[codes]
        zero = np.zeros((1, self.width), np.float32)
        vectors = np.concatenate([self.vectors, zero])[codes]
        vectors[~present] = 0
        return Encoded(ids, vectors, present, self.source)

    def append(self, other: Encoded) -> Encoded:
        """These rows, then the others."""
        if other.width != self.width:
            raise ValueError(f"other: expected vectors of {self.width} features, got {other.width}")
        return Encoded(
            IdMap(np.concatenate([self.ids.ids, other.ids.ids])),
            np.concatenate([self.vectors, other.vectors]),
            np.concatenate([self.present, other.present]),
            self.source,
        )

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, which appears whole or not at all.

        Raises
        ------
        IsADirectoryError
            The path is a folder.
        """
        from fusionops.data.encoded_file import write_encoded

        write_encoded(path, self)

    @classmethod
    def load(cls, path: str | Path) -> Encoded:
        """Read what :meth:`save` or ``fusionops encode`` has written.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        ValueError
            It is something else, of another version, or damaged.
        """
        from fusionops.data.encoded_file import read_encoded

        return read_encoded(path)[0]

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"Encoded({int(self.present.sum())} of {len(self)} rows x {self.width})"
