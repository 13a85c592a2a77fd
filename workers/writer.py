"""The thread of publish that owns Redis: windows, attempts, backoff, confirmations, leases."""

from __future__ import annotations

import os
import queue
import random
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import msgspec

from pipeline.channel import Channel
from pipeline.errors import SinkUnavailable
from pipeline.messages import Counts, Ended, Message
from pipeline.sinks.lanes import StreamRefused
from pipeline.sinks.lease import LeaseTaken
from pipeline.sinks.redis import RedisSink, Stream
from pipeline.slots import Slots
from pipeline.wire import CameraMessage, DetectionsMessage, Model, read_detections
from workers import control

_LINGER = 0.01  # seconds that a first record waits for company
_RENEW = 1.0  # seconds between looks at what the leases need
_BACKOFF = (0.2, 5.0)  # seconds: the first and the longest wait between attempts, before jitter


class Pause:
    """When to try again, and what was complained about: of one camera, or of Redis as a whole."""

    def __init__(self) -> None:
        self.until = 0.0  # monotonic seconds
        self.complaint: str | None = None
        self._is_slow = False  # what was complained about needs a person
        self._waits = _backoff()

    def extend(self, error: SinkUnavailable) -> bool:
        """Puts the next attempt off; whether the reason is news."""
        self.until = time.monotonic() + (error.retry_after or next(self._waits))
        was_slow, self._is_slow = self._is_slow, error.retry_after is not None
        repeats = was_slow and self._is_slow  # the seconds in its text are no news
        news = self.complaint is None or (self.complaint != str(error) and not repeats)
        self.complaint = str(error)
        return news

    def end(self) -> bool:
        """It works; whether that is news."""
        news = self.complaint is not None
        self.until, self.complaint, self._waits = 0.0, None, _backoff()
        return news


@dataclass(slots=True)
class Standing:
    """How far a session has come: what the reader has taken of it."""

    session: str | None = None
    accounted: int = 0
    dropped: Counts = field(default_factory=dict)


@dataclass(slots=True)
class Camera:
    """One camera as publish sees it."""

    settings: control.PublishCamera  # of the generation that is taken
    stream: Stream
    model: Model
    standing: Standing = field(default_factory=Standing)
    receiving: Slots | None = None  # of the generation that is taken: the reader's
    slots: Slots | None = None  # of the generation that is counted: the writer's
    confirmed: int = 0  # frames that Redis confirmed while none was
    ended: Ended | None = None
    gone: bool = False  # let go of: whatever still comes is too late
    pause: Pause = field(default_factory=Pause)


@dataclass(frozen=True, slots=True)
class Take:
    """Put this record into the camera's window."""

    camera: Camera
    message: DetectionsMessage | CameraMessage
    ended: Ended | None = None


@dataclass(frozen=True, slots=True)
class Open:
    """Say where the camera stands, once everything before this is in its window."""

    camera: Camera
    settings: control.PublishCamera
    standing: Standing


@dataclass(frozen=True, slots=True)
class Move:
    """Count into this memory file from now on."""

    camera: Camera
    slots: Slots


Work = Take | Open | Move


