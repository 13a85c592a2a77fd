from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis

from pipeline.consume.latest import Latest, latest
from pipeline.errors import SinkUnavailable
from pipeline.wire import CameraMessage, DetectionsMessage, state_message, to_json
from tests import published, runs
from tests.servers import RedisServer, free_port
from workers.status import row_of

NOW = 1_000_000.0


def frame_of(at: float, session: str = "1-a") -> DetectionsMessage:
    return msgspec.structs.replace(published.frame(3), session=session, captured_at=at)


def event(state: str, session: str | None = None, fault: str | None = None) -> CameraMessage:
    told = state_message("gate", state, since=NOW - 60, reason="a reason", fault=fault)
    return msgspec.structs.replace(told, session=session)


def state_of(frame: DetectionsMessage | None, event: CameraMessage | None) -> str:
    return row_of(Latest("gate", 7, frame, event), NOW).state


@pytest.mark.parametrize("state", ["connecting", "live", "backoff", "refused", "frozen", "dark"])
def test_a_camera_is_what_its_last_event_says(state: str) -> None:
    row = row_of(Latest("gate", 7, frame_of(NOW - 1), event(state, fault="network")), NOW)

    assert (row.state, row.since, row.fault) == (state, NOW - 60, "network")
    assert row.frame_age == pytest.approx(1.0)


def test_without_an_event_the_frames_say_it() -> None:
    assert state_of(frame_of(NOW - 1), None) == "live"
    assert state_of(frame_of(NOW - 100), None) == "quiet"
    assert state_of(None, None) == "quiet"


def test_a_session_behind_one_that_ended_goes_on() -> None:
    assert state_of(frame_of(NOW - 1, "2-b"), event("ended", "1-a")) == "live"
    assert state_of(frame_of(NOW - 1, "1-a"), event("ended", "1-a")) == "ended"
    assert state_of(frame_of(NOW - 100, "0-z"), event("ended", "1-a")) == "ended"


def test_a_camera_that_was_live_long_ago_is_quiet() -> None:
    assert state_of(frame_of(NOW - 3600), event("live")) == "quiet"
    assert state_of(None, event("live")) == "quiet"
    assert state_of(frame_of(NOW - 3600), event("backoff")) == "backoff"


def put(url: str, camera: str, kind: str, message: Any) -> None:
    with redis.Redis.from_url(url) as client:
        fields = {"schema": message.schema, "data": to_json(message)}
        client.xadd(f"vedette:{{{camera}}}:{kind}", fields)


def test_the_sick_come_first_and_make_the_exit_code(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    put(redis_server.url, "attic", "events", event("live"))
    put(redis_server.url, "attic", "detections", frame_of(time.time()))
    put(redis_server.url, "yard", "events", event("backoff", fault="network"))

    table = runs.vedette(tmp_path, "status", "--redis", redis_server.url)
    lines = runs.vedette(tmp_path, "status", "--redis", redis_server.url, "--json")

    assert table.returncode == lines.returncode == 1
    header, first, second = table.stdout.splitlines()
    assert header.split()[:3] == ["camera", "state", "for"]
    assert first.split()[:2] == ["yard", "backoff"]
    assert first.endswith("a reason (at fault: network)")
    assert second.split()[:2] == ["attic", "live"]
    assert [json.loads(line)["camera"] for line in lines.stdout.splitlines()] == ["yard", "attic"]


def test_all_well_is_zero(tmp_path: Path, redis_server: RedisServer) -> None:
    put(redis_server.url, "attic", "events", event("live"))
    put(redis_server.url, "attic", "detections", frame_of(time.time()))

    assert runs.vedette(tmp_path, "status", "--redis", redis_server.url).returncode == 0


def test_a_file_that_failed_and_a_server_without_cameras_are_not_well(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    nothing = runs.vedette(tmp_path, "status", "--redis", redis_server.url)
    put(redis_server.url, "attic", "events", event("ended"))
    well = runs.vedette(tmp_path, "status", "--redis", redis_server.url)
    put(redis_server.url, "yard", "events", event("ended", fault="decoder"))
    failed = runs.vedette(tmp_path, "status", "--redis", redis_server.url)

    assert [one.returncode for one in (nothing, well, failed)] == [1, 0, 1]
    assert nothing.stderr == "vedette: nothing has been published there\n"
    assert failed.stdout.splitlines()[1].startswith("yard")


def test_a_config_is_enough_without_the_secrets_of_its_cameras(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    put(redis_server.url, "gate", "events", event("refused", fault="camera"))
    config = tmp_path / "site.yaml"
    config.write_text(
        "model: {weights: gone.safetensors, inputsize: 3}\n"
        f"redis: {{url: '{redis_server.url}', maxlen: many, spool: '${{env:NO_FOLDER}}'}}\n"
        "cameras: [{id: gate, url: 'rtsp://${env:NO_USER}:${env:NO_PASSWORD}@10.0.0.5/'}]\n"
    )

    table = runs.vedette(tmp_path, "status", str(config))

    assert (table.returncode, table.stderr) == (1, "")
    assert table.stdout.splitlines()[1].split()[:2] == ["gate", "refused"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1, 2]", "found a list of 2, must be a mapping of the keys"),
        ("redis: {url: embedded}", "cameras: is missing, must be a list of one or more cameras"),
        ("cameras: [3]", "cameras[0]: found 3, must be a mapping"),
        ("cameras: []", "cameras: found a list of 0, must be a list of one or more cameras"),
        ("cameras: {gate: {url: '${env:NO_SUCH}'}}", "cameras: found a mapping, must be a list"),
        ("cameras: [{url: a.mp4}]", "cameras[0].id: is missing"),
        ("cameras: [{id: a}]\nredis: {url: '${env:NO_SUCH}'}", "redis.url: the environment"),
    ],
)
def test_what_is_wrong_with_what_is_read_is_told(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(text)

    found = runs.vedette(tmp_path, "status", str(tmp_path / "site.yaml"))

    assert found.returncode == 2
    assert said in found.stderr


def test_what_cannot_be_read_is_as_if_it_were_not_there(redis_server: RedisServer) -> None:
    with redis.Redis.from_url(redis_server.url) as client:
        client.xadd("vedette:{gate}:events", {"data": b"nonsense"})

    assert latest(redis_server.url, prefix="vedette", cameras=None) == [
        Latest("gate", 0, None, None)
    ]


def test_a_redis_that_is_away_is_one_sentence() -> None:
    with pytest.raises(SinkUnavailable, match=r"127\.0\.0\.1"):
        latest(f"redis://127.0.0.1:{free_port()}", prefix="vedette", cameras=None)
