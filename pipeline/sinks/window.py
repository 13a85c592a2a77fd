"""One camera's records between its results and Redis: their order, their ids, and what is shed.

    waiting   no id yet; in a live camera's window the oldest of these are shed when it is full
    sent      final: id and bytes are fixed from the first attempt on, since Redis may have them
    kept      Redis has had them; sent again, byte for byte, if it turns out to have lost them

Stream ids (redis.io, "Redis Streams", entry IDs) are explicit, so the server itself refuses to take
anything twice: a file's are `<epoch>-<seq + 1>`, the same in every attempt; a live camera's and all
events' are `<ms>-<n>`, never smaller than the last one, whatever the clock does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import msgspec

from pipeline.errors import VedetteError
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


class OutOfLine(VedetteError):
    """A frame of a file that is not the next one: something before it is missing."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The Redis keys of one camera. The braces are literal: all share one cluster slot."""

    camera: str
    detections: str
    events: str
    owner: str
    job: str

    @classmethod
    def of(cls, prefix: str, camera: str) -> Keys:
        stem = f"{prefix}:{{{camera}}}"
        return cls(camera, f"{stem}:detections", f"{stem}:events", f"{stem}:owner", f"{stem}:job")


@dataclass(frozen=True, slots=True)
class Record:
    """One entry as it goes to Redis, byte for byte the same in every attempt."""

    key: str
    id: EntryId
    fields: dict[str, bytes]
    is_frame: bool
    finishes: bool = False  # it says that its file was read to the very end
    counted: bool = False  # it was confirmed before, under another id

    @property
    def size(self) -> int:
        """Bytes of memory, about."""
        return OVERHEAD + len(self.fields["data"])


@dataclass(slots=True)
class Draft:
    """A message that has no id yet; its bytes may still change."""

    schema: str
    data: bytes
    traceparent: str | None  # None: an event
    state: str | None  # None: a frame
    seq: int = 0  # of a frame
    counted: bool = False

    @property
    def size(self) -> int:
        return OVERHEAD + len(self.data)


