"""What waits without an id, in memory; a full queue sheds its oldest frames and says so."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import msgspec

from pipeline.messages import Counts
from pipeline.wire import (
    CameraMessage,
    DetectionsMessage,
    merge_drops,
    read_camera,
    read_detections,
    to_json,
    traceparent,
)

EntryId = tuple[int, int]
NO_ENTRY: EntryId = (0, 0)
OVERHEAD = 700  # bytes that a record costs in memory beside its data


@dataclass(slots=True)
class Draft:
    """A message whose bytes may still change; `id`, if any, is the one that it should get."""

    schema: str
    data: bytes
    traceparent: str | None  # None: an event
    state: str | None  # None: a frame
    session: str | None = None
    seq: int = 0  # of a frame; of an `ended` event: how many frames arrived
    lost: int = 0  # the sum of `dropped`
    id: EntryId | None = None
    counted: bool = False  # it was confirmed before, under another id

    @property
    def size(self) -> int:
        """Bytes of memory, about."""
        return OVERHEAD + len(self.data)

    @property
    def is_counting(self) -> bool:
        """It says how many frames were dropped before it."""
        return self.state in (None, "ended")


def draft(message: DetectionsMessage | CameraMessage) -> Draft:
    if isinstance(message, CameraMessage):
        lost = sum((message.dropped or {}).values())
        seq = message.frames or 0
        data = to_json(message)
        return Draft(message.schema, data, None, message.state, message.session, seq, lost)
    trace = traceparent(message.camera, message.session, message.seq)
    lost = sum(message.dropped.values())
    data = to_json(message)
    return Draft(message.schema, data, trace, None, message.session, message.seq, lost)


def add_drops(one: Draft, dropped: Counts) -> None:
    """Writes into a message that frames were dropped before it."""
    message = read_detections(one.data) if one.state is None else read_camera(one.data)
    merged = merge_drops(dropped, message.dropped or {})
    one.data = to_json(msgspec.structs.replace(message, dropped=merged))
    one.lost = sum(merged.values())


class Frame(NamedTuple):
    """Which frame, within a camera."""

    session: str | None
    seq: int


class Drafts:
    """A queue in memory. Above `limit` records or `limit_bytes` the oldest frames go; None: none.

    The next message of a shed frame's session accounts for it. Events are never shed.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit_bytes: int | None = None
        self.size = 0
        self.accounted: Frame | None = None
        self.ended: set[str | None] = set()  # sessions whose end an earlier process has left
        self._limit = limit
        self._queue: deque[Draft] = deque()
        self._orphans: tuple[str | None, Counts] | None = None  # shed, without an heir so far

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def frames(self) -> int:
        """How many frames have never been confirmed."""
        return sum(one.state is None and not one.counted for one in self._queue)

    def append(self, one: Draft) -> int:
        """How many frames were shed to make room for it."""
        self._queue.append(one)
        self.size += one.size
        if self._orphans is not None and one.is_counting:
            orphans, self._orphans = self._orphans, None
            self._inherit(one, *orphans)
        shed = 0
        while self._is_full() and self._shed():
            shed += 1
        return shed

    def pop(self) -> Draft | None:
        """The next one, for good; None: nothing waits."""
        if not self._queue:
            return None
        one = self._queue.popleft()
        self.size -= one.size
        return one

    def put_back(self, drafts: list[Draft]) -> None:
        """Ahead of everything else, in this order."""
        self._queue.extendleft(reversed(drafts))
        self.size += sum(one.size for one in drafts)

    def all(self) -> list[Draft]:
        return list(self._queue)

    def clear(self) -> None:
        self._queue.clear()
        self.size = 0

    def met(self, last: dict[bool, EntryId], line: tuple[str, int] | None) -> None:
        """Redis says its last ids; of interest to a queue that outlives its process."""

    def confirmed(self, last: dict[bool, EntryId]) -> None:
        """Redis has had everything up to these ids; likewise."""

    def sync(self) -> None:
        """Likewise."""

    def close(self) -> None:
        """Nothing is held but memory."""

    def _is_full(self) -> bool:
        if self._limit is None:
            return False
        over = self.limit_bytes is not None and self.size > self.limit_bytes
        return over or len(self._queue) > self._limit

    def _shed(self) -> bool:
        for index, one in enumerate(self._queue):
            if one.state is None:
                self.size -= one.size
                del self._queue[index]
                dropped = read_detections(one.data).dropped
                self._carry(index, one.session, merge_drops(dropped, {"window": 1}))
                return True
        return False

    def _carry(self, index: int, session: str | None, dropped: Counts) -> None:
        for heir in islice(self._queue, index, None):
            if heir.is_counting and self._inherit(heir, session, dropped):
                return
        self._orphans = (session, dropped)

    def _inherit(self, heir: Draft, session: str | None, dropped: Counts) -> bool:
        if heir.session != session:
            return False
        self.size -= heir.size
        add_drops(heir, dropped)
        self.size += heir.size
        return True
