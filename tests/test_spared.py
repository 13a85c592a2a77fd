"""A real camera of which a real run decodes keyframes alone."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests import rtsp, runs
from tests.faults.cameras import account
from tests.rtsp import Film
from tests.servers import RedisServer

FILM = Film(rate=10, frames=20)  # a keyframe a second


@pytest.mark.slow
def test_of_a_camera_that_is_thinned_to_its_keyframes_nothing_else_is_decoded(
    tmp_path: Path, ours: Path, redis_server: RedisServer
) -> None:
    with rtsp.camera(FILM) as camera:
        cameras = [{"id": "gate", "url": camera.url, "max_fps": 1}]
        file = runs.write_config(tmp_path, cameras, weights=ours, redis_url=redis_server.url)
        with runs.running(tmp_path, file) as run:
            runs.eventually(lambda: runs.length(redis_server.url, "gate") >= 14, within=60)
            before, since = runs.length(redis_server.url, "gate"), time.monotonic()
            time.sleep(10)
            taken = runs.length(redis_server.url, "gate") - before
            seconds = time.monotonic() - since
            assert run.terminate() == 0, run.said
        sent = camera.frames

    dropped, arrived, sessions = account(redis_server.url, "gate")
    assert sessions == 1
    assert 0 <= sent - arrived <= 3  # that FFmpeg's parser holds, or nobody has read
    assert abs(taken - seconds) <= 2
    assert dropped["skipped"] > 9 * (seconds - 2)
    late = runs.entries(redis_server.url, "gate")[-5:]
    assert all(entry.data["dropped"] == {"skipped": 9} for entry in late)
    assert not any(entry.data["tainted"] for entry in late)
