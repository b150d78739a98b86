"""Files appear whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def atomic_file(target: Path, prefix: str | None = None) -> Iterator[BinaryIO]:
    """A new file to write to, which takes its name when the block ends without an error.

    It stands under a temporary name beside the target, is flushed to the disk, then renamed. What
    was the target before stays whole until then, and is kept on an error or a crash. A link stays
    one: the file that it leads to is replaced.

    Parameters
    ----------
    target : Path
        The file; its folder is made if it is missing.
    prefix : str, optional
        How the temporary name begins, for those who look for what a killed process left.
    """
    target = _resolved(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}." if prefix is None else prefix
    handle, temporary = _locked_temporary(target.parent, prefix)
    try:
        with os.fdopen(handle, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush_folder(target.parent)


def replacing_file(target: Path) -> contextlib.AbstractContextManager[BinaryIO]:
    """:func:`atomic_file`, after what killed processes left of it is cleared away."""
    target = _resolved(target)
    prefix = f".{target.name}.saving-"
    remove_abandoned(target.parent, prefix)
    return atomic_file(target, prefix)


def write_atomically(target: Path, data: bytes, prefix: str | None = None) -> None:
    """Write `data` to `target` by way of :func:`atomic_file`."""
    with atomic_file(target, prefix) as file:
        file.write(data)


def remove_abandoned(folder: Path, prefix: str) -> None:
    """Remove temporary files whose writers were killed; those of living writers are locked."""
    for file in folder.glob(f"{glob.escape(prefix)}*"):
        with contextlib.suppress(OSError), file.open("rb") as opened:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.unlink()


def _resolved(target: Path) -> Path:
    return Path(os.path.realpath(target))  # which, unlike Path.resolve, bears loops of links


def _locked_temporary(folder: Path, prefix: str) -> tuple[int, Path]:
    """A new file, locked until it is closed so that :func:`remove_abandoned` leaves it alone."""
    while True:
        temporary = folder / f"{prefix}{secrets.token_hex(4)}"
        # Not by tempfile, whose files are 0600: a mode of 0666 is what the umask is for, and that
        # cannot be asked for without setting it for all threads.
        try:
            handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            continue
        fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, temporary
        os.close(handle)  # removed in the moment before it was locked


def _flush_folder(folder: Path) -> None:
    """Make a rename outlive a power cut, where the file system lets folders be opened."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
