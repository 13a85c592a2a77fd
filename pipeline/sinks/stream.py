"""One camera's Redis streams, and how they are written and read in Redis' own words."""

from __future__ import annotations

from typing import cast

import msgspec
import redis

from pipeline.sinks.connection import Command
from pipeline.sinks.drafts import Frame
from pipeline.sinks.jobs import Job, Position
from pipeline.sinks.lanes import is_missing
from pipeline.sinks.lease import Lease
from pipeline.sinks.window import EntryId, Record, Window, format_id, parse_id
from pipeline.wire import read_detections


class Stream:
    """One camera's two Redis streams as this publisher sees them."""

    def __init__(self, window: Window, lease: Lease, job: Job | None, maxlen: int | None) -> None:
        self.window = window
        self.lease = lease
        self.job = job  # None: a live camera
        self.maxlen = maxlen
        self.position: Position | None = None  # of a file, once stepped in
        self.in_step = False  # the lease is ours and we know what Redis has
        self.exists: dict[str, bool] = {}
        self.met = False  # Redis has been read once

    @property
    def live(self) -> bool:
        return self.job is None

    @property
    def accounted(self) -> Frame | None:
        """The last frame that was taken in, by this process or into its spool; None: none yet."""
        return self.window.newest

    @property
    def ended(self) -> set[str | None]:
        """Sessions whose end an earlier process has left in its spool."""
        return self.window.queue.ended


def xadd(record: Record, stream: Stream) -> Command:
    words: list[str | bytes | int] = ["XADD", record.key]
    if stream.exists.get(record.key, False):
        words.append("NOMKSTREAM")
    if stream.maxlen is not None and (record.is_frame or stream.live):
        words += ("MAXLEN", "~", stream.maxlen)
    words.append(format_id(record.id))
    for name, value in record.fields.items():
        words += (name, value)
    return tuple(words)


def last_entry(answer: object) -> EntryId | None:
    """The last id of an XINFO STREAM reply, None for a key that does not exist."""
    if is_missing(answer):
        return None
    if isinstance(answer, redis.RedisError):
        raise answer
    return parse_id(cast(bytes, _pairs(answer)[b"last-generated-id"]))


def last_frame(answer: object) -> tuple[str, int] | None:
    """Session and seq of the last entry of an XINFO STREAM reply; None for none of ours."""
    if isinstance(answer, redis.RedisError):
        return None
    entry = cast("list[list[bytes]] | None", _pairs(answer).get(b"last-entry"))
    try:
        message = read_detections(_pairs(entry[1])[b"data"]) if entry else None  # type: ignore[arg-type]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError):
        return None
    return None if message is None else (message.session, message.seq)


def hash_of(answer: object) -> dict[str, str]:
    if isinstance(answer, redis.RedisError):
        raise answer
    pairs = cast("dict[bytes, bytes]", _pairs(answer))
    return {name.decode(): value.decode() for name, value in pairs.items()}


def data_of(entries: object) -> bytes | None:
    """The data of an XRANGE reply over one entry."""
    if not isinstance(entries, list) or not entries:
        return None
    return cast("bytes | None", _pairs(entries[0][1]).get(b"data"))


def holds(entries: object, record: Record) -> bool:
    """Whether an XRANGE reply over one id is this very record."""
    return data_of(entries) == record.fields["data"]


def _pairs(flat: object) -> dict[bytes, object]:
    """A reply of names and values in turn (RESP2) as what it means."""
    words = cast(list[object], flat)
    return {cast(bytes, name): value for name, value in zip(words[::2], words[1::2], strict=True)}
