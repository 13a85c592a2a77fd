"""What became of one camera's frames, through all generations of its memory.

Each generation adds to what was published before it. What was dropped adds up of a live camera,
whose frames that were under way when a generation ended are `crash`; of a file every generation
counts it anew, from the first frame of the run, because ingest decodes past what publish has.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline.messages import Counts
from pipeline.slots import EntryId, Slots
from pipeline.wire import merge_drops

_LOOKS = 20  # at counters that move meanwhile


@dataclass(frozen=True, slots=True)
class Look:
    """All counts of one moment: arrived = published + dropped + in flight + unaccounted."""

    published: int
    dropped: Counts
    in_flight: int
    unaccounted: int  # 0, or a frame was lost and nobody knows where

    @property
    def arrived(self) -> int:
        return self.published + sum(self.dropped.values()) + self.in_flight + self.unaccounted


@dataclass(frozen=True, slots=True)
class Steps:
    """How many frames have come to each step, in the memory of now."""

    sent: int = 0  # by ingest
    taken: int = 0  # by infer, or left out
    inferred: int = 0  # or left out
    received: int = 0  # by publish, or left out


@dataclass(frozen=True, slots=True)
class _Before:
    """A live camera's memory that ingest may still write to."""

    slots: Slots
    owed: int  # frames that are carried over into the next
    uncounted: int  # frames that Redis has beyond `slots.published`


class Totals:
    """One camera's frames in this run: `published`, `dropped` by reason, `in_flight`."""

    def __init__(self, *, live: bool) -> None:
        self.has_begun = False  # the camera has had a memory
        self._live = live
        self._slots: Slots | None = None
        self._before: _Before | None = None
        self._published = 0  # in memory that is gone
        self._uncounted = 0  # frames that Redis has beyond those in any memory
        self._dropped: Counts = {}
        self._confirmed: EntryId = (0, 0)
        self._session_frames = 0
        self._missed = 0  # at the last look

    @property
    def published(self) -> int:
        now = self._slots.published if self._slots else 0
        before = self._before.slots.published + self._before.uncounted if self._before else 0
        return self._published + before + self._uncounted + now

    @property
    def dropped(self) -> Counts:
        now = self._slots.dropped() if self._slots else {}
        if self._live:
            before = self._before.slots.dropped() if self._before else {}
            return merge_drops(self._dropped, merge_drops(before, now))
        return {
            reason: max(self._dropped.get(reason, 0), now.get(reason, 0))
            for reason in {**self._dropped, **now}
        }

    @property
    def in_flight(self) -> int:
        return self._slots.in_flight() if self._slots else 0

    @property
    def in_batches(self) -> int:
        """Frames that infer has read and not answered."""
        return self._slots.in_batches if self._slots else 0

    @property
    def steps(self) -> Steps:
        slots = self._slots
        if slots is None:
            return Steps()
        left_out = slots.taken - slots.frames_read
        return Steps(slots.sent, slots.taken, slots.inferred + left_out, slots.received + left_out)

    @property
    def read(self) -> int | None:
        """Pictures that have been read into this memory; None where no more should be by now.

        A file's ingest may sleep as long as there is not room to wake it for.
        """
        slots = self._slots
        if slots is None or slots.is_finished or not (self._live or slots.is_roomy):
            return None
        return slots.arrived + slots.passed

    @property
    def known(self) -> int:
        """Frames that are published, dropped or on their way."""
        return self.published + sum(self.dropped.values()) + self.in_flight

    def look(self) -> Look:
        """All counts, as of one moment: while a frame moves on, some are ahead of the others."""
        for _ in range(_LOOKS):
            arrived = self._slots.arrived if self._slots else None
            look = Look(self.published, self.dropped, self.in_flight, 0)
            missing = 0 if arrived is None else self._missing(arrived, look)
            if not missing:
                break
        before, self._missed = self._missed, missing
        # A process may be held up between two counters, but not from one look to the next.
        return replace(look, unaccounted=min(missing, before, key=abs))

    def _missing(self, arrived: int, look: Look) -> int:
        """Frames that have arrived in the memory of now, and are nowhere."""
        assert self._slots is not None
        if self._live:
            known = self._slots.published + sum(self._slots.dropped().values())
            return arrived - known - self._slots.in_flight()
        return max(0, arrived - look.arrived)  # below 0 while it is decoded past

    @property
    def session_frames(self) -> int:
        """How many frames of the session under way have arrived."""
        before = self._before.slots.session_frames if self._before else 0
        now = self._slots.session_frames if self._slots else 0
        return max(self._session_frames, before, now)

    @property
    def confirmed(self) -> EntryId:
        """The last entry whose frame was counted."""
        return max(self._confirmed, self._slots.confirmed if self._slots else (0, 0))

    def count(self, frames: int, last: EntryId) -> None:
        """Redis has so many frames more, up to `last`, which were counted in no memory."""
        self._uncounted += frames
        self._confirmed = max(self._confirmed, last)

    def move(self, slots: Slots, *, owed: int) -> None:
        """New memory, in which `owed` frames of the one before are carried over."""
        self.retire()
        self._put_away(owed)
        self.has_begun = True
        self._slots = slots

    def settle(self) -> None:
        """Nothing is under way any more: it is in Redis, and counted, or has died."""
        self.retire()
        self._put_away(0)
        self.retire()

    def begin_session(self) -> None:
        """The session before is over, and accounted for."""
        self.retire()
        self._session_frames = 0

    def cut(self, frames: int) -> None:
        """A file ends where publish has it, after `frames`: what was dropped behind comes again."""
        excess = self.known - frames
        for reason, count in self._dropped.items():
            taken = max(0, min(count, excess))
            self._dropped[reason] = count - taken
            excess -= taken

    def retire(self) -> None:
        """Nobody writes to the memory before any more: what is in it is final."""
        if self._before is None:
            return
        before, self._before = self._before, None
        published, dropped = before.slots.published + before.uncounted, before.slots.dropped()
        died = before.slots.arrived - published - sum(dropped.values()) - before.owed
        if died > 0:
            dropped = merge_drops(dropped, {"crash": died})
        self._published += published
        self._dropped = merge_drops(self._dropped, dropped)
        self._session_frames = max(self._session_frames, before.slots.session_frames)
        before.slots.close()

    def close(self) -> None:
        """Keeps the figures, but for what is in flight, and lets go of the memory."""
        self.retire()
        if self._slots is not None:
            self._published, self._dropped = self.published, self.dropped
            self._uncounted = 0
            self._slots.close()
            self._slots = None

    def _put_away(self, owed: int) -> None:
        if self._slots is None:
            return
        self._confirmed = self.confirmed
        if self._live:
            self._before = _Before(self._slots, owed, self._uncounted)
        else:
            self._published, self._dropped = self.published, self.dropped
            self._slots.close()
        self._slots, self._uncounted = None, 0
