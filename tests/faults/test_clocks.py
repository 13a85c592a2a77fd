"""A wall clock that jumps, a machine that is suspended, collectors and logs that do not take it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import pytest

from pipeline.channel import Channel, pair
from tests import rtsp, runs
from tests.faults.deed import FRAMES, RATE, Deed, Place
from tests.faults.disk import tmpfs
from tests.rtsp import Film
from workers import control

FILM = Film(rate=RATE)


@pytest.fixture
def net() -> Iterator[rtsp.Camera]:
    """A camera on the network."""
    camera = rtsp.Camera(FILM, user="ops")
    try:
        yield camera
    finally:
        camera.close()


def states(deed: Deed, camera: str) -> list[str]:
    """What its consumers were told, in order."""
    return [entry.data["state"] for entry in runs.entries(deed.server.url, camera, "events")]


@pytest.fixture
def clock(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A file that says by how many seconds the wall clock is off, and for whom it is."""
    (library,) = [*Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None][:1]
    if library is None:
        pytest.skip("needs libfaketime, to set the clock of some processes")
    file = tmp_path / "clock"
    file.write_text("+0")
    return file, {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }


@pytest.mark.slow
def test_a_clock_that_jumps_alarms_nobody_and_leaves_ids_in_order(
    place: Place, net: rtsp.Camera, clock: tuple[Path, dict[str, str]]
) -> None:
    offset, more = clock
    cameras = [{"id": "net", "url": net.url}, *place.live("gate")]
    began = time.monotonic()
    with place.run(cameras, more=more) as deed:
        deed.wait("net", "gate")
        workers = runs.workers_of(deed.run)
        for jump in ("-3600", "+86400"):
            deed.strike()
            offset.write_text(jump)
            deed.recover("net", "gate")
            time.sleep(4)
        assert deed.unaccounted() == 0
        same = runs.workers_of(deed.run) == workers
        deed.stop()
        took = time.monotonic() - began
    times = [entry.data["captured_at"] for entry in runs.entries(deed.server.url, "gate")]
    jumps = [round(b - a) for a, b in pairwise(times) if abs(b - a) > 60]
    deed.report(
        "D05 wall clock -1 h, then +1 d",
        {"net": None, "gate": None},
        remark=f"captured_at jumps by {' and '.join(map(str, jumps))} s; nobody killed or told",
    )
    assert len(jumps) == 2  # it was another clock
    assert same
    assert set(states(deed, "net")) <= {"connecting", "live", "ended"}
    assert 0 < seconds_of(deed) <= took


def seconds_of(deed: Deed) -> float:
    """How long the run says that it took."""
    return float(deed.said.splitlines()[-1].partition(" published in ")[2].split()[0])


@pytest.mark.slow
def test_a_machine_that_is_suspended_stalls_once_and_goes_on(
    place: Place, net: rtsp.Camera
) -> None:
    cameras = [{"id": "net", "url": net.url}, *place.live("gate")]
    with place.run(cameras) as deed:
        deed.wait("net", "gate")
        everybody = [deed.run.process.pid, *runs.workers_of(deed.run).values()]
        workers = runs.workers_of(deed.run)
        for process in everybody:
            os.kill(process, signal.SIGSTOP)
        time.sleep(20)
        deed.strike()
        for process in reversed(everybody):
            os.kill(process, signal.SIGCONT)
        deed.recover("net", "gate", within=40)
        time.sleep(6)
        assert deed.unaccounted() == 0
        same = runs.workers_of(deed.run) == workers
        told, opened = states(deed, "net"), net.connections
        deed.stop()
    deed.report(
        "D06 everything stopped for 20 s",
        {"net": None, "gate": None},
        remark=f"told of net: {', '.join(told)}; {opened} connection",
    )
    assert same
    assert opened <= 2
    assert told.count("stalled") + told.count("backoff") <= 2


@contextmanager
def collector(kind: str) -> Iterator[str]:
    """The URL of one that refuses, is silent, or takes five seconds for an answer."""
    threads: list[threading.Thread] = []

    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while connection.recv(1 << 16):
                time.sleep(5 if kind == "slow" else 0)
                if kind == "slow":
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    def accept(door: socket.socket) -> None:
        with suppress(OSError):
            while True:
                threads.append(threading.Thread(target=answer, args=(door.accept()[0],)))
                threads[-1].start()

    door = socket.create_server(("127.0.0.1", 0))
    port = door.getsockname()[1]
    if kind == "refused":
        door.close()
    else:
        threads.append(threading.Thread(target=accept, args=(door,)))
        threads[-1].start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        with suppress(OSError):
            door.shutdown(socket.SHUT_RDWR)
        door.close()
        for thread in threads:
            thread.join(10)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["refused", "silent", "slow"])
def test_a_collector_costs_no_frame(place: Place, kind: str) -> None:
    with collector(kind) as url:
        settings = {"otlp": url, "trace_one_in": 1, "slow_ms": 1}
        with place.run(place.live("gate"), telemetry=settings) as deed:
            deed.wait("gate")
            deed.strike()
            deed.go_on(10)
            took = deed.stop()
    share = deed.share("gate")
    deed.report(
        f"D07 collector {kind}",
        {"gate": None},
        others=["gate"],
        remark=f"over {took:.1f} s after SIGTERM",
    )
    assert share >= 0.98
    assert took < 10


@pytest.mark.slow
@pytest.mark.parametrize("log", ["full", "closed"])
def test_a_log_that_takes_nothing_ends_no_run(place: Place, log: str) -> None:
    script, folder = 'exec "$@" 2>&-', place.folder / "logs"
    out = place.folder / "out"
    with tmpfs(folder, "size=1m") as (there, prefix):
        if log == "full":
            script = f'exec "$@" 2>>{folder}/log'
            with suppress(OSError), (there / "rest").open("wb") as rest:
                while True:
                    rest.write(bytes(4096))
                    rest.flush()
        cameras = [{"id": "yard", "url": str(place.film)}, *place.live("gate")]
        prefix = (*prefix, "sh", "-c", f"{script} >{out}", "-")
        with place.run(cameras, prefix=prefix) as deed:
            deed.wait("gate")
            where = {os.readlink(f"/proc/{pid}/fd/2") for pid in runs.workers_of(deed.run).values()}
            deed.strike()
            os.kill(runs.workers_of(deed.run)["ingest:gate"], signal.SIGSEGV)
            deed.recover("gate")
            deed.stop()
        assert where == {f"{folder}/log" if log == "full" else "/dev/null"}
        assert log == "closed" or (there / "log").stat().st_size == 0
        assert out.read_text() == ""
    deed.report(
        f"D08 stderr {log}" + (" (1 MB tmpfs)" if log == "full" else ""),
        {"yard": FRAMES, "gate": None},
        remark="exit 0; an ingest that segfaults meanwhile comes back",
    )


def test_a_worker_that_fails_says_why_although_stderr_takes_nothing() -> None:
    ours, theirs = pair()
    channel = Channel(ours, control.to_supervisor["publish"])
    command = [sys.executable, "-P", "-m", "workers.process", "publish", "publish"]
    with theirs, open("/dev/full", "w") as full:
        process = subprocess.Popen(
            [*command, str(theirs.fileno()), str(os.getpid())],
            pass_fds=[theirs.fileno()],
            stderr=full,
        )
    channel.send(control.SetUp(b"no settings at all", 1))
    code, said = process.wait(30), channel.receive()
    channel.close()

    assert code == 1
    assert isinstance(said, control.Failed)
    assert "ValidationError" in said.text
