"""What the person at the terminal sees: progress bars on a terminal, plain lines in a pipe.

Everything here goes to stderr; stdout is for data.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from workers.camera import CameraRun
from workers.life import LIVE

_PLAIN_SECONDS = 10.0  # between two lines of figures in a pipe
_MOST_SICK = 5  # cameras that such a line names


class Reporter(Protocol):
    """Who tells the person at the terminal."""

    def say(self, text: str) -> None: ...
    def update(self, cameras: list[CameraRun], before: int) -> None:
        """`before`: frames published by cameras that are gone."""


@contextlib.contextmanager
def open_reporter() -> Iterator[Reporter]:
    """The reporter that fits stderr."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield PlainReporter()
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
    ) as progress:
        yield BarReporter(progress)


class PlainReporter:
    """One line per event, and one of figures every ten seconds."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _PLAIN_SECONDS
        self._rate = _Rate()

    def say(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # nobody listens any more: the run goes on
            print(f"vedette: {text}", file=sys.stderr, flush=True)

    def update(self, cameras: list[CameraRun], before: int) -> None:
        if time.monotonic() < self._next:
            return
        self._next += _PLAIN_SECONDS
        published = before + sum(camera.totals.published for camera in cameras)
        going = sum(camera.finished is None for camera in cameras)
        lives = {camera.config.id: camera.life.state.name for camera in cameras if camera.life}
        sick = [f"{name} {state}" for name, state in lives.items() if state != LIVE]
        shown = [*sick[:_MOST_SICK], *[f"{len(sick) - _MOST_SICK} more"] * (len(sick) > _MOST_SICK)]
        self.say(
            f"{published:,} frames published, {self._rate.of(published):.1f} frames/s, "
            f"{going} of {len(cameras)} cameras going{'; ' * bool(sick)}{', '.join(shown)}"
        )


class BarReporter:
    """A bar per camera: published of arrived."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def say(self, text: str) -> None:
        with contextlib.suppress(OSError):  # the terminal is closed: the run drains
            self._progress.console.print(f"vedette: {text}", markup=False, highlight=False)

    def update(self, cameras: list[CameraRun], before: int) -> None:
        for camera in cameras:
            name = camera.config.id
            if name not in self._tasks:
                self._tasks[name] = self._progress.add_task(name, total=None, note="")
            dropped = sum(camera.totals.dropped.values())
            self._progress.update(
                self._tasks[name],
                completed=camera.totals.published,
                total=camera.totals.known or None,
                note=f"{dropped:,} dropped" if dropped else "",
            )


class _Rate:
    """Frames a second since the last look."""

    def __init__(self) -> None:
        self._frames, self._at = 0, time.monotonic()

    def of(self, frames: int) -> float:
        now = time.monotonic()
        rate = (frames - self._frames) / max(now - self._at, 1e-9)
        self._frames, self._at = frames, now
        return rate
