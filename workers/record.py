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

from pipeline.consume import Notice, follow_raw
from pipeline.recording import Recorder, write
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

    Raises SinkUnavailable where there is no Redis at first, ConfigError for an output that cannot
    be written.
    """
    if place.cameras is not None:
        check_cameras(choice.cameras, place.cameras)
    deadline = None if choice.seconds is None else time.monotonic() + choice.seconds
    with write(output) as recorder, _until_told_to_stop():
        _fill(recorder, place, choice, deadline)
    print(
        f"vedette: {recorder.entries:,} entries of {len(recorder.cameras)} cameras in {output}",
        file=sys.stderr,
    )
    return 0


def _fill(recorder: Recorder, place: Place, choice: Choice, deadline: float | None) -> None:
    def hear(notice: Notice) -> None:
        if notice.kind == "idle":
            recorder.flush()
            _check(deadline)
        else:
            print(f"vedette: {notice.text}", file=sys.stderr)
        end_with(place.writer, notice)

    entries = follow_raw(
        place.url,
        prefix=place.prefix,
        cameras=choice.cameras or place.cameras,
        after="0" if choice.from_start else "$",
        notice=hear,
    )
    with closing(entries):  # type: ignore[type-var]
        flush_at = time.monotonic() + _FLUSH
        for raw in entries:
            _check(deadline)
            recorder.add(raw)
            if time.monotonic() >= flush_at:
                recorder.flush()
                flush_at = time.monotonic() + _FLUSH


def _check(deadline: float | None) -> None:
    if deadline is not None and time.monotonic() >= deadline:
        raise Over


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
