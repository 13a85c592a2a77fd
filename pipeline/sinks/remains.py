"""What an earlier publisher of this run has left in Redis of its sessions."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import cast

import msgspec

from pipeline.sinks.connection import Command
from pipeline.sinks.stream import data_of
from pipeline.sinks.window import NO_ENTRY, EntryId, Keys, format_id, parse_id
from pipeline.wire import CameraMessage, DetectionsMessage, read_camera, read_detections

_STRANGERS = 50  # entries of somebody else, at the end, behind which ours are still looked for
_MOST = 2500  # entries: more than a publisher can have sent and not counted


@dataclass(frozen=True, slots=True)
class Remains:
    """`accounted` of a session are its frames that are published, or dropped before one that is.

    `uncounted` entries lie behind the last that their publisher counted, up to `last`; `ended` are
    the sessions whose end is there.
    """

    accounted: dict[str, int] = field(default_factory=dict)
    uncounted: int = 0
    last: EntryId = NO_ENTRY
    ended: frozenset[str] = frozenset()


def questions(keys: Keys, confirmed: EntryId, event: EntryId) -> tuple[Command, ...]:
    """The commands whose answers `remains` reads: behind the entry `confirmed`, and the `event`."""
    return (
        ("XREVRANGE", keys.detections, "+", _behind(confirmed), "COUNT", _MOST),
        ("XREVRANGE", keys.detections, "+", "-", "COUNT", _STRANGERS),
        ("XREVRANGE", keys.events, "+", _behind(event), "COUNT", _STRANGERS),
    )


def remains(sessions: Collection[str], answers: list[object]) -> Remains:
    """What `sessions` have left, from the answers to `questions`."""
    behind, last, events = (cast("list[list[object]]", answer) for answer in answers)
    uncounted = [entry for entry in behind if _session_of(entry) in sessions]
    accounted: dict[str, int] = {}
    for entry in (*uncounted, *last):
        message = _detections(entry)
        if message is not None and message.session in sessions:
            accounted.setdefault(message.session, message.seq + 1)
    return Remains(
        accounted=accounted,
        uncounted=len(uncounted),
        last=parse_id(cast(bytes, uncounted[0][0])) if uncounted else NO_ENTRY,
        ended=frozenset(filter(None, map(_ended, events))).intersection(sessions),
    )


def _behind(entry: EntryId) -> str:
    return format_id((entry[0], entry[1] + 1))


def _session_of(entry: list[object]) -> str | None:
    message = _detections(entry)
    return message.session if message is not None else None


def _detections(entry: list[object]) -> DetectionsMessage | None:
    """None for an entry that is none of ours."""
    data = data_of([entry])
    try:
        return read_detections(data) if data is not None else None
    except msgspec.MsgspecError:
        return None


def _ended(entry: list[object]) -> str | None:
    """The session whose end it is."""
    data = data_of([entry])
    try:
        event: CameraMessage | None = read_camera(data) if data is not None else None
    except msgspec.MsgspecError:
        return None
    return event.session if event is not None and event.state == "ended" else None
