"""The queue of a live camera that waits on disk: what came first lies in the spool, read in parts.

    append ─▶ fresh, in memory ─(50, or a moment later)─▶ journal, on disk ─▶ ahead ─▶ pop

Each message gets the id that it should have when it is taken in, so that after a crash Redis' last
id says what it has of them. Frames that were dropped on the way show as a jump of `seq`; whoever
comes behind them then says so (`window`).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from pipeline.sinks.drafts import NO_ENTRY, Draft, Drafts, EntryId, add_drops
from pipeline.sinks.spool import Spool

_SYNC = (50, 0.05)  # records and seconds after which what is fresh goes to the disk
_AHEAD = 2**18  # bytes that are read at once


class Spooled:
    """The same to a window as `Drafts`. `limit` and `limit_bytes` are for the fresh ones only."""

    def __init__(
        self, spool: Spool, name: str, limit: int | None, clock: Callable[[], float]
    ) -> None:
        self._spool = spool
        self._journal = spool.journal(name)
        self._fresh = Drafts(limit)
        self._fresh_since = 0.0  # monotonic seconds
        self._again: deque[Draft] = deque()  # those that get another id
        self._ahead: deque[Draft] = deque()
        self._clock = clock
        self._recovered = dict(self._journal.newest)
        self._newest = dict(self._recovered)
        self._had: dict[bool, EntryId] = {}  # what Redis had when it was met
        self._line: tuple[str | None, int] | None = None  # the session, and its next seq
        self.accounted = self._journal.last
        self.ended = self._journal.ended
        self._had_left = 0  # frames of this run that Redis had, and that were not read yet

    def __len__(self) -> int:
        waiting = len(self._again) + len(self._ahead) + len(self._fresh)
        return waiting + self._journal.left

    @property
    def size(self) -> int:
        """Bytes of memory, not of the disk."""
        return self._fresh.size + sum(one.size for one in (*self._again, *self._ahead))

    @property
    def frames(self) -> int:
        """How many frames of this run have never been confirmed."""
        held = sum(
            one.state is None and not self._is_counted(one) for one in (*self._again, *self._ahead)
        )
        return held + self._fresh.frames + self._journal.left_frames - self._had_left

    @property
    def limit_bytes(self) -> int | None:
        return self._fresh.limit_bytes

    @limit_bytes.setter
    def limit_bytes(self, limit: int | None) -> None:
        self._fresh.limit_bytes = limit

    def append(self, one: Draft) -> int:
        """How many frames were shed: from memory, or with a segment of the disk."""
        kind = one.state is None
        one.id = self._newest[kind] = _next(self._newest.get(kind, NO_ENTRY), self._clock())
        if not len(self._fresh):
            self._fresh_since = time.monotonic()
        shed = self._fresh.append(one)
        count, seconds = _SYNC
        if len(self._fresh) >= count or time.monotonic() > self._fresh_since + seconds:
            self.sync()
        lost, self._journal.shed = self._journal.shed, 0
        return shed + lost

    def pop(self) -> Draft | None:
        """The next one, on disk by now; None: nothing waits."""
        if self._again:
            return self._again.popleft()
        while (one := self._next_of_all()) is not None:
            is_had = self._is_recovered(one) and _id(one) <= self._had.get(
                one.state is None, NO_ENTRY
            )
            one.counted = self._is_counted(one)
            self._had_left -= is_had and one.state is None and not one.counted
            if one.is_counting:
                self._mend(one, quietly=is_had)
            if not is_had:
                return one
        return None

    def put_back(self, drafts: list[Draft]) -> None:
        """Ahead of everything else, in this order."""
        self._again.extendleft(reversed(drafts))

    def met(self, last: dict[bool, EntryId], line: tuple[str, int] | None) -> None:
        """Redis says its last ids, and of its last frame the session and seq."""
        for kind, entry in last.items():
            self._newest[kind] = max(self._newest.get(kind, NO_ENTRY), entry)
        if not self._had:
            self._had = last
            had = last.get(True, NO_ENTRY)
            self._had_left = sum(entry <= had for entry in self._journal.recovered)
            if line is not None:
                self._line = (line[0], line[1] + 1)
            elif not self._recovered:
                self._line = (None, 0)

    def confirmed(self, last: dict[bool, EntryId]) -> None:
        """Redis has had everything up to these ids."""
        self._journal.forget(last)

    def sync(self) -> None:
        """Everything that is fresh goes to the disk; it stays in memory where that fails."""
        if len(self._fresh) and self._spool.append(self._journal, self._fresh.all()):
            self._fresh.clear()

    def close(self) -> None:
        self.sync()
        self._spool.leave(self._journal)

    def _next_of_all(self) -> Draft | None:
        if not self._ahead:
            self.sync()
            self._ahead.extend(self._journal.read(_AHEAD))
        return self._ahead.popleft() if self._ahead else self._fresh.pop()

    def _is_recovered(self, one: Draft) -> bool:
        return _id(one) <= self._recovered.get(one.state is None, (-1, 0))

    def _is_counted(self, one: Draft) -> bool:
        return one.counted or (self._is_recovered(one) and _id(one)[0] < self._journal.since)

    def _mend(self, one: Draft, *, quietly: bool) -> None:
        """Says in a message how many frames before it were lost with a segment."""
        if self._line is not None and not quietly:
            session, due = self._line
            missing = one.seq - one.lost - (due if session == one.session else 0)
            if missing > 0:
                add_drops(one, {"window": missing})
        self._line = (one.session, one.seq + 1)


def _id(one: Draft) -> EntryId:
    return one.id or NO_ENTRY


def _next(last: EntryId, now: float) -> EntryId:
    milliseconds = int(now * 1000)
    return (milliseconds, 0) if milliseconds > last[0] else (last[0], last[1] + 1)
