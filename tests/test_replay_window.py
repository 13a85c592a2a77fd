"""What Redis loses is put back: as properties of what is in the stream afterwards."""

from __future__ import annotations

import itertools
import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import redis

from pipeline.errors import SinkUnavailable
from pipeline.sinks.budget import Budget
from pipeline.sinks.redis import RedisSink, Stream
from pipeline.sinks.window import Keys, Window
from tests.published import ended, frame
from tests.servers import Proxy, RedisServer

KEYS = Keys.of("vedette", "gate")


@contextmanager
def publishing(
    url: str, *, live: bool, budget: Budget | None = None
) -> Iterator[tuple[RedisSink, Stream]]:
    sink = RedisSink(url, budget=budget)
    try:
        yield sink, sink.open(KEYS, live=live, maxlen=None, limit=5_000 if live else None)
    finally:
        sink.close()


def drain(sink: RedisSink, stream: Stream) -> int:
    """Writes until nothing waits, whatever happens; how many frames were newly confirmed."""
    confirmed, deadline = 0, time.monotonic() + 20
    while True:
        try:
            confirmed += sink.write(stream)
        except SinkUnavailable:
            time.sleep(0.01)
        if stream.in_step and not len(stream.window):
            return confirmed
        assert time.monotonic() < deadline


def sequences(client: redis.Redis, key: str = KEYS.detections) -> list[int]:
    return [json.loads(fields[b"data"])["seq"] for _, fields in client.xrange(key)]


def restart(server: RedisServer, client: redis.Redis) -> None:
    server.kill()
    server.start()


LOSSES: dict[str, Callable[[RedisServer, redis.Redis], object]] = {
    "FLUSHALL": lambda _, client: client.flushall(),
    "DEL": lambda _, client: client.delete(KEYS.detections),
    "a restart without persistence": restart,
}


@pytest.mark.parametrize("live", [True, False], ids=["live", "file"])
@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES)
def test_what_redis_loses_is_put_back_once_and_in_order_and_counted_once(
    redis_server: RedisServer, lose: Callable[[RedisServer, redis.Redis], object], live: bool
) -> None:
    with redis_server.client() as client, publishing(redis_server.url, live=live) as (sink, stream):
        confirmed = 0
        for seq in range(300):
            stream.window.append(frame(seq))
            if seq % 20 == 19:
                confirmed += drain(sink, stream)
            if seq % 100 == 99:
                lose(redis_server, client)
        stream.window.append(frame(300))
        confirmed += drain(sink, stream)

        assert sequences(client) == list(range(301))
        assert confirmed == 301


def test_an_older_snapshot_gets_only_what_it_lacks(redis_server: RedisServer) -> None:
    with redis_server.client() as client, publishing(redis_server.url, live=True) as (sink, stream):
        for seq in range(60):
            stream.window.append(frame(seq))
        drain(sink, stream)
        snapshot, before = client.dump(KEYS.detections), client.xrange(KEYS.detections)
        for seq in range(60, 90):
            stream.window.append(frame(seq))
        drain(sink, stream)
        complete = client.xrange(KEYS.detections)
        client.flushall()
        client.restore(KEYS.detections, 0, snapshot)
        stream.window.append(frame(90))

        assert drain(sink, stream) == 1
        after = client.xrange(KEYS.detections)

        assert after[:60] == before
        assert after[:90] == complete  # byte for byte, under the same ids
        assert sequences(client) == list(range(91))


def test_an_end_that_was_lost_is_put_back_behind_its_frames(redis_server: RedisServer) -> None:
    with redis_server.client() as client, publishing(redis_server.url, live=False) as (sink, one):
        one.window.append(frame(0))
        one.window.append(ended(1))
        drain(sink, one)
        client.flushall()
        one.lease.renewed = float("-inf")

        assert sink.renew() == [one]
        drain(sink, one)

        assert sequences(client) == [0]
        assert client.xlen(KEYS.events) == 1
        assert client.hget(KEYS.job, "finished") == b"1"


