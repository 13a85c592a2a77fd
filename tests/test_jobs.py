"""Where a file's stream goes on, and that an interrupted job is completed rather than repeated."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest

from pipeline.errors import SinkUnavailable
from pipeline.sinks.jobs import Job, Position, position, to_fields
from pipeline.sinks.lanes import StreamRefused
from pipeline.sinks.lease import Owner
from pipeline.sinks.redis import RedisSink, Stream
from pipeline.sinks.window import Keys, OutOfLine
from tests.published import ended, frame
from tests.servers import RedisServer

KEYS = Keys.of("vedette", "gate")
NOW = 1_700_000_000.0
JOB = Job("a digest", "this run")
KNOWN = Position(3, "3-ab", 0, NOW - 500)


def stored(position: Position = KNOWN, job: Job = JOB) -> dict[str, str]:
    words = to_fields(job, position)
    return dict(zip(words[::2], words[1::2], strict=True))


def test_an_empty_stream_begins_with_epoch_1_at_its_first_frame() -> None:
    found = position(JOB, {}, (0, 0), NOW)

    assert (found.epoch, found.next_seq, found.started_at, found.finished) == (1, 0, NOW, False)
    assert found.session.startswith("1-")


def test_the_same_job_goes_on_behind_its_last_entry_with_the_same_origin() -> None:
    assert position(JOB, stored(), (3, 117), NOW) == Position(3, "3-ab", 117, NOW - 500)


def test_a_job_that_was_finished_is_known_to_be() -> None:
    done = Position(3, "3-ab", 0, NOW - 500, finished=True)

    assert position(JOB, stored(done), (3, 250), NOW).finished


@pytest.mark.parametrize(
    "job",
    [
        pytest.param(Job("another", "this run"), id="another job"),
        pytest.param(Job(None, "this run"), id="a job without a digest"),
        pytest.param(Job("a digest", "another run", again=True), id="the same job, again"),
    ],
)
def test_any_other_job_begins_the_epoch_after_the_last(job: Job) -> None:
    found = position(job, stored(), (3, 117), NOW)

    assert (found.epoch, found.next_seq, found.started_at) == (4, 0, NOW)
    assert found.session != "3-ab"


def test_again_means_once_in_a_run_however_often_its_publisher_is_started() -> None:
    job = Job("a digest", "this run", again=True)

    assert position(job, stored(), (3, 117), NOW).next_seq == 117


def test_a_stream_that_somebody_has_written_to_since_begins_a_new_epoch() -> None:
    assert position(JOB, stored(), (5, 2), NOW).epoch == 6


def test_an_epoch_that_was_named_and_has_no_entry_yet_is_taken_up() -> None:
    assert position(JOB, stored(), (2, 40), NOW) == KNOWN


def test_a_finished_job_whose_stream_was_deleted_is_done_again() -> None:
    done = Position(3, "3-ab", 0, NOW - 500, finished=True)

    found = position(JOB, stored(done), (0, 0), NOW)

    assert (found.epoch, found.next_seq, found.finished) == (4, 0, False)


@pytest.mark.parametrize("field", ["epoch", "session", "started_at", "finished"])
def test_a_hash_that_is_not_whole_is_none(field: str) -> None:
    broken = stored()
    del broken[field]

    assert position(JOB, broken, (3, 117), NOW).epoch == 4


def test_a_start_time_is_read_back_to_the_last_bit() -> None:
    known = Position(3, "3-ab", 0, 1_700_000_000.123457)

    assert position(JOB, stored(known), (3, 1), NOW).started_at == 1_700_000_000.123457


@contextmanager
def opened(
    url: str, *, job: str | None = "a digest", again: bool = False, owner: Owner | None = None
) -> Iterator[tuple[RedisSink, Stream]]:
    sink = RedisSink(url, clock=lambda: NOW, owner=owner)
    stream = sink.open(KEYS, live=False, maxlen=None, limit=None, job=job, again=again)
    try:
        sink.step_in(stream)
        yield sink, stream
    finally:
        sink.close()


def place(stream: Stream) -> Position:
    assert stream.position is not None
    return stream.position


def publish(sink: RedisSink, stream: Stream, frames: range) -> int:
    confirmed = 0
    for seq in frames:
        stream.window.append(frame(seq, session=place(stream).session))
        confirmed += sink.write(stream)
    return confirmed


def ids(server: RedisServer) -> list[str]:
    with server.client() as client:
        return [entry.decode() for entry, _ in client.xrange(KEYS.detections)]


def test_an_interrupted_job_is_completed_and_nothing_is_there_twice(
    redis_server: RedisServer,
) -> None:
    with opened(redis_server.url) as (sink, stream):
        first = place(stream)
        assert publish(sink, stream, range(70)) == 70
    with opened(redis_server.url) as (sink, stream):
        assert place(stream) == Position(1, first.session, 70, NOW)
        assert publish(sink, stream, range(60, 100)) == 30  # what is there already is ignored

    assert ids(redis_server) == [f"1-{seq + 1}" for seq in range(100)]


def test_a_job_that_came_to_its_end_is_finished_and_the_end_says_which_it_was(
    redis_server: RedisServer,
) -> None:
    with opened(redis_server.url) as (sink, stream):
        publish(sink, stream, range(3))
        stream.window.append(ended(3))
        sink.write(stream)
    with opened(redis_server.url) as (_, stream):
        assert place(stream).finished
        assert place(stream).next_seq == 3
    with redis_server.client() as client:
        ((_, fields),) = client.xrange(KEYS.events)
        assert json.loads(fields[b"data"])["job"] == "a digest"


def test_an_end_before_the_end_leaves_a_job_unfinished(redis_server: RedisServer) -> None:
    with opened(redis_server.url) as (sink, stream):
        publish(sink, stream, range(3))
        stream.window.append(msgspec.structs.replace(ended(3), complete=False))
        sink.write(stream)
    with opened(redis_server.url) as (_, stream):
        assert not place(stream).finished


def test_again_makes_a_new_epoch_once(redis_server: RedisServer) -> None:
    owner = Owner.here()
    with opened(redis_server.url) as (sink, stream):
        publish(sink, stream, range(3))
    for next_seq in (0, 2):  # the second time the publisher was started again
        with opened(redis_server.url, again=True, owner=owner) as (sink, stream):
            assert (place(stream).epoch, place(stream).next_seq) == (2, next_seq)
            publish(sink, stream, range(next_seq, next_seq + 2))

    assert ids(redis_server) == ["1-1", "1-2", "1-3", "2-1", "2-2", "2-3", "2-4"]


def test_a_frame_that_is_not_the_next_one_is_refused(redis_server: RedisServer) -> None:
    with opened(redis_server.url) as (sink, stream):
        publish(sink, stream, range(3))
        stream.window.append(frame(5, dropped={"max_fps": 2}))
        with pytest.raises(OutOfLine, match="frame 8 came where 6 was due, with 1 dropped"):
            stream.window.append(frame(8, dropped={"max_fps": 1}))
        sink.write(stream)

    assert ids(redis_server) == ["1-1", "1-2", "1-3", "1-6"]


def test_the_job_is_written_again_where_redis_has_lost_it(redis_server: RedisServer) -> None:
    with opened(redis_server.url) as (sink, stream), redis_server.client() as client:
        publish(sink, stream, range(3))
        before = client.hgetall(KEYS.job)
        client.flushall()
        for _ in range(3):
            sink.write(stream)
            stream.window.append(frame(stream.window.expected))

        assert client.hgetall(KEYS.job) == before


def test_a_stream_that_another_has_gone_on_with_meanwhile_is_left_alone(
    redis_server: RedisServer,
) -> None:
    with opened(redis_server.url) as (sink, stream), redis_server.client() as client:
        publish(sink, stream, range(3))
        client.xadd(KEYS.detections, {"data": "{}"}, id="1-900")
        stream.window.append(frame(3))

        assert sink.write(stream) == 0
        with pytest.raises(StreamRefused, match="published further by another process"):
            sink.write(stream)


def test_a_position_is_known_after_an_outage_from_the_start(redis_server: RedisServer) -> None:
    sink = RedisSink(redis_server.url)
    stream = sink.open(KEYS, live=False, maxlen=None, limit=None, job="a digest")
    redis_server.kill()
    with pytest.raises(SinkUnavailable):
        sink.step_in(stream)
    assert stream.position is None
    redis_server.start()

    assert sink.step_in(stream) == 0
    assert place(stream).epoch == 1
    sink.close()
