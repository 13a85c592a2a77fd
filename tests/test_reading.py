"""When the reader of a file is seen to hang, and when it may stand still."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from config.schema import Camera
from pipeline.messages import Frame, Ticket
from pipeline.slots import Geometry, Slots
from workers.camera import CameraRun
from workers.totals import Totals


class Reading:
    """A camera whose memory is served by hand."""

    def __init__(self, *, live: bool) -> None:
        self.slots = Slots.create("yard", Geometry(2, 8, 8, live=live))
        config = Camera.model_validate({"id": "yard", "url": "yard.mp4", "live": live})
        worker: Any = SimpleNamespace()
        self.camera = CameraRun(config, worker, Totals(live=live), began=True)
        self.camera.totals.move(self.slots, owed=0)

    def write(self) -> None:
        number = self.slots.arrived
        self.slots.count_arrived(number + 1)
        self.slots.begin()
        self.slots.commit(Ticket(Frame("yard", "1-ab", number, 0, 0.0, 0.0, 0, 8, 8), 0, 0, {}))

    def take(self) -> None:
        """Infer and publish are done with what is there."""
        while self.slots.taken < self.slots.sent:
            self.slots.count_taken(self.slots.taken + 1)
            self.slots.count_read()
            self.slots.count_inferred()
            self.slots.count_received()
            self.slots.count_published(1, (1, self.slots.sent))

    def look(self) -> list[str]:
        """What is said of it in twenty minutes without a picture, looked at each second."""
        seconds = (60.0 + second for second in range(1200))
        return [why for at in seconds if (why := self.camera.watch(at)) is not None]


@pytest.fixture(params=[False, True], ids=["file", "paced"])
def reading(request: pytest.FixtureRequest) -> Iterator[Reading]:
    one = Reading(live=request.param)
    yield one
    one.camera.totals.close()


def test_a_reader_that_may_read_and_does_not_is_killed_after_five_minutes(
    reading: Reading,
) -> None:
    reading.write()
    reading.take()

    assert reading.look()[0] == "nothing of it has been read for 301 s"


def test_a_reader_that_has_read_to_the_end_is_left_alone(reading: Reading) -> None:
    reading.write()
    reading.take()
    reading.slots.finish()

    assert reading.look() == []


def test_before_the_first_picture_nothing_is_said(reading: Reading) -> None:
    assert reading.look() == []


def test_frames_that_are_passed_by_are_a_sign_of_life() -> None:
    reading = Reading(live=False)
    reading.slots.count_passed()
    said = []
    for second in range(1200):
        if second % 200 == 0:
            reading.slots.count_passed()
        said.append(reading.camera.watch(60.0 + second))

    assert not any(said)
    reading.camera.totals.close()


def test_a_file_that_waits_for_its_turn_is_left_alone() -> None:
    reading = Reading(live=False)
    for _ in range(2):
        reading.write()  # both slots are full

    assert reading.look() == []
    reading.camera.totals.close()


def test_what_a_paced_file_has_lost_on_its_way_is_no_reason_to_wait() -> None:
    reading = Reading(live=True)
    for _ in range(20):
        reading.write()
    reading.slots.count_taken(20)

    assert reading.look()
    reading.camera.totals.close()
