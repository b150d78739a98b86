"""The draws: factors of items, tastes of users, and what the users buy because of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fusionops.data.ids import Codes

MODALITIES = ("text", "image", "audio")
MAX_FACTORS = 6
"""So many factors of a modality can be rendered: texts, pictures and sounds have 6 properties."""

FEWEST_PURCHASES = 8
"""Every user has at least so many, so that a part of them can be held out."""

POPULARITY = 0.3
"""Standard deviation of the popularity of items."""

_USERS_AT_A_TIME = 256

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Truth:
    """What the purchases were drawn from, in the modalities ``text``, ``image`` and ``audio``.

    Attributes
    ----------
    item : dict of str to numpy.ndarray
        ``float64 [P, factors]`` by modality: independent standard normal factors.
    user : dict of str to numpy.ndarray
        ``float64 [U, factors]`` by modality: a random direction, of length 1 in the user's main
        modality and ``side`` in the others.
    main : numpy.ndarray
        ``int64 [U]``, the position in :data:`MODALITIES` of the planted modality.
    popularity : numpy.ndarray
        ``float64 [P]``, what makes an item sell whatever the taste.
    sharpness : float
        How much taste counts against chance.
    """

    item: Mapping[str, Values]
    user: Mapping[str, Values]
    main: Codes
    popularity: Values
    sharpness: float


def draw_truth(
    users: int, items: int, factors: int, side: float, sharpness: float, rng: np.random.Generator
) -> Truth:
    """Draw factors and tastes.

    Parameters
    ----------
    users, items, factors : int
        How many users, items, and factors a modality.
    side : float
        Length of a taste outside the main modality.
    sharpness : float
        How much taste counts.
    rng : numpy.random.Generator
        Of all of it.
    """
    main = rng.integers(len(MODALITIES), size=users)
    item = {name: rng.standard_normal((items, factors)) for name in MODALITIES}
    user = {}
    for position, name in enumerate(MODALITIES):
        direction = rng.standard_normal((users, factors))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        user[name] = direction * np.where(main == position, 1.0, side)[:, None]
    popularity = POPULARITY * rng.standard_normal(items)
    return Truth(item, user, main, popularity, sharpness)


def affinity(truth: Truth, users: Codes) -> Values:
    """``sharpness * sum over modalities of taste . factors``, ``float64 [len(users), P]``."""
    taste = np.concatenate([truth.user[name][users] for name in MODALITIES], axis=1)
    factors = np.concatenate([truth.item[name] for name in MODALITIES], axis=1)
    liked: Values = truth.sharpness * (taste @ factors.T)
    return liked


def draw_purchases(
    truth: Truth, purchases: float, rng: np.random.Generator
) -> tuple[Codes, Codes, Codes]:
    """Draw who buys what, and on which day of a year.

    User u buys ``n_u = max(8, Poisson(purchases))`` items without replacement, one after the other
    in proportion to ``exp(affinity + popularity)`` of what is left: those are the largest n_u of
    ``affinity + popularity + Gumbel noise`` (Vieira 2014; Kool et al. 2019). Their order is drawn
    anew afterwards, and so are the days, so that time says nothing but an order.

    Returns
    -------
    tuple of numpy.ndarray
        ``int64 [n]`` each, by user and day: the user, the item, the day from 0 to 364.
    """
    n_users, n_items = len(truth.main), len(truth.popularity)
    counts = np.clip(rng.poisson(purchases, n_users), FEWEST_PURCHASES, n_items)
    bought = []
    for start in range(0, n_users, _USERS_AT_A_TIME):
        chunk = np.arange(start, min(start + _USERS_AT_A_TIME, n_users))
        keys = affinity(truth, chunk) + truth.popularity
        keys += rng.gumbel(size=keys.shape)
        best_first = np.argsort(-keys, axis=1)
        bought += [row[:n] for row, n in zip(best_first, counts[chunk], strict=True)]
    item = np.concatenate([rng.permutation(row) for row in bought])
    day = np.concatenate([np.sort(rng.integers(365, size=n)) for n in counts])
    return np.repeat(np.arange(n_users), counts), item, day
