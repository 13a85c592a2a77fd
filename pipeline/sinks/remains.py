"""What an earlier publisher has left in Redis of a live session that goes on."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from pipeline.sinks.connection import Command
from pipeline.sinks.stream import data_of
from pipeline.sinks.window import EntryId, Keys, format_id
from pipeline.wire import CameraMessage, DetectionsMessage, read_camera, read_detections

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
        ("XREVRANGE", keys.detections, "+", "-", "COUNT", 1),
        ("XREVRANGE", keys.events, "+", "-", "COUNT", 1),
    )


def remains(session: str, answers: list[object]) -> Remains:
    """What `session` has left, from the answers to `questions`."""
    behind, last, events = answers
    newest = _detections(last)
    event = _event(events)
    is_end = event is not None and event.state == "ended" and event.session == session
    return Remains(
        accounted=newest.seq + 1 if newest is not None and newest.session == session else 0,
        uncounted=sum(_is_of(session, [entry]) for entry in behind)
        if isinstance(behind, list)
        else 0,
        ended=event if is_end else None,
    )


def _is_of(session: str, entries: object) -> bool:
    message = _detections(entries)
    return message is not None and message.session == session


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
