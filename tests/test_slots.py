from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
import pytest

from pipeline.errors import ChannelClosed, VedetteError
from pipeline.messages import Frame, Ticket
from pipeline.slots import Geometry, Slots

HEIGHT, WIDTH = 32, 64


def ticket(seq: int) -> Ticket:
    return Ticket(Frame("gate", "1-ab", seq, 0, 0.0, 0.0, 0, WIDTH, HEIGHT), 0, 0, {})


def write(slots: Slots, seq: int) -> int:
    slots.begin()[:] = seq % 256
    return slots.commit(ticket(seq))


def twin(slots: Slots) -> Slots:
    """The same memory as another process maps it."""
    return Slots.attach(os.dup(slots.fd), os.dup(slots.bell), slots.geometry)


@contextmanager
def slots_of(geometry: Geometry) -> Iterator[tuple[Slots, Slots]]:
    """As ingest has them, and as infer."""
    ingest = Slots.create("yard", geometry)
    infer = twin(ingest)
    yield ingest, infer
    ingest.close()
    infer.close()


@pytest.fixture
def live() -> Iterator[tuple[Slots, Slots]]:
    ingest = Slots.create("gate", Geometry(3, HEIGHT, WIDTH, live=True))
    infer = twin(ingest)
    yield ingest, infer
    ingest.close()
    infer.close()


@pytest.fixture
def file() -> Iterator[tuple[Slots, Slots]]:
    ingest = Slots.create("yard", Geometry(2, HEIGHT, WIDTH, live=False))
    infer = twin(ingest)
    yield ingest, infer
    ingest.close()
    infer.close()


def test_a_frame_is_read_as_it_was_written(live: tuple[Slots, Slots]) -> None:
    ingest, infer = live
    out = np.zeros((HEIGHT, WIDTH, 3), np.uint8)

    number = write(ingest, 7)

    assert infer.read(number, out) == ticket(7)
    assert (out == 7).all()


def test_a_frame_that_is_being_overwritten_is_not_read(live: tuple[Slots, Slots]) -> None:
    ingest, infer = live
    out = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for seq in range(3):
        write(ingest, seq)

    ingest.begin()  # of frame 4, in the slot of frame 1

    assert infer.read(1, out) is None
    assert infer.read(2, out) == ticket(1)


def test_frames_that_a_live_reader_skips_are_counted_as_superseded(
    live: tuple[Slots, Slots],
) -> None:
    ingest, infer = live
    for seq in range(5):
        write(ingest, seq)

    infer.count_taken(infer.sent)

    assert ingest.dropped() == {"superseded": 4}


def test_a_file_waits_for_its_slot_and_for_its_credit(file: tuple[Slots, Slots]) -> None:
    ingest, infer = file
    assert file[0].geometry.credits == 4

    write(ingest, 0)
    write(ingest, 1)
    assert ingest.room == 0  # both slots hold frames that nobody has taken
    infer.count_taken(1)
    assert ingest.room == 1
    write(ingest, 2)
    infer.count_taken(3)
    write(ingest, 3)
    infer.count_taken(4)
    assert ingest.room == 0  # four frames are not confirmed
    infer.count_published(1, (1, 1))
    assert ingest.room == 1


def test_whoever_moves_a_counter_rings_the_bell_of_a_file(file: tuple[Slots, Slots]) -> None:
    ingest, infer = file
    write(ingest, 0)

    infer.count_taken(1)
    infer.count_published(1, (1, 1))

    assert os.eventfd_read(ingest.bell) == 2


def test_the_bell_is_silent_until_there_is_room_for_a_few_frames() -> None:
    with slots_of(Geometry(slots=12, height=8, width=8, live=False)) as (ingest, infer):
        for seq in range(12):
            write(ingest, seq)
        assert ingest.room == 0

        infer.count_taken(3)
        with pytest.raises(BlockingIOError):
            os.eventfd_read(ingest.bell)
        assert ingest.room == 3
        assert not ingest.is_roomy
        infer.count_taken(4)

        assert os.eventfd_read(ingest.bell) == 1
        assert ingest.is_roomy


