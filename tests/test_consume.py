"""Reading from a real server, while it is written, restarted, emptied and abused."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from typing import Any

import pytest
import redis

from pipeline.consume import Entry, Notice, follow
from pipeline.errors import ConfigError, SinkUnavailable
from pipeline.wire import CameraMessage, DetectionsMessage, to_json, traceparent
from tests import published
from tests.published import ended, frame
from tests.servers import RedisServer
from tests.servers import redis_server as serve


class Publisher:
    """Files' streams, written as the contract says."""

    def __init__(self, server: RedisServer, prefix: str = "vedette") -> None:
        self._server = server
        self._prefix = prefix

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def publish(self, *messages: DetectionsMessage | CameraMessage) -> None:
        with self._server.client() as client:
            published.add(client, *messages, prefix=self._prefix)


@contextmanager
def reading(server: RedisServer, **choices: Any) -> Iterator[Iterator[Entry]]:
    chosen: dict[str, Any] = {"prefix": "vedette", "cameras": None, "after": "0"} | choices
    with closing(follow(server.url, **chosen)) as entries:  # type: ignore[type-var]
        yield entries


def what(entry: Entry) -> tuple[str, int | str]:
    message = entry.message
    said = message.seq if isinstance(message, DetectionsMessage) else message.state
    return entry.camera, said


def take(entries: Iterator[Entry], count: int) -> list[tuple[str, int | str]]:
    return [what(entry) for entry in islice(entries, count)]


@contextmanager
def later(action: Callable[[], object], seconds: float = 0.1) -> Iterator[None]:
    timer = threading.Timer(seconds, action)
    timer.start()
    try:
        yield
    finally:
        timer.join(10)


def test_an_entry_says_where_it_stands_and_what_it_says(redis_server: RedisServer) -> None:
    with Publisher(redis_server) as publisher:
        publisher.publish(frame(0))

    with reading(redis_server) as entries:
        entry = next(entries)

    assert (entry.key, entry.id, entry.camera) == ("vedette:{gate}:detections", "1-1", "gate")
    assert entry.message == frame(0)
    assert entry.traceparent == traceparent("gate", "1-ab", 0)
    assert entry.data.startswith(b'{"schema":"vedette.detections/1"')


def test_all_cameras_of_a_prefix_are_read_and_no_others(redis_server: RedisServer) -> None:
    with Publisher(redis_server) as publisher, Publisher(redis_server, "other") as other:
        other.publish(frame(0))
        publisher.publish(frame(0), frame(0, camera="yard"), frame(1))
    with redis_server.client() as client:
        client.set("vedette:{door}:detections", "no stream")
        client.xadd("vedette:{door}:else", {"data": "{}"})

    with reading(redis_server) as entries:
        assert take(entries, 3) == [("gate", 0), ("gate", 1), ("yard", 0)]


def test_named_cameras_are_read_and_no_others(redis_server: RedisServer) -> None:
    with Publisher(redis_server) as publisher:
        publisher.publish(frame(0), frame(5, camera="yard"), frame(1))

    with reading(redis_server, cameras=["yard", "not there yet"]) as entries:
        assert take(entries, 1) == [("yard", 5)]


@pytest.mark.parametrize("prefix", ["a*b", "a[b]", "a?", "a\\b"])
def test_a_prefix_is_taken_as_it_is(redis_server: RedisServer, prefix: str) -> None:
    with Publisher(redis_server, prefix) as publisher, Publisher(redis_server, "axb") as other:
        other.publish(frame(9), frame(9, camera="yard"))
        publisher.publish(frame(0))

    with reading(redis_server, prefix=prefix) as entries:
        assert take(entries, 1) == [("gate", 0)]


def test_from_now_on_means_nothing_that_was_there_and_nothing_is_missed(
    redis_server: RedisServer,
) -> None:
    with Publisher(redis_server) as publisher, reading(redis_server, after="$") as entries:
        publisher.publish(frame(0), frame(1))

        with later(lambda: publisher.publish(frame(2), frame(3))):
            assert take(entries, 1) == [("gate", 2)]
        publisher.publish(frame(4))

        assert take(entries, 2) == [("gate", 3), ("gate", 4)]


def test_a_camera_that_comes_later_is_read_from_its_first_frame(redis_server: RedisServer) -> None:
    with Publisher(redis_server) as publisher, reading(redis_server, after="$") as entries:
        publisher.publish(frame(0))
        with later(lambda: publisher.publish(frame(0, camera="yard"), frame(1, camera="yard"))):
            assert take(entries, 2) == [("yard", 0), ("yard", 1)]


