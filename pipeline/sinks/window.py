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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import msgspec

from pipeline.errors import VedetteError
from pipeline.sinks.drafts import NO_ENTRY as NO_ENTRY
from pipeline.sinks.drafts import OVERHEAD, Draft, Drafts, Frame, draft
from pipeline.sinks.drafts import EntryId as EntryId
from pipeline.sinks.spooled import Spooled
from pipeline.wire import CameraMessage, DetectionsMessage, read_camera, to_json


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


class Window:
    """The records of one camera, oldest first. `len` counts those that Redis has still to take.

    `limit` is the number of waiting records above which the oldest are shed, `limit_bytes` the
    same in bytes; None (a file) sheds nothing, because its credits bound what can arrive. `epoch`
    is set for files only, and makes the window take nothing but the next frame in line.
    """

    def __init__(
        self,
        keys: Keys,
        *,
        limit: int | None,
        epoch: int | None = None,
        queue: Drafts | Spooled | None = None,
        tell: Callable[[Record], None] = lambda record: None,
    ) -> None:
        """`tell` hears of each frame that Redis confirms for the first time."""
        self.keys = keys
        self._tell = tell
        self.epoch = epoch
        self.job: str | None = None
        self.last = {keys.detections: NO_ENTRY, keys.events: NO_ENTRY}  # the highest known ids
        self.expected = 0  # the next seq of a file
        self.queue = Drafts(limit) if queue is None else queue
        self.newest = self.queue.accounted  # the last frame that was taken in
        self._sent: deque[Record] = deque()
        self._kept: deque[tuple[float, Record]] = deque()
        self._held = 0  # bytes of both
        self._attempted = 0
        self._confirmed = dict(self.last)  # the highest ids that were ever confirmed

    def __len__(self) -> int:
        return len(self.queue) + len(self._sent)

    @property
    def frames(self) -> int:
        """How many frames have never been confirmed."""
        return self.queue.frames + sum(self._is_new(record) for record in self._sent)

    @property
    def size(self) -> int:
        """Bytes of memory that all records take, about."""
        return self._held + self.queue.size

    @property
    def confirmed(self) -> EntryId:
        """The last frame's entry that was ever confirmed."""
        return self._confirmed[self.keys.detections]

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
            self.newest, self.expected = Frame(message.session, message.seq), message.seq + 1
        elif message.state == "ended" and self.job is not None:
            message = msgspec.structs.replace(message, job=self.job)
        return self.queue.append(draft(message))

    def attempt(self, most: int, now_ms: int) -> list[Record]:
        """The records to send now: those whose fate is unknown again, or else the next ones."""
        while len(self._sent) < most and (one := self.queue.pop()) is not None:
            record = self._finalise(one, now_ms)
            self._held += record.size
            self._sent.append(record)
        self._attempted = min(most, len(self._sent))
        return list(islice(self._sent, self._attempted))

    def confirm(self, now: float = 0.0) -> int:
        """Redis has what was attempted; how many frames of it are new. `now` in seconds."""
        new = 0
        for _ in range(self._attempted):
            new += self._keep(self._sent.popleft(), now)
        self._attempted = 0
        self.queue.confirmed(self._kinds(self._confirmed))
        return new

    def confirm_up_to(
        self, last: dict[str, EntryId], now: float = 0.0, line: tuple[str, int] | None = None
    ) -> int:
        """Redis says the last id of each key; how many more frames it has than we knew.

        What it had and has no longer comes back to the front, to be sent again. `line`: session
        and seq of its last frame.
        """
        self.queue.met(self._kinds(last), line)
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
        self._held -= sum(record.size for record in back)
        self.queue.put_back([_draft_again(r, counted=not self._is_new(r)) for r in back])

    def forget_oldest(self) -> int:
        """Lets go of the oldest kept record; its bytes."""
        size = self._kept.popleft()[1].size
        self._held -= size
        return size

    def _kinds(self, last: dict[str, EntryId]) -> dict[bool, EntryId]:
        return {True: last[self.keys.detections], False: last[self.keys.events]}

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

    def _is_new(self, record: Record) -> bool:
        is_first = record.id > self._confirmed[record.key] and not record.counted
        return record.is_frame and is_first

    def _keep(self, record: Record, now: float) -> int:
        if new := self._is_new(record):
            self._tell(record)
        self._confirmed[record.key] = max(self._confirmed[record.key], record.id)
        self._kept.append((now, record))
        return int(new)

    def _finalise(self, one: Draft, now_ms: int) -> Record:
        is_frame = one.state is None
        key = self.keys.detections if is_frame else self.keys.events
        if is_frame and self.epoch is not None:
            entry = (self.epoch, one.seq + 1)
        elif one.id is not None and one.id > self.last[key]:
            entry = one.id
        else:
            entry = self._next(key, now_ms)
        data, finishes = self._end(one.data) if one.state == "ended" else (one.data, False)
        self.last[key] = entry
        fields = {"schema": one.schema.encode(), "data": data}
        if one.traceparent is not None:
            fields["traceparent"] = one.traceparent.encode()
        return Record(key, entry, fields, is_frame, finishes, one.counted)

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
