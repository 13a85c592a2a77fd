"""Which frames go next: by weight and in turn, at most `max_batch`, nobody waits for company longer
than `max_wait`, and never for a given camera. Plain values and a clock handed in.

Turns are by fair queueing with start tags (Goyal, Vin, Cheng 1996): a camera's next frame has one,
its last one's plus 1 / weight, and the lowest goes first; who was away begins at the lowest tag of
the last batch, and so neither makes up for it nor is made to wait.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Line:
    """One camera. Tags count in frames of a camera of weight 1."""

    stride: float
    lossless: bool
    tag: float = 0.0
    since_ns: deque[int] = field(default_factory=deque)  # of each frame that it offers


class Batcher:
    """Keeps what each camera offers, and says whose frames go into the next batch."""

    def __init__(self, *, max_batch: int, max_wait_ns: int) -> None:
        self.max_batch = max_batch  # frames; may be changed
        self._lead = max_batch  # frames that a camera may be ahead
        self._max_wait_ns = max_wait_ns
        self._lines: dict[str, _Line] = {}
        self._offering: dict[str, _Line] = {}  # those of them, in the order of their turns
        self._now = 0.0  # the lowest tag in the last batch
        self._frames = 0

    def __len__(self) -> int:
        return self._frames

    def add(self, camera: str, *, weight: float = 1.0, lossless: bool = False) -> None:
        """A camera that will offer frames. `lossless`: it waits rather than drop one."""
        self.remove(camera)
        self._lines[camera] = _Line(1 / weight, lossless, self._now)

    def remove(self, camera: str) -> None:
        """Forgets the camera, and whatever it has offered."""
        self._lines.pop(camera, None)
        if (line := self._offering.pop(camera, None)) is not None:
            self._frames -= len(line.since_ns)

    def offer(self, camera: str, now_ns: int) -> None:
        """One more frame of this camera can be read."""
        line = self._lines[camera]
        if camera not in self._offering:
            line.tag = max(line.tag, self._now)
            self._offering[camera] = line
        line.since_ns.append(now_ns)
        self._frames += 1

    def wait_ns(self, now_ns: int) -> int | None:
        """How long until a batch should go: 0 for now, None while there is nothing to go."""
        if not self._frames:
            return None
        if self._frames >= self.max_batch:
            return 0
        oldest_ns = min(line.since_ns[0] for line in self._offering.values())
        return max(0, oldest_ns + self._max_wait_ns - now_ns)

    def queue(self) -> list[str]:
        """The cameras that offer frames, about in the order in which they will go."""
        return sorted(self._offering, key=lambda name: self._offering[name].tag)

    def take(self) -> list[str]:
        """The cameras of the next batch, one entry a frame, each camera's oldest first.

        A live camera has one frame to offer, so where a batch has room for all, weights would
        mean nothing: who is ahead of its share sits this one out. Where the device has time for
        everybody, its turn is the next batch, at once.
        """
        batch: list[str] = []
        sitting_out = self._ahead()
        while len(batch) < self.max_batch:
            ready = (name for name in self._offering if name not in sitting_out)
            name = min(ready, key=lambda one: self._offering[one].tag, default=None)
            if name is None:
                break
            if not batch:
                self._now = max(self._now, self._offering[name].tag)
            self._serve(name)
            batch.append(name)
        return batch

    def _ahead(self) -> set[str]:
        """Live cameras that have had more than their share, of those that offer now."""
        live = {name: line for name, line in self._offering.items() if not line.lossless}
        strides = {line.stride for line in live.values()}
        if len(strides) < 2:
            return set()
        lowest, longest = min(line.tag for line in live.values()), max(strides)
        return {name for name, line in live.items() if line.tag > lowest + longest}

    def _serve(self, name: str) -> None:
        line = self._offering.pop(name)
        line.since_ns.popleft()
        self._frames -= 1
        # What it gets beyond its turn, where there is room, is not held against it for long.
        line.tag = min(line.tag, self._now + self._lead * line.stride) + line.stride
        if line.since_ns:
            self._offering[name] = line
