"""Workers that are killed, crash, hang or break, and what that costs the cameras beside them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests import runs
from tests.faults import seen
from tests.faults.deed import RATE, Deed, Place
from tests.faults.test_processes import kill
from workers.restarts import MOST, OPEN
from workers.topology import LIVE_SLOTS

BATCH = 1  # frames of one live camera in the batches under way, at most


def begun_again(deed: Deed, worker: str, before: int) -> bool:
    return runs.workers_of(deed.run).get(worker, before) != before


def held_back(deed: Deed, camera: str) -> int:
    """Frames that had been taken when it struck, and were not published."""
    times = [entry.data["captured_at"] for entry in runs.entries(deed.server.url, camera)]
    last = max(at for at in times if at < deed.struck_at)
    return int((deed.struck_at - last) * RATE)


def test_a_network_that_is_killed_in_mid_batch_costs_what_it_held(
    place: Place, shared: Path
) -> None:
    car = shared / "media" / "car-detection.mp4"
    cameras = [*place.live("a", "b"), {"id": "yard", "url": str(car), "loop": True}]
    with place.run(cameras) as deed:
        deed.wait("a", "b", "yard", entries=20)
        deed.strike()
        kill(deed.run, "infer:infer")
        deed.notice(lambda: "infer (process" in deed.said, within=5)
        deed.recover("a", "b", "yard")
        held = [held_back(deed, camera) for camera in ("a", "b")]
        unaccounted = deed.unaccounted()
        deed.stop()
    found = deed.report(
        "P03 kill -9 of infer, mid-batch",
        {"a": None, "b": None, "yard": None},
        remark=f"2 live cameras had {' and '.join(map(str, held))} frames in it; the file misses 0",
    )
    assert unaccounted == 0
    assert max(held) <= BATCH + LIVE_SLOTS
    assert set(found.dropped) <= {"crash", "superseded", "too_old"}
    assert not deed.findings({"yard": None}).dropped


@pytest.mark.slow
def test_a_decoder_that_segfaults_hurts_nobody_else(place: Place) -> None:
    with place.run(place.live("sick", "well")) as deed:
        deed.wait("sick", "well")
        deed.strike()
        os.kill(runs.workers_of(deed.run)["ingest:sick"], signal.SIGSEGV)
        deed.notice(lambda: "was killed by SIGSEGV; it is started again" in deed.said, within=5)
        deed.recover("sick")
        deed.go_on(5)
        assert deed.unaccounted() == 0
        deed.stop()
    deed.report(
        "P16 segfault in a decoder",
        {"sick": None, "well": None},
        others=["well"],
        remark="exit -11, said as SIGSEGV",
    )
    assert "Fatal Python error: Segmentation fault" in deed.said  # where it was


# As a library that is broken would, it ends the process before anything of ours has begun.
BROKEN = """
import os, sys
if "ingest" in sys.argv and "sick" in sys.argv:
    os._exit(7)
"""


@pytest.mark.slow
def test_a_worker_that_dies_at_its_start_is_let_be_and_the_others_run(place: Place) -> None:
    (place.folder / "sitecustomize.py").write_text(BROKEN)
    more = {"PYTHONPATH": str(place.folder)}
    with place.run(place.live("sick", "well"), more=more) as deed:
        deed.wait("well")
        deed.strike()
        deed.notice(lambda: f"it is started again in {OPEN:.1f} s" in deed.said, within=60)
        deaths = deed.said.count("ended with exit code 7")
        began, worked = time.monotonic(), seen.cpu_seconds(deed.run.process.pid)
        deed.go_on(deed.noticed + 10)
        worked = seen.cpu_seconds(deed.run.process.pid) - worked
        share = worked / (time.monotonic() - began)
        assert deed.said.count("ended with exit code 7") == deaths
        assert deed.unaccounted() == 0
        deed.stop()
    deed.report(
        "P10 crash loop of an ingest",
        {"well": None},
        others=["well"],
        remark=f"{deaths} starts, then none for {OPEN:.0f} s; supervisor: {share:.0%} of a core",
    )
    assert deaths == MOST + 1
    assert share < 0.1
