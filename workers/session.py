"""One connection of a live camera, or one reading of a file: its frames, numbered and sent.

This is where a live camera's frames are never waited for, and a file's always are.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SourceError
from pipeline.letterbox import Letterbox
from pipeline.messages import Counts, Ended, Frame, Ticket
from pipeline.sight import Sight
from pipeline.sources import Picture
from pipeline.sparing import Sparing
from pipeline.thinning import Rate, StreamClock
from pipeline.turns import Gaps
from workers import control
from workers.link import Link


@dataclass(frozen=True, slots=True)
class Lap:
    """Of a loop: where it began."""

    number: int
    frames: int
    segment: int
    origin: float  # of the clock
    counted: list[int]


@dataclass(frozen=True, slots=True)
class Held:
    """A live picture that is worth resizing only if it is the last one; it counts as in hand."""

    picture: Picture
    seq: int
    captured_at: float
    generation: int  # of the memory that it has arrived in


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
        self._sight = Sight()
        self._sparing = Sparing(camera.max_fps)
        self._gaps = Gaps()
        self._held: Held | None = None
        self.keys_only = False  # they are all that is wanted of a camera on the network
        self._segments = 0  # of the laps that were left out

    def announce(self) -> None:
        """To the supervisor, before a live camera's first frame is counted."""
        if self._link.camera.live:
            self._link.tell(control.Connected(self.name))

    def take(self, picture: Picture) -> None:
        """Waits until the picture is due and may be sent, then sends it; or drops it, counted."""
        if self.frames < self._link.camera.next_seq:
            self._pass_by(picture)
            return
        if not self._wait_until(picture.due_ns) or not self._wait_for_credit():
            return
        if self._take_held() is not None:
            self._drop("surplus")
        seq, self.frames = self.frames, self.frames + 1
        self._link.slots.count_arrived(self.frames)
        captured_at = self._captured_at(picture)
        if self._link.camera.comes_back:
            self.keys_only = self._sparing.see(time.monotonic(), is_key=picture.is_key)
        if picture.is_left_out:
            self._drop("skipped")
        elif not self._rate.wants(picture.segment, picture.media_time):
            self._drop("max_fps")
        elif not self._link.is_joined:
            self._drop("crash")  # infer is gone; a live camera's pictures have nowhere to go
        elif self._link.camera.live and not self._is_wanted():
            self._held = Held(picture, seq, captured_at, self._link.camera.generation)
        else:
            self._send(picture, seq, captured_at)

    def _is_wanted(self) -> bool:
        """Of a live camera: whether this picture may be one that infer takes, or is to be seen."""
        slots, now_ns = self._link.slots, time.monotonic_ns()
        self._gaps.see(now_ns)
        if slots.sent == slots.taken or self._gaps.is_last_before(slots.turn_ns):
            return True
        return self._link.camera.comes_back and self._sight.is_due(now_ns / 1e9)

    def _take_held(self) -> Held | None:
        """The picture that was held back, unless it died with the memory that it is counted in."""
        held, self._held = self._held, None
        return held if held and held.generation == self._link.camera.generation else None

    def send_held(self) -> None:
        """Sends a picture that was held back: there is none behind it."""
        if (held := self._take_held()) is None:
            return
        if self._link.is_joined:
            self._send(held.picture, held.seq, held.captured_at)
        else:
            self._drop("crash")

    def end(
        self, reason: str, *, complete: bool, fault: str | None, goes_on: bool = False
    ) -> Ended:
        """The last message, behind the last frame; of the session alone if the camera goes on."""
        self.send_held()
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
            goes_on=goes_on,
        )
        if link.camera.live and not goes_on:
            link.ended = ended
        if not link.camera.comes_back:
            link.slots.finish()
        link.send(ended)
        return ended

    def _pass_by(self, picture: Picture) -> None:
        """A frame that was accounted for before: it moves the clocks, and is counted once more."""
        slots, seq = self._link.slots, self.frames
        self.frames += 1
        slots.count_passed()
        self._captured_at(picture)
        reason = self._reason_to_drop(picture)
        if seq >= self._link.camera.first_seq:  # not in an earlier run
            slots.count_arrived(self.frames)
            if reason is not None:
                slots.count_ingest_drop(reason)
            slots.let_go()
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
        while not (link.is_joined and link.slots.room > 0):
            if link.hear(bell=True):
                return False
            link.slots.quiet_bell()
        return True

    def _send(self, picture: Picture, seq: int, captured_at: float) -> None:
        started_ns = time.monotonic_ns()
        try:
            pixels = self._write(picture)
        except SourceError:  # this one picture; its slot stays as if nothing had come
            self.undecodable += 1
            self._drop("undecodable")
            return
        written_ns = time.monotonic_ns()
        self._look(pixels, written_ns / 1e9)
        decode_ns = picture.decode_ns + written_ns - started_ns
        ticket = Ticket(
            self._frame(picture, seq, captured_at), decode_ns, written_ns, self._dropped
        )
        self._link.wake(self._link.slots.commit(ticket))

    def _look(self, pixels: NDArray[np.uint8], at: float) -> None:
        """Notices that a camera on the network shows nothing, or nothing new."""
        if self._link.camera.comes_back and self._sight.see(pixels, at):
            self._link.tell(control.Looks(self._sight.state))

    def _write(self, picture: Picture) -> NDArray[np.uint8]:
        slots = self._link.slots
        pixels, geometry = slots.begin(), slots.geometry
        box = Letterbox.of(picture.width, picture.height, (geometry.height, geometry.width))
        slot = (self._link.camera.generation, (slots.sent + 1) % geometry.slots)
        if self._painted.get(slot) != box:  # the border is painted once
            box.paint(pixels)
            self._painted[slot] = box
        region: NDArray[np.uint8] = pixels[box.region]
        picture.write(region)
        return region

    def _captured_at(self, picture: Picture) -> float:
        if self._link.camera.live:
            return picture.arrived_at
        return self._clock.at(picture.segment, picture.media_time)

    def _frame(self, picture: Picture, seq: int, captured_at: float) -> Frame:
        clock = picture.camera_time
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
            camera_at=clock.at if clock else None,
            camera_at_error=clock.error if clock else None,
        )

    def _drop(self, reason: str) -> None:
        self._link.slots.count_ingest_drop(reason)
        self._dropped = {**self._dropped, reason: self._dropped.get(reason, 0) + 1}
