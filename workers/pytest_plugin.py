"""Fixtures for teams that build on the streams: a real server, recordings, and comparing.

    def test_the_counter_counts_every_car(vedette_redis, vedette_replay):
        vedette_replay("gate.jsonl.zst")
        assert count_cars(vedette_redis.url) == 41

pytest loads this wherever Vedette is installed, so nothing of it is imported before a test asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from pipeline.replaying import Replayed
    from workers.embedded import EmbeddedRedis


class Replay(Protocol):
    """Publishes a recording into `vedette_redis`; see `vedette replay`."""

    def __call__(
        self,
        recording: str | Path,
        *,
        speed: float | None = None,
        fresh_ids: bool = False,
        prefix: str | None = None,
    ) -> Replayed: ...


class Compare(Protocol):
    """Fails the test with the differences of two recordings; see `vedette replay --compare`."""

    def __call__(
        self,
        recording: str | Path,
        golden: str | Path,
        *,
        iou: float = 0.5,
        confidence_tolerance: float = 0.05,
    ) -> None: ...


@pytest.fixture
def vedette_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """An empty Redis of the test's own: `.url` reaches it."""
    from pipeline.errors import VedetteError
    from workers.embedded import EmbeddedRedis, find_server

    try:
        find_server()
    except VedetteError as error:
        pytest.fail(str(error))
    with EmbeddedRedis(tmp_path_factory.mktemp("vedette-redis")) as server:
        yield server


@pytest.fixture
def vedette_replay(vedette_redis: EmbeddedRedis) -> Replay:
    """Publishes a recording into `vedette_redis`, as fast as it goes unless `speed` is given."""
    from pipeline.replaying import extent, load, publish

    def replay(
        recording: str | Path,
        *,
        speed: float | None = None,
        fresh_ids: bool = False,
        prefix: str | None = None,
    ) -> Replayed:
        entries = load(Path(recording), prefix=prefix)
        publish(entries, vedette_redis.url, speed=speed, fresh_ids=fresh_ids)
        return extent(entries)

    return replay


@pytest.fixture
def vedette_compare() -> Compare:
    """Compares a recording with a golden one, and fails the test where they differ."""
    from pipeline.comparison import Tolerance, compare

    def check(
        recording: str | Path,
        golden: str | Path,
        *,
        iou: float = 0.5,
        confidence_tolerance: float = 0.05,
    ) -> None:
        comparison = compare(Path(recording), Path(golden), Tolerance(iou, confidence_tolerance))
        if comparison.differences:
            pytest.fail("\n".join([*comparison.differences, str(comparison)]), pytrace=False)

    return check
