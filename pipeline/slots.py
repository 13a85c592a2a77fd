"""One camera's memory file: slots of pixels, and its counters; every number has one writer.

    offset   what                                        written by
    512      arrived, sent, session's frames, in hand,   ingest
             passed by, read out, dropped[reason]
    1024     taken, read, inferred, turn,                infer
             dropped[reason]
    1536     received, published, last id confirmed,     publish
             dropped[reason]
    4096     a record of 1 kB per slot:                  ingest
               begin │ end │ length │ ticket
    …        pixels, uint8 [slots, height, width, 3]     ingest

Frames are numbered 1, 2, 3 … over the life of the file (`sent` is the newest); frame n lies in
slot n mod slots. `begin` is n from before the first byte of frame n is written, `end` is n from
after its last byte on, so a slot is in one of two states:

    begin == end      whole: it holds frame `end`
    begin != end      being written: what was there is gone, what comes is not whole

A reader copies and then looks again: if `begin` is still n, what it copied is frame n (a seqlock;
Lameter, "Effective synchronization on Linux/NUMA systems", 2005). Nobody waits for anybody, and a
process that is killed leaves no lock behind.

Every frame is somewhere, each place counted by who holds it:

    arrived = published + dropped + in flight
    in flight = in hand (0 or 1) + in slots (sent - taken) + in batches (read - inferred)
                + in the socket (inferred - received) + in the window (received - published - shed)

A live camera writes into its three slots in turn and never asks. A file waits: for the slot (infer
has `taken` the frame that lies there) and for credit (`published` is not too far behind); whoever
moves one of these and sees room for a few adds to the `bell`, an eventfd on which ingest sleeps.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import mmap
import os
from dataclasses import dataclass

import msgspec
import numpy as np

from pipeline.barrier import barrier
from pipeline.errors import ChannelClosed, VedetteError
from pipeline.memory import available_megabytes
from pipeline.messages import Counts, Ticket, decoder, encode

REASONS = (
    *("superseded", "too_old", "max_fps", "skipped", "undecodable", "crash", "window"),
    "surplus",
)

EntryId = tuple[int, int]  # of Redis: milliseconds and a count

_INGEST, _INFER, _PUBLISH = 64, 128, 192  # in words of 8 bytes
_DROPS = 8  # words from the start of a section to its table of reasons
_RECORDS, _RECORD = 4096, 1024  # bytes
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
_PAGE = 4096
_ROOMY = 4  # frames that are worth waking a process for

_tickets = decoder(Ticket)


@dataclass(frozen=True, slots=True)
class Geometry:
    """What a memory file is made for. Pixels are uint8 RGB [height, width, 3]."""

    slots: int
    height: int
    width: int
    live: bool

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.slots, self.height, self.width, 3

    @property
    def credits(self) -> int:
        """How many frames of a file may be between ingest and Redis' confirmation."""
        return 2 * self.slots

    @property
    def pixels_at(self) -> int:
        return _whole_pages(_RECORDS + self.slots * _RECORD)

    @property
    def size(self) -> int:
        return _whole_pages(self.pixels_at + math.prod(self.shape))


