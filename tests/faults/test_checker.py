"""The checker finds what it is there to find."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.faults.checker import check
from tests.published import add, ended, frame
from tests.servers import RedisServer

FRAMES = 6
STREAM = "vedette:{gate}:detections"


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    with redis_server.client() as one:
        yield one


def write(client: redis.Redis, *messages: Any) -> None:
    """With ids in the order of the call."""
    for number, message in enumerate(messages, 1):
        add(client, message)
        if client.exists(STREAM):
            ((entry, fields),) = client.xrevrange(STREAM, count=1)
            client.xdel(STREAM, entry)
            client.xadd(f"{STREAM}:new", fields, id=f"1-{number}")
            client.delete(STREAM)
    client.rename(f"{STREAM}:new", STREAM)


def test_a_stream_that_is_whole_has_nothing_wrong(client: redis.Redis) -> None:
    write(client, *map(frame, range(FRAMES)), ended(FRAMES))

    assert check(client, "gate", FRAMES).wrong == (0, 0, 0, 0)


def test_what_is_said_to_be_dropped_is_not_missing(client: redis.Redis) -> None:
    messages = [frame(0), frame(3, dropped={"window": 2}), ended(FRAMES, dropped={"crash": 2})]
    write(client, *messages)

    found = check(client, "gate", FRAMES)

    assert found.wrong == (0, 0, 0, 0)
    assert found.published + found.dropped.total() == FRAMES


def test_a_hole_that_nobody_explains_is_missing(client: redis.Redis) -> None:
    write(client, frame(0), frame(1), frame(4, dropped={"window": 1}), frame(5), ended(FRAMES))

    assert check(client, "gate", FRAMES).wrong == (1, 0, 0, 1)


def test_frames_before_the_first_and_behind_the_last_are_missing(client: redis.Redis) -> None:
    write(client, frame(1), frame(2))

    assert check(client, "gate", FRAMES).wrong == (4, 0, 0, 4)


def test_an_end_that_counts_fewer_frames_than_the_clip_has_does_not_hide_them(
    client: redis.Redis,
) -> None:
    write(client, *map(frame, range(4)), ended(4))

    assert check(client, "gate", FRAMES).wrong == (2, 0, 0, 2)


def test_a_frame_that_is_there_twice_is_a_duplicate(client: redis.Redis) -> None:
    write(client, frame(0), frame(1), frame(1), *map(frame, range(2, FRAMES)), ended(FRAMES))

    assert check(client, "gate", FRAMES).wrong == (0, 1, 0, 0)


def test_an_end_that_is_there_twice_is_a_duplicate(client: redis.Redis) -> None:
    write(client, *map(frame, range(FRAMES)), ended(FRAMES), ended(FRAMES))

    assert check(client, "gate", FRAMES).wrong == (0, 1, 0, 0)


def test_a_frame_behind_a_later_one_is_out_of_order(client: redis.Redis) -> None:
    write(client, frame(0), frame(2), frame(1), *map(frame, range(3, FRAMES)), ended(FRAMES))

    assert check(client, "gate", FRAMES).disordered == 1


def test_more_said_to_be_dropped_than_was_is_unaccounted(client: redis.Redis) -> None:
    write(client, *map(frame, range(5)), frame(5, dropped={"window": 3}), ended(FRAMES))

    assert check(client, "gate", FRAMES).wrong == (0, 0, 0, 3)
