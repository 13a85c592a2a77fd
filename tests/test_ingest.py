"""How ingest passes by what is published already."""

from __future__ import annotations

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
