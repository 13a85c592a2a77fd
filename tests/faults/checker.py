"""What the streams hold, by somebody who has nothing of the code under test.

It reads with plain redis-py and knows how many frames the clips have. Of each camera:

    missing       frames that are not in the stream, and of which no message says that they were
                  dropped
    duplicate     entries of a frame, or ends of a session, that were there before
    disordered    entries behind one with a higher id, or a later frame of their session
    unaccounted   frames by which what arrived differs from what is there and what is said to have
                  been dropped, message by message
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import redis


@dataclass(frozen=True)
class Findings:
    """Figures of one camera, or of several."""

    published: int = 0
    missing: int = 0
    duplicate: int = 0
    disordered: int = 0
    unaccounted: int = 0
    dropped: Counter[str] = field(default_factory=Counter)  # as the messages say, by reason

    def __add__(self, other: Findings) -> Findings:
        return Findings(
            self.published + other.published,
            self.missing + other.missing,
            self.duplicate + other.duplicate,
            self.disordered + other.disordered,
            self.unaccounted + other.unaccounted,
            self.dropped + other.dropped,
        )

    @property
    def wrong(self) -> tuple[int, int, int, int]:
        """What must be 0."""
        return (self.missing, self.duplicate, self.disordered, self.unaccounted)


Entry = tuple[tuple[int, int], dict[str, Any]]


def read(client: redis.Redis, camera: str, stream: str = "detections") -> list[Entry]:
    """Id and data of all entries that are messages, as they stand in the stream."""
    found: Any = client.xrange(f"vedette:{{{camera}}}:{stream}")
    return [
        (_id(entry), json.loads(fields[b"data"])) for entry, fields in found if b"schema" in fields
    ]


def check(client: redis.Redis, camera: str, arrived: dict[int, int] | int) -> Findings:
    """All sessions of one camera. `arrived`: how many frames its clip has, of each session.

    A dict says it of some sessions by their number (from 0, in order); of one that is not in it
    nobody knows but the camera's own `ended`, if there is one.
    """
    entries, events = read(client, camera), read(client, camera, "events")
    events = [(at, data) for at, data in events if "session" in data]  # not of a camera's life
    sessions = list(dict.fromkeys(data["session"] for _, data in [*entries, *events]))
    known = arrived if isinstance(arrived, dict) else dict.fromkeys(range(len(sessions)), arrived)
    findings = Findings(disordered=_disorder([one for one, _ in entries]))
    for number, session in enumerate(sessions):
        frames = [data for _, data in entries if data["session"] == session]
        ends = [d for _, d in events if d["session"] == session and d["state"] == "ended"]
        findings += _check_session(frames, ends, known.get(number))
    return findings


def _check_session(
    frames: list[dict[str, Any]], ends: list[dict[str, Any]], arrived: int | None
) -> Findings:
    numbers = [frame["seq"] for frame in frames]
    missing = unaccounted = due = 0
    dropped: Counter[str] = Counter()
    seen: set[int] = set()
    for data in [*frames, *ends[:1]]:
        seq = data["seq"] if "seq" in data else data["frames"]
        if "seq" in data and seq in seen:
            continue
        seen.add(seq)
        said = data.get("dropped") or {}
        dropped.update(said)
        hole = seq - due - sum(said.values())
        missing, unaccounted = missing + max(0, hole), unaccounted + abs(hole)
        due = seq + 1
    if arrived is not None:
        due -= bool(ends)  # an end stands behind its last frame
        missing, unaccounted = missing + max(0, arrived - due), unaccounted + abs(arrived - due)
    duplicate = len(numbers) - len(set(numbers)) + max(0, len(ends) - 1)
    return Findings(len(frames), missing, duplicate, _disorder(numbers), unaccounted, dropped)


def _disorder(values: Iterable[Any]) -> int:
    disorder, highest = 0, None
    for value in values:
        if highest is not None and value < highest:
            disorder += 1
        highest = value if highest is None else max(highest, value)
    return disorder


def _id(entry: bytes) -> tuple[int, int]:
    first, _, second = entry.decode().partition("-")
    return int(first), int(second)
