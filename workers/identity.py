"""What a file is known by, so that the same job is known again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from pipeline.sources import SYNTHETIC_VERSION, is_synthetic

_BLOCK = 1 << 22  # bytes between two looks at whether somebody calls


def identify(url: str, called: Callable[[], bool] = lambda: False) -> str | None:
    """Size and sha-256 of a file; None for one that cannot be read, or when `called` away.

    A scene is known by its URL, and by the version of what draws it.
    """
    digest, size = hashlib.sha256(), 0
    if is_synthetic(url):
        return f"{SYNTHETIC_VERSION}:{hashlib.sha256(url.encode()).hexdigest()}"
    try:
        with Path(url).open("rb") as file:
            while block := file.read(_BLOCK):
                if called():
                    return None
                digest.update(block)
                size += len(block)
    except OSError:
        return None
    return f"{size}:{digest.hexdigest()}"
