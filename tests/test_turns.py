"""When a live camera's turn is, and which of its pictures may be the last before it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import accumulate
from pathlib import Path

import msgspec
import numpy as np
import pytest

from pipeline.channel import Channel, pair
from pipeline.device import plan
from pipeline.messages import Frame, Ticket
from pipeline.runner import open_runner
from pipeline.slots import Geometry, Slots
from pipeline.sources import USUAL, open_source
from pipeline.turns import _BATCHES, _GAPS, Gaps, Pace
from pipeline.yolov6 import load
from tests import media
from workers import control
from workers.infer import Inference
from workers.link import Link
from workers.reconnect import watch
from workers.retries import Retries
from workers.session import Session

MS = 1_000_000
GAP = 40 * MS  # between pictures
FAR = 1 << 62  # nanoseconds: no turn in this test's time


def pace(*batches: tuple[int, int], side_by_side: int = 2) -> Pace:
    """Batches at milliseconds, of so many frames, while others wait."""
    made = Pace(side_by_side)
    for at, frames in batches:
        made.take(at * MS, frames, waiting=9)
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


def test_batches_side_by_side_are_more_than_one_wave() -> None:
    """Sixteen threads end and begin all at once, a second apart."""
    waves = [(1000 * (n // 16), 1) for n in range(48)]

    assert pace(*waves, side_by_side=16).turn_ns(31) == (2000 + 1000) * MS


def test_a_device_that_waits_for_cameras_has_no_pace() -> None:
    made = pace(*((100 * n, 4) for n in range(8)))
    made.take(800 * MS, 4, waiting=0)

    assert made.turn_ns(1) == 0


def test_a_pause_is_not_how_long_a_batch_takes() -> None:
    quick = [(100 * n, 4) for n in range(8)]
    paused = [(20_000 + 100 * n, 4) for n in range(8)]

    assert pace(*quick, *paused[:1]).turn_ns(40) == 0
    assert pace(*quick, *paused).turn_ns(40) == (20_700 + 1000) * MS


def last_before(turn: float, gaps: list[float]) -> list[int]:
    """Which pictures may be the last before a turn, all given in gaps of `GAP`."""
    made, found = Gaps(), []
    for number, at in enumerate(accumulate(gaps)):
        made.see(round(at * GAP))
        if made.is_last_before(round(turn * GAP)):
            found.append(number)
    return found


def test_pictures_well_before_a_turn_are_not_the_last() -> None:
    pictures = last_before(turn=30, gaps=[1.0] * 40)

    assert pictures == [*range(8), *range(27, 40)]  # the first ones tell how far apart they are


def test_the_longest_of_the_latest_gaps_counts() -> None:
    gaps = [1.0] * 10 + [5.0] + [1.0] * 30  # the long one is forgotten after eight more

    assert last_before(turn=35, gaps=gaps) == [*range(8), *range(28, 41)]
    assert last_before(turn=25, gaps=gaps) == [*range(8), *range(10, 41)]


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


def play(link: Link, *, taken_behind: int | None = None) -> Session:
    """Infer takes the newest frame behind this picture, if behind any."""
    session = Session(link)
    with open_source(link.camera.url, live=True, loop=False) as source:
        for number, picture in enumerate(source):
            session.take(picture)
            if number == taken_behind:
                link.slots.count_taken(link.slots.sent)
    assert session.frames == link.slots.arrived == 40
    return session


def accounted(slots: Slots) -> int:
    return sum(slots.dropped().values()) + slots.in_flight() + slots.taken


def newest(slots: Slots) -> Ticket:
    ticket = slots.read(slots.sent, np.empty((64, 96, 3), np.uint8))
    assert ticket is not None
    return ticket


def test_pictures_that_nobody_will_see_are_not_resized(link: Link) -> None:
    link.slots.expect_turn(FAR)

    play(link)

    assert link.slots.sent == _GAPS  # until it is known how far apart they are
    assert link.slots.dropped() == {"surplus": 40 - _GAPS - 1}  # the last one is in hand
    assert accounted(link.slots) == 40


def test_the_last_picture_of_all_is_resized(link: Link) -> None:
    link.slots.expect_turn(FAR)

    play(link).send_held()

    assert link.slots.sent == _GAPS + 1
    assert newest(link.slots).frame.seq == 39
    assert newest(link.slots).dropped == {"surplus": 40 - _GAPS - 1}
    assert accounted(link.slots) == 40


def test_an_end_sends_it_too(link: Link) -> None:
    link.slots.expect_turn(FAR)

    ended = play(link).end("stopped", complete=False, fault=None)

    assert newest(link.slots).frame.seq == 39
    assert ended.frames == 40


def test_a_connection_that_is_lost_sends_it_before_infer_is_waited_for(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of a session that goes on goes behind frames that infer has read."""
    link.camera = msgspec.structs.replace(link.camera, comes_back=True)
    link.slots.expect_turn(FAR)
    there: list[int] = []

    def all_read() -> bool:
        there.append(newest(link.slots).frame.seq)
        return True

    monkeypatch.setattr(link, "leave_nothing", all_read)

    lost, _ = watch(link, Retries(), None)

    assert lost is not None
    assert there == [39]


