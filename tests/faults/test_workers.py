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


@pytest.mark.slow
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
    assert set(found.dropped) <= {"crash", "superseded", "surplus", "too_old"}
    assert not deed.findings({"yard": None}).dropped


@pytest.mark.slow
def test_a_decoder_that_segfaults_hurts_nobody_else(place: Place) -> None:
    with place.run(place.live("sick", "well")) as deed:
        deed.wait("sick", "well")
        deed.strike()
        os.kill(runs.workers_of(deed.run)["ingest:sick"], signal.SIGSEGV)
        deed.notice(lambda: "was killed by SIGSEGV; it is started again" in deed.said, within=5)
        deed.recover("sick")
        deed.go_on(15)
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


# As a device that is broken, or too small for a time, would: the files say when.
DEVICE = """
import os, sys
if "infer" in sys.argv:
    import torch
    from pathlib import Path
    from pipeline.runner import Runner
    detect, folder = Runner._detect, Path(__file__).parent
    def as_it_is(self, pixels, thresholds):
        if (folder / "broken").exists():
            (folder / "broken").unlink(missing_ok=True)
            raise RuntimeError("CUDA error: device-side assert triggered")
        if (folder / "small").exists() and len(thresholds) > 2:
            (folder / "hit").touch()
            raise torch.OutOfMemoryError("CUDA out of memory")
        return detect(self, pixels, thresholds)
    Runner._detect = as_it_is
"""


@pytest.fixture
def device(place: Place) -> tuple[Path, dict[str, str]]:
    """A folder for those files, and who is told of it."""
    folder = place.folder / "device"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(DEVICE)
    return folder, {"PYTHONPATH": str(folder)}


@pytest.mark.slow
def test_a_device_that_is_broken_for_this_process_gets_another(
    place: Place, device: tuple[Path, dict[str, str]]
) -> None:
    folder, more = device
    with place.run(place.live("a", "b"), more=more) as deed:
        deed.wait("a", "b")
        deed.strike()
        (folder / "broken").touch()
        deed.notice(lambda: "infer (process" in deed.said, within=20)
        deed.recover("a", "b")
        assert deed.unaccounted() == 0
        assert deed.run.terminate() == 0
    remark = "a stand-in raises it; said, with its text"
    found = deed.report("P05 sticky CUDA error", {"a": None, "b": None}, remark=remark)
    assert "CUDA error: device-side assert triggered; it is started again" in deed.said
    assert set(found.dropped) <= {"crash", "superseded", "surplus", "too_old"}


@pytest.mark.slow
def test_a_device_that_is_too_small_for_a_time_costs_speed_alone(
    place: Place, device: tuple[Path, dict[str, str]], shared: Path
) -> None:
    folder, more = device
    url = str(shared / "media" / "car-detection.mp4")
    cameras = [{"id": name, "url": url, "loop": True} for name in ("yard", "lane")]
    rates = []
    with place.run(cameras, more=more) as deed:
        deed.wait("yard", "lane", entries=50)
        infer = runs.workers_of(deed.run)["infer:infer"]
        for step in ("before", "while", "after"):
            if step == "while":
                (folder / "small").touch()
            elif step == "after":
                (folder / "small").unlink()
            had = deed.published("yard") + deed.published("lane")
            time.sleep(4)
            rates.append((deed.published("yard") + deed.published("lane") - had) / 4)
        assert runs.workers_of(deed.run)["infer:infer"] == infer
        assert deed.unaccounted() == 0
        deed.stop()
    shown = ", ".join(f"{rate:.0f}" for rate in rates)
    remark = (
        f"a stand-in has no memory for more than 2 frames: {shown} frames/s before, while, after"
    )
    found = deed.report(
        "P06 out of memory on the device", {"yard": None, "lane": None}, remark=remark
    )
    assert (folder / "hit").exists()
    assert not found.dropped
    assert min(rates) > rates[0] / 3
