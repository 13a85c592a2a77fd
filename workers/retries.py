"""When a camera that was lost is tried again."""

from __future__ import annotations

import random
from collections.abc import Callable

FIRST, LONGEST = 1.0, 30.0  # seconds: the bounds of the wait before the first and any other try
_DOUBLED = 10  # times at most
GOOD = 60.0  # seconds of pictures behind which a loss is a first one again
REFUSED = (60.0, 240.0, 900.0, 1800.0, 3600.0)  # seconds: five tries in the first hour


class Retries:
    """One camera's losses. Decides from a clock handed in, monotonic seconds; opens nothing.

    Full jitter (Brooker, "Exponential Backoff And Jitter", AWS, 2015), so that cameras that were
    lost together do not come back together. A camera that refuses is asked seldom: many of them
    lock out who asks too often.
    """

    def __init__(self, draw: Callable[[float, float], float] = random.uniform) -> None:
        self._losses = 0
        self._refusals = 0
        self._since: float | None = None  # when the pictures began
        self._draw = draw

    def see(self, now: float) -> None:
        """There was a picture."""
        if self._since is None:
            self._since = now
        self._refusals = 0
        if now - self._since >= GOOD:
            self._losses = 0

    def wait(self, *, refused: bool) -> float:
        """Seconds to wait after a loss."""
        self._since = None
        if refused:
            self._refusals += 1
            return REFUSED[min(self._refusals, len(REFUSED)) - 1]
        self._losses = min(self._losses + 1, _DOUBLED)
        return self._draw(0.0, min(LONGEST, FIRST * 2.0 ** (self._losses - 1)))