class Writer:
    """The thread. Not a `threading.Thread`: an executor hands its exception over."""

    def __init__(self, sink: RedisSink, channel: Channel) -> None:
        self.sink = sink
        self._channel = channel
        self._work: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._busy: dict[str, Camera] = {}  # cameras with something for Redis
        self._opening: dict[str, Open] = {}
        self._cameras: list[Camera] = []
        self._renew_at = 0.0  # monotonic seconds
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
            if self._cameras and time.monotonic() >= max(self._renew_at, self._pause.until):
                self._renew()
            for camera in list(self._busy.values()):
                if max(self._pause.until, camera.pause.until) <= time.monotonic():
                    self._attend(camera)

    def _attend(self, camera: Camera) -> None:
        try:
            self._publish(camera)
        except LeaseTaken as error:
            if error.retry_after is None:
                self._give_up(camera, str(error))
            else:
                self._put_off(camera.pause, error, f"{camera.settings.camera}: ")
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
        patience = max(0.0, self._renew_at - time.monotonic()) if self._cameras else None
        if until is None:  # nothing waits for Redis: sleep until something comes, and its company
            try:
                work = self._work.get(timeout=patience)
            except queue.Empty:
                return True
            if not self._accept(work):
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
        if work.camera.gone:
            if isinstance(work, Move):
                work.slots.close()
            return True
        match work:
            case Open(camera=camera):
                self._opening[camera.settings.camera] = work
                if camera not in self._cameras:
                    self._cameras.append(camera)
                known = work.standing.session is not None or not work.settings.resume
                if camera.settings.live and known:
                    self._say_standing(work)  # a live camera needs nothing from Redis to begin
            case Move(camera=camera, slots=slots):
                self._move(camera, slots)
            case Take(camera=camera):
                shed = camera.stream.window.append(work.message)
                if shed and camera.slots is not None:
                    camera.slots.count_publish_drop("window", shed)
                camera.ended = work.ended or camera.ended
        self._busy[camera.settings.camera] = camera
        return True

    def _move(self, camera: Camera, slots: Slots) -> None:
        if camera.slots is not None:
            camera.slots.close()
        camera.slots = slots
        if camera.confirmed:
            slots.count_published(camera.confirmed)
            camera.confirmed = 0

    def _publish(self, camera: Camera) -> None:
        window = camera.stream.window
        self._confirm(camera, self.sink.step_in(camera.stream))
        if (opening := self._opening.get(camera.settings.camera)) is not None:
            self._say_standing(opening)
            if camera not in self._cameras:
                return  # there is nothing to do for it
        if len(window):
            self._confirm(camera, self.sink.write(camera.stream))
        if len(window):
            return  # the others' turn
        del self._busy[camera.settings.camera]
        if camera.ended is not None:
            self._finish(camera, camera.ended)

    def _confirm(self, camera: Camera, frames: int) -> None:
        if frames and camera.slots is not None:
            camera.slots.count_published(frames)
        elif frames:
            camera.confirmed += frames

    def _renew(self) -> None:
        self._renew_at = time.monotonic() + _RENEW
        try:
            again = self.sink.renew()
        except SinkUnavailable as error:
            self._put_off(self._pause, error)
            return
        streams = {id(stream) for stream in again}
        for camera in self._cameras:
            if id(camera.stream) in streams:
                self._busy[camera.settings.camera] = camera

    def _say_standing(self, opening: Open) -> None:
        """Where the camera stands: of a file, what its stream says; of a session, what is known."""
        camera, standing = opening.camera, opening.standing
        self._opening.pop(camera.settings.camera, None)
        position, window = camera.stream.position, camera.stream.window
        owed = window.frames
        # From here on it is the new generation that counts, with these frames carried over.
        if camera.slots is not None:
            camera.slots.close()
            camera.slots = None
        if position is not None:
            standing = Standing(position.session, window.expected, standing.dropped)
        elif opening.settings.resume and standing.session is None:
            standing = self._last_session(camera)
        self._tell(
            control.Opened(
                camera=camera.settings.camera,
                generation=opening.settings.generation,
                session=standing.session,
                accounted=standing.accounted,
                dropped=standing.dropped,
                started_at=position.started_at if position else None,
                finished=bool(position and position.finished),
                owed=owed,
            )
        )
        if position is not None and position.finished:
            self._let_go(camera)

    def _last_session(self, camera: Camera) -> Standing:
        """What an earlier publisher of this run has left of a live session: in its spool, or Redis.

        How much of it was dropped is not known any more.
        """
        if (spooled := camera.stream.accounted) is not None:
            return Standing(spooled.session, spooled.seq + 1)
        data = self.sink.last_data(camera.stream)
        try:
            message = read_detections(data) if data is not None else None
        except msgspec.MsgspecError:
            message = None
        return Standing(message.session, message.seq + 1) if message else Standing()

    def _finish(self, camera: Camera, ended: Ended) -> None:
        self._let_go(camera)
        self._tell(
            control.Finished(ended.camera, ended.frames, ended.complete, ended.fault, ended.reason)
        )

    def _give_up(self, camera: Camera, reason: str) -> None:
        self._let_go(camera)
        self._tell(control.Finished(camera.settings.camera, 0, False, "us", reason))

    def _let_go(self, camera: Camera) -> None:
        camera.gone = True
        name = camera.settings.camera
        self._busy.pop(name, None)
        self._opening.pop(name, None)
        self._cameras.remove(camera)
        self.sink.close_stream(camera.stream)
        if camera.slots is not None:
            camera.slots.close()
            camera.slots = None

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
