"""Times of any common form to UTC nanoseconds."""

from __future__ import annotations

from datetime import date, datetime, timezone
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_NS = pa.timestamp("ns")


def to_utc(column: pa.Array) -> pa.Array:
    """Return the column as ``timestamp[ns]`` in UTC, null where it is missing or not a time.

    Timestamps and dates are taken as they are (those with a zone are moved to UTC), numbers are
    seconds since 1970-01-01, and text is ISO 8601, such as ``2011-09-01`` or
    ``2011-09-01 12:30:00+02:00``.
    """
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return column.cast(_NS, safe=False)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        seconds = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
        good = np.isfinite(seconds) & (np.abs(seconds) < 9.2e9)  # the range of int64 nanoseconds
        whole = np.floor(np.where(good, seconds, 0.0))
        fraction = np.where(good, seconds, 0.0) - whole
        nanoseconds = whole.astype(np.int64) * 10**9 + np.rint(fraction * 1e9).astype(np.int64)
        return pa.array(nanoseconds, pa.int64(), mask=~good).cast(_NS)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        # Rows share their times less often than they are well formed: try the fast way first.
        try:
            return pc.cast(column, _NS)
        except pa.ArrowInvalid:
            return pa.array(
                [_iso_nanoseconds(text) for text in column.to_pylist()], pa.int64()
            ).cast(_NS)
    return pa.nulls(len(column), _NS)


def _iso_nanoseconds(text: str | None) -> int | None:
    """Nanoseconds since 1970 of an ISO 8601 text, or None."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    since = moment - datetime(1970, 1, 1, tzinfo=timezone.utc)
    nanoseconds = (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1_000
    return nanoseconds if abs(nanoseconds) < 2**63 else None


Time = str | date | np.datetime64
"""One moment, as a caller may write it."""


def as_time(value: Time) -> np.datetime64:
    """Return one moment as ``datetime64[ns]``; ValueError where it is none."""
    moment: Any = value
    try:
        stamp: np.datetime64 = np.datetime64(moment, "ns")
    except ValueError:
        raise ValueError(f"expected a time such as '2011-09-01', got {value!r}") from None
    return stamp
