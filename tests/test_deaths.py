"""Runs that are hurt, stopped or badly placed, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests import runs
from tests.servers import RedisServer


def config(
    folder: Path, clip: Path, weights: Path, url: str = "embedded", **camera: object
) -> Path:
    cameras = [{"id": "cars", "url": str(clip)} | camera]
    return runs.write_config(folder, cameras, weights=weights, redis_url=url)


@pytest.fixture
def clip(shared: Path) -> Path:
    return shared / "media" / "car-detection.mp4"


@pytest.mark.parametrize("after", [0.0, 0.2, 0.5, 1.0])
def test_a_signal_at_any_moment_ends_a_run_in_order(
    tmp_path: Path, clip: Path, lite_s: Path, after: float
) -> None:
    with runs.running(tmp_path, config(tmp_path, clip, lite_s, loop=True)) as run:
        runs.eventually(lambda: runs.children(run.process.pid), within=10)
        time.sleep(after)

        assert run.terminate() == 0
    assert "SIGTERM: draining" in run.said
    assert "Traceback" not in run.said


def test_a_device_that_is_not_there_is_said_at_once(
    tmp_path: Path, clip: Path, lite_s: Path
) -> None:
    cameras = [{"id": "cars", "url": str(clip)}]
    file = runs.write_config(
        tmp_path, cameras, weights=lite_s, redis_url="embedded", device="cuda:99"
    )

    began = time.monotonic()
    done = runs.vedette(tmp_path, "run", file)

    assert done.returncode == 2
    assert time.monotonic() - began < 10
    assert "model.device: found cuda:99" in done.stderr


def test_an_embedded_redis_that_is_killed_comes_back_with_what_it_had(
    tmp_path: Path, clip: Path, lite_s: Path
) -> None:
    with runs.running(tmp_path, config(tmp_path, clip, lite_s)) as run:
        runs.eventually(lambda: "network:" in run.said, within=30)
        time.sleep(0.3)
        os.kill(runs.workers_of(run)["redis"], signal.SIGKILL)

        assert run.process.wait(60) == 0
    assert "was killed by SIGKILL; it is started again on its data" in run.said
    with runs.embedded(tmp_path) as url:
        assert [entry.data["seq"] for entry in runs.entries(url, "cars")] == list(range(377))


def test_an_end_that_redis_did_not_confirm_is_not_success(
    tmp_path: Path, clip: Path, lite_s: Path, kept_redis_server: RedisServer
) -> None:
    file = config(tmp_path, clip, lite_s, kept_redis_server.url, loop=True)
    with runs.running(tmp_path, file) as run:
        runs.eventually(lambda: runs.length(kept_redis_server.url, "cars") > 10, within=60)
        kept_redis_server.kill()
        run.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        run.process.send_signal(signal.SIGTERM)

        assert run.process.wait(5) == 3
    kept_redis_server.start()
    assert "the end of 1 camera(s) was not confirmed" in run.said.splitlines()[-1]


def test_a_run_whose_terminal_is_gone_goes_on(
    tmp_path: Path, clip: Path, lite_s: Path, redis_server: RedisServer
) -> None:
    file = config(tmp_path, clip, lite_s, redis_server.url)

    closed = subprocess.run(
        ["bash", "-c", f"exec {runs.VEDETTE} run {file} 2>&-"],
        env=runs.environment(tmp_path),
        stdin=subprocess.DEVNULL,
        timeout=60,
    )

    assert closed.returncode == 0
    assert runs.length(redis_server.url, "cars") == 377


def test_what_lies_in_the_working_directory_is_not_imported(
    tmp_path: Path, clip: Path, lite_s: Path, redis_server: RedisServer
) -> None:
    for name in ("pipeline", "redis", "numpy", "workers"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from here')\n")
    file = config(tmp_path, clip, lite_s, redis_server.url)

    done = subprocess.run(
        [runs.VEDETTE, "run", str(file)],
        cwd=tmp_path,
        env=runs.environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("variable", ["XDG_RUNTIME_DIR", "XDG_STATE_HOME"])
def test_a_folder_that_cannot_be_made_is_named(
    tmp_path: Path, clip: Path, lite_s: Path, variable: str
) -> None:
    done = subprocess.run(
        [runs.VEDETTE, "run", str(config(tmp_path, clip, lite_s))],
        env=runs.environment(tmp_path) | {variable: "/dev/null"},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 2
    assert f"set {variable} to a folder of yours" in done.stderr
    assert "Traceback" not in done.stderr


def test_too_few_open_files_are_said_before_anything_starts(
    tmp_path: Path, clip: Path, lite_s: Path
) -> None:
    file = config(tmp_path, clip, lite_s)

    done = subprocess.run(
        ["bash", "-c", f"ulimit -n 48; exec {runs.VEDETTE} run {file}"],
        env=runs.environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 2
    assert "1 cameras need 76 open files and the limit is 48" in done.stderr


@pytest.mark.parametrize("live", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_camera_whose_key_holds_something_else_stops_no_other(
    tmp_path: Path, clip: Path, lite_s: Path, redis_server: RedisServer, live: bool
) -> None:
    cameras = [
        {"id": "sick", "url": str(clip), "live": live, "loop": live},
        {"id": "well", "url": str(clip)},
    ]
    file = runs.write_config(tmp_path, cameras, weights=lite_s, redis_url=redis_server.url)
    with redis_server.client() as client:
        client.set("vedette:{sick}:detections", "somebody's own")

    with runs.running(tmp_path, file) as run:
        runs.eventually(lambda: runs.entries(redis_server.url, "well", "events"), within=60)
        if live:  # it waits until somebody has mended that
            run.process.send_signal(signal.SIGTERM)
        assert run.process.wait(25) == (3 if live else 1)

    assert runs.length(redis_server.url, "well") == 377
    assert "sick: a key of 'sick' is no stream" in run.said
