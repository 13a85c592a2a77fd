"""`vedette tail`: what is being published, a line per message, for eyes or for pipes."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec
from pydantic import ValidationError

from config import schema
from config.load import load
from pipeline.consume import Entry, Notice, follow
from pipeline.errors import ConfigError, VedetteError
from pipeline.messages import Counts
from pipeline.wire import CameraMessage, DetectionsMessage
from workers import rundir
from workers.rundir import Address, read_address

_LAST_BREATH = 1.0  # seconds that a run may outlive its server by
_CONFIDENCES = 6  # shown of one label
_START = "start one with `vedette run FILE`, or name a server: --redis URL"


@dataclass(frozen=True, slots=True)
class Place:
    """Where there is something to read."""

    url: str
    prefix: str
    cameras: tuple[str, ...] | None = None  # None: all that there are
    run: Address | None = None  # whose own server it is, which ends with it


def tail(place: Place, cameras: Sequence[str], *, as_json: bool, from_start: bool) -> int:
    """Prints until the run has ended, or nobody reads stdout any more: 0.

    `cameras`: all of the place where it is empty. Raises SinkUnavailable where there is no Redis
    at first.
    """
    if place.cameras is not None:
        _check_cameras(cameras, place.cameras)
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
    except _Over as end:
        if str(end):
            print(f"vedette: {end}", file=sys.stderr)
    except BrokenPipeError:
        # What is left in the buffer would be flushed, and complained about, at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def find(file: Path | None, url: str | None, prefix: str | None) -> Place:
    """The server of a config file, of a URL, or of the one run that is going on.

    Raises ConfigMistakes or ConfigError for a wrong call, VedetteError where there is no run.
    """
    if url is not None and file is not None:
        raise ConfigError("found a config file and --redis, must be one of them")
    if url is not None:
        return _of_url(url, prefix)
    if prefix is not None:
        raise ConfigError("found --prefix without --redis, which it goes with")
    return _of_file(file) if file is not None else _of_only_run()


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


class _Over(Exception):
    """There will be nothing more to print, or nobody to print it for."""


class _Listener:
    """Says what happens beside the entries on stderr, each thing once; knows when it is over."""

    def __init__(self, run: Address | None) -> None:
        self._run = run
        self._said = ""

    def hear(self, notice: Notice) -> None:
        if not _has_reader():
            raise _Over
        if notice.kind in ("idle", "away") and self._run:
            self._end_with(self._run, patience=_LAST_BREATH if notice.kind == "away" else 0.0)
        if notice.kind != "idle" and notice.text != self._said:
            self._said = notice.text
            print(f"vedette: {notice.text}", file=sys.stderr)

    def _end_with(self, run: Address, *, patience: float) -> None:
        """Its server ends a moment before the run itself does."""
        deadline = time.monotonic() + patience
        while rundir.is_going_on(run):
            if time.monotonic() >= deadline:
                return
            time.sleep(0.02)
        raise _Over("the run has ended")


def _of_url(url: str, prefix: str | None) -> Place:
    try:
        redis = schema.Redis(url=url, prefix=prefix or "vedette")  # type: ignore[arg-type]
    except ValidationError as error:
        raise ConfigError("\n".join(_sentence(details) for details in error.errors())) from None
    if redis.is_embedded:
        raise ConfigError("--redis: found embedded, must be a URL; a run's own is found by itself")
    return Place(redis.url.get_secret_value(), redis.prefix)


def _sentence(details: object) -> str:
    place, context = details["loc"][0], details.get("ctx", {})  # type: ignore[index,attr-defined]
    option = "--redis" if place == "url" else "--prefix"
    said = str(context.get("error", "")) or f"must be {schema.accepted_at(('redis', place))}"
    return f"{option}: {said.replace('embedded or ', '')}"


def _of_file(file: Path) -> Place:
    config = load(file).config
    if not config.redis.is_embedded:
        cameras = tuple(camera.id for camera in config.cameras)
        return Place(config.redis.url.get_secret_value(), config.redis.prefix, cameras)
    run = read_address(config.name)
    if run is None:
        raise VedetteError(f"no run of {file} is going on, and its Redis ends with it; {_START}")
    return Place(run.redis, run.prefix, run.cameras, run)


def _of_only_run() -> Place:
    runs = rundir.runs()
    if not runs:
        raise VedetteError(f"no run is going on here; {_START}")
    if len(runs) > 1:
        names = ", ".join(sorted(runs))
        raise ConfigError(f"{len(runs)} runs are going on here, {names}: name the config FILE")
    (run,) = runs.values()
    return Place(run.redis, run.prefix, run.cameras, run)


def _check_cameras(cameras: Sequence[str], known: Sequence[str]) -> None:
    for camera in cameras:
        if camera not in known:
            raise ConfigError(f"--camera: found {camera!r}, must be one of {', '.join(known)}")


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
