"""Small clips for a machine that has none: `python clips.py FOLDER [NAME…]`.

Bright discs and boxes move over a gradient: something to decode, resize and run the network on. A
network that was trained on photographs need not see anything in them.
"""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

WIDTH, HEIGHT = 640, 384  # pixels
RATE = 25  # frames a second
FRAMES = 250
_SHAPES = 6


def write_clip(path: Path, *, seed: int, frames: int = FRAMES) -> Path:
    """An H.264 clip of `frames` pictures; the same seed gives the same scene."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scene = Scene(np.random.default_rng(seed))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.time_base = Fraction(1, RATE)
        for number in range(frames):
            picture = av.VideoFrame.from_ndarray(scene.picture(number), format="rgb24")
            picture.pts = number
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


class Scene:
    """Shapes that move in straight lines and come back at the other side."""

    def __init__(self, random: np.random.Generator) -> None:
        self._at = random.uniform(0, (HEIGHT, WIDTH), (_SHAPES, 2))  # y, x
        self._speed = random.uniform(-4, 4, (_SHAPES, 2))  # pixels a frame
        self._radius = random.uniform(16, 60, _SHAPES)
        self._colour = random.integers(64, 256, (_SHAPES, 3))
        self._rows, self._columns = np.mgrid[:HEIGHT, :WIDTH]
        shade = 40 + self._rows * 80 // HEIGHT + self._columns * 40 // WIDTH
        self._ground = np.repeat(shade[..., None], 3, axis=2).astype(np.uint8)

    def picture(self, number: int) -> np.ndarray:
        """Picture `number`, uint8 RGB [HEIGHT, WIDTH, 3]."""
        picture = self._ground.copy()
        places = (self._at + number * self._speed) % (HEIGHT, WIDTH)
        for index, (y, x) in enumerate(places):
            down, right = np.abs(self._rows - y), np.abs(self._columns - x)
            radius = self._radius[index]
            disc = down**2 + right**2 < radius**2
            box = (down < radius) & (right < radius / 2)
            picture[disc if index % 2 else box] = self._colour[index]
        return picture


if __name__ == "__main__":
    folder, *names = sys.argv[1:] or ["."]
    for seed, name in enumerate(names or ["gate", "yard"]):
        print(write_clip(Path(folder) / f"{name}.mp4", seed=seed))
