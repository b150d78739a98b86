"""Files appear whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def atomic_file(target: Path, prefix: str | None = None) -> Iterator[BinaryIO]:
    """A new file to write to, which takes its name when the block ends without an error.

    It stands under a temporary name beside the target, is flushed to the disk, then renamed. What
    was the target before stays whole until then, and is kept on an error or a crash.

    Parameters
    ----------
    target : Path
        The file; its folder is made if it is missing.
    prefix : str, optional
        How the temporary name begins, for those who look for what a killed process left.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}." if prefix is None else prefix
    handle, temporary = tempfile.mkstemp(prefix=prefix, dir=target.parent)
    try:
        with os.fdopen(handle, "w+b") as file:
            # Held until the file is closed, so that remove_abandoned knows a living writer's file.
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
            os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _flush_folder(target.parent)


def write_atomically(target: Path, data: bytes, prefix: str | None = None) -> None:
    """Write `data` to `target` by way of :func:`atomic_file`."""
    with atomic_file(target, prefix) as file:
        file.write(data)


def remove_abandoned(folder: Path, prefix: str) -> None:
    """Remove temporary files whose writers were killed; those of living writers are locked."""
    for file in folder.glob(f"{prefix}*"):
        with contextlib.suppress(OSError), file.open("rb") as opened:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Empty: perhaps made this moment and not locked yet.
            if os.fstat(opened.fileno()).st_size:
                file.unlink()


def _flush_folder(folder: Path) -> None:
    """Make a rename outlive a power cut, where the file system lets folders be opened."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
