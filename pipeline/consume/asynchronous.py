"""The same consumer for asyncio: same names, same items, `await` before what waits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, Self

import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from pipeline.consume.entries import Lag
from pipeline.consume.group import Membership
from pipeline.consume.steps import Batch, Item, Settings, Steps, Value
from pipeline.consume.streams import MARGIN, Patience, Scope
from pipeline.errors import ConfigError
from pipeline.sinks.address import UNREADABLE, check_url, place
from pipeline.sinks.lanes import unavailable

_CONNECT = 2.0  # seconds


class AsyncConsumer:
    """See `Consumer`. One task reads; any task of the same loop may call `done`."""

    def __init__(
        self,
        url: str,
        *,
        group: str,
        name: str,
        prefix: str,
        cameras: Sequence[str] | None = None,
        settings: Settings | None = None,
    ) -> None:
        settings = settings or Settings()
        self._place = place(url)
        self._client = _connect(url, settings.wait + MARGIN)
        self._member = Membership(Scope(prefix, cameras, settings.events), group, name, settings)
        self._patience = Patience(self._place, settings.notice)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def __aiter__(self) -> AsyncIterator[Item]:
        """For ever; raises SinkUnavailable only where Redis cannot be read at first."""
        while True:
            try:
                items = await self._drive(self._member.take())
            except (redis.RedisError, OSError) as error:
                await asyncio.sleep(self._patience.away(unavailable(error, self._place)))
                continue
            self._patience.answered(anything=bool(items))
            for item in items:
                yield item

    async def take(self) -> list[Item]:
        """What comes next, [] when that is nothing within `settings.wait`.

        Raises SinkUnavailable; calling it again later is always right.
        """
        return await self._ask(self._member.take())

    def done(self, *items: Item) -> None:
        """Never again: told to Redis when more is asked for, by `flush`, or by `close`."""
        self._member.done(items)

    async def flush(self) -> None:
        """Tells Redis what is done. Raises SinkUnavailable."""
        await self._ask(self._member.acknowledge())

    async def lag(self) -> dict[str, Lag]:
        """How far the group is behind, by key of a stream. Raises SinkUnavailable."""
        return await self._ask(self._member.lag())

    async def close(self) -> None:
        """Tells Redis what is done, if it can be reached: what cannot be told comes again."""
        with contextlib.suppress(redis.RedisError, OSError):
            await self._drive(self._member.acknowledge())
        await self._client.aclose()

    async def _ask(self, steps: Steps[Value]) -> Value:
        try:
            return await self._drive(steps)
        except (redis.RedisError, OSError) as error:
            raise unavailable(error, self._place) from None

    async def _drive(self, steps: Steps[Value]) -> Value:
        try:
            batch = next(steps)
            while True:
                batch = steps.send(await self._execute(batch))
        except StopIteration as end:
            value: Value = end.value
            return value
        except (redis.RedisError, OSError):
            self._member.detach()
            await self._client.aclose()
            raise

    async def _execute(self, batch: Batch) -> list[Any]:
        if not batch.calls:
            await asyncio.sleep(batch.pause)
            return []
        pipeline = self._client.pipeline(transaction=batch.atomic)
        for call in batch.calls:
            call(pipeline)
        return await pipeline.execute(raise_on_error=False)


def _connect(url: str, timeout: float) -> redis.asyncio.Redis:
    """As `pipeline.sinks.redis.connect`: everything is tried once."""
    check_url(url)
    try:
        return redis.asyncio.Redis.from_url(
            url,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=timeout,
            socket_connect_timeout=_CONNECT,
        )
    except ValueError:  # its text quotes what may be a part of the password
        raise ConfigError(UNREADABLE) from None
