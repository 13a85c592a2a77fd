"""What lies between two messages of a camera, decided from plain values.

A message accounts for the frames `seq - sum(dropped) … seq`, so the message before it in the stream
must end right there. Where it does not, or where the stream no longer has what was before, frames
are missing, and a `Gap` says so.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.consume.entries import NO_MESSAGE, Entry, Fields, Gap, GapKind
from pipeline.messages import Counts
from pipeline.sinks.window import NO_ENTRY, EntryId, parse_id
from pipeline.wire import CameraMessage, DetectionsMessage, read_detections


@dataclass(frozen=True, slots=True)
class Seen:
    """A message of a stream of frames that has been read."""

    id: EntryId
    session: str
    seq: int


@dataclass(frozen=True, slots=True)
class Standing:
    """A stream and a group of its readers at one moment; None where Redis does not say."""

    first: EntryId | None  # of what the stream has now
    delivered: EntryId  # the last entry that the group was given
    length: int
    waiting: int | None  # entries ever added behind `delivered`
    trimmed: int | None  # entries that have left the stream at its old end since it began
    readers: int  # consumers that the group has had


def seen(entry: Entry) -> Seen | None:
    """What to remember of an entry; None for an event."""
    message = entry.message
    if isinstance(message, CameraMessage):
        return None
    return Seen(parse_id(entry.id), message.session, message.seq)


def seen_in(entry_id: bytes, fields: Fields) -> Seen | None:
    """The same of an entry as Redis has it; None where it is no frame that can be read."""
    try:
        message = read_detections(fields.get(b"data", b""))
    except NO_MESSAGE:
        return None
    return Seen(parse_id(entry_id), message.session, message.seq)


def follows(previous: Seen, message: DetectionsMessage) -> bool:
    """Whether nothing can lie between the two."""
    return message.session == previous.session and _first_frame(message) == previous.seq + 1


def drops(entry: Entry) -> list[Gap]:
    """What the message itself says was dropped before it."""
    dropped = entry.message.dropped
    return [_gap(entry, "dropped", sum(dropped.values()), dropped)] if dropped else []


def between(entry: Entry, previous: Seen) -> list[Gap]:
    """Of two messages that stand one behind the other in the stream."""
    message = entry.message
    if isinstance(message, CameraMessage):
        return []
    if message.session != previous.session:
        first = _first_frame(message)
        lost = [_gap(entry, "missing", first)] if first > 0 else []
        return [_gap(entry, "session", None), *lost]
    lost_frames = _first_frame(message) - previous.seq - 1
    return [_gap(entry, "missing", lost_frames)] if lost_frames > 0 else []


def behind_a_trim(entry: Entry, last: Seen | None, standing: Standing | None) -> list[Gap]:
    """Of the oldest message that the stream has: whether the group has had all before it.

    `last` is what this reader had last (others of its group may have had more since), `standing`
    the last look at the stream, before the message was read.
    """
    message = entry.message
    if isinstance(message, CameraMessage):
        return []
    if last is not None and last.session == message.session:
        frames = _first_frame(message) - last.seq - 1
        alone = standing is not None and standing.readers <= 1
        return [_gap(entry, "trimmed", frames if alone else None)] if frames > 0 else []
    gaps = [] if last is None else [_gap(entry, "session", None)]
    lost = None if standing is None else _never_delivered(entry, message, standing)
    return gaps if lost == 0 else [*gaps, _gap(entry, "trimmed", lost)]


def _never_delivered(entry: Entry, message: DetectionsMessage, standing: Standing) -> int | None:
    """How many entries left the stream between the last that the group had and this one."""
    entry_id, first = parse_id(entry.id), _first_frame(message)
    if standing.first not in (None, entry_id) or standing.delivered >= entry_id:
        return None  # the stream has moved on since
    if standing.trimmed == 0:
        return first  # not 0: the stream begins in the middle of a session
    if standing.delivered == NO_ENTRY:
        return first if standing.trimmed is None else standing.trimmed
    if standing.waiting is not None:
        return max(0, standing.waiting - standing.length)
    epoch, count = standing.delivered
    if entry_id == (epoch, message.seq + 1):  # a file's id holds the number of its frame
        return max(0, first - count)
    return None


def _first_frame(message: DetectionsMessage) -> int:
    """The number of the first frame that this message accounts for."""
    return message.seq - sum(message.dropped.values())


def _gap(entry: Entry, kind: GapKind, frames: int | None, dropped: Counts | None = None) -> Gap:
    return Gap(
        key=entry.key,
        camera=entry.camera,
        kind=kind,
        before=entry.id,
        frames=frames,
        dropped=dropped or {},
    )
