"""The publish loop: results in, entries in Redis, confirmations back to the cameras' counters.

Two threads, because a Redis that does not answer must not stop the reading: the main one always
reads its sockets; the writer owns the connection and everything that waits for it.
"""

from __future__ import annotations

import os
import queue
import random
import selectors
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from pipeline.channel import Channel
from pipeline.errors import SinkUnavailable
from pipeline.messages import Ended, Message, Result, decoder
from pipeline.sinks.lanes import StreamRefused
from pipeline.sinks.redis import RedisSink, Stream
from pipeline.sinks.window import Keys
from pipeline.slots import Slots
from pipeline.wire import CameraMessage, DetectionsMessage, Model, detections_message, ended_message
from workers import control
from workers.waiting import receive

LIVE_WINDOW = 2000  # records of a live camera that wait for Redis; older ones are shed
_LINGER = 0.01  # seconds that a first record waits for company
_BACKOFF = (0.2, 5.0)  # seconds: the first and the longest wait between attempts, before jitter

_from_infer = decoder(Result, Ended)


def run(channel: Channel) -> None:
    """Publishes until the supervisor says stop."""
    set_up, _ = receive(channel, control.SetUp)
    settings: control.PublishSettings = control.settings.decode(set_up.settings)
    writer = Writer(RedisSink(settings.url), channel)
    reader = Reader(channel, settings, writer)
    writer.start()
    channel.send(control.Up())
    reader.serve()


class Pause:
    """When to try again, and what was complained about: of one camera, or of Redis as a whole."""

    def __init__(self) -> None:
        self.until = 0.0  # monotonic seconds
        self.complaint: str | None = None
        self._waits = _backoff()

    def extend(self, error: SinkUnavailable) -> bool:
        """Puts the next attempt off; whether the reason is news."""
        self.until = time.monotonic() + (error.retry_after or next(self._waits))
        news = self.complaint != str(error)
        self.complaint = str(error)
        return news

    def end(self) -> bool:
        """It works; whether that is news."""
        news = self.complaint is not None
        self.until, self.complaint, self._waits = 0.0, None, _backoff()
        return news


@dataclass(slots=True)
class Camera:
    """One camera as publish sees it."""

    settings: control.PublishCamera
    slots: Slots
    stream: Stream
    model: Model
    opened: bool = False
    ended: Ended | None = None
    pause: Pause = field(default_factory=Pause)


@dataclass(frozen=True, slots=True)
class Work:
    """What the reader hands to the writer."""

    camera: Camera
    message: DetectionsMessage | CameraMessage | None  # None: open the camera's streams
    ended: Ended | None = None


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
                self._data = Channel.adopt(descriptors[0], _from_infer)
                self._selector.register(self._data, selectors.EVENT_READ, self._hear_infer)
            case control.PublishCamera():
                self._add(message, descriptors)

    def _add(self, settings: control.PublishCamera, descriptors: list[int]) -> None:
        memory, bell = descriptors
        camera = Camera(
            settings,
            Slots.attach(memory, bell, settings.geometry),
            self._writer.sink.open(
                Keys.of(settings.prefix, settings.camera),
                live=settings.live,
                maxlen=settings.maxlen,
                limit=LIVE_WINDOW if settings.live else None,
            ),
            Model(
                name=self._settings.model_name,
                digest=self._settings.model_digest,
                input=self._settings.model_input,
                confidence=settings.confidence,
            ),
        )
        self._cameras[settings.camera] = camera
        self._writer.put(Work(camera, None))

    def _hear_infer(self) -> None:
        assert self._data is not None
        while (message := self._data.receive()) is not None:
            if isinstance(message, Result):
                self._take(message)
            else:
                camera = self._cameras.pop(message.camera)
                event = ended_message(message, since=time.time(), last_id=None)
                self._writer.put(Work(camera, event, message))

    def _take(self, result: Result) -> None:
        if result.generation != self._settings.infer_generation:
            return  # stale: of a worker that is gone
        camera = self._cameras[result.frame.camera]
        camera.slots.count_received()
        message = detections_message(result, camera.model, self._settings.labels)
        self._writer.put(Work(camera, message))


