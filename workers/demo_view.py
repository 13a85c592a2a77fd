"""What a demo shows while it goes on: a table on a terminal, plain lines in a pipe, on stderr."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.table import Table

_PLAIN_SECONDS = 5.0  # between two lines in a pipe
_LIVE_SECONDS = 0.1  # between two pictures of the table


@dataclass(slots=True)
class Row:
    """One camera: what has been read of its stream."""

    camera: str
    scene: str  # in words
    announced: int  # frames that there will be
    frames: int = 0
    objects: dict[str, int] = field(default_factory=dict)  # in its newest frame, by label
    began: float | None = None  # monotonic, when its first frame was read
    latest: float = 0.0  # likewise its newest
    has_ended: bool = False

    @property
    def rate(self) -> float:
        """Frames a second from its first on."""
        passed = self.latest - (self.began or 0.0)
        return (self.frames - 1) / passed if self.frames > 1 and passed > 0 else 0.0


class View(Protocol):
    """Who shows it."""

    def say(self, text: str) -> None: ...
    def update(self, rows: Sequence[Row]) -> None: ...


@contextlib.contextmanager
def open_view() -> Iterator[View]:
    """The view that fits stderr."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield _Lines()
        return
    # No thread of its own: the processes are started from this one.
    with Live(console=Console(stderr=True), auto_refresh=False) as live:
        yield _Live(live)


class _Lines:
    def __init__(self) -> None:
        self._next = time.monotonic() + _PLAIN_SECONDS

    def say(self, text: str) -> None:
        print(f"vedette: {text}", file=sys.stderr, flush=True)

    def update(self, rows: Sequence[Row]) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _PLAIN_SECONDS
            for row in rows:
                if row.has_ended:
                    continue
                frames = f"{row.frames:,} of {row.announced:,} frames"
                self.say(f"{row.camera}: {frames}, {row.rate:.1f} frames/s, {_now(row)}")


class _Live:
    def __init__(self, live: Live) -> None:
        self._live = live
        self._next = 0.0

    def say(self, text: str) -> None:
        self._live.console.print(f"vedette: {text}", markup=False, highlight=False)

    def update(self, rows: Sequence[Row]) -> None:
        is_due = time.monotonic() >= self._next
        if is_due:
            self._next = time.monotonic() + _LIVE_SECONDS
        self._live.update(_table(rows), refresh=is_due)  # the last one is shown at the end


def _table(rows: Sequence[Row]) -> Table:
    table = Table("camera", "scene", expand=True)
    table.add_column("frames", justify="right", no_wrap=True, min_width=len("300 of 300"))
    table.add_column("frames/s", justify="right", no_wrap=True)
    table.add_column("objects now", no_wrap=True, ratio=1)  # the rest of the width
    for row in rows:
        frames = f"{row.frames:,} of {row.announced:,}"
        table.add_row(row.camera, row.scene, frames, f"{row.rate:.1f}", _now(row))
    return table


def _now(row: Row) -> str:
    """`4: 1 car, 3 person`, always in the same order: it must not flicker."""
    if not row.frames:
        return "nothing yet"
    if not row.objects:
        return "nothing"
    parts = ", ".join(f"{count} {label}" for label, count in sorted(row.objects.items()))
    return f"{sum(row.objects.values())}: {parts}"
