"""When infer comes for a live camera's frame, so that pictures nobody will see are not resized.

Where the device has no time for all of them, most pictures of a camera would be resized into its
slots only to be passed over, and that takes from the network what time there is. Infer says at
every batch when each camera's turn is about to be, and so a wrong guess is soon mended; ingest then
knows which picture may be the last before it.
"""

from __future__ import annotations

from collections import deque

_BATCHES = 8  # at least, from which a pace is told
_GAPS = 8  # between pictures; the longest of them counts
_BEFORE = 2  # gaps: one, and as much for a picture that is late, and for resizing it


class Pace:
    """How fast infer takes frames, from when it did. Times in nanoseconds, monotonic.

    `side_by_side`: how many batches go at once, perhaps all in one moment.
    """

    def __init__(self, side_by_side: int) -> None:
        self._window = max(_BATCHES, 2 * side_by_side)
        self._batches: deque[tuple[int, int]] = deque(maxlen=self._window)  # when, how many frames
        self._frame_ns: float | None = None  # once a batch, for all who wait

    def take(self, now_ns: int, frames: int, *, waiting: int) -> None:
        """A batch of so many has gone, and so many more are waiting.

        Where nobody waits, it is the cameras that set the pace; and a pause longer than all batches
        before it, a stopped process say, is not how long a batch takes.
        """
        batches, self._frame_ns = self._batches, None
        if not waiting:
            batches.clear()
            return
        is_full = len(batches) == self._window
        if is_full and now_ns - batches[-1][0] > batches[-1][0] - batches[0][0]:
            batches.clear()
        batches.append((now_ns, frames))
        if len(batches) == self._window:
            taken = sum(frames for _, frames in batches) - batches[0][1]
            self._frame_ns = (now_ns - batches[0][0]) / max(1, taken)

    def turn_ns(self, before: int) -> int:
        """When about, rather a batch too early, the camera goes that has so many frames before it.

        0: nobody knows.
        """
        if self._frame_ns is None:
            return 0
        return self._batches[-1][0] + round(before * self._frame_ns)


class Gaps:
    """How far apart a camera's pictures come. Times in nanoseconds, monotonic."""

    def __init__(self) -> None:
        self._gaps: deque[int] = deque(maxlen=_GAPS)
        self._last_ns: int | None = None

    def see(self, now_ns: int) -> None:
        """A picture has come."""
        if self._last_ns is not None:
            self._gaps.append(now_ns - self._last_ns)
        self._last_ns = now_ns

    def is_last_before(self, turn_ns: int) -> bool:
        """Whether the picture that was seen last may be the last one before a turn."""
        if self._last_ns is None or len(self._gaps) < _GAPS:
            return True
        return self._last_ns + _BEFORE * max(self._gaps) >= turn_ns
