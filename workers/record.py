"""`vedette record`: what is being published, into a file that `vedette replay` publishes again."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from pipeline.consume import Entry, Notice, Raw, follow_raw, understand
from pipeline.recording import Recorder, write
from pipeline.wire import CameraMessage
from workers.places import Over, Place, check_cameras, end_with

_FLUSH = 1.0  # seconds between two flushes


@dataclass(frozen=True, slots=True)
class Choice:
    """What of a place is recorded, and for how long."""

    cameras: Sequence[str]  # empty: all
    from_start: bool
    seconds: float | None  # None: until the run ends, or the recorder is told to stop


def record(place: Place, output: Path, choice: Choice) -> int:
    """Records until the run ends, the time is over, SIGINT or SIGTERM: 0, and a whole file.

    1 where the run took its Redis along before its cameras' ends were read. Raises
    SinkUnavailable where there is no Redis at first, ConfigError for an output that cannot be
    written.
    """
    if place.cameras is not None:
        check_cameras(choice.cameras, place.cameras)
    deadline = None if choice.seconds is None else time.monotonic() + choice.seconds
    with write(output) as recorder, _until_told_to_stop():
        tape = _Tape(recorder, place, deadline)
        tape.fill(choice)
    amount = f"{recorder.entries:,} entries of {len(recorder.cameras)} cameras"
    print(f"vedette: {amount} in {output}", file=sys.stderr)
    if tape.is_cut:
        print(
            f"vedette: the run has ended with its Redis before the ends of "
            f"{', '.join(sorted(tape.going_on))} were read: their last entries are missing",
            file=sys.stderr,
        )
    return 1 if tape.is_cut else 0


class _Tape:
    """One recording under way; knows which cameras it has seen no end of."""

    def __init__(self, recorder: Recorder, place: Place, deadline: float | None) -> None:
        self._recorder = recorder
        self._place = place
        self._deadline = deadline
        self._flush_at = 0.0
        self.going_on: set[str] = set()
        self.is_cut = False

    def fill(self, choice: Choice) -> None:
        entries = follow_raw(
            self._place.url,
            prefix=self._place.prefix,
            cameras=choice.cameras or self._place.cameras,
            after="0" if choice.from_start else "$",
            notice=self._hear,
        )
        with closing(entries):  # type: ignore[type-var]
            for raw in entries:
                self._check()
                self._take(raw)

    def _take(self, raw: Raw) -> None:
        self._recorder.add(raw)
        if not raw.is_event:
            self.going_on.add(raw.camera)
        elif _is_end(raw):
            self.going_on.discard(raw.camera)
        if time.monotonic() >= self._flush_at:
            self._recorder.flush()
            self._flush_at = time.monotonic() + _FLUSH

    def _hear(self, notice: Notice) -> None:
        if notice.kind == "idle":
            self._recorder.flush()
            self._check()
        try:
            end_with(self._place.writer, notice)
        except Over:
            self.is_cut = notice.kind == "away" and bool(self.going_on)
            raise
        if notice.kind != "idle":
            print(f"vedette: {notice.text}", file=sys.stderr)

    def _check(self) -> None:
        if self._deadline is not None and time.monotonic() >= self._deadline:
            raise Over


def _is_end(raw: Raw) -> bool:
    entry = understand(raw)
    if isinstance(entry, Entry) and isinstance(entry.message, CameraMessage):
        return entry.message.state == "ended"
    return False


@contextmanager
def _until_told_to_stop() -> Iterator[None]:
    """SIGTERM ends the block as SIGINT does: in order."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Over

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except Over:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
