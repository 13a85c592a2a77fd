"""Whether a camera shows something: a picture that never changes, or nothing but black.

Looks at one pixel of 64: at 640x384 that is 4,000 of them, and some 20 microseconds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LIVE, FROZEN, DARK = "live", "frozen", "dark"

SECONDS = 6.0  # so that it is known within ten, also where two pictures are three apart
_STEP = 8  # pixels, both ways
_BLACK = 24  # brightness that no pixel is above: limited range's black, and noise
_EVERY = 0.5  # seconds between two looks, at least
_DUE = 3.0  # and at most, where there are pictures to look at


class Sight:
    """What the pictures of one camera are like: `see` each, in order."""

    def __init__(self) -> None:
        self.state = LIVE
        self._before: NDArray[np.uint8] | None = None
        self._looked_at = float("-inf")
        self._changed_at = self._bright_at = 0.0

    def is_due(self, at: float) -> bool:
        """Whether the next picture should be shown to it, though nobody else wants it."""
        return at - self._looked_at >= _DUE

    def see(self, pixels: NDArray[np.uint8], at: float) -> bool:
        """uint8 [height, width, 3] without a border, monotonic seconds; whether `state` changed.

        Pictures that come sooner than half a second after the last that was looked at are not.
        """
        if at - self._looked_at < _EVERY:
            return False
        now = pixels[::_STEP, ::_STEP].copy()
        is_first, before, self._before = self._before is None, self._before, now
        self._looked_at = at
        if is_first or before is None or not np.array_equal(now, before):
            self._changed_at = at
        if is_first or now.max(initial=0) > _BLACK:
            self._bright_at = at
        found = LIVE
        if at - self._bright_at >= SECONDS:
            found = DARK
        elif at - self._changed_at >= SECONDS:
            found = FROZEN
        was, self.state = self.state, found
        return was != found
