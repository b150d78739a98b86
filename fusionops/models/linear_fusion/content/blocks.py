"""Text and categories as TF-IDF rows: terms whose kernel is the cosine."""

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

WEIGHTS = {"char": 1.0, "word": 0.5, "category": 0.5}
"""Of each kind of block, where the parameters do not say otherwise."""

_BUCKETS = 1 << 20  # hashing keeps no vocabulary; at 30,000 n-grams about one in 70 shares a bucket


def _as_is(tokens: Sequence[str]) -> Sequence[str]:
    return tokens


_ANALYSIS: dict[str, dict[str, Any]] = {
    "char": {"analyzer": "char_wb", "ngram_range": (3, 5)},
    "word": {"analyzer": "word"},
    "category": {"analyzer": _as_is},
}


@dataclass(frozen=True)
class Block:
    """One TF-IDF block.

    Attributes
    ----------
    kind : {"char", "word", "category"}
    weight : float
        Of its cosine in the kernel.
    buckets : numpy.ndarray
        ``int64``, the buckets that the fitted items use, ascending.
    idf : numpy.ndarray
        ``float32``, of those buckets.
    """

    kind: str
    weight: float
    buckets: Codes
    idf: Floats

    @classmethod
    def fit(cls, kind: str, weight: float, documents: Sequence[Any]) -> Block:
        """Learn buckets and idf."""
        counts = _hashed(kind, documents)
        frequency = np.bincount(counts.indices, minlength=_BUCKETS)
        buckets = np.flatnonzero(frequency)
        idf = np.log((1 + len(documents)) / (1 + frequency[buckets])) + 1
        return cls(kind, weight, buckets, idf.astype(np.float32))

    def transform(self, items: Items, columns: Sequence[str]) -> sparse.csr_array:
        """Rows of length sqrt(weight); tokens that the fitted items lack are left out."""
        counts = _hashed(self.kind, documents_of(self.kind, items, columns))
        features = sparse.csr_array(counts[:, self.buckets], dtype=np.float32)
        features.data *= self.idf[features.indices]
        length = np.sqrt(np.asarray(features.multiply(features).sum(axis=1)).ravel())
        scale = np.float32(self.weight**0.5) / np.maximum(length, np.float32(1e-12))
        features.data *= np.repeat(scale, np.diff(features.indptr)).astype(np.float32)
        return features


def documents_of(kind: str, items: Items, columns: Sequence[str]) -> Sequence[Any]:
    """What a kind of block reads: the texts of an item joined, or its categories by column."""
    if kind == "category":
        named = [(name, items.categorical[name]) for name in columns if name in items.categorical]
        return [
            [f"{name}={column[code]}" for name, column in named if column[code] is not None]
            for code in range(len(items))
        ]
    texts = [items.text[name] for name in columns if name in items.text]
    return [" ".join(filter(None, row)) for row in zip(*texts, strict=True)] or [""] * len(items)


def _hashed(kind: str, documents: Sequence[Any]) -> sparse.csr_matrix:
    vectorizer = HashingVectorizer(
        **_ANALYSIS[kind],
        n_features=_BUCKETS,
        alternate_sign=False,
        norm=None,
        dtype=np.float32,
    )
    if len(documents) == 0:  # of which the vectorizer makes an error
        return sparse.csr_matrix((0, _BUCKETS), dtype=np.float32)
    return vectorizer.transform(documents)
