"""Made-up scenes as a camera or a file: `synthetic://street?seed=3&frames=600`.

A picture is drawn when it is written, so frames that nobody wants, those before a resumed job's
first among them, cost nothing. What comes out is what the scene draws, without any encoder.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import SourceRefused
from pipeline.scenes.address import parse
from pipeline.scenes.scene import Scene
from pipeline.sources import Picture
from pipeline.sources.timeline import Pace


class SceneSource:
    """A `pipeline.sources.Source` of one scene, once or in a loop."""

    def __init__(
        self, url: str, *, live: bool, loop: bool, max_pixels: int, clock: Callable[[], int]
    ) -> None:
        """Raises `SourceRefused` for a URL that says no scene."""
        address = parse(url)
        height, width = address.setting.size
        if height * width > max_pixels:
            raise SourceRefused(
                f"a scene is {width}x{height} pixels, and {max_pixels} in all are accepted"
            )
        self.complete = self.keys_only = False
        self.reason = "not read to its end"
        self.fault: str | None = None
        self.codec = "synthetic"
        self.announced: int | None = address.frames
        self._size = height, width
        self._rate = address.setting.rate
        self._frames = address.frames
        self._loop = loop
        self._clock = clock
        self._pace = Pace(interval=1 / self._rate) if live else None
        self._scene = Scene(address.setting)
        self._pictures = self._read()

    def __iter__(self) -> Iterator[Picture]:
        return self

    def __next__(self) -> Picture:
        return next(self._pictures)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def excuse(self) -> None:
        """Nothing is decoded."""

    def close(self) -> None:
        """Ends reading. May be called twice."""
        self._pictures.close()

    def _read(self) -> Generator[Picture, None, None]:
        segment = 0
        while True:
            for index in range(self._frames):
                yield self._picture(segment, index)
            if not self._loop:
                self.reason = f"read to its end: {self._frames} frame{'s' * (self._frames != 1)}"
                self.complete = True
                return
            segment += 1

    def _picture(self, segment: int, index: int) -> Picture:
        media_time = index / self._rate
        now_ns = self._clock()
        due_ns = self._pace.due_ns(segment, media_time, now_ns) if self._pace else None
        arrived_ns = now_ns if due_ns is None else due_ns
        height, width = self._size
        return Picture(
            width=width,
            height=height,
            segment=segment,
            lap=segment,
            media_time=media_time,
            tainted=False,
            arrived_at=time.time() + (arrived_ns - now_ns) / 1e9,
            arrived_ns=arrived_ns,
            decode_ns=0,  # the drawing is in the writing
            due_ns=due_ns,
            write=partial(self._write, index),
            is_sound=True,
        )

    def _write(self, index: int, out: NDArray[np.uint8]) -> None:
        """Draws a frame into `out`, uint8 RGB [height, width, 3] of any strides."""
        drawn = self._scene.picture(index)
        if out.shape == drawn.shape:
            np.copyto(out, drawn)
            return
        height, width = out.shape[:2]
        scaled = Image.fromarray(drawn).resize((width, height), Image.Resampling.BILINEAR)
        np.copyto(out, np.asarray(scaled))
