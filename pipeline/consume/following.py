"""Following: every entry behind a place, for one reader that keeps its place itself.

One XREAD over all keys waits for whichever has something new. That is one server (or a primary
and its replicas); on a Redis Cluster each camera's keys lie in a slot of their own, so there it is
one call of `follow` per camera. What cannot be an entry comes to the caller as a `Notice`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import redis

from pipeline.consume import streams
from pipeline.consume.entries import (
    Entry,
    Lost,
    Notice,
    Raw,
    log_notice,
    understand,
)
from pipeline.consume.gaps import Seen, between, seen, seen_in
from pipeline.consume.streams import Patience, Scope, parse_after
from pipeline.sinks.address import place
from pipeline.sinks.connection import connect
from pipeline.sinks.lanes import unavailable
from pipeline.sinks.window import NO_ENTRY, EntryId, format_id, parse_id


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
    reader = _Reader(url, Scope(prefix, cameras, events), parse_after(after), notice)
    for _, entry in _understood(reader, notice):
        if isinstance(entry, Entry):
            yield entry
        else:
            notice(Notice("skipped", entry.text))


def follow_raw(
    url: str,
    *,
    prefix: str,
    cameras: Sequence[str] | None,
    after: str,
    notice: Callable[[Notice], None] = log_notice,
) -> Iterator[Raw]:
    """The same as `follow`, of every entry as Redis has it, whether it can be understood or not."""
    reader = _Reader(url, Scope(prefix, cameras, True), parse_after(after), notice)
    for raw, _ in _understood(reader, notice):
        yield raw


def _understood(
    reader: _Reader, notice: Callable[[Notice], None]
) -> Iterator[tuple[Raw, Entry | Lost]]:
    try:
        for raw in reader.entries():
            entry = understand(raw)
            for text in reader.gaps(entry) if isinstance(entry, Entry) else ():
                notice(Notice("gap", text))
            yield raw, entry
    finally:
        reader.close()


@dataclass(slots=True)
class _Track:
    """One stream, and how far it has been read."""

    key: str
    camera: str
    is_events: bool
    position: EntryId = NO_ENTRY
    seen: Seen | None = None  # the last message, of a stream of frames


class _Reader:
    """One connection and the streams that are read over it."""

    def __init__(
        self, url: str, scope: Scope, after: EntryId | None, notice: Callable[[Notice], None]
    ) -> None:
        self._place = place(url)
        self._client = connect(url, timeout=streams.BLOCK + streams.MARGIN)
        self._scope = scope
        self._after = after  # None: what comes from now on
        self._notice = notice
        self._tracks: dict[str, _Track] = {}
        self._look_at = 0.0  # monotonic: when to look for new cameras again
        self._patience = Patience(self._place, notice)

    def entries(self) -> Iterator[Raw]:
        while True:
            try:
                self._look_around()
                answer = self._read()
            except (redis.RedisError, OSError) as error:
                time.sleep(self._patience.away(unavailable(error, self._place)))
                self._look_at = 0.0
                continue
            self._patience.answered(anything=bool(answer))
            yield from self._entries(answer)

    def gaps(self, entry: Entry) -> list[str]:
        """What the stream no longer had between this entry and the one before it."""
        track = self._tracks[entry.key]
        previous, track.seen = track.seen, seen(entry)
        gaps = between(entry, previous) if previous else []
        return [str(gap) for gap in gaps if gap.kind == "missing"]

    def close(self) -> None:
        self._client.close()

    # ── which streams, from where ─────────────────────────────────────────────────────────────

    def _look_around(self) -> None:
        """Takes in new cameras and notices streams that began anew, every few seconds."""
        if time.monotonic() < self._look_at:
            return
        names = self._scope.cameras
        new = [
            _Track(key, camera, is_events)
            for camera in (self._discover() if names is None else names)
            for key, is_events in self._scope.keys(camera)
            if key not in self._tracks
        ]
        for track, known in zip(new, self._known([track.key for track in new]), strict=True):
            self._place_first(track, *known)
        old = list(self._tracks.values())
        for track, known in zip(old, self._known(list(self._tracks)), strict=True):
            self._compare(track, *known)
        self._tracks |= {track.key: track for track in new}
        self._look_at = time.monotonic() + streams.LOOK

    def _discover(self) -> list[str]:
        found = self._client.scan_iter(self._scope.pattern(), count=1000, _type="stream")
        return self._scope.cameras_of(set(found))

    def _place_first(self, track: _Track, last: EntryId, frame: Seen | None) -> None:
        """Where reading begins; a stream that was not there from the first is all new."""
        if self._after is not None:
            track.position = self._after
        elif not self._patience.met:
            track.position, track.seen = last, frame

    def _known(self, keys: list[str]) -> list[tuple[EntryId, Seen | None]]:
        """The last id of each stream and its last frame; absent: no entry."""
        if not keys:
            return []
        pipeline = self._client.pipeline(transaction=False)
        for key in keys:
            pipeline.xinfo_stream(key)
        return [_last(reply) for reply in pipeline.execute(raise_on_error=False)]

    def _compare(self, track: _Track, last: EntryId, frame: Seen | None) -> None:
        """A stream whose end lies before what was read of it has lost entries, or is a new one.

        Lost entries are put back by the publisher with their ids, so reading just goes on; a new
        stream is known by a session that is not the one last read.
        """
        if last >= track.position or not (frame and track.seen):
            return
        if frame.session != track.seen.session:
            text = f"{track.key} has been begun anew; reading it from its start"
            self._notice(Notice("replaced", text))
            track.position, track.seen = NO_ENTRY, None

    # ── entries ───────────────────────────────────────────────────────────────────────────────

    def _read(self) -> dict[str, list[Any]]:
        """Up to `COUNT` entries for each key that has some; {} when none came in time."""
        if not self._tracks:
            time.sleep(streams.BLOCK)
            return {}
        places = {track.key: format_id(track.position) for track in self._tracks.values()}
        block = int(streams.BLOCK * 1000)
        answer = self._client.xread(cast(Any, places), count=streams.COUNT, block=block)
        return {key.decode(): entries for key, entries in cast(Any, answer or [])}

    def _entries(self, answer: dict[str, list[Any]]) -> Iterator[Raw]:
        full: set[str] = set()  # cameras with more frames than one answer holds
        for track in list(self._tracks.values()):
            found = answer.get(track.key, [])
            if not track.is_events and len(found) == streams.COUNT:
                full.add(track.camera)
            if track.is_events and track.camera in full:
                continue  # an end comes behind the frames that it ends: with a later answer
            for entry_id, fields in found:
                track.position = parse_id(entry_id)
                yield Raw(track.key, entry_id.decode(), track.camera, track.is_events, fields)


def _last(reply: object) -> tuple[EntryId, Seen | None]:
    """The last id and the last frame of an XINFO STREAM reply."""
    if isinstance(reply, redis.ResponseError) and "no such key" in str(reply):
        return NO_ENTRY, None
    if not isinstance(reply, dict):
        raise reply if isinstance(reply, Exception) else redis.ResponseError("XINFO")
    entry = reply.get("last-entry")
    return parse_id(reply["last-generated-id"]), None if entry is None else seen_in(*entry)
