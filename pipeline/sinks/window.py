"""One camera's records between its results and Redis: their order, their ids, and what is shed.

    waiting   no id yet; in a live camera's window the oldest of these are shed when it is full
    sent      final: id and bytes are fixed from the first attempt on, since Redis may have them

Stream ids (redis.io, "Redis Streams", entry IDs) are explicit, so the server itself refuses to take
anything twice: a file's are `<epoch>-<seq + 1>`, the same in every attempt; a live camera's and all
events' are `<ms>-<n>`, never smaller than the last one, whatever the clock does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from pipeline.messages import Counts
from pipeline.wire import CameraMessage, DetectionsMessage, merge_drops, to_json, traceparent

EntryId = tuple[int, int]
NO_ENTRY: EntryId = (0, 0)


@dataclass(frozen=True, slots=True)
class Keys:
    """The Redis keys of one camera. The braces are literal: all share one cluster slot."""

    detections: str
    events: str

    @classmethod
    def of(cls, prefix: str, camera: str) -> Keys:
        return cls(f"{prefix}:{{{camera}}}:detections", f"{prefix}:{{{camera}}}:events")


@dataclass(frozen=True, slots=True)
class Record:
    """One entry as it goes to Redis, byte for byte the same in every attempt."""

    key: str
    id: EntryId
    fields: dict[str, bytes]
    is_frame: bool


class Window:
    """The records of one camera that Redis has not confirmed, oldest first.

    `limit` is the number of waiting records above which the oldest are shed; None (a file) sheds
    nothing, because its credits bound what can arrive. `epoch` is set for files only.
    """

    def __init__(self, keys: Keys, *, limit: int | None, epoch: int | None = None) -> None:
        self.keys = keys
        self.epoch = epoch
        self.last = {keys.detections: NO_ENTRY, keys.events: NO_ENTRY}
        self._limit = limit
        self._waiting: deque[DetectionsMessage | CameraMessage] = deque()
        self._sent: deque[Record] = deque()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._sent)

    @property
    def frames(self) -> int:
        """How many of the records are frames."""
        waiting = sum(isinstance(message, DetectionsMessage) for message in self._waiting)
        return waiting + sum(record.is_frame for record in self._sent)

    def append(self, message: DetectionsMessage | CameraMessage) -> int:
        """Takes a message in; how many frames were shed to make room for it."""
        self._waiting.append(message)
        if self._limit is None or len(self._waiting) <= self._limit:
            return 0
        return self._shed()

    def attempt(self, most: int, now_ms: int) -> list[Record]:
        """The records to send now: those whose fate is unknown again, or else the next ones."""
        while self._waiting and len(self._sent) < most:
            self._sent.append(self._finalise(self._waiting.popleft(), now_ms))
        return list(self._sent)

    def confirm(self) -> int:
        """Redis has everything that was attempted; how many frames that were."""
        return self._confirmed(lambda _: True)

    def confirm_up_to(self, last: dict[str, EntryId]) -> int:
        """Redis says the last id of each key; how many more frames it has than we knew."""
        frames = self._confirmed(lambda record: record.id <= last[record.key])
        for key, entry in last.items():
            self.last[key] = max(self.last[key], entry)
        return frames

    def _confirmed(self, has: Callable[[Record], bool]) -> int:
        frames = sum(record.is_frame for record in self._sent if has(record))
        self._sent = deque(record for record in self._sent if not has(record))
        return frames

    def _finalise(self, message: DetectionsMessage | CameraMessage, now_ms: int) -> Record:
        if isinstance(message, DetectionsMessage):
            key = self.keys.detections
            trace = traceparent(message.camera, message.session, message.seq)
            fields = {"traceparent": trace.encode()}
            entry = self._next(key, now_ms) if self.epoch is None else (self.epoch, message.seq + 1)
        else:
            key = self.keys.events
            fields = {}
            entry = self._next(key, now_ms)
            if message.state == "ended" and self.last[self.keys.detections] != NO_ENTRY:
                last_id = format_id(self.last[self.keys.detections])
                message = msgspec.structs.replace(message, last_id=last_id)
        self.last[key] = entry
        fields = {"schema": message.schema.encode(), "data": to_json(message), **fields}
        return Record(key, entry, fields, isinstance(message, DetectionsMessage))

    def _next(self, key: str, now_ms: int) -> EntryId:
        milliseconds, count = self.last[key]
        return (now_ms, 0) if now_ms > milliseconds else (milliseconds, count + 1)

    def _shed(self) -> int:
        """Drops the oldest waiting frame; the next message of its session accounts for it."""
        for index, message in enumerate(self._waiting):
            if isinstance(message, DetectionsMessage):
                del self._waiting[index]
                self._carry(index, merge_drops(message.dropped, {"window": 1}))
                return 1
        return 0

    def _carry(self, index: int, dropped: Counts) -> None:
        if index < len(self._waiting):
            heir = self._waiting[index]
            merged = merge_drops(dropped, heir.dropped or {})
            self._waiting[index] = msgspec.structs.replace(heir, dropped=merged)


def format_id(entry: EntryId) -> str:
    return f"{entry[0]}-{entry[1]}"


def parse_id(text: bytes | str) -> EntryId:
    """Of `<ms>-<n>`; raises ValueError."""
    text = text.decode() if isinstance(text, bytes) else text
    milliseconds, _, count = text.partition("-")
    return int(milliseconds), int(count)