class Writer:
    """The thread that owns Redis: windows, attempts, backoff, confirmations."""

    def __init__(self, sink: RedisSink, channel: Channel) -> None:
        self.sink = sink
        self._channel = channel
        self._work: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._busy: dict[str, Camera] = {}  # cameras with something unconfirmed
        self._pause = Pause()
        self._thread = ThreadPoolExecutor(1, "writer")
        self._served: Future[None] | None = None
        self._bell = os.eventfd(0, os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """Readable when the thread has ended."""
        return self._bell

    def start(self) -> None:
        self._served = self._thread.submit(self._serve)
        self._served.add_done_callback(lambda _: os.eventfd_write(self._bell, 1))

    def put(self, work: Work) -> None:
        self._work.put(work)

    def stop(self) -> None:
        """Ends the thread after what it is doing; what is unconfirmed then stays so."""
        self._work.put(None)
        self._thread.shutdown()
        self.sink.close()

    def check(self) -> None:
        """Raises in the main thread what has ended this one."""
        if self._served is not None:
            self._served.result()

    def _serve(self) -> None:
        while self._gather():
            for camera in list(self._busy.values()):
                if max(self._pause.until, camera.pause.until) > time.monotonic():
                    continue
                try:
                    self._publish(camera)
                except StreamRefused as error:
                    self._put_off(camera.pause, error, f"{camera.settings.camera}: ")
                except SinkUnavailable as error:
                    self._put_off(self._pause, error)
                else:
                    self._recover(camera)

    def _gather(self) -> bool:
        """Takes in what has come, waiting for as long as there is nothing to send.

        False when it is time to leave. One batch of each camera goes between two calls, so that
        what comes while Redis is slow is in its window, and counted, soon.
        """
        until = self._next_attempt()
        if until is None:  # nothing waits for Redis: sleep until something comes, and its company
            if not self._accept(self._work.get()):
                return False
            until = time.monotonic() + _LINGER
        while True:
            try:
                work = self._work.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                return True
            if not self._accept(work):
                return False

    def _next_attempt(self) -> float | None:
        """When some camera's next batch may go, monotonic; None while no camera has one."""
        if not self._busy:
            return None
        return max(self._pause.until, min(camera.pause.until for camera in self._busy.values()))

    def _accept(self, work: Work | None) -> bool:
        if work is None:
            return False
        camera = work.camera
        self._busy[camera.settings.camera] = camera
        if work.message is not None:
            shed = camera.stream.window.append(work.message)
            if shed:
                camera.slots.count_publish_drop("window", shed)
            camera.ended = work.ended or camera.ended
        elif camera.settings.live:
            self._open(camera)  # a live camera needs nothing from Redis to begin
        return True

    def _publish(self, camera: Camera) -> None:
        window = camera.stream.window
        self._confirm(camera, self.sink.step_in(camera.stream))
        if not camera.opened:
            self._open(camera)
        if len(window):
            self._confirm(camera, self.sink.write(camera.stream))
        if len(window):
            return  # the others' turn
        del self._busy[camera.settings.camera]
        if camera.ended is not None:
            self._finish(camera, camera.ended)

    def _confirm(self, camera: Camera, frames: int) -> None:
        if frames:
            camera.slots.count_published(frames)

    def _open(self, camera: Camera) -> None:
        camera.opened = True
        epoch = camera.stream.window.epoch
        session = None if epoch is None else f"{epoch}-{os.urandom(4).hex()}"
        self._tell(control.Opened(camera.settings.camera, session))

    def _finish(self, camera: Camera, ended: Ended) -> None:
        camera.slots.close()
        self._tell(
            control.Finished(ended.camera, ended.frames, ended.complete, ended.fault, ended.reason)
        )

    def _put_off(self, pause: Pause, error: SinkUnavailable, whose: str = "") -> None:
        if pause.extend(error):  # said once, not at every attempt
            self._tell(control.Notice(f"{whose}{error}; waiting for it"))

    def _recover(self, camera: Camera) -> None:
        if self._pause.end():
            self._tell(control.Notice(f"Redis at {self.sink.place} is back"))
        if camera.pause.end():
            self._tell(control.Notice(f"{camera.settings.camera}: Redis takes its records again"))

    def _tell(self, message: Message) -> None:
        while not self._channel.send(message):
            time.sleep(0.001)  # the supervisor always reads


def _backoff() -> Iterator[float]:
    """Endless waits with full jitter (Brooker, "Exponential Backoff And Jitter", AWS, 2015)."""
    longest, most = _BACKOFF
    while True:
        yield random.uniform(0, longest)
        longest = min(longest * 2, most)
