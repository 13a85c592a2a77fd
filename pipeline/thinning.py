"""Two small clocks of a stream, from its own time stamps alone, so the same in every run."""

from __future__ import annotations

_JITTER = 0.1  # of an interval: how much too early a picture may come


class Rate:
    """Thins a stream to `max_fps`; None lets everything through."""

    def __init__(self, max_fps: float | None) -> None:
        self._interval = 1 / max_fps if max_fps else 0.0
        self._segment = 0
        self._next = 0.0

    def wants(self, segment: int, media_time: float) -> bool:
        """Whether the picture at `media_time`, seconds into its segment, is one of those."""
        if not self._interval:
            return True
        if segment != self._segment:
            self._segment, self._next = segment, media_time
        if media_time < self._next - self._interval * _JITTER:
            return False
        if media_time - self._next > self._interval:  # after a gap it begins anew
            self._next = media_time
        self._next += self._interval
        return True


class StreamClock:
    """A file's wall clock: its start plus its media time, running on from segment to segment."""

    def __init__(self, started_at: float) -> None:
        self.origin = started_at  # of the present segment
        self._segment = 0
        self._latest = 0.0
        self._interval = 0.0  # between the last two pictures

    def at(self, segment: int, media_time: float) -> float:
        """Seconds since 1970 of a picture; to be asked for every picture, in order."""
        if segment != self._segment:
            self._segment = segment
            self.origin += self._latest + self._interval
        elif media_time > self._latest:
            self._interval = media_time - self._latest
        self._latest = media_time
        return self.origin + media_time
