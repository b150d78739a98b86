"""Search of a snapshot: each segment by itself, then one list out of theirs.

Reduced precision is exact: of a segment in bfloat16 or int8, what its error bound cannot rule out
of the float32 list is rescored from the float32 vectors, in the order of additions of the float32
kernel. Users of whom too many items survive are scanned in float32.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fusionops import _native
from fusionops.catalog.ids import as_ids
from fusionops.catalog.inputs import as_array
from fusionops.catalog.segment import Segment
from fusionops.catalog.snapshot import Places, Snapshot

Ragged = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
_Lists = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]


class _Query(NamedTuple):
    """Users as the kernels take them, and what a segment may not return to them."""

    user: npt.NDArray[np.float32]
    k: int
    user_scale: npt.NDArray[np.float32] | None
    exclude: Ragged | None = None
    allowed: npt.NDArray[np.bool_] | None = None

    def only(self, chosen: npt.NDArray[np.bool_]) -> _Query:
        """Some of the users."""
        exclude = None
        if self.exclude is not None:
            offsets, positions = self.exclude
            lengths = np.diff(offsets)
            exclude = (_offsets(lengths[chosen]), positions[np.repeat(chosen, lengths)])
        scale = None if self.user_scale is None else self.user_scale[chosen]
        return self._replace(user=self.user[chosen], user_scale=scale, exclude=exclude)


def search(
    snapshot: Snapshot, user: npt.NDArray[np.float32], k: int, exclude: Any, allowed: Any
) -> tuple[npt.NDArray[np.float32], npt.NDArray[Any]]:
    """See :meth:`fusionops.catalog.Catalog.search`; `user` and `k` are checked."""
    _check_room(len(user), k)
    excluded = None if exclude is None else _exclusions(snapshot, exclude, len(user))
    masks = [part.alive for part in snapshot.parts]
    if allowed is not None:
        masks = snapshot.masks("allowed", allowed)
    user_scale = snapshot.norm.user_scale(user)
    if snapshot.user_map is not None:
        user = _native.fusion_matrix(user, snapshot.user_map)
    found: list[_Lists] = []
    for at, (part, mask) in enumerate(zip(snapshot.parts, masks, strict=True)):
        lists = None if excluded is None else _within(*excluded, at)
        query = _Query(user, min(k, len(part.segment)), user_scale, lists, mask)
        found.append(_search_segment(part.segment, query))
    best, places = _merge(snapshot, found, len(user), k)
    names, width = snapshot.names(places), best.shape[1]
    if width == k:
        return best, names
    scores = np.full((len(user), k), -np.inf, dtype=np.float32)
    ids = snapshot.no_names(scores.shape)
    scores[:, :width], ids[:, :width] = best, names
    return scores, ids


def _check_room(users: int, k: int) -> None:
    """Tell a `k` that is too large at once: room for its lists is asked for, and not touched."""
    try:
        np.empty((users, k, 3), dtype=np.float32)  # a score and an id
    except (MemoryError, ValueError):
        raise ValueError(
            f"k: expected lists that fit into memory, got {k} for each of {users} users"
        ) from None


def _search_segment(segment: Segment, query: _Query) -> _Lists:
    item_scale = None if segment.item_scale is None else segment.item_scale.whole()
    panels, count = segment.panels.whole(), len(segment)
    if segment.vectors is None or segment.stats is None:
        user, k, user_scale, exclude, allowed = query
        return _native.packed_topk(user, k, panels, count, user_scale, item_scale, exclude, allowed)
    offsets, positions, overflowed = _native.packed_candidates(
        query.user,
        query.k,
        segment.dtype,
        panels,
        segment.stats.whole(),
        count,
        query.user_scale,
        query.exclude,
        query.allowed,
    )
    scores, found = _native.fusion_topk(
        query.user,
        segment.vectors.with_rows(positions),
        query.k,
        user_scale=query.user_scale,
        item_scale=item_scale,
        candidates=(offsets, positions),
    )
    if overflowed.any():
        rest = query.only(overflowed)
        scores[overflowed], found[overflowed] = _native.fusion_topk(
            rest.user,
            segment.vectors.whole(),
            rest.k,
            user_scale=rest.user_scale,
            item_scale=item_scale,
            exclude=rest.exclude,
            allowed=rest.allowed,
        )
    return scores, found


def _merge(
    snapshot: Snapshot, found: list[_Lists], users: int, k: int
) -> tuple[npt.NDArray[np.float32], Places]:
    """The k best of the segments' lists, by score descending, then by insertion.

    They are shorter than k where the segments' lists together are.
    """
    width = sum(scores.shape[1] for scores, _ in found)
    scores = np.full((users, width), -np.inf, dtype=np.float32)
    places = Places(np.full((users, width), -1, np.int64), np.full((users, width), -1, np.int64))
    keys = np.full((users, width), np.iinfo(np.int64).max) if len(found) > 1 else None
    at = 0
    for number, (part, (values, positions)) in enumerate(zip(snapshot.parts, found, strict=True)):
        columns = slice(at, at + values.shape[1])
        at = columns.stop
        scores[:, columns] = values
        places.position[:, columns] = positions
        places.part[:, columns] = np.where(positions >= 0, number, -1)
        if keys is not None:
            known = part.segment.keys_of(np.maximum(positions, 0))
            keys[:, columns] = np.where(positions >= 0, known, keys[:, columns])
    if keys is None:
        return scores, places
    best = np.lexsort((keys, -scores), axis=-1)[:, :k]
    rows = np.arange(users)[:, None]
    return scores[rows, best], places.at((rows, best))


def _exclusions(snapshot: Snapshot, exclude: Any, users: int) -> tuple[npt.NDArray[Any], Places]:
    """Offsets per user, and where the excluded ids are."""
    pair = _pair(exclude, users)
    if pair is not None:
        offsets, ids = pair[0], as_ids("exclude", pair[1])
        _check_offsets(offsets, users, len(ids))
        return offsets.astype(np.int64), snapshot.locate("exclude", ids)
    if isinstance(exclude, (str, bytes)) or not hasattr(exclude, "__len__"):
        raise TypeError(
            f"exclude: expected a list of ids for each user, got {type(exclude).__name__}"
        )
    if len(exclude) != users:
        raise ValueError(
            f"exclude: expected one list for each of {users} users, got {len(exclude)}; a pair "
            "(offsets, ids) must be a tuple of two arrays"
        )
    lists = [as_ids("exclude", ids) for ids in exclude]
    flat = [ids for ids in lists if len(ids)]
    if len({ids.dtype for ids in flat}) > 1:
        raise TypeError("exclude: expected integers alone or strings alone, got both")
    joined = np.concatenate(flat) if flat else np.empty(0, dtype=np.int64)
    return _offsets([len(ids) for ids in lists]), snapshot.locate("exclude", joined)


def _pair(exclude: Any, users: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]] | None:
    """Offsets and ids, where `exclude` is such a pair rather than lists of two users."""
    if not (
        isinstance(exclude, tuple)
        and len(exclude) == 2
        and all(hasattr(part, "__array__") for part in exclude)
    ):
        return None
    offsets, ids = (as_array("exclude", part) for part in exclude)
    are_offsets = offsets.dtype.kind in "iu" and offsets.shape == (users + 1,) and offsets[0] == 0
    # For any other number of users two arrays can be nothing else, and errors say what they lack.
    return (offsets, ids) if are_offsets or users != 2 else None


def _check_offsets(offsets: npt.NDArray[Any], users: int, size: int) -> None:
    if offsets.dtype.kind not in "iu" or offsets.shape != (users + 1,):
        raise ValueError(
            f"exclude: expected integer offsets of shape [{users + 1}], got {offsets.dtype} "
            f"{list(offsets.shape)}"
        )
    if offsets[0] != 0 or offsets[-1] != size or (offsets[1:] < offsets[:-1]).any():
        raise ValueError(f"exclude: expected offsets that rise from 0 to the {size} ids")


def _within(offsets: npt.NDArray[np.int64], places: Places, part: int) -> Ragged:
    """The lists' items in one part."""
    here = places.part == part
    kept = np.concatenate([[0], np.cumsum(here)])
    return kept[offsets], places.position[here]


def _offsets(lengths: Any) -> npt.NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
