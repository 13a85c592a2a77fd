"""Whether infer or publish hangs, and who rests because the network has died with its frames."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.runner import Plan, Runner, Thresholds
from workers.quarantine import REST, Quarantine
from workers.stillness import LEAST, MOST, Stillness
from workers.totals import Steps
from workers.watchdog import Watchdog

TICK = 0.25


def see(dog: Watchdog, at: float, *steps: Steps) -> tuple[str, float] | None:
    cameras: Any = [SimpleNamespace(begun=True, totals=SimpleNamespace(steps=one)) for one in steps]
    return dog.hung(cameras, at)


def first_alarm(dog: Watchdog, at: float, until: float, *steps: Steps) -> tuple[str, float] | None:
    while at < until:
        if (found := see(dog, at, *steps)) is not None:
            return found[0], at
        at += TICK
    return None


def run_well(dog: Watchdog, until: float) -> None:
    """A batch of 4 every half second."""
    at, done = 0.0, 0
    while at < until:
        see(dog, at, Steps(done + 4, done + 4, done, done))
        at += TICK
        done += 2


def test_who_stands_still_with_frames_to_do_hangs() -> None:
    in_batch, unread = Watchdog(), Watchdog()
    for dog in (in_batch, unread):
        run_well(dog, 60.0)

    found = first_alarm(in_batch, 60.0, 200.0, Steps(900, 900, 896, 896))
    also = first_alarm(unread, 60.0, 200.0, Steps(900, 896, 896, 896))

    assert found is not None
    assert also is not None
    assert found[0] == also[0] == "infer"
    assert LEAST < found[1] - 60 < LEAST + 2
    assert LEAST < also[1] - 60 < LEAST + 2


def test_publish_is_looked_at_first() -> None:
    dog = Watchdog()
    run_well(dog, 60.0)

    found = first_alarm(dog, 60.0, 200.0, Steps(900, 898, 896, 880))

    assert found is not None
    assert found[0] == "publish"


def test_nobody_hangs_who_has_nothing_to_do() -> None:
    dog = Watchdog()
    run_well(dog, 60.0)

    assert first_alarm(dog, 60.0, 600.0, Steps(900, 900, 900, 900)) is None


def test_a_slow_device_has_longer() -> None:
    dog = Watchdog()
    for number in range(3):
        assert (
            first_alarm(dog, number * 8.0, number * 8.0 + 8, Steps(40, 20, number, number)) is None
        )

    found = first_alarm(dog, 24.0, 400.0, Steps(40, 20, 3, 3))

    assert found is not None
    assert 79 < found[1] - 24 < 85


def test_one_that_has_never_moved_has_longest() -> None:
    found = first_alarm(Watchdog(), 0.0, 400.0, Steps(4, 4, 0, 0))

    assert found is not None
    assert MOST < found[1] < MOST + 1


def test_the_longest_stand_is_remembered_but_not_the_waiting() -> None:
    stillness = Stillness()
    for at in (0.0, 1.0, 2.0):
        stillness.watch("a", at, waiting=False)
    stillness.watch("b", 3.0, waiting=False)
    for at in range(4, 30):
        stillness.watch("b", float(at), waiting=True)
    stillness.watch("c", 30.0, waiting=True)

    assert stillness.longest == 3.0


def test_one_death_has_nobody_rest_and_another_half_of_those_that_were_there_twice() -> None:
    quarantine = Quarantine()

    assert quarantine.die(["gate", "yard"], 0.0) == []
    assert quarantine.die(["gate", "door"], 10.0) == ["gate"]


@pytest.mark.parametrize("cameras", [1, 2, 5, 40])
def test_the_one_that_it_dies_of_is_found_and_rests_alone(cameras: int) -> None:
    names = [f"{number:02}" for number in range(cameras)]
    for poison in names:
        quarantine, now, deaths = Quarantine(), 0.0, 0
        resting: list[str] = []
        for _ in range(4 * 600):  # seconds, a death one second after the poison is let in
            now += 1
            going = [name for name in names if not quarantine.rests(name, now)]
            if poison in going:
                resting = quarantine.die(going, now)
                deaths += 1
                now += 5
                quarantine.go_on(now)
                if resting == [poison]:
                    break

        assert resting == [poison]
        assert deaths <= 3 + math.ceil(math.log2(cameras))
        assert quarantine.rests(poison, now + REST - 1)
        assert not quarantine.rests(poison, now + REST)
        assert not any(quarantine.rests(name, now) for name in names if name != poison)
        assert quarantine.die(names, now + REST + 1) == [poison]  # at once, the next time


def test_a_death_after_a_long_time_is_a_first_one() -> None:
    quarantine = Quarantine()
    quarantine.die(["gate"], 0.0)

    assert quarantine.die(["gate"], 700.0) == []


def test_who_rests_does_so_until_the_network_has_been_up_for_a_minute() -> None:
    quarantine = Quarantine()
    quarantine.die(["gate"], 0.0)
    quarantine.die(["gate"], 1.0)

    assert quarantine.rests("gate", 500.0)
    quarantine.go_on(501.0)
    quarantine.go_on(530.0)
    assert quarantine.rests("gate", 560.0)
    assert not quarantine.rests("gate", 561.0)


class Short(torch.nn.Module):
    """A network whose device has memory for so many frames; each frame's box says which it is."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.batches: list[int] = []

    def take_bytes(self) -> None: ...

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.batches.append(len(images))
        if len(images) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        number = images[:, 0, 0, 0].float()
        boxes = torch.stack((number, number, number + 9, number + 9), -1)[:, None]
        return boxes, torch.full((len(images), 1, 1), 0.9)


def runner_of(network: Short) -> Runner:
    device = Plan(torch.device("cpu"), "fp32", 16, 1)
    made: Any = network
    return Runner(made, device, input_size=(32, 32), iou=0.5, max_detections=9)


def run(runner: Runner, frames: int = 16) -> list[float]:
    """What was found in so many frames, each of one grey."""
    staging = runner.staging()
    assert staging is not None
    staging.pixels[:] = np.arange(16)[:, None, None, None]
    found = runner.submit(staging, [Thresholds(0.25)] * frames).result()
    runner.drain_bell()
    return [float(one.xyxy[0, 0]) for one in found]


def test_a_batch_that_has_no_room_goes_in_parts_and_the_next_ones_are_smaller() -> None:
    network = Short(5)
    runner = runner_of(network)
    first = run(runner)
    most = runner.most
    second = run(runner, most)
    runner.close()

    assert first == list(range(16))
    assert second == list(range(most))
    assert most == 4
    assert network.batches == [16, 8, 4, 4, 8, 4, 4, 4]


def test_batches_grow_again_once_there_is_room() -> None:
    network = Short(5)
    runner = runner_of(network)
    run(runner)
    network.most = 16
    grown = []
    for _ in range(1100):
        run(runner, min(1, runner.most))
        grown.append(runner.most)
    runner.close()

    assert grown[0] == 4
    assert sorted(set(grown)) == [4, 8, 16]


def test_a_device_without_room_for_one_frame_is_of_no_use() -> None:
    runner = runner_of(Short(0))
    with pytest.raises(torch.OutOfMemoryError):
        run(runner)
    runner.close()
