"""Cameras on the network that go away and come back."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests import media, rtsp, runs
from tests.marks import first_now
from tests.servers import RedisServer, free_port

FRAMES = 12


def accounted_sessions(url: str) -> tuple[list[dict[str, Any]], set[str]]:
    """The ends of all sessions, in each of which every frame is accounted for; why some dropped."""
    ends = ends_of(url)
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
            runs.eventually(lambda: run.said.count("gate: it is back") == 2, within=60)
            runs.eventually(lambda: len(ends_of(redis_server.url)) == 3, within=60)
            run.process.send_signal(signal.SIGTERM)
            assert run.process.wait(25) == 0, run.said

    ends, reasons = accounted_sessions(redis_server.url)
    for end in ends:
        assert (end["frames"], end["fault"], end["complete"]) == (FRAMES, "network", False)
    assert reasons <= {"superseded", "surplus"}
    last = runs.LastLine.of(run.said)
    assert last.published + sum(last.dropped.values()) == 3 * FRAMES
    assert "hunter2" not in run.said
    told = states_of(redis_server.url, "gate")
    assert told[0] in ("connecting", "live")
    assert [state for state in told if state != "connecting"][:4] == [
        "live",
        "ended",
        "backoff",
        "live",
    ]


def test_a_camera_that_is_away_at_the_start_keeps_nobody_waiting(
    tmp_path: Path, lite_s: Path, redis_server: RedisServer, shared: Path
) -> None:
    clip = shared / "media" / "car-detection.mp4"
    away = f"rtsp://user:hunter2@127.0.0.1:{free_port()}/stream"
    cameras = [{"id": "away", "url": away}, {"id": "yard", "url": str(clip), "max_fps": 10}]
    file = runs.write_config(tmp_path, cameras, weights=lite_s, redis_url=redis_server.url)

    with runs.running(tmp_path, file) as run:
        runs.eventually(lambda: len(ends_of(redis_server.url, "yard")) == 1, within=60)
        assert run.process.poll() is None
        run.process.send_signal(signal.SIGTERM)
        assert run.process.wait(25) == 0, run.said

    assert "away: rtsp://***@127.0.0.1" in run.said
    assert "it is tried again in" in run.said
    (end,) = ends_of(redis_server.url, "away")
    assert states_of(redis_server.url, "away") == ["connecting", "backoff", "ended"]
    assert states_of(redis_server.url, "yard") == ["ended"]
    assert (end["frames"], end["reason"]) == (0, "stopped")


@pytest.mark.parametrize("role", first_now(["ingest:gate", "infer:infer", "publish:publish"]))
def test_every_session_ends_once_whoever_dies_meanwhile(
    tmp_path: Path, lite_s: Path, redis_server: RedisServer, role: str
) -> None:
    with media.rtsp_camera(frames=FRAMES, connections=5) as url:
        file = runs.write_config(
            tmp_path, [{"id": "gate", "url": url}], weights=lite_s, redis_url=redis_server.url
        )
        with runs.running(tmp_path, file) as run:
            for already in (1, 2):
                runs.eventually(lambda a=already: len(ends_of(redis_server.url)) >= a, within=60)
                os.kill(runs.workers_of(run)[role], signal.SIGKILL)
            runs.eventually(lambda: len(ends_of(redis_server.url)) >= 5, within=90)
            run.process.send_signal(signal.SIGTERM)
            assert run.process.wait(25) == 0, run.said

    ends, reasons = accounted_sessions(redis_server.url)
    assert reasons <= {"superseded", "surplus", "crash"}
    last = runs.LastLine.of(run.said)
    assert last.published + sum(last.dropped.values()) == sum(end["frames"] for end in ends)


@pytest.mark.slow
@pytest.mark.parametrize("role", ["infer:infer", "publish:publish"])
def test_a_stop_between_two_sessions_says_no_end_twice(
    tmp_path: Path, lite_s: Path, redis_server: RedisServer, role: str
) -> None:
    """The camera's next caller is kept waiting: it is away until the end."""
    with media.rtsp_camera(frames=FRAMES) as url:
        file = runs.write_config(
            tmp_path, [{"id": "gate", "url": url}], weights=lite_s, redis_url=redis_server.url
        )
        with runs.running(tmp_path, file) as run:
            runs.eventually(lambda: len(ends_of(redis_server.url)) == 1, within=60)
            before = runs.workers_of(run)[role]
            os.kill(before, signal.SIGKILL)
            runs.eventually(lambda: runs.workers_of(run).get(role, before) != before, within=20)
            time.sleep(2)  # until it is up, and the camera begun with it
            run.process.send_signal(signal.SIGTERM)
            assert run.process.wait(25) == 0, run.said

    ends, reasons = accounted_sessions(redis_server.url)
    assert (len(ends), ends[0]["frames"]) == (1, FRAMES)
    assert reasons <= {"superseded", "surplus"}
    assert states_of(redis_server.url, "gate")[-1] == "backoff"


