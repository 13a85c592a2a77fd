"""When infer comes for a live camera's frame, so that pictures nobody will see are not resized.

Where the device has no time for all of them, most pictures of a camera would be resized into its
slots only to be overwritten, and that takes from the network what time there is. Infer says at
every batch when each camera's turn is about to be, so that a wrong guess is mended before it does
harm; ingest then knows which picture may be the last before it.
"""

from __future__ import annotations

from collections import deque

_BATCHES = 8  # from which a rate is told
_GAPS = 8  # between pictures; the longest of them counts


class Pace:
    """How fast infer takes frames, from when it did. Times in nanoseconds, monotonic."""

    def __init__(self) -> None:
        self._taken: deque[tuple[int, int]] = deque(maxlen=_BATCHES)  # when, and how many frames

    def take(self, now_ns: int, frames: int) -> None:
        """A batch of so many has gone."""
        self._taken.append((now_ns, frames))

    def turn_ns(self, before: int) -> int:
        """When about, rather a batch too early, the camera goes that has so many frames before it.

        0: nobody knows.
        """
        if len(self._taken) < _BATCHES:
            return 0
        (first_ns, _), (last_ns, _) = self._taken[0], self._taken[-1]
        frames = sum(frames for _, frames in self._taken) - self._taken[0][1]
        return last_ns + before * (last_ns - first_ns) // frames


class Gaps:
    """How far apart a camera's pictures come. Times in nanoseconds, monotonic."""

    def __init__(self) -> None:
        self._gaps: deque[int] = deque(maxlen=_GAPS)
        self._last_ns: int | None = None

    def is_last_before(self, turn_ns: int, now_ns: int) -> bool:
        """Whether the picture of now may be the last one before a turn; asked at every picture."""
        if self._last_ns is not None:
            self._gaps.append(now_ns - self._last_ns)
        self._last_ns = now_ns
        return len(self._gaps) < _GAPS or now_ns + max(self._gaps) >= turn_ns
