"""What a ranking is worth: accuracy per user, and what all lists do to the catalogue.

With r_i = 1 where the item at rank i is one of the T test items of the user, and k the length of
the list:

===============  ==============================================================================
recall           sum r_i / T
precision        sum r_i / k
ndcg             sum r_i / log2(i + 1), over its largest value, sum_{i <= min(k, T)} 1 / log2(i + 1)
map              mean over users of (sum r_i precision@i) / T
mrr              1 / the first i with r_i = 1, or 0
hit_rate         1 where any r_i = 1
===============  ==============================================================================

Over the lists of all users:

====================  =========================================================================
coverage              share of the ranked items that come in at least one list
gini                  Gini coefficient of how often each ranked item is listed: 0 even, 1 all to one
novelty               mean of -log2((n_i + 1) / (U + 1)) over the listed items, n_i of U users
                      having it
intra_list_diversity  mean of 1 - cosine over the pairs of a list, where vectors are given
====================  =========================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse

from fusionops.data.ids import Codes
from fusionops.data.splits import Split

Values = npt.NDArray[np.float64]
Vectors: TypeAlias = "npt.NDArray[np.floating] | sparse.csr_array"

PER_USER = ("recall", "ndcg", "precision", "map", "mrr", "hit_rate")


@dataclass(frozen=True)
class Evaluation:
    """The figures of one model on one split.

    Attributes
    ----------
    model, protocol : str
        What was ranked, and ``split.name``.
    k : int
        Length of the lists.
    users : numpy.ndarray
        ``int64`` codes of the users, shape ``[U]``.
    per_user : dict of str to numpy.ndarray
        ``float64 [U]`` for each of recall, ndcg, precision, map, mrr and hit_rate, in the order of
        ``users``; this is what paired tests need.
    coverage, gini, novelty : float
        Over all lists.
    intra_list_diversity : float or None
        None where no vectors were given.
    """

    model: str
    protocol: str
    k: int
    users: Codes
    per_user: dict[str, Values]
    coverage: float
    gini: float
    novelty: float
    intra_list_diversity: float | None = None

    def __getitem__(self, metric: str) -> float:
        """Return the mean of a per-user metric, or a scalar, by its name."""
        if metric in self.per_user:
            values = self.per_user[metric]
            return float(values.mean()) if len(values) else float("nan")
        if metric in ("coverage", "gini", "novelty", "intra_list_diversity"):
            value = getattr(self, metric)
            return float("nan") if value is None else float(value)
        raise KeyError(f"there is no metric {metric!r}")

    def summary(self) -> dict[str, float]:
        """All figures with the cut in their names: ``recall@20``, ..., ``coverage@20``, ..."""
        names = [*self.per_user, "coverage", "gini", "novelty"]
        names += [] if self.intra_list_diversity is None else ["intra_list_diversity"]
        return {f"{name}@{self.k}": self[name] for name in names}


def evaluate(
    ranked: Codes, split: Split, k: int = 20, *, model: str = "", vectors: Vectors | None = None
) -> Evaluation:
    """Evaluate full-ranking lists.

    Parameters
    ----------
    ranked : numpy.ndarray
        ``int64`` item codes, shape ``[len(split.users), >= k]``, best first, -1 for none, rows in
        the order of ``split.users``. An item may come once in a list.
    split : Split
        Its test pairs are what counts as a hit.
    k : int
        The cut.
    model : str
        The name for tables.
    vectors : array or scipy.sparse.csr_array, optional
        Item vectors, shape ``[P, D]``, for the intra-list diversity.

    Raises
    ------
    TypeError
        ``ranked`` is not of integers.
    ValueError
        A shape does not fit, or a code is not in the catalogue, no candidate, or twice in a list.
    """
    lists = _checked(ranked, split, k)
    test = split.test.matrix()[split.users]
    hits = _hits(lists, test)
    listed = lists[lists >= 0]
    catalogue = np.arange(len(split.train.items)) if split.candidates is None else split.candidates
    counts = np.bincount(listed, minlength=len(split.train.items))[catalogue]
    return Evaluation(
        model=model,
        protocol=split.name,
        k=k,
        users=split.users,
        per_user=accuracy(hits, np.diff(test.indptr)),
        coverage=float(np.mean(counts > 0)) if len(counts) else float("nan"),
        gini=gini(counts),
        novelty=_novelty(listed, split),
        intra_list_diversity=None if vectors is None else intra_list_diversity(lists, vectors),
    )


def accuracy(hits: npt.NDArray[np.bool_], relevant: Codes) -> dict[str, Values]:
    """Return the per-user metrics of lists of hits.

    Parameters
    ----------
    hits : numpy.ndarray
        bool ``[U, k]``: which ranks hold a test item.
    relevant : numpy.ndarray
        ``int64 [U]``: how many test items the user has, at least 1.

    Returns
    -------
    dict of str to numpy.ndarray
        ``float64 [U]`` for each name of ``PER_USER``.
    """
    k = hits.shape[1]
    rank = np.arange(1, k + 1)
    discount = 1.0 / np.log2(rank + 1)
    found = hits.sum(axis=1)
    any_hit = found > 0
    precision_at = np.cumsum(hits, axis=1) / rank
    return {
        "recall": found / relevant,
        "ndcg": hits @ discount / np.cumsum(discount)[np.minimum(relevant, k) - 1],
        "precision": found / k,
        "map": (hits * precision_at).sum(axis=1) / relevant,
        "mrr": np.where(any_hit, 1.0 / (hits.argmax(axis=1) + 1), 0.0),
        "hit_rate": any_hit.astype(np.float64),
    }


def gini(counts: npt.NDArray[np.integer]) -> float:
    """Return the Gini coefficient of non-negative counts; NaN where all are 0."""
    n, total = len(counts), counts.sum()
    if total == 0:
        return float("nan")
    # sum_i (2 i - n - 1) x_(i) / (n sum x), x ascending
    return float((2 * np.arange(1, n + 1) - n - 1) @ np.sort(counts) / (n * total))


def intra_list_diversity(lists: Codes, vectors: Vectors) -> float:
    """Return the mean over lists of the mean of ``1 - cosine`` over their pairs.

    Lists of fewer than two items do not count.

    Parameters
    ----------
    lists : numpy.ndarray
        ``int64 [U, k]``, -1 for none.
    vectors : array or scipy.sparse.csr_array
        ``[P, D]``; a zero vector is at distance 1 from all.
    """
    unit = sparse.csr_array(vectors, dtype=np.float64)
    length = np.sqrt(np.asarray(unit.multiply(unit).sum(axis=1)).ravel())
    inverse = np.divide(1.0, length, out=np.zeros_like(length), where=length > 0)
    unit = sparse.csr_array(sparse.diags_array(inverse) @ unit)
    user, rank = np.nonzero(lists >= 0)
    member = sparse.csr_array(
        (np.ones(len(user)), (user, lists[user, rank])), shape=(len(lists), unit.shape[0])
    )
    # Over the pairs of a list, the cosines of unit vectors u add up to (|sum u|^2 - sum |u|^2) / 2.
    total = member @ unit
    squared = np.asarray(total.multiply(total).sum(axis=1)).ravel()
    own = member @ (length > 0).astype(np.float64)
    size = np.asarray(member.sum(axis=1)).ravel()
    several = size > 1
    if not several.any():
        return float("nan")
    pairs = size[several] * (size[several] - 1)
    return float(np.mean(1.0 - (squared - own)[several] / pairs))


def _novelty(listed: Codes, split: Split) -> float:
    """Return the mean self-information of the lists (Vargas and Castells 2011), with add-one."""
    if len(listed) == 0:
        return float("nan")
    seen = split.train.matrix()
    buyers = np.bincount(seen.indices, minlength=seen.shape[1])
    return float(np.mean(-np.log2((buyers[listed] + 1.0) / (seen.shape[0] + 1.0))))


def _hits(lists: Codes, test: sparse.csr_array) -> npt.NDArray[np.bool_]:
    """Which entries of the lists are test pairs, without a dense U x P matrix; bool ``[U, k]``."""
    n_rows, n_items = test.shape
    wanted = np.repeat(np.arange(n_rows), np.diff(test.indptr)) * n_items + test.indices
    given = np.arange(n_rows)[:, None] * n_items + lists
    return np.isin(given, wanted) & (lists >= 0)


def _checked(ranked: Codes, split: Split, k: int) -> Codes:
    ranked = np.asarray(ranked)
    if ranked.dtype.kind not in "iu":
        raise TypeError(f"ranked must hold integer item codes, got {ranked.dtype}")
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if ranked.ndim != 2 or ranked.shape[0] != len(split.users) or ranked.shape[1] < k:
        raise ValueError(
            f"ranked must have shape [{len(split.users)}, at least {k}], got {list(ranked.shape)}"
        )
    lists = ranked[:, :k].astype(np.int64)
    n = len(split.train.items)
    if lists.size and not (lists.min() >= -1 and lists.max() < n):
        raise ValueError(
            f"ranked must hold codes in 0..{n - 1}, or -1, got {lists.min()}..{lists.max()}"
        )
    if split.candidates is not None:
        stray = lists[~np.isin(lists, split.candidates) & (lists >= 0)]
        if len(stray):
            raise ValueError(
                f"ranked must hold candidates only, got {len(stray)} others, for example {stray[0]}"
            )
    ordered = np.sort(lists, axis=1)
    twice = ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any(axis=1)
    if twice.any():
        row = int(np.flatnonzero(twice)[0])
        raise ValueError(
            f"ranked must hold an item once in a list, but {int(twice.sum())} lists repeat one, "
            f"for example row {row}"
        )
    return lists
