"""What became of one camera's frames, through all generations of its memory.

live   every generation's counts add up; what was under way when one ended is `crash`
file   every generation counts anew from the first frame of the run: ingest decodes past what
       publish has, and counts it once more
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.messages import Counts
from pipeline.slots import EntryId, Slots
from pipeline.wire import merge_drops


@dataclass(frozen=True, slots=True)
class _Before:
    """A live camera's memory that ingest may still write to."""

    slots: Slots
    owed: int  # frames that are carried over into the next
    uncounted: int  # frames that Redis has beyond `slots.published`

    @property
    def published(self) -> int:
        return self.slots.published + self.uncounted


class Totals:
    """One camera's frames in this run: `published`, `dropped` by reason, `in_flight`."""

    def __init__(self, *, live: bool) -> None:
        self.has_begun = False  # the camera has had a memory
        self._live = live
        self._slots: Slots | None = None
        self._owed = 0  # frames that were carried over into these slots
        self._counts_anew = True  # of a file: an ingest decodes from the start into these slots
        self._before: _Before | None = None
        self._published = 0  # in memory that is gone; of a file never less than before
        self._dropped: Counts = {}
        self._confirmed: EntryId = (0, 0)

    @property
    def published(self) -> int:
        if self._live:
            before = self._before.published if self._before else 0
            return self._published + before + (self._slots.published if self._slots else 0)
        if self._slots is None:
            return self._published
        if self._counts_anew:
            return max(self._published, self._slots.passed - self._owed + self._slots.published)
        return self._published + self._slots.published

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
    def known(self) -> int:
        """Frames that are published, dropped or on their way."""
        return self.published + sum(self.dropped.values()) + self.in_flight

    @property
    def session_frames(self) -> int:
        """How many frames of the session under way have arrived."""
        before = self._before.slots.session_frames if self._before else 0
        return max(before, self._slots.session_frames if self._slots else 0)

    @property
    def confirmed(self) -> EntryId:
        """The last entry whose frame publish has counted."""
        now = self._slots.confirmed if self._slots else self._confirmed
        return max(self._confirmed, now)

    def move(self, slots: Slots, *, owed: int, uncounted: int, is_last: bool) -> None:
        """New memory, in which `owed` frames of the one before are carried over.

        `is_last`: no ingest will write to it.
        """
        self.retire()
        self._put_away(owed, uncounted if self._live or is_last else 0)
        self.has_begun = True
        self._slots, self._owed, self._counts_anew = slots, owed, not is_last

    def settle(self, uncounted: int) -> None:
        """Nothing is under way any more: it is in Redis, `uncounted`, or has died."""
        self.retire()
        self._put_away(0, uncounted)
        self.retire()

    def cut(self, frames: int) -> None:
        """A file ends where publish has it, after `frames`: what was dropped behind comes again."""
        excess = self.known - frames
        for reason, count in self._dropped.items():
            taken = max(0, min(count, excess))
            self._dropped[reason] = count - taken
            excess -= taken

    def _put_away(self, owed: int, uncounted: int) -> None:
        if self._slots is None:
            return
        self._confirmed = self.confirmed
        if self._live:
            self._before = _Before(self._slots, owed, uncounted)
        else:
            self._published, self._dropped = self.published + uncounted, self.dropped
            self._slots.close()
        self._slots = None

    def retire(self) -> None:
        """Nobody writes to the memory before any more: what is in it is final."""
        if self._before is None:
            return
        before, self._before = self._before, None
        dropped = before.slots.dropped()
        died = before.slots.arrived - before.published - sum(dropped.values()) - before.owed
        if died > 0:
            dropped = merge_drops(dropped, {"crash": died})
        self._published += before.published
        self._dropped = merge_drops(self._dropped, dropped)
        before.slots.close()

    def close(self) -> None:
        """Keeps the figures, but for what is in flight, and lets go of the memory."""
        self.retire()
        if self._slots is not None:
            self._published, self._dropped = self.published, self.dropped
            self._slots.close()
            self._slots = None
