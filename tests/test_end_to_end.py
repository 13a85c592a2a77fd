"""The main job: real clips, real weights, real processes, a real Redis."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from pipeline import wire
from tests import boxes, media, runs
from tests.servers import RedisServer
from tests.servers import redis_server as start_redis

CLIPS = {"cars": ("car-detection", 377), "people": ("one-by-one-person-detection", 1394)}


def clip(shared: Path, camera: str) -> Path:
    return shared / "media" / f"{CLIPS[camera][0]}.mp4"


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    return redis_server.url


@pytest.fixture(scope="module")
def both(shared: Path, lite_l: Path, tmp_path_factory: Any) -> dict[str, Any]:
    """One run over both clips in float32, and everything that it published."""
    folder = tmp_path_factory.mktemp("both")
    cameras = [{"id": camera, "url": str(clip(shared, camera))} for camera in CLIPS]
    with start_redis() as server:
        config = runs.write_config(
            folder, cameras, weights=lite_l, redis_url=server.url, precision="fp32"
        )
        done = runs.vedette(folder, "run", config)
        assert done.returncode == 0, done.stderr
        return {
            camera: {
                "entries": runs.entries(server.url, camera),
                "events": runs.entries(server.url, camera, "events"),
            }
            for camera in CLIPS
        }


@pytest.mark.parametrize("camera", CLIPS)
def test_every_frame_of_a_file_is_published_once_and_in_order(
    both: dict[str, Any], camera: str
) -> None:
    frames = CLIPS[camera][1]
    published = both[camera]["entries"]

    assert [entry.data["seq"] for entry in published] == list(range(frames))
    assert [entry.id for entry in published] == [f"1-{seq + 1}" for seq in range(frames)]
    assert len({entry.data["session"] for entry in published}) == 1
    assert all(entry.data["dropped"] == {} for entry in published)


@pytest.mark.parametrize("camera", CLIPS)
def test_every_message_is_valid_against_the_committed_schema(
    both: dict[str, Any], camera: str
) -> None:
    folder = Path(__file__).parents[1] / "docs" / "schema"
    detections = json.loads((folder / "vedette.detections-1.json").read_text())
    events = json.loads((folder / "vedette.camera-1.json").read_text())
    validator = jsonschema.Draft202012Validator(detections)

    for entry in both[camera]["entries"]:
        validator.validate(entry.data)
        assert entry.fields[b"schema"] == b"vedette.detections/1"
        name = (entry.data["camera"], entry.data["session"], entry.data["seq"])
        assert entry.fields[b"traceparent"].decode() == wire.traceparent(*name)
    for entry in both[camera]["events"]:
        jsonschema.validate(entry.data, events)


@pytest.mark.parametrize("camera", CLIPS)
def test_the_end_of_a_file_is_an_event(both: dict[str, Any], camera: str) -> None:
    (ended,) = both[camera]["events"]

    assert ended.data["state"] == "ended"
    assert ended.data["frames"] == CLIPS[camera][1]
    assert ended.data["last_id"] == both[camera]["entries"][-1].id
    assert ended.data["complete"] is True


@pytest.mark.parametrize("camera", CLIPS)
def test_what_the_original_network_sees_is_seen_and_nothing_else(
    both: dict[str, Any], camera: str, shared: Path
) -> None:
    expected = shared / "media" / "expected" / f"{CLIPS[camera][0]}.lite_l.json"
    theirs = json.loads(expected.read_text())["detections"]
    ours = [
        [(d["class_id"], d["confidence"], *d["box"]) for d in entry.data["detections"]]
        for entry in both[camera]["entries"]
    ]

    for wanted, given in ((theirs, ours), (ours, theirs)):
        count, found = boxes.matches(wanted, given)
        assert count > 100
        assert len(found) / count >= 0.95
        assert np.mean(found) >= 0.93


def test_a_live_camera_beside_a_file_is_fresh_and_accounts_for_every_frame(
    tmp_path: Path, shared: Path, lite_s: Path, redis_url: str
) -> None:
    cameras = [
        {"id": "gate", "url": str(clip(shared, "people")), "live": True, "loop": True},
        {"id": "yard", "url": str(clip(shared, "cars"))},
    ]
    config = runs.write_config(tmp_path, cameras, weights=lite_s, redis_url=redis_url)

    with runs.running(tmp_path, config) as run:
        runs.eventually(lambda: runs.entries(redis_url, "yard", "events"), within=60)
        assert run.terminate() == 0

    assert runs.length(redis_url, "yard") == 377
    runs.accounts_for_every_frame(redis_url, "gate")


def test_a_file_waits_for_a_redis_that_is_away_and_a_live_camera_does_not(
    tmp_path: Path, shared: Path, lite_s: Path, kept_redis_server: RedisServer
) -> None:
    cameras = [
        {"id": "gate", "url": str(clip(shared, "people")), "live": True, "loop": True},
        {"id": "yard", "url": str(clip(shared, "cars"))},
    ]
    config = runs.write_config(tmp_path, cameras, weights=lite_s, redis_url=kept_redis_server.url)

    with runs.running(tmp_path, config) as run:
        runs.eventually(lambda: runs.length(kept_redis_server.url, "yard") > 50, within=60)
        kept_redis_server.kill()
        time.sleep(4)
        kept_redis_server.start()
        runs.eventually(lambda: runs.length(kept_redis_server.url, "yard") == 377, within=60)
        assert run.terminate() == 0

    assert [entry.data["seq"] for entry in runs.entries(kept_redis_server.url, "yard")] == [
        *range(377)
    ]
    times = [entry.data["captured_at"] for entry in runs.entries(kept_redis_server.url, "gate")]
    assert max(np.diff(times)) < 1.0  # it went on looking while Redis was away
    runs.accounts_for_every_frame(kept_redis_server.url, "gate")
    assert "waiting for it" in run.said
    assert "is back" in run.said


def test_sigterm_drains_and_says_that_the_file_was_not_read_to_its_end(
    tmp_path: Path, shared: Path, lite_s: Path, redis_url: str
) -> None:
    cameras = [{"id": "people", "url": str(clip(shared, "people"))}]
    config = runs.write_config(tmp_path, cameras, weights=lite_s, redis_url=redis_url)

    with runs.running(tmp_path, config) as run:
        runs.eventually(lambda: runs.length(redis_url, "people") > 50, within=60)
        assert run.terminate() == 0

    published = runs.entries(redis_url, "people")
    (ended,) = runs.entries(redis_url, "people", "events")
    assert [entry.data["seq"] for entry in published] == list(range(len(published)))
    assert len(published) == ended.data["frames"] < 1394
    assert ended.data["complete"] is False
    assert ended.data["reason"] == "stopped"


def test_nothing_is_left_when_the_supervisor_is_killed(
    tmp_path: Path, shared: Path, lite_s: Path
) -> None:
    cameras = [{"id": "people", "url": str(clip(shared, "people")), "loop": True}]
    config = runs.write_config(tmp_path, cameras, weights=lite_s, redis_url="embedded")

    with runs.running(tmp_path, config) as run:
        runs.eventually(lambda: len(runs.workers_of(run)) == 4, within=30)
        workers = runs.workers_of(run)
        run.process.kill()
        run.process.wait()
        runs.eventually(lambda: not any(map(runs.is_running, workers.values())), within=5)


def test_a_bad_source_is_named_and_stops_no_other(
    tmp_path: Path, shared: Path, lite_s: Path, redis_url: str
) -> None:
    whole = clip(shared, "cars").read_bytes()
    (tmp_path / "text.mp4").write_text("this is no video\n" * 100)
    (tmp_path / "playlist.mp4").write_text(f"ffconcat version 1.0\nfile {clip(shared, 'cars')}\n")
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    media.encode_sound(tmp_path / "sound.mp4")
    names = ("text", "playlist", "sound", "cut")
    cameras = [{"id": name, "url": f"{name}.mp4"} for name in names]
    cameras.append({"id": "cars", "url": str(clip(shared, "cars"))})
    config = runs.write_config(tmp_path, cameras, weights=lite_s, redis_url=redis_url)

    done = runs.vedette(tmp_path, "run", config)

    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert runs.length(redis_url, "cars") == 377
    last = done.stderr.splitlines()[-1]
    for name in names:
        (ended,) = runs.entries(redis_url, name, "events")
        assert ended.data["fault"] == "camera"
        assert f"{name}: {ended.data['reason']}" in last
    cut = runs.entries(redis_url, "cut")
    assert 0 < len(cut) < 377
    assert [entry.data["seq"] for entry in cut] == list(range(len(cut)))


@pytest.mark.slow
def test_an_embedded_redis_ends_with_the_run_and_keeps_what_it_got(
    tmp_path: Path, shared: Path, lite_s: Path
) -> None:
    cameras = [{"id": "cars", "url": str(clip(shared, "cars"))}]
    config = runs.write_config(tmp_path, cameras, weights=lite_s, redis_url="embedded")

    first = runs.vedette(tmp_path, "run", config)
    second = runs.vedette(tmp_path, "run", config)
    third = runs.vedette(tmp_path, "run", config, "--again")

    assert [done.returncode for done in (first, second, third)] == [0, 0, 0], second.stderr
    assert "cars: its job is done already; --again publishes it anew" in second.stderr
    log = tmp_path / "state" / "vedette" / "run" / "redis" / "server.log"
    assert "ready to exit" in log.read_text().splitlines()[-1]
    with runs.embedded(tmp_path) as url:
        ids = [entry.id for entry in runs.entries(url, "cars")]
        sessions = {entry.data["session"] for entry in runs.entries(url, "cars")}
    assert ids == [f"{epoch}-{seq + 1}" for epoch in (1, 2) for seq in range(377)]
    assert len(sessions) == 2


def test_a_second_run_of_the_same_config_is_refused(
    tmp_path: Path, shared: Path, lite_s: Path, redis_url: str
) -> None:
    cameras = [{"id": "cars", "url": str(clip(shared, "cars")), "loop": True}]
    config = runs.write_config(tmp_path, cameras, weights=lite_s, redis_url=redis_url)

    with runs.running(tmp_path, config) as run:
        runs.eventually(lambda: runs.length(redis_url, "cars") > 1, within=60)
        second = runs.vedette(tmp_path, "run", config)

        assert second.returncode == 2
        assert f"(process {run.process.pid})" in second.stderr


def test_a_camera_reports_only_its_classes_at_its_threshold_and_rate(
    tmp_path: Path, shared: Path, lite_s: Path, redis_url: str
) -> None:
    camera = {"id": "cars", "url": str(clip(shared, "cars"))}
    thin = camera | {"id": "thin", "confidence": 0.35, "classes": ["car"], "max_fps": 6}
    config = runs.write_config(tmp_path, [camera, thin], weights=lite_s, redis_url=redis_url)

    done = runs.vedette(tmp_path, "run", config)

    assert done.returncode == 0, done.stderr
    everything = {entry.data["seq"]: entry.data for entry in runs.entries(redis_url, "cars")}
    published = [entry.data for entry in runs.entries(redis_url, "thin")]
    assert 178 <= len(published) <= 183  # 30.1 s at six frames a second
    runs.accounts_for_every_frame(redis_url, "thin")
    for message in published:
        wanted = [
            detection
            for detection in everything[message["seq"]]["detections"]
            if detection["label"] == "car" and detection["confidence"] > 0.35
        ]
        assert len(message["detections"]) == len(wanted)
        assert message["model"]["confidence"] == 0.35
    assert sum(len(message["detections"]) for message in published) > 5