def test_whoever_comes_last_rings_though_both_count_at_once() -> None:
    """Room is of slots and of credits: neither of two that are in a hurry may leave it unsaid."""
    geometry = Geometry(slots=3, height=8, width=8, live=False)
    for _ in range(200):
        with slots_of(geometry) as (ingest, infer):
            publish = twin(ingest)
            for seq in range(3):
                write(ingest, seq)
                infer.count_taken(seq + 1)
            for seq in range(3, 6):
                write(ingest, seq)
            with suppress(BlockingIOError):
                os.eventfd_read(ingest.bell)
            assert ingest.room == 0  # neither a slot nor a credit

            both = [
                threading.Thread(target=infer.count_taken, args=(6,)),
                threading.Thread(target=publish.count_published, args=(1, (1, 1))),
            ]
            for one in both:
                one.start()
            for one in both:
                one.join()

            assert os.eventfd_read(ingest.bell) >= 1
            publish.close()


def test_memory_that_cannot_be_had_is_refused_in_one_sentence() -> None:
    with pytest.raises(
        VedetteError, match=r"camera gate needs [0-9,]+ MB for its frames, [0-9,]+ MB are"
    ):
        Slots.create("gate", Geometry(1 << 20, 8192, 8192, live=False))


def test_nothing_is_left_of_a_memory_file(file: tuple[Slots, Slots]) -> None:
    before = set(os.listdir("/proc/self/fd"))

    slots = Slots.create("brief", Geometry(2, HEIGHT, WIDTH, live=False))
    slots.close()

    assert set(os.listdir("/proc/self/fd")) == before


def test_a_reader_beside_a_writer_at_full_speed_never_sees_half_a_frame() -> None:
    slots = Slots.create("gate", Geometry(3, 256, 256, live=True))
    script = (
        "import sys\n"
        "from pipeline.messages import Frame, Ticket\n"
        "from pipeline.slots import Geometry, Slots\n"
        "geometry = Geometry(3, 256, 256, live=True)\n"
        "slots = Slots.attach(int(sys.argv[1]), int(sys.argv[2]), geometry)\n"
        "for seq in range(20000):\n"
        "    slots.begin()[:] = seq % 251\n"
        "    slots.commit(Ticket(Frame('g', 's', seq, 0, 0.0, 0.0, 0, 1, 1), 0, 0, {}))\n"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", script, str(slots.fd), str(slots.bell)],
        pass_fds=[slots.fd, slots.bell],
    )
    out = np.zeros((256, 256, 3), np.uint8)
    read = 0
    while writer.poll() is None or read == 0:
        number = slots.sent
        found = slots.read(number, out) if number else None
        if found is not None:
            read += 1
            assert (out == found.frame.seq % 251).all()
            assert found.frame.seq == number - 1

    assert writer.returncode == 0
    assert read > 100
    slots.close()


def test_a_hostile_writer_can_neither_shrink_the_file_nor_hide_its_ticket(
    live: tuple[Slots, Slots],
) -> None:
    ingest, infer = live
    out = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    number = write(ingest, 7)

    with pytest.raises(PermissionError):
        os.ftruncate(ingest.fd, 4096)
    os.pwrite(ingest.fd, b"\xc1" * 16, 4096 + number % 3 * 1024 + 24)

    with pytest.raises(ChannelClosed):
        infer.read(number, out)


def test_a_frame_is_counted_where_it_is(file: tuple[Slots, Slots]) -> None:
    ingest, infer = file
    steps = (
        ingest.count_arrived,
        lambda: write(ingest, 0),
        lambda: (infer.count_taken(1), infer.count_read()),
        infer.count_inferred,
        infer.count_received,
        lambda: infer.count_published(1, (1, 1)),
    )

    found = []
    for step in steps:
        step()
        found.append(ingest.in_flight())

    assert found == [1, 1, 1, 1, 1, 0]
    assert ingest.arrived == ingest.published == 1
