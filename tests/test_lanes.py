"""What a refusal leads to: how soon it is tried again, what is trimmed, what is said."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis

from pipeline.errors import SinkUnavailable
from pipeline.sinks.lanes import SLOW_LANE, StreamRefused, Unavailable
from pipeline.sinks.redis import BATCH, RedisSink, Stream
from pipeline.sinks.window import Keys
from tests.published import ended, frame
from tests.servers import Proxy, RedisServer, free_port, redis_server

KEYS = Keys.of("vedette", "gate")
NOW = 1_700_000_000.0


@contextmanager
def publishing(
    url: str, *, live: bool = True, maxlen: int | None = None, said: list[str] | None = None
) -> Iterator[tuple[RedisSink, Stream]]:
    sink = RedisSink(url, clock=lambda: NOW, notice=(said if said is not None else []).append)
    try:
        yield sink, sink.open(KEYS, live=live, maxlen=maxlen, limit=5_000 if live else None)
    finally:
        sink.close()


def refusal(sink: RedisSink, stream: Stream) -> Unavailable:
    with pytest.raises(Unavailable) as caught:
        sink.write(stream)
    return caught.value


def drain(sink: RedisSink, stream: Stream) -> int:
    confirmed, deadline = 0, time.monotonic() + 20
    while len(stream.window):
        assert time.monotonic() < deadline
        try:
            confirmed += sink.write(stream)
        except SinkUnavailable:
            time.sleep(0.01)
    return confirmed


def sequences(client: redis.Redis) -> list[int]:
    return [json.loads(fields[b"data"])["seq"] for _, fields in client.xrange(KEYS.detections)]


def logins(client: redis.Redis) -> int:
    return int(client.info("stats")["acl_access_denied_auth"])


def test_a_wrong_password_is_tried_once_a_minute_however_often_it_is_written() -> None:
    with redis_server(password="hunter2") as server, server.client() as client:
        with publishing(f"unix://:hunter3@{server.socket}") as (sink, stream):
            stream.window.append(frame(0))
            first, second = refusal(sink, stream), refusal(sink, stream)

        assert logins(client) == 1
    assert (first.lane, first.retry_after) == ("configuration", SLOW_LANE)
    assert second.lane == "configuration"
    assert second.retry_after is not None
    assert SLOW_LANE - 2 < second.retry_after <= SLOW_LANE


def test_a_password_that_is_changed_meanwhile_is_waited_for(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.sinks.redis.SLOW_LANE", 0.2)
    with redis_server.client() as client:
        client.execute_command("ACL", "SETUSER", "us", "on", ">old", "~*", "+@all")
        with publishing(f"unix://us:old@{redis_server.socket}") as (sink, stream):
            stream.window.append(frame(0))
            assert sink.write(stream) == 1
            client.execute_command("ACL", "SETUSER", "us", "resetpass", ">new")
            client.client_kill_filter(_type="normal", skipme=True)
            stream.window.append(frame(1))
            assert refusal(sink, stream).lane == "transient"  # the connection is gone
            assert refusal(sink, stream).lane == "configuration"
            client.execute_command("ACL", "SETUSER", "us", ">old")
            assert refusal(sink, stream).lane == "configuration"  # not yet

            time.sleep(0.2)
            assert sink.write(stream) == 1

        assert sequences(client) == [0, 1]
        assert logins(client) == 1


def test_rights_that_are_taken_away_are_configuration(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.execute_command("ACL", "SETUSER", "us", "on", "nopass", "~*", "+@all")
        with publishing(f"unix://us:any@{redis_server.socket}") as (sink, stream):
            stream.window.append(frame(0))
            assert sink.write(stream) == 1
            client.execute_command("ACL", "SETUSER", "us", "-xadd")
            stream.window.append(frame(1))

            error = refusal(sink, stream)

    assert (error.lane, error.retry_after) == ("configuration", SLOW_LANE)
    assert str(error).endswith("does not allow this user what Vedette needs: XADD (docs/redis.md)")


def test_without_memory_our_live_streams_are_trimmed_once_and_writing_goes_on(
    redis_server: RedisServer,
) -> None:
    with redis_server.client() as client, publishing(redis_server.url, maxlen=100) as (sink, one):
        for seq in range(400):
            one.window.append(frame(seq))
        drain(sink, one)
        client.xadd("others", {"data": "x"})
        before = client.xlen(KEYS.detections)
        client.config_set("maxmemory", "1")
        one.window.append(frame(400))

        assert refusal(sink, one).lane == "capacity"
        assert client.xlen(KEYS.detections) == 100 < before
        assert client.xlen("others") == 1
        assert refusal(sink, one).retry_after is None
        assert client.info("commandstats")["cmdstat_xtrim"]["calls"] == 1
        client.config_set("maxmemory", "0")
        assert drain(sink, one) == 1
        assert sequences(client)[-1] == 400


def test_memory_that_comes_and_goes_leaves_no_hole(redis_server: RedisServer) -> None:
    with redis_server.client() as client, publishing(redis_server.url) as (sink, stream):
        confirmed = 0
        for seq in range(300):
            stream.window.append(frame(seq))
            if seq % 7 == 0:
                client.config_set("maxmemory", str((seq // 7) % 2))
            try:
                confirmed += sink.write(stream)
            except SinkUnavailable:
                continue
        client.config_set("maxmemory", "0")
        confirmed += drain(sink, stream)

        assert sequences(client) == list(range(300))
        assert confirmed == 300


def test_a_server_that_becomes_a_replica_is_left_and_found_again(
    redis_server: RedisServer,
) -> None:
    with (
        redis_server.client() as client,
        Proxy(redis_server) as proxy,
        publishing(proxy.url) as (sink, stream),
    ):
        stream.window.append(frame(0))
        sink.write(stream)
        client.replicaof("127.0.0.1", str(free_port()))
        stream.window.append(frame(1))

        assert str(refusal(sink, stream)).endswith("refuses: READONLY")
        client.replicaof("NO", "ONE")
        assert drain(sink, stream) == 1

        assert proxy.connections == 2
        assert sequences(client) == [0, 1]


def test_too_few_replicas_hold_the_stream_up_and_lose_nothing(redis_server: RedisServer) -> None:
    with redis_server.client() as client, publishing(redis_server.url) as (sink, stream):
        stream.window.append(frame(0))
        sink.write(stream)
        client.config_set("min-replicas-to-write", "1")
        stream.window.append(frame(1))

        error = refusal(sink, stream)
        client.config_set("min-replicas-to-write", "0")

        assert (error.lane, error.retry_after) == ("transient", None)
        assert drain(sink, stream) == 1
        assert sequences(client) == [0, 1]


def test_a_batch_that_gets_no_answer_is_tried_again_in_halves(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.sinks.redis._TIMEOUT", 0.05)
    with redis_server.client() as client, publishing(redis_server.url) as (sink, stream):
        for seq in range(3 * BATCH):
            stream.window.append(frame(seq))
        sink.step_in(stream)
        with redis_server.frozen():
            refusal(sink, stream)

        confirmed = 0
        while not confirmed:  # what was sent while it was frozen is void: see fence.py
            confirmed = sink.write(stream)
        assert confirmed in (BATCH // 2, BATCH)
        assert confirmed + drain(sink, stream) == 3 * BATCH
        assert sequences(client) == list(range(3 * BATCH))


@pytest.mark.parametrize("kind", ["detections", "events"])
def test_a_last_entry_in_the_future_is_said_once_and_counted_on_from(
    redis_server: RedisServer, kind: str
) -> None:
    far = int(NOW * 1000) + 3_600_000
    said: list[str] = []
    with redis_server.client() as client, publishing(redis_server.url, said=said) as (sink, stream):
        client.xadd(f"vedette:{{gate}}:{kind}", {"data": "{}"}, id=f"{far}-7")
        stream.window.append(frame(0))
        stream.window.append(ended(1))
        drain(sink, stream)
        client.delete(KEYS.owner)
        stream.window.append(frame(1))
        drain(sink, stream)

        last = client.xrevrange(f"vedette:{{gate}}:{kind}", count=1)[0][0].decode()
    assert last == f"{far}-{9 if kind == 'detections' else 8}"
    assert said == [
        f"the last entry of vedette:{{gate}}:{kind} is 3600 s in the future: its time is kept, "
        "and counting goes on from it"
    ]


def test_an_entry_that_somebody_puts_into_the_future_meanwhile_costs_no_frame(
    redis_server: RedisServer,
) -> None:
    said: list[str] = []
    with redis_server.client() as client, publishing(redis_server.url, said=said) as (sink, stream):
        for seq in range(10):
            stream.window.append(frame(seq))
        sink.write(stream)
        client.xadd(KEYS.detections, {"data": '{"seq": -1}'}, id="99999999999999-0")
        for seq in range(10, 20):
            stream.window.append(frame(seq))

        assert drain(sink, stream) == 10

        assert sequences(client) == [*range(10), -1, *range(10, 20)]
        assert client.xrevrange(KEYS.detections, count=1)[0][0] == b"99999999999999-10"
        assert len(said) == 1


def test_a_stream_without_any_id_left_is_refused_and_the_others_go_on(
    redis_server: RedisServer,
) -> None:
    with redis_server.client() as client, publishing(redis_server.url) as (sink, stream):
        client.xadd(KEYS.detections, {"data": "{}"}, id=f"{2**64 - 1}-{2**64 - 1}")
        stream.window.append(frame(0))
        yard = sink.open(Keys.of("vedette", "yard"), live=True, maxlen=None, limit=10)
        yard.window.append(frame(0, camera="yard"))

        with pytest.raises(StreamRefused, match="has used up its ids"):
            sink.write(stream)
        assert sink.write(yard) == 1


def test_an_evicting_server_is_said_once(redis_server: RedisServer) -> None:
    said: list[str] = []
    with redis_server.client() as client, publishing(redis_server.url, said=said) as (sink, stream):
        client.config_set("maxmemory-policy", "allkeys-lru")
        stream.window.append(frame(0))
        sink.write(stream)
        client.client_kill_filter(_type="normal", skipme=True)
        stream.window.append(frame(1))
        drain(sink, stream)

    assert said == [
        f"Redis at {redis_server.socket} has maxmemory-policy allkeys-lru, which may throw whole "
        "streams away: set noeviction"
    ]
