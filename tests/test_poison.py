"""Frames that kill the network, and a network or a publisher that hangs."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from tests import media, runs
from tests.servers import RedisServer
from workers.stillness import LEAST, MOST

# Python reads this at its start, in every child of the run that is given its folder: as a driver
# that fails on some pictures would, the network dies of any picture that is red.
SITECUSTOMIZE = """
import sys
if "infer" in sys.argv:
    from pipeline.runner import Runner
    detect = Runner._detect
    def poisoned(self, pixels, thresholds):
        middle = pixels[: len(thresholds), 96, 160].float()
        if ((middle[:, 0] > 200) & (middle[:, 1] < 60)).any():
            raise RuntimeError("CUDA error: device-side assert triggered")
        return detect(self, pixels, thresholds)
    Runner._detect = poisoned
"""


def red(index: int, width: int, height: int) -> np.ndarray:
    return np.broadcast_to(np.array([255, 0, 0], np.uint8), (height, width, 3)).copy()


@pytest.mark.slow
def test_a_camera_that_the_network_dies_of_rests_and_the_others_go_on(
    tmp_path: Path, ours: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SITECUSTOMIZE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    clips = {"good": media.bars, "poison": red}
    for name, draw in clips.items():
        media.encode(tmp_path / f"{name}.mp4", frames=30, size=(320, 192), rate=10, draw=draw)
    cameras = [
        {"id": name, "url": str(tmp_path / f"{clip}.mp4"), "live": True, "loop": True}
        for name, clip in (("a", "good"), ("b", "good"), ("bad", "poison"), ("c", "good"))
    ]
    config = runs.write_config(tmp_path, cameras, weights=ours, redis_url=redis_server.url)

    with runs.running(tmp_path, config) as run:
        runs.eventually(
            lambda: "bad: the network died again with its frames; it rests" in run.said, within=100
        )
        for name in "abc":
            length = runs.length(redis_server.url, name)
            runs.eventually(
                lambda name=name, length=length: runs.length(redis_server.url, name) > length + 20,
                within=40,
            )
        deaths = run.said.count("infer (process")
        assert run.terminate() == 0, run.said

    assert runs.length(redis_server.url, "bad") == 0
    assert 2 <= deaths <= 5
    assert "CUDA error: device-side assert triggered" in run.said


@pytest.mark.slow
@pytest.mark.parametrize("worker", ["infer", "publish"])
def test_a_worker_that_hangs_is_killed_and_started_again(
    tmp_path: Path, ours: Path, redis_server: RedisServer, worker: str
) -> None:
    clip = tmp_path / "clip.mp4"
    media.encode(clip, frames=60, size=(320, 192), rate=10)
    cameras = [
        {"id": "gate", "url": str(clip), "live": True, "loop": True},
        {"id": "yard", "url": str(clip), "loop": True, "max_fps": 5},
    ]
    config = runs.write_config(tmp_path, cameras, weights=ours, redis_url=redis_server.url)

    with runs.running(tmp_path, config) as run:
        for name in ("gate", "yard"):
            runs.eventually(lambda name=name: runs.length(redis_server.url, name) > 30, within=40)
        os.kill(runs.workers_of(run)[f"{worker}:{worker}"], signal.SIGSTOP)
        stopped = time.monotonic()
        runs.eventually(lambda: "no frame has gone on for" in run.said, within=MOST + 10)
        noticed = time.monotonic() - stopped
        for name in ("gate", "yard"):
            length = runs.length(redis_server.url, name)
            runs.eventually(
                lambda name=name, length=length: runs.length(redis_server.url, name) > length + 10,
                within=40,
            )
        assert run.terminate() == 0, run.said

    assert noticed > LEAST - 5  # how much later depends on how long it ever stood on this machine
    assert run.said.count("it is killed") == 1
    assert f"{worker} (process" in run.said
    seqs = [entry.data["seq"] for entry in runs.entries(redis_server.url, "yard")]
    dropped = [sum(e.data["dropped"].values()) for e in runs.entries(redis_server.url, "yard")]
    assert seqs == list(np.cumsum([1 + lost for lost in dropped]) - 1)
