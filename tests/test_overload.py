"""More live frames than the device can do: fresh, fair, and every one accounted for."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.overload import measure
from tests import media, runs
from tests.servers import RedisServer


def test_frames_that_are_too_old_are_dropped_and_counted(
    tmp_path: Path, ours: Path, redis_server: RedisServer
) -> None:
    clip = tmp_path / "clip.mp4"
    media.encode(clip, frames=30, size=(320, 192), rate=30)
    cameras = [
        {"id": "never", "url": str(clip), "live": True, "max_age_ms": 0.001},
        {"id": "always", "url": str(clip), "live": True, "max_age_ms": 60_000},
        {"id": "file", "url": str(clip), "max_age_ms": 0.001},
    ]
    config = runs.write_config(tmp_path, cameras, weights=ours, redis_url=redis_server.url)

    done = runs.vedette(tmp_path, "run", config)

    assert done.returncode == 0, done.stderr
    assert runs.length(redis_server.url, "never") == 0
    (end,) = [e.data for e in runs.entries(redis_server.url, "never", "events")]
    assert set(end["dropped"]) <= {"too_old", "superseded", "surplus"}
    assert end["dropped"]["too_old"] > 0
    assert sum(end["dropped"].values()) == end["frames"] == 30
    messages = [entry.data for entry in runs.entries(redis_server.url, "always")]
    assert {reason for message in messages for reason in message["dropped"]} <= {
        "superseded",
        "surplus",
    }
    assert runs.length(redis_server.url, "file") == 30


@pytest.mark.slow
@pytest.mark.parametrize("cameras", [4, 16])
def test_overload_makes_frames_neither_old_nor_unfair(cameras: int) -> None:
    """Not so long as `python -m benchmarks.overload`, and with wider bounds."""
    found = measure(cameras, pace=400 / cameras, seconds=20, size=(384, 640))

    assert found.offered > 2 * found.inferred
    assert found.age95 <= 1.5 * found.bound
    assert found.share == pytest.approx(1, abs=0.15)


@pytest.mark.slow
def test_far_from_a_turn_pictures_are_not_resized() -> None:
    found = measure(32, pace=25, seconds=15, size=(384, 640))

    assert found.resized is not None
    assert found.offered > 6 * found.inferred
    assert found.resized < 0.7 * found.offered
    assert found.age95 <= 1.5 * found.bound
