"""Reading what is published: typed entries of some or of all cameras, as they come.

    for entry in follow("redis://10.0.0.7", prefix="vedette", cameras=["gate"], after="$"):
        print(entry.camera, entry.message)

One XREAD over all keys waits for whichever has something new. That is one server (or a primary
and its replicas); on a Redis Cluster each camera's keys lie in a slot of their own, so there it is
one call of `follow` per camera. What cannot be an entry comes to the caller as a `Notice`.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import msgspec
import redis

from pipeline.errors import ConfigError, SinkUnavailable
from pipeline.sinks.address import place
from pipeline.sinks.redis import connect, unavailable
from pipeline.sinks.window import NO_ENTRY, EntryId, Keys, format_id, parse_id
from pipeline.wire import CameraMessage, DetectionsMessage, read_camera, read_detections

_COUNT = 100  # entries of one stream in one answer
_BLOCK = 2.0  # seconds that Redis holds an answer back while there is nothing new
_MARGIN = 3.0  # seconds on top of that, after which the server counts as silent
_LOOK = 2.0  # seconds between looks for new cameras and for streams that began anew
_BACKOFF = (0.2, 5.0)  # seconds: the first and the longest wait between attempts, before jitter
# What decoding bytes that anybody may have written can raise; the last for `[[[[[…`.
_NO_MESSAGE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a stream. (`key`, `id`) is unique: what a reader that must not repeat keeps."""

    key: str
    id: str
    camera: str
    message: DetectionsMessage | CameraMessage
    traceparent: str | None
    data: bytes  # the message as it was published, with fields that this version does not know


@dataclass(frozen=True, slots=True)
class Notice:
    """What a reader should know beside the entries; `text` is a sentence.

    away      Redis did not answer as it should; said at every attempt
    back      …and now it does; nothing has been missed that Redis has kept
    idle      there is nothing new at the moment
    skipped   an entry is not a message of a version that is known here
    replaced  a stream has been deleted and begun anew; reading goes on from its start
    """

    kind: Literal["away", "back", "idle", "skipped", "replaced"]
    text: str


def log_notice(notice: Notice) -> None:
    """What is done with a notice unless the caller does something else."""
    level = logging.DEBUG if notice.kind == "idle" else logging.WARNING
    _log.log(level, "%s", notice.text)


def follow(
    url: str,
    *,
    prefix: str,
    cameras: Sequence[str] | None,
    after: str,
    events: bool = True,
    notice: Callable[[Notice], None] = log_notice,
) -> Iterator[Entry]:
    """Every entry behind `after`, for ever; in order within a stream, ends behind their frames.

    `cameras`: None for all under the prefix, those to come included. `after`: "$" for what comes
    from now on (from the first `next`), "0" for everything that Redis has, or an id that the
    caller has had.

    Raises `SinkUnavailable` where Redis cannot be read at first, `ConfigError` for a URL or an id
    that is none; later failures are notices, and reading is tried again. Close it (or let it go)
    to end the connection.
    """
    reader = _Reader(url, _Scope(prefix, cameras, events), _parse_after(after), notice)
    try:
        yield from reader.entries()
    finally:
        reader.close()


@dataclass(slots=True)
class _Track:
    """One stream, and how far it has been read."""

    key: str
    camera: str
    is_events: bool
    position: EntryId
    session: str | None = None  # of the last message, for streams of frames


@dataclass(frozen=True, slots=True)
class _Scope:
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

    def tracks(self, camera: str) -> list[_Track]:
        """The streams of one camera, frames first."""
        keys = Keys.of(self.prefix, camera)
        frames = _Track(keys.detections, camera, False, NO_ENTRY)
        return [frames, _Track(keys.events, camera, True, NO_ENTRY)] if self.events else [frames]


