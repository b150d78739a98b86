"""Compiled files, made once: each is named by the hash of all that it is made from."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .toolchain import PACKAGE, ROOT

FOLDER = Path(os.environ.get("FUSIONOPS_EMULATED", ROOT / "build" / "emulated"))
JOBS = 2
_QUOTED = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


def included(source: Path, folders: Sequence[Path]) -> set[Path]:
    """`source` and every file that it includes in quotes, however deep."""
    found: set[Path] = set()
    waiting = [source.resolve()]
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.add(file)
        for name in _QUOTED.findall(file.read_text()):
            candidates = (folder / name for folder in (file.parent, *folders))
            waiting += [path.resolve() for path in candidates if path.exists()][:1]
    return found


def digest(files: Iterable[Path], *words: object) -> str:
    """A short hash of the files' contents and of the words."""
    hashed = hashlib.sha256(repr(words).encode())
    for content in sorted(file.read_bytes() for file in set(files)):
        hashed.update(hashlib.sha256(content).digest())
    return hashed.hexdigest()[:16]


def own_files(*folders: str) -> list[Path]:
    """The emulator's own sources, which decide what it builds as much as the kernels do."""
    return [
        path
        for folder in folders
        for path in sorted((PACKAGE / folder).rglob("*"))
        if path.suffix in (".py", ".h", ".cpp")
    ]


def made(name: str, make: Callable[[Path], None]) -> Path:
    """The file `name` in the cache; `make(path)` writes it, once, whoever else wants it too."""
    path = FOLDER / name
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(path.name + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            unfinished = path.with_name(f"{os.getpid()}-{path.name}")
            make(unfinished)
            os.replace(unfinished, path)
    return path


def in_parallel(works: Iterable[Callable[[], Path]]) -> list[Path]:
    """The results of all, two at a time; the compilers are processes, so threads do."""
    with ThreadPoolExecutor(JOBS) as pool:
        return [future.result() for future in [pool.submit(work) for work in works]]
