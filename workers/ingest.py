"""The ingest loop: one camera's pictures into its memory file, a ticket beside each.

This is where a live camera's frames are never waited for, and a file's always are.
"""

from __future__ import annotations

import secrets
import select
import time

from pipeline.channel import Channel
from pipeline.errors import SourceError
from pipeline.letterbox import Letterbox
from pipeline.messages import Counts, Ended, Frame, Ready, Ticket
from pipeline.slots import Slots
from pipeline.sources import Picture, open_source
from workers import control
from workers.waiting import receive


def run(channel: Channel) -> None:
    """Serves the one camera that the supervisor hands over, to its end."""
    set_up, _ = receive(channel, control.SetUp)
    channel.send(control.Up())
    camera, descriptors = receive(channel, control.IngestCamera, control.Stop)
    if isinstance(camera, control.Stop):
        return
    memory, bell, data = descriptors
    slots = Slots.attach(memory, bell, camera.geometry)
    ingest(Session(camera, set_up.generation, slots, Channel.adopt(data), channel))


class Session:
    """One connection of a live camera, or one reading of a file: its frames, numbered and sent."""

    def __init__(
        self,
        camera: control.IngestCamera,
        generation: int,
        slots: Slots,
        out: Channel,
        channel: Channel,
    ) -> None:
        self.camera = camera
        self.name = camera.session or f"{time.time_ns() // 1_000_000}-{secrets.token_hex(4)}"
        self.frames = 0
        self.stopped = False
        self._generation = generation
        self._slots = slots
        self._out = out
        self._channel = channel
        self._dropped: Counts = {}
        self._painted: dict[int, Letterbox] = {}
        self._clock = _StreamClock(camera.started_at)
        self._rate = _Rate(camera.max_fps)

    def take(self, picture: Picture) -> None:
        """Waits until the picture is due and may be sent, then sends it; or drops it, counted."""
        if not self._wait_until(picture.due_ns) or not self._wait_for_credit():
            self.stopped = True
            return
        self._slots.count_arrived()
        seq, self.frames = self.frames, self.frames + 1
        captured_at = self._captured_at(picture)
        if not self._rate.wants(picture.segment, picture.media_time):
            self._drop("max_fps")
            return
        started_ns = time.monotonic_ns()
        try:
            self._write(picture)
        except SourceError:  # this one picture; its slot stays as if nothing had come
            self._drop("undecodable")
            return
        written_ns = time.monotonic_ns()
        decode_ns = picture.decode_ns + written_ns - started_ns
        self._send(
            Ticket(self._frame(picture, seq, captured_at), decode_ns, written_ns, self._dropped)
        )

    def end(self, reason: str, *, complete: bool, fault: str | None) -> None:
        """The last message, behind the last frame."""
        ended = Ended(
            camera=self.camera.camera,
            session=self.name,
            generation=self._generation,
            frames=self.frames,
            dropped=self._dropped,
            reason=reason,
            complete=complete,
            fault=fault,
        )
        while not self._out.send_or_wait(ended, self._channel):
            self._channel.receive()  # a stop, and we are ending

    @property
    def undecodable(self) -> int:
        """Pictures that could not be converted."""
        return self._dropped.get("undecodable", 0)

    def told_to_stop(self) -> bool:
        """Whether the supervisor has said something: it says stop."""
        return _wait(self._channel, timeout_ms=0)

    def _wait_until(self, due_ns: int | None) -> bool:
        while due_ns is not None and (left := due_ns - time.monotonic_ns()) > 0:
            if _wait(self._channel, timeout_ms=max(1, left // 1_000_000)):
                return False
        return not self.told_to_stop()

    def _wait_for_credit(self) -> bool:
        """A file waits for a free slot and for a credit; a live camera never waits."""
        if self.camera.live:
            return True
        while not self._slots.may_write(self.camera.credits):
            if _wait(self._channel, bell=self._slots.bell):
                return False
            self._slots.quiet_bell()
        return True

    def _write(self, picture: Picture) -> None:
        pixels = self._slots.begin()
        geometry = self._slots.geometry
        box = Letterbox.of(picture.width, picture.height, (geometry.height, geometry.width))
        slot = (self._slots.sent + 1) % geometry.slots
        if self._painted.get(slot) != box:  # the border is painted once
            box.paint(pixels)
            self._painted[slot] = box
        picture.write(pixels[box.region])

    def _captured_at(self, picture: Picture) -> float:
        if self.camera.live:
            return picture.arrived_at
        return self._clock.at(picture.segment, picture.media_time)

    def _frame(self, picture: Picture, seq: int, captured_at: float) -> Frame:
        return Frame(
            camera=self.camera.camera,
            session=self.name,
            seq=seq,
            segment=picture.segment,
            media_time=picture.media_time,
            captured_at=captured_at,
            captured_ns=picture.arrived_ns,
            width=picture.width,
            height=picture.height,
            tainted=picture.tainted,
        )

    def _send(self, ticket: Ticket) -> None:
        number = self._slots.commit(ticket)
        if self.camera.live and self._out.has_unread():
            return  # one unread wake-up is enough: infer takes the newest frame
        ready = Ready(self._generation, number)
        while not self._out.send_or_wait(ready, self._channel):
            self._channel.receive()
            self.stopped = True

    def _drop(self, reason: str) -> None:
        self._slots.count_ingest_drop(reason)
        self._dropped = {**self._dropped, reason: self._dropped.get(reason, 0) + 1}


def ingest(session: Session) -> None:
    """Reads the source to its end, or to a stop; whatever happens, the last message says it."""
    camera = session.camera
    reason, complete, fault = "stopped", False, None
    try:
        with open_source(camera.url, live=camera.live, loop=camera.loop) as source:
            for picture in source:
                session.take(picture)
                if session.stopped:
                    break
            else:
                reason, complete = source.reason, source.complete
                fault = source.fault
    except SourceError as error:
        reason, fault = str(error), error.fault
    if not complete and session.told_to_stop():  # what broke, broke while it was to end anyway
        reason, fault = "stopped", None
    if session.undecodable and fault is None:
        reason = f"{reason}; {session.undecodable} pictures could not be converted"
        complete, fault = False, "decoder"
    session.end(reason, complete=complete, fault=fault)


_JITTER = 0.1  # of an interval: how much too early a picture may come


class _Rate:
    """Thins a stream to `max_fps` by its own time stamps, so that it is the same in every run."""

    def __init__(self, max_fps: float | None) -> None:
        self._interval = 1 / max_fps if max_fps else 0.0
        self._segment = 0
        self._next = 0.0

    def wants(self, segment: int, media_time: float) -> bool:
        if not self._interval:
            return True
        if segment != self._segment:
            self._segment, self._next = segment, media_time
        if media_time < self._next - self._interval * _JITTER:
            return False
        if media_time - self._next > self._interval:  # after a gap it begins anew
            self._next = media_time
        self._next += self._interval
        return True


class _StreamClock:
    """A file's wall clock: its start plus its media time, running on from segment to segment."""

    def __init__(self, started_at: float) -> None:
        self._origin = started_at
        self._segment = 0
        self._latest = 0.0
        self._interval = 0.0  # between the last two pictures

    def at(self, segment: int, media_time: float) -> float:
        if segment != self._segment:
            self._segment = segment
            self._origin += self._latest + self._interval
        elif media_time > self._latest:
            self._interval = media_time - self._latest
        self._latest = media_time
        return self._origin + media_time


def _wait(channel: Channel, *, timeout_ms: int | None = None, bell: int | None = None) -> bool:
    """Waits for the bell or the time; whether the supervisor said something (it says stop)."""
    poller = select.poll()
    poller.register(channel, select.POLLIN)
    if bell is not None:
        poller.register(bell, select.POLLIN)
    events = dict(poller.poll(timeout_ms))
    return channel.fileno() in events
