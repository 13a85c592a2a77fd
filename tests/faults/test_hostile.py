"""Clips and cameras that somebody has tampered with: nothing dies, hangs, or opens what it may not.

A seed and a number are one clip or one conversation: `VEDETTE_FAULT_SEED` picks the seed.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from pathlib import Path

import av
import pytest

from tests import media, rtsp, runs
from tests.faults import hunt, table
from tests.faults.cameras import account
from tests.faults.canary import HOST, Canary
from tests.faults.disguise import Named
from tests.faults.liar import Liar
from tests.faults.mutation import Clips
from tests.faults.schedule import SEED
from tests.faults.taster import Task, Taster
from tests.servers import RedisServer
from workers.ingest import MOST_MEMORY

GOOD = 30  # frames of the clip that is well


@pytest.mark.parametrize("count", [150, pytest.param(5000, marks=pytest.mark.slow)])
def test_a_tampered_clip_gives_pictures_or_one_sentence(tmp_path: Path, count: int) -> None:
    bag = hunt.clips(tmp_path, count)

    table.HOSTILE.append(f"clips: {bag}")
    assert bag.wrong == []
    assert len(bag.outcomes) == count
    kinds = [outcome.kind for _, outcome in bag.outcomes]
    assert all(kinds.count(kind) > count / 20 for kind in ("ended", "error", "refused"))


@pytest.mark.parametrize("count", [60, pytest.param(2000, marks=pytest.mark.slow)])
def test_a_camera_that_lies_gives_pictures_or_one_sentence(tmp_path: Path, count: int) -> None:
    bag = hunt.conversations(tmp_path, count)

    table.HOSTILE.append(f"conversations: {bag}")
    assert bag.wrong == []
    assert len(bag.outcomes) == count
    assert sum(outcome.pictures > 0 for _, outcome in bag.outcomes) > count / 5


@pytest.mark.parametrize("count", [4, pytest.param(40, marks=pytest.mark.slow)])
def test_a_run_of_tampered_clips_ends_and_the_good_one_is_whole(
    tmp_path: Path, ours: Path, redis_server: RedisServer, count: int
) -> None:
    whole = Clips(_new(tmp_path / "whole"))
    media.encode(tmp_path / "good.mp4", frames=GOOD, size=(320, 192))
    cameras = [{"id": "good", "url": str(tmp_path / "good.mp4")}]
    room, aviary = _new(tmp_path / "room"), _new(tmp_path / "aviary")
    (aviary / "canary.mp4").write_bytes((tmp_path / "good.mp4").read_bytes())
    with Canary(aviary) as canary:
        for number in range(count):
            clip = whole.tampered(number, SEED, Named(aviary / "canary.mp4", canary.port))
            path = room / f"{number}-{clip.name}"
            path.write_bytes(clip.data)
            cameras.append({"id": f"bad-{number}", "url": str(path)})
        config = runs.write_config(tmp_path, cameras, weights=ours, redis_url=redis_server.url)

        ended = runs.vedette(tmp_path, "run", config, timeout=30 + 4 * count)

        assert (canary.opened(), canary.called()) == (set(), [])
    assert ended.returncode in (0, 1), ended.stderr
    assert "Traceback" not in ended.stderr
    assert len(runs.entries(redis_server.url, "good")) == GOOD
    for camera in cameras:
        runs.accounts_for_every_frame(redis_server.url, camera["id"])
        (event,) = runs.entries(redis_server.url, camera["id"], "events")
        assert event.data["state"] == "ended"
        assert event.data["reason"].isprintable()
        assert event.data["reason"]


@pytest.mark.parametrize("count", [4, pytest.param(30, marks=pytest.mark.slow)])
def test_a_run_survives_cameras_that_lie_and_the_good_one_goes_on(
    tmp_path: Path, ours: Path, redis_server: RedisServer, count: int
) -> None:
    with Canary() as canary, Liar(SEED, canary.port) as liar, rtsp.camera() as well:
        stories = {number: liar.conversation(number).story for number in range(1000)}
        deadly = [number for number in stories if stories[number][0] == hunt.KNOWN_DEADLY]
        numbers = [*deadly[: count // 4], *range(count - count // 4)]
        bad = {f"bad-{number}": liar.url(number) for number in numbers}
        cameras = [{"id": name, "url": url} for name, url in {"good": well.url, **bad}.items()]
        config = runs.write_config(tmp_path, cameras, weights=ours, redis_url=redis_server.url)
        with runs.running(tmp_path, config) as run:
            runs.eventually(lambda: runs.length(redis_server.url, "good") > 10, within=90)
            runs.eventually(lambda: all(_is_told_of(name, run.said) for name in bad), within=90)
            had, sent, began = runs.length(redis_server.url, "good"), well.frames, time.monotonic()
            time.sleep(2 + count / 3)
            share = (runs.length(redis_server.url, "good") - had) / (well.frames - sent)
            deaths = run.said.count("SIGSEGV")
            limits = Path(f"/proc/{runs.workers_of(run)['ingest:good']}/limits").read_text()
            assert run.process.poll() is None, run.said
            assert run.terminate() in (0, 1), run.said
        assert canary.called() == []

    table.HOSTILE.append(
        f"a run of {count} cameras that lie and one that is well: {deaths} ingests killed in"
        f" {time.monotonic() - began:.0f} s, share of the one that is well {share:.2f}"
    )
    assert "Traceback" not in run.said
    assert share > 0.7
    assert re.search(rf"Max data size +{MOST_MEMORY} ", limits), limits
    for name in ("good", *bad):
        account(redis_server.url, name)
    for name in bad:
        told = {entry.data["state"] for entry in runs.entries(redis_server.url, name, "events")}
        assert told & {"backoff", "refused"}, name


# The hunt itself


def test_a_process_that_dies_or_hangs_is_seen_and_replaced(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    media.encode(clip, frames=3)
    found = []

    with Taster(limit=2) as taster:
        for number in (signal.SIGSEGV, signal.SIGSTOP):
            assert taster.taste(Task(str(clip))).pictures == 3
            os.kill(taster.pid, number)
            found.append(taster.taste(Task(str(clip))))
        again = taster.taste(Task(str(clip)))

    assert [one.kind for one in found] == ["died", "hung"]
    assert found[0].says.startswith("SIGSEGV")
    assert (again.kind, again.pictures) == ("ended", 3)


def test_the_canary_tells_what_is_opened_and_called(tmp_path: Path) -> None:
    media.encode(tmp_path / "canary.mp4", frames=3)
    disguised = tmp_path / "innocent.mp4"
    disguised.write_text("ffconcat version 1.0\nfile canary.mp4\n")

    with Canary(tmp_path) as canary:
        av.open(str(disguised)).close()  # FFmpeg itself falls for it
        opened = canary.opened()
        socket.create_connection((HOST, canary.port)).close()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"x", (HOST, canary.port))
        called = canary.called()

        assert opened == {"canary.mp4", "innocent.mp4"}
        assert called == ["a connection", "a datagram"]
        assert (canary.opened(), canary.called()) == (set(), [])


def _is_told_of(camera: str, said: str) -> bool:
    return f"{camera}: " in said or f"ingest of {camera} " in said


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder
