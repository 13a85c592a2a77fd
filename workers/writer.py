"""The thread of publish that owns Redis: windows, attempts, backoff, confirmations, leases."""

from __future__ import annotations

import os
import queue
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import msgspec

from pipeline.channel import Channel
from pipeline.errors import SinkUnavailable
from pipeline.messages import Counts, Ended, Message
from pipeline.sinks.jobs import Position
from pipeline.sinks.lanes import StreamRefused
from pipeline.sinks.lease import LeaseTaken
from pipeline.sinks.redis import RedisSink, Stream
from pipeline.sinks.remains import Remains
from pipeline.sinks.window import NO_ENTRY, EntryId, Keys
from pipeline.slots import Slots
from pipeline.wire import DetectionsMessage, ended_message, merge_drops
from workers import control
from workers.journeys import Journeys
from workers.pause import Pause
from workers.work import Forget, Move, Open, Take, Work

LIVE_WINDOW = 2000  # records of a live camera that wait for Redis; older ones are shed

_LINGER = 0.01  # seconds that a first record waits for company
_RENEW = 1.0  # seconds between looks at what the leases need


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a session has come, its records in the window included."""

    session: str | None = None
    accounted: int = 0
    dropped: Counts = field(default_factory=dict)


@dataclass(slots=True)
class Camera:
    """One camera as the writer sees it."""

    name: str
    stream: Stream
    standing: Standing = field(default_factory=Standing)
    is_new: bool = True  # what an earlier publisher has left of its session was not looked at
    slots: Slots | None = None  # of the generation that is counted
    confirmed: int = 0  # frames that Redis confirmed while there were none
    opening: Open | None = None  # where it stands has to be said
    ending: set[str | None] = field(default_factory=set)  # sessions whose end is in the window
    said: set[str | None] = field(default_factory=set)  # sessions whose end was once taken in
    ended: Ended | None = None  # and nothing comes behind it
    pause: Pause = field(default_factory=Pause)


class Writer:
    """The thread. Not a `threading.Thread`: an executor hands its exception over."""

    def __init__(self, sink: RedisSink, channel: Channel, prefix: str, journeys: Journeys) -> None:
        self._sink = sink
        self._channel = channel
        self._prefix = prefix
        self._journeys = journeys
        self._work: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._cameras: dict[str, Camera] = {}
        self._busy: dict[str, Camera] = {}  # those with something for Redis
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
        self._sink.close()

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
            self._journeys.tell()
        self._journeys.tell(now=True)

    def _attend(self, camera: Camera) -> None:
        try:
            self._publish(camera)
        except StreamRefused as error:
            if error.retry_after is not None or _may_pass(camera, error):
                self._put_off(camera.pause, error, f"{camera.name}: ")
            else:
                self._give_up(camera, str(error))
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
        match work:
            case Open():
                self._open(work)
            case Move(camera=name, slots=slots):
                self._move(name, slots)
            case Take(camera=name):
                self._take(name, work)
            case Forget(camera=name):
                if name in self._cameras:
                    self._let_go(self._cameras[name])
        return True

    def _open(self, work: Open) -> None:
        settings, camera = work.settings, self._cameras.get(work.camera)
        if camera is not None and settings.fresh:  # of an earlier one, of which nothing was heard
            self._let_go(camera)
            camera = None
        if camera is None:
            camera = Camera(work.camera, self._stream_of(settings))
            self._cameras[work.camera] = camera
        camera.opening = work
        camera.said |= {settings.ended} - {None}
        self._busy[camera.name] = camera
        if settings.live and (settings.event is None or not camera.is_new):
            self._say_standing(camera, work)  # a live camera needs nothing from Redis to begin

    def _stream_of(self, settings: control.PublishCamera) -> Stream:
        return self._sink.open(
            Keys.of(self._prefix, settings.camera),
            live=settings.live,
            maxlen=settings.maxlen,
            limit=LIVE_WINDOW if settings.live else None,
            job=settings.job,
            again=settings.again,
            incarnation=settings.incarnation,
        )

    def _move(self, name: str, slots: Slots) -> None:
        camera = self._cameras.get(name)
        if camera is None:  # let go of: whatever still comes is too late
            slots.close()
            return
        if camera.slots is not None:
            camera.slots.close()
        camera.slots = slots
        self._confirm(camera, 0)

    def _take(self, name: str, work: Take) -> None:
        camera = self._cameras.get(name)
        if camera is None:
            return
        camera.ended = work.ended or camera.ended
        self._busy[name] = camera
        if work.stamps is not None:
            self._journeys.begin(work.stamps)
        if isinstance(work.message, DetectionsMessage):
            self._advance(camera, work.message)
        elif work.message.state == "ended" and not self._may_end(camera, work.message.session):
            return  # an earlier publisher has said so, and could not tell
        shed = camera.stream.window.append(work.message)
        if shed and camera.slots is not None:
            camera.slots.count_publish_drop("window", shed)

    def _may_end(self, camera: Camera, session: str | None) -> bool:
        """Whether a session's end is to be said, which is once."""
        if camera.standing.session == session:
            camera.standing = Standing()
        camera.ending.add(session)
        is_new = session not in camera.said
        camera.said.add(session)
        return is_new

    def _advance(self, camera: Camera, message: DetectionsMessage) -> None:
        before = camera.standing
        dropped = before.dropped if before.session == message.session else {}
        camera.standing = Standing(
            message.session, message.seq + 1, merge_drops(dropped, message.dropped)
        )

    def _publish(self, camera: Camera) -> None:
        window = camera.stream.window
        self._confirm(camera, self._sink.step_in(camera.stream))
        if camera.opening is not None:
            self._say_standing(camera, camera.opening)
            if camera.name not in self._cameras:
                return  # there is nothing to do for it
        if len(window):
            self._confirm(camera, self._sink.write(camera.stream))
        if len(window):
            return  # the others' turn
        del self._busy[camera.name]
        for session in filter(None, camera.ending):
            self._tell(control.SessionEnded(camera.name, session))
        camera.ending.clear()
        if camera.ended is not None:
            self._finish(camera, camera.ended)

    def _confirm(self, camera: Camera, frames: int) -> None:
        camera.confirmed += frames
        if camera.confirmed:
            self._pause.progress()
            camera.pause.progress()
        if camera.confirmed and camera.slots is not None:
            camera.slots.count_published(camera.confirmed, camera.stream.window.confirmed)
            camera.confirmed = 0

    def _renew(self) -> None:
        self._renew_at = time.monotonic() + _RENEW
        try:
            again = self._sink.renew()
        except SinkUnavailable as error:
            self._put_off(self._pause, error)
            return
        streams = {id(stream) for stream in again}
        for camera in self._cameras.values():
            if id(camera.stream) in streams:
                self._busy[camera.name] = camera

    def _say_standing(self, camera: Camera, opening: Open) -> None:
        """Where the camera stands: of a file, what its stream says; of a session, what is known."""
        settings, window = opening.settings, camera.stream.window
        position, found = camera.stream.position, Remains()
        session = position.session if position else settings.session
        if camera.is_new and settings.event is not None:
            found = self._look_back(camera, session, settings)
        if position is not None:
            camera.standing = Standing(session, window.expected)
        elif session not in (None, camera.standing.session):
            camera.standing = self._last_of(camera, session, found)
        standing = camera.standing
        uncounted, camera.confirmed = found.uncounted + camera.confirmed, 0
        camera.opening, camera.is_new = None, False
        # From here on it is the new generation that counts, with these frames carried over.
        if camera.slots is not None:
            camera.slots.close()
            camera.slots = None
        self._tell(
            control.Opened(
                camera=camera.name,
                generation=settings.generation,
                session=standing.session,
                accounted=standing.accounted,
                dropped=standing.dropped,
                started_at=position.started_at if position else None,
                finished=bool(position and position.finished),
                owed=window.frames,
                uncounted=uncounted,
                confirmed=max(found.last, window.confirmed, _last_before(position)),
                event=window.last[window.keys.events],
            )
        )
        if position is not None and position.finished:
            self._let_go(camera)

    def _look_back(
        self, camera: Camera, session: str | None, settings: control.PublishCamera
    ) -> Remains:
        """What an earlier publisher of this run has left; ends that it has lost are put in."""
        assert settings.event is not None
        ends = {ended.session: ended for ended in settings.ends}
        sessions = {one for one in (*ends, session) if one is not None}
        found = self._sink.remains(camera.stream, sessions, settings.confirmed, settings.event)
        camera.said |= found.ended | camera.stream.ended
        for ended in ends.values():
            held = self._last_of(camera, ended.session, found).accounted
            lost = max(0, ended.frames - held)
            event = msgspec.structs.replace(ended, dropped={"crash": lost} if lost else {})
            self._take(
                camera.name,
                Take(camera.name, ended_message(event, since=time.time(), last_id=None)),
            )
        return found

    def _last_of(self, camera: Camera, session: str | None, found: Remains) -> Standing:
        """Of a live session, what this process has not taken itself: from Redis, or its spool.

        How much of it was dropped is not known any more.
        """
        spooled = camera.stream.accounted
        held = spooled.seq + 1 if spooled and spooled.session == session else 0
        return Standing(session, max(found.accounted.get(session or "", 0), held))

    def _finish(self, camera: Camera, ended: Ended) -> None:
        self._let_go(camera)
        self._tell(
            control.Finished(ended.camera, ended.frames, ended.complete, ended.fault, ended.reason)
        )

    def _give_up(self, camera: Camera, reason: str) -> None:
        self._let_go(camera)
        self._tell(control.Finished(camera.name, 0, False, "us", reason))

    def _let_go(self, camera: Camera) -> None:
        self._busy.pop(camera.name, None)
        del self._cameras[camera.name]
        self._sink.close_stream(camera.stream)
        if camera.slots is not None:
            camera.slots.close()

    def _put_off(self, pause: Pause, error: SinkUnavailable, whose: str = "") -> None:
        if pause.extend(error):  # said once, not at every attempt
            self._tell(control.Notice(f"{whose}{error}; waiting for it"))

    def _recover(self, camera: Camera) -> None:
        if self._pause.end():
            self._tell(control.Notice(f"Redis at {self._sink.place} is back"))
        if camera.pause.end():
            self._tell(control.Notice(f"{camera.name}: Redis takes its records again"))

    def _tell(self, message: Message) -> None:
        while not self._channel.send(message):
            time.sleep(0.001)  # the supervisor always reads


def _may_pass(camera: Camera, error: StreamRefused) -> bool:
    """A live camera waits until somebody has mended its key; a file's job would never end."""
    return camera.stream.live and not isinstance(error, LeaseTaken)


def _last_before(position: Position | None) -> EntryId:
    """The last entry of a file when it was opened."""
    return (position.epoch, position.next_seq) if position else NO_ENTRY
