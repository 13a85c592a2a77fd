"""The ingest process: one camera's pictures into its memory file, a ticket beside each.

This is where a live camera's frames are never waited for, and a file's always are. When infer or
publish were started again, the supervisor hands over new memory and a new socket: a file goes back
to its first frame that nobody holds, a live camera goes on where it is.
"""

from __future__ import annotations

import hashlib
import secrets
import select
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from pipeline.channel import Channel
from pipeline.errors import ChannelClosed, SourceError
from pipeline.letterbox import Letterbox
from pipeline.messages import Counts, Ended, Frame, Message, Ready, Ticket
from pipeline.slots import Slots
from pipeline.sources import SYNTHETIC_VERSION, Picture, is_synthetic, open_source
from pipeline.thinning import Rate, StreamClock
from workers import control
from workers.waiting import receive

_BLOCK = 1 << 22  # bytes of a file between two looks at the control socket


def run(channel: Channel) -> None:
    """Serves the one camera that the supervisor hands over, until it says stop."""
    receive(channel, control.SetUp)
    channel.send(control.Up())
    link = Link(channel)
    while not link.stopped:
        if link.is_new:
            serve(link)
        else:
            link.hear()


class Link:
    """What joins this process to the others now: control, memory, data socket."""

    def __init__(self, channel: Channel) -> None:
        self.stopped = False
        self.is_new = False  # there is a camera to begin, or a file to begin anew
        self.camera: control.IngestCamera  # with the first one
        self.slots: Slots
        self.ended: Ended | None = None  # the last word of a live camera
        self._out: Channel | None = None
        self._channel = channel

    @property
    def interrupted(self) -> bool:
        """Whether what is being done should not be gone on with."""
        return self.stopped or self.is_new

    @property
    def is_joined(self) -> bool:
        """Whether infer is there."""
        return self._out is not None

    def hear(self, timeout_ms: int | None = None, *, bell: bool = False) -> bool:
        """Waits for the supervisor (or the bell) and does what it says; `interrupted`."""
        poller = select.poll()
        poller.register(self._channel, select.POLLIN)
        if bell:
            poller.register(self.slots.bell, select.POLLIN)
        if self._channel.fileno() in dict(poller.poll(timeout_ms)):
            self._obey()
        return self.interrupted

    def is_called(self) -> bool:
        """Whether the supervisor has said something that was not heard yet."""
        poller = select.poll()
        poller.register(self._channel, select.POLLIN)
        return bool(poller.poll(0))

    def send(self, message: Message) -> bool:
        """Whether it went to infer; False when infer is gone, or the supervisor interrupts."""
        while self._out is not None:
            try:
                if self._out.send_or_wait(message, self._channel):
                    return True
            except ChannelClosed:
                self._leave()
                return False
            self._obey()
            if self.interrupted:
                return False
        return False

    def tell(self, message: Message) -> None:
        """Says something to the supervisor, which always reads."""
        while not self._channel.send(message):
            time.sleep(0.001)

    def wake(self, number: int) -> None:
        """Tells infer of a frame; of a live camera's only if it has heard of the last one."""
        if self.camera.live and self._out is not None and self._out.has_unread():
            return
        self.send(Ready(self.camera.generation, number))

    def _obey(self) -> None:
        message, descriptors = self._channel.receive_with_descriptors()
        match message:
            case control.Stop():
                self.stopped = True
            case control.Identify():
                digest = identify(message.url, self.is_called)
                self.tell(control.Identified(digest))
            case control.IngestCamera():
                self._join(message, descriptors)

    def _join(self, camera: control.IngestCamera, descriptors: list[int]) -> None:
        is_first = not hasattr(self, "camera")
        memory, bell, data = descriptors
        slots = Slots.attach(memory, bell, camera.geometry)
        if not is_first:
            if camera.live:
                slots.continue_session(self.slots.session_frames)
            self.slots.close()
        self._leave()
        self.camera, self.slots = camera, slots
        self._out = Channel.adopt(data)
        self.is_new = is_first or not camera.live
        self.tell(control.Began(camera.generation))
        if self.ended is not None:  # infer died with it
            self.send(msgspec.structs.replace(self.ended, generation=camera.generation))

    def _leave(self) -> None:
        if self._out is not None:
            self._out.close()
            self._out = None


