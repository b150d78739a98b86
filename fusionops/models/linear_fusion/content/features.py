"""Items in the terms of a fitted :class:`Content`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from fusionops.data.ids import Codes

Floats = npt.NDArray[np.float32]
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ContentFeatures:
    """What the kernel is a function of; row i is item i.

    Attributes
    ----------
    sparse : scipy.sparse.csr_array
        ``float32 [n, buckets]``, the TF-IDF blocks side by side; empty where there is no text.
    dense : mapping of str to numpy.ndarray
        ``float32 [n, width]`` of each modality; zeros where it is missing.
    numeric : mapping of str to numpy.ndarray
        ``float64 [n]`` of each numeric column; NaN where it is missing.
    length : numpy.ndarray
        ``float32 [n]``, the root of the weights of the terms that an item has; 0 where it has none.
    """

    sparse: sparse.csr_array
    dense: Mapping[str, Floats]
    numeric: Mapping[str, Values]
    length: Floats

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Which items have any content, ``bool [n]``."""
        return self.length > 0

    @cached_property
    def columns(self) -> sparse.csr_array:
        """The TF-IDF blocks by column, ``[buckets, n]``: what many products with others need."""
        return sparse.csr_array(self.sparse.T.tocsr())

    def __getitem__(self, rows: slice | Codes) -> ContentFeatures:
        return ContentFeatures(
            self.sparse[rows],
            {name: block[rows] for name, block in self.dense.items()},
            {name: column[rows] for name, column in self.numeric.items()},
            self.length[rows],
        )

    def append(self, other: ContentFeatures) -> ContentFeatures:
        """These rows, then the others, in the same terms."""
        return ContentFeatures(
            sparse.csr_array(sparse.vstack([self.sparse, other.sparse], format="csr")),
            _joined(self.dense, other.dense),
            _joined(self.numeric, other.numeric),
            np.concatenate([self.length, other.length]),
        )

    def __len__(self) -> int:
        return len(self.length)

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays by name, for :meth:`from_arrays`."""
        return {
            "data": self.sparse.data,
            "indices": self.sparse.indices.astype(np.int64),
            "indptr": self.sparse.indptr.astype(np.int64),
            "width": np.array([self.sparse.shape[1]]),
            "length": self.length,
            **{f"dense.{name}": block for name, block in self.dense.items()},
            **{f"numeric.{name}": column for name, column in self.numeric.items()},
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> ContentFeatures:
        """The inverse of :meth:`to_arrays`."""
        indptr = arrays["indptr"]
        blocks = sparse.csr_array(
            (arrays["data"], arrays["indices"], indptr),
            shape=(len(indptr) - 1, int(arrays["width"][0])),
        )
        dense, numeric = (
            {
                name.removeprefix(prefix): array
                for name, array in arrays.items()
                if name.startswith(prefix)
            }
            for prefix in ("dense.", "numeric.")
        )
        return cls(blocks, dense, numeric, arrays["length"])


def _joined(
    left: Mapping[str, npt.NDArray[Any]], right: Mapping[str, npt.NDArray[Any]]
) -> dict[str, npt.NDArray[Any]]:
    return {name: np.concatenate([array, right[name]]) for name, array in left.items()}
