"""When keyframes are all that is wanted of a live camera, so that the rest need no decoding."""

from __future__ import annotations

from collections import deque

_SPACINGS = 8  # that are looked at: many cameras send keyframes more often at first
_FARTHEST = 3.0  # seconds between keyframes: with `_LATE`, no jump of time stamps (5 s)
_LATE = 1.25  # times the longest spacing
_JITTER = 0.05  # of a spacing: by how much the network may stretch it


class Sparing:
    """One connection's: keyframes are enough where they come at least as often as `max_fps` asks.

    Decides from a clock handed in, monotonic seconds. A keyframe that is late ends it: cameras may
    stretch their groups when nothing moves.
    """

    def __init__(self, max_fps: float | None) -> None:
        self._wanted = 1 / max_fps if max_fps else 0.0  # seconds from one frame to the next
        self._spacings: deque[float] = deque(maxlen=_SPACINGS)
        self._key_at: float | None = None

    def see(self, at: float, *, is_key: bool) -> bool:
        """Whether keyframes are enough as of now; asked at every frame."""
        if is_key:
            if self._key_at is not None:
                self._spacings.append(at - self._key_at)
            self._key_at = at
        if self._key_at is None or len(self._spacings) < _SPACINGS:
            return False
        longest = max(self._spacings)
        is_enough = longest <= _FARTHEST and longest * (1 - _JITTER) <= self._wanted
        return is_enough and at - self._key_at <= longest * _LATE
