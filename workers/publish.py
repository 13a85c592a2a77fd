"""The publish process: results in, entries in Redis, confirmations back to the cameras' counters.

Two threads, because a Redis that does not answer must not stop the reading: the main one, here,
always reads its sockets; the writer owns the connection and everything that waits for it.
"""

from __future__ import annotations

import os
import selectors
import time
from pathlib import Path

from pipeline.channel import Channel
from pipeline.errors import ChannelClosed
from pipeline.messages import Ended, Result, decoder
from pipeline.sinks.lease import Owner
from pipeline.sinks.redis import RedisSink, Stream
from pipeline.sinks.spool import Spool
from pipeline.sinks.window import Keys
from pipeline.slots import Slots
from pipeline.wire import Model, detections_message, ended_message, merge_drops
from workers import control
from workers.waiting import receive
from workers.writer import Camera, Move, Open, Standing, Take, Writer

LIVE_WINDOW = 2000  # records of a live camera that wait for Redis; older ones are shed

_from_infer = decoder(Result, Ended)


def run(channel: Channel) -> None:
    """Publishes until the supervisor says stop."""
    set_up, _ = receive(channel, control.SetUp)
    settings: control.PublishSettings = control.settings.decode(set_up.settings)
    owner = Owner.of(os.getppid(), settings.run)

    def notice(text: str) -> None:
        _tell(channel, control.Notice(text))

    spool = Spool(Path(settings.spool), notice=notice) if settings.spool else None
    sink = RedisSink(settings.url, owner=owner, notice=notice, spool=spool)
    writer = Writer(sink, channel)
    reader = Reader(channel, settings, writer)
    writer.start()
    channel.send(control.Up())
    try:
        reader.serve()
    finally:
        if spool is not None:
            spool.close()


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
            case control.Attach():
                self._attach(message, descriptors)

    def _open(self, settings: control.PublishCamera) -> None:
        camera = self._cameras.get(settings.camera)
        if camera is None:
            camera = Camera(settings, self._stream_of(settings), self._model_of(settings))
            self._cameras[settings.camera] = camera
        camera.settings = settings
        self._stop_receiving(camera)
        if settings.live and settings.session_over:
            self._close_session(camera)
        standing = camera.standing
        self._writer.put(
            Open(
                camera,
                settings,
                Standing(standing.session, standing.accounted, standing.dropped),
            )
        )

    def _close_session(self, camera: Camera) -> None:
        """The end of a session whose ingest died before it could say so."""
        standing, camera.standing = camera.standing, Standing()
        if standing.session is None:
            return
        ended = Ended(
            camera=camera.settings.camera,
            session=standing.session,
            generation=camera.settings.generation,
            frames=standing.accounted,
            dropped={},
            reason="its ingest process died",
            complete=False,
            fault="us",
        )
        self._writer.put(Take(camera, ended_message(ended, since=time.time(), last_id=None)))

    def _attach(self, message: control.Attach, descriptors: list[int]) -> None:
        memory, bell = descriptors
        slots = Slots.attach(memory, bell, message.geometry)
        camera = self._cameras.get(message.camera)
        if camera is None or camera.settings.generation != message.generation:
            slots.close()
            return
        # Two mappings: the writer closes its own when it lets go of the camera.
        camera.receiving = Slots.attach(os.dup(memory), os.dup(bell), message.geometry)
        self._writer.put(Move(camera, slots))

    def _stream_of(self, settings: control.PublishCamera) -> Stream:
        return self._writer.sink.open(
            Keys.of(self._settings.prefix, settings.camera),
            live=settings.live,
            maxlen=settings.maxlen,
            limit=LIVE_WINDOW if settings.live else None,
            job=settings.job,
            again=settings.again,
        )

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
                if camera is None or camera.settings.generation != message.generation:
                    continue  # stale: of a generation that is gone
                if isinstance(message, Result):
                    self._take(camera, message)
                else:
                    self._end(camera, message)
        except ChannelClosed:  # infer died: the supervisor starts another
            self._leave_infer()

    def _take(self, camera: Camera, result: Result) -> None:
        if camera.receiving is not None:
            camera.receiving.count_received()
        standing, frame = camera.standing, result.frame
        if standing.session != frame.session:
            standing.session, standing.dropped = frame.session, {}
        standing.accounted = frame.seq + 1
        standing.dropped = merge_drops(standing.dropped, result.dropped)
        message = detections_message(result, camera.model, self._settings.labels)
        self._writer.put(Take(camera, message))

    def _end(self, camera: Camera, ended: Ended) -> None:
        del self._cameras[ended.camera]
        self._stop_receiving(camera)
        event = ended_message(ended, since=time.time(), last_id=None)
        self._writer.put(Take(camera, event, ended))

    def _stop_receiving(self, camera: Camera) -> None:
        if camera.receiving is not None:
            camera.receiving.close()
            camera.receiving = None

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