def test_the_stream_is_whole_after_a_random_hour_of_faults(redis_server: RedisServer) -> None:
    dice = random.Random(5)
    with (
        redis_server.client() as client,
        Proxy(redis_server) as proxy,
        publishing(proxy.url, live=True) as (sink, stream),
    ):
        confirmed, seqs = 0, itertools.count()
        faults: list[Callable[[], object]] = [
            client.flushall,
            lambda: client.delete(KEYS.detections),
            lambda: client.delete(KEYS.owner),
            lambda: setattr(proxy, "lose", dice.randint(1, 3)),
            lambda: client.config_set("maxmemory", "1"),
            lambda: client.config_set("maxmemory", "0"),
            lambda: client.client_kill_filter(_type="normal", skipme=True),
        ]
        for _ in range(80):
            for _ in range(dice.randint(0, 30)):
                stream.window.append(frame(next(seqs)))
            for _ in range(3):
                try:
                    confirmed += sink.write(stream)
                except SinkUnavailable:
                    continue
            dice.choice(faults)()
        client.config_set("maxmemory", "0")
        proxy.lose = 0
        stream.window.append(frame(next(seqs)))
        confirmed += drain(sink, stream)
        count = next(seqs)

        assert sequences(client) == list(range(count))
        assert confirmed == count


def fill(window: Window, frames: range, now: float) -> None:
    for seq in frames:
        window.append(frame(seq))
    window.attempt(len(frames), 1_000 + frames.start)
    window.confirm(now)


def lost(window: Window) -> int:
    """How many records come back when Redis has nothing."""
    window.confirm_up_to({KEYS.detections: (0, 0), KEYS.events: (0, 0)})
    return len(window)


def test_records_are_kept_for_a_minute_after_they_were_confirmed() -> None:
    window, budget = Window(KEYS, limit=100), Budget(seconds=60)
    budget.join(window)
    fill(window, range(0, 10), now=100)
    fill(window, range(10, 30), now=130)

    budget.settle(170)

    assert lost(window) == 20


def test_nothing_grows_old_while_redis_is_away() -> None:
    window, budget = Window(KEYS, limit=100), Budget(seconds=60)
    budget.join(window)
    fill(window, range(0, 10), now=100)

    budget.settle(None)

    assert lost(window) == 10


def test_the_oldest_kept_records_of_all_cameras_make_room() -> None:
    gate, yard = Window(KEYS, limit=100), Window(KEYS, limit=100)
    fill(gate, range(0, 20), now=100)
    fill(yard, range(0, 20), now=101)
    budget = Budget(limit=gate.size // 2 + yard.size + 1)
    budget.join(gate)
    budget.join(yard)

    budget.settle(102)

    assert gate.size + yard.size <= budget.limit
    assert 0 < lost(gate) < 20
    assert lost(yard) == 20


def test_a_live_camera_sheds_by_bytes_as_well_and_no_other_camera_pays() -> None:
    gate, yard = Window(KEYS, limit=10**6), Window(KEYS, limit=10**6)
    budget = Budget(limit=200_000)
    budget.join(gate)
    budget.join(yard)
    yard.append(frame(0))

    shed = sum(gate.append(frame(seq)) for seq in range(500))
    budget.settle(None)

    assert shed > 300
    assert gate.frames == 500 - shed
    assert gate.size <= 100_000
    assert yard.frames == 1


def test_a_windows_size_is_that_of_its_records_whatever_happens_to_them() -> None:
    window = Window(KEYS, limit=20)
    budget = Budget(seconds=60)
    budget.join(window)
    for seq in range(60):
        window.append(frame(seq))
    window.attempt(10, 1)
    window.confirm(100)
    window.attempt(5, 2)
    window.confirm_up_to({KEYS.detections: (0, 0), KEYS.events: (0, 0)})
    window.renumber({record.id for record in window.unconfirmed}, KEYS.detections)
    window.attempt(100, 3)
    window.confirm(100)

    assert window.size > 0
    budget.settle(200)

    assert window.size == 0


def test_memory_of_a_long_outage_stays_within_the_budget(redis_server: RedisServer) -> None:
    """Ten minutes at 200 messages a second, over eight cameras; in bytes as we count them."""
    budget = Budget(limit=8 * 2**20)
    windows = [Window(Keys.of("vedette", str(n)), limit=2_000) for n in range(8)]
    for window in windows:
        budget.join(window)
    dropped = 0
    for seq in range(15_000 // 8):
        dropped += sum(window.append(frame(seq)) for window in windows)
        budget.settle(None)

    assert sum(window.size for window in windows) <= budget.limit
    assert sum(window.frames for window in windows) + dropped == 15_000 // 8 * 8
