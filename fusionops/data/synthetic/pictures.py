"""Small pictures whose colours and shapes follow the factors."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SIZE = 24
"""Pixels a side."""

_DISC = 3  # the position of the factor that is the size of a disc
_MIDDLE_GREY = 112.0
_DISC_BRIGHTNESS = 40.0
_EXPOSURE_NOISE = 8.0
_PIXEL_NOISE = 12.0
_CENTRE_NOISE = 0.7  # pixels

Floats = npt.NDArray[np.float32]


def render(factors: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """One picture an item, ``uint8 [P, 24, 24, 3]``.

    Factor by factor, as many as there are: the background from green to red, the same from yellow
    to blue, a gradient of brightness across, the radius of a brighter disc, a gradient down, and
    the contrast of upright stripes. Each property is linear in ``tanh(f / 2)``, so that few pixels
    reach 0 or 255. Exposure, the centre of the disc and every pixel have normal noise.

    Parameters
    ----------
    factors : numpy.ndarray
        ``float64 [P, factors]``, at most 6 factors.
    rng : numpy.random.Generator
        Of the noise.
    """
    n_items, n_factors = factors.shape
    strength = np.tanh(factors / 2).astype(np.float32)
    picture = rng.normal(_MIDDLE_GREY, _EXPOSURE_NOISE, (n_items, 1, 1, 1)).astype(np.float32)
    picture = picture + _PIXEL_NOISE * rng.standard_normal(
        (n_items, SIZE, SIZE, 3), dtype=np.float32
    )
    for position, pattern in _patterns().items():
        if position < n_factors:
            picture += strength[:, position, None, None, None] * pattern
    centre = _CENTRE_NOISE * rng.standard_normal((n_items, 2), dtype=np.float32)
    if n_factors > _DISC:
        picture += _DISC_BRIGHTNESS * _discs(6 + 3 * strength[:, _DISC], centre)[..., None]
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def _patterns() -> dict[int, Floats]:
    """What a factor adds at full strength, ``[24, 24, 3]``, by its position."""
    along = np.linspace(-1, 1, SIZE, dtype=np.float32)
    whole = np.ones((SIZE, SIZE, 1), np.float32)
    grey = np.ones(3, np.float32)
    across = np.broadcast_to(along, (SIZE, SIZE))[..., None]
    return {
        0: 36 * whole * np.array([1, -1, 0], np.float32),
        1: 36 * whole * np.array([-0.5, -0.5, 1], np.float32),
        2: 30 * across * grey,
        4: 30 * across.transpose(1, 0, 2) * grey,
        5: 20 * np.cos(2 * np.pi * across) * grey,
    }


def _discs(radius: Floats, centre: Floats) -> Floats:
    """Discs around the middle, 1 inside and 0 outside with an edge of a pixel, ``[P, 24, 24]``."""
    pixel = np.arange(SIZE, dtype=np.float32) - (SIZE - 1) / 2
    down = pixel[:, None] - centre[:, 0, None, None]
    across = pixel[None, :] - centre[:, 1, None, None]
    inside: Floats = np.clip(radius[:, None, None] - np.hypot(down, across) + 0.5, 0, 1)
    return inside
