"""The camera of a scene: a pinhole over a plane.

The ground's axes: x to the right of the camera, y ahead, z up, metres, the camera at (0, 0,
height) without roll. A picture's: x to the right, y down, pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class View:
    """Where the camera hangs and how it looks down."""

    width: int  # pixels
    height: int
    focal: float  # pixels
    pitch: float  # radians below the horizontal
    above: float  # metres over the ground

    @property
    def horizon(self) -> float:
        """The row of the picture where the plane ends, negative above the picture."""
        return self.height / 2 - self.focal * math.tan(self.pitch)

    @property
    def centre(self) -> float:
        """How far ahead the middle of the picture meets the ground, metres."""
        return self.above / math.tan(self.pitch)

    def project(self, points: Floats) -> Floats:
        """[N, 3] on the ground's axes → [N, 3]: x, y in the picture and the depth, metres.

        What is behind the camera, or nearer than half a metre, comes out at half a metre.
        """
        cos, sin = math.cos(self.pitch), math.sin(self.pitch)
        below = self.above - points[:, 2]
        depth = np.maximum(points[:, 1] * cos + below * sin, 0.5)
        down = below * cos - points[:, 1] * sin
        scale = self.focal / depth
        x = self.width / 2 + points[:, 0] * scale
        return np.stack((x, self.height / 2 + down * scale, depth), axis=1)

    def spot(self, column: float, depth: float) -> tuple[float, float]:
        """The place (x, y) on the ground at a column of the picture and a depth."""
        y = (depth - self.above * math.sin(self.pitch)) / math.cos(self.pitch)
        return (column - self.width / 2) * depth / self.focal, y

    def rays(self) -> NDArray[np.float32]:
        """[3, height, width]: where each pixel looks, x, y, z, of depth 1."""
        cos, sin = math.cos(self.pitch), math.sin(self.pitch)
        x = (np.arange(self.width, dtype=np.float32) + 0.5 - self.width / 2) / self.focal
        down = (np.arange(self.height, dtype=np.float32) + 0.5 - self.height / 2) / self.focal
        out = np.empty((3, self.height, self.width), np.float32)
        out[0] = x
        out[1] = (cos - sin * down)[:, None]
        out[2] = (-sin - cos * down)[:, None]
        return out


def choose_view(
    rng: np.random.Generator, width: int, height: int, nearest: tuple[float, float]
) -> View:
    """A camera as towns have them: 3 to 10 m high, the horizon in the upper third or above.

    `nearest`: from and to, metres, where the lower edge of the picture may meet the ground.
    """
    focal = width / 2 / math.tan(math.radians(rng.uniform(44, 72)) / 2)
    horizon = rng.uniform(-0.02, 0.27) * height
    pitch = math.atan((height / 2 - horizon) / focal)
    lowest = pitch + math.atan(height / 2 / focal)
    near = math.exp(rng.uniform(math.log(nearest[0]), math.log(nearest[1])))
    above = min(10.0, max(3.0, near * math.tan(lowest)))
    return View(width, height, focal, pitch, above)
