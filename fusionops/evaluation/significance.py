"""Is a difference more than chance: paired over the users of one split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import stats

from fusionops.evaluation.metrics import Evaluation

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """A model's mean minus the baseline's, with its uncertainty.

    Attributes
    ----------
    mean, low, high : float
        The mean of the paired differences and its bootstrap interval.
    p_value : float
        Two-sided paired t-test.
    """

    mean: float
    low: float
    high: float
    p_value: float


def paired_difference(
    values: Values,
    baseline: Values,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Difference:
    """Compare two models on the same users.

    Parameters
    ----------
    values, baseline : numpy.ndarray
        A metric per user, shape ``[U]``, in the same order of users.
    confidence : float
        Of the percentile bootstrap interval over users.
    resamples : int
        Number of bootstrap samples.
    seed : int
        Of the resampling; one seed, one interval.

    Raises
    ------
    ValueError
        The lengths differ, or there are fewer than two users.

    Notes
    -----
    The t-test, the bootstrap and the randomisation test agree on such data (Smucker, Allan and
    Carterette 2007).
    """
    if values.shape != baseline.shape or values.ndim != 1:
        raise ValueError(
            "values and baseline must be of the same users, "
            f"got shapes {list(values.shape)} and {list(baseline.shape)}"
        )
    if len(values) < 2:
        raise ValueError(f"a paired comparison needs two users or more, got {len(values)}")
    difference = np.asarray(values - baseline, dtype=np.float64)
    mean = float(difference.mean())
    if np.ptp(difference) == 0.0:
        # No spread: the interval is a point, and speaks against no difference unless it is 0.
        return Difference(mean, mean, mean, 1.0 if mean == 0.0 else 0.0)
    interval = stats.bootstrap(
        (difference,),
        np.mean,
        confidence_level=confidence,
        n_resamples=resamples,
        batch=max(1, (1 << 22) // len(difference)),  # 32 MB of samples at a time
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    p_value = float(stats.ttest_1samp(difference, 0.0).pvalue)
    return Difference(mean, float(interval.low), float(interval.high), p_value)


def holm(p_values: npt.ArrayLike) -> Values:
    """Adjust p-values so that the chance of even one false finding among all stays below the level.

    Holm's step-down procedure (1979).

    Parameters
    ----------
    p_values : array-like
        Shape ``[m]``.

    Returns
    -------
    numpy.ndarray
        Adjusted, in the same order, at most 1.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p_values must be a list of numbers in [0, 1], got {p_values!r}")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def compare(
    evaluations: Sequence[Evaluation],
    baseline: str,
    *,
    metrics: Sequence[str] = ("recall", "ndcg"),
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> pa.Table:
    """Compare models with a baseline, within each protocol.

    Parameters
    ----------
    evaluations : sequence of Evaluation
        Of any number of models and protocols.
    baseline : str
        The model that the others are compared with, present in each protocol.
    metrics : sequence of str
        Per-user metrics.

    Returns
    -------
    pyarrow.Table
        One row a (protocol, metric, model other than the baseline): ``protocol``, ``metric``,
        ``k``, ``model``, ``mean``, ``baseline``, ``difference``, ``low``, ``high``, ``p_value`` and
        ``p_holm``, the last adjusted over all rows of the table.

    Raises
    ------
    ValueError
        A protocol has no such baseline, or two evaluations of one protocol differ in users or k.
    """
    rows = []
    for one in evaluations:
        if one.model == baseline:
            continue
        base = _baseline_of(one, evaluations, baseline)
        for metric in metrics:
            found = paired_difference(
                one.per_user[metric],
                base.per_user[metric],
                confidence=confidence,
                resamples=resamples,
                seed=seed,
            )
            rows.append(
                {
                    "protocol": one.protocol,
                    "metric": metric,
                    "k": one.k,
                    "model": one.model,
                    "mean": one[metric],
                    "baseline": base[metric],
                    "difference": found.mean,
                    "low": found.low,
                    "high": found.high,
                    "p_value": found.p_value,
                }
            )
    table = pa.Table.from_pylist(rows, schema=_COLUMNS)
    return table.append_column("p_holm", pa.array(holm(table["p_value"].to_numpy()), pa.float64()))


_COLUMNS = pa.schema(
    [("protocol", pa.string()), ("metric", pa.string()), ("k", pa.int64()), ("model", pa.string())]
    + [
        (name, pa.float64())
        for name in ("mean", "baseline", "difference", "low", "high", "p_value")
    ]
)


def _baseline_of(one: Evaluation, evaluations: Sequence[Evaluation], baseline: str) -> Evaluation:
    found = [
        other for other in evaluations if other.model == baseline and other.protocol == one.protocol
    ]
    if len(found) != 1:
        raise ValueError(
            f"baseline {baseline!r} must come once in protocol {one.protocol!r}, got {len(found)}"
        )
    base = found[0]
    if base.k != one.k or not np.array_equal(base.users, one.users):
        raise ValueError(
            f"{one.model!r} and {baseline!r} must share their users and k "
            f"in protocol {one.protocol!r}"
        )
    return base
