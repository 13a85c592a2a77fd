"""Cameras that come and go while a run goes on: those in which another config differs."""

from __future__ import annotations

import time
from collections.abc import Callable

from config.errors import ConfigMistakes
from config.schema import Camera
from pipeline.errors import VedetteError
from workers.camera import CameraRun
from workers.changes import changes, fingerprint
from workers.reload import ConfigFile
from workers.topology import Topology

_AGAIN = 10.0  # seconds


class Coming:
    """What is still to come of the config, and what is gone with an earlier one."""

    def __init__(
        self, topology: Topology, say: Callable[[str], None], end: Callable[[CameraRun], None]
    ) -> None:
        """`end` has a camera end in order."""
        self.gone: list[CameraRun] = []  # removed from the config, and ended
        self._not_before: dict[str, float] = {}  # monotonic seconds
        self._topology = topology
        self._say = say
        self._end = end

    @property
    def published(self) -> int:
        """Frames of cameras that are gone."""
        return sum(camera.totals.published for camera in self.gone)

    @property
    def cameras(self) -> list[Camera]:
        """Those of the config that have not begun, or are to begin anew."""
        here = {camera.config.id for camera in self._topology.cameras if not camera.removed}
        return [config for config in self._topology.plan.config.cameras if config.id not in here]

    def reload(self, file: ConfigFile, *, asked: bool) -> None:
        """Takes over a changed config, whole or not at all.

        `asked`: by somebody, who may have mended a camera: those that refused are tried again.
        """
        try:
            plan = file.read()
            found = changes(fingerprint(self._topology.plan), fingerprint(plan))
        except (ConfigMistakes, VedetteError) as error:
            self._say(f"{error}\nthe config was not taken: nothing changes")
            return
        for line in str(found).splitlines():
            self._say(f"config: {line}")
        self._topology.plan = plan
        going = {*found.removed, *found.restarted}
        for camera in self._topology.cameras:
            if asked and camera.waits_refused and camera.config.id not in going:
                self._say(f"{camera.config.id}: was refused, and is tried again")
                going.add(camera.config.id)
        for camera in self._topology.cameras:
            if not camera.removed and camera.config.id in going:
                camera.removed = True
                if camera.finished is None:
                    self._end(camera)
        try:
            file.adopt(plan)
        except OSError as error:
            self._say(f"the run's address could not be written: {error.strerror}")

    def go_on(self) -> None:
        """Lets go of removed cameras that have ended, then begins those that are new."""
        cameras = self._topology.cameras
        for camera in [one for one in cameras if one.removed]:
            if camera.finished is not None and camera.worker is None:
                cameras.remove(camera)
                camera.totals.close()
                self.gone.append(camera)
        for config in self.cameras:
            if self._topology.find(config.id) is None:  # the one before has gone
                self._start(config)

    def _start(self, config: Camera) -> None:
        """A camera whose process cannot be started now is tried again in a while."""
        if time.monotonic() < self._not_before.get(config.id, 0.0):
            return
        before = [one.generation for one in self.gone if one.config.id == config.id]
        try:
            self._topology.start_camera(config, max(before, default=0))
        except OSError as error:
            self._not_before[config.id] = time.monotonic() + _AGAIN
            self._say(f"{config.id}: its process cannot be started: {error.strerror}")
