"""What items are like: sparse features of their text and categories, and the kernel over them.

``K(i, j) = (f_i . f_j / d)^1.5``, where ``f`` joins L2-normalised TF-IDF blocks (character n-grams
of 3 to 5 within words, weight 1; words, weight 0.5; categories, weight 0.5) and ``d`` is the mean
of ``f_i . f_i`` over the items it was fitted on. The power sharpens: close items count more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.feature_extraction.text import HashingVectorizer

from fusionops.data.ids import Codes
from fusionops.data.items import Items

Floats = npt.NDArray[np.float32]

_BUCKETS = 1 << 20  # hashing keeps no vocabulary; at 30,000 n-grams about one in 70 shares a bucket
_SHARPNESS = 1.5
_WEIGHTS = {"char": 1.0, "word": 0.5, "category": 0.5}


def _as_is(tokens: Sequence[str]) -> Sequence[str]:
    return tokens


_ANALYSIS: dict[str, dict[str, Any]] = {
    "char": {"analyzer": "char_wb", "ngram_range": (3, 5)},
    "word": {"analyzer": "word"},
    "category": {"analyzer": _as_is},
}


@dataclass(frozen=True)
class _Block:
    """One TF-IDF block: the buckets that the fitted items use, ascending, and their idf."""

    kind: str
    buckets: Codes
    idf: Floats

    @classmethod
    def fit(cls, kind: str, documents: Sequence[Any]) -> _Block:
        counts = _hashed(kind, documents)
        frequency = np.bincount(counts.indices, minlength=_BUCKETS)
        buckets = np.flatnonzero(frequency)
        idf = np.log((1 + len(documents)) / (1 + frequency[buckets])) + 1
        return cls(kind, buckets, idf.astype(np.float32))

    def transform(self, documents: Sequence[Any]) -> sparse.csr_array:
        """Rows of length sqrt(weight); tokens that the fitted items lack are left out."""
        counts = _hashed(self.kind, documents)
        features = sparse.csr_array(counts[:, self.buckets], dtype=np.float32)
        features.data *= self.idf[features.indices]
        length = np.sqrt(np.asarray(features.multiply(features).sum(axis=1)).ravel())
        scale = np.float32(_WEIGHTS[self.kind] ** 0.5) / np.maximum(length, np.float32(1e-12))
        features.data *= np.repeat(scale, np.diff(features.indptr)).astype(np.float32)
        return features


class Content:
    """Features of items and the kernel between them.

    Parameters
    ----------
    columns : sequence of str
        Text and categorical columns, in the order in which texts are joined.
    blocks : sequence of _Block
    scale : float
        The mean squared length over the fitted items.
    """

    def __init__(self, columns: Sequence[str], blocks: Sequence[_Block], scale: float) -> None:
        self.columns = tuple(columns)
        self._blocks = tuple(blocks)
        self._scale = scale

    @classmethod
    def fit(cls, items: Items, columns: Sequence[str] | None) -> Content | None:
        """Learn buckets and idf from items; None where no column says anything.

        Only items with history are to be given: then an item added later gets the same vector
        as one that was in the catalogue at the fit.

        Raises
        ------
        ValueError
            A named column is neither a text nor a categorical column.
        """
        known = (*items.text, *items.categorical)
        for name in columns or ():
            if name not in known:
                listed = ", ".join(map(repr, known)) or "none"
                raise ValueError(
                    f"content: expected text or categorical columns of items ({listed}), "
                    f"got {name!r}"
                )
        columns = known if columns is None else columns
        blocks = []
        if any(name in items.text for name in columns):
            texts = _texts(items, columns)
            blocks += [_Block.fit(kind, texts) for kind in ("char", "word")]
        if any(name in items.categorical for name in columns):
            blocks.append(_Block.fit("category", _categories(items, columns)))
        content = cls(columns, blocks, 1.0)
        features = content.features(items) if blocks else None
        if features is None or features.nnz == 0:
            return None
        content._scale = float(features.multiply(features).sum()) / len(items)
        return content

    def features(self, items: Items) -> sparse.csr_array:
        """``float32 [n, features]``; a row without content is empty."""
        documents = {"category": _categories(items, self.columns)}
        documents["char"] = documents["word"] = _texts(items, self.columns)  # type: ignore[assignment]
        parts = [block.transform(documents[block.kind]) for block in self._blocks]
        return sparse.csr_array(sparse.hstack(parts, format="csr", dtype=np.float32))

    def kernel(self, left: sparse.csr_array, right: sparse.csr_array) -> Floats:
        """``K [n, m]``, dense ``float32``, between rows of features."""
        dense = (left @ right.T).toarray()
        dense /= np.float32(self._scale)
        return np.asarray(dense**_SHARPNESS)

    def state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """What JSON holds and what safetensors hold, for :meth:`from_state`."""
        arrays: dict[str, npt.NDArray[Any]] = {}
        for block in self._blocks:
            arrays[f"{block.kind}.buckets"] = block.buckets
            arrays[f"{block.kind}.idf"] = block.idf
        kinds = [block.kind for block in self._blocks]
        return {"columns": list(self.columns), "blocks": kinds, "scale": self._scale}, arrays

    @classmethod
    def from_state(cls, state: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> Content:
        """The inverse of :meth:`state`."""
        blocks = [
            _Block(kind, arrays[f"{kind}.buckets"], arrays[f"{kind}.idf"])
            for kind in state["blocks"]
        ]
        return cls(state["columns"], blocks, state["scale"])


def _hashed(kind: str, documents: Sequence[Any]) -> sparse.csr_matrix:
    vectorizer = HashingVectorizer(
        **_ANALYSIS[kind],
        n_features=_BUCKETS,
        alternate_sign=False,
        norm=None,
        dtype=np.float32,
    )
    return vectorizer.transform(documents)


def _texts(items: Items, columns: Sequence[str]) -> list[str]:
    chosen = [items.text[name] for name in columns if name in items.text]
    return [" ".join(filter(None, row)) for row in zip(*chosen)] or [""] * len(items)  # noqa: B905


def _categories(items: Items, columns: Sequence[str]) -> list[list[str]]:
    chosen = [(name, items.categorical[name]) for name in columns if name in items.categorical]
    return [
        [f"{name}={column[code]}" for name, column in chosen if column[code] is not None]
        for code in range(len(items))
    ]
