"""Cameras that send their readers elsewhere, that nobody vouches for, that flap, and very many."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import rtsp, runs
from tests.faults import table
from tests.faults.cameras import Case, account, ward
from tests.rtsp import Faults, Film
from tests.servers import RedisServer

MANY = 64
SMALL = Film(rate=2, frames=8, keyframes=4, size=(160, 96))
OPENINGS = 8  # at once, at most


@pytest.mark.slow
def test_another_host_and_a_bad_certificate_are_refused_beside_a_camera_that_is_well(
    tmp_path: Path, ours: Path, redis_server: RedisServer, certificate: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with rtsp.camera(user="ops", address=("127.0.0.2", 0)) as elsewhere:

        def sends_away(camera: rtsp.Camera, run: runs.Running) -> None:
            camera.faults.redirect = elsewhere.url
            camera.hang_up()

        cases = [
            Case("C18", "C18 another host", ("refused",), 30, then=sends_away, comes_back=False),
            Case("C20", "C20 a bad certificate", ("backoff",), 30, Faults(), tls=context,
                 comes_back=False),
            Case("C20-any", "C20 the same, tls_verify: false", tls=context, tls_verify=False),
        ]  # fmt: skip
        with ward(cases, tmp_path, ours, redis_server) as one:
            unaccounted = one.run_through(within=30)
        table.REMARKS.append(f"C18: connections to the other host: {elsewhere.connections}")

    assert elsewhere.connections == 1  # and none before the slow retry
    assert "sends its readers to another host, 127.0.0.2;" in one.run.said
    refused, accepted = (p for p in one.patients if p.case.tls is not None)
    assert (refused.camera.describes, refused.arrived) == (0, 0)
    assert accepted.arrived > 0
    assert set(unaccounted.values()) == {0}
    assert "hunter2" not in one.run.said


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_very_many_cameras_come_back_from_a_restart_of_their_server(
    tmp_path: Path, ours: Path, redis_server: RedisServer
) -> None:
    url = redis_server.url
    names = [f"c{number:02}" for number in range(MANY)]
    rtsp.Camera.most_opening = 0
    recorder = rtsp.Camera(SMALL, user="ops")
    try:
        cameras = [{"id": name, "url": f"{recorder.url}/{name}"} for name in names]
        file = runs.write_config(
            tmp_path, cameras, weights=ours, redis_url=url, input_size=[96, 160]
        )
        with runs.running(tmp_path, file) as run:
            began = time.monotonic()
            runs.eventually(lambda: all(runs.length(url, name) >= 2 for name in names), within=200)
            there = time.monotonic() - began
            megabytes = memory(run)
            recorder.close()
            time.sleep(2)
            had = {name: runs.length(url, name) for name in names}
            recorder = rtsp.Camera(SMALL, user="ops", address=("127.0.0.1", recorder.port))
            began = time.monotonic()
            runs.eventually(
                lambda: all(runs.length(url, name) >= had[name] + 2 for name in names), within=90
            )
            back = time.monotonic() - began
            assert run.terminate() == 0, run.said
    finally:
        recorder.close()
    table.REMARKS.append(
        f"C19: {MANY} cameras of one server: all there after {there:.0f} s; back from its restart"
        f" after {back:.1f} s, by {recorder.connections} connections; at most"
        f" {rtsp.Camera.most_opening} opened at once; {megabytes:,} MB in all"
    )
    assert rtsp.Camera.most_opening <= OPENINGS
    for name in names:
        account(url, name)
    assert "Traceback" not in run.said


# Opens the camera over and over, and prints by how much it has grown from the 20th time on.
FLAPS = """
import json, os, sys
from pathlib import Path
import numpy as np
from pipeline.sources import open_source

def held():
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    kilobytes, threads = (int(fields[name].split()[0]) for name in ("VmRSS", "Threads"))
    return [kilobytes, len(os.listdir("/proc/self/fd")), threads]

out, pictures = np.empty((96, 160, 3), np.uint8), 0
for flap in range(120):
    with open_source(sys.argv[1], live=True, loop=False) as source:
        for picture in source:
            picture.write(out)
            pictures += 1
    before = held() if flap == 19 else before if flap > 19 else None
print(json.dumps([pictures, [now - then for now, then in zip(held(), before)]]))
"""


@pytest.mark.slow
def test_a_camera_that_flaps_costs_nothing_that_stays() -> None:
    with rtsp.camera(Film(rate=50, frames=20, size=(160, 96)), user="ops") as camera:
        camera.faults.fin_after = 10
        command = [sys.executable, "-c", FLAPS, camera.url]
        done = subprocess.run(command, capture_output=True, check=True, timeout=100)
        connections = camera.connections

    pictures, (kilobytes, descriptors, threads) = json.loads(done.stdout)
    table.REMARKS.append(
        f"C08: 100 connections of one process that end after {pictures / 120:.1f} pictures each:"
        f" {kilobytes:+} kB, {descriptors:+} descriptors, {threads:+} threads"
    )
    assert connections == 120
    assert pictures >= 120 * 8
    assert kilobytes < 1000
    assert (descriptors, threads) == (0, 0)


def memory(run: runs.Running) -> int:
    """What the run and its workers have of memory, shared pages in parts, in megabytes."""
    kilobytes = 0
    for pid in (run.process.pid, *runs.workers_of(run).values()):
        rollup = Path(f"/proc/{pid}/smaps_rollup")
        text = rollup.read_text() if rollup.exists() else Path(f"/proc/{pid}/status").read_text()
        found = [line for line in text.splitlines() if line.startswith(("Pss:", "VmRSS:"))]
        kilobytes += int(found[0].split()[1])
    return kilobytes // 1000
