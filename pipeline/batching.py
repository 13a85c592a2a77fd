"""Which frames go next: round robin over cameras, at most `max_batch`, nobody waits for company
longer than `max_wait`, and never for a given camera. Plain values and a clock handed in."""

from __future__ import annotations

from collections import OrderedDict, deque


class Batcher:
    """Keeps what each camera offers, and says whose frames go into the next batch.

    A camera that was served goes to the end of the line, so one that offers much (a file) cannot
    starve one that offers little.
    """

    def __init__(self, *, max_batch: int, max_wait_ns: int) -> None:
        self._max_batch = max_batch
        self._max_wait_ns = max_wait_ns
        self._offered: OrderedDict[str, deque[int]] = OrderedDict()  # since when, by camera
        self._frames = 0

    def __len__(self) -> int:
        return self._frames

    def offer(self, camera: str, now_ns: int) -> None:
        """One more frame of this camera can be read."""
        self._offered.setdefault(camera, deque()).append(now_ns)
        self._frames += 1

    def withdraw(self, camera: str) -> None:
        """Forgets whatever the camera has offered."""
        self._frames -= len(self._offered.pop(camera, ()))

    def wait_ns(self, now_ns: int) -> int | None:
        """How long until a batch should go: 0 for now, None while there is nothing to go."""
        if not self._frames:
            return None
        if self._frames >= self._max_batch:
            return 0
        oldest_ns = min(since[0] for since in self._offered.values())
        return max(0, oldest_ns + self._max_wait_ns - now_ns)

    def take(self) -> list[str]:
        """The cameras of the next batch, one entry a frame, each camera's oldest first."""
        batch: list[str] = []
        while self._frames and len(batch) < self._max_batch:
            camera, since = self._offered.popitem(last=False)
            since.popleft()
            batch.append(camera)
            self._frames -= 1
            if since:
                self._offered[camera] = since
        return batch