class Slots:
    """A memory file seen from one process: `create` makes it, `attach` opens a handed one."""

    def __init__(self, fd: int, bell: int, geometry: Geometry) -> None:
        self.fd = fd
        self.bell = bell
        self.geometry = geometry
        self._memory = mmap.mmap(fd, geometry.size)
        self._words = memoryview(self._memory).cast("Q")
        self.pixels = np.frombuffer(
            self._memory, np.uint8, math.prod(geometry.shape), geometry.pixels_at
        ).reshape(geometry.shape)

    @classmethod
    def create(cls, name: str, geometry: Geometry, *, carried: int = 0) -> Slots:
        """A new anonymous file, its memory allocated for real (else: SIGBUS at the first write).

        `carried`: frames of the file before it that publish still holds; they are in flight here.

        Raises VedetteError where the machine has not that much: the kernel would not refuse, it
        would kill somebody. Raises OSError where this process has no descriptor left for it.
        """
        megabytes = -(-geometry.size // 1_000_000)
        available = available_megabytes()
        if megabytes > available:
            raise VedetteError(
                f"camera {name} needs {megabytes:,} MB for its frames, {available:,} MB are free"
            )
        with contextlib.ExitStack() as undo:
            fd = os.memfd_create(f"vedette-{name}"[:200], os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            undo.callback(os.close, fd)
            try:
                os.posix_fallocate(fd, 0, geometry.size)
                fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
            except OSError as error:
                text = f"no memory for the {megabytes:,} MB of camera {name}"
                raise VedetteError(text) from error
            bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            undo.callback(os.close, bell)
            slots = cls(fd, bell, geometry)
            undo.pop_all()
        in_flight = (_INGEST + 1, _INFER, _INFER + 1, _INFER + 2, _PUBLISH)
        for word in (_INGEST, *in_flight) if geometry.live else in_flight:
            slots._words[word] = carried
        return slots

    @classmethod
    def attach(cls, fd: int, bell: int, geometry: Geometry) -> Slots:
        """The file behind a descriptor that came over a control socket; owns both descriptors.

        `geometry` comes from the supervisor too, never from the file: whoever writes pixels there
        may have been taken over. Its size is sealed, so nobody can make a reader fault.
        """
        if os.fstat(fd).st_size != geometry.size:
            raise VedetteError("a memory file that is not of the size it should have arrived")
        return cls(fd, bell, geometry)

    def close(self) -> None:
        """Unmaps the file and closes its descriptors, once; no array into `pixels` is left."""
        if self.fd < 0:
            return
        self.pixels = np.empty((0, 0, 0, 3), np.uint8)
        self._words.release()
        with contextlib.suppress(BufferError):
            self._memory.close()
        os.close(self.fd)
        os.close(self.bell)
        self.fd = self.bell = -1  # the numbers are somebody else's from here on

    # ── ingest ────────────────────────────────────────────────────────────────────────────────

    @property
    def room(self) -> int:
        """For how many more frames of a file there are slots and credits."""
        slots, credits = self.geometry.slots, self.geometry.credits
        return min(slots + self.taken, credits + self.published) - self.sent

    @property
    def is_roomy(self) -> bool:
        """Whether there is room that a file's ingest is worth waking for."""
        return self.room >= max(1, min(_ROOMY, self.geometry.slots // 2))

    def begin(self) -> np.ndarray:
        """The pixels of the next frame's slot, uint8 [height, width, 3], from now on not whole."""
        number = self.sent + 1
        self._words[self._record(number)] = number
        barrier()
        pixels: np.ndarray = self.pixels[number % self.geometry.slots]
        return pixels

    def commit(self, ticket: Ticket) -> int:
        """Lays the ticket beside the pixels and makes the frame the newest; its number."""
        number = self.sent + 1
        at = self._record(number)
        self._store(at, ticket)
        barrier()
        self._words[at + 1] = number
        barrier()
        self._words[_INGEST + 1] = number
        self.let_go()
        return number

    def quiet_bell(self) -> None:
        """Makes the bell quiet until a counter moves again; look at the counters after this."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.bell)

    def count_arrived(self, session_frames: int = 0) -> None:
        """One more frame, which ingest has in hand now; how many its session has by now."""
        self._words[_INGEST + 3] = 1
        self._words[_INGEST] += 1
        self.continue_session(session_frames)

    def let_go(self) -> None:
        """The frame in hand is somewhere else by now."""
        self._words[_INGEST + 3] = 0

    def count_passed(self) -> None:
        """One more frame that was accounted for before: a file is read to where it goes on."""
        self._words[_INGEST + 4] += 1

    def finish(self) -> None:
        """Nothing more will come of this file."""
        self._words[_INGEST + 5] = 1

    def continue_session(self, frames: int) -> None:
        """So many frames of the session have arrived, in this memory or before it."""
        self._words[_INGEST + 2] = frames

    def ingested(self) -> list[int]:
        """All that ingest counts; the difference between two moments may be counted again."""
        return list(self._words[_INGEST : _INGEST + _DROPS + len(REASONS)])

    def count_again(self, counted: list[int], times: int) -> None:
        """What ingest counted meanwhile happened so many times more."""
        for word, number in enumerate(counted, start=_INGEST):
            self._words[word] += number * times

    def count_ingest_drop(self, reason: str, frames: int = 1) -> None:
        self._words[_INGEST + _DROPS + REASONS.index(reason)] += frames
        self.let_go()

    # ── infer ─────────────────────────────────────────────────────────────────────────────────

    def read(self, number: int, out: np.ndarray) -> Ticket | None:
        """Copies frame `number` to `out` (uint8 [height, width, 3]); None if it is overwritten.

        Raises ChannelClosed where there is no ticket beside the pixels: the writer is not to be
        trusted any more.
        """
        at = self._record(number)
        if self._words[at + 1] != number:
            return None
        barrier()
        np.copyto(out, self.pixels[number % self.geometry.slots])
        ticket = self._load(at)
        barrier()
        if self._words[at] != number:
            return None
        try:
            return _tickets.decode(ticket)  # type: ignore[no-any-return]
        except msgspec.DecodeError as error:
            raise ChannelClosed("a memory file holds what is no ticket") from error

    def count_taken(self, number: int) -> None:
        """Frame `number` has been copied, and what lay before it will not be."""
        skipped = number - self.taken - 1
        if skipped:
            self._words[_INFER + _DROPS + REASONS.index("superseded")] += skipped
        self._words[_INFER] = number
        self._ring()

    def count_too_old(self) -> None:
        """The frame that was taken last is not gone on with."""
        self._words[_INFER + _DROPS + REASONS.index("too_old")] += 1

    def count_read(self) -> None:
        self._words[_INFER + 1] += 1

    def count_inferred(self) -> None:
        self._words[_INFER + 2] += 1

    def expect_turn(self, at_ns: int) -> None:
        """About when this live camera's newest frame is taken: monotonic, 0 if unknown."""
        self._words[_INFER + 3] = at_ns

    # ── publish ───────────────────────────────────────────────────────────────────────────────

    def count_received(self) -> None:
        self._words[_PUBLISH] += 1

    def count_published(self, frames: int, last: EntryId) -> None:
        """Redis has confirmed this many more frames, up to the entry `last`.

        Their credits go back to ingest.
        """
        self._words[_PUBLISH + 1] += frames
        self._words[_PUBLISH + 2], self._words[_PUBLISH + 3] = last
        self._ring()

    def count_publish_drop(self, reason: str, frames: int) -> None:
        self._words[_PUBLISH + _DROPS + REASONS.index(reason)] += frames

    # ── anybody ───────────────────────────────────────────────────────────────────────────────

    @property
    def arrived(self) -> int:
        return self._words[_INGEST]

    @property
    def sent(self) -> int:
        return self._words[_INGEST + 1]

    @property
    def session_frames(self) -> int:
        return self._words[_INGEST + 2]

    @property
    def passed(self) -> int:
        return self._words[_INGEST + 4]

    @property
    def is_finished(self) -> bool:
        return bool(self._words[_INGEST + 5])

    @property
    def taken(self) -> int:
        return self._words[_INFER]

    @property
    def frames_read(self) -> int:
        """Frames that infer has copied."""
        return self._words[_INFER + 1]

    @property
    def inferred(self) -> int:
        return self._words[_INFER + 2]

    @property
    def turn_ns(self) -> int:
        """As `expect_turn` was told."""
        return self._words[_INFER + 3]

    @property
    def received(self) -> int:
        return self._words[_PUBLISH]

    @property
    def published(self) -> int:
        return self._words[_PUBLISH + 1]

    @property
    def confirmed(self) -> EntryId:
        return self._words[_PUBLISH + 2], self._words[_PUBLISH + 3]

    @property
    def in_batches(self) -> int:
        return self.frames_read - self.inferred

    def in_flight(self) -> int:
        """Frames between the decoder and Redis, counted where they are."""
        inferred, received = self.inferred, self.received
        shed = self._words[_PUBLISH + _DROPS + REASONS.index("window")]
        in_hand, in_slots = self._words[_INGEST + 3], self.sent - self.taken
        in_window = received - self.published - shed
        return in_hand + in_slots + self.in_batches + (inferred - received) + in_window

    def dropped(self) -> Counts:
        """Frames dropped so far, by reason, by whomever; reasons without any are left out."""
        totals = {
            reason: sum(
                self._words[section + _DROPS + index] for section in (_INGEST, _INFER, _PUBLISH)
            )
            for index, reason in enumerate(REASONS)
        }
        return {reason: frames for reason, frames in totals.items() if frames}

    def _record(self, number: int) -> int:
        return (_RECORDS + number % self.geometry.slots * _RECORD) // 8

    def _store(self, at: int, ticket: Ticket) -> None:
        data = encode(ticket)
        if len(data) > _RECORD - 24:
            raise VedetteError(f"a ticket of {len(data)} bytes does not fit its slot")
        self._words[at + 2] = len(data)
        self._memory[at * 8 + 24 : at * 8 + 24 + len(data)] = data

    def _load(self, at: int) -> bytes:
        length = min(self._words[at + 2], _RECORD - 24)
        return self._memory[at * 8 + 24 : at * 8 + 24 + length]

    def _ring(self) -> None:
        """Wakes a file's ingest, which sleeps without any room, once there is some.

        Infer and publish may be here at once: behind the barrier one sees what both have counted.
        """
        if not self.geometry.live:
            barrier()
            if self.is_roomy:
                os.eventfd_write(self.bell, 1)


def _whole_pages(size: int) -> int:
    return -(-size // _PAGE) * _PAGE
