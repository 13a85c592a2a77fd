"""One moment of a run in figures, as whoever tells them takes them: frozen, safe in any thread."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from workers import life
from workers.camera import CameraRun
from workers.topology import Topology
from workers.totals import Look

ENDED = "ended"
STATES = (
    *(life.CONNECTING, life.LIVE, life.STALLED, life.FROZEN, life.DARK),
    *(life.BACKOFF, life.REFUSED, ENDED),
)


@dataclass(frozen=True, slots=True)
class CameraFigures:
    """One camera. Its state is that of its events; a file's is `live` until it has `ended`."""

    camera: str
    live: bool
    state: str
    sessions: int  # that have begun
    arrived: int  # the most there ever were: frames of a file that come again count once
    frames: Look


@dataclass(frozen=True, slots=True)
class Figures:
    """The whole run at `at`, monotonic seconds."""

    at: float
    cameras: Sequence[CameraFigures] = ()
    restarts: Mapping[tuple[str, str], int] = field(default_factory=dict)  # by role and name
    missing: Sequence[str] = ("it has not started",)  # why it is not ready

    @property
    def age(self) -> float:
        """Seconds since; the supervisor makes new ones four times a second."""
        return time.monotonic() - self.at


def figures_of(
    topology: Topology, restarts: Mapping[tuple[str, str], int], *, ending: bool
) -> Figures:
    reasons = {
        "the run is ending": ending,
        "infer is not up": not topology.infer_up,
        "publish is not up": not topology.publish_up,
    }
    return Figures(
        at=time.monotonic(),
        cameras=[_of_camera(camera) for camera in topology.cameras],
        restarts=dict(restarts),
        missing=[reason for reason, holds in reasons.items() if holds],
    )


def _of_camera(camera: CameraRun) -> CameraFigures:
    look = camera.totals.look()
    camera.most_arrived = max(camera.most_arrived, look.arrived)
    return CameraFigures(
        camera.config.id,
        camera.config.is_live,
        _state(camera),
        camera.sessions,
        camera.most_arrived,
        look,
    )


def _state(camera: CameraRun) -> str:
    if camera.finished is not None:
        return ENDED
    if camera.life is not None:
        return camera.life.state.name
    return life.LIVE if camera.totals.has_begun else life.CONNECTING
