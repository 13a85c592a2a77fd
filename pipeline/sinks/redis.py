"""Publishing to Redis Streams: explicit ids, one writer per key, in order, MULTI/EXEC batches.

The protocol, per camera: on every (re)connection read the last id of both streams; what we sent and
Redis has is confirmed, the rest is sent again, byte for byte. A batch is one MULTI/EXEC, so it is
there whole or not at all. Once a stream exists, NOMKSTREAM turns its vanishing into a nil reply.
redis-py's own retries are off: its default client made four entries out of one XADD when replies
were lost (redis-py #3554).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from pipeline.errors import ConfigError, SinkUnavailable
from pipeline.sinks.address import UNREADABLE, check_url, place
from pipeline.sinks.window import NO_ENTRY, EntryId, Keys, Record, Window, format_id, parse_id

BATCH = 50  # entries in one MULTI
_TIMEOUT = 2.0  # seconds for one answer
_SLOW_LANE = 60.0  # seconds between attempts that need a person to change something
_CODES: dict[type[BaseException], str] = {  # where redis-py 6 does not keep the word
    redis.exceptions.OutOfMemoryError: "OOM",
    redis.exceptions.ReadOnlyError: "READONLY",
}


class Stream:
    """One camera's two Redis streams as this publisher sees them."""

    def __init__(self, keys: Keys, *, live: bool, maxlen: int | None, limit: int | None) -> None:
        self.window = Window(keys, limit=limit)
        self.live = live
        self.maxlen = maxlen
        self.in_step = False  # we know what Redis has
        self.exists: dict[str, bool] = {}


class RedisSink:
    """One connection, and the streams that are written over it. Not thread-safe.

    `write` raises SinkUnavailable whenever Redis does not take a batch; calling it again later is
    always right.
    """

    def __init__(self, url: str, *, clock: Callable[[], float] = time.time) -> None:
        self.place = place(url)
        self._url = url
        self._clock = clock
        self._client: redis.Redis | None = None
        self._streams: list[Stream] = []

    def open(self, keys: Keys, *, live: bool, maxlen: int | None, limit: int | None) -> Stream:
        """A camera's streams, not yet looked at; see `step_in`."""
        stream = Stream(keys, live=live, maxlen=maxlen, limit=limit)
        self._streams.append(stream)
        return stream

    def step_in(self, stream: Stream) -> int:
        """Learns what Redis has of this camera; how many unconfirmed frames it turned out to have.

        A file's stream without an epoch begins the one after the last.
        """
        if stream.in_step:
            return 0
        keys = stream.window.keys
        try:
            client = self._connected()
            pipeline = client.pipeline(transaction=False)
            pipeline.xinfo_stream(keys.detections)
            pipeline.xinfo_stream(keys.events)
            replies = pipeline.execute(raise_on_error=False)
            last = {
                key: _last_entry(reply)
                for key, reply in zip((keys.detections, keys.events), replies, strict=True)
            }
        except (redis.RedisError, OSError) as error:
            raise self._unavailable(error) from None
        stream.exists = {key: entry is not None for key, entry in last.items()}
        frames = stream.window.confirm_up_to({key: e or NO_ENTRY for key, e in last.items()})
        if not stream.live and stream.window.epoch is None:
            stream.window.epoch = stream.window.last[keys.detections][0] + 1
        stream.in_step = True
        return frames

    def write(self, stream: Stream) -> int:
        """Sends the next batch of a camera's window; how many frames are confirmed by it."""
        frames = self.step_in(stream)
        batch = stream.window.attempt(BATCH, int(self._clock() * 1000))
        if not batch:
            return frames
        try:
            replies = self._execute(stream, batch)
        except (redis.RedisError, OSError) as error:
            raise self._unavailable(error) from None
        for record, reply in zip(batch, replies, strict=True):
            if isinstance(reply, Exception):
                raise self._unavailable(reply) from None
            if reply is None:  # NOMKSTREAM: the stream has vanished
                stream.in_step = False
            stream.exists[record.key] = reply is not None
        return frames + (stream.window.confirm() if stream.in_step else 0)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _execute(self, stream: Stream, batch: list[Record]) -> list[object]:
        pipeline = self._connected().pipeline(transaction=True)
        for record in batch:
            pipeline.xadd(
                record.key,
                cast(dict[Any, Any], record.fields),
                id=format_id(record.id),
                maxlen=stream.maxlen if record.is_frame else None,
                approximate=True,
                nomkstream=stream.exists.get(record.key, False),
            )
        replies: list[object] = pipeline.execute(raise_on_error=False)
        return replies

    def _connected(self) -> redis.Redis:
        if self._client is None:
            self._client = connect(self._url, timeout=_TIMEOUT)
            self._client.ping()
        return self._client

    def _unavailable(self, error: BaseException) -> SinkUnavailable:
        """Drops the connection: from here on nobody knows what Redis has."""
        self.close()
        for stream in self._streams:
            stream.in_step = False
        return unavailable(error, self.place)


def connect(url: str, *, timeout: float | None) -> redis.Redis:
    """A client that tries everything once and says what went wrong.

    `timeout` in seconds, None to wait for ever (a blocking reader). Raises ConfigError for a URL
    that redis-py cannot read, or whose options would change how we speak to the server.
    """
    check_url(url)
    try:
        return redis.Redis.from_url(
            url,
            protocol=2,  # one shape of replies on every server
            retry=Retry(NoBackoff(), 0),
            socket_timeout=timeout,
            socket_connect_timeout=_TIMEOUT,
        )
    except ValueError:  # its text quotes what may be a part of the password
        raise ConfigError(UNREADABLE) from None


def unavailable(error: BaseException, where: str) -> SinkUnavailable:
    """A library's exception as one sentence, in the lane that its cause belongs to.

    Only the leading code word of a server's answer is kept: the rest may quote the payload.
    """
    if isinstance(error, redis.AuthenticationError):
        return SinkUnavailable(
            f"Redis at {where} refuses the user or password", retry_after=_SLOW_LANE
        )
    if isinstance(error, redis.exceptions.NoPermissionError):
        return SinkUnavailable(
            f"Redis at {where} does not allow this user what Vedette needs", retry_after=_SLOW_LANE
        )
    if isinstance(error, redis.TimeoutError | TimeoutError):
        return SinkUnavailable(f"Redis at {where} does not answer")
    if isinstance(error, redis.exceptions.BusyLoadingError):
        return SinkUnavailable(f"Redis at {where} is loading its data")
    if isinstance(error, redis.ConnectionError | OSError):
        return SinkUnavailable(f"Redis at {where} cannot be reached")
    return SinkUnavailable(f"Redis at {where} refuses: {_code(error)}")


def _code(error: BaseException) -> str:
    """The code word of a server's refusal: OOM, READONLY, MISCONF …

    redis-py takes the words that it knows out of the text, and a pipeline puts the whole command,
    payload and all, in front of it.
    """
    known = getattr(error, "status_code", None) or _CODES.get(type(error))
    word = str(error).rpartition(" caused error: ")[2].partition(" ")[0]
    return known or (word if word.isalpha() and word.isupper() else type(error).__name__)


def _last_entry(reply: object) -> EntryId | None:
    """The last id of an XINFO STREAM reply, None for a key that does not exist."""
    if isinstance(reply, dict):
        return parse_id(reply["last-generated-id"])
    if isinstance(reply, redis.ResponseError) and "no such key" in str(reply):
        return None
    if isinstance(reply, Exception):
        raise reply
    raise redis.ResponseError("XINFO")
