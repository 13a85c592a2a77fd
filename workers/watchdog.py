"""Notices from outside that infer or publish hangs: frames wait for it, and none goes on."""

from __future__ import annotations

from collections.abc import Iterable

from workers.camera import CameraRun
from workers.stillness import Stillness


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
        if still > self._publish.limit:
            return "publish", still
        waiting = sent == inferred or not idle
        still = self._infer.watch((taken, inferred), at, waiting=waiting)
        return ("infer", still) if still > self._infer.limit else None
