"""For how long nothing has gone on of what should: how a process is seen to hang, from outside."""

from __future__ import annotations

LEAST, MOST = 20.0, 120.0  # seconds: the bounds of how long one may stand still…
_TIMES = 10.0  # …which is so many times as long as it ever has, and `MOST` before it has moved
_PAUSED = 2.0  # seconds between two looks, which are four a second


class Stillness:
    """Decides from what it is shown, and from times handed in: monotonic seconds."""

    def __init__(self) -> None:
        self.longest = 0.0  # seconds that it has stood at one place before it moved on
        self._moved_at: float | None = None  # when something was last seen to go on…
        self._at: object = None  # …and what
        self._looked_at: float | None = None

    @property
    def limit(self) -> float:
        """Seconds at one place after which it hangs."""
        if not self.longest:
            return MOST
        return min(MOST, max(LEAST, _TIMES * self.longest))

    def watch(self, place: object, at: float, *, waiting: bool) -> float:
        """For how many seconds it has been at the same `place`; 0 while it may rightly wait.

        Seconds in which nobody looked do not count: this whole machine may have been stopped.
        """
        paused = self._looked_at is not None and at - self._looked_at > _PAUSED
        self._looked_at = at
        if self._moved_at is not None and place != self._at and not (waiting or paused):
            self.longest = max(self.longest, at - self._moved_at)
        if waiting or paused or place != self._at or self._moved_at is None:
            self._at, self._moved_at = place, at
        return at - self._moved_at
