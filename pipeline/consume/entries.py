"""What a reader is handed: entries, and what it does not get, as values of their own."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from pipeline.messages import Counts
from pipeline.wire import CameraMessage, DetectionsMessage, read_camera, read_detections

Fields = Mapping[bytes, bytes]
# What decoding bytes that anybody may have written can raise; the last for `[[[[[…`.
NO_MESSAGE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

GapKind = Literal["dropped", "trimmed", "missing", "session"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a stream. (`key`, `id`) is unique while nobody deletes the stream."""

    key: str
    id: str
    camera: str
    message: DetectionsMessage | CameraMessage
    traceparent: str | None
    data: bytes  # the message as it was published, with fields that this version does not know


@dataclass(frozen=True, slots=True)
class Raw:
    """One entry as Redis has it, whoever wrote it."""

    key: str
    id: str
    camera: str
    is_event: bool
    fields: Fields


@dataclass(frozen=True, slots=True, kw_only=True)  # `case Lost("dead")` would compare the key
class Lost:
    """An entry that was there and that this reader does not get.

    trimmed     it left the stream (MAXLEN, XDEL) after it was delivered and before it was done
    unreadable  it is no message of a version that is known here; `text` says what is wrong
    dead        it was delivered too often and never done: it lies in the camera's `:dead` now
    """

    key: str
    id: str
    camera: str
    why: Literal["trimmed", "unreadable", "dead"]
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Frames between two messages of one camera, handed before the later one (`before`, its id).

    dropped   Vedette says itself that it did not process them: `dropped`, by reason
    trimmed   they were published, and had left the stream before this group got to them
    missing   the stream jumps, and nobody says why: entries were deleted from its middle
    session   another session has begun: a camera was reconnected, a file is read once more

    `frames`: how many, None where that is not known, or not even whether there were any.
    """

    key: str
    camera: str
    kind: GapKind
    before: str
    frames: int | None
    dropped: Counts = field(default_factory=dict)

    def __str__(self) -> str:
        count = "an unknown number of frames" if self.frames is None else f"{self.frames:,} frames"
        reasons = ", ".join(f"{frames:,} {reason}" for reason, frames in self.dropped.items())
        what = {
            "dropped": f"{count} were dropped ({reasons})",
            "trimmed": f"{count} had left the stream before they were read",
            "missing": f"{count} are missing from the stream",
            "session": "a new session begins",
        }
        return f"{self.key}: {what[self.kind]} before {self.before}"


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a group is behind one stream; None where Redis does not know (after an XDEL)."""

    waiting: int | None  # entries that were never delivered to the group
    pending: int  # delivered and not done
    lost: int | None  # of the waiting ones: those that have left the stream


@dataclass(frozen=True, slots=True)
class Notice:
    """What a reader should know beside the entries; `text` is a sentence.

    away      Redis did not answer as it should; said at every attempt
    back      …and now it does; nothing has been missed that Redis has kept
    idle      there is nothing new at the moment
    skipped   an entry is not a message of a version that is known here
    replaced  a stream has been deleted and begun anew; reading goes on from its start
    gap       entries have left the stream unread, or are missing from it (see `Gap`)
    """

    kind: Literal["away", "back", "idle", "skipped", "replaced", "gap"]
    text: str


def log_notice(notice: Notice) -> None:
    """What is done with a notice unless the caller does something else."""
    level = logging.DEBUG if notice.kind == "idle" else logging.WARNING
    _log.log(level, "%s", notice.text)


def understand(raw: Raw) -> Entry | Lost:
    """The entry with its message, or that it has none."""
    data = raw.fields.get(b"data", b"")
    message: DetectionsMessage | CameraMessage
    try:
        message = read_camera(data) if raw.is_event else read_detections(data)
    except NO_MESSAGE as error:
        schema = raw.fields.get(b"schema", b"no schema").decode("utf-8", "replace")[:60]
        text = f"{raw.key} {raw.id} is skipped: {schema!r} is not known here: {error}"
        return Lost(key=raw.key, id=raw.id, camera=raw.camera, why="unreadable", text=text)
    trace = raw.fields.get(b"traceparent")
    traceparent = None if trace is None else trace.decode("ascii", "replace")
    return Entry(raw.key, raw.id, raw.camera, message, traceparent, data)
