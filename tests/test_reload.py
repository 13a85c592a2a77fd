"""Cameras that come and go while a run goes on: SIGHUP, `--watch`, `check --against`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.errors import ConfigError
from tests import media, runs
from tests.servers import RedisServer
from workers.changes import Changes, changes, fingerprint
from workers.preflight import prepare

Edit = Callable[[dict[str, Any]], object]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    media.encode(path, frames=60, size=(320, 192), rate=15)
    return path


def camera(name: str, clip: Path, **more: object) -> dict[str, Any]:
    """One that plays the clip for ever, like a camera."""
    return {"id": name, "url": str(clip), "live": True, "loop": True, **more}


def edit(file: Path, change: Edit) -> None:
    config = yaml.safe_load(file.read_text())
    change(config)
    draft = file.with_name("draft")
    draft.write_text(yaml.safe_dump(config))
    draft.replace(file)


@contextmanager
def going(
    folder: Path, clip: Path, weights: Path, url: str, *options: str
) -> Iterator[tuple[runs.Running, Path]]:
    """A run of the cameras `stays`, `goes` and `differs`, all of which publish."""
    cameras = [camera(name, clip) for name in ("stays", "goes", "differs")]
    file = runs.write_config(folder, cameras, weights=weights, redis_url=url)
    with runs.running(folder, file, *options) as run:
        for one in cameras:
            runs.eventually(lambda one=one: runs.length(url, one["id"]) > 3, within=40)
        yield run, file


def test_only_cameras_that_differ_come_and_go(
    tmp_path: Path, clip: Path, ours: Path, redis_server: RedisServer
) -> None:
    url = redis_server.url
    with going(tmp_path, clip, ours, url) as (run, file):
        before = runs.workers_of(run)
        edit(
            file,
            lambda config: config.update(
                cameras=[
                    camera("comes", clip),
                    camera("differs", clip, confidence=0.9),
                    camera("stays", clip, confidence=0.25),  # the default, written out
                ]
            ),
        )
        run.process.send_signal(signal.SIGHUP)
        runs.eventually(lambda: runs.length(url, "comes") > 3, within=40)
        runs.eventually(lambda: sessions(url, "differs")[-1][1] == 0.9, within=40)
        runs.eventually(lambda: "ingest:goes" not in runs.workers_of(run), within=20)
        after = runs.workers_of(run)
        assert run.terminate() == 0, run.said

    for line in (
        "config: camera comes: is added",
        "config: camera goes: is removed",
        "config: camera differs: begins anew, with another confidence",
    ):
        assert line in run.said
    kept = ("infer:infer", "publish:publish", "ingest:stays")
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert after["ingest:differs"] != before["ingest:differs"]
    assert len(sessions(url, "stays")) == 1
    assert [confidence for _, confidence in sessions(url, "differs")] == [0.25, 0.9]
    assert [end["reason"] for end in ends(url, "goes")] == ["stopped"]
    for name in ("stays", "goes", "differs", "comes"):
        assert_accounted(url, name)
    last = runs.LastLine.of(run.said)
    assert last.published == sum(
        runs.length(url, name) for name in ("stays", "goes", "differs", "comes")
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda config: config["cameras"][0].update(max_fps=-1), "cameras[0].max_fps: found -1"),
        (lambda config: config.pop("model"), "model: is missing"),
        (
            lambda config: (config["model"].update(iou=0.6), config["cameras"].pop()),
            "model.iou: cannot change while it runs; start it anew for that",
        ),
    ],
    ids=["mistake", "incomplete", "fixed"],
)
def test_a_config_that_cannot_be_taken_changes_nothing_and_says_why(
    tmp_path: Path, clip: Path, ours: Path, redis_server: RedisServer, change: Edit, said: str
) -> None:
    with going(tmp_path, clip, ours, redis_server.url) as (run, file):
        before = runs.workers_of(run)
        edit(file, change)
        run.process.send_signal(signal.SIGHUP)
        runs.eventually(lambda: "the config was not taken: nothing changes" in run.said, within=10)
        assert said in run.said
        length = runs.length(redis_server.url, "differs")
        runs.eventually(lambda: runs.length(redis_server.url, "differs") > length + 3, within=20)
        assert runs.workers_of(run) == before
        assert run.terminate() == 0, run.said

    assert len(sessions(redis_server.url, "differs")) == 1


@pytest.mark.slow
def test_a_watched_file_needs_no_signal(
    tmp_path: Path, clip: Path, ours: Path, redis_server: RedisServer
) -> None:
    url = redis_server.url
    with going(tmp_path, clip, ours, url, "--watch") as (run, file):
        edit(file, lambda config: config["cameras"].append(camera("comes", clip)))
        runs.eventually(lambda: runs.length(url, "comes") > 3, within=40)
        edit(file, lambda config: config["cameras"].pop())
        runs.eventually(lambda: ends(url, "comes"), within=20)
        assert run.terminate() == 0, run.said

    assert run.said.count("config: ") == 2


@pytest.mark.slow
def test_a_camera_goes_also_when_a_worker_dies_with_it(
    tmp_path: Path, clip: Path, ours: Path, redis_server: RedisServer
) -> None:
    url = redis_server.url
    with going(tmp_path, clip, ours, url) as (run, file):
        edit(file, lambda config: config["cameras"][2].update(confidence=0.9))
        workers = runs.workers_of(run)
        run.process.send_signal(signal.SIGHUP)
        runs.eventually(lambda: "differs: begins anew" in run.said, within=10)
        os.kill(workers["infer:infer"], signal.SIGKILL)
        runs.eventually(lambda: sessions(url, "differs")[-1][1] == 0.9, within=60)
        edit(file, lambda config: config["cameras"].pop(1))
        run.process.send_signal(signal.SIGSTOP)
        run.process.send_signal(signal.SIGHUP)
        os.kill(workers["ingest:goes"], signal.SIGKILL)
        run.process.send_signal(signal.SIGCONT)
        runs.eventually(lambda: "camera goes: is removed" in run.said, within=10)
        length = runs.length(url, "stays")
        runs.eventually(lambda: runs.length(url, "stays") > length + 3, within=40)
        assert "ingest:goes" not in runs.workers_of(run)
        assert run.terminate() == 0, run.said

    for name in ("stays", "goes", "differs"):
        assert_accounted(url, name)


@pytest.mark.slow
def test_a_camera_whose_ingest_is_about_to_be_started_again_goes_or_begins_anew_once(
    tmp_path: Path, clip: Path, ours: Path, redis_server: RedisServer
) -> None:
    url = redis_server.url
    with going(tmp_path, clip, ours, url) as (run, file):
        for _ in range(4):  # each makes the wait longer
            for name in ("goes", "differs"):
                runs.eventually(lambda name=name: kill(run, f"ingest:{name}"), within=40)
        edit(file, lambda config: config["cameras"][2].update(confidence=0.9))
        edit(file, lambda config: config["cameras"].pop(1))
        run.process.send_signal(signal.SIGHUP)
        runs.eventually(lambda: sessions(url, "differs")[-1][1] == 0.9, within=40)
        time.sleep(5)
        arguments = [
            Path(f"/proc/{pid}/cmdline").read_bytes() for pid in runs.children(run.process.pid)
        ]
        assert sum(b"\0ingest\0differs\0" in one for one in arguments) == 1
        assert sum(b"\0ingest\0goes\0" in one for one in arguments) == 0
        assert run.terminate() == 0, run.said


@pytest.mark.slow
def test_a_file_that_goes_while_redis_is_away_ends_nothing_else(
    tmp_path: Path, clip: Path, ours: Path, kept_redis_server: RedisServer
) -> None:
    server = kept_redis_server
    server.kill()
    cameras = [camera("stays", clip), {"id": "goes", "url": str(clip)}]
    file = runs.write_config(tmp_path, cameras, weights=ours, redis_url=server.url)
    with runs.running(tmp_path, file) as run:
        runs.eventually(lambda: "waiting for it" in run.said, within=40)
        edit(file, lambda config: config["cameras"].pop())
        run.process.send_signal(signal.SIGHUP)
        runs.eventually(lambda: "camera goes: is removed" in run.said, within=10)
        edit(file, lambda config: config["cameras"].append({"id": "goes", "url": str(clip)}))
        run.process.send_signal(signal.SIGHUP)
        runs.eventually(lambda: "camera goes: is added" in run.said, within=10)
        server.start()
        runs.eventually(lambda: runs.length(server.url, "stays") > 3, within=60)
        runs.eventually(lambda: runs.length(server.url, "goes") == 60, within=60)
        assert run.terminate() == 0, run.said


@pytest.mark.slow
def test_a_loop_that_differs_is_another_epoch(
    tmp_path: Path, clip: Path, ours: Path, redis_server: RedisServer
) -> None:
    url = redis_server.url
    loop = {"id": "yard", "url": str(clip), "loop": True}
    file = runs.write_config(tmp_path, [loop], weights=ours, redis_url=url)
    with runs.running(tmp_path, file) as run:
        runs.eventually(lambda: runs.length(url, "yard") > 70, within=40)
        edit(file, lambda config: config["cameras"][0].update(max_fps=5))
        run.process.send_signal(signal.SIGHUP)
        runs.eventually(lambda: len(sessions(url, "yard")) == 2, within=40)
        assert run.terminate() == 0, run.said

    epochs = [entry.id.split("-")[0] for entry in runs.entries(url, "yard")]
    assert list(dict.fromkeys(epochs)) == ["1", "2"]
    assert_accounted(url, "yard")


def test_another_secret_is_tried_at_once(
    tmp_path: Path, ours: Path, redis_server: RedisServer
) -> None:
    refusal = 'RTSP/1.0 401 Unauthorized\r\nCSeq: {}\r\nWWW-Authenticate: Basic realm="x"\r\n\r\n'
    secret = tmp_path / "password"
    secret.write_text("wrong\n")
    with media.rtsp_door(refusal) as door:
        url = door.replace("hunter2", "${file:password}")
        file = runs.write_config(
            tmp_path, [{"id": "gate", "url": url}], weights=ours, redis_url=redis_server.url
        )
        with runs.running(tmp_path, file, "--watch") as run:
            runs.eventually(lambda: "it is tried again in" in run.said, within=30)
            secret.write_text("other\n")
            runs.eventually(lambda: run.said.count("it is tried again in") == 2, within=20)
            assert run.terminate() == 0, run.said

    assert "config: camera gate: begins anew, with another url" in run.said
    assert "wrong" not in run.said
    assert "other" not in run.said.replace("another", "")


@pytest.mark.slow
def test_a_camera_that_refused_is_tried_again_when_somebody_asks(
    tmp_path: Path, clip: Path, ours: Path, redis_server: RedisServer
) -> None:
    refusal = 'RTSP/1.0 401 Unauthorized\r\nCSeq: {}\r\nWWW-Authenticate: Basic realm="x"\r\n\r\n'
    with media.rtsp_door(refusal) as door:
        cameras = [{"id": "gate", "url": door}, camera("stays", clip)]
        file = runs.write_config(tmp_path, cameras, weights=ours, redis_url=redis_server.url)
        with runs.running(tmp_path, file) as run:
            runs.eventually(lambda: "it is tried again in" in run.said, within=30)
            runs.eventually(lambda: runs.length(redis_server.url, "stays") > 3, within=40)
            run.process.send_signal(signal.SIGHUP)
            runs.eventually(lambda: run.said.count("it is tried again in") == 2, within=20)
            assert run.terminate() == 0, run.said

    assert "config: nothing differs" in run.said
    assert run.said.count("gate: was refused, and is tried again") == 1
    assert len(sessions(redis_server.url, "stays")) == 1


def test_the_changes_are_told_beforehand(
    tmp_path: Path, clip: Path, ours: Path, redis_server: RedisServer
) -> None:
    with going(tmp_path, clip, ours, redis_server.url) as (run, file):
        same = runs.vedette(tmp_path, "check", file, "--against", "run")
        edit(file, lambda config: config["cameras"].pop(1))
        less = runs.vedette(tmp_path, "check", file, "--against", file)
        edit(file, lambda config: config["redis"].update(prefix="other"))
        other = runs.vedette(tmp_path, "check", file, "--against", "run")
        none = runs.vedette(tmp_path, "check", file, "--against", "walk")
        assert run.terminate() == 0, run.said

    assert (same.returncode, same.stdout.splitlines()[0]) == (0, "nothing differs")
    assert (less.returncode, less.stdout.splitlines()[0]) == (0, "camera goes: is removed")
    assert other.returncode == 2
    assert other.stderr.startswith("redis.prefix: cannot change while it runs")
    assert none.returncode == 2
    assert none.stderr == "--against: no run of walk is going on, must be one of: run\n"


@pytest.mark.slow
def test_a_run_whose_terminal_is_closed_drains(
    tmp_path: Path, clip: Path, ours: Path, redis_server: RedisServer
) -> None:
    url = redis_server.url
    file = runs.write_config(tmp_path, [camera("gate", clip)], weights=ours, redis_url=url)
    terminal, end = os.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", runs.VEDETTE, "run", str(file)],
        env=runs.environment(tmp_path),
        stdin=end,
        stderr=end,
    )
    os.close(end)
    os.set_blocking(terminal, False)

    def is_published() -> bool:
        with contextlib.suppress(BlockingIOError):
            os.read(terminal, 65_536)  # else the run waits for whoever looks at it
        return runs.length(url, "gate") > 3

    runs.eventually(is_published, within=40)
    os.close(terminal)

    assert process.wait(25) == 0
    assert [end["reason"] for end in ends(url, "gate")] == ["stopped"]


def test_what_comes_to_the_same_is_the_same(tmp_path: Path, clip: Path, ours: Path) -> None:
    def plan(model: dict[str, Any], **cameras: dict[str, Any]) -> Any:
        listed = [{"id": name, "url": str(clip), **rest} for name, rest in cameras.items()]
        file = runs.write_config(tmp_path, listed, weights=ours, redis_url="redis://h", **model)
        return fingerprint(prepare(file))

    before = plan({"confidence": 0.3}, gate={}, yard={"confidence": 0.5}, door={"live": False})
    written_out = plan({}, gate={"confidence": 0.3}, yard={"confidence": 0.5}, door={
        "live": None, "confidence": 0.3})  # fmt: skip
    moved = plan({"confidence": 0.4}, yard={"confidence": 0.5, "max_fps": 5}, door={}, hall={})

    assert not changes(before, written_out)
    assert changes(before, moved) == Changes(
        added=("hall",),
        removed=("gate",),
        restarted={"yard": ("max_fps",), "door": ("confidence",)},
    )
    with pytest.raises(ConfigError, match=r"model\.max_batch: cannot change while it runs"):
        changes(before, plan({"max_batch": 4}, gate={}))


def kill(run: runs.Running, worker: str) -> bool:
    """Whether it was there to be killed."""
    pid = runs.workers_of(run).get(worker)
    if pid is None:
        return False
    os.kill(pid, signal.SIGKILL)
    return True


# ── what is in Redis ──────────────────────────────────────────────────────────────────────────


def sessions(url: str, name: str) -> list[tuple[str, float]]:
    """Sessions in order, and the confidence that each was published with."""
    found = [
        (entry.data["session"], entry.data["model"]["confidence"])
        for entry in runs.entries(url, name)
    ]
    return list(dict.fromkeys(found))


def ends(url: str, name: str) -> list[dict[str, Any]]:
    events = [entry.data for entry in runs.entries(url, name, "events")]
    return [event for event in events if event["state"] == "ended"]


def assert_accounted(url: str, name: str) -> None:
    """Each session has one end, and all its frames are published or dropped."""
    published = runs.entries(url, name)
    for end in (found := ends(url, name)):
        messages = [e.data for e in published if e.data["session"] == end["session"]]
        dropped = sum(sum(message["dropped"].values()) for message in (*messages, end))
        assert len(messages) + dropped == end["frames"], end
    assert len(found) == len({end["session"] for end in found})
    assert {entry.data["session"] for entry in published} <= {end["session"] for end in found}
