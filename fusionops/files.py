"""Files appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_atomically(target: Path, data: bytes, prefix: str | None = None) -> None:
    """Write to a temporary name beside the target, flush to the disk, then rename.

    Parameters
    ----------
    target : Path
        The file; its folder is made if it is missing.
    data : bytes
        What it shall hold.
    prefix : str, optional
        How the temporary name begins, for those who look for what a killed process left.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}." if prefix is None else prefix
    handle, temporary = tempfile.mkstemp(prefix=prefix, dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
