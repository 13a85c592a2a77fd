"""Patterns that are looked up by place: noise without seams, and numbers from positions."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 256  # cells of the noise before it repeats
_OCTAVES = (4, 8, 16, 32, 64, 128)

Floats = NDArray[np.floating[Any]]


@lru_cache(maxsize=2)
def noise(rough: bool) -> Floats:
    """[SIDE, SIDE] around 0 with deviation 1: clouds, or (rough) grains of all sizes."""
    rng = np.random.default_rng(20 + rough)
    total = np.zeros((SIDE, SIDE), np.float32)
    for cells in _OCTAVES:
        weight = 1.0 if rough else (8 / cells) ** 0.9
        total += weight * _wrapped(rng.normal(0, 1, (cells, cells)).astype(np.float32))
    if rough:
        total += 1.5 * rng.normal(0, 1, (SIDE, SIDE)).astype(np.float32)
    even: Floats = (total - total.mean()) / total.std()
    return even


def look_up(pattern: Floats, u: Any, v: Any, scale: float) -> Floats:
    """The pattern at places in metres; `scale`: cells a metre."""
    rows = (v * scale).astype(np.int32) & (SIDE - 1)
    columns = (u * scale).astype(np.int32) & (SIDE - 1)
    found: Floats = pattern[rows, columns]
    return found


def scatter(seed: int, *numbers: Any) -> Floats:
    """0 to 1 for whole numbers, the same for the same ones, and no two look alike."""
    mixed: Any = np.uint32(seed & 0xFFFFFFFF)
    for number in numbers:
        mixed = (mixed ^ (np.asarray(number).astype(np.int64) & 0xFFFFFFFF)).astype(np.uint32)
        mixed = mixed * np.uint32(2654435761)
        mixed = mixed ^ (mixed >> np.uint32(15))
        mixed = mixed * np.uint32(2246822519)
        mixed = mixed ^ (mixed >> np.uint32(13))
    share: Floats = (mixed & np.uint32(0xFFFFFF)).astype(np.float32) / np.float32(1 << 24)
    return share


def _wrapped(cells: Floats) -> Floats:
    """Enlarged to SIDE smoothly, so that the edges fit onto each other."""
    padded = np.pad(cells, 2, mode="wrap")
    step = SIDE // len(cells)
    image = Image.fromarray(padded).resize((len(padded) * step,) * 2, Image.Resampling.BICUBIC)
    return np.asarray(image)[2 * step : -2 * step, 2 * step : -2 * step]
