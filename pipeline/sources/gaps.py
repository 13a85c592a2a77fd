"""How many pictures a stream lacks: by what its headers announce, or by its time stamps. Pure."""

from __future__ import annotations

_USUAL_STEPS = 20  # to each jump: with more jumps than that, the pictures were never taken


class Gaps:
    """Watches the time stamps of a stream that claims a constant rate.

    A step of n intervals is n - 1 pictures that seem to be missing, as long as every step
    is a whole number of intervals and nearly every one is exactly one. A single step off that
    grid, or a picture without a time stamp, shows a variable rate: then nothing is claimed at
    all. A step backwards is a joint of two recordings, which is no gap.
    """

    def __init__(self, *, interval: float | None, tick: float) -> None:
        """`interval`: seconds between pictures, None for a variable rate; `tick`: the seconds
        that time stamps are rounded to.
        """
        self._interval = interval or 1.0
        self._slack = 1.5 * tick  # both ends of a step are rounded
        self._constant = interval is not None and self._slack < interval / 4
        self._last: float | None = None
        self._steps = 0
        self._jumps = 0
        self._missing = 0

    def see(self, seconds: float | None) -> None:
        """The next picture in the order of showing, with its time stamp."""
        if seconds is None:
            self._constant = False
        if not self._constant:
            return
        last, self._last = self._last, seconds
        if last is None or seconds is None or seconds < last:
            return
        intervals = round((seconds - last) / self._interval)
        off = abs(seconds - last - intervals * self._interval)
        self._constant = intervals > 0 and off <= self._slack
        self._steps += 1
        self._jumps += intervals > 1
        self._missing += intervals - 1

    @property
    def missing(self) -> int:
        """Pictures that seem to be missing; 0 where the rate is not constant after all."""
        usual = self._constant and self._jumps * _USUAL_STEPS <= self._steps
        return self._missing if usual else 0


class Reach:
    """How far a file has been read into the pictures that its headers announce."""

    def __init__(self, announced: int, *, entries: int, ticks: int | None) -> None:
        """`entries` of the index are shown, 0 if it has none: an edit list may leave some out.

        `ticks`: of the time stamps from one picture to the next, where they number the
        pictures (AVI, where a picture that was left out is no packet); else packets are counted.
        """
        self._expected = announced if ticks else min(announced, entries or announced)
        self._ticks = ticks
        self._packets = 0
        self._last: int | None = None

    def see(self, stamp: int | None) -> bool:
        """The next packet, with its decoding time stamp; whether that goes back."""
        self._packets += 1
        if stamp is None:
            return False
        last, self._last = self._last, stamp
        return last is not None and stamp < last

    @property
    def missing(self) -> int:
        """Pictures that are announced and were not found."""
        numbered = self._last // self._ticks + 1 if self._ticks and self._last is not None else 0
        return max(0, self._expected - max(self._packets, numbered))
