"""Records on disk until Redis has them: `redis.durability: disk`, for live cameras.

    <folder>/lock                       held by the one process that spools here
    <folder>/<prefix and camera>/000000000042.seg

A record is on disk before it goes to Redis. There is no ledger: Redis' last id says what it has. A
segment goes when Redis has all of it and a minute has gone by; over the bounds of bytes or age the
oldest of all cameras goes, counted. A disk that fails costs the records their place on it, not the
camera its frames: they wait in memory instead, the alarm is given, and the disk is tried again.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from pipeline.sinks.drafts import Draft
from pipeline.sinks.journal import KEEP, Journal
from pipeline.sinks.segment import Segment

BYTES = 2**30
SECONDS = 24 * 3600.0
_SEGMENT = (2**16, 2**23)  # bytes of a segment at least, at most
_ATTEMPTS = 3  # after a failure in a new segment, and with more room
_NEVER = 2**63
RETRY = 5.0  # seconds between attempts on a disk that failed


class Spool:
    """A private folder, for all cameras of one publisher. Never raises for what the disk does."""

    def __init__(
        self,
        folder: Path,
        *,
        limit: int = BYTES,
        seconds: float = SECONDS,
        clock: Callable[[], float] = time.time,
        notice: Callable[[str], None] = lambda _: None,
        since: int = _NEVER,
    ) -> None:
        """`since`: milliseconds since 1970; what was written from then on is of this run."""
        self.folder = folder
        self.limit = limit
        self.seconds = seconds
        self.clock = clock
        self.journals: list[Journal] = []
        self._notice = notice
        self._since = since
        self._alarm: str | None = None
        self._lock: int | None = None
        self._retry_at = 0.0
        self._open()

    @property
    def size(self) -> int:
        return sum(journal.size for journal in self.journals)

    @property
    def is_usable(self) -> bool:
        """The disk has not failed just now."""
        return time.monotonic() >= self._retry_at and (self._lock is not None or self._open())

    def journal(self, name: str) -> Journal:
        """The segments of one camera, those of an earlier process included."""
        roll = max(KEEP, self.seconds / 100)  # so that age drops little at a time
        journal = Journal(
            self.folder / quote(name, safe=""), roll=roll, clock=self.clock, since=self._since
        )
        self.journals.append(journal)
        if self.is_usable:
            try:
                damaged = journal.recover()
            except OSError as error:
                self._failed(error)
            else:
                for size, path in damaged:
                    self._notice(f"{path} is damaged: its last {size} bytes are left out")
        return journal

    def append(self, journal: Journal, drafts: list[Draft]) -> bool:
        """Puts these behind the others; False: the disk does not take them, now."""
        if not self.is_usable:
            return False
        for attempt in range(_ATTEMPTS):
            try:
                journal.append(drafts, full_at=self._segment_size())
            except OSError as error:
                full = error.errno in (errno.ENOSPC, errno.EDQUOT)
                if attempt + 1 == _ATTEMPTS or (full and not self._make_room(at_least_one=True)):
                    self._failed(error)
                    return False
            else:
                self._works()
                self._make_room()
                return True
        return False

    def _segment_size(self) -> int:
        """Small ones on a small disk, so that the oldest of it is a small part."""
        least, most = _SEGMENT
        state = os.statvfs(self.folder)
        return max(least, min(most, self.limit // 8, state.f_bavail * state.f_frsize // 8))

    def _make_room(self, *, at_least_one: bool = False) -> bool:
        """Drops the oldest segments of all cameras, as the bounds ask; False: there was none."""
        while True:
            oldest = min(self._droppable(), key=lambda one: one[1].written, default=None)
            if oldest is None:
                return False
            journal, segment = oldest
            too_old = segment.written < self.clock() - self.seconds
            if not (at_least_one or too_old or self.size > self.limit):
                return True
            journal.drop_oldest()
            at_least_one = False

    def _failed(self, error: OSError) -> None:
        self._retry_at = time.monotonic() + RETRY
        why = os.strerror(error.errno or 0)
        self._say(f"the spool in {self.folder} cannot be used: {why}; records wait in memory")

    def _works(self) -> None:
        if self._alarm is not None:
            self._alarm = None
            self._notice(f"the spool in {self.folder} works again")

    def leave(self, journal: Journal) -> None:
        """This camera writes nothing more; what it has left stays for the next process."""
        journal.close()
        self.journals.remove(journal)

    def close(self) -> None:
        for journal in self.journals:
            journal.close()
        self.journals.clear()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _droppable(self) -> list[tuple[Journal, Segment]]:
        return [(one, one.segments[0]) for one in self.journals if one.segments]

    def _open(self) -> bool:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder.chmod(0o700)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            descriptor = os.open(self.folder / "lock", flags, 0o600)
        except OSError as error:
            self._failed(error)
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            self._retry_at = time.monotonic() + RETRY
            self._say(f"the spool in {self.folder} is used by another process; waiting in memory")
            return False
        self._lock = descriptor
        return True

    def _say(self, text: str) -> None:
        if text != self._alarm:
            self._alarm = text
            self._notice(text)
