"""How ingest passes by what is published already."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.channel import Channel, pair
from pipeline.slots import Geometry, Slots
from pipeline.sources import USUAL, open_source
from tests import media
from workers import control
from workers.link import Link
from workers.session import Session

LAP = 30  # frames


def test_a_loop_passes_two_laps_by_and_leaves_out_the_rest(tmp_path: Path) -> None:
    clip = tmp_path / "short.mp4"
    media.encode(clip, frames=LAP, rate=25)
    published = 100_000 * LAP + 10
    geometry = Geometry(2, 64, 96, live=False)
    camera = control.IngestCamera(
        camera="yard",
        generation=1,
        geometry=geometry,
        url=str(clip),
        access=USUAL,
        live=False,
        loop=True,
        comes_back=False,
        max_fps=5,
        session="1-ab",
        first_seq=0,
        next_seq=published,
        started_at=1_000_000.0,
    )
    ours, theirs = pair()
    with theirs:
        channel = Channel(ours, control.to_worker)
        link = Link(channel)
        link.camera, link.slots = camera, Slots.create("yard", geometry)
        session, decoded = Session(link), 0
        with open_source(str(clip), live=False, loop=True) as source:
            while session.frames < published:
                session.take(next(source))
                decoded += 1

        assert decoded < 4 * LAP
        assert session.frames == link.slots.arrived == published
        assert link.slots.dropped() == {"max_fps": published - 6 * 100_000 - 2}
        assert session._clock.origin == pytest.approx(1_000_000 + 100_000 * LAP / 25, abs=0.01)
        link.slots.close()
        channel.close()


READ = """
import resource, sys
from pipeline.sources import open_source
from workers.ingest import limit_memory

limit_memory(1 << 30)
with open_source(sys.argv[1], live=False, loop=False) as source:
    print(len(list(source)), source.reason)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_an_index_that_promises_millions_of_pictures_takes_no_memory(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    media.encode(clip, frames=10)
    data = bytearray(clip.read_bytes())
    many = (50_000_000).to_bytes(4, "big")
    one = (1).to_bytes(4, "big")
    counts = ((b"stsz", 8, one + many), (b"stsc", 12, one + many), (b"stts", 12, many))
    for name, behind, put in counts:
        at = data.index(name) + behind
        data[at : at + len(put)] = put
    clip.write_bytes(data)

    read = subprocess.run(
        [sys.executable, "-c", READ, str(clip)], capture_output=True, text=True, check=True
    )

    told, peak = read.stdout.splitlines()
    assert told == "0 not one frame of it could be decoded"
    assert int(peak) < 1 << 20  # kB; without a limit, more than three times as much