def test_reading_goes_on_behind_an_id_that_the_caller_has_had(redis_server: RedisServer) -> None:
    with Publisher(redis_server) as publisher:
        publisher.publish(*(frame(seq) for seq in range(5)))

    with reading(redis_server, after="1-3", events=False) as entries:
        assert take(entries, 2) == [("gate", 3), ("gate", 4)]


def test_an_end_comes_behind_all_the_frames_that_it_ends(redis_server: RedisServer) -> None:
    with Publisher(redis_server) as publisher:
        publisher.publish(*(frame(seq) for seq in range(250)), ended(250))

    with reading(redis_server) as entries:
        assert take(entries, 251) == [("gate", seq) for seq in range(250)] + [("gate", "ended")]


def test_events_are_left_out_for_who_wants_none(redis_server: RedisServer) -> None:
    with Publisher(redis_server) as publisher:
        publisher.publish(ended(0), frame(1))

    with reading(redis_server, events=False) as entries:
        assert take(entries, 1) == [("gate", 1)]


def test_what_cannot_be_read_is_said_and_does_not_stop_the_rest(redis_server: RedisServer) -> None:
    key = "vedette:{gate}:detections"
    notices: list[Notice] = []
    with redis_server.client() as client:
        client.xadd(key, {"schema": "vedette.detections/9", "data": '{"schema": "x"}'}, id="1-1")
        client.xadd(key, {"anything": "else"}, id="1-2")
        client.xadd(key, {"data": b'{"schema": "\xff'}, id="1-3")
        client.xadd(key, {"data": '{"x":' + "[" * 100_000}, id="1-4")
    with Publisher(redis_server) as publisher:
        publisher.publish(frame(0, session="2-ab"))

    with reading(redis_server, notice=notices.append) as entries:
        assert take(entries, 1) == [("gate", 0)]

    assert [notice.kind for notice in notices] == 4 * ["skipped"]
    assert notices[0].text.startswith(f"{key} 1-1 is skipped: 'vedette.detections/9'")
    assert all(len(notice.text) < 300 for notice in notices)


def test_fields_that_a_later_version_adds_are_kept(redis_server: RedisServer) -> None:
    data = b'{"track":7,' + b'"schema":"vedette.camera/1","camera":"gate","state":"live",'
    data += b'"since":1,"reason":"it answers"}'
    with redis_server.client() as client:
        client.xadd("vedette:{gate}:events", {"data": data})

    with reading(redis_server) as entries:
        entry = next(entries)

    assert what(entry) == ("gate", "live")
    assert entry.data == data
    assert entry.traceparent is None


def test_a_restart_of_redis_is_survived_and_said_and_nothing_comes_twice(
    kept_redis_server: RedisServer,
) -> None:
    notices: list[Notice] = []
    with Publisher(kept_redis_server) as publisher:
        publisher.publish(frame(0), frame(1))
    with reading(kept_redis_server, notice=notices.append) as entries:
        assert take(entries, 2) == [("gate", 0), ("gate", 1)]
        kept_redis_server.kill()

        def come_back() -> None:
            kept_redis_server.start()
            with kept_redis_server.client() as client:
                client.xadd("vedette:{gate}:detections", {"data": to_json(frame(2))}, id="1-3")

        with later(come_back, 0.5):
            assert take(entries, 1) == [("gate", 2)]

    kinds = [notice.kind for notice in notices]
    assert (kinds[0], kinds[-1], set(kinds)) == ("away", "back", {"away", "back"})
    assert notices[0].text.endswith("redis.sock cannot be reached; trying again")


