"""What every test of the operators runs under.

Threads are the subject of test_determinism.py, which holds them to the bits of one.
"""

from threads import one_thread  # noqa: F401
