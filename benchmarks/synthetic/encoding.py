"""Simple fixed encoders of the synthetic contents, which know nothing of the factors.

Each is learned on the items with history alone: an item that comes later is only read. The features
of a modality share a unit, so they are centred one by one and scaled by one number: features in
which nothing happens stay small.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from fusionops.data import Encoded, Interactions
from fusionops.data.synthetic import Synthetic

BLOCKS = 8
BANDS = 40
WORD_COMPONENTS = 32

Values = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def encode(shop: Synthetic, train: Interactions) -> dict[str, Encoded]:
    """Vectors of the items in each modality.

    Parameters
    ----------
    shop : Synthetic
    train : Interactions
        Training rows over the catalogue of the shop.
    """
    known = np.bincount(train.item, minlength=len(train.items)) > 0
    encoders: dict[str, Callable[[Synthetic, Mask], Values]] = {
        "text": words,
        "image": lambda shop, fitted: blocks(shop.pictures),
        "audio": lambda shop, fitted: bands(shop.sounds),
    }
    encoded = {}
    for name in shop.modalities:
        present = shop.present[name]
        raw = encoders[name](shop, known & present)
        encoded[name] = Encoded(train.items, _scaled(raw, present, known & present), present)
    return encoded


def words(shop: Synthetic, fitted: Mask) -> Values:
    """TF-IDF of the words of the descriptions and its singular vectors, ``[P, 32]``."""
    texts = [text or "" for text in shop.items.text["description"]]
    vectorizer = TfidfVectorizer()
    found = vectorizer.fit_transform([texts[p] for p in np.flatnonzero(fitted)])
    width = min(WORD_COMPONENTS, *(size - 1 for size in found.shape))
    reduced = TruncatedSVD(width, random_state=0).fit(found)
    return np.asarray(reduced.transform(vectorizer.transform(texts)), np.float64)


def blocks(pictures: npt.NDArray[np.uint8]) -> Values:
    """Pictures averaged to 8 x 8 pixels, ``[P, 192]``."""
    side = pictures.shape[1] // BLOCKS
    parts = pictures.reshape(len(pictures), BLOCKS, side, BLOCKS, side, 3)
    return parts.mean(axis=(2, 4)).reshape(len(pictures), -1)


def bands(sounds: npt.NDArray[np.float32]) -> Values:
    """Log energies of 40 bands of equal width, ``[P, 40]``."""
    spectrum = np.fft.rfft(sounds)[:, : sounds.shape[1] // 2]
    power = np.abs(spectrum) ** 2
    energy = power.reshape(len(sounds), BANDS, -1).sum(axis=2)
    return np.asarray(np.log(np.maximum(energy, 1e-9)), np.float64)


def _scaled(raw: Values, present: Mask, fitted: Mask) -> npt.NDArray[np.float32]:
    """Centred, with a mean variance of 1 over the fitted items; zeros where missing."""
    centred = raw - raw[fitted].mean(axis=0)
    scaled = centred / np.sqrt(np.mean(centred[fitted] ** 2))
    return np.where(present[:, None], scaled, 0).astype(np.float32)
