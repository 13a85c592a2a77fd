"""One camera's segments: written at the end, read from the front, dropped from the front."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from pipeline.sinks.drafts import NO_ENTRY, Draft, EntryId, Frame
from pipeline.sinks.segment import Segment, Writer, pack, recover

KEEP = 60.0  # seconds that a segment stays after its last record, had or not
_DIGITS = 12
_Payload = tuple[str, bytes, str | None, str | None, str | None, int, int]

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Payload)


class Journal:
    """Raises OSError; what was asked has then not happened, and may be asked again."""

    def __init__(
        self, folder: Path, *, roll: float, clock: Callable[[], float], since: int
    ) -> None:
        self.segments: list[Segment] = []
        self.newest: dict[bool, EntryId] = {}  # of frames (True), of events
        self.left = 0  # records that have not been read
        self.left_frames = 0  # of this run
        self.shed = 0  # frames of this run that were dropped unread
        self.last: Frame | None = None  # the newest frame
        self.since = since  # milliseconds since 1970: from then on records are of this run
        self.recovered: list[EntryId] = []  # those frames of this run that another process wrote
        self.ended: set[str | None] = set()  # sessions whose end is among the recovered
        self._folder = folder
        self._roll = roll  # seconds that a segment is written to, at most
        self._clock = clock
        self._writer: Writer | None = None
        self._number = 0
        self._reading = 0  # which segment
        self._start = self._records = self._frames = 0  # how much of it has been read
        self._seen: dict[bool, EntryId] = {}

    @property
    def size(self) -> int:
        return sum(segment.size for segment in self.segments)

    def recover(self) -> list[tuple[int, Path]]:
        """Takes up what an earlier process left; the bytes that were damaged, and where."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        damaged = []
        for path in sorted(self._folder.glob("[0-9]" * _DIGITS + ".seg")):
            self._number = max(self._number, int(path.stem))
            try:
                segment, records, behind = recover(path)
            except OSError:
                damaged.append((path.stat().st_size, path))
                continue
            if behind:
                damaged.append((behind, path))
            segment.is_ours = bool(records) and records[0][0][0] >= self.since
            for one in _unpack(records):
                self._note(segment, one)
                self._take_up(segment, one)
            if segment.records:
                self.segments.append(segment)
            else:
                segment.remove()
        return damaged

    def append(self, drafts: list[Draft], *, full_at: int) -> None:
        """On the disk when it returns; `full_at`: bytes above which the next segment begins."""
        data = b"".join(pack(one.id or NO_ENTRY, _payload(one)) for one in drafts)
        self._end_if_full(full_at)
        try:
            writer = self._writer or self._begin()
            writer.append(data)
        except OSError:
            self._end()  # a failed fsync leaves unknown what is there: never go on behind it
            raise
        writer.segment.written = self._clock()
        for one in drafts:
            self._note(writer.segment, one)

    def read(self, most: int) -> list[Draft]:
        """The next records, from about `most` bytes; [] when all have been read."""
        while self._reading < len(self.segments):
            segment = self.segments[self._reading]
            if found := self._found(segment, most):
                self._start = found[-1][2]
                drafts = _unpack([(entry, payload) for entry, payload, _ in found])
                self._count(segment, drafts)
                if fresh := [one for one in drafts if self._is_fresh(one)]:
                    return fresh
            elif self._is_open(segment) and self._start >= segment.size:
                break
            else:  # read through; or unreadable, and then the rest of it is lost
                if self._is_open(segment):
                    self._end()
                self._give_up_rest(segment)
                self._reading += 1
                self._start = self._records = self._frames = 0
        return []

    def forget(self, confirmed: dict[bool, EntryId]) -> None:
        """Redis has everything up to these ids: what has been read through may go, in a minute."""
        until = self._clock() - KEEP
        while self._reading and self.segments[0].written < until:
            newest = self.segments[0].newest
            if any(entry > confirmed.get(kind, NO_ENTRY) for kind, entry in newest.items()):
                return
            self.segments.pop(0).remove()
            self._reading -= 1

    def drop_oldest(self) -> None:
        """Gives up the oldest segment, read or not."""
        segment = self.segments[0]
        if self._is_open(segment):
            self._end()
        if self._reading:
            self._reading -= 1
        else:
            self._give_up_rest(segment)
            self._start = self._records = self._frames = 0
        if segment in self.segments:
            self.segments.remove(segment)
        segment.remove()

    def close(self) -> None:
        """Leaves the files as they are: the next process goes on with them."""
        self._end()

    def _found(self, segment: Segment, most: int) -> list[tuple[EntryId, bytes, int]]:
        try:
            return list(segment.read(self._start, most))
        except OSError:
            return []

    def _begin(self) -> Writer:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            self._number += 1
            path = self._folder / f"{self._number:0{_DIGITS}}.seg"
            try:
                self._writer = Writer(Segment(path, self._clock(), self._clock()))
            except FileExistsError:
                continue  # of a process that held the lock when we looked
            self.segments.append(self._writer.segment)
            return self._writer

    def _end_if_full(self, full_at: int) -> None:
        if self._writer is not None:
            segment = self._writer.segment
            if segment.size >= full_at or segment.began < self._clock() - self._roll:
                self._end()

    def _end(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _is_open(self, segment: Segment) -> bool:
        return self._writer is not None and segment is self._writer.segment

    def _note(self, segment: Segment, one: Draft) -> None:
        is_frame = one.state is None
        segment.records += 1
        segment.frames += is_frame and segment.is_ours
        entry = one.id or NO_ENTRY
        segment.newest[is_frame] = self.newest[is_frame] = max(
            self.newest.get(is_frame, NO_ENTRY), entry
        )
        self.left += 1
        self.left_frames += is_frame and segment.is_ours
        if is_frame:
            self.last = Frame(one.session, one.seq)

    def _take_up(self, segment: Segment, one: Draft) -> None:
        if one.state is None and segment.is_ours:
            self.recovered.append(one.id or NO_ENTRY)
        elif one.state == "ended":
            self.ended.add(one.session)

    def _count(self, segment: Segment, drafts: list[Draft]) -> None:
        frames = sum(one.state is None for one in drafts) if segment.is_ours else 0
        self._records += len(drafts)
        self._frames += frames
        self.left -= len(drafts)
        self.left_frames -= frames

    def _is_fresh(self, one: Draft) -> bool:
        """Not so after a failed fsync, whose records may lie in two segments."""
        is_frame, entry = one.state is None, one.id or NO_ENTRY
        if entry <= self._seen.get(is_frame, (-1, 0)):
            return False
        self._seen[is_frame] = entry
        return True

    def _give_up_rest(self, segment: Segment) -> None:
        records, frames = segment.records - self._records, segment.frames - self._frames
        self.left -= records
        self.left_frames -= frames
        self.shed += frames


def _payload(one: Draft) -> bytes:
    return _encoder.encode(
        (one.schema, one.data, one.traceparent, one.state, one.session, one.seq, one.lost)
    )


def _unpack(records: list[tuple[EntryId, bytes]]) -> list[Draft]:
    """Without those that are of another version."""
    drafts = []
    for entry, payload in records:
        with suppress(msgspec.DecodeError):
            schema, data, trace, state, session, seq, lost = _decoder.decode(payload)
            drafts.append(Draft(schema, data, trace, state, session, seq, lost, entry))
    return drafts
