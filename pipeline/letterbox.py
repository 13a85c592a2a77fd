"""Camera geometry to network geometry and back: the whole picture, its shape kept, grey around it.

Decided here: the scale is the smaller of the two ratios, the resized picture is rounded half to
even and sits in the middle on whole pixels (an odd pixel of padding goes to the right or the
bottom), and boxes come back by these whole pixels and by each axis' own gain, so that rounding
costs no accuracy. The geometry is that of the YOLOv6 evaluation (arXiv 2209.02976, 640 × 640).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GREY = 114  # of the border, in all three channels, as in training


@dataclass(frozen=True, slots=True)
class Letterbox:
    """How one camera's pictures lie in the network's input. All fields are in pixels."""

    width: int  # of the camera picture
    height: int
    input_size: tuple[int, int]  # height, width of the network's input
    resized: tuple[int, int]  # height, width of the picture inside it
    top: int
    left: int

    @classmethod
    def of(cls, width: int, height: int, input_size: tuple[int, int]) -> Letterbox:
        """The largest centred place for `width` × `height` in `input_size` (height, width)."""
        if min(width, height, *input_size) < 1:
            sizes = f"a {width}x{height} picture in an input of {input_size[1]}x{input_size[0]}"
            raise ValueError(f"{sizes}: each side is at least 1 pixel")
        scale = min(input_size[0] / height, input_size[1] / width)
        resized = max(1, round(height * scale)), max(1, round(width * scale))
        top = (input_size[0] - resized[0]) // 2
        left = (input_size[1] - resized[1]) // 2
        return cls(width, height, input_size, resized, top, left)

    @property
    def region(self) -> tuple[slice, slice]:
        """Rows and columns of the input that the picture fills: `slot[letterbox.region]`."""
        rows = slice(self.top, self.top + self.resized[0])
        columns = slice(self.left, self.left + self.resized[1])
        return rows, columns

    def paint(self, slot: NDArray[np.uint8]) -> None:
        """Makes the border of `slot` (uint8 [height, width, 3]) grey; the picture's place stays."""
        rows, columns = self.region
        slot[: rows.start] = GREY
        slot[rows.stop :] = GREY
        slot[rows, : columns.start] = GREY
        slot[rows, columns.stop :] = GREY

    def to_camera(self, xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Boxes float32 [n, 4] in input pixels → camera pixels, clipped to the picture."""
        boxes = (xyxy - self._pads()) / self._gains()
        limits = np.array([self.width, self.height] * 2, np.float32)
        clipped: NDArray[np.float32] = np.clip(boxes, np.float32(0), limits)
        return clipped

    def to_network(self, xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Boxes float32 [n, 4] in camera pixels → input pixels."""
        return xyxy * self._gains() + self._pads()

    def _gains(self) -> NDArray[np.float32]:
        x, y = self.resized[1] / self.width, self.resized[0] / self.height
        return np.array([x, y, x, y], np.float32)

    def _pads(self) -> NDArray[np.float32]:
        return np.array([self.left, self.top] * 2, np.float32)
