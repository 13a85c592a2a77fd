"""What only shows after many frames."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pipeline.sinks.budget import SECONDS
from tests import runs
from tests.servers import RedisServer

FRAMES = 20_000
WARM_SECONDS = SECONDS + 10  # the publisher keeps what it sent for so long, and then no more


def resident(run: runs.Running) -> int:
    """Bytes that the whole tree of a run has to itself, shared pages counted once (smaps(5))."""
    total = 0
    for pid in (run.process.pid, *runs.workers_of(run).values()):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


@pytest.mark.slow
def test_memory_stays_flat_over_twenty_thousand_frames(
    tmp_path: Path, shared: Path, lite_s: Path, redis_server: RedisServer
) -> None:
    clip = str(shared / "media" / "one-by-one-person-detection.mp4")
    cameras = [
        {"id": "yard", "url": clip, "loop": True, "maxlen": 1000},
        {"id": "gate", "url": clip, "loop": True, "live": True, "maxlen": 1000},
    ]
    config = runs.write_config(tmp_path, cameras, weights=lite_s, redis_url=redis_server.url)

    with runs.running(tmp_path, config) as run:
        runs.eventually(lambda: published(redis_server) > 0, within=60)
        time.sleep(WARM_SECONDS)
        warm, before = published(redis_server), resident(run)
        runs.eventually(lambda: published(redis_server) > warm + FRAMES, within=900)
        after = resident(run)
        assert run.terminate() == 0

    print(f"{before / 1e6:.1f} MB after {warm:,} frames, {after / 1e6:.1f} MB {FRAMES:,} later")
    assert after < 1.05 * before


def published(redis_server: RedisServer) -> int:
    """Entries that a file's stream has ever had: its ids count them."""
    with redis_server.client() as client:
        if not client.exists("vedette:{yard}:detections"):
            return 0
        info = client.xinfo_stream("vedette:{yard}:detections")
    return int(info["entries-added"])  # type: ignore[index]
