"""Cameras on the network that are sick, all at once, beside two that are well."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests import rtsp, runs
from tests.faults import table
from tests.faults.cameras import FILM, LEAST_SHARE, WELL, Case, account, ward
from tests.rtsp import Faults, Film
from tests.servers import RedisServer

AWAY = ("backoff",)
STILL = Film(rate=5, frames=20, still=True)
LARGE = Film(rate=5, frames=20, size=(640, 384))
OPENINGS = 8  # at once, at most


def become(**faults: object) -> object:
    """Falls ill of these."""
    return lambda camera, run: vars(camera.faults).update(faults)


def signalled(number: int, name: str) -> object:
    return lambda camera, run: os.kill(runs.workers_of(run)[f"ingest:{name}"], number)


def joined_late(camera: rtsp.Camera, run: runs.Running) -> None:
    camera.faults.start_at = 5
    camera.hang_up()


CASES = [
    Case("C01", "C01 absent at start", AWAY, 30, Faults(refuse=True)),
    Case("C02", "C02 accepts, and is silent", AWAY, 40, Faults(accept_silent=True)),
    Case("C03", "C03 silent at PLAY", AWAY, 40, Faults(silent_on="PLAY")),
    Case("C04", "C04 stalls", ("stalled",), 11, then=become(stall_after=0)),
    Case(
        "C05", "C05 RTCP comes, no video", ("stalled",), 11,
        then=become(stall_after=0, rtcp_while_stalled=True),
    ),
    Case(
        "C06", "C06 sound comes, no video", ("stalled",), 11,
        Faults(audio_while_stalled=True), become(stall_after=0),
    ),
    Case("C07-fin", "C07 FIN", AWAY, 11, then=become(fin_after=0)),
    Case("C07-rst", "C07 RST", AWAY, 11, then=become(rst_after=0)),
    Case("C08", "C08 flaps every 2 s", AWAY, 15, then=become(fin_after=10)),
    Case(
        "C09", "C09 401", ("refused",), 40, Faults(status={"DESCRIBE": "401 Unauthorized"}),
        comes_back=False,
    ),
    Case("C10", "C10 404", AWAY, 30, Faults(status={"DESCRIBE": "404 Not Found"})),
    Case("C11", "C11 5 % of packets lost", film=LARGE, then=become(loss=0.05)),
    Case("C12", "C12 20 % of packets corrupt", film=LARGE, then=become(corrupt=0.2)),
    Case("C13-none", "C13 no keyframes", (*AWAY, "stalled"), 60, Faults(skip_keyframes=True)),
    Case("C13-late", "C13 joined in mid-group", AWAY, 11, then=joined_late),
    Case("C14", "C14 another resolution", then=become(film_after=(0, LARGE))),
    Case("C15-hour", "C15 time stamps jump by an hour", at_first=Faults(jump=(40, 3600.0))),
    Case("C15-back", "C15 time stamps jump back", at_first=Faults(jump=(40, -10.0))),
    Case("C16", "C16 five times too fast", then=become(speed=5.0)),
    Case("C17", "C17 frozen", ("frozen",), 14, then=become(film_after=(0, STILL))),
    Case("P01", "P01 kill -9 of its ingest", AWAY, 11, then=signalled(signal.SIGKILL, "P01")),
    Case("P02", "P02 SIGSTOP of its ingest", ("stalled",), 11,
         then=signalled(signal.SIGSTOP, "P02")),
]  # fmt: skip


@pytest.mark.slow
def test_sick_cameras_are_noticed_come_back_and_hurt_nobody(
    tmp_path: Path, ours: Path, redis_server: RedisServer
) -> None:
    rtsp.pictures(STILL)
    rtsp.Camera.most_opening = 0
    with ward(CASES, tmp_path, ours, redis_server) as one:
        before, sent = one.usage(), [camera.frames for camera in one.well]
        got = [one.published(name) for name in WELL]
        began = time.monotonic()
        one.fall_ill()
        one.notice()
        time.sleep(max(0.0, began + 30 - time.monotonic()))  # flapping, and damage, take a while
        shares = [
            (one.published(name) - had) / (camera.frames - had_sent)
            for name, had, camera, had_sent in zip(WELL, got, one.well, sent, strict=True)
        ]
        one.recover(within=75)
        unaccounted, after = one.unaccounted(), one.usage()
        assert one.run.terminate() == 0, one.run.said
        one.examine()
        one.report(unaccounted)
        figures = {what: after[what] - before[what] for what in after}
        table.REMARKS.append(
            f"{len(CASES)} sick cameras and 2 that are well in one run: shares of the latter"
            f" {' and '.join(f'{share:.2f}' for share in shares)};"
            f" at most {rtsp.Camera.most_opening} opened at once; from before to after:"
            f" {', '.join(f'{count:+} {what}' for what, count in figures.items())}"
        )
        patients = {patient.case.id: patient for patient in one.patients}
        for name, camera in zip(WELL, one.well, strict=True):
            _, arrived, sessions = account(redis_server.url, name)
            assert 0 <= camera.frames - arrived <= 3 * sessions

    assert set(unaccounted.values()) == {0}
    assert min(shares) >= LEAST_SHARE
    assert rtsp.Camera.most_opening <= OPENINGS
    assert patients["C09"].camera.connections <= 4  # each a request without, one with, a login
    assert 3 <= patients["C08"].camera.connections <= 15
    assert figures["descriptors"] <= 20
    assert figures["MB"] < 150
    for name in ("C11", "C12"):
        tainted = [e.data["tainted"] for e in runs.entries(redis_server.url, name)]
        assert any(tainted)
        assert not all(tainted)
    sizes = {e.data["width"] for e in runs.entries(redis_server.url, "C14")}
    assert sizes == {FILM.size[0], LARGE.size[0]}
    for name in ("C15-hour", "C15-back"):
        segments = [e.data["segment"] for e in runs.entries(redis_server.url, name)]
        assert set(segments) == {0, 1}
    assert "Traceback" not in one.run.said
    assert "hunter2" not in one.run.said


def test_a_camera_that_stalls_and_one_that_is_absent_are_noticed_and_come_back(
    tmp_path: Path, ours: Path, redis_server: RedisServer
) -> None:
    cases = [case for case in CASES if case.id in ("C01", "C04", "C07-rst")]
    with ward(cases, tmp_path, ours, redis_server) as one:
        unaccounted = one.run_through(within=40)

    assert set(unaccounted.values()) == {0}
