"""The publisher protocol against a real server, through restarts and lost replies."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import redis

from pipeline.errors import ConfigError, SinkUnavailable
from pipeline.sinks.address import place
from pipeline.sinks.lanes import StreamRefused
from pipeline.sinks.redis import BATCH, RedisSink, Stream, connect
from pipeline.sinks.window import Keys
from tests.published import ended, frame
from tests.servers import Proxy, RedisServer, free_port, redis_server

KEYS = Keys.of("vedette", "gate")
NOW = 1_700_000_000.0


def open_sink(url: str) -> RedisSink:
    return RedisSink(url, clock=lambda: NOW)


def open_stream(
    sink: RedisSink, *, live: bool = False, maxlen: int | None = None, keys: Keys = KEYS
) -> Stream:
    return sink.open(keys, live=live, maxlen=maxlen, limit=2_000 if live else None)


def drain(sink: RedisSink, stream: Stream, *, attempts: int = 50) -> int:
    """Writes until the window is empty, whatever happens; how many frames were confirmed."""
    confirmed = 0
    for _ in range(attempts):
        try:
            confirmed += sink.write(stream)
        except SinkUnavailable:
            continue
        if not len(stream.window):
            return confirmed
    raise AssertionError(f"not empty after {attempts} attempts")


def stored(server: RedisServer, key: str = KEYS.detections) -> list[tuple[str, dict[str, Any]]]:
    with server.client() as client:
        return [(entry.decode(), fields) for entry, fields in client.xrange(key)]


def sequences(server: RedisServer, key: str = KEYS.detections) -> list[int]:
    return [json.loads(fields[b"data"])["seq"] for _, fields in stored(server, key)]


def test_every_frame_of_a_file_is_there_once_in_order_and_its_end_behind_it(
    redis_server: RedisServer,
) -> None:
    sink = open_sink(redis_server.url)
    stream = open_stream(sink)
    sink.step_in(stream)
    for seq in range(120):
        stream.window.append(frame(seq))
    stream.window.append(ended(120))

    assert drain(sink, stream) == 120
    sink.close()

    assert sequences(redis_server) == list(range(120))
    assert [entry for entry, _ in stored(redis_server)][:2] == ["1-1", "1-2"]
    ((_, event),) = stored(redis_server, KEYS.events)
    assert json.loads(event[b"data"])["last_id"] == "1-120"
    assert set(stored(redis_server)[0][1]) == {b"schema", b"data", b"traceparent"}


def test_a_batch_is_bounded(redis_server: RedisServer) -> None:
    sink = open_sink(redis_server.url)
    stream = open_stream(sink)
    for seq in range(BATCH + 1):
        stream.window.append(frame(seq))

    assert sink.write(stream) == BATCH
    assert sink.write(stream) == 1
    assert sink.write(stream) == 0
    sink.close()


def test_a_file_begins_the_epoch_after_the_last_one_in_its_stream(
    redis_server: RedisServer,
) -> None:
    with redis_server.client() as client:
        client.xadd(KEYS.detections, {"data": "{}"}, id="6-9")
    sink = open_sink(redis_server.url)
    stream = open_stream(sink)

    assert sink.step_in(stream) == 0
    sink.close()

    assert stream.window.epoch == 7


def test_a_live_stream_goes_on_behind_an_entry_from_the_future(redis_server: RedisServer) -> None:
    future = int(NOW * 1000) + 5_000
    with redis_server.client() as client:
        client.xadd(KEYS.detections, {"data": "{}"}, id=f"{future}-3")
    sink = open_sink(redis_server.url)
    stream = open_stream(sink, live=True)
    stream.window.append(frame(0))

    assert drain(sink, stream) == 1
    sink.close()

    assert stored(redis_server)[-1][0] == f"{future}-4"


def test_a_live_stream_is_trimmed_and_a_files_is_not(redis_server: RedisServer) -> None:
    sink = open_sink(redis_server.url)
    yard = Keys.of("vedette", "yard")
    streams = {
        KEYS: open_stream(sink, live=True, maxlen=100),
        yard: open_stream(sink, keys=yard),
    }
    for stream in streams.values():
        for seq in range(1_000):
            stream.window.append(frame(seq))
        drain(sink, stream)
    sink.close()

    assert 100 <= len(stored(redis_server)) <= 250
    assert len(stored(redis_server, yard.detections)) == 1_000


def test_an_answer_that_is_lost_makes_no_duplicate_and_no_hole(redis_server: RedisServer) -> None:
    with Proxy(redis_server) as proxy:
        sink = open_sink(proxy.url)
        stream = open_stream(sink, live=True)
        confirmed = 0
        for seq in range(200):
            stream.window.append(frame(seq))
            proxy.lose = 1 if seq % 10 == 0 else 0
            if seq % 5 == 0:
                confirmed += drain(sink, stream)
        confirmed += drain(sink, stream)
        sink.close()

    assert sequences(redis_server) == list(range(200))
    assert confirmed == 200


def test_redis_is_asked_once_for_each_batch_and_never_again_by_itself(
    redis_server: RedisServer,
) -> None:
    with Proxy(redis_server) as proxy:
        sink = open_sink(proxy.url)
        stream = open_stream(sink)
        stream.window.append(frame(0))
        sink.step_in(stream)
        proxy.lose, before = 99, proxy.executed

        with pytest.raises(SinkUnavailable):
            sink.write(stream)

        assert (proxy.executed - before, proxy.connections) == (1, 1)
        sink.close()


def test_a_server_that_comes_back_with_what_it_had_gets_only_the_rest(
    kept_redis_server: RedisServer,
) -> None:
    sink = open_sink(kept_redis_server.url)
    stream = open_stream(sink)
    for seq in range(60):
        stream.window.append(frame(seq))
    sink.write(stream)
    kept_redis_server.kill()
    with pytest.raises(SinkUnavailable, match="cannot be reached"):
        sink.write(stream)
    kept_redis_server.start()

    assert drain(sink, stream) == 10
    sink.close()

    assert sequences(kept_redis_server) == list(range(60))


def test_a_batch_of_unknown_fate_is_confirmed_by_what_redis_has(redis_server: RedisServer) -> None:
    with Proxy(redis_server) as proxy:
        sink = open_sink(proxy.url)
        stream = open_stream(sink)
        stream.window.append(frame(0))
        sink.step_in(stream)
        proxy.lose = 1
        with pytest.raises(SinkUnavailable):
            sink.write(stream)

        assert sink.step_in(stream) == 1
        assert len(stream.window) == 0
        sink.close()


def test_a_stream_that_vanishes_is_noticed_and_begun_anew(redis_server: RedisServer) -> None:
    sink = open_sink(redis_server.url)
    stream = open_stream(sink)
    stream.window.append(frame(0))
    drain(sink, stream)
    with redis_server.client() as client:
        client.delete(KEYS.detections)
    stream.window.append(frame(1))

    assert sink.write(stream) == 0  # NOMKSTREAM: nothing was written
    assert sequences(redis_server) == []
    assert drain(sink, stream) == 1  # the frame that was confirmed before does not count again
    sink.close()

    assert [entry for entry, _ in stored(redis_server)] == ["1-1", "1-2"]


def test_an_event_survives_when_the_stream_of_frames_vanishes_beside_it(
    redis_server: RedisServer,
) -> None:
    sink = open_sink(redis_server.url)
    stream = open_stream(sink)
    stream.window.append(frame(0))
    stream.window.append(ended(1))
    drain(sink, stream)
    with redis_server.client() as client:
        client.delete(KEYS.detections)
    stream.window.append(frame(1))
    stream.window.append(ended(2))

    assert drain(sink, stream) == 1
    sink.close()

    assert sequences(redis_server) == [0, 1]
    assert len(stored(redis_server, KEYS.events)) == 2


def test_one_camera_after_another_is_written_over_one_connection(
    redis_server: RedisServer,
) -> None:
    with Proxy(redis_server) as proxy:
        sink = open_sink(proxy.url)
        for camera in ("gate", "yard"):
            stream = open_stream(sink, keys=Keys.of("vedette", camera))
            stream.window.append(frame(0, camera=camera))
            assert drain(sink, stream) == 1
        sink.close()

        assert proxy.connections == 1


def refusal(url: str) -> SinkUnavailable:
    sink = open_sink(url)
    stream = open_stream(sink)
    stream.window.append(frame(0))
    with pytest.raises(SinkUnavailable) as caught:
        sink.write(stream)
    sink.close()
    assert len(stream.window) == 1
    return caught.value


@pytest.mark.parametrize("login", ["", ":wrong-hunter3@", "user:wrong-hunter3@"])
def test_a_wrong_password_goes_to_the_slow_lane_and_is_not_said(login: str) -> None:
    with redis_server(password="hunter2", port=free_port()) as server:
        error = refusal(server.url.replace("://", f"://{login}"))

    assert error.retry_after == 60
    assert str(error).endswith("refuses the user or password")
    assert "hunter" not in str(error)


def test_a_user_without_the_right_to_publish_goes_to_the_slow_lane(
    redis_server: RedisServer,
) -> None:
    with redis_server.client() as client:
        client.acl_setuser("reader", enabled=True, passwords=["+pw"], keys=["*"], commands=["+get"])

    error = refusal(f"unix://reader:pw@{redis_server.socket}")

    assert error.retry_after == 60
    assert "does not allow this user" in str(error)


def test_a_server_without_memory_is_tried_again_soon(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.config_set("maxmemory", "1")

    error = refusal(redis_server.url)

    assert error.retry_after is None
    assert str(error) == f"Redis at {redis_server.socket} refuses: OOM"


def test_a_replica_refuses_and_the_sentence_holds_no_payload(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.replicaof("127.0.0.1", str(free_port()))

    error = refusal(redis_server.url)

    assert str(error) == f"Redis at {redis_server.socket} refuses: READONLY"


def test_a_server_that_wants_replicas_refuses_without_them(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.config_set("min-replicas-to-write", "1")

    error = refusal(redis_server.url)

    assert str(error) == f"Redis at {redis_server.socket} refuses: NOREPLICAS"


def test_a_server_that_refuses_a_batch_has_none_of_it(redis_server: RedisServer) -> None:
    sink = open_sink(redis_server.url)
    stream = open_stream(sink)
    for seq in range(10):
        stream.window.append(frame(seq))
    with redis_server.client() as client:
        client.config_set("maxmemory", "1")
        with pytest.raises(SinkUnavailable):
            sink.write(stream)
        client.config_set("maxmemory", "0")

    assert drain(sink, stream) == 10
    sink.close()

    assert sequences(redis_server) == list(range(10))


def test_a_key_of_another_kind_is_said_and_not_overwritten(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.set(KEYS.detections, "mine")

        sink = open_sink(redis_server.url)
        stream = open_stream(sink)
        stream.window.append(frame(0))
        with pytest.raises(StreamRefused, match="a key of 'gate' is no stream: WRONGTYPE"):
            sink.write(stream)
        sink.close()

        assert client.get(KEYS.detections) == b"mine"


def test_a_server_that_is_away_is_one_sentence(redis_server: RedisServer) -> None:
    redis_server.kill()

    assert str(refusal(redis_server.url)) == f"Redis at {redis_server.socket} cannot be reached"
    redis_server.start()


def test_a_server_that_does_not_answer_is_given_up_after_seconds(
    redis_server: RedisServer,
) -> None:
    began = time.monotonic()
    with redis_server.frozen():
        assert str(refusal(redis_server.url)).endswith("does not answer")

    assert time.monotonic() - began < 5


def test_a_place_names_no_credentials() -> None:
    assert place("redis://user:hunter2@10.0.0.7:6380/1") == "10.0.0.7:6380"
    assert place("redis://:hunter2@/0") == "localhost:6379"
    assert place("unix://user:hunter2@/run/redis.sock") == "/run/redis.sock"


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("redis://:hun/ter2@host", id="a slash in the password"),
        pytest.param("redis://[hunter2", id="half a bracket"),
        pytest.param("redis://host:hunter2", id="a password for a port"),
        pytest.param("http://hunter2@host", id="another scheme"),
    ],
)
def test_a_url_that_cannot_be_read_is_one_sentence_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        connect(url, timeout=1)

    assert str(caught.value).startswith("the Redis URL cannot be read, must be like redis://")
    assert "hun" not in str(caught.value)


@pytest.mark.parametrize(
    "option",
    ["retry_on_timeout=true", "socket_timeout=0.1", "protocol=3", "decode_responses=1", "foo="],
)
def test_a_url_cannot_change_how_we_speak_to_the_server(option: str) -> None:
    with pytest.raises(ConfigError, match=r"an option that is not one of db, password, username$"):
        connect(f"redis://localhost/?{option}", timeout=1)


def test_a_url_may_name_a_database_and_certificates() -> None:
    url = "rediss://localhost/?db=3&ssl_ca_certs=/etc/ca.pem&username=u&password=p"

    client = connect(url, timeout=None)

    keywords = client.connection_pool.connection_kwargs
    assert (keywords["db"], keywords["ssl_ca_certs"]) == (3, "/etc/ca.pem")
    client.close()


def test_no_retry_of_redis_py_is_left_on() -> None:
    client = connect("redis://localhost", timeout=1)
    connection = client.connection_pool.make_connection()

    assert connection.retry.get_retries() == 0
    assert client.get_retry().get_retries() == 0
    client.close()


def test_the_default_client_does_make_duplicates_of_lost_answers(
    redis_server: RedisServer,
) -> None:
    """The trap itself (redis-py #3554), so that these tests are known to be able to see it."""
    with Proxy(redis_server) as proxy, redis.Redis(port=proxy.port, protocol=2) as client:
        client.ping()
        proxy.lose = 1
        pipeline = client.pipeline(transaction=True)
        pipeline.xadd("trap", {"seq": "0"})
        pipeline.execute()

    assert len(stored(redis_server, "trap")) == 2
