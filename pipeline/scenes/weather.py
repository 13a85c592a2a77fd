"""What lies between a scene and its picture: glows around lamps, rain, the sensor's noise.

Patterns are drawn once, larger than the picture, and laid over each frame somewhere else.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from pipeline.scenes.light import Light
from pipeline.scenes.view import View

Bytes = NDArray[np.uint8]


class Veil:
    """Rain and noise over the frames of one scene."""

    def __init__(self, rng: np.random.Generator, view: View, light: Light) -> None:
        self._size = view.height, view.width
        height, width = view.height * 3 // 2, view.width * 3 // 2
        self._rain = _streaks(rng, (height, width), light) if light.rain else None
        self._lift, self._noise = _grain(rng, (height, width), light.noise)

    def cover(self, frame: Bytes, rng: np.random.Generator) -> None:
        """Lays both over a frame, in place; `rng`: of this frame."""
        if self._rain is not None:
            rain = self._piece(self._rain, rng)
            np.minimum(frame, 255 - rain, out=frame)
            frame += rain
        noise = self._piece(self._noise, rng)
        np.minimum(frame, 255 - noise, out=frame)
        frame += noise
        np.maximum(frame, self._lift, out=frame)
        frame -= self._lift

    def _piece(self, pattern: Bytes, rng: np.random.Generator) -> Bytes:
        height, width = self._size
        top = int(rng.integers(pattern.shape[0] - height))
        left = int(rng.integers(pattern.shape[1] - width))
        return pattern[top : top + height, left : left + width]


@lru_cache(maxsize=256)
def halo(radius: int, colour: tuple[float, float, float]) -> Bytes:
    """[2 radius + 1, …, 3]: a lamp that is looked into."""
    steps = np.arange(-radius, radius + 1) / max(radius, 1)
    squared = np.minimum(steps[:, None] ** 2 + steps[None, :] ** 2, 1.0)
    core = np.exp(-squared * 40) * 1.2 + 0.32 * (1 - np.sqrt(squared)) ** 2
    light: Bytes = np.minimum(core[:, :, None] * np.asarray(colour) * 255, 255).astype(np.uint8)
    return light


def _grain(rng: np.random.Generator, size: tuple[int, int], sigma: float) -> tuple[int, Bytes]:
    """Noise around a level that is to be taken off again, so that it fits into whole numbers."""
    lift = min(100, math.ceil(3 * sigma))
    grey = rng.standard_normal((*size, 1), np.float32)
    colour = rng.standard_normal((*size, 3), np.float32)
    levels = (grey * 0.8 + colour * 0.6) * np.float32(sigma) + np.float32(lift + 0.5)
    return lift, np.clip(levels, 0, 255).astype(np.uint8)


def _streaks(rng: np.random.Generator, size: tuple[int, int], light: Light) -> Bytes:
    height, width = size
    image = Image.new("L", (width, height))
    canvas = ImageDraw.Draw(image)
    slope = rng.normal(0, 0.15)
    for _ in range(round(light.rain * width * height / 1400)):
        x, y = rng.uniform(-20, width + 20), rng.uniform(-30, height)
        long = rng.uniform(6, 26) * width / 960
        canvas.line((x, y, x + slope * long, y + long), fill=int(rng.uniform(14, 58)))
    image = image.filter(ImageFilter.BoxBlur(0.6))
    bright = np.asarray(image).astype(np.float32)[:, :, None] * _strength(light)
    streaks: Bytes = np.minimum(bright, 255).astype(np.uint8)
    return streaks


def _strength(light: Light) -> NDArray[np.float32]:
    """How bright drops are: they show the sky, at night the lamps."""
    colour = np.asarray(light.horizon, np.float32) + (0.25 if light.lamps else 0.0)
    bright: NDArray[np.float32] = np.minimum(colour * 1.3, 1.0).astype(np.float32)
    return bright
