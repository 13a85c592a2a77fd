"""`vedette tail`: what is being published, a line per message, for eyes or for pipes."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Sequence
from datetime import datetime

import msgspec

from pipeline.consume import Entry, Notice, follow
from pipeline.messages import Counts
from pipeline.wire import CameraMessage, DetectionsMessage
from workers.places import Over, Place, check_cameras, end_with
from workers.rundir import Address

_CONFIDENCES = 6  # shown of one label


def tail(place: Place, cameras: Sequence[str], *, as_json: bool, from_start: bool) -> int:
    """Prints until the run has ended, or nobody reads stdout any more: 0.

    `cameras`: all of the place where it is empty. Raises SinkUnavailable where there is no Redis
    at first.
    """
    if place.cameras is not None:
        check_cameras(cameras, place.cameras)
    entries = follow(
        place.url,
        prefix=place.prefix,
        cameras=cameras or place.cameras,
        after="0" if from_start else "$",
        notice=_Listener(place.run).hear,
    )
    try:
        for entry in entries:
            _print(_one_line(entry.data) if as_json else line(entry).encode())
    except Over as end:
        if str(end):
            print(f"vedette: {end}", file=sys.stderr)
    except BrokenPipeError:
        # What is left in the buffer would be flushed, and complained about, at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def line(entry: Entry) -> str:
    """One message for eyes: time, camera, number of the frame, what was seen or what happened."""
    message = entry.message
    if isinstance(message, DetectionsMessage):
        words = [_time(message.captured_at), entry.camera, f"#{message.seq}", _objects(message)]
        words += _dropped(message.dropped, "before it")
        words += ["[damaged picture]"] if message.tainted else []
    else:
        words = [_time(message.since), entry.camera, _event(message)]
        words += _dropped(message.dropped or {}, "behind its last frame")
    # Whoever writes to Redis shall not write to this terminal's controls.
    return "".join(c if c.isprintable() else "�" for c in "  ".join(words))


class _Listener:
    """Says what happens beside the entries on stderr, each thing once; knows when it is over."""

    def __init__(self, run: Address | None) -> None:
        self._run = run
        self._said = ""

    def hear(self, notice: Notice) -> None:
        if not _has_reader():
            raise Over
        end_with(self._run, notice)
        if notice.kind != "idle" and notice.text != self._said:
            self._said = notice.text
            print(f"vedette: {notice.text}", file=sys.stderr)


def _print(data: bytes) -> None:
    sys.stdout.buffer.write(data + b"\n")
    sys.stdout.buffer.flush()


def _has_reader() -> bool:
    """False once the other end of a pipe is closed; a write would say so, but there is none."""
    poller = select.poll()
    poller.register(1, 0)
    return not any(event & select.POLLERR for _, event in poller.poll(0))


def _one_line(data: bytes) -> bytes:
    return msgspec.json.format(data, indent=-1) if b"\n" in data or b"\r" in data else data


def _time(seconds: float) -> str:
    """Of the day, in the time zone of this terminal."""
    try:
        return datetime.fromtimestamp(seconds).strftime("%H:%M:%S.%f")[:-3]
    except (ValueError, OverflowError, OSError):
        return "??:??:??.???"


def _objects(message: DetectionsMessage) -> str:
    """`2 person 0.91 0.88, 1 car 0.63`."""
    confidences: dict[str, list[str]] = {}
    for detection in message.detections:
        confidences.setdefault(detection.label, []).append(f"{detection.confidence:.2f}")
    words = []
    for label, found in confidences.items():
        more = " …" if len(found) > _CONFIDENCES else ""
        words.append(f"{len(found)} {label} {' '.join(found[:_CONFIDENCES])}{more}")
    return ", ".join(words) or "nothing"


def _dropped(dropped: Counts, where: str) -> list[str]:
    if not dropped:
        return []
    reasons = ", ".join(f"{frames:,} {reason}" for reason, frames in dropped.items())
    return [f"[{sum(dropped.values()):,} dropped {where}: {reasons}]"]


def _event(message: CameraMessage) -> str:
    """`ended: read to its end: 377 frames`, or whose fault it is that it was not."""
    blame = {"us": "Vedette itself"}.get(message.fault or "", message.fault)
    text = f"{message.state}: {message.reason}"
    return f"{text} (at fault: {blame})" if blame else text
