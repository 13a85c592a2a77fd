"""Cameras on the network that go away and come back."""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests import media, runs
from tests.servers import RedisServer, free_port

FRAMES = 12


def accounted_sessions(url: str) -> tuple[list[dict[str, Any]], set[str]]:
    """The ends of all sessions, in each of which every frame is accounted for; why some dropped."""
    ends = [entry.data for entry in runs.entries(url, "gate", "events")]
    published = defaultdict(list)
    for entry in runs.entries(url, "gate"):
        published[entry.data["session"]].append(entry.data)
    sessions = [end["session"] for end in ends]
    assert len(set(sessions)) == len(sessions)
    assert set(published) <= set(sessions)
    reasons: set[str] = set()
    for end in ends:
        messages = published[end["session"]]
        dropped = [*(message["dropped"] for message in messages), end["dropped"]]
        reasons |= {reason for counts in dropped for reason in counts}
        assert sum(sum(counts.values()) for counts in dropped) + len(messages) == end["frames"]
    return ends, reasons


def test_each_connection_of_a_camera_is_a_session_of_its_own(
    tmp_path: Path, lite_s: Path, redis_server: RedisServer
) -> None:
    with media.rtsp_camera(frames=FRAMES, connections=3) as url:
        file = runs.write_config(
            tmp_path, [{"id": "gate", "url": url}], weights=lite_s, redis_url=redis_server.url
        )
        with runs.running(tmp_path, file) as run:
            runs.eventually(lambda: run.said.count("gate is back") == 2, within=60)
            runs.eventually(
                lambda: len(runs.entries(redis_server.url, "gate", "events")) == 3, within=60
            )
            run.process.send_signal(signal.SIGTERM)
            assert run.process.wait(25) == 0, run.said

    ends, reasons = accounted_sessions(redis_server.url)
    for end in ends:
        assert (end["frames"], end["fault"], end["complete"]) == (FRAMES, "network", False)
    assert reasons <= {"superseded"}
    last = runs.LastLine.of(run.said)
    assert last.published + sum(last.dropped.values()) == 3 * FRAMES
    assert "hunter2" not in run.said


def test_a_camera_that_is_away_at_the_start_keeps_nobody_waiting(
    tmp_path: Path, lite_s: Path, redis_server: RedisServer, shared: Path
) -> None:
    clip = shared / "media" / "car-detection.mp4"
    away = f"rtsp://user:hunter2@127.0.0.1:{free_port()}/stream"
    cameras = [{"id": "away", "url": away}, {"id": "yard", "url": str(clip), "max_fps": 10}]
    file = runs.write_config(tmp_path, cameras, weights=lite_s, redis_url=redis_server.url)

    with runs.running(tmp_path, file) as run:
        runs.eventually(
            lambda: len(runs.entries(redis_server.url, "yard", "events")) == 1, within=60
        )
        assert run.process.poll() is None
        run.process.send_signal(signal.SIGTERM)
        assert run.process.wait(25) == 0, run.said

    assert "away: rtsp://***@127.0.0.1" in run.said
    assert "it is tried again in" in run.said
    (end,) = (entry.data for entry in runs.entries(redis_server.url, "away", "events"))
    assert (end["frames"], end["reason"]) == (0, "stopped")


@pytest.mark.parametrize("role", ["ingest:gate", "infer:infer", "publish:publish"])
def test_every_session_ends_once_whoever_dies_meanwhile(
    tmp_path: Path, lite_s: Path, redis_server: RedisServer, role: str
) -> None:
    with media.rtsp_camera(frames=FRAMES, connections=5) as url:
        file = runs.write_config(
            tmp_path, [{"id": "gate", "url": url}], weights=lite_s, redis_url=redis_server.url
        )
        with runs.running(tmp_path, file) as run:
            for already in (1, 2):
                runs.eventually(lambda a=already: ends_of(redis_server.url) >= a, within=60)
                os.kill(runs.workers_of(run)[role], signal.SIGKILL)
            runs.eventually(lambda: ends_of(redis_server.url) >= 5, within=90)
            run.process.send_signal(signal.SIGTERM)
            assert run.process.wait(25) == 0, run.said

    ends, reasons = accounted_sessions(redis_server.url)
    assert reasons <= {"superseded", "crash"}
    last = runs.LastLine.of(run.said)
    assert last.published + sum(last.dropped.values()) == sum(end["frames"] for end in ends)


def ends_of(url: str) -> int:
    return len(runs.entries(url, "gate", "events"))
