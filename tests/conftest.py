"""What many tests need: the shared data, and nothing else leaking."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of clips, weights and goldens; a skip without it, a failure where CI needs it."""
    root = Path(os.environ.get("VEDETTE_SHARED", Path(__file__).parents[1] / ".." / "shared"))
    if root.is_dir():
        return root.resolve()
    reason = f"no shared data at {root}: set VEDETTE_SHARED"
    if os.environ.get("VEDETTE_REQUIRE_SHARED") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
