"""The publish process on its own, told what a supervisor would tell it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import numpy as np

from pipeline.channel import Channel, pair
from pipeline.messages import Detections, Frame, Message, Result, encode
from pipeline.slots import Geometry, Slots
from tests import runs
from tests.servers import RedisServer
from workers import control
from workers.waiting import receive

GEOMETRY = Geometry(3, 64, 96, live=True)
CAMERA = control.PublishCamera(
    camera="gate",
    generation=1,
    fresh=True,
    live=True,
    maxlen=1000,
    confidence=0.25,
    job="5d41402abc4b",
    again=False,
    incarnation=0,
    session=None,
    confirmed=(0, 0),
    event=None,
    ends=(),
    ended=None,
)
NOTHING = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int16))


def result(seq: int) -> Result:
    frame = Frame("gate", "1700000000000-ab", seq, 0, seq / 10, 1.7e9, 1, 96, 64)
    return Result(frame, 1, NOTHING, {}, 1, 2, 3, 4)


class Supervisor:
    """The other end of the process' control socket, and infer's end of its data socket."""

    def __init__(self, process: int, channel: Channel, infer: Channel) -> None:
        self._process = process
        self._channel = channel
        self.infer = infer

    def say(self, message: Message, *descriptors: int) -> None:
        assert self._channel.send(message, descriptors)

    def attach(self, slots: Slots, generation: int = 1) -> None:
        self.say(control.Attach("gate", generation, GEOMETRY), slots.fd, slots.bell)

    def memory_files(self) -> int:
        """How many of cameras the process has open."""
        with suppress(FileNotFoundError):  # one was closed meanwhile
            files = Path(f"/proc/{self._process}/fd").iterdir()
            return sum("vedette-gate" in os.readlink(file) for file in files)
        return self.memory_files()

    def begin(self, camera: control.PublishCamera) -> control.Opened:
        self.say(camera)
        opened, _ = receive(self._channel, control.Opened)
        assert isinstance(opened, control.Opened)
        return opened


@contextmanager
def publishing(server: RedisServer) -> Iterator[Supervisor]:
    settings = control.PublishSettings(
        url=server.url,
        prefix="vedette",
        run="a-run",
        since=0,
        spool=None,
        model_name="0.4.x-n",
        model_digest="0123456789ab",
        model_input=(64, 96),
        labels=("person",),
        measured=False,
    )
    ours, theirs = pair()
    data, results = pair()
    channel, infer = Channel(ours, control.to_supervisor["publish"]), Channel(results)
    with theirs, data:
        ids = str(theirs.fileno()), str(os.getpid())
        worker = subprocess.Popen(
            [sys.executable, "-m", "workers.process", "publish", "publish", *ids],
            pass_fds=[theirs.fileno()],
        )
        one = Supervisor(worker.pid, channel, infer)
        one.say(control.SetUp(encode(settings), 1))
        one.say(control.Join(), data.fileno())
    try:
        receive(channel, control.Up)
        yield one
        one.say(control.Stop())
        assert worker.wait(10) == 0
    finally:
        worker.kill()
        worker.wait()
        infer.close()
        channel.close()


def test_results_that_come_before_their_memory_are_counted_in_it(
    redis_server: RedisServer,
) -> None:
    with publishing(redis_server) as one:
        one.begin(CAMERA)
        slots = Slots.create("gate", GEOMETRY)
        for seq in range(5):
            one.infer.send(result(seq))
        runs.eventually(lambda: runs.length(redis_server.url, "gate") == 5, within=10)
        one.attach(slots)
        for seq in range(5, 8):
            one.infer.send(result(seq))
        runs.eventually(lambda: slots.published == 8, within=10)

        assert slots.received == 8
        slots.close()


def test_a_camera_that_begins_anew_leaves_no_memory_behind(redis_server: RedisServer) -> None:
    with publishing(redis_server) as one:
        for generation in range(1, 30):
            fresh = generation % 3 == 0
            camera = msgspec.structs.replace(CAMERA, generation=generation, fresh=fresh)
            one.begin(camera)
            slots = Slots.create("gate", GEOMETRY)
            one.attach(slots, generation)
            slots.close()
        one.begin(msgspec.structs.replace(CAMERA, generation=30, fresh=True))

        runs.eventually(lambda: one.memory_files() <= 1, within=5)  # the writer's last