def test_a_camera_that_kills_its_process_while_it_is_opened_is_told_to_be_away(
    tmp_path: Path, ours: Path, redis_server: RedisServer
) -> None:
    with rtsp.camera() as camera:
        camera.faults.silent_on = "DESCRIBE"
        file = runs.write_config(
            tmp_path,
            [{"id": "gate", "url": camera.url}],
            weights=ours,
            redis_url=redis_server.url,
        )
        with runs.running(tmp_path, file) as run:
            runs.eventually(lambda: camera.describes == 1, within=60)
            os.kill(runs.workers_of(run)["ingest:gate"], signal.SIGKILL)
            camera.faults.silent_on = None
            runs.eventually(lambda: runs.length(redis_server.url, "gate") > 0, within=60)
            assert run.terminate() == 0, run.said

    events = [entry.data for entry in runs.entries(redis_server.url, "gate", "events")]
    told = [(event["state"], event.get("fault")) for event in events]
    assert told == [("connecting", None), ("backoff", "us"), ("live", None), ("ended", None)]
    assert events[1]["reason"] == "its ingest process died"


def test_a_camera_that_shows_nothing_holds_up_no_stop(
    tmp_path: Path, ours: Path, redis_server: RedisServer
) -> None:
    with rtsp.camera() as blind, rtsp.camera() as silent, rtsp.camera() as well:
        blind.faults.skip_keyframes = True
        silent.faults.accept_silent = True
        named = {"blind": blind, "silent": silent, "well": well}
        cameras = [{"id": name, "url": camera.url} for name, camera in named.items()]
        file = runs.write_config(tmp_path, cameras, weights=ours, redis_url=redis_server.url)
        with runs.running(tmp_path, file) as run:
            runs.eventually(lambda: runs.length(redis_server.url, "well") > 5, within=60)
            runs.eventually(lambda: min(blind.connections, silent.connections) > 0, within=20)
            since = time.monotonic()
            assert run.terminate() == 0, run.said
            assert time.monotonic() - since < 8

    assert states_of(redis_server.url, "well")[-1] == "ended"


@pytest.mark.slow
def test_a_process_that_hangs_is_killed_and_its_camera_connected_again(
    tmp_path: Path, lite_s: Path, redis_server: RedisServer
) -> None:
    hold = threading.Event()
    with media.rtsp_camera(frames=FRAMES, connections=2, then=hold.wait) as url:
        file = runs.write_config(
            tmp_path, [{"id": "gate", "url": url}], weights=lite_s, redis_url=redis_server.url
        )
        with runs.running(tmp_path, file) as run:
            runs.eventually(lambda: runs.length(redis_server.url, "gate") > 0, within=60)
            stopped = runs.workers_of(run)["ingest:gate"]
            os.kill(stopped, signal.SIGSTOP)
            began = time.monotonic()
            runs.eventually(lambda: "stalled" in states_of(redis_server.url, "gate"), within=10)
            runs.eventually(lambda: not runs.is_running(stopped), within=25)
            assert time.monotonic() - began < 25
            hold.set()
            runs.eventually(lambda: len(ends_of(redis_server.url)) >= 2, within=60)
            run.process.send_signal(signal.SIGTERM)
            assert run.process.wait(25) == 0, run.said

    ends, _ = accounted_sessions(redis_server.url)
    assert (ends[0]["fault"], ends[0]["reason"]) == ("camera", "no picture for 20 s")
    assert "gate: no picture for 20 s: its process is killed" in run.said


def ends_of(url: str, camera: str = "gate") -> list[dict[str, Any]]:
    events = [entry.data for entry in runs.entries(url, camera, "events")]
    return [event for event in events if event["state"] == "ended"]


def states_of(url: str, camera: str) -> list[str]:
    return [entry.data["state"] for entry in runs.entries(url, camera, "events")]
