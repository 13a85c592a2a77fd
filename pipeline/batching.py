"""Which frames go next: round robin over cameras, at most `max_batch`, nobody waits for company
longer than `max_wait`, and never for a given camera. Plain values and a clock handed in."""

from __future__ import annotations

from collections import OrderedDict


class Batcher:
    """Counts the frames that each camera offers, and says whose go into the next batch.

    A camera that was served goes to the end of the line, so one that offers much (a file) cannot
    starve one that offers little.
    """

    def __init__(self, *, max_batch: int, max_wait_ns: int) -> None:
        self._max_batch = max_batch
        self._max_wait_ns = max_wait_ns
        self._offered: OrderedDict[str, int] = OrderedDict()
        self._frames = 0
        self._oldest_ns = 0

    def __len__(self) -> int:
        return self._frames

    def offer(self, camera: str, now_ns: int) -> None:
        """One more frame of this camera can be read."""
        if not self._frames:
            self._oldest_ns = now_ns
        self._offered[camera] = self._offered.get(camera, 0) + 1
        self._frames += 1

    def withdraw(self, camera: str) -> None:
        """Forgets whatever the camera has offered."""
        self._frames -= self._offered.pop(camera, 0)

    def wait_ns(self, now_ns: int) -> int | None:
        """How long until a batch should go: 0 for now, None while there is nothing to go."""
        if not self._frames:
            return None
        if self._frames >= self._max_batch:
            return 0
        return max(0, self._oldest_ns + self._max_wait_ns - now_ns)

    def take(self, now_ns: int) -> list[str]:
        """The cameras of the next batch, one entry a frame; what is left begins to wait anew."""
        batch: list[str] = []
        while self._frames and len(batch) < self._max_batch:
            camera, offered = self._offered.popitem(last=False)
            batch.append(camera)
            self._frames -= 1
            if offered > 1:
                self._offered[camera] = offered - 1
        self._oldest_ns = now_ns
        return batch
