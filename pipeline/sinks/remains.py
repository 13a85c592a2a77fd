"""What an earlier publisher has left in Redis of a live session that goes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import msgspec

from pipeline.sinks.connection import Command
from pipeline.sinks.stream import data_of
from pipeline.sinks.window import EntryId, Keys, format_id
from pipeline.wire import CameraMessage, DetectionsMessage, read_camera, read_detections

_STRANGERS = 50  # entries of somebody else, at the end, behind which ours are still looked for
_MOST = 2500  # entries: more than a publisher can have sent and not counted


@dataclass(frozen=True, slots=True)
class Remains:
    """Of one session: `accounted` frames are published or dropped before one that is.

    `uncounted` entries lie behind the last that its publisher counted; `ended` is its last event.
    """

    accounted: int = 0
    uncounted: int = 0
    ended: CameraMessage | None = None


def questions(keys: Keys, confirmed: EntryId) -> tuple[Command, ...]:
    """The commands whose answers `remains` reads."""
    behind = format_id((confirmed[0], confirmed[1] + 1))
    return (
        ("XREVRANGE", keys.detections, "+", behind, "COUNT", _MOST),
        ("XREVRANGE", keys.detections, "+", "-", "COUNT", _STRANGERS),
        ("XREVRANGE", keys.events, "+", "-", "COUNT", 1),
    )


def remains(session: str, answers: list[object]) -> Remains:
    """What `session` has left, from the answers to `questions`."""
    behind, last, events = (cast("list[object]", answer) for answer in answers)
    uncounted = _of(session, behind)
    newest = next(iter(uncounted or _of(session, last)), None)
    event = _event(events)
    is_end = event is not None and event.state == "ended" and event.session == session
    return Remains(
        accounted=newest.seq + 1 if newest is not None else 0,
        uncounted=len(uncounted),
        ended=event if is_end else None,
    )


def _of(session: str, entries: list[object]) -> list[DetectionsMessage]:
    """The messages of a session, newest first."""
    found = (_detections([entry]) for entry in entries)
    return [one for one in found if one is not None and one.session == session]


def _detections(entries: object) -> DetectionsMessage | None:
    """Of the first entry; None where there is none, or none of ours."""
    data = data_of(entries)
    try:
        return read_detections(data) if data is not None else None
    except msgspec.MsgspecError:
        return None


def _event(entries: object) -> CameraMessage | None:
    data = data_of(entries)
    try:
        return read_camera(data) if data is not None else None
    except msgspec.MsgspecError:
        return None
