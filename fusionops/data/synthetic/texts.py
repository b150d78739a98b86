"""Descriptions whose words follow the factors."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

WORDS = (
    ("rustic", "farmhouse", "wooden", "woven", "glazed", "polished", "sleek", "chrome"),
    ("sombre", "muted", "quiet", "plain", "cheerful", "bright", "playful", "festive"),
    ("frosty", "wintry", "woollen", "cosy", "breezy", "sunny", "beach", "tropical"),
    ("lace", "dainty", "floral", "delicate", "sturdy", "rugged", "industrial", "iron"),
    ("baking", "kitchen", "dining", "table", "patio", "garden", "outdoor", "camping"),
    ("antique", "heirloom", "vintage", "classic", "modern", "trendy", "neon", "futuristic"),
)
"""For each factor the words from one pole to the other, four a pole."""

FILLERS = ("gift", "set", "home", "decoration", "box", "piece", "item", "new", "assorted", "large")
"""Words that mean nothing."""

WORDS_A_FACTOR = 3
FILLERS_A_TEXT = 4

_PLACES = np.linspace(-2.1, 2.1, len(WORDS[0]))
_WIDTH = 0.5


def render(factors: npt.NDArray[np.float64], rng: np.random.Generator) -> list[str]:
    """One description an item: 3 words a factor and 4 fillers, in random order.

    The 8 words of a factor stand at evenly spaced places ``w`` from -2.1 to 2.1. For a value f,
    three different ones are drawn by ``softmax(f w / s^2 - w^2 / (2 s^2))``, s = 0.5: those of the
    pole that f points to, the stronger the farther out. Fillers are drawn evenly.

    Parameters
    ----------
    factors : numpy.ndarray
        ``float64 [P, factors]``, at most 6 factors.
    rng : numpy.random.Generator
        Of the choice and the order of words.
    """
    n_items, n_factors = factors.shape
    logits = (factors[:, :, None] * _PLACES - _PLACES**2 / 2) / _WIDTH**2
    keys = logits + rng.gumbel(size=logits.shape)
    chosen = np.argsort(-keys, axis=2)[:, :, :WORDS_A_FACTOR]
    vocabulary = np.array(WORDS)[np.arange(n_factors)[:, None], chosen]
    fillers = np.array(FILLERS)[rng.integers(len(FILLERS), size=(n_items, FILLERS_A_TEXT))]
    words = np.concatenate([vocabulary.reshape(n_items, -1), fillers], axis=1)
    return [" ".join(row) for row in rng.permuted(words, axis=1)]
