"""Sounds from files and arrays: one channel, at the rate that a model takes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fusionops.models.encoders.base import Unreadable, path_of, reason

Wave = npt.NDArray[np.float32]

MAX_SECONDS = 30.0
"""What is read of a sound by default."""

SHORTEST = 0.025
"""In seconds: one frame of a spectrum. Less has no pitch to speak of."""


def checked_seconds(seconds: Any) -> float:
    """`seconds`, if a sound can be cut to that."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds > 0:
        raise ValueError(f"max_seconds: expected a number above 0, got {seconds!r}")
    return float(seconds)


def read_sound(content: Any, rate: int, max_seconds: float) -> Wave:
    """The samples of a sound.

    Parameters
    ----------
    content : str, Path, tuple or numpy.ndarray
        A file of any format that libsndfile reads; an array ``[T]`` or ``[T, channels]`` of this
        `rate`; or an array and its own rate. Integers are scaled to ``[-1, 1]``.
    rate : int
        Of the result, in samples a second.
    max_seconds : float
        What is kept, from the beginning.

    Returns
    -------
    numpy.ndarray
        ``float32 [T]``.

    Raises
    ------
    Unreadable
        It is missing, damaged, no sound, or shorter than :data:`SHORTEST`.
    """
    samples, own_rate = _samples(content, rate, max_seconds)
    if samples.ndim == 2:
        samples = samples.mean(axis=1)
    wave = _resampled(samples[: math.ceil(max_seconds * own_rate)], own_rate, rate)
    if len(wave) < SHORTEST * rate:
        raise Unreadable(
            f"expected at least {1000 * SHORTEST:g} ms of sound, got {1000 * len(wave) / rate:g}"
        )
    if not np.isfinite(wave).all():
        raise Unreadable("expected finite samples, got NaN or Inf")
    return wave


def _samples(content: Any, rate: int, max_seconds: float) -> tuple[npt.NDArray[Any], int]:
    path = path_of(content)
    if path is not None:
        return _from_file(path, max_seconds)
    if isinstance(content, tuple) and len(content) == 2:
        content, rate = content
    if not isinstance(content, np.ndarray) or content.ndim not in (1, 2):
        raise Unreadable(
            "expected a path, or samples [T] or [T, channels] with or without their rate, got "
            + type(content).__name__
        )
    if isinstance(rate, bool) or not isinstance(rate, (int, np.integer)) or rate < 1:
        raise Unreadable(f"expected a rate in samples a second, got {rate!r}")
    if content.dtype.kind == "i":
        content = content / -float(np.iinfo(content.dtype).min)
    if content.dtype.kind != "f":
        raise Unreadable(f"expected samples of floats or signed integers, got {content.dtype}")
    return content.astype(np.float32), int(rate)


def _from_file(path: str, max_seconds: float) -> tuple[Wave, int]:
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            wanted = math.ceil(max_seconds * file.samplerate)
            return file.read(wanted, dtype="float32", always_2d=True), file.samplerate
    except Exception as error:  # libsndfile's, or of whatever damage makes it meet
        why = getattr(error, "error_string", None) or reason(error)
        raise Unreadable(f"the sound cannot be read: {why.rstrip('.')}") from error


def _resampled(wave: npt.NDArray[Any], own_rate: int, rate: int) -> Wave:
    from scipy.signal import resample_poly

    if own_rate != rate and len(wave):
        common = math.gcd(own_rate, rate)
        wave = resample_poly(wave, rate // common, own_rate // common)
    return np.ascontiguousarray(wave, np.float32)
