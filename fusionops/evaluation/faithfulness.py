r"""Is an explanation what the model goes by: deletion and insertion curves, and their areas.

An explanation puts the H features of a question (the items of a history, the modalities) in an
order, the most important first. If the model really goes by them, its score falls fast as they are
taken away in that order, and rises fast as they come back:

.. math::
    d_k = f(\text{all but the first } k) / |f(\text{all})|, \qquad
    i_k = f(\text{the first } k \text{ alone}) / |f(\text{all})|, \qquad k = 0 .. H

(Petsiuk, Das and Saenko 2018, "RISE: Randomized input sampling for explanation of black-box
models"). The area under a curve is its mean over the steps by the trapezoid rule, as if k / H went
from 0 to 1: small is good for deletion, large for insertion. Both are to be read beside the same
areas of random orders, as every order begins and ends at the same two scores.

A score of 0 has no share that could be lost: its curves are NaN, and :func:`compare` leaves the
question out.

>>> def score(kept):
...     return kept @ np.array([1.0, 3.0])
>>> found = measure(score, {"ours": order_of([1.0, 3.0]), "random": random_orders(2, 10)})
>>> found["ours"].deletion.tolist(), found["ours"].deletion_area
([1.0, 0.25, 0.0], 0.375)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fusionops.data.ids import Codes
from fusionops.evaluation.significance import Difference, paired_difference

Mask = npt.NDArray[np.bool_]
Values = npt.NDArray[np.float64]
Score = Callable[[Mask], npt.NDArray[np.floating]]


@dataclass(frozen=True)
class Curves:
    """What becomes of one score along an order, as shares of it.

    Attributes
    ----------
    deletion : numpy.ndarray
        ``float64 [H + 1]``, without the first 0, 1, ..., H features.
    insertion : numpy.ndarray
        ``float64 [H + 1]``, with the first 0, 1, ..., H features alone.
    """

    deletion: Values
    insertion: Values

    @property
    def deletion_area(self) -> float:
        """The mean of the deletion curve; NaN where the score is 0."""
        return _area(self.deletion)

    @property
    def insertion_area(self) -> float:
        """The mean of the insertion curve; NaN where the score is 0."""
        return _area(self.insertion)


@dataclass(frozen=True)
class Faithfulness:
    """The areas of one method over many questions, and its lead over another method.

    Attributes
    ----------
    deletion, insertion : float
        The mean areas over users.
    deletion_gain : Difference
        The other method's deletion area minus this one's: above 0 is better.
    insertion_gain : Difference
        This one's insertion area minus the other method's: above 0 is better.
    questions, users : int
        How many were counted; questions whose score is 0 are not.
    """

    deletion: float
    insertion: float
    deletion_gain: Difference
    insertion_gain: Difference
    questions: int
    users: int


def order_of(effects: npt.ArrayLike) -> Codes:
    """Order features by their effect on the score, the largest first, equal ones by their place.

    Parameters
    ----------
    effects : array-like
        Shape ``[H]``, signed: what speaks against the item comes last.

    Returns
    -------
    numpy.ndarray
        ``int64 [H]``, places of the features.
    """
    values = np.asarray(effects, dtype=np.float64)
    if values.ndim != 1 or np.isnan(values).any():
        raise ValueError(f"effects: expected numbers of shape [H], got {effects!r}")
    return np.argsort(-values, kind="stable").astype(np.int64)


def random_orders(count: int, draws: int, *, seed: int | Sequence[int] = 0) -> Codes:
    """Draw random orders of ``count`` features.

    Parameters
    ----------
    count, draws : int
        H and the number of orders, at least 1 each.
    seed : int or sequence of int
        One seed, one choice; a sequence such as (seed, user, item) gives each question its own.

    Returns
    -------
    numpy.ndarray
        ``int64 [draws, H]``.
    """
    for name, value in (("count", count), ("draws", draws)):
        if value < 1:
            raise ValueError(f"{name}: expected at least 1, got {value}")
    places = np.broadcast_to(np.arange(count), (draws, count))
    return np.random.default_rng(seed).permuted(places, axis=1)


def measure(score: Score, orders: Mapping[str, Codes]) -> dict[str, Curves]:
    """Return the curves of one question along the orders of several methods.

    Parameters
    ----------
    score : callable
        From ``bool [V, H]``, the features that are kept, to the scores ``[V]``. It is called once.
    orders : mapping of str to numpy.ndarray
        By method, ``int64 [H]``, or ``[N, H]`` for the mean of the curves along N orders.

    Returns
    -------
    dict of str to Curves

    Raises
    ------
    ValueError
        An order is not one of all the features, or the scores have another shape or are not finite.
    """
    checked = {name: _checked(name, order) for name, order in orders.items()}
    widths = {order.shape[1] for order in checked.values()}
    if len(widths) != 1:
        raise ValueError(f"orders: expected orders of the same features, got {sorted(widths)}")
    stacked = np.concatenate(list(checked.values()))
    inserted = _first_of(stacked)
    shape = inserted.shape[:2]
    kept = np.stack([~inserted, inserted]).reshape(-1, inserted.shape[2])
    scores = np.asarray(score(kept), dtype=np.float64)
    if scores.shape != (len(kept),) or not np.isfinite(scores).all():
        raise ValueError(
            f"score: expected {len(kept)} finite numbers, got the shape {list(scores.shape)}"
            f"{'' if np.isfinite(scores).all() else ' with NaN or Inf'}"
        )
    deletion, insertion = scores.reshape(2, *shape)
    whole = abs(deletion[0, 0])
    deletion, insertion = (
        part / whole if whole > 0 else np.full_like(part, np.nan) for part in (deletion, insertion)
    )
    found, start = {}, 0
    for name, order in checked.items():
        rows = slice(start, start + len(order))
        found[name] = Curves(deletion[rows].mean(axis=0), insertion[rows].mean(axis=0))
        start += len(order)
    return found


def compare(
    users: npt.ArrayLike,
    questions: Sequence[Mapping[str, Curves]],
    against: str = "random",
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Faithfulness]:
    """Compare methods with one of them over many questions, paired by user.

    Questions of one user are not independent, so they are averaged first, and the bootstrap draws
    users.

    Parameters
    ----------
    users : array-like
        Shape ``[n]``, who asked each question.
    questions : sequence of mapping of str to Curves
        Of length n, what :func:`measure` found, with the same methods each.
    against : str
        The method that the others are compared with.
    confidence, resamples, seed
        As for :func:`fusionops.evaluation.paired_difference`.

    Returns
    -------
    dict of str to Faithfulness
        By method; the gains of ``against`` are 0.

    Raises
    ------
    ValueError
        The lengths or the methods differ, ``against`` is none of them, or fewer than two users have
        a question whose score is not 0.
    """
    asked = np.asarray(users)
    if asked.ndim != 1 or len(asked) != len(questions):
        raise ValueError(
            f"users: expected one for each of {len(questions)} questions, "
            f"got the shape {list(asked.shape)}"
        )
    methods = list(questions[0]) if questions else []
    if against not in methods:
        raise ValueError(f"against: expected one of {methods}, got {against!r}")
    if any(set(one) != set(methods) for one in questions):
        raise ValueError(f"questions: expected the methods {methods} in each")
    areas = np.array(
        [[(one[m].deletion_area, one[m].insertion_area) for m in methods] for one in questions]
    )
    counted = ~np.isnan(areas).any(axis=(1, 2))
    of_user = _means(asked[counted], areas[counted])

    def difference(values: Values, baseline: Values) -> Difference:
        return paired_difference(
            values, baseline, confidence=confidence, resamples=resamples, seed=seed
        )

    base = of_user[:, methods.index(against)]
    return {
        name: Faithfulness(
            float(of_user[:, column, 0].mean()),
            float(of_user[:, column, 1].mean()),
            difference(base[:, 0], of_user[:, column, 0]),
            difference(of_user[:, column, 1], base[:, 1]),
            int(counted.sum()),
            len(of_user),
        )
        for column, name in enumerate(methods)
    }


def _area(curve: Values) -> float:
    return float(np.mean(curve[1:] + curve[:-1]) / 2)


def _first_of(orders: Codes) -> Mask:
    """The first 0, 1, ..., H of orders ``[N, H]``, as a mask ``[N, H + 1, H]``."""
    place = np.argsort(orders, axis=1)  # of each feature in the order
    return place[:, None, :] < np.arange(orders.shape[1] + 1)[:, None]


def _checked(name: str, order: Codes) -> Codes:
    rows = np.atleast_2d(np.asarray(order))
    width = rows.shape[-1]
    if rows.ndim != 2 or 0 in rows.shape or (np.sort(rows, axis=1) != np.arange(width)).any():
        raise ValueError(
            f"orders[{name!r}]: expected each of the places 0, 1, ... once, "
            f"got {np.asarray(order).tolist()}"
        )
    return rows


def _means(users: npt.NDArray[np.generic], areas: Values) -> Values:
    """The means ``[U, M, 2]`` of areas ``[n, M, 2]`` over the questions of each user."""
    _, user = np.unique(users, return_inverse=True)
    total = np.zeros((user.max(initial=-1) + 1, *areas.shape[1:]))
    np.add.at(total, user, areas)
    return total / np.bincount(user)[:, None, None]
