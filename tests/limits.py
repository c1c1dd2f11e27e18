"""Time limits of tests are for builds as they are installed; those under sanitizers are slower, and say by how much."""

from __future__ import annotations

import os

SLOWNESS = int(os.environ.get("TILEWRIGHT_TEST_SLOWNESS", "1"))
