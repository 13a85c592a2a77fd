"""The last that was published of each camera, at one moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis

from pipeline.consume.entries import Entry, Raw, understand
from pipeline.consume.streams import MARGIN, Scope
from pipeline.sinks.address import place
from pipeline.sinks.connection import connect
from pipeline.sinks.lanes import unavailable
from pipeline.wire import CameraMessage, DetectionsMessage


@dataclass(frozen=True, slots=True)
class Latest:
    """Of one camera; None where its stream has nothing, or nothing that can be read."""

    camera: str
    entries: int  # of frames, in its stream now
    frame: DetectionsMessage | None
    event: CameraMessage | None


def latest(url: str, *, prefix: str, cameras: Sequence[str] | None) -> list[Latest]:
    """Of each of `cameras`, None for all under the prefix. Raises `SinkUnavailable`."""
    scope = Scope(prefix, cameras, events=True)
    client = connect(url, timeout=MARGIN)
    try:
        names = cameras
        if names is None:
            keys = client.scan_iter(scope.pattern(), count=1000, _type="stream")
            names = scope.cameras_of(set(keys))
        return [_of(client, scope, camera) for camera in names]
    except (redis.RedisError, OSError) as error:
        raise unavailable(error, place(url)) from None
    finally:
        client.close()


def _of(client: Any, scope: Scope, camera: str) -> Latest:
    pipeline = client.pipeline(transaction=False)
    keys = scope.keys(camera)
    for key, _ in keys:
        pipeline.xlen(key)
        pipeline.xrevrange(key, count=1)
    entries, frames, _, events = pipeline.execute()
    found = [
        _message(camera, key, is_event, rows)
        for (key, is_event), rows in zip(keys, (frames, events), strict=True)
    ]
    frame, event = found
    return Latest(
        camera,
        entries,
        frame if isinstance(frame, DetectionsMessage) else None,
        event if isinstance(event, CameraMessage) else None,
    )


def _message(
    camera: str, key: str, is_event: bool, rows: list[Any]
) -> DetectionsMessage | CameraMessage | None:
    if not rows:
        return None
    entry_id, fields = rows[0]
    found = understand(Raw(key, entry_id.decode(), camera, is_event, fields))
    return found.message if isinstance(found, Entry) else None
