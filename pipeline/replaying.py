"""Publishing a recording again: with its own timing, with the same ids or with new ones.

The time of an entry is that of its message (`captured_at`, `since`): what the camera did, not what
the recorder did. Within a camera the order of the recording is kept, whatever the times say.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import redis

from pipeline.errors import ConfigError, VedetteError
from pipeline.recording import Recorded, read, split_key
from pipeline.sinks.address import place
from pipeline.sinks.connection import connect
from pipeline.sinks.lanes import unavailable
from pipeline.sinks.window import parse_id

_BATCH = 50  # entries in one exchange
_TIMEOUT = 5.0  # seconds for an answer


@dataclass(frozen=True, slots=True)
class Timed:
    """An entry, and when it is due: seconds from the first one, at speed 1."""

    due: float
    key: str
    id: str
    fields: dict[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay comes to."""

    entries: int
    cameras: int
    seconds: float  # from the first entry to the last, at speed 1


def load(path: Path, *, prefix: str | None) -> list[Timed]:
    """A whole recording, in the order of its times; its keys under `prefix` where that is given.

    It lies in memory. Raises ConfigError for what is no recording, or has nothing in it.
    """
    found: list[Timed] = []
    latest: dict[str, float] = {}  # by camera
    for entry in read(path):
        own, camera, kind = split_key(entry.key)
        due = max(_time(entry), latest.get(camera, 0.0))
        latest[camera] = due
        key = f"{prefix or own}:{{{camera}}}:{kind}"
        found.append(Timed(due, key, entry.id, entry.all_fields()))
    if not found:
        raise ConfigError(f"{path}: there is nothing in it")
    start = min((entry.due for entry in found if entry.due), default=0.0)
    found.sort(key=lambda entry: entry.due)
    return [
        Timed(max(0.0, entry.due - start), entry.key, entry.id, entry.fields) for entry in found
    ]


def extent(entries: list[Timed]) -> Replayed:
    """How much it is."""
    cameras = {split_key(entry.key)[1] for entry in entries}
    return Replayed(len(entries), len(cameras), entries[-1].due)


def publish(
    entries: list[Timed],
    url: str,
    *,
    speed: float | None,
    fresh_ids: bool,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Writes them, each when it is due; `speed` None: as fast as it goes.

    Raises VedetteError, with nothing written, where a stream is ahead of its first entry or a run
    is publishing it; SinkUnavailable where Redis does not take them.
    """
    where = place(url)
    client = connect(url, timeout=_TIMEOUT)
    try:
        _refuse_what_is_taken(client, entries, fresh_ids=fresh_ids, where=where)
        ids: dict[tuple[str, str], str] = {}  # of frames: what each recorded id has become
        for batch in _batches(entries, speed, clock, sleep):
            _write(client, batch, ids if fresh_ids else None)
    except (redis.RedisError, OSError) as error:
        raise unavailable(error, where) from None
    finally:
        client.close()


def _batches(
    entries: list[Timed],
    speed: float | None,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> Iterator[list[Timed]]:
    """What is due together, up to `_BATCH`."""
    began, at = clock(), 0
    while at < len(entries):
        now = entries[-1].due if speed is None else (clock() - began) * speed
        due = [entry for entry in entries[at : at + _BATCH] if entry.due <= now]
        if due:
            at += len(due)
            yield due
        elif speed is not None:
            sleep((entries[at].due - now) / speed)


def _write(client: redis.Redis, batch: list[Timed], ids: dict[tuple[str, str], str] | None) -> None:
    """`ids`: None to keep the recorded ids, else where new ones are noted."""
    for part in [batch] if ids is None else _ends_apart(batch):
        pipeline = client.pipeline(transaction=False)
        for entry in part:
            fields: dict[Any, Any] = dict(entry.fields)
            if ids is not None:
                fields = _with_new_last_id(entry, ids)
            pipeline.xadd(entry.key, fields, id=entry.id if ids is None else "*")
        replies = pipeline.execute()
        for entry, reply in zip(part, replies, strict=True):
            if ids is not None:
                ids[entry.key, entry.id] = reply.decode()


def _ends_apart(batch: list[Timed]) -> list[list[Timed]]:
    """Frames first, so that an end, which names the last of them, can name its new id."""
    frames = [entry for entry in batch if entry.key.endswith(":detections")]
    events = [entry for entry in batch if entry.key.endswith(":events")]
    return [part for part in (frames, events) if part]


def _with_new_last_id(entry: Timed, ids: dict[tuple[str, str], str]) -> dict[Any, Any]:
    """The fields; those of an `ended` event with the `last_id` that its last frame has now."""
    fields: dict[Any, Any] = dict(entry.fields)
    try:
        message = msgspec.json.decode(fields.get(b"data", b""))
        frame = (entry.key.removesuffix("events") + "detections", message["last_id"])
    except (msgspec.MsgspecError, KeyError, TypeError):
        return fields
    if frame in ids:
        fields[b"data"] = msgspec.json.encode(message | {"last_id": ids[frame]})
    return fields


def _refuse_what_is_taken(
    client: redis.Redis, entries: list[Timed], *, fresh_ids: bool, where: str
) -> None:
    for key, ids in _ids(entries).items():
        owner = f"{key.rpartition(':')[0]}:owner"
        if client.exists(owner):
            raise VedetteError(
                f"{key} at {where} is being published by a run (see {owner}): stop it, or name "
                "another --prefix"
            )
        if fresh_ids:
            continue
        _check_order(key, ids)
        last = _last_id(client, key)
        if parse_id(last) >= parse_id(ids[0]):
            raise VedetteError(
                f"{key} at {where} is ahead: its last id is {last}, and the recording begins with "
                f"{ids[0]}; use --fresh-ids, another --prefix, or a Redis that is empty"
            )


def _ids(entries: list[Timed]) -> dict[str, list[str]]:
    ids: dict[str, list[str]] = {}
    for entry in entries:
        ids.setdefault(entry.key, []).append(entry.id)
    return ids


def _check_order(key: str, ids: list[str]) -> None:
    for first, second in itertools.pairwise(ids):
        if parse_id(second) <= parse_id(first):
            raise ConfigError(
                f"the ids of {key} do not rise: {second} comes after {first}; use --fresh-ids"
            )


def _last_id(client: redis.Redis, key: str) -> str:
    try:
        about: Any = client.xinfo_stream(key)
    except redis.ResponseError as error:
        if "no such key" in str(error):
            return "0-0"
        raise
    return str(about["last-generated-id"].decode())


def _time(entry: Recorded) -> float:
    """Seconds since 1970; 0 where the message says none, so that it goes with what is before it."""
    try:
        message = msgspec.json.decode(entry.fields.get("data", ""))
        return float(message.get("captured_at") or message.get("since") or 0.0)
    except (msgspec.MsgspecError, AttributeError, TypeError, ValueError):
        return 0.0
