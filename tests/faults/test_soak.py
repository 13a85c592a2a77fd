"""What is left over when everything goes wrong for a long time, and is mended each time.

`make soak` takes half an hour; `VEDETTE_SOAK_SECONDS` says otherwise, `VEDETTE_FAULT_SEED` what
happens.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults import table
from tests.faults.cameras import account
from tests.faults.schedule import SEED
from tests.faults.soak import CAMERAS, Look, Soak, slope, soak

SECONDS = float(os.environ.get("VEDETTE_SOAK_SECONDS", "100"))
LONG = 1200.0  # seconds from which on slopes mean something


@pytest.mark.slow
@pytest.mark.timeout(2 * SECONDS + 600)
@pytest.mark.usefixtures("_server_binary")
def test_whatever_happens_nothing_grows_and_every_frame_is_accounted_for(
    tmp_path: Path, ours: Path
) -> None:
    with soak(tmp_path, ours, SEED) as one:
        one.suffer(SECONDS)
        assert one.run.terminate() == 0, one.run.said
        url = f"unix://{one.server.socket}"
        frames = arrived = 0
        for name in CAMERAS:
            _, came, sessions = account(url, name)
            arrived, frames = arrived + came, frames + one.cameras[name].frames
            assert came <= one.cameras[name].frames
            assert sessions > 0
    report(one, frames, arrived)

    first, last = one.looks[1], one.looks[-1]
    late = one.looks[-3:]  # at one look, something may be on its way
    assert min(look.descriptors for look in late) <= first.descriptors
    assert min(look.threads for look in late) <= first.threads
    assert min(look.shm_bytes for look in late) <= first.shm_bytes
    assert "Traceback" not in one.run.said
    assert "hunter2" not in one.run.said
    if last.at >= LONG:
        assert supervisor_growth(one.looks) < 1.0


def supervisor_growth(looks: list[Look]) -> float:
    """MB an hour, behind the first third, in which a process fills what it will need."""
    settled = [look for look in looks if look.at > looks[-1].at / 3]
    return 3600 * slope([(look.at, look.supervisor_mb) for look in settled])


def report(one: Soak, frames: int, arrived: int) -> None:
    first, last = one.looks[1], one.looks[-1]
    table.REMARKS.append(
        f"Soak of {last.at:.0f} s, seed {SEED}: {sum(one.done.values())} deeds of"
        f" {len(one.done)} kinds, {frames} frames sent, {arrived} arrived, all accounted for;"
        f" descriptors {first.descriptors} to {last.descriptors}, threads {first.threads} to"
        f" {last.threads}, /dev/shm {first.shm_bytes} to {last.shm_bytes} bytes, supervisor"
        f" {first.supervisor_mb:.1f} to {last.supervisor_mb:.1f} MB"
        f" ({supervisor_growth(one.looks):+.1f} MB/h), all processes {first.tree_mb:.0f} to"
        f" {last.tree_mb:.0f} MB"
    )
    print(table.REMARKS[-1], *one.looks, dict(one.done), sep="\n")
