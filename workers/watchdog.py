"""Notices from outside that infer or publish hangs: frames wait for it, and none goes on."""

from __future__ import annotations

from collections.abc import Iterable

from workers.camera import CameraRun
from workers.stillness import Stillness

LEAST, MOST = 20.0, 120.0  # seconds: the bounds of how long one may stand still…
_TIMES = 10.0  # …which is so many times as long as it ever has, and `MOST` before it has moved


class Watchdog:
    """Looks at the counters of cameras that have begun."""

    def __init__(self) -> None:
        self._infer = Stillness()
        self._publish = Stillness()

    def hung(self, cameras: Iterable[CameraRun], at: float) -> tuple[str, float] | None:
        """The role that hangs at `at`, monotonic seconds, and since how many.

        Publish first: infer waits for it, rightly, where it does not read.
        """
        steps = [camera.totals.steps for camera in cameras if camera.begun]
        received = sum(step.received for step in steps)
        inferred = sum(step.inferred for step in steps)
        taken, sent = sum(step.taken for step in steps), sum(step.sent for step in steps)
        idle = inferred == received
        still = self._publish.watch(received, at, waiting=idle)
        if still > _limit(self._publish):
            return "publish", still
        waiting = sent == inferred or not idle
        still = self._infer.watch((taken, inferred), at, waiting=waiting)
        return ("infer", still) if still > _limit(self._infer) else None


def _limit(stillness: Stillness) -> float:
    if not stillness.longest:
        return MOST
    return min(MOST, max(LEAST, _TIMES * stillness.longest))
