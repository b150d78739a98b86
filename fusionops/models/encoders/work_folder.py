"""Finished batches of a run, kept beside its target until that is whole."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from fusionops.data import Encoded, IdMap
from fusionops.data.encoded_file import SUFFIX, read_encoded, write_encoded
from fusionops.models.encoders.contents import Vector

_LOCK = "lock"


class WorkFolder:
    """The vectors that are known of one target, by the hashes of their contents.

    Made by :func:`work_folder`, which sees to it that there is one at a time.
    """

    def __init__(self, folder: Path, target: Path, fingerprint: str) -> None:
        self._folder, self._target, self._fingerprint = folder, target, fingerprint

    def known(self) -> dict[bytes, Vector]:
        """Vectors by hash, of the target as it was and of batches that a killed run has left.

        What is left of other models, and of batches that were under way, is not looked at.

        Raises
        ------
        ValueError
            The target is there and is no undamaged file of vectors; it is left as it is.
        """
        found = self._of(self._target) if self._target.exists() else {}
        for file in self._batches():
            with suppress(ValueError):
                found |= self._of(file)
        return found

    def keep(self, vectors: Mapping[bytes, Vector]) -> None:
        """Write a finished batch, whole or not at all."""
        hashes = np.frombuffer(b"".join(vectors), np.uint8).reshape(len(vectors), -1)
        batch = Encoded(
            IdMap(np.arange(len(vectors))),
            np.stack(list(vectors.values())),
            np.ones(len(vectors), np.bool_),
            {"fingerprint": self._fingerprint},
        )
        # A content is encoded once, so that its hash names the batch that it is in.
        write_encoded(self._folder / f"{next(iter(vectors)).hex()}{SUFFIX}", batch, hashes)

    def clear(self) -> None:
        """Remove the batches, and all that killed runs have left: the target is whole."""
        for file in self._batches():
            file.unlink()

    def _batches(self) -> list[Path]:
        return [file for file in self._folder.iterdir() if file.name != _LOCK]

    def _of(self, path: Path) -> dict[bytes, Vector]:
        encoded, hashes = read_encoded(path)
        if encoded.source.get("fingerprint") != self._fingerprint:
            return {}
        keys = (row.tobytes() for row in hashes[encoded.present])
        return dict(zip(keys, encoded.vectors[encoded.present], strict=True))


@contextmanager
def work_folder(target: Path, fingerprint: str) -> Iterator[WorkFolder]:
    """The work folder of a target, for this run alone.

    It stands beside the target under a hidden name. It outlives the run where batches are in it,
    which are those of a run that did not come to its end.

    Raises
    ------
    BlockingIOError
        Another run has it.
    """
    target = Path(os.path.realpath(target))  # one lock, by whatever links the target is called
    folder = target.with_name(f".{target.name}.encoding")
    handle = _lock(folder, target)
    try:
        yield WorkFolder(folder, target, fingerprint)
    finally:
        if [file.name for file in folder.iterdir()] == [_LOCK]:
            (folder / _LOCK).unlink()
            with suppress(OSError):  # the next run has already come into it
                folder.rmdir()
        os.close(handle)


def _lock(folder: Path, target: Path) -> int:
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:  # the last run removed the folder in this moment
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise BlockingIOError(
                f"{target}: another run is encoding into it; wait for its end, or stop it"
            ) from None
        if os.fstat(handle).st_nlink:
            return handle
        os.close(handle)  # removed in the moment before it was locked
