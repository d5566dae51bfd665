"""What no test's outcome may hang on: `make test-elsewhere` sets these to other values."""

import os

SEED = int(os.environ.get("DETNAS_TEST_SEED", "0"))
"""Of the small experiment that the fixtures train."""

THREADS = int(os.environ.get("DETNAS_TEST_THREADS", "1"))
"""On which it computes."""
