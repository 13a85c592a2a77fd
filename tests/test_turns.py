"""When a live camera's turn is, and which of its pictures may be the last before it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest

from pipeline.channel import Channel, pair
from pipeline.slots import Geometry, Slots
from pipeline.sources import USUAL, open_source
from pipeline.turns import _GAPS, Gaps, Pace
from tests import media
from workers import control
from workers.link import Link
from workers.session import Session

MS = 1_000_000
GAP = 40 * MS  # between pictures
FAR = 1 << 62  # nanoseconds: no turn in this test's time


def pace(*batches: tuple[int, int]) -> Pace:
    """Batches at milliseconds, of so many frames."""
    made = Pace()
    for at, frames in batches:
        made.take(at * MS, frames)
    return made


def test_a_turn_is_as_far_off_as_the_frames_before_it_take() -> None:
    found = pace(*((100 * n, 4) for n in range(8)))  # 40 frames/s, the last batch at 700 ms

    assert [found.turn_ns(before) for before in (0, 1, 4, 40)] == [
        at * MS for at in (700, 725, 800, 1700)
    ]


def test_only_the_latest_batches_say_how_fast_it_goes() -> None:
    slow, quick = [(1000 * n, 1) for n in range(20)], [(20_000 + 10 * n, 1) for n in range(8)]

    assert pace(*slow, *quick).turn_ns(10) == (20_070 + 100) * MS


def test_before_there_are_enough_batches_nobody_knows() -> None:
    assert pace(*((100 * n, 4) for n in range(7))).turn_ns(3) == 0


def test_batches_that_go_at_once_tell_no_time() -> None:
    assert pace(*((100, 4) for _ in range(8))).turn_ns(9) == 100 * MS


def last_before(turn: float, gaps: list[float]) -> list[int]:
    """Which pictures may be the last before a turn, all given in gaps of `GAP`."""
    made = Gaps()
    return [
        number
        for number, at in enumerate(accumulate(gaps))
        if made.is_last_before(round(turn * GAP), round(at * GAP))
    ]


def test_pictures_well_before_a_turn_are_not_the_last() -> None:
    pictures = last_before(turn=30, gaps=[1.0] * 40)

    assert pictures == [*range(8), *range(28, 40)]  # the first ones tell how far apart they are


def test_the_longest_of_the_latest_gaps_counts() -> None:
    gaps = [1.0] * 10 + [5.0] + [1.0] * 30  # the long one is forgotten after eight more

    assert last_before(turn=35, gaps=gaps) == [*range(8), *range(29, 41)]
    assert last_before(turn=25, gaps=gaps) == [*range(8), 15, 16, 17, *range(19, 41)]


def test_without_a_turn_every_picture_is_wanted() -> None:
    assert last_before(turn=0, gaps=[1.0] * 20) == list(range(20))


# ── as ingest has it ──────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def link(tmp_path: Path) -> Iterator[Link]:
    """Of a live camera: a clip of 40 pictures, 200 a second."""
    clip = tmp_path / "clip.mp4"
    media.encode(clip, frames=40, rate=200)
    geometry = Geometry(3, 64, 96, live=True)
    (ours, supervisor), (out, infer) = pair(), pair()
    channel, data = Channel(ours, control.to_worker), Channel(out)
    with supervisor, infer, closing(channel), closing(data):
        made = Link(channel)
        made.slots = Slots.create("gate", geometry)
        made.camera = control.IngestCamera(
            camera="gate",
            generation=1,
            geometry=geometry,
            url=str(clip),
            access=USUAL,
            live=True,
            loop=False,
            comes_back=False,
            max_fps=None,
            session="1-ab",
            first_seq=0,
            next_seq=0,
            started_at=1_000_000.0,
        )
        made._out = data
        yield made
        made.slots.close()


def play(link: Link, *, taken_behind: int | None = None) -> None:
    """Infer takes the newest frame behind this picture, if behind any."""
    session = Session(link)
    with open_source(link.camera.url, live=True, loop=False) as source:
        for number, picture in enumerate(source):
            session.take(picture)
            if number == taken_behind:
                link.slots.count_taken(link.slots.sent)
    assert session.frames == link.slots.arrived == 40


def test_pictures_that_nobody_will_see_are_dropped_as_they_are(link: Link) -> None:
    link.slots.expect_turn(FAR)

    play(link)

    assert link.slots.sent == _GAPS  # until it is known how far apart they are
    assert link.slots.dropped() == {"superseded": 40 - _GAPS}


def test_a_picture_goes_where_none_lies(link: Link) -> None:
    link.slots.expect_turn(FAR)

    play(link, taken_behind=30)

    assert link.slots.sent == _GAPS + 1
    assert link.slots.taken == _GAPS


@pytest.mark.parametrize("turn_ns", [0, 1])
def test_all_go_where_the_turn_is_unknown_or_overdue(link: Link, turn_ns: int) -> None:
    link.slots.expect_turn(turn_ns)

    play(link)

    assert link.slots.sent == 40
    assert link.slots.dropped() == {}


def test_the_ticket_behind_dropped_pictures_says_so(link: Link) -> None:
    link.slots.expect_turn(FAR)
    play(link, taken_behind=30)
    pixels = np.empty((64, 96, 3), np.uint8)

    ticket = link.slots.read(link.slots.sent, pixels)

    assert ticket is not None
    assert ticket.frame.seq == 31
    assert ticket.dropped == {"superseded": 31 - _GAPS}
