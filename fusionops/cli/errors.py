"""Bad input is one sentence on stderr and exit code 2, never a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_CODE = 2
"""As for a wrong option."""

DEBUG = "FUSIONOPS_DEBUG"
"""Environment variable: anything but empty or 0 lets exceptions through, with their traceback."""

_LIBRARIES = frozenset(
    ("click", "matplotlib", "pyarrow", "rich", "safetensors", "scipy", "sklearn", "typer")
)
_ENCODER_LIBRARIES = frozenset(
    ("PIL", "accelerate", "gguf", "peft", "soundfile", "timm", "torchvision", "transformers")
)


@contextmanager
def sentences() -> Iterator[None]:
    """Turn the exceptions of bad input into a sentence and :data:`EXIT_CODE`."""
    try:
        yield
    except BrokenPipeError:
        raise  # the reader of our output has gone: click ends quietly
    except (OSError, ValueError, TypeError, LookupError, ImportError, MemoryError) as error:
        if os.environ.get(DEBUG, "0") not in ("", "0"):
            raise
        print(f"error: {sentence(error)}", file=sys.stderr)
        sys.exit(EXIT_CODE)


def sentence(error: BaseException) -> str:
    """One line that says what went wrong."""
    if isinstance(error, ModuleNotFoundError):
        return missing_library(error)
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}"
    # str(KeyError) is the repr of its message.
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return " ".join(text.split()) or type(error).__name__


def missing_library(error: ModuleNotFoundError) -> str:
    """Say how to get a library that is not there."""
    root = (error.name or "").split(".")[0]
    if root in _LIBRARIES:
        return f'the library {root} is not installed: pip install "fusionops[rec]"'
    if root in _ENCODER_LIBRARIES:
        return f'the library {root} is not installed: pip install "fusionops[encoders]"'
    if root == "torch":
        return "PyTorch is not installed: pip install torch"
    return f"a module is missing: {error}"
