"""One stream as a consumer knows it, and what Redis' answers about it mean. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import redis

from pipeline.consume.entries import Entry, Gap, Lag, Lost, Raw, understand
from pipeline.consume.gaps import Seen, Standing, behind_a_trim, between, follows, seen, seen_in
from pipeline.sinks.window import NO_ENTRY, EntryId, parse_id
from pipeline.wire import DetectionsMessage


@dataclass(slots=True)
class Stream:
    """One stream, and what this consumer knows of it."""

    key: str
    camera: str
    is_events: bool
    attached: bool = False  # the group is there
    cursor: EntryId | None = NO_ENTRY  # in the own pending entries; None behind the last of them
    claim: bytes = b"0-0"  # cursor of XAUTOCLAIM
    last: Seen | None = None  # the newest frame that this consumer has had
    standing: Standing | None = None
    handed: set[str] = field(default_factory=set)  # and not done yet
    done: list[str] = field(default_factory=list)  # to be acknowledged

    @property
    def dead(self) -> str:
        return self.key.rpartition(":")[0] + ":dead"


@dataclass(frozen=True, slots=True)
class Pending:
    """An entry that was delivered to this consumer and that Redis has not been told is done."""

    stream: Stream
    id: str
    times: int  # that it was delivered


Found: TypeAlias = list[tuple[Stream, list[Entry | Lost]]]


def doubtful(last: Seen | None, entries: list[Entry | Lost], is_new: bool) -> list[Entry]:
    """The frames of which it is not clear from what was read that nothing lies before them."""
    found = []
    certain = False  # the entry before is the one before it in the stream
    for entry in entries:
        if isinstance(entry, Entry) and isinstance(entry.message, DetectionsMessage):
            if not certain and not (last and follows(last, entry.message)):
                found.append(entry)
            last = seen(entry)
        certain = is_new and isinstance(entry, Entry)
    return found


def gaps_before(stream: Stream, entry: Entry, before: list[Any] | None, is_new: bool) -> list[Gap]:
    """`before`: None where the entry read last is known to be the one before it in the stream."""
    if before is None:
        return between(entry, stream.last) if stream.last else []
    if before:
        previous = seen_in(*before[0])
        return between(entry, previous) if previous else []
    return behind_a_trim(entry, stream.last, stream.standing) if is_new else []


def newer(first: Seen | None, second: Seen | None) -> Seen | None:
    """The later of two frames of a stream; what was delivered again does not take it back."""
    if first is None or second is None:
        return first or second
    return second if second.id >= first.id or second.session != first.session else first


def understood(answer: list[tuple[Stream, list[Any]]]) -> Found:
    """The entries with their messages."""
    return [
        (
            stream,
            [
                understand(
                    Raw(stream.key, entry_id.decode(), stream.camera, stream.is_events, fields)
                )
                for entry_id, fields in entries
            ],
        )
        for stream, entries in answer
    ]


def standing_of(about: dict[str, Any], group: dict[str, Any]) -> Standing:
    """Of XINFO STREAM and of one group of XINFO GROUPS."""
    first, added = about["first-entry"], about.get("entries-added")
    if added is not None and about["max-deleted-entry-id"] != b"0-0":
        added = None  # XDEL has been at work, in the middle perhaps
    return Standing(
        first=None if first is None else parse_id(first[0]),
        delivered=parse_id(group["last-delivered-id"]),
        length=about["length"],
        waiting=group.get("lag"),
        trimmed=None if added is None else added - about["length"],
        readers=group["consumers"],
    )


def lag_of(standing: Standing, pending: int) -> Lag:
    """What a service shows of where its group stands."""
    waiting = standing.waiting
    return Lag(waiting, pending, None if waiting is None else max(0, waiting - standing.length))


def trimmed(stream: Stream, entry_id: str) -> Lost:
    """An entry that was pending, and of which Redis has only the id."""
    text = f"{stream.key} {entry_id} left the stream before it was done"
    return Lost(key=stream.key, id=entry_id, camera=stream.camera, why="trimmed", text=text)


def dead(row: Pending) -> Lost:
    """An entry that was moved to `:dead`."""
    stream = row.stream
    where = f"{stream.key} {row.id}"
    text = f"{where} was delivered {row.times} times and never done: see {stream.dead}"
    return Lost(key=stream.key, id=row.id, camera=stream.camera, why="dead", text=text)


def says(reply: object, words: str) -> bool:
    """Whether the answer is an error with these words."""
    return isinstance(reply, redis.ResponseError) and words in str(reply)


def checked(reply: Any) -> Any:
    """The answer; raises it where it is an error."""
    if isinstance(reply, Exception):
        raise reply
    return reply
