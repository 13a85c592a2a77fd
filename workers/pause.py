"""When publish tries again, and what it complains about meanwhile."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

from pipeline.errors import SinkUnavailable

_BACKOFF = (0.2, 5.0)  # seconds: the first and the longest wait between attempts, before jitter


class Pause:
    """When to try again, and what was complained about: of one camera, or of Redis as a whole."""

    def __init__(self) -> None:
        self.until = 0.0  # monotonic seconds
        self.complaint: str | None = None
        self._is_slow = False  # what was complained about needs a person
        self._waits = _backoff()

    def extend(self, error: SinkUnavailable) -> bool:
        """Puts the next attempt off; whether the reason is news."""
        self.until = time.monotonic() + (error.retry_after or next(self._waits))
        was_slow, self._is_slow = self._is_slow, error.retry_after is not None
        repeats = was_slow and self._is_slow  # the seconds in its text are no news
        news = self.complaint is None or (self.complaint != str(error) and not repeats)
        self.complaint = str(error)
        return news

    def progress(self) -> None:
        """Something got in, whatever was answered: the next failure is a first one."""
        self._waits = _backoff()

    def end(self) -> bool:
        """It works; whether that is news."""
        news = self.complaint is not None
        self.until, self.complaint, self._waits = 0.0, None, _backoff()
        return news


def _backoff() -> Iterator[float]:
    """Endless waits with full jitter (Brooker, "Exponential Backoff And Jitter", AWS, 2015)."""
    longest, most = _BACKOFF
    while True:
        yield random.uniform(0, longest)
        longest = min(longest * 2, most)
