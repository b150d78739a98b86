"""The helpers of the suites are imported as the suites import them."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# And from the root those that take from one another.
sys.path += [str(ROOT / "benchmarks"), str(ROOT)]
