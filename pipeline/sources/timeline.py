"""Stream time from time stamps that may be missing or jump, and when a paced picture is due.

Pure: seconds and nanoseconds come in as arguments, nothing here reads a clock or sleeps.
"""

from __future__ import annotations


class Timeline:
    """Places pictures on segments of stream time that begin at 0 and never go backwards."""

    def __init__(self, *, interval: float, longest_gap: float) -> None:
        """`interval`: seconds between pictures, used where a time stamp is missing.

        A step backwards, or one of more than `longest_gap` seconds, begins a new segment.
        """
        self._interval = interval
        self._longest_gap = longest_gap
        self._segment = 0
        self._zero: float | None = None  # the stamp that is this segment's time 0
        self._media_time: float | None = None  # of the segment's last picture

    def place(self, seconds: float | None) -> tuple[int, float]:
        """Segment and media time of the next picture, whose time stamp is `seconds` if it has one.

        Pictures without a stamp follow each other by the interval; the first stamp after
        such a beginning fits onto it, whatever its value.
        """
        expected = 0.0 if self._media_time is None else self._media_time + self._interval
        if seconds is None:
            self._media_time = expected
            return self._segment, expected
        if self._zero is None:
            self._zero = seconds - expected
        media_time = seconds - self._zero
        if self._media_time is not None and not self._follows(media_time):
            self.turn()
            self._zero, media_time = seconds, 0.0
        self._media_time = media_time
        return self._segment, media_time

    def turn(self) -> None:
        """The next picture begins a new segment, unless this one is still empty."""
        if self._media_time is not None:
            self._segment += 1
            self._zero = self._media_time = None

    def _follows(self, media_time: float) -> bool:
        assert self._media_time is not None
        return 0 <= media_time - self._media_time <= self._longest_gap


class Pace:
    """When the pictures of a file are due if it is played as a camera.

    From one segment to the next passes one interval. When more than `patience` seconds behind
    (the machine slept, or cannot keep up), the schedule starts anew: a camera has no past.
    """

    def __init__(self, *, interval: float, patience: float = 1.0) -> None:
        self._interval_ns = round(interval * 1e9)
        self._patience_ns = round(patience * 1e9)
        self._segment: int | None = None
        self._zero_ns = 0  # when the segment's time 0 is due
        self._due_ns = 0

    def due_ns(self, segment: int, media_time: float, now_ns: int) -> int:
        """When the picture at `media_time` of `segment` is due; the very first is due now."""
        offset_ns = round(media_time * 1e9)
        if self._segment is None:
            self._zero_ns = now_ns - offset_ns
        elif segment != self._segment:
            self._zero_ns = self._due_ns + self._interval_ns - offset_ns
        if now_ns - (self._zero_ns + offset_ns) > self._patience_ns:
            self._zero_ns = now_ns - offset_ns
        self._segment = segment
        self._due_ns = self._zero_ns + offset_ns
        return self._due_ns
