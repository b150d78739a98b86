"""What every test of the modules runs under."""

from threads import one_thread  # noqa: F401