def test_a_picture_that_is_held_when_infer_dies_is_counted_once(link: Link) -> None:
    link.slots.expect_turn(FAR)
    session = play(link)
    link.camera = msgspec.structs.replace(link.camera, generation=2)  # its memory is not this

    session.send_held()

    assert link.slots.sent == _GAPS
    assert link.slots.dropped() == {"surplus": 40 - _GAPS - 1}


def test_a_picture_that_is_held_goes_nowhere_without_infer(link: Link) -> None:
    link.slots.expect_turn(FAR)
    session = play(link)
    link._out = None

    session.send_held()

    assert link.slots.sent == _GAPS
    assert link.slots.dropped() == {"surplus": 40 - _GAPS - 1, "crash": 1}


def test_a_picture_goes_where_none_lies(link: Link) -> None:
    link.slots.expect_turn(FAR)

    play(link, taken_behind=30)

    assert link.slots.sent == _GAPS + 1
    assert link.slots.taken == _GAPS
    assert newest(link.slots).frame.seq == 31
    assert newest(link.slots).dropped == {"surplus": 31 - _GAPS}


@pytest.mark.parametrize("turn_ns", [0, 1])
def test_all_go_where_the_turn_is_unknown_or_overdue(link: Link, turn_ns: int) -> None:
    link.slots.expect_turn(turn_ns)

    play(link)

    assert link.slots.sent == 40
    assert link.slots.dropped() == {}


def test_a_picture_now_and_then_is_looked_at(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a camera that shows nothing would not be noticed before its turn."""
    monkeypatch.setattr("pipeline.sight._DUE", 0.05)
    monkeypatch.setattr("pipeline.sight._EVERY", 0.01)
    link.camera = msgspec.structs.replace(link.camera, comes_back=True)
    link.slots.expect_turn(FAR)

    play(link)  # 0.2 s

    assert _GAPS + 2 <= link.slots.sent <= _GAPS + 8


# ── as infer has it ───────────────────────────────────────────────────────────────────────────────


def test_infer_tells_each_camera_its_turn(ours: Path) -> None:
    """Nine cameras that always have a frame, and batches of two: who is told to be next is next."""
    with infer_with(ours, "abcdefghi") as (inference, cameras):
        for number in range(30):
            told = {name: s.turn_ns for name, s in cameras.items() if s.taken < s.sent}
            before = {name: slots.taken for name, slots in cameras.items()}
            offer(inference, cameras, number)
            inference._submit_batches()
            while not inference._runner.has_room:
                time.sleep(0.001)
            inference._send_results()
            taken = {name for name, slots in cameras.items() if slots.taken > before[name]}
            assert len(taken) == 2
            if number > _BATCHES:
                assert set(sorted(told, key=lambda name: told[name])[:2]) == taken

        now_ns = time.monotonic_ns()
        left = [s.turn_ns - now_ns for s in cameras.values() if s.taken < s.sent]
        assert len(left) == 7
        assert all(-(10**10) < one < 10**10 for one in left)


def offer(inference: Inference, cameras: dict[str, Slots], seq: int) -> None:
    """A frame of each camera that has none."""
    for name, slots in cameras.items():
        if slots.sent == slots.taken:
            slots.begin()
            frame = Frame(name, "1-ab", seq, 0, 0.0, 0.0, time.monotonic_ns(), 96, 64)
            slots.commit(Ticket(frame, 0, 0, {}))
            inference._offer(inference._cameras[name])


@contextmanager
def infer_with(weights: Path, names: str) -> Iterator[tuple[Inference, dict[str, Slots]]]:
    settings = control.InferSettings(str(weights), (64, 96), 0.45, 300, "cpu", "fp32", 2, 0.0)
    chosen = plan(device="cpu", precision="fp32", max_batch=2, threads=1)
    runner = open_runner(load(weights), chosen, input_size=(64, 96), iou=0.45, max_detections=300)
    geometry = Geometry(3, 64, 96, live=True)
    ours, supervisor = pair()
    with supervisor, ExitStack() as undo:
        inference = Inference(Channel(ours), runner, settings)
        undo.callback(inference._channel.close)
        undo.callback(inference._selector.close)
        undo.callback(runner.close)
        cameras = {}
        for name in names:
            cameras[name] = slots = Slots.create(name, geometry)
            undo.callback(slots.close)
            data, ingest = pair()
            undo.enter_context(ingest)
            camera = control.InferCamera(name, 1, geometry, 0.25, None, 1.0, None, None, 0, {})
            inference._add(camera, [os.dup(slots.fd), os.dup(slots.bell), data.detach()])
            undo.callback(inference._cameras[name].slots.close)
            undo.callback(inference._forget, inference._cameras[name])
        yield inference, cameras