def test_a_silent_redis_is_noticed(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.consume.streams.BLOCK", 0.1)
    monkeypatch.setattr("pipeline.consume.streams.MARGIN", 0.2)
    notices: list[Notice] = []
    with Publisher(redis_server) as publisher:
        publisher.publish(frame(0))
        with reading(redis_server, notice=notices.append) as entries:
            assert take(entries, 1) == [("gate", 0)]
            with redis_server.frozen():
                reader = threading.Thread(target=lambda: take(entries, 1))
                reader.start()
                wait_for(lambda: any(notice.kind == "away" for notice in notices))
            publisher.publish(frame(1))
            reader.join(10)

    assert any(notice.text.endswith("does not answer; trying again") for notice in notices)


def test_frames_that_redis_lost_and_gets_again_do_not_come_twice(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.consume.streams.LOOK", 0.0)
    monkeypatch.setattr("pipeline.consume.streams.BLOCK", 0.05)
    with Publisher(redis_server) as publisher, redis_server.client() as client:
        publisher.publish(*(frame(seq) for seq in range(3)))
        with reading(redis_server) as entries:
            take(entries, 3)
            client.flushall()

            def put_back() -> None:
                for seq in range(4):
                    add(client, frame(seq), f"1-{seq + 1}")
                    time.sleep(0.1)

            with later(put_back):
                assert take(entries, 1) == [("gate", 3)]


def test_a_stream_that_is_begun_anew_is_read_from_its_start(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.consume.streams.LOOK", 0.0)
    monkeypatch.setattr("pipeline.consume.streams.BLOCK", 0.05)
    notices: list[Notice] = []
    with Publisher(redis_server) as publisher, redis_server.client() as client:
        publisher.publish(*(frame(seq) for seq in range(5)))
        with reading(redis_server, notice=notices.append) as entries:
            take(entries, 5)
            client.flushall()
            add(client, frame(0, session="1-cd"), "1-1")

            assert take(entries, 1) == [("gate", 0)]

    assert [notice.kind for notice in notices if notice.kind != "idle"] == ["replaced"]


def test_what_left_the_stream_unread_is_said(redis_server: RedisServer) -> None:
    notices: list[Notice] = []
    with Publisher(redis_server) as publisher, redis_server.client() as client:
        publisher.publish(frame(0))
        with reading(redis_server, notice=notices.append) as entries:
            assert take(entries, 1) == [("gate", 0)]
            publisher.publish(*(frame(seq) for seq in range(1, 9)))
            client.xtrim("vedette:{gate}:detections", maxlen=2, approximate=False)

            assert take(entries, 2) == [("gate", 7), ("gate", 8)]

    (gap,) = [notice.text for notice in notices if notice.kind == "gap"]
    assert gap == "vedette:{gate}:detections: 6 frames are missing from the stream before 1-8"


def test_who_waits_is_told_that_there_is_nothing_new(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.consume.streams.BLOCK", 0.05)

    class Enough(Exception):
        pass

    def stop(notice: Notice) -> None:
        assert notice.kind == "idle"
        raise Enough

    with reading(redis_server, notice=stop) as entries, pytest.raises(Enough):
        next(entries)


def test_a_redis_that_is_not_there_is_one_sentence(redis_server: RedisServer) -> None:
    redis_server.kill()

    with reading(redis_server) as entries, pytest.raises(SinkUnavailable) as caught:
        next(entries)

    assert str(caught.value) == f"Redis at {redis_server.socket} cannot be reached"


def test_a_wrong_password_is_one_sentence_without_it(locked_redis_server: RedisServer) -> None:
    url = f"unix://:wrong-hunter3@{locked_redis_server.socket}"

    entries = follow(url, prefix="vedette", cameras=None, after="$")
    with pytest.raises(SinkUnavailable) as caught:
        next(entries)

    assert str(caught.value).endswith("refuses the user or password")
    assert "hunter" not in str(caught.value)


def test_a_reader_needs_few_rights() -> None:
    with serve(port=0) as server, Publisher(server) as publisher:
        publisher.publish(frame(0))
        with server.client() as client:
            rights = ["-@all", "+scan", "+xread", "+xinfo|stream"]
            client.execute_command(
                "ACL", "SETUSER", "reader", "on", ">pw", "%R~vedette:{*}:*", *rights
            )
        entries = follow(
            f"unix://reader:pw@{server.socket}", prefix="vedette", cameras=None, after="0"
        )

        assert take(entries, 1) == [("gate", 0)]
        entries.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("after", ["now", "1-x", "-1", ""])
def test_a_place_to_read_from_that_is_none_is_refused(after: str) -> None:
    with pytest.raises(ConfigError, match='must be "\\$", "0" or an id'):
        next(follow("redis://localhost", prefix="vedette", cameras=None, after=after))


def add(client: redis.Redis, message: DetectionsMessage, entry_id: str) -> None:
    client.xadd(f"vedette:{{{message.camera}}}:detections", {"data": to_json(message)}, id=entry_id)


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
