"""Live cameras that rest because the network dies with frames of theirs.

Which of many it is, is found by halves: of those whose frames were there at two deaths, half rest.
If it dies again meanwhile, they are free, and half of the others rest; if it does not, it is one
of them. So of 40 cameras the one is found with six deaths more, and from then on it rests alone,
for a minute after each death.

A file has no need of this: it ends where somebody dies again and again at the same frame.
"""

from __future__ import annotations

from collections.abc import Collection

REST = 60.0  # seconds of a network that is up
_MEMORY = 600.0  # seconds without a death after which nobody is suspected


class Quarantine:
    """Who is suspected, and who rests. Decides from a clock handed in, monotonic seconds."""

    def __init__(self) -> None:
        self._suspects: set[str] = set()
        self._resting: set[str] = set()
        self._until: float | None = None  # None: the network is not up again
        self._died_at = 0.0

    def die(self, in_batch: Collection[str], now: float) -> list[str]:
        """The network died with these cameras' frames; those that are to rest."""
        if now > self._died_at + _MEMORY:
            self._suspects, self._resting = set(), set()
        self._died_at = now
        if self._resting and self._until is not None and now >= self._until:
            self._suspects, self._resting = self._resting, set()  # well without them
        suspects = (self._suspects - self._resting) & set(in_batch)
        self._resting, self._until = set(), None
        if suspects:
            half = sorted(suspects)[: -(-len(suspects) // 2)]
            self._resting = set(half)
        self._suspects = suspects or set(in_batch)
        return sorted(self._resting)

    def go_on(self, now: float) -> None:
        """The network is up again."""
        if self._until is None:
            self._until = now + REST

    def rests(self, camera: str, now: float) -> bool:
        return camera in self._resting and (self._until is None or now < self._until)
