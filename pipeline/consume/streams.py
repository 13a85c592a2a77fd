"""Which streams a reader reads, and how long it waits for a Redis that is away."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pipeline.consume.entries import Notice
from pipeline.errors import ConfigError, SinkUnavailable
from pipeline.sinks.window import EntryId, Keys, parse_id

BLOCK = 2.0  # seconds that Redis holds an answer back while there is nothing new
MARGIN = 3.0  # seconds on top of that, after which the server counts as silent
LOOK = 2.0  # seconds between looks for new cameras and for streams that began anew
COUNT = 100  # entries of one stream in one answer
_BACKOFF = (0.2, 5.0)  # seconds: the first and the longest wait between attempts, before jitter


@dataclass(frozen=True, slots=True)
class Scope:
    """Which streams are read."""

    prefix: str
    cameras: Sequence[str] | None
    events: bool

    def pattern(self) -> str:
        """Of every key that a camera may have (SCAN's glob: \\ takes a character as it is)."""
        return "".join(f"\\{c}" if c in "*?[]\\" else c for c in self.prefix) + ":{*}:*"

    def cameras_of(self, keys: set[bytes]) -> list[str]:
        """The cameras that these keys belong to."""
        head, names = f"{self.prefix}:{{", set()
        for key in keys:
            start, _, kind = key.decode("utf-8", "replace").rpartition("}:")
            if start.startswith(head) and kind in ("detections", "events"):
                names.add(start.removeprefix(head))
        return sorted(names)

    def keys(self, camera: str) -> list[tuple[str, bool]]:
        """The streams of one camera and whether they hold events, frames first."""
        keys = Keys.of(self.prefix, camera)
        frames = [(keys.detections, False)]
        return [*frames, (keys.events, True)] if self.events else frames


class Patience:
    """What to do when Redis does not answer: give up if it never has, wait and say so if it has."""

    def __init__(self, place: str, notice: Callable[[Notice], None]) -> None:
        self._place = place
        self._notice = notice
        self._waits: Iterator[float] | None = None  # while Redis is away
        self.met = False  # Redis has been read once

    def away(self, error: SinkUnavailable) -> float:
        """Seconds to wait before the next attempt. Raises the error where it is the first."""
        if not self.met:
            raise error from None
        self._waits = self._waits or _backoff()
        self._notice(Notice("away", f"{error}; trying again"))
        return error.retry_after or next(self._waits)

    def answered(self, *, anything: bool) -> None:
        """Redis has been read; `anything`: it had something new."""
        self.met = True
        if self._waits is not None:
            self._waits = None
            self._notice(Notice("back", f"Redis at {self._place} is back"))
        if not anything:
            self._notice(Notice("idle", "there is nothing new"))


def parse_after(after: str) -> EntryId | None:
    """None for "$". Raises ConfigError."""
    if after == "$":
        return None
    try:
        return parse_id(after if "-" in after else f"{after}-0")
    except ValueError:
        raise ConfigError(f'found {after!r} to read after, must be "$", "0" or an id') from None


def _backoff() -> Iterator[float]:
    """Endless waits with full jitter (Brooker, "Exponential Backoff And Jitter", AWS, 2015)."""
    longest, most = _BACKOFF
    while True:
        yield random.uniform(0, longest)
        longest = min(longest * 2, most)
