"""Settings and helpers shared by every test."""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import settings

# `--import-mode=importlib` leaves sys.path alone; the helpers of the tests are imported from here.
sys.path.insert(0, str(Path(__file__).parent))

# Shared machines stall: no deadline. The same examples on every run: a failure can be repeated.
settings.register_profile("fusionops", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("fusionops")
