"""What a camera on the network is like now, and what of that its consumers have been told.

    connecting ──▶ live ⇄ frozen, dark, stalled
        ▲            │
        └── backoff, refused

`ended` is said of each session behind its last frame, by whoever publishes that.
"""

from __future__ import annotations

from dataclasses import dataclass

from workers.stillness import Stillness

CONNECTING, LIVE, STALLED = "connecting", "live", "stalled"
FROZEN, DARK = "frozen", "dark"
BACKOFF, REFUSED = "backoff", "refused"

STALLED_SECONDS = 3.0  # without a picture; a source gives its camera up after 5 or 10
DEAD_SECONDS = 20.0  # the same: longer than a source waits for its camera, so its process hangs
OPENING_SECONDS = 45.0  # likewise, until its first picture


@dataclass(frozen=True, slots=True)
class State:
    """One state; `since` in seconds since 1970, `fault` as in the messages."""

    name: str
    since: float
    reason: str
    fault: str | None = None


class Life:
    """One camera's. Decides from times handed in: `now` of 1970, `at` monotonic seconds."""

    def __init__(self, now: float) -> None:
        self.state = State(CONNECTING, now, "it is opened for the first time")
        self._told: State | None = None
        self._stillness = Stillness()

    def become(self, name: str, reason: str, now: float, fault: str | None = None) -> bool:
        """Whether that is news; a state that goes on for another reason has begun when it did."""
        if (name, reason, fault) == (self.state.name, self.state.reason, self.state.fault):
            return False
        since = self.state.since if name == self.state.name else now
        self.state = State(name, since, reason, fault)
        return True

    def news(self) -> State | None:
        """What has not been told, once."""
        if self._told is self.state:
            return None
        self._told = self.state
        return self.state

    def forget(self) -> None:
        """Who was told is gone, and may not have passed it on."""
        self._told = None

    def watch(self, place: object, at: float, *, opening: bool, waiting: bool) -> float:
        """`Stillness.watch`; opening may take longer, and its seconds count for less."""
        still = self._stillness.watch(place, at, waiting=waiting)
        return still if not opening else still * DEAD_SECONDS / OPENING_SECONDS
