"""The kernel: ``K(i, j) = sign(c) |c|^1.5``, ``c`` the cosine of what two items are like.

Each term (a TF-IDF block, a modality, a numeric column) is a kernel ``k`` of its own that is 1 for
an item with itself, and has a weight ``w``. With ``l_i^2`` the sum of the weights of the terms that
item i has, ``c = sum of w k(i, j) over the terms that both have / (l_i l_j)``. So a missing term is
as if its features were orthogonal to everything: two items that both lack it are compared as if it
did not exist, and one that lacks it is not taken to be unlike the others in all that it has. The
power sharpens: close items count more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from fusionops.data.encoded import Encoded
from fusionops.data.items import Items
from fusionops.models.linear_fusion.content.blocks import Block
from fusionops.models.linear_fusion.content.choice import Choice
from fusionops.models.linear_fusion.content.features import ContentFeatures
from fusionops.models.linear_fusion.content.modality import Modality
from fusionops.models.linear_fusion.content.numeric import NumericColumn

Floats = npt.NDArray[np.float32]
Encodings = Mapping[str, Encoded]

TEXT, CATEGORY = "text", "category"
"""The terms that are made of columns of their kind together."""

_SHARPNESS = 1.5
_ENTRIES = 1 << 22  # 16 MB of float32 kernel at a time, beside the result


@dataclass(frozen=True)
class Content:
    """Features of items and the kernel between them.

    Attributes
    ----------
    columns : tuple of str
        Text and categorical columns, in the order in which texts are joined.
    blocks : tuple of Block
    modalities : tuple of Modality
    numeric : tuple of NumericColumn
    """

    columns: tuple[str, ...]
    blocks: tuple[Block, ...]
    modalities: tuple[Modality, ...] = ()
    numeric: tuple[NumericColumn, ...] = ()

    @classmethod
    def fit(
        cls,
        items: Items,
        columns: Sequence[str] | None = None,
        *,
        encoded: Encodings | None = None,
        numeric: Mapping[str, tuple[str, float | None]] | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> Content | None:
        """Learn buckets, idf, means and scales from items; None where nothing says anything.

        Only items with history are to be given: then an item added later gets the same features
        as one that was in the catalogue at the fit.

        Parameters
        ----------
        items : Items
        columns, numeric, weights
            As in :class:`fusionops.models.linear_fusion.Parameters`.
        encoded : mapping of str to Encoded, optional
            Modalities, over any ids.

        Raises
        ------
        ValueError
            A column, form or weight does not fit the items.
        """
        encoded = encoded or {}
        choice = Choice.of(items, columns, tuple(encoded), numeric, weights)
        of_items = {name: one.take(items.ids, missing="empty") for name, one in encoded.items()}
        content = cls(
            choice.columns,
            choice.blocks(items),
            choice.modalities(of_items),
            choice.numeric_columns(items),
        )
        return content if content.features(items, of_items).present.any() else None

    def features(self, items: Items, encoded: Encodings | None = None) -> ContentFeatures:
        """Items in the terms of the kernel; a modality that is not given is missing.

        Parameters
        ----------
        items : Items
        encoded : mapping of str to Encoded, optional
            Over any ids.
        """
        n, encoded = len(items), encoded or {}
        parts = [block.transform(items, self.columns) for block in self.blocks]
        rows = sparse.hstack(parts, format="csr", dtype=np.float32) if parts else _nothing(n)
        dense = {
            one.name: one.transform(encoded[one.name].take(items.ids, missing="empty"))
            if one.name in encoded
            else np.zeros((n, len(one.mean)), np.float32)
            for one in self.modalities
        }
        numeric = {one.column: one.transform(items.numeric[one.column]) for one in self.numeric}
        square = np.asarray(rows.multiply(rows).sum(axis=1), np.float64).ravel()
        for block in dense.values():
            square += np.einsum("nd,nd->n", block, block)
        for one in self.numeric:
            square += np.where(np.isnan(numeric[one.column]), 0.0, one.weight)
        return ContentFeatures(
            sparse.csr_array(rows), dense, numeric, np.sqrt(square).astype(np.float32)
        )

    def kernel(self, left: ContentFeatures, right: ContentFeatures) -> Floats:
        """``K [n, m]``, dense ``float32``."""
        kernel = np.empty((len(left), len(right)), np.float32)
        step = max(1, _ENTRIES // max(1, len(right)))
        for start in range(0, len(left), step):
            rows = slice(start, start + step)
            kernel[rows] = self._kernel(left[rows], right)
        return kernel

    def terms(self, left: ContentFeatures, right: ContentFeatures) -> dict[str, Floats]:
        """``K [n, m]`` as a sum over what items are compared by; see :meth:`split`."""
        return self.split(left, right)[1]

    def split(
        self, left: ContentFeatures, right: ContentFeatures
    ) -> tuple[Floats, dict[str, Floats]]:
        """``K [n, m]``, and the same as a sum over what items are compared by.

        With ``c = sum of c_m`` over the terms, ``K_m = |c|^0.5 c_m``: what Aumann and Shapley's
        value gives each of them (the power is homogeneous), so that they add up to ``K``.

        Returns
        -------
        kernel : numpy.ndarray
            ``float32 [n, m]``, as :meth:`kernel` has it.
        terms : dict of str to numpy.ndarray
            ``text``, ``category``, each modality and each numeric column: ``float32 [n, m]``. A
            modality that is called ``text`` is part of the text.
        """
        parts: dict[str, Floats] = {}
        total = np.zeros((len(left), len(right)), np.float32)
        for name, part in self._parts(left, right):
            total += part
            parts[name] = parts[name] + part if name in parts else part
        self._divide(total, left, right)
        # |c|^0.5, and the lengths once more, as the parts are not divided by them.
        factor = np.abs(total) ** np.float32(_SHARPNESS - 1)
        self._divide(factor, left, right)
        return _sharpened(total), {name: part * factor for name, part in parts.items()}

    def _kernel(self, left: ContentFeatures, right: ContentFeatures) -> Floats:
        total = np.zeros((len(left), len(right)), np.float32)
        for _, part in self._parts(left, right):
            total += part
        self._divide(total, left, right)
        return _sharpened(total)

    def _parts(self, left: ContentFeatures, right: ContentFeatures) -> Iterator[tuple[str, Floats]]:
        """Each term by its name, weighted, not divided by the lengths."""
        text = sum(len(block.buckets) for block in self.blocks if block.kind != "category")
        for name, first, end in ((TEXT, 0, text), (CATEGORY, text, right.sparse.shape[1])):
            if end > first:
                yield name, (_within(left.sparse, first, end) @ right.columns).toarray()
        for one in self.modalities:
            yield one.name, left.dense[one.name] @ right.dense[one.name].T
        for column in self.numeric:
            name = column.column
            near = column.closeness(left.numeric[name], right.numeric[name])
            yield name, np.float32(column.weight) * near

    def _divide(self, total: Floats, left: ContentFeatures, right: ContentFeatures) -> None:
        """Divide by ``l_i l_j``, in place."""
        total /= np.where(left.present, left.length, 1)[:, None]
        total /= np.where(right.present, right.length, 1)

    def state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """What JSON holds and what safetensors hold, for :meth:`from_state`."""
        arrays: dict[str, npt.NDArray[Any]] = {}
        for block in self.blocks:
            arrays[f"{block.kind}.buckets"] = block.buckets
            arrays[f"{block.kind}.idf"] = block.idf
        for one in self.modalities:
            arrays[f"{one.name}.mean"] = one.mean
        return {
            "columns": list(self.columns),
            "blocks": {block.kind: block.weight for block in self.blocks},
            "modalities": {one.name: one.weight for one in self.modalities},
            "numeric": [one.state() for one in self.numeric],
        }, arrays

    @classmethod
    def from_state(cls, state: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> Content:
        """The inverse of :meth:`state`."""
        return cls(
            tuple(state["columns"]),
            tuple(
                Block(kind, weight, arrays[f"{kind}.buckets"], arrays[f"{kind}.idf"])
                for kind, weight in state["blocks"].items()
            ),
            tuple(
                Modality(name, weight, arrays[f"{name}.mean"])
                for name, weight in state["modalities"].items()
            ),
            tuple(NumericColumn(**column) for column in state["numeric"]),
        )


def _nothing(n: int) -> sparse.csr_array:
    return sparse.csr_array((n, 0), dtype=np.float32)


def _sharpened(cosines: Floats) -> Floats:
    return np.asarray(np.copysign(np.abs(cosines) ** np.float32(_SHARPNESS), cosines))


def _within(rows: sparse.csr_array, first: int, end: int) -> sparse.csr_array:
    """The entries of some columns, where the others are empty."""
    if (first, end) == (0, rows.shape[1]):
        return rows
    kept = (rows.indices >= first) & (rows.indices < end)
    before = np.concatenate([[0], np.cumsum(kept)])
    return sparse.csr_array(
        (rows.data[kept], rows.indices[kept], before[rows.indptr]), shape=rows.shape
    )
