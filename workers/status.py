"""`vedette status`: what each camera is like now, a line per camera, the sick ones first."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

import msgspec

from pipeline.consume.latest import Latest, latest
from workers.places import Place

_WELL = ("live", "ended")  # the states that need nobody, unless somebody is at fault
_SILENT = 30.0  # seconds: a camera that stalls says so long before
_RECENT = 5.0  # seconds: a frame that is younger shows that its camera is live


@dataclass(frozen=True, slots=True)
class Row:
    """What is shown of one camera. Times in seconds, None where there has been none."""

    camera: str
    state: str
    since: float | None  # seconds since 1970
    fault: str | None
    frame_age: float | None  # of the last frame that was published, since its packet arrived
    entries: int
    reason: str

    @property
    def is_well(self) -> bool:
        """Whether it needs nobody."""
        return self.state in _WELL and self.fault is None


def status(place: Place, *, as_json: bool) -> int:
    """Prints it; 1 where a camera needs somebody, or there is none. Raises SinkUnavailable."""
    now = time.time()
    found = latest(place.url, prefix=place.prefix, cameras=place.cameras)
    rows = [row_of(one, now) for one in found]
    rows.sort(key=lambda row: (row.is_well, row.camera))
    for line in _json(rows) if as_json else _table(rows, now):
        print(line)
    if not rows:
        print("vedette: nothing has been published there", file=sys.stderr)
    return int(not rows or not all(row.is_well for row in rows))


def row_of(one: Latest, now: float) -> Row:
    """The last event says it; where there is none, or frames behind an end, they do."""
    frame, event = one.frame, one.event
    age = None if frame is None else now - frame.captured_at
    goes_on = event is None or (event.state == "ended" and _is_behind(one))
    if goes_on:
        state = "live" if frame is not None and (age or 0.0) < _RECENT else "quiet"
        since = None if frame is None else frame.captured_at
        reason = "no event has been published of it" if event is None else "it has begun anew"
        return Row(one.camera, state, since, None, age, one.entries, reason)
    assert event is not None
    if event.state == "live" and (age is None or age > _SILENT):
        reason = "it was live, and nothing has come since: is its run going on?"
        return Row(one.camera, "quiet", event.since, None, age, one.entries, reason)
    return Row(one.camera, event.state, event.since, event.fault, age, one.entries, event.reason)


def _is_behind(one: Latest) -> bool:
    """Whether the last frame came behind the end, in another session."""
    if one.frame is None or one.event is None or one.frame.session == one.event.session:
        return False
    return one.frame.captured_at > one.event.since


def _json(rows: list[Row]) -> list[str]:
    return [msgspec.json.encode(row).decode() for row in rows]


def _table(rows: list[Row], now: float) -> list[str]:
    cells = [("camera", "state", "for", "last frame", "entries", "")]
    for row in rows:
        why = row.reason if row.fault is None else f"{row.reason} (at fault: {row.fault})"
        shown = (row.camera, row.state, _ago(row.since and now - row.since), _ago(row.frame_age))
        cells.append((*shown, f"{row.entries:,}", "" if row.state == "live" else why))
    widths = [max(len(line[column]) for line in cells) for column in range(5)]
    return [
        "  ".join([*(c.ljust(w) for c, w in zip(line, widths, strict=False)), _printable(line[5])])
        .rstrip()
        for line in cells
    ]  # fmt: skip


def _ago(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 100:
        return f"{max(0.0, seconds):.1f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.0f} h"


def _printable(text: str) -> str:
    """Whoever writes to Redis shall not write to this terminal's controls."""
    return "".join(c if c.isprintable() else "�" for c in text)
