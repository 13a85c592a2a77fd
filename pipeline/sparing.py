"""When keyframes are all that is wanted of a live camera, so that the rest need no decoding."""

from __future__ import annotations

from collections import deque

LOOK = 10.0  # seconds of every frame on offer, to see how many the device takes
REST, LONGEST_REST = 10.0, 160.0  # seconds of keyframes alone, before the next look
_FARTHEST = 4.0  # seconds between keyframes: a step of 5 in the time stamps would be a jump
_SPACINGS = 3  # that are looked at
_JITTER = 0.05  # of a spacing: by how much the network may stretch it


class Sparing:
    """One connection's. Decides from a clock handed in, monotonic seconds.

    Keyframes are enough where they come at least as often as a frame is wanted: as `max_fps` says,
    or as the device takes them. What it takes of few does not say what it could take of all, so it
    is offered all again after a rest; each time that was in vain the next rest is twice as long.
    """

    def __init__(self, max_fps: float | None) -> None:
        self._wanted = 1 / max_fps if max_fps else 0.0  # seconds from one frame to the next
        self._spacings: deque[float] = deque(maxlen=_SPACINGS)
        self._key_at: float | None = None
        self._is_resting = False
        self._rest = REST
        self._since: float | None = None  # when this look, or rest, began…
        self._read = 0  # …and how many frames infer had read then

    def see(self, at: float, read: int, *, is_key: bool) -> bool:
        """Whether keyframes are enough from here on; asked at every frame.

        `read`: how many frames of this camera infer has read so far.
        """
        if is_key:
            if self._key_at is not None:
                self._spacings.append(at - self._key_at)
            self._key_at = at
        spacing = self._spacing()
        if spacing is None:
            return False
        if spacing <= self._wanted:
            return True
        self._turn(at, read, spacing)
        return self._is_resting

    def _spacing(self) -> float | None:
        """Seconds between keyframes, None where they are not to be relied upon."""
        if len(self._spacings) < _SPACINGS or max(self._spacings) > _FARTHEST:
            return None
        return max(self._spacings) * (1 - _JITTER)

    def _turn(self, at: float, read: int, spacing: float) -> None:
        """From a look to a rest, or back, when its time is over."""
        if self._since is None:
            self._since, self._read = at, read
        passed = at - self._since
        if passed < (self._rest if self._is_resting else LOOK):
            return
        taken = read - self._read
        if self._is_resting:
            self._is_resting = False
            self._rest = min(LONGEST_REST, 2 * self._rest)
        elif taken > 0 and passed >= taken * spacing:
            self._is_resting = True
        else:  # also where nothing was taken: infer is not there
            self._rest = REST
        self._since, self._read = at, read