class Window:
    """The records of one camera, oldest first. `len` counts those that Redis has still to take.

    `limit` is the number of waiting records above which the oldest are shed, `limit_bytes` the
    same in bytes; None (a file) sheds nothing, because its credits bound what can arrive. `epoch`
    is set for files only, and makes the window take nothing but the next frame in line.
    """

    def __init__(self, keys: Keys, *, limit: int | None, epoch: int | None = None) -> None:
        self.keys = keys
        self.epoch = epoch
        self.job: str | None = None
        self.limit_bytes: int | None = None
        self.last = {keys.detections: NO_ENTRY, keys.events: NO_ENTRY}  # the highest known ids
        self.expected = 0  # the next seq of a file
        self.newest: int | None = None  # the last seq that was taken in
        self.size = 0  # bytes of all records
        self._limit = limit
        self._waiting: deque[Draft] = deque()
        self._waiting_size = 0
        self._sent: deque[Record] = deque()
        self._attempted = 0
        self._orphans: tuple[str, Counts] | None = None  # shed frames without an heir so far
        self._kept: deque[tuple[float, Record]] = deque()
        self._confirmed = dict(self.last)  # the highest ids that were ever confirmed

    def __len__(self) -> int:
        return len(self._waiting) + len(self._sent)

    @property
    def frames(self) -> int:
        """How many frames have never been confirmed."""
        waiting = sum(draft.state is None and not draft.counted for draft in self._waiting)
        return waiting + sum(self._is_new(record) for record in self._sent)

    @property
    def unconfirmed(self) -> Iterator[Record]:
        """What was sent or is about to be, oldest first."""
        return iter(self._sent)

    @property
    def kept_since(self) -> float | None:
        """When the oldest kept record was confirmed; None without one."""
        return self._kept[0][0] if self._kept else None

    def append(self, message: DetectionsMessage | CameraMessage) -> int:
        """Takes a message in; how many frames were shed to make room for it.

        A file's frame that was taken in before is ignored. Raises OutOfLine for one that is not
        the next.
        """
        if isinstance(message, DetectionsMessage):
            if self._is_known(message):
                return 0
            self.newest, self.expected = message.seq, message.seq + 1
        elif message.state == "ended" and self.job is not None:
            message = msgspec.structs.replace(message, job=self.job)
        self._hold(_draft(message))
        shed = 0
        while self._is_full() and self._shed():
            shed += 1
        return shed

    def attempt(self, most: int, now_ms: int) -> list[Record]:
        """The records to send now: those whose fate is unknown again, or else the next ones."""
        while self._waiting and len(self._sent) < most:
            draft = self._waiting.popleft()
            self._weigh(draft, -1)
            record = self._finalise(draft, now_ms)
            self.size += record.size
            self._sent.append(record)
        self._attempted = min(most, len(self._sent))
        return list(islice(self._sent, self._attempted))

    def confirm(self, now: float = 0.0) -> int:
        """Redis has what was attempted; how many frames of it are new. `now` in seconds."""
        new = 0
        for _ in range(self._attempted):
            new += self._keep(self._sent.popleft(), now)
        self._attempted = 0
        return new

    def confirm_up_to(self, last: dict[str, EntryId], now: float = 0.0) -> int:
        """Redis says the last id of each key; how many more frames it has than we knew.

        What it had and has no longer comes back to the front, to be sent again.
        """
        lost = [record for _, record in self._kept if record.id > last[record.key]]
        if lost:
            self._kept = deque(one for one in self._kept if one[1].id <= last[one[1].key])
        rest: deque[Record] = deque(lost)
        new = 0
        for record in self._sent:
            if record.id <= last[record.key]:
                new += self._keep(record, now)
            else:
                rest.append(record)
        self._sent = rest
        for key, entry in last.items():
            self.last[key] = max(self.last[key], entry)
        return new

    def renumber(self, absent: set[EntryId], key: str) -> None:
        """These records of `key` were sent and are not in Redis, which has gone past their ids.

        They get new ids with the next attempt, ahead of everything that waits.
        """
        back = [r for r in self._sent if r.key == key and r.id in absent]
        self._sent = deque(r for r in self._sent if r.key != key or r.id not in absent)
        for record in reversed(back):
            self.size -= record.size
            self._hold(_draft_again(record, counted=not self._is_new(record)), first=True)

    def forget_oldest(self) -> int:
        """Lets go of the oldest kept record; its bytes."""
        size = self._kept.popleft()[1].size
        self.size -= size
        return size

    def _hold(self, draft: Draft, *, first: bool = False) -> None:
        (self._waiting.appendleft if first else self._waiting.append)(draft)
        self._weigh(draft, 1)
        if self._orphans is not None and draft.state in (None, "ended"):
            orphans, self._orphans = self._orphans, None
            self._inherit(draft, *orphans)

    def _is_known(self, message: DetectionsMessage) -> bool:
        if self.epoch is None or message.seq == self.expected:
            return False
        if message.seq < self.expected:
            return True
        lost = sum(message.dropped.values())
        if message.seq != self.expected + lost:
            raise OutOfLine(
                f"camera {self.keys.camera!r}: frame {message.seq} came where "
                f"{self.expected} was due, with {lost} dropped before it"
            )
        return False

    def _is_full(self) -> bool:
        if self._limit is None:
            return False
        over = self.limit_bytes is not None and self._waiting_size > self.limit_bytes
        return over or len(self._waiting) > self._limit

    def _is_new(self, record: Record) -> bool:
        is_first = record.id > self._confirmed[record.key] and not record.counted
        return record.is_frame and is_first

    def _keep(self, record: Record, now: float) -> int:
        new = self._is_new(record)
        self._confirmed[record.key] = max(self._confirmed[record.key], record.id)
        self._kept.append((now, record))
        return int(new)

    def _finalise(self, draft: Draft, now_ms: int) -> Record:
        is_frame = draft.state is None
        key = self.keys.detections if is_frame else self.keys.events
        if is_frame and self.epoch is not None:
            entry = (self.epoch, draft.seq + 1)
        else:
            entry = self._next(key, now_ms)
        data, finishes = draft.data, False
        if draft.state == "ended":
            data, finishes = self._end(data)
        self.last[key] = entry
        fields = {"schema": draft.schema.encode(), "data": data}
        if draft.traceparent is not None:
            fields["traceparent"] = draft.traceparent.encode()
        return Record(key, entry, fields, is_frame, finishes, draft.counted)

    def _end(self, data: bytes) -> tuple[bytes, bool]:
        """The `ended` event with the last entry before it, and whether all was read."""
        message = read_camera(data)
        if self.last[self.keys.detections] != NO_ENTRY:
            last_id = format_id(self.last[self.keys.detections])
            message = msgspec.structs.replace(message, last_id=last_id)
        return to_json(message), bool(message.complete)

    def _next(self, key: str, now_ms: int) -> EntryId:
        milliseconds, count = self.last[key]
        return (now_ms, 0) if now_ms > milliseconds else (milliseconds, count + 1)

    def _shed(self) -> bool:
        """Drops the oldest waiting frame; the next message of its session accounts for it."""
        for index, draft in enumerate(self._waiting):
            if draft.state is None:
                lost = read_detections(draft.data)
                self._weigh(draft, -1)
                del self._waiting[index]
                self._carry(index, lost.session, merge_drops(lost.dropped, {"window": 1}))
                return True
        return False

    def _carry(self, index: int, session: str, dropped: Counts) -> None:
        for heir in islice(self._waiting, index, None):
            if heir.state in (None, "ended") and self._inherit(heir, session, dropped):
                return
        self._orphans = (session, dropped)

    def _inherit(self, heir: Draft, session: str, dropped: Counts) -> bool:
        message = read_detections(heir.data) if heir.state is None else read_camera(heir.data)
        if message.session != session:
            return False
        merged = merge_drops(dropped, message.dropped or {})
        self._weigh(heir, -1)
        heir.data = to_json(msgspec.structs.replace(message, dropped=merged))
        self._weigh(heir, 1)
        return True

    def _weigh(self, draft: Draft, sign: int) -> None:
        self._waiting_size += sign * draft.size
        self.size += sign * draft.size


def _draft(message: DetectionsMessage | CameraMessage) -> Draft:
    if isinstance(message, CameraMessage):
        return Draft(message.schema, to_json(message), None, message.state)
    trace = traceparent(message.camera, message.session, message.seq)
    return Draft(message.schema, to_json(message), trace, None, message.seq)


def _draft_again(record: Record, *, counted: bool) -> Draft:
    fields = {name: value.decode() for name, value in record.fields.items() if name != "data"}
    data = record.fields["data"]
    state = None if record.is_frame else read_camera(data).state
    return Draft(fields["schema"], data, fields.get("traceparent"), state, counted=counted)


def format_id(entry: EntryId) -> str:
    return f"{entry[0]}-{entry[1]}"


def parse_id(text: bytes | str) -> EntryId:
    """Of `<ms>-<n>`; raises ValueError."""
    text = text.decode() if isinstance(text, bytes) else text
    milliseconds, _, count = text.partition("-")
    return int(milliseconds), int(count)
