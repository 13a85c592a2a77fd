"""Workers that die are started again, and nobody downstream can tell."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests import media, runs
from tests.marks import first_now
from tests.servers import RedisServer

ROLES = ("ingest:yard", "infer:infer", "publish:publish")


@pytest.fixture
def clip(shared: Path) -> Path:
    return shared / "media" / "car-detection.mp4"


def kill(run: runs.Running, worker: str) -> None:
    os.kill(runs.workers_of(run)[worker], signal.SIGKILL)


def memory_of(process: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{process}/maps").read_text()
    return ""


@pytest.mark.parametrize("role", first_now(ROLES))
def test_a_file_is_published_once_and_in_order_whoever_dies(
    tmp_path: Path, clip: Path, lite_s: Path, redis_server: RedisServer, role: str
) -> None:
    cameras = [{"id": "yard", "url": str(clip), "max_fps": 10}]
    file = runs.write_config(tmp_path, cameras, weights=lite_s, redis_url=redis_server.url)

    with runs.running(tmp_path, file) as run:
        for already in (20, 120):
            runs.eventually(lambda a=already: runs.length(redis_server.url, "yard") > a, within=60)
            kill(run, role)
        assert run.process.wait(90) == 0, run.said

    published = [entry.data for entry in runs.entries(redis_server.url, "yard")]
    runs.accounts_for_every_frame(redis_server.url, "yard", frames=377)
    assert len({message["session"] for message in published}) == 1
    times = [message["captured_at"] - message["media_time"] for message in published]
    assert max(times) - min(times) < 0.001
    assert run.said.count("was killed by SIGKILL; it is started again") == 2
    last = runs.LastLine.of(run.said)
    assert last.published == len(published)
    assert last.dropped == {"max_fps": 377 - len(published)}


@pytest.mark.slow
def test_a_loop_goes_on_in_the_lap_where_it_was(
    tmp_path: Path, lite_s: Path, redis_server: RedisServer
) -> None:
    clip = tmp_path / "short.mp4"
    media.encode(clip, frames=30, rate=25)
    cameras = [{"id": "yard", "url": str(clip), "loop": True, "max_fps": 5}]
    file = runs.write_config(tmp_path, cameras, weights=lite_s, redis_url=redis_server.url)

    with runs.running(tmp_path, file) as run:
        for already in (60, 200):
            runs.eventually(lambda a=already: runs.length(redis_server.url, "yard") > a, within=60)
            kill(run, "publish:publish")
        assert run.terminate() == 0, run.said

    runs.accounts_for_every_frame(redis_server.url, "yard")
    published = [entry.data for entry in runs.entries(redis_server.url, "yard")]
    start = published[0]["captured_at"]
    for message in published:
        lap, frame = divmod(message["seq"], 30)
        assert frame % 5 == 0
        assert message["segment"] == lap
        assert message["media_time"] == pytest.approx(frame / 25)
        assert message["captured_at"] - start == pytest.approx(message["seq"] / 25, abs=1e-3)
    last = runs.LastLine.of(run.said)
    assert last.published == len(published)
    assert last.dropped == {"max_fps": runs.dropped(redis_server.url, "yard")}


@pytest.mark.parametrize(
    "roles",
    first_now(
        [
            ("ingest:gate",),
            ("infer:infer",),
            ("publish:publish",),
            ("ingest:gate", "publish:publish"),
            ("infer:infer", "publish:publish"),
            ("ingest:gate", "infer:infer", "publish:publish"),
        ]
    ),
    ids="+".join,
)
def test_a_live_camera_accounts_for_what_a_crash_took(
    tmp_path: Path, clip: Path, lite_s: Path, redis_server: RedisServer, roles: tuple[str, ...]
) -> None:
    cameras = [{"id": "gate", "url": str(clip), "live": True, "loop": True}]
    file = runs.write_config(tmp_path, cameras, weights=lite_s, redis_url=redis_server.url)

    with runs.running(tmp_path, file) as run:
        runs.eventually(lambda: runs.length(redis_server.url, "gate") > 20, within=60)
        for role in roles:
            kill(run, role)
        there = runs.length(redis_server.url, "gate")
        runs.eventually(lambda: runs.length(redis_server.url, "gate") > there + 20, within=60)
        assert run.terminate() == 0, run.said

    adds_up(redis_server, run, "gate", sessions=2 if "ingest:gate" in roles else 1)


@pytest.mark.parametrize("when", first_now(["before", "after"]))
@pytest.mark.parametrize("role", first_now(["ingest", "infer", "publish"]))
def test_a_worker_that_dies_around_a_signal_costs_no_camera_its_end(
    tmp_path: Path, clip: Path, lite_s: Path, redis_server: RedisServer, role: str, when: str
) -> None:
    cameras = [
        {"id": "gate", "url": str(clip), "live": True, "loop": True},
        {"id": "yard", "url": str(clip), "loop": True},
    ]
    file = runs.write_config(tmp_path, cameras, weights=lite_s, redis_url=redis_server.url)

    with runs.running(tmp_path, file) as run:
        for camera in ("gate", "yard"):
            runs.eventually(lambda c=camera: runs.length(redis_server.url, c) > 20, within=60)
        killed = [one for one in runs.workers_of(run) if one.startswith(role)]
        for worker in killed:
            kill(run, worker)
        if when == "before":
            runs.eventually(lambda: run.said.count("it is started again") == len(killed), within=5)
        code = run.terminate()

    for camera in ("gate", "yard"):
        runs.accounts_for_every_frame(redis_server.url, camera)
        assert len(runs.entries(redis_server.url, camera, "events")) == 1
    last = runs.LastLine.of(run.said)
    assert last.published == sum(runs.length(redis_server.url, c) for c in ("gate", "yard"))
    assert sum(last.dropped.values()) == runs.dropped(redis_server.url, "gate")
    # Of a death and a signal at once, either may be seen first.
    all_start_again = run.said.count("it is started again") == len(killed)
    if all_start_again or role == "publish":
        assert code == 0, run.said
    else:
        assert "was killed by SIGKILL" in run.said.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("role", ROLES)
def test_a_worker_that_dies_while_the_end_waits_for_redis_makes_no_second_end(
    tmp_path: Path, lite_s: Path, redis_server: RedisServer, role: str
) -> None:
    clip = tmp_path / "short.mp4"
    media.encode(clip, frames=12)  # fewer than a file's credits, so that it ends without Redis
    cameras = [
        {"id": "yard", "url": str(clip)},
        {"id": "gate", "url": str(clip), "live": True},
    ]
    file = runs.write_config(tmp_path, cameras, weights=lite_s, redis_url=redis_server.url)

    with runs.running(tmp_path, file) as run:
        with redis_server.client() as client:
            runs.eventually(lambda: client.exists("vedette:{yard}:owner"), within=60)
        with redis_server.frozen():
            time.sleep(2)
            kill(run, role)
            time.sleep(1.5)
        assert run.process.wait(60) == 0, run.said

    runs.accounts_for_every_frame(redis_server.url, "yard", frames=12)
    assert len(runs.entries(redis_server.url, "yard", "events")) == 1
    runs.accounts_for_every_frame(redis_server.url, "gate")


@pytest.mark.slow
def test_the_end_of_a_session_is_not_lost_with_the_publisher_that_held_it(
    tmp_path: Path, clip: Path, lite_s: Path, redis_server: RedisServer
) -> None:
    cameras = [{"id": "gate", "url": str(clip), "live": True, "loop": True}]
    file = runs.write_config(tmp_path, cameras, weights=lite_s, redis_url=redis_server.url)

    with runs.running(tmp_path, file) as run:
        runs.eventually(lambda: runs.length(redis_server.url, "gate") > 20, within=60)
        with redis_server.frozen():
            time.sleep(0.3)
            kill(run, "ingest:gate")
            time.sleep(0.1)
            runs.eventually(lambda: "memfd:" in memory_of_worker(run, "ingest:gate"), within=20)
            time.sleep(1)
            kill(run, "publish:publish")
            time.sleep(0.3)
        there = runs.length(redis_server.url, "gate")
        runs.eventually(lambda: runs.length(redis_server.url, "gate") > there + 20, within=60)
        assert run.terminate() == 0, run.said

    adds_up(redis_server, run, "gate", sessions=2)


@pytest.mark.slow
def test_an_end_that_waits_in_a_spool_is_not_said_twice(
    tmp_path: Path, lite_s: Path, redis_server: RedisServer
) -> None:
    clip = tmp_path / "short.mp4"
    media.encode(clip, frames=50, rate=25)
    cameras = [{"id": "gate", "url": str(clip), "live": True}]
    file = runs.write_config(tmp_path, cameras, weights=lite_s, redis_url=redis_server.url)
    file.write_text(file.read_text().replace("redis:\n", "redis:\n  durability: disk\n"))

    with runs.running(tmp_path, file) as run:
        runs.eventually(lambda: runs.length(redis_server.url, "gate") > 10, within=60)
        with redis_server.frozen():
            time.sleep(4)
            kill(run, "publish:publish")
            time.sleep(0.5)
        assert run.process.wait(60) == 0, run.said

    adds_up(redis_server, run, "gate", sessions=1)


@pytest.mark.slow
@pytest.mark.parametrize("role", ["infer:infer", "publish:publish"])
def test_a_file_that_is_stopped_while_it_catches_up_ends_where_it_was(
    tmp_path: Path, clip: Path, lite_s: Path, redis_server: RedisServer, role: str
) -> None:
    cameras = [{"id": "yard", "url": str(clip)}]
    file = runs.write_config(tmp_path, cameras, weights=lite_s, redis_url=redis_server.url)

    with runs.running(tmp_path, file) as run:
        runs.eventually(lambda: runs.length(redis_server.url, "yard") > 250, within=60)
        with redis_server.frozen():
            time.sleep(1)
            before = files_of(memory_of_worker(run, "ingest:yard"))
            kill(run, role)
            time.sleep(0.2)
        runs.eventually(lambda: files_of(memory_of_worker(run, "ingest:yard")) - before, within=30)
        assert run.terminate() == 0, run.said

    adds_up(redis_server, run, "yard", sessions=1)
    (ended,) = runs.entries(redis_server.url, "yard", "events")
    assert ended.data["frames"] >= 250


@pytest.mark.slow
def test_what_was_confirmed_between_two_deaths_of_publish_counts_once(
    tmp_path: Path, clip: Path, lite_s: Path, redis_server: RedisServer
) -> None:
    cameras = [{"id": "gate", "url": str(clip), "live": True, "loop": True}]
    file = runs.write_config(tmp_path, cameras, weights=lite_s, redis_url=redis_server.url)

    with runs.running(tmp_path, file) as run:
        runs.eventually(lambda: runs.length(redis_server.url, "gate") > 20, within=60)
        with redis_server.frozen():
            time.sleep(1.2)
            kill(run, "infer:infer")
            time.sleep(0.2)
        runs.eventually(lambda: "infer:infer" in runs.workers_of(run), within=40)
        os.kill(runs.workers_of(run)["infer:infer"], signal.SIGSTOP)
        time.sleep(2)
        kill(run, "publish:publish")
        time.sleep(0.2)
        runs.eventually(lambda: "publish:publish" in runs.workers_of(run), within=20)
        time.sleep(2.5)
        with redis_server.frozen():
            os.kill(runs.workers_of(run)["infer:infer"], signal.SIGCONT)
            runs.eventually(lambda: "memfd:" in memory_of_worker(run, "infer:infer"), within=40)
            time.sleep(0.4)
            kill(run, "publish:publish")
            time.sleep(0.3)
        there = runs.length(redis_server.url, "gate")
        runs.eventually(lambda: runs.length(redis_server.url, "gate") > there + 20, within=60)
        assert run.terminate() == 0, run.said

    adds_up(redis_server, run, "gate", sessions=1)


@pytest.mark.slow
@pytest.mark.parametrize("durability", ["memory", "disk"])
def test_streams_and_last_line_agree_whoever_dies_when(
    tmp_path: Path, clip: Path, lite_s: Path, kept_redis_server: RedisServer, durability: str
) -> None:
    cameras = [
        {"id": "gate", "url": str(clip), "live": True, "loop": True},
        {"id": "yard", "url": str(clip), "loop": True, "max_fps": 8},
        {"id": "job", "url": str(clip)},
    ]
    url = kept_redis_server.url
    file = runs.write_config(tmp_path, cameras, weights=lite_s, redis_url=url)
    text = file.read_text().replace("redis:\n", f"redis:\n  durability: {durability}\n")
    file.write_text(text)
    chance = random.Random(durability)

    with runs.running(tmp_path, file) as run:
        runs.eventually(lambda: min(runs.length(url, c["id"]) for c in cameras) > 5, within=60)
        until = time.monotonic() + 45
        while time.monotonic() < until:
            time.sleep(chance.uniform(0.2, 5))
            workers = sorted(runs.workers_of(run).items())
            for _, process in chance.sample(workers, min(len(workers), chance.choice((1, 1, 2)))):
                os.kill(process, signal.SIGKILL)
            if chance.random() < 0.2:
                with kept_redis_server.frozen():
                    time.sleep(chance.uniform(0.1, 3))
        code = run.terminate()

    assert code in (0, 1), run.said  # 1: a worker died while the run ended
    for camera in cameras:
        runs.accounts_for_every_frame(url, camera["id"])
    published = [entry.data["seq"] for entry in runs.entries(url, "job")]
    assert published == list(range(len(published)))
    last = runs.LastLine.of(run.said)
    assert last.published == sum(runs.length(url, camera["id"]) for camera in cameras)
    assert sum(last.dropped.values()) == sum(runs.dropped(url, camera["id"]) for camera in cameras)


def adds_up(server: RedisServer, run: runs.Running, camera: str, *, sessions: int) -> None:
    """Each session has one end, and the last line of the run says what is in the streams."""
    runs.accounts_for_every_frame(server.url, camera)
    assert len(runs.entries(server.url, camera, "events")) == sessions
    last = runs.LastLine.of(run.said)
    assert last.published == runs.length(server.url, camera)
    assert sum(last.dropped.values()) == runs.dropped(server.url, camera)


def memory_of_worker(run: runs.Running, worker: str) -> str:
    return memory_of(runs.workers_of(run).get(worker, 0))


def files_of(maps: str) -> set[str]:
    """The memory files of a camera that are mapped there, by their inode."""
    return {line.split()[4] for line in maps.splitlines() if "memfd:vedette" in line}


@pytest.mark.slow
def test_a_decoder_that_dies_at_the_same_frame_again_and_again_ends_its_camera_alone(
    tmp_path: Path, clip: Path, lite_s: Path, redis_server: RedisServer
) -> None:
    cameras = [{"id": camera, "url": str(clip), "loop": True} for camera in ("sick", "well")]
    file = runs.write_config(tmp_path, cameras, weights=lite_s, redis_url=redis_server.url)

    with runs.running(tmp_path, file) as run:
        for camera in ("sick", "well"):
            runs.eventually(lambda c=camera: runs.length(redis_server.url, c) > 5, within=60)
        infer, killed = runs.workers_of(run)["infer:infer"], 0
        os.kill(infer, signal.SIGSTOP)  # so that no frame of it is ever accounted for
        while "died again and again" not in run.said:
            sick = runs.workers_of(run).get("ingest:sick", killed)
            if sick != killed and "memfd:vedette-sick" in memory_of(sick):  # it is at work
                time.sleep(0.5)
                os.kill(sick, signal.SIGKILL)
                killed = sick
            time.sleep(0.1)
        os.kill(infer, signal.SIGCONT)
        there = runs.length(redis_server.url, "well")
        runs.eventually(lambda: runs.length(redis_server.url, "well") > there + 20, within=20)
        assert run.terminate() == 1, run.said

    for camera in ("sick", "well"):
        runs.accounts_for_every_frame(redis_server.url, camera)
    (ended,) = runs.entries(redis_server.url, "sick", "events")
    assert ended.data["fault"] == "decoder"
    assert "sick: its decoder died again and again at frame" in run.said


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_where_it_was(
    tmp_path: Path, clip: Path, lite_s: Path, kept_redis_server: RedisServer
) -> None:
    cameras = [{"id": "yard", "url": str(clip)}]
    file = runs.write_config(tmp_path, cameras, weights=lite_s, redis_url=kept_redis_server.url)

    for already in (30, 150):
        with runs.running(tmp_path, file) as run:
            runs.eventually(
                lambda a=already: runs.length(kept_redis_server.url, "yard") > a, within=60
            )
            workers = runs.workers_of(run)
            run.process.kill()
            run.process.wait()
            runs.eventually(lambda w=workers: not any(map(runs.is_running, w.values())), within=5)
    last = runs.vedette(tmp_path, "run", file)
    done = runs.vedette(tmp_path, "run", file)

    assert (last.returncode, done.returncode) == (0, 0), last.stderr + done.stderr
    published = [entry.data for entry in runs.entries(kept_redis_server.url, "yard")]
    assert [message["seq"] for message in published] == list(range(377))
    assert len({message["session"] for message in published}) == 1
    times = [message["captured_at"] - message["media_time"] for message in published]
    assert max(times) - min(times) < 0.001
    assert "yard: goes on at frame " in last.stderr
    assert "its job is done already" in done.stderr
    (ended,) = [entry.data for entry in runs.entries(kept_redis_server.url, "yard", "events")]
    assert ended["job"]


@pytest.mark.slow
def test_other_settings_are_another_job(
    tmp_path: Path, clip: Path, lite_s: Path, redis_server: RedisServer
) -> None:
    for confidence in (0.25, 0.5):
        cameras = [{"id": "yard", "url": str(clip), "confidence": confidence}]
        file = runs.write_config(tmp_path, cameras, weights=lite_s, redis_url=redis_server.url)
        assert runs.vedette(tmp_path, "run", file).returncode == 0

    ids = [entry.id for entry in runs.entries(redis_server.url, "yard")]
    assert ids == [f"{epoch}-{seq + 1}" for epoch in (1, 2) for seq in range(377)]


@pytest.mark.slow
def test_a_camera_that_another_run_publishes_fails_alone(
    tmp_path: Path, clip: Path, lite_s: Path, redis_server: RedisServer
) -> None:
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    for folder in (mine, theirs):
        folder.mkdir()
    looped = [{"id": "gate", "url": str(clip), "loop": True}]
    both = [{"id": "gate", "url": str(clip)}, {"id": "yard", "url": str(clip)}]
    first = runs.write_config(theirs, looped, weights=lite_s, redis_url=redis_server.url)
    second = runs.write_config(mine, both, weights=lite_s, redis_url=redis_server.url)

    with runs.running(theirs, first) as run:
        runs.eventually(lambda: runs.length(redis_server.url, "gate") > 5, within=60)
        done = runs.vedette(mine, "run", second)
        assert run.terminate() == 0

    assert done.returncode == 1
    assert f"camera 'gate' is already published by process {run.process.pid}" in done.stderr
    assert runs.length(redis_server.url, "yard") == 377
    assert len({entry.data["session"] for entry in runs.entries(redis_server.url, "gate")}) == 1


@pytest.mark.slow
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core is never fewer")
def test_a_network_that_comes_back_on_something_else_says_so(
    tmp_path: Path, clip: Path, lite_s: Path, redis_server: RedisServer
) -> None:
    cameras = [{"id": "gate", "url": str(clip), "live": True, "loop": True}]
    file = runs.write_config(tmp_path, cameras, weights=lite_s, redis_url=redis_server.url)

    with runs.running(tmp_path, file) as run:
        runs.eventually(lambda: runs.length(redis_server.url, "gate") > 10, within=60)
        kill(run, "infer:infer")
        runs.eventually(lambda: "started again" in run.said, within=10)
        runs.eventually(lambda: "infer:infer" in runs.workers_of(run), within=40)
        before = runs.length(redis_server.url, "gate")
        runs.eventually(lambda: runs.length(redis_server.url, "gate") > before + 10, within=60)
        assert run.said.count("network: ") == 1

        cores = os.sched_getaffinity(0)
        for count, mine in ((2, {min(cores)}), (3, cores)):
            os.sched_setaffinity(run.process.pid, mine)
            kill(run, "infer:infer")
            runs.eventually(lambda n=count: run.said.count("network: ") == n, within=40)
        assert run.terminate() == 0

    threads = re.findall(r"network: .*, (\d+) × \d frames", run.said)  # noqa: RUF001
    assert threads == [str(len(cores)), "1", str(len(cores))]


@pytest.mark.slow
def test_infer_may_die_before_the_first_frame(
    tmp_path: Path, clip: Path, lite_s: Path, redis_server: RedisServer
) -> None:
    cameras = [{"id": "yard", "url": str(clip)}]
    file = runs.write_config(tmp_path, cameras, weights=lite_s, redis_url=redis_server.url)

    with runs.running(tmp_path, file) as run:
        runs.eventually(lambda: "infer:infer" in runs.workers_of(run), within=10)
        time.sleep(0.4)
        kill(run, "infer:infer")
        assert run.process.wait(60) == 0, run.said

    runs.accounts_for_every_frame(redis_server.url, "yard", frames=377)


@pytest.mark.slow
def test_a_live_camera_loses_nothing_to_an_outage_with_its_spool_on_disk(
    tmp_path: Path, clip: Path, lite_s: Path, kept_redis_server: RedisServer
) -> None:
    cameras = [{"id": "gate", "url": str(clip), "live": True, "loop": True}]
    file = runs.write_config(tmp_path, cameras, weights=lite_s, redis_url=kept_redis_server.url)
    file.write_text(file.read_text().replace("redis:\n", "redis:\n  durability: disk\n"))

    with runs.running(tmp_path, file) as run:
        runs.eventually(lambda: runs.length(kept_redis_server.url, "gate") > 10, within=60)
        kept_redis_server.kill()
        time.sleep(2)
        spool = tmp_path / "state" / "vedette" / "run" / "spool"
        segments = [path for path in spool.rglob("*.seg") if path.stat().st_size]
        kill(run, "publish:publish")
        time.sleep(1)
        kept_redis_server.start()
        there = runs.length(kept_redis_server.url, "gate")
        runs.eventually(lambda: runs.length(kept_redis_server.url, "gate") > there + 60, within=60)
        assert run.terminate() == 0, run.said

    assert segments
    assert spool.stat().st_mode & 0o777 == 0o700
    runs.accounts_for_every_frame(kept_redis_server.url, "gate")
