"""Consumers of a group on a real server: blocking and asyncio, killed, slow, late and abused."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import redis

from pipeline.consume import AsyncConsumer, Consumer, Entry, Gap, Item, Lag, Lost, Notice, Settings
from pipeline.consume.steps import Batch
from pipeline.errors import ConfigError, SinkUnavailable
from pipeline.wire import DetectionsMessage, to_json
from tests.published import add, ended, frame
from tests.servers import RedisServer
from tests.servers import redis_server as serve

KEY = "vedette:{gate}:detections"
QUICK = Settings(wait=0.05)
USERS = Path(__file__).parents[1] / "docs" / "redis.md"


class Blocking:
    """The asyncio consumer with the methods of the other one, so that one test can hold both."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._runner = asyncio.Runner()
        self._is_open = True
        self.inner = AsyncConsumer(*arguments, **options)

    def take(self) -> list[Item]:
        return self._runner.run(self.inner.take())

    def done(self, *items: Item) -> None:
        self.inner.done(*items)

    def flush(self) -> None:
        self._runner.run(self.inner.flush())

    def lag(self) -> dict[str, Lag]:
        return self._runner.run(self.inner.lag())

    def close(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        self._runner.run(self.inner.close())
        self._runner.close()

    def __iter__(self) -> Iterator[Item]:
        async def following() -> Item:
            return await anext(items)

        items = aiter(self.inner)
        while True:
            yield self._runner.run(following())


Make = Callable[..., Any]


@pytest.fixture(params=[Consumer, Blocking], ids=["blocking", "asyncio"])
def consumer(request: pytest.FixtureRequest, redis_server: RedisServer) -> Iterator[Make]:
    """Makes consumers `a` of the group `g`, and closes them."""
    made: list[Any] = []

    def make(name: str = "a", **options: Any) -> Consumer:
        chosen = {"prefix": "vedette", "settings": QUICK, "group": "g"} | options
        made.append(request.param(redis_server.url, name=name, **chosen))
        return made[-1]

    yield make
    for one in made:
        one.close()


@contextmanager
def losing_answers(reader: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """New entries are delivered, as far as Redis knows, and never arrive."""
    inner = getattr(reader, "inner", reader)
    send = inner._execute

    def lose(batch: Batch, answer: Any) -> Any:
        if any("'>'" in repr(call) for call in batch.calls):
            raise redis.ConnectionError("the answer was lost")
        return answer

    async def send_later(batch: Batch) -> Any:
        return lose(batch, await send(batch))

    with monkeypatch.context() as patch:
        lossy = (lambda batch: lose(batch, send(batch))) if inner is reader else send_later
        patch.setattr(inner, "_execute", lossy)
        yield


def frames(items: list[Item]) -> list[int | str]:
    said = []
    for item in items:
        if isinstance(item, Entry):
            message = item.message
            said.append(message.seq if isinstance(message, DetectionsMessage) else message.state)
    return said


def gaps(items: list[Item]) -> list[tuple[str, int | None]]:
    return [(item.kind, item.frames) for item in items if isinstance(item, Gap)]


def lost(items: list[Item]) -> list[tuple[str, str]]:
    return [(item.why, item.id) for item in items if isinstance(item, Lost)]


def pending(client: redis.Redis, key: str = KEY) -> int:
    return int(client.xpending(key, "g")["pending"])  # type: ignore[index]


def taken(consumer: Consumer, most: int = 100) -> list[Item]:
    """All that there is, until an answer is empty."""
    items: list[Item] = []
    while len(items) < most and (more := consumer.take()):
        items += more
    return items


# ── delivery ──────────────────────────────────────────────────────────────────────────────────


def test_what_is_done_does_not_come_again_and_what_is_not_does(
    consumer: Make, redis_server: RedisServer
) -> None:
    with redis_server.client() as client:
        add(client, *(frame(seq) for seq in range(5)))
    first = consumer()
    items = first.take()
    first.done(*items[:3])
    first.flush()
    first.close()

    assert frames(items) == [0, 1, 2, 3, 4]
    assert frames(taken(consumer())) == [3, 4]


def test_an_entry_is_done_at_the_latest_when_the_next_is_asked_for(
    consumer: Make, redis_server: RedisServer
) -> None:
    with redis_server.client() as client:
        add(client, frame(0), frame(1))
        reader = consumer()
        for item in islice(reader, 2):
            reader.done(item)
        assert pending(client) == 2

        reader.take()

        assert pending(client) == 0


def test_own_pending_entries_come_before_new_ones(
    consumer: Make, redis_server: RedisServer
) -> None:
    with redis_server.client() as client:
        add(client, frame(0), frame(1))
        killed = consumer()
        killed.take()
        killed.close()
        add(client, frame(2))

        assert frames(taken(consumer())) == [0, 1, 2]


def test_an_answer_that_was_lost_on_its_way_comes_again(
    consumer: Make, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with redis_server.client() as client:
        add(client, frame(0), frame(1))
    reader = consumer()
    with losing_answers(reader, monkeypatch), pytest.raises(SinkUnavailable):
        reader.take()

    assert frames(taken(reader)) == [0, 1]


def test_two_consumers_share_what_comes_and_neither_sees_a_gap_in_it(
    consumer: Make, redis_server: RedisServer
) -> None:
    a, b = consumer("a"), consumer("b")
    with redis_server.client() as client:
        got = []
        for seq in range(0, 12, 2):
            add(client, frame(seq), frame(seq + 1))
            got.append((a if seq % 4 else b).take())

    assert [frames(items) for items in got] == [[seq, seq + 1] for seq in range(0, 12, 2)]
    assert [gaps(items) for items in got] == 6 * [[]]


def test_entries_of_a_dead_consumer_are_taken_over(
    consumer: Make, redis_server: RedisServer
) -> None:
    with redis_server.client() as client:
        add(client, frame(0), frame(1))
        killed = consumer("dead")
        killed.take()
        killed.close()
        settings = Settings(wait=0.05, min_idle=0.2)
        heir = consumer("heir", settings=settings)
        assert taken(heir) == []

        items = next(items for items in iter(heir.take, None) if items)
        heir.done(*items)
        heir.flush()

        assert frames(items) == [0, 1]
        assert pending(client) == 0


def test_an_entry_that_kills_its_reader_is_dead_after_five_deliveries_and_alone(
    consumer: Make, redis_server: RedisServer
) -> None:
    with redis_server.client() as client:
        add(client, frame(0), frame(1))
        tries = []
        for _ in range(5):
            killed = consumer()
            tries.append(frames(killed.take()))
            killed.close()
        items = taken(consumer())
        (dead,) = client.xrange("vedette:{gate}:dead")  # type: ignore[misc]

    assert tries == [[0, 1], [0, 1], [0, 1], [0], [0]]
    assert (lost(items), frames(items)) == ([("dead", "1-1")], [1])
    assert str(items[0]) == (
        "vedette:{gate}:detections 1-1 was delivered 5 times and never done: "
        "see vedette:{gate}:dead"
    )
    assert dead[1][b"data"] == to_json(frame(0))
    assert (dead[1][b"from"], dead[1][b"id"]) == (KEY.encode(), b"1-1")
    assert (dead[1][b"group"], dead[1][b"deliveries"]) == (b"g", b"5")
    with redis_server.client() as client:
        assert pending(client) == 1  # the other one, which has not been done yet


def test_an_entry_that_was_trimmed_while_pending_is_a_value(
    consumer: Make, redis_server: RedisServer
) -> None:
    with redis_server.client() as client:
        add(client, frame(0), frame(1), frame(2))
        killed = consumer()
        killed.take()
        killed.close()
        client.xtrim(KEY, maxlen=1, approximate=False)
        reader = consumer()

        items = taken(reader)

        assert lost(items) == [("trimmed", "1-1"), ("trimmed", "1-2")]
        assert frames(items) == [2]
        assert pending(client) == 1


def test_an_entry_that_was_trimmed_under_a_dead_consumer_is_a_value(
    consumer: Make, redis_server: RedisServer
) -> None:
    with redis_server.client() as client:
        add(client, frame(0), frame(1))
        killed = consumer("dead")
        killed.take()
        killed.close()
        client.xtrim(KEY, maxlen=0, approximate=False)
        heir = consumer("heir", settings=Settings(wait=0.05, min_idle=0.05))

        items = next(items for items in iter(heir.take, None) if items)

    assert lost(items) == [("trimmed", "1-1"), ("trimmed", "1-2")]


def test_what_cannot_be_read_is_a_value_and_stays_until_it_is_done(
    consumer: Make, redis_server: RedisServer
) -> None:
    with redis_server.client() as client:
        client.xadd(KEY, {"schema": "vedette.detections/9", "data": "{}"}, id="1-1")
        reader = consumer()
        (item,) = reader.take()
        assert isinstance(item, Lost)
        assert (item.why, pending(client)) == ("unreadable", 1)

        reader.done(item)
        reader.flush()

        assert pending(client) == 0


def test_an_end_comes_behind_all_the_frames_that_it_ends(
    consumer: Make, redis_server: RedisServer
) -> None:
    with redis_server.client() as client:
        add(client, *(frame(seq) for seq in range(250)), ended(250))

    assert frames(taken(consumer(), 300)) == [*range(250), "ended"]


def test_a_group_may_begin_with_what_comes_from_now_on(
    consumer: Make, redis_server: RedisServer
) -> None:
    with redis_server.client() as client:
        add(client, frame(0))
        reader = consumer(settings=Settings(start="$", wait=0.05))
        assert taken(reader) == []
        add(client, frame(1))

        items = taken(reader)

    assert (frames(items), gaps(items)) == ([1], [])


def test_a_camera_that_comes_later_is_read_from_its_first_frame(
    consumer: Make, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.consume.streams.LOOK", 0.0)
    reader = consumer(settings=Settings(start="$", wait=0.05))
    assert taken(reader) == []
    with redis_server.client() as client:
        add(client, frame(0), frame(1))

    assert frames(taken(reader)) == [0, 1]


def test_a_stream_that_has_vanished_is_not_made_by_its_readers(
    consumer: Make, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.consume.streams.LOOK", 0.0)
    reader = consumer(cameras=["gate"])
    with redis_server.client() as client:
        add(client, frame(0), frame(1))
        reader.done(*taken(reader))
        client.flushall()
        assert taken(reader) == []
        assert client.exists(KEY) == 0
        add(client, frame(0, session="1-cd"), frame(1, session="1-cd"))

        items = taken(reader)

    assert frames(items) == [0, 1]


# ── gaps ──────────────────────────────────────────────────────────────────────────────────────


def test_what_was_dropped_stands_before_the_message_that_says_so(
    consumer: Make, redis_server: RedisServer
) -> None:
    with redis_server.client() as client:
        add(client, frame(0), frame(4, dropped={"superseded": 2, "max_fps": 1}))
        add(client, ended(6, dropped={"window": 1}))

    items = taken(consumer())

    assert [type(item).__name__ for item in items] == ["Entry", "Gap", "Entry", "Gap", "Entry"]
    assert gaps(items) == [("dropped", 3), ("dropped", 1)]
    assert isinstance(items[1], Gap)
    assert items[1].dropped == {"superseded": 2, "max_fps": 1}
    assert str(items[1]) == (f"{KEY}: 3 frames were dropped (2 superseded, 1 max_fps) before 1-5")


def test_a_jump_that_nobody_explains_is_missing(consumer: Make, redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        add(client, frame(0), frame(1), frame(2), frame(6, dropped={"crash": 1}))
        client.xdel(KEY, "1-2")

    items = taken(consumer())

    assert frames(items) == [0, 2, 6]
    assert gaps(items) == [("missing", 1), ("dropped", 1), ("missing", 2)]


def test_a_new_session_is_a_gap_of_unknown_size(consumer: Make, redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        add(client, frame(0), frame(0, session="2-ab"), frame(1, session="2-ab"))

    items = taken(consumer())

    assert (frames(items), gaps(items)) == ([0, 0, 1], [("session", None)])


def test_history_that_was_trimmed_while_nobody_read_is_counted(
    consumer: Make, redis_server: RedisServer
) -> None:
    with redis_server.client() as client:
        add(client, *(frame(seq) for seq in range(3)))
        first = consumer()
        first.done(*first.take())
        first.close()
        add(client, *(frame(seq) for seq in range(3, 20)), maxlen=5)

    items = taken(consumer())

    assert (frames(items), gaps(items)) == ([15, 16, 17, 18, 19], [("trimmed", 12)])
    assert (
        str(items[0]) == f"{KEY}: 12 frames had left the stream before they were read before 1-16"
    )


def test_history_that_was_trimmed_under_a_slow_reader_is_counted(
    consumer: Make, redis_server: RedisServer
) -> None:
    reader = consumer()
    with redis_server.client() as client:
        add(client, *(frame(seq) for seq in range(3)))
        reader.done(*reader.take())
        add(client, *(frame(seq) for seq in range(3, 20)), maxlen=5)

        items = taken(reader)

    assert (frames(items), gaps(items)) == ([15, 16, 17, 18, 19], [("trimmed", 12)])


def test_what_was_trimmed_before_a_group_began_is_counted(
    consumer: Make, redis_server: RedisServer
) -> None:
    with redis_server.client() as client:
        add(client, *(frame(seq) for seq in range(20)), maxlen=5)

    assert gaps(taken(consumer())) == [("trimmed", 15)]


def test_trimming_what_was_read_is_no_gap(consumer: Make, redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        for seq in range(0, 20, 4):
            reader = consumer()
            add(client, *(frame(more) for more in range(seq, seq + 4)), maxlen=4)
            items = taken(reader)
            reader.done(*items)
            reader.close()
            assert (frames(items), gaps(items)) == ([seq, seq + 1, seq + 2, seq + 3], [])


def test_a_gap_of_a_delivery_that_was_not_done_comes_again(
    consumer: Make, redis_server: RedisServer
) -> None:
    with redis_server.client() as client:
        add(client, frame(0), frame(1), frame(3, dropped={"crash": 1}), frame(5))
        first = consumer()
        items = first.take()
        first.done(*items[:2])
        first.close()

    assert gaps(items) == [("dropped", 1), ("missing", 1)]
    assert gaps(taken(consumer())) == [("dropped", 1), ("missing", 1)]


# ── lag ───────────────────────────────────────────────────────────────────────────────────────


def test_the_lag_says_what_waits_and_what_is_lost(
    consumer: Make, redis_server: RedisServer
) -> None:
    reader = consumer(settings=Settings(wait=0.05, count=2))
    with redis_server.client() as client:
        add(client, frame(0))
        reader.take()
        add(client, *(frame(seq) for seq in range(1, 11)), maxlen=4)

    assert reader.lag() == {KEY: Lag(waiting=10, pending=1, lost=6)}


def test_the_lag_is_unknown_where_redis_does_not_know_it(
    consumer: Make, redis_server: RedisServer
) -> None:
    reader = consumer(settings=Settings(wait=0.05, count=2))
    with redis_server.client() as client:
        add(client, *(frame(seq) for seq in range(6)))
        reader.take()
        client.xdel(KEY, "1-5")

    assert reader.lag() == {KEY: Lag(waiting=None, pending=2, lost=None)}


# ── a Redis that is away ──────────────────────────────────────────────────────────────────────


def test_a_restart_of_redis_is_survived_and_said(consumer: Make, redis_server: RedisServer) -> None:
    notices: list[Notice] = []
    settings = Settings(wait=0.05, notice=notices.append)
    with serve(keep=True) as server, server.client() as client:
        add(client, frame(0), frame(1))
        reader = type(consumer())(
            server.url, group="g", name="a", prefix="vedette", settings=settings
        )
        items = iter(reader)
        reader.done(next(items), next(items))
        server.kill()

        def come_back() -> None:
            server.start()
            add(client, frame(2))

        timer = threading.Timer(0.2, come_back)
        timer.start()
        assert frames([next(items)]) == [2]
        timer.join()
        reader.close()

    kinds = [notice.kind for notice in notices if notice.kind != "idle"]
    assert (kinds[0], kinds[-1], set(kinds)) == ("away", "back", {"away", "back"})


def test_what_a_consumer_still_holds_is_not_delivered_to_it_again(
    consumer: Make, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with redis_server.client() as client:
        add(client, frame(0), frame(1))
        reader = consumer()
        held = reader.take()
        add(client, frame(2))
        with losing_answers(reader, monkeypatch), pytest.raises(SinkUnavailable):
            reader.take()

        assert (frames(held), frames(taken(reader))) == ([0, 1], [2])
        assert pending(client) == 3


def test_gaps_and_losses_are_matched_by_keyword_alone() -> None:
    """`case Gap("trimmed")` would compare the key, and never match."""
    assert (Gap.__match_args__, Lost.__match_args__) == ((), ())


def test_a_consumer_needs_few_rights() -> None:
    rights = re.search(r"^ACL SETUSER reader .*", USERS.read_text(), re.MULTILINE)
    assert rights is not None
    with serve() as server, server.client() as client:
        add(client, frame(0), frame(1))
        client.execute_command(*rights[0].split())
        url = f"unix://reader:change-me@{server.socket}"
        settings = Settings(wait=0.05, deliveries=1, min_idle=0.01)
        for name in ("a", "b"):
            with Consumer(url, group="g", name=name, prefix="vedette", settings=settings) as reader:
                items = next(items for items in iter(reader.take, None) if items)
                reader.lag()

        assert lost(items) == [("dead", "1-1"), ("dead", "1-2")]
        with (
            redis.Redis.from_url(url) as plain,
            pytest.raises(redis.ResponseError, match="permissions"),
        ):
            plain.xadd(KEY, {"data": "a consumer does not publish"})


@pytest.mark.slow
def test_waiting_longer_than_redis_py_would_is_no_time_out(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.xadd(KEY, {"data": "x"})
    settings = Settings(start="$", wait=5.2)
    readers = [
        kind(redis_server.url, group="g", name=str(kind), prefix="vedette", settings=settings)
        for kind in (Consumer, Blocking)
    ]

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda reader: reader.take(), readers))

    assert answers == [[], []]
    for reader in readers:
        reader.close()


def test_a_redis_that_is_not_there_is_one_sentence(
    consumer: Make, redis_server: RedisServer
) -> None:
    redis_server.kill()

    with pytest.raises(SinkUnavailable, match="cannot be reached"):
        consumer().take()
    with pytest.raises(SinkUnavailable, match="cannot be reached"):
        next(iter(consumer("b")))


def test_a_url_that_is_none_is_refused(consumer: Make) -> None:
    with pytest.raises(ConfigError, match="an option that is not one of"):
        Consumer("redis://h?socket_timeout=1", group="g", name="a", prefix="vedette")
    with pytest.raises(ConfigError, match="an option that is not one of"):
        AsyncConsumer("redis://h?socket_timeout=1", group="g", name="a", prefix="vedette")
