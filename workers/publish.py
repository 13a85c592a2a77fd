"""The publish process: results in, entries in Redis, confirmations back to the cameras' counters.

Two threads, because a Redis that does not answer must not stop the reading: the main one, here,
always reads its sockets; the writer owns the connection and everything that waits for it.
"""

from __future__ import annotations

import os
import selectors
import time
from dataclasses import dataclass
from pathlib import Path

from pipeline.channel import Channel
from pipeline.errors import ChannelClosed
from pipeline.messages import Ended, Result, decoder
from pipeline.sinks.lease import Owner
from pipeline.sinks.redis import RedisSink
from pipeline.sinks.spool import Spool
from pipeline.slots import Slots
from pipeline.wire import Model, detections_message, ended_message, state_message
from workers import control
from workers.journeys import Journeys, stamps_of
from workers.waiting import receive
from workers.work import Forget, Move, Open, Take
from workers.writer import Writer

_from_infer = decoder(Result, Ended)


def run(channel: Channel) -> None:
    """Publishes until the supervisor says stop."""
    set_up, _ = receive(channel, control.SetUp)
    settings: control.PublishSettings = control.settings.decode(set_up.settings)
    owner = Owner.of(os.getppid(), settings.run)

    def notice(text: str) -> None:
        _tell(channel, control.Notice(text))

    spool = None
    if settings.spool:
        spool = Spool(Path(settings.spool), notice=notice, since=settings.since)
    journeys = Journeys(channel)
    sink = RedisSink(settings.url, owner=owner, notice=notice, spool=spool, tell=journeys.end)
    writer = Writer(sink, channel, settings.prefix, journeys)
    reader = Reader(channel, settings, writer)
    writer.start()
    channel.send(control.Up())
    try:
        reader.serve()
    finally:
        if spool is not None:
            spool.close()


@dataclass(slots=True)
class Camera:
    """One camera as the reader sees it."""

    settings: control.PublishCamera  # of the generation that is taken
    model: Model
    slots: Slots | None = None  # of that generation
    early: int = 0  # results of it that came before its memory
    has_ended: bool = False  # nothing is taken behind its end, whatever begins anew

    def takes(self, generation: int) -> bool:
        return self.settings.generation == generation and not self.has_ended


class Reader:
    """Reads the control and the data socket, and never waits for anything else."""

    def __init__(self, channel: Channel, settings: control.PublishSettings, writer: Writer) -> None:
        self._channel = channel
        self._settings = settings
        self._writer = writer
        self._cameras: dict[str, Camera] = {}
        self._data: Channel | None = None
        self._stopping = False
        self._selector = selectors.DefaultSelector()
        self._selector.register(channel, selectors.EVENT_READ, self._hear_supervisor)
        self._selector.register(writer, selectors.EVENT_READ, writer.check)

    def serve(self) -> None:
        try:
            while not self._stopping:
                for key, _ in self._selector.select():
                    key.data()
        finally:  # else the interpreter waits for the thread, and the supervisor for both
            self._writer.stop()
        self._writer.check()

    def _hear_supervisor(self) -> None:
        message, descriptors = self._channel.receive_with_descriptors()
        match message:
            case control.Stop():
                self._stopping = True
            case control.Join():
                self._hear_infer()
                self._leave_infer()
                self._data = Channel.adopt(descriptors[0], _from_infer)
                self._selector.register(self._data, selectors.EVENT_READ, self._hear_infer)
            case control.PublishCamera():
                self._hear_infer()  # what infer has sent of the generation before is not lost
                self._open(message)
            case control.Forget(camera=name):
                self._forget(name)
            case control.Attach():
                self._attach(message, descriptors)
            case control.State():
                self._say(message)
            case control.End():
                self._end(self._cameras[message.ended.camera], message.ended, message.is_last)

    def _open(self, settings: control.PublishCamera) -> None:
        camera = self._cameras.get(settings.camera)
        if camera is not None and settings.fresh:
            self._stop_receiving(camera)
            camera = None
        if camera is None:
            camera = Camera(settings, self._model_of(settings))
            self._cameras[settings.camera] = camera
        if camera.has_ended:  # `Finished` is under way
            return
        camera.settings, camera.early = settings, 0
        self._stop_receiving(camera)
        self._writer.put(Open(settings.camera, settings))

    def _forget(self, name: str) -> None:
        if (camera := self._cameras.pop(name, None)) is not None:
            self._stop_receiving(camera)
            self._writer.put(Forget(name))

    def _attach(self, message: control.Attach, descriptors: list[int]) -> None:
        memory, bell = descriptors
        slots = Slots.attach(memory, bell, message.geometry)
        camera = self._cameras.get(message.camera)
        if camera is None or camera.settings.generation != message.generation:
            slots.close()
            return
        # Two mappings: the writer closes its own when it lets go of the camera.
        camera.slots = Slots.attach(os.dup(memory), os.dup(bell), message.geometry)
        for _ in range(camera.early):
            camera.slots.count_received()
        camera.early = 0
        self._writer.put(Move(message.camera, slots))

    def _model_of(self, settings: control.PublishCamera) -> Model:
        return Model(
            name=self._settings.model_name,
            digest=self._settings.model_digest,
            input=self._settings.model_input,
            confidence=settings.confidence,
        )

    def _hear_infer(self) -> None:
        if self._data is None:
            return
        try:
            while (message := self._data.receive()) is not None:
                camera = self._cameras.get(_camera_of(message))
                if camera is None or not camera.takes(message.generation):
                    continue  # stale: of a generation that is gone
                if isinstance(message, Result):
                    self._take(camera, message)
                else:
                    self._end(camera, message, not message.goes_on)
        except ChannelClosed:  # infer died: the supervisor starts another
            self._leave_infer()

    def _take(self, camera: Camera, result: Result) -> None:
        if camera.slots is None:
            camera.early += 1
        else:
            camera.slots.count_received()
        message = detections_message(result, camera.model, self._settings.labels)
        stamps = stamps_of(result) if self._settings.measured else None
        self._writer.put(Take(result.frame.camera, message, stamps=stamps))

    def _end(self, camera: Camera, ended: Ended, is_last: bool = True) -> None:
        """Of a session, or of the camera with it."""
        event = ended_message(ended, since=time.time(), last_id=None)
        self._writer.put(Take(ended.camera, event, ended if is_last else None))
        if is_last:
            camera.has_ended = True
            self._stop_receiving(camera)

    def _say(self, state: control.State) -> None:
        event = state_message(
            state.camera, state.state, since=state.since, reason=state.reason, fault=state.fault
        )
        self._writer.put(Take(state.camera, event))

    def _stop_receiving(self, camera: Camera) -> None:
        if camera.slots is not None:
            camera.slots.close()
            camera.slots = None

    def _leave_infer(self) -> None:
        if self._data is not None:
            self._selector.unregister(self._data)
            self._data.close()
            self._data = None


def _camera_of(message: Result | Ended) -> str:
    return message.frame.camera if isinstance(message, Result) else message.camera


def _tell(channel: Channel, message: control.Notice) -> None:
    while not channel.send(message):
        time.sleep(0.001)
