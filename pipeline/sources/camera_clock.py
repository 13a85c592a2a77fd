"""What a camera's own clock said when it took a picture, from its RTCP sender reports.

A report (RFC 3550, section 6.4.1) names one moment twice: on the camera's clock and in RTP time.
FFmpeg carries it on from there to each packet; here it is decided what that is worth. Pure.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

_REPORTS = 12  # back: about a minute, as cameras report every five seconds


@dataclass(frozen=True, slots=True)
class CameraTime:
    """A moment on the camera's clock."""

    at: float  # seconds since 1970
    error: float | None  # seconds by which its reports have differed; None: there was one so far


class CameraClock:
    """One connection's. Its clock may be wrong by years: it is reported, and never relied upon."""

    def __init__(self) -> None:
        self._segment = 0
        self._report = 0  # the last one that was looked at
        self._offset: float | None = None  # from time stamps to the clock, as last reported
        self._steps: deque[float] = deque(maxlen=_REPORTS)

    def read(
        self, segment: int, seconds: float | None, at: float | None, report: int
    ) -> CameraTime | None:
        """Of a picture whose time stamp is `seconds`, and at which FFmpeg puts the clock to `at`.

        `report`: how many there have been. After a jump of time stamps the last one means
        nothing, until there is another.
        """
        if segment != self._segment:
            self._segment, self._offset = segment, None
        if at is None or seconds is None:
            return None
        if report > self._report:
            self._report = report
            if self._offset is not None:
                self._steps.append(abs(at - seconds - self._offset))
            self._offset = at - seconds
        if self._offset is None:
            return None
        return CameraTime(at, max(self._steps, default=None))
