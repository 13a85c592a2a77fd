"""What a new publisher finds of the session that its predecessor published."""

from __future__ import annotations

from pipeline.sinks.redis import RedisSink, Stream
from pipeline.sinks.remains import Remains
from pipeline.sinks.window import NO_ENTRY, EntryId, Keys
from tests.published import ended, frame
from tests.servers import RedisServer

KEYS = Keys.of("vedette", "gate")


def publish(sink: RedisSink, *messages: object) -> Stream:
    stream = sink.open(KEYS, live=True, maxlen=None, limit=1_000)
    for message in messages:
        stream.window.append(message)  # type: ignore[arg-type]
    while not stream.in_step or len(stream.window):
        sink.write(stream)
    return stream


def look(
    sink: RedisSink,
    stream: Stream,
    session: str = "1-ab",
    *,
    confirmed: EntryId = NO_ENTRY,
    event: EntryId = NO_ENTRY,
) -> Remains:
    return sink.remains(stream, {session}, confirmed, event)


def test_nothing_is_found_in_streams_that_are_not_there(redis_server: RedisServer) -> None:
    sink = RedisSink(redis_server.url)

    assert look(sink, publish(sink)) == Remains()
    sink.close()


def test_entries_behind_the_last_counted_one_are_counted_and_none_before(
    redis_server: RedisServer,
) -> None:
    sink = RedisSink(redis_server.url)
    stream = publish(sink, *(frame(seq) for seq in range(120)))
    middle = stream.window.confirmed
    for seq in range(120, 150):
        stream.window.append(frame(seq))
    while len(stream.window):
        sink.write(stream)

    found = look(sink, stream, confirmed=middle)

    assert found == Remains({"1-ab": 150}, 30, stream.window.confirmed)
    assert look(sink, stream, confirmed=stream.window.confirmed).uncounted == 0
    sink.close()


def test_another_session_and_entries_of_others_are_not_ours(redis_server: RedisServer) -> None:
    sink = RedisSink(redis_server.url)
    stream = publish(sink, frame(0), frame(1))
    with redis_server.client() as client:
        client.xadd(KEYS.detections, {"data": "{}"})
        client.xadd(KEYS.events, {"somebody": "else"})

    assert look(sink, stream, "2-cd") == Remains()
    assert look(sink, stream) == Remains({"1-ab": 2}, 2, stream.window.confirmed)
    sink.close()


def test_an_end_is_found_with_its_session_only(redis_server: RedisServer) -> None:
    sink = RedisSink(redis_server.url)
    stream = publish(sink, frame(0), ended(1))

    event = stream.window.last[KEYS.events]

    assert look(sink, stream).ended == {"1-ab"}
    assert look(sink, stream, "2-cd").ended == frozenset()
    assert look(sink, stream, event=event).ended == frozenset()  # it was there before the run
    sink.close()