class _Reader:
    """One connection and the streams that are read over it."""

    def __init__(
        self, url: str, scope: _Scope, after: EntryId | None, notice: Callable[[Notice], None]
    ) -> None:
        self._place = place(url)
        self._client = connect(url, timeout=_BLOCK + _MARGIN)
        self._scope = scope
        self._after = after  # None: what comes from now on
        self._notice = notice
        self._tracks: dict[str, _Track] = {}
        self._look_at = 0.0  # monotonic: when to look for new cameras again
        self._waits: Iterator[float] | None = None  # while Redis is away
        self._met = False  # Redis has been read once

    def entries(self) -> Iterator[Entry]:
        while True:
            try:
                self._look_around()
                answer = self._read()
            except (redis.RedisError, OSError) as error:
                self._wait_out(unavailable(error, self._place))
                continue
            self._met = True
            self._welcome_back()
            if answer:
                yield from self._entries(answer)
            else:
                self._notice(Notice("idle", "there is nothing new"))

    def close(self) -> None:
        self._client.close()

    # ── which streams, from where ─────────────────────────────────────────────────────────────

    def _look_around(self) -> None:
        """Takes in new cameras and notices streams that began anew, every few seconds."""
        if time.monotonic() < self._look_at:
            return
        names = self._scope.cameras
        new = [
            track
            for camera in (self._discover() if names is None else names)
            for track in self._scope.tracks(camera)
            if track.key not in self._tracks
        ]
        for track, known in zip(new, self._known([track.key for track in new]), strict=True):
            self._place_first(track, *known)
        old = list(self._tracks.values())
        for track, known in zip(old, self._known(list(self._tracks)), strict=True):
            self._compare(track, *known)
        self._tracks |= {track.key: track for track in new}
        self._look_at = time.monotonic() + _LOOK

    def _discover(self) -> list[str]:
        found = self._client.scan_iter(self._scope.pattern(), count=1000, _type="stream")
        return self._scope.cameras_of(set(found))

    def _place_first(self, track: _Track, last: EntryId, session: str | None) -> None:
        """Where reading begins; a stream that was not there from the first is all new."""
        if self._after is not None:
            track.position = self._after
        elif not self._met:
            track.position, track.session = last, session

    def _known(self, keys: list[str]) -> list[tuple[EntryId, str | None]]:
        """The last id of each stream and the session of its last frame; absent: no entry."""
        if not keys:
            return []
        pipeline = self._client.pipeline(transaction=False)
        for key in keys:
            pipeline.xinfo_stream(key)
        return [_last(reply) for reply in pipeline.execute(raise_on_error=False)]

    def _compare(self, track: _Track, last: EntryId, session: str | None) -> None:
        """A stream whose end lies before what was read of it has lost entries, or is a new one.

        Lost entries are put back by the publisher with their ids, so reading just goes on; a new
        stream is known by a session that is not the one last read.
        """
        if last >= track.position or session == track.session or not (session and track.session):
            return
        text = f"{track.key} has been begun anew; reading it from its start"
        self._notice(Notice("replaced", text))
        track.position = NO_ENTRY

    # ── entries ───────────────────────────────────────────────────────────────────────────────

    def _read(self) -> dict[str, list[Any]]:
        """Up to `_COUNT` entries for each key that has some; {} when none came in time."""
        if not self._tracks:
            time.sleep(_BLOCK)
            return {}
        streams = {track.key: format_id(track.position) for track in self._tracks.values()}
        answer = self._client.xread(cast(Any, streams), count=_COUNT, block=int(_BLOCK * 1000))
        return {key.decode(): entries for key, entries in cast(Any, answer or [])}

    def _entries(self, answer: dict[str, list[Any]]) -> Iterator[Entry]:
        full: set[str] = set()  # cameras with more frames than one answer holds
        for track in list(self._tracks.values()):
            found = answer.get(track.key, [])
            if not track.is_events and len(found) == _COUNT:
                full.add(track.camera)
            if track.is_events and track.camera in full:
                continue  # an end comes behind the frames that it ends: with a later answer
            for entry_id, fields in found:
                track.position = parse_id(entry_id)
                entry = self._entry(track, entry_id.decode(), fields)
                if entry is not None:
                    yield entry

    def _entry(self, track: _Track, entry_id: str, fields: dict[bytes, bytes]) -> Entry | None:
        data = fields.get(b"data", b"")
        message: DetectionsMessage | CameraMessage
        try:
            if track.is_events:
                message = read_camera(data)
            else:
                message = read_detections(data)
                track.session = message.session
        except _NO_MESSAGE as error:
            schema = fields.get(b"schema", b"no schema").decode("utf-8", "replace")[:60]
            text = f"{track.key} {entry_id} is skipped: {schema!r} is not known here: {error}"
            self._notice(Notice("skipped", text))
            return None
        trace = fields.get(b"traceparent")
        traceparent = None if trace is None else trace.decode("ascii", "replace")
        return Entry(track.key, entry_id, track.camera, message, traceparent, data)

    # ── when Redis is away ────────────────────────────────────────────────────────────────────

    def _wait_out(self, error: SinkUnavailable) -> None:
        if not self._met:
            raise error from None
        self._waits = self._waits or _backoff()
        self._notice(Notice("away", f"{error}; trying again"))
        time.sleep(error.retry_after or next(self._waits))
        self._look_at = 0.0

    def _welcome_back(self) -> None:
        if self._waits is not None:
            self._waits = None
            self._notice(Notice("back", f"Redis at {self._place} is back"))


def _parse_after(after: str) -> EntryId | None:
    """None for "$". Raises ConfigError."""
    if after == "$":
        return None
    try:
        return parse_id(after if "-" in after else f"{after}-0")
    except ValueError:
        raise ConfigError(f'found {after!r} to read after, must be "$", "0" or an id') from None


def _last(reply: object) -> tuple[EntryId, str | None]:
    """The last id and the last frame's session of an XINFO STREAM reply."""
    if isinstance(reply, redis.ResponseError) and "no such key" in str(reply):
        return NO_ENTRY, None
    if not isinstance(reply, dict):
        raise reply if isinstance(reply, Exception) else redis.ResponseError("XINFO")
    return parse_id(reply["last-generated-id"]), _session(reply.get("last-entry"))


def _session(entry: tuple[bytes, dict[bytes, bytes]] | None) -> str | None:
    try:
        return None if entry is None else read_detections(entry[1].get(b"data", b"")).session
    except _NO_MESSAGE:
        return None


def _backoff() -> Iterator[float]:
    """Endless waits with full jitter (Brooker, "Exponential Backoff And Jitter", AWS, 2015)."""
    longest, most = _BACKOFF
    while True:
        yield random.uniform(0, longest)
        longest = min(longest * 2, most)
