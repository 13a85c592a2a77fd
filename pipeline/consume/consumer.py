"""A consumer of a group, blocking.

    with Consumer(url, group="counter", name="counter-1", prefix="vedette") as consumer:
        for item in consumer:
            if isinstance(item, Entry):
                store(item.message)  # once for (camera, session, seq), however often it comes
            else:
                print(item)  # a Gap, or an entry that is Lost
            consumer.done(item)

What is not done is delivered again after a restart, so the effect must be idempotent.
`docs/consuming.md` says more, and `docs/examples/` holds a service that survives being killed.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any, Self

import redis

from pipeline.consume.entries import Lag
from pipeline.consume.group import Membership
from pipeline.consume.steps import Batch, Item, Settings, Steps, Value
from pipeline.consume.streams import MARGIN, Patience, Scope
from pipeline.sinks.address import place
from pipeline.sinks.connection import connect
from pipeline.sinks.lanes import unavailable


class Consumer:
    """One consumer of a group, over the streams of some or all (`None`) cameras of a prefix.

    `name` must be the same after a restart, and nobody else's in the group at the same time. On a
    Redis Cluster name one camera. Not thread-safe. Raises ConfigError for a URL that is none.
    """

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
        self._client = connect(url, timeout=settings.wait + MARGIN)
        self._member = Membership(Scope(prefix, cameras, settings.events), group, name, settings)
        self._patience = Patience(self._place, settings.notice)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Item]:
        """For ever; raises SinkUnavailable only where Redis cannot be read at first."""
        while True:
            try:
                items = self._drive(self._member.take())
            except (redis.RedisError, OSError) as error:
                time.sleep(self._patience.away(unavailable(error, self._place)))
                continue
            self._patience.answered(anything=bool(items))
            yield from items

    def take(self) -> list[Item]:
        """What comes next, [] when that is nothing within `settings.wait`.

        Raises SinkUnavailable; calling it again later is always right.
        """
        return self._ask(self._member.take())

    def done(self, *items: Item) -> None:
        """Never again: told to Redis when more is asked for, by `flush`, or by `close`."""
        self._member.done(items)

    def flush(self) -> None:
        """Tells Redis what is done. Raises SinkUnavailable."""
        self._ask(self._member.acknowledge())

    def lag(self) -> dict[str, Lag]:
        """How far the group is behind, by key of a stream. Raises SinkUnavailable."""
        return self._ask(self._member.lag())

    def close(self) -> None:
        """Tells Redis what is done, if it can be reached: what cannot be told comes again."""
        with contextlib.suppress(redis.RedisError, OSError):
            self._drive(self._member.acknowledge())
        self._client.close()

    def _ask(self, steps: Steps[Value]) -> Value:
        try:
            return self._drive(steps)
        except (redis.RedisError, OSError) as error:
            raise unavailable(error, self._place) from None

    def _drive(self, steps: Steps[Value]) -> Value:
        try:
            batch = next(steps)
            while True:
                batch = steps.send(self._execute(batch))
        except StopIteration as end:
            value: Value = end.value
            return value
        except (redis.RedisError, OSError):
            self._member.detach()
            self._client.close()
            raise

    def _execute(self, batch: Batch) -> list[Any]:
        if not batch.calls:
            time.sleep(batch.pause)
            return []
        pipeline = self._client.pipeline(transaction=batch.atomic)
        for call in batch.calls:
            call(pipeline)
        return pipeline.execute(raise_on_error=False)
