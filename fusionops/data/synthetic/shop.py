"""A synthetic shop: purchases, contents and the truth behind both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fusionops import checks
from fusionops.data.ids import Codes, IdMap
from fusionops.data.interactions import Interactions
from fusionops.data.items import Items
from fusionops.data.synthetic import pictures, sounds, texts
from fusionops.data.synthetic.factors import (
    FEWEST_PURCHASES,
    MAX_FACTORS,
    MODALITIES,
    Truth,
    Values,
    affinity,
    draw_purchases,
    draw_truth,
)

TEXT_COLUMN = "description"

_FIRST_DAY = np.datetime64("2025-01-01", "ns")


@dataclass(frozen=True)
class Synthetic:
    """A synthetic shop. None of it was observed; it is drawn from :attr:`truth`.

    Attributes
    ----------
    interactions : Interactions
        The purchases, by user and time. The times mean nothing but an order, which is random.
    items : Items
        With the text column ``description``, None where the text is missing.
    pictures : numpy.ndarray
        ``uint8 [P, 24, 24, 3]``, RGB; zeros where missing.
    sounds : numpy.ndarray
        ``float32 [P, 4000]`` within [-1, 1], 8 kHz; zeros where missing.
    present : dict of str to numpy.ndarray
        ``bool [P]`` for each modality: False where an item lacks it.
    truth : Truth
        The factors and the tastes, those of missing contents included.
    """

    interactions: Interactions
    items: Items
    pictures: npt.NDArray[np.uint8]
    sounds: npt.NDArray[np.float32]
    present: dict[str, npt.NDArray[np.bool_]]
    truth: Truth

    @property
    def modalities(self) -> tuple[str, ...]:
        """The names of the modalities, in the order of ``truth.main`` and of contributions."""
        return MODALITIES

    def affinity(self, users: npt.ArrayLike | None = None) -> Values:
        """How much users truly like every item: the best ranking that contents can give.

        ``sharpness * sum over modalities of taste . factors``, missing contents included. The
        popularity of items, which no content shows, is not in it.

        Parameters
        ----------
        users : array-like of int, optional
            Codes, shape ``[n]``; by default all users.

        Returns
        -------
        numpy.ndarray
            ``float64 [n, P]``.
        """
        everyone = len(self.interactions.users)
        chosen = np.arange(everyone) if users is None else _codes("users", users, everyone)
        return affinity(self.truth, chosen)

    def contributions(self, users: npt.ArrayLike, items: npt.ArrayLike) -> Values:
        """What each modality truly adds to the affinity of pairs: ``sharpness * taste . factors``.

        Parameters
        ----------
        users, items : array-like of int
            Codes, shape ``[n]`` each.

        Returns
        -------
        numpy.ndarray
            ``float64 [n, 3]``, the columns in the order of :attr:`modalities`; a row adds up to
            the pair's :meth:`affinity`.
        """
        of_user = _codes("users", users, len(self.interactions.users))
        of_item = _codes("items", items, len(self.items))
        if len(of_user) != len(of_item):
            raise ValueError(
                f"items: expected the length of users, {len(of_user)}, got {len(of_item)}"
            )
        truth = self.truth
        products = [(truth.user[m][of_user] * truth.item[m][of_item]).sum(1) for m in MODALITIES]
        return truth.sharpness * np.stack(products, axis=1)

    def save(self, folder: str | Path) -> None:
        """Write the shop as files that ``fusionops fit`` and ``fusionops encode`` read.

        ``interactions.parquet`` (user, item, time), ``items.parquet`` (item, description, and the
        paths picture and sound), ``pictures/*.png``, ``sounds/*.wav``, ``truth.safetensors`` and
        ``README.txt``, which says that the data is synthetic. Each file appears whole or not at
        all, the tables after what they point to.

        Parameters
        ----------
        folder : str or Path
            Made where it is missing.

        Raises
        ------
        NotADirectoryError
            The path is a file.
        """
        from fusionops.data.synthetic.saving import save

        save(self, Path(folder))

    def __repr__(self) -> str:
        return f"Synthetic({self.interactions!r}, {'/'.join(MODALITIES)})"


def make(
    users: int = 1500,
    items: int = 1200,
    *,
    purchases: float = 30,
    missing: float = 0.0,
    factors: int = 4,
    sharpness: float = 3.0,
    side: float = 0.3,
    seed: int = 0,
) -> Synthetic:
    """Draw a synthetic shop.

    Every item has a block of ``factors`` independent standard normal factors for each of text,
    image and audio; a content is rendered from its own block alone, so each modality carries what
    the others lack. Every user has one main modality, drawn evenly, and in each modality a taste of
    random direction, of length 1 in the main one and ``side`` in the others. What users buy is
    drawn in proportion to ``exp(sharpness * sum over modalities of taste . factors + popularity)``
    without replacement, popularity N(0, 0.3).

    Parameters
    ----------
    users, items : int
        How many; at least 8 items.
    purchases : float
        The mean of the Poisson number of items that a user buys; each buys at least 8.
    missing : float
        In [0, 1): the chance of each content to be missing. Whatever it is, factors, purchases and
        the contents that are there stay the same, and what is missing at a smaller chance is
        missing at a larger.
    factors : int
        From 1 to 6 a modality.
    sharpness : float
        How much taste counts against chance; 0 is chance alone.
    side : float
        In [0, 1]: the length of a taste outside the main modality.
    seed : int
        Of all draws.

    Raises
    ------
    TypeError, ValueError
        An argument is of another kind or out of its range; the message names it.
    """
    _check(users, items, purchases, missing, factors, sharpness, side, seed)
    # A stream each: what one part draws moves no other.
    streams = np.random.SeedSequence(seed).spawn(6)
    of_truth, of_sales, of_gaps, *of_content = (np.random.default_rng(stream) for stream in streams)
    truth = draw_truth(users, items, factors, side, sharpness, of_truth)
    absent = of_gaps.random((items, len(MODALITIES))) < missing
    present = {name: ~absent[:, position] for position, name in enumerate(MODALITIES)}
    description, picture, sound = (
        renderer.render(truth.item[name], rng)
        for renderer, name, rng in zip(
            (texts, pictures, sounds), MODALITIES, of_content, strict=True
        )
    )
    picture[~present["image"]] = 0
    sound[~present["audio"]] = 0
    shown = [
        text if there else None for text, there in zip(description, present["text"], strict=True)
    ]
    interactions = _interactions(truth, *draw_purchases(truth, purchases, of_sales))
    catalogue = Items(interactions.items, text={TEXT_COLUMN: shown})
    return Synthetic(interactions, catalogue, picture, sound, present, truth)


def _interactions(truth: Truth, user: Codes, item: Codes, day: Codes) -> Interactions:
    return Interactions(
        user=user,
        item=item,
        users=_ids("user", len(truth.main)),
        items=_ids("item", len(truth.popularity)),
        time=_FIRST_DAY + day.astype("timedelta64[D]"),
    )


def _ids(kind: str, n: int) -> IdMap:
    """Ids of one width, whose alphabetical order is that of the codes."""
    width = len(str(n - 1))
    return IdMap([f"{kind}-{code:0{width}d}" for code in range(n)])


def _codes(name: str, values: npt.ArrayLike, n: int) -> Codes:
    codes = np.asarray(values)
    if codes.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected integer codes, got {codes.dtype}")
    if codes.ndim != 1:
        raise ValueError(f"{name}: expected codes of one dimension, got shape {list(codes.shape)}")
    if len(codes) and not (codes.min() >= 0 and codes.max() < n):
        raise IndexError(f"{name}: expected codes in 0..{n - 1}, got {codes.min()}..{codes.max()}")
    return codes.astype(np.int64)


def _check(
    users: int,
    items: int,
    purchases: float,
    missing: float,
    factors: int,
    sharpness: float,
    side: float,
    seed: int,
) -> None:
    checks.count("users", users)
    checks.count("items", items, FEWEST_PURCHASES)
    checks.count("factors", factors)
    checks.count("seed", seed, 0)
    if factors > MAX_FACTORS:
        raise ValueError(f"factors: expected at most {MAX_FACTORS}, got {factors}")
    for name, value in (("purchases", purchases), ("sharpness", sharpness), ("side", side)):
        checks.number(name, value, 0.0)
    checks.number("missing", missing, 0.0)
    if missing >= 1:
        raise ValueError(f"missing: expected less than 1, got {missing}")
    if side > 1:
        raise ValueError(f"side: expected at most 1, got {side}")
