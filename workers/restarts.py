"""When a worker that died is started again: full jitter, and a breaker for one that keeps dying."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

FIRST, LONGEST = 0.5, 30.0  # seconds: the bounds of the wait before the first and any restart
MOST, WITHIN = 5, 60.0  # so many deaths in so many seconds open the breaker…
OPEN = 60.0  # …for so many seconds


class Restarts:
    """One worker's deaths. Decides from a clock handed in; starts nothing."""

    def __init__(self, draw: Callable[[float, float], float] = random.uniform) -> None:
        self._deaths: deque[float] = deque()
        self._draw = draw

    def wait(self, now: float) -> float:
        """Seconds to wait after a death at `now`, monotonic seconds."""
        self._deaths.append(now)
        while self._deaths[0] < now - WITHIN:
            self._deaths.popleft()
        if len(self._deaths) > MOST:
            return OPEN
        return self._draw(0.0, min(LONGEST, FIRST * 2 ** (len(self._deaths) - 1)))
