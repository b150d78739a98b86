"""Short sounds whose partials follow the factors."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

RATE = 8000
"""Samples a second."""

SAMPLES = 4000
"""Of a sound: half a second."""

FREQUENCIES = ((300, 2040), (590, 2330), (880, 2620), (1170, 2910), (1460, 3200), (1750, 3490))
"""In Hz, for each factor: the partial that it raises and the one that it lowers."""

_AMPLITUDE = 0.02
_RISE = 0.5
_LOUDNESS_NOISE = 0.2
_SAMPLE_NOISE = 0.02


def render(factors: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """One sound an item, ``float32 [P, 4000]`` within [-1, 1], 8 kHz.

    A factor of value f has two partials, of amplitudes ``0.02 exp(l + f / 2)`` and
    ``0.02 exp(l - f / 2)``; the loudness l is the item's own, N(0, 0.2), as are the phases. Every
    sample has normal noise.

    Parameters
    ----------
    factors : numpy.ndarray
        ``float64 [P, factors]``, at most 6 factors.
    rng : numpy.random.Generator
        Of loudness, phases and noise.
    """
    n_items, n_factors = factors.shape
    frequency = np.array(FREQUENCIES[:n_factors]).T.reshape(-1)
    loudness = _LOUDNESS_NOISE * rng.standard_normal((n_items, 1))
    amplitude = _AMPLITUDE * np.exp(loudness + _RISE * np.concatenate([factors, -factors], axis=1))
    phase = rng.uniform(0, 2 * np.pi, amplitude.shape)
    angle = 2 * np.pi * frequency[:, None] * (np.arange(SAMPLES) / RATE)
    # a cos(w t + p) = a cos p cos w t - a sin p sin w t: two products in place of P x partials
    # x samples cosines.
    tone = (amplitude * np.cos(phase)) @ np.cos(angle) - (amplitude * np.sin(phase)) @ np.sin(angle)
    noise = _SAMPLE_NOISE * rng.standard_normal((n_items, SAMPLES), dtype=np.float32)
    sound: npt.NDArray[np.float32] = np.clip(tone.astype(np.float32) + noise, -1, 1)
    return sound
