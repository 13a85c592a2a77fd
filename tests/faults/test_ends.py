"""How runs end: in order, in a hurry, or killed; and what the next one finds."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from tests import runs
from tests.faults import checker, seen, table
from tests.faults.deed import Deed, Place
from tests.servers import RedisServer

PATIENCE = 25.0  # seconds from SIGTERM to the end, at most: Kubernetes kills after 30
ORPHANS = 5.0  # seconds
AT_ONCE = 2.0
IN_HAND = 4  # frames that are in no record yet when everything is killed: a batch, and one more


@pytest.fixture
def car(shared: Path) -> dict[str, Any]:
    return {"id": "yard", "url": str(shared / "media" / "car-detection.mp4")}


@pytest.fixture
def kept(place: Place, kept_redis_server: RedisServer) -> Place:
    """With a server that comes back with what it had."""
    return Place(place.folder, place.weights, kept_redis_server, place.film)


def gone(processes: list[int]) -> bool:
    return not any(map(runs.is_running, processes))


@pytest.mark.slow
def test_nothing_outlives_a_supervisor_that_is_killed_and_the_next_run_goes_on(
    place: Place, car: dict[str, Any]
) -> None:
    names = seen.memory_files()
    with place.run([car]) as deed:
        deed.wait("yard", entries=20)
        workers = list(runs.workers_of(deed.run).values())
        deed.strike()
        deed.run.process.kill()
        deed.run.process.wait()
        deed.notice(lambda: gone(workers), within=ORPHANS)
    left = list((place.folder / "runtime").rglob("run.json"))
    with place.run([car]) as again:
        again.strike()
        again.recover("yard")
        again.end()
    again.noticed = deed.noticed
    found = again.report(
        "P08 kill -9 of the supervisor",
        {"yard": 377},
        remark="noticed: the last of its workers is gone",
    )
    assert len(left) == 1  # it could not be taken away, and is nobody's
    assert not list((place.folder / "runtime").rglob("run.json"))
    assert not seen.memory_files() - names
    assert not found.dropped


@pytest.mark.slow
def test_a_run_that_is_killed_whole_with_its_server_is_completed_by_the_next(
    place: Place, car: dict[str, Any]
) -> None:
    names, embedded = seen.memory_files(), {"redis": {"url": "embedded"}}
    with place.run([car], **embedded) as deed:
        address = place.folder / "runtime" / "vedette" / "run" / "run.json"
        runs.eventually(address.exists, within=30)
        url = json.loads(address.read_text())["redis"]
        runs.eventually(lambda: runs.length(url, "yard") > 20, within=30)
        everybody = [*runs.workers_of(deed.run).values(), deed.run.process.pid]
        deed.strike()
        for process in everybody:
            os.kill(process, signal.SIGKILL)
        deed.run.process.wait()
        deed.notice(lambda: gone(everybody), within=ORPHANS)
    began = time.monotonic()
    with place.run([car], **embedded) as again:
        runs.eventually(lambda: "yard: goes on at frame" in again.said, within=30)
        again.recovery = time.monotonic() - began
        again.end()
    with runs.embedded(place.folder) as url, redis.Redis.from_url(url) as client:
        found = checker.check(client, "yard", 377)
    remark = "with its embedded server; noticed: the last of them is gone"
    table.add_deed("P09 kill -9 of everybody", found, (deed.noticed, again.recovery), None, remark)
    assert not seen.memory_files() - names
    assert not found.dropped


def test_a_signal_under_load_ends_in_order(place: Place, car: dict[str, Any]) -> None:
    busy = [{**car, "id": name, "loop": True} for name in ("yard", "lane")]
    with place.run([*busy, *place.live("gate")]) as deed:
        deed.wait("yard", "lane", "gate")
        took = deed.stop()
    deed.report(
        "P11 SIGTERM under load",
        {"yard": None, "lane": None, "gate": None},
        remark=f"over after {took:.1f} s, exit 0",
    )
    assert took < 10
    assert all(ended(deed, camera) for camera in ("yard", "lane", "gate"))


@pytest.mark.slow
def test_a_signal_while_a_collector_is_silent_ends_in_time(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        url = f"http://127.0.0.1:{door.getsockname()[1]}"
        settings = {"otlp": url, "trace_one_in": 1}
        with place.run(place.live("gate"), telemetry=settings) as deed:
            deed.wait("gate", entries=20)
            took = deed.stop()
    remark = f"over after {took:.1f} s, exit 0"
    deed.report("P11 SIGTERM, the collector silent", {"gate": None}, remark=remark)
    assert took < PATIENCE


@pytest.mark.slow
@pytest.mark.parametrize("durability", ["memory", "disk"])
def test_a_signal_while_redis_is_dead_ends_in_time_and_says_what_is_left(
    kept: Place, durability: str
) -> None:
    settings = {"redis": {"durability": durability}}
    with kept.run(kept.live("gate"), **settings) as deed:
        deed.wait("gate")
        kept.server.kill()
        time.sleep(2)
        took = deed.stop(code=3)
        abandoned = abandoned_by(deed)
    again, later = next_run(kept, deed, settings)
    remark = f"over after {took:.1f} s, exit 3; {abandoned} abandoned: "
    remark += f"{later} published by the next run"
    again.report(f"P11 SIGTERM, Redis dead, {durability}", {"gate": None}, remark=remark)
    assert took < PATIENCE
    assert abandoned > 4
    lost = abandoned - later
    assert 0 <= lost <= IN_HAND if durability == "disk" else lost == abandoned


@pytest.mark.slow
def test_a_second_signal_ends_at_once_and_the_spool_is_valid(kept: Place) -> None:
    settings = {"redis": {"durability": "disk"}}
    with kept.run(kept.live("gate"), **settings) as deed:
        deed.wait("gate")
        kept.server.kill()
        time.sleep(2)
        deed.run.process.send_signal(signal.SIGTERM)
        time.sleep(1)
        deed.strike()
        deed.run.process.send_signal(signal.SIGINT)
        deed.notice(lambda: deed.run.process.poll() is not None, within=AT_ONCE)
        deed.end(code=3)
        abandoned = abandoned_by(deed)
    again, later = next_run(kept, deed, settings)
    again.noticed = deed.noticed
    remark = f"exit 3; {abandoned} abandoned: {later} published by the next run"
    again.report("P12 a second signal", {"gate": None}, remark=remark)
    assert abandoned > 4
    assert 0 <= abandoned - later <= IN_HAND
    assert "damaged" not in again.said


def ended(deed: Deed, camera: str) -> bool:
    (event,) = runs.entries(deed.server.url, camera, "events")
    return bool(event.data["reason"] == "stopped")


def abandoned_by(deed: Deed) -> int:
    found = re.search(r"([\d,]+) abandoned", deed.said.splitlines()[-1])
    return int(found[1].replace(",", "")) if found else 0


def next_run(kept: Place, deed: Deed, settings: dict[str, Any]) -> tuple[Deed, int]:
    """Once the server is back; with how many entries of the session before it began."""
    kept.server.start()
    there = deed.published("gate")
    with kept.run(kept.live("gate"), **settings) as again:
        again.wait("gate", entries=there + 5)
        again.stop()
    entries = runs.entries(again.server.url, "gate")
    session = entries[0].data["session"]
    return again, sum(entry.data["session"] == session for entry in entries[there:])
