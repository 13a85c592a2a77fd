"""How a run ended, and the exit code for it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from pipeline.messages import Counts
from pipeline.wire import merge_drops
from workers.camera import CameraRun


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    code: int  # 0 done, 1 failed, 2 the config asks for what is not there, 3 records abandoned
    problems: list[str]  # one sentence each
    frames: int
    dropped: Counts
    abandoned: int  # frames on their way
    unended: int  # cameras whose `ended` event was not confirmed
    seconds: float


def outcome_of(
    cameras: list[CameraRun], problems: list[str], *, usage: bool, since: float
) -> Outcome:
    """`usage`: the problem is that the config asks for what is not there; `since`: monotonic."""
    dropped: Counts = {}
    for camera in cameras:
        dropped = merge_drops(dropped, camera.totals.dropped)
    abandoned = sum(camera.totals.in_flight for camera in cameras)
    unended = sum(one.totals.has_begun and one.finished is None for one in cameras)
    failed = 2 if usage else 1
    return Outcome(
        code=failed if problems else 3 if abandoned or unended else 0,
        problems=problems,
        frames=sum(camera.totals.published for camera in cameras),
        dropped=dropped,
        abandoned=abandoned,
        unended=unended,
        seconds=time.monotonic() - since,
    )