@dataclass(frozen=True, slots=True)
class Lap:
    """Of a loop: where it began."""

    number: int
    frames: int
    segment: int
    origin: float  # of the clock
    counted: list[int]


class Session:
    """One connection of a live camera, or one reading of a file: its frames, numbered and sent.

    The supervisor hears of a live camera's before its first frame is counted.
    """

    def __init__(self, link: Link) -> None:
        camera = link.camera
        self.name = camera.session or f"{time.time_ns() // 1_000_000}-{secrets.token_hex(4)}"
        self.frames = 0
        self._link = link
        self.undecodable = 0  # pictures that could not be converted, also of earlier runs
        self._dropped: Counts = {}  # as messages tell it: behind what was published before
        self._painted: dict[tuple[int, int], Letterbox] = {}  # by generation and slot
        self._clock = StreamClock(camera.started_at)
        self._rate = Rate(camera.max_fps)
        self._lap: Lap | None = None  # the last one that was passed by
        self._segments = 0  # of the laps that were left out
        if camera.live:
            link.tell(control.Connected(self.name))

    def take(self, picture: Picture) -> None:
        """Waits until the picture is due and may be sent, then sends it; or drops it, counted."""
        if self.frames < self._link.camera.next_seq:
            self._pass_by(picture)
            return
        if not self._wait_until(picture.due_ns) or not self._wait_for_credit():
            return
        seq, self.frames = self.frames, self.frames + 1
        self._link.slots.count_arrived(self.frames)
        captured_at = self._captured_at(picture)
        if not self._rate.wants(picture.segment, picture.media_time):
            self._drop("max_fps")
        elif not self._link.is_joined:
            self._drop("crash")  # infer is gone; a live camera's pictures have nowhere to go
        else:
            self._send(picture, seq, captured_at)

    def end(self, reason: str, *, complete: bool, fault: str | None) -> None:
        """The last message, behind the last frame."""
        link = self._link
        ended = Ended(
            camera=link.camera.camera,
            session=self.name,
            generation=link.camera.generation,
            frames=max(self.frames, link.camera.next_seq),  # those were there before
            dropped=self._dropped,
            reason=reason,
            complete=complete,
            fault=fault,
        )
        if link.camera.live:
            link.ended = ended
        link.send(ended)

    def _pass_by(self, picture: Picture) -> None:
        """A frame that was accounted for before: it moves the clocks, and is counted once more."""
        slots, seq = self._link.slots, self.frames
        self.frames += 1
        self._captured_at(picture)
        reason = self._reason_to_drop(picture)
        if seq >= self._link.camera.first_seq:  # not in an earlier run
            slots.count_arrived(self.frames)
            if reason is not None:
                slots.count_ingest_drop(reason)
        self._pass_laps(picture)
        self._link.hear(0)

    def _pass_laps(self, picture: Picture) -> None:
        """Leaves out the laps of a loop that would be like the one that was just passed by."""
        if picture.lap == (self._lap.number if self._lap else 0):
            return
        slots, before = self._link.slots, self._lap
        self._lap = now = Lap(
            picture.lap, self.frames, picture.segment, self._clock.origin, slots.ingested()
        )
        if before is None:
            return
        laps = (self._link.camera.next_seq - now.frames) // (now.frames - before.frames)
        self.frames += laps * (now.frames - before.frames)
        self._segments += laps * (now.segment - before.segment)
        self._clock.origin += laps * (now.origin - before.origin)
        counted = [b - a for a, b in zip(before.counted, now.counted, strict=True)]
        slots.count_again(counted, laps)

    def _reason_to_drop(self, picture: Picture) -> str | None:
        if not self._rate.wants(picture.segment, picture.media_time):
            return "max_fps"
        if picture.is_sound:
            return None
        try:
            self._write(picture)  # into the next slot, which stays as if nothing had come
        except SourceError:
            self.undecodable += 1
            return "undecodable"
        return None

    def _wait_until(self, due_ns: int | None) -> bool:
        while due_ns is not None and (left := due_ns - time.monotonic_ns()) > 0:
            if self._link.hear(max(1, left // 1_000_000)):
                return False
        return not self._link.hear(0)

    def _wait_for_credit(self) -> bool:
        """A file waits for a free slot and for a credit; a live camera never waits."""
        link = self._link
        if link.camera.live:
            return True
        while not (link.is_joined and link.slots.may_write(link.camera.credits)):
            if link.hear(bell=True):
                return False
            link.slots.quiet_bell()
        return True

    def _send(self, picture: Picture, seq: int, captured_at: float) -> None:
        started_ns = time.monotonic_ns()
        try:
            self._write(picture)
        except SourceError:  # this one picture; its slot stays as if nothing had come
            self.undecodable += 1
            self._drop("undecodable")
            return
        written_ns = time.monotonic_ns()
        decode_ns = picture.decode_ns + written_ns - started_ns
        ticket = Ticket(
            self._frame(picture, seq, captured_at), decode_ns, written_ns, self._dropped
        )
        self._link.wake(self._link.slots.commit(ticket))

    def _write(self, picture: Picture) -> None:
        slots = self._link.slots
        pixels, geometry = slots.begin(), slots.geometry
        box = Letterbox.of(picture.width, picture.height, (geometry.height, geometry.width))
        slot = (self._link.camera.generation, (slots.sent + 1) % geometry.slots)
        if self._painted.get(slot) != box:  # the border is painted once
            box.paint(pixels)
            self._painted[slot] = box
        picture.write(pixels[box.region])

    def _captured_at(self, picture: Picture) -> float:
        if self._link.camera.live:
            return picture.arrived_at
        return self._clock.at(picture.segment, picture.media_time)

    def _frame(self, picture: Picture, seq: int, captured_at: float) -> Frame:
        return Frame(
            camera=self._link.camera.camera,
            session=self.name,
            seq=seq,
            segment=self._segments + picture.segment,
            media_time=picture.media_time,
            captured_at=captured_at,
            captured_ns=picture.arrived_ns,
            width=picture.width,
            height=picture.height,
            tainted=picture.tainted,
        )

    def _drop(self, reason: str) -> None:
        self._link.slots.count_ingest_drop(reason)
        self._dropped = {**self._dropped, reason: self._dropped.get(reason, 0) + 1}


def serve(link: Link) -> None:
    """Reads the source to its end, or to a stop; whatever happens, the last message says it.

    Comes back without a last message when the file is to be read anew.
    """
    link.is_new = False
    camera, session = link.camera, Session(link)
    reason, complete, fault = "stopped", False, None
    try:
        with open_source(camera.url, live=camera.live, loop=camera.loop) as source:
            for picture in source:
                session.take(picture)
                if link.interrupted:
                    break
            else:
                reason, complete = source.reason, source.complete
                fault = source.fault
    except SourceError as error:
        reason, fault = str(error), error.fault
    if not complete:
        link.hear(0)
    if link.stopped and not complete:  # what broke, broke while it was to end anyway
        reason, fault = "stopped", None
    if link.is_new and not link.stopped:
        return
    if session.undecodable and fault is None:
        reason = f"{reason}; {session.undecodable} pictures could not be converted"
        complete, fault = False, "decoder"
    session.end(reason, complete=complete, fault=fault)


def identify(url: str, called: Callable[[], bool] = lambda: False) -> str | None:
    """Size and sha-256 of a file; None for one that cannot be read, or when `called` away.

    A scene is known by its URL, and by the version of what draws it.
    """
    digest, size = hashlib.sha256(), 0
    if is_synthetic(url):
        return f"{SYNTHETIC_VERSION}:{hashlib.sha256(url.encode()).hexdigest()}"
    try:
        with Path(url).open("rb") as file:
            while block := file.read(_BLOCK):
                if called():
                    return None
                digest.update(block)
                size += len(block)
    except OSError:
        return None
    return f"{size}:{digest.hexdigest()}"
