"""A run of two cameras behind the proxy: `yard`, a file, and `gate`, live, paced by its clip."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
import yaml

from tests import runs
from tests.faults import checker, table
from tests.faults.proxy import FaultProxy
from tests.faults.schedule import Schedule
from tests.faults.server import Server, server

YARD, GATE = "yard", "gate"


@dataclass(frozen=True)
class Clip:
    """A file and how many frames it has."""

    path: Path
    frames: int


@dataclass(frozen=True)
class Clips:
    """What the two cameras show."""

    yard: Clip
    gate: Clip
    weights: Path


class Stage:
    """Where one row of the table is played."""

    def __init__(
        self, row: str, folder: Path, clips: Clips, server: Server, proxy: FaultProxy
    ) -> None:
        self.row = row
        self.folder = folder
        self.clips = clips
        self.server = server
        self.proxy = proxy
        self.schedule = Schedule(row)
        self.cameras = (YARD, GATE)
        self.frames: dict[str, dict[int, int] | int] = {
            YARD: clips.yard.frames,
            GATE: clips.gate.frames,
        }
        self.prefix: tuple[str, ...] = ()  # of the command: unshare, a shell that mounts
        self.config: dict[str, Any] = {
            "model": {"weights": str(clips.weights), "input_size": [192, 320]},
            "redis": {"url": proxy.url},
            "telemetry": {"listen": "off"},
            "cameras": [
                {"id": YARD, "url": str(clips.yard.path)},
                {"id": GATE, "url": str(clips.gate.path), "live": True},
            ],
        }

    def only(self, *cameras: str) -> None:
        self.cameras = cameras
        self.config["cameras"] = [one for one in self.config["cameras"] if one["id"] in cameras]

    @contextmanager
    def running(self) -> Iterator[runs.Running]:
        """`vedette run`, killed at the end with all that it started if it has not ended."""
        file, log = self.folder / "run.yaml", self.folder / "run.log"
        file.write_text(yaml.safe_dump(self.config, sort_keys=False))
        with log.open("a") as stderr:
            process = subprocess.Popen(
                [*self.prefix, runs.VEDETTE, "run", str(file)],
                env=runs.environment(self.folder),
                stdin=subprocess.DEVNULL,
                stderr=stderr,
            )
        try:
            yield runs.Running(process, log)
        finally:
            process.kill()
            process.wait()

    @property
    def said(self) -> str:
        """What the run has said so far."""
        return (self.folder / "run.log").read_text()

    def lengths(self) -> dict[str, int]:
        """How many entries each camera has; none while the server does not say."""
        with suppress(redis.RedisError, OSError), self.server.client() as client:
            return {one: client.xlen(f"vedette:{{{one}}}:detections") for one in self.cameras}
        return dict.fromkeys(self.cameras, 0)

    def wait_for(self, entries: int) -> dict[str, int]:
        """Until every camera has so many; how many they have then."""
        runs.eventually(lambda: min(self.lengths().values()) >= entries, within=60)
        return self.lengths()

    def recover(self, before: dict[str, int], *, within: float = 40) -> float:
        """Seconds until every stream has what it had before, and more than at this moment."""
        since, now = time.monotonic(), self.lengths()
        runs.eventually(
            lambda: self._grows({one: max(before[one], now[one]) for one in now}), within=within
        )
        return time.monotonic() - since

    def _grows(self, least: dict[str, int]) -> bool:
        now = self.lengths()
        return all(now[one] > least[one] or self._is_over(one) for one in now)

    def _is_over(self, camera: str) -> bool:
        with suppress(redis.RedisError, OSError), self.server.client() as client:
            return bool(client.xlen(f"vedette:{{{camera}}}:events"))
        return False

    def end(self, run: runs.Running, *, code: int = 0, within: float = 60) -> None:
        """The run comes to its end by itself."""
        assert run.process.wait(within) == code, run.said
        assert "Traceback" not in run.said

    def findings_of(self, camera: str) -> checker.Findings:
        """Of one camera, once the run is over."""
        with self.server.client() as client:
            return checker.check(client, camera, self.frames[camera])

    def findings(self) -> checker.Findings:
        """Of all cameras."""
        return sum(map(self.findings_of, self.cameras), checker.Findings())

    def report(self, recovery: float | None = None, remark: str = "") -> None:
        """The row; fails where the checker found anything."""
        table.add(self.row, self.findings(), recovery, remark)


@contextmanager
def stage(row: str, folder: Path, clips: Clips, *options: str) -> Iterator[Stage]:
    """A stage whose server has these options, and is up."""
    with server(*options) as one, FaultProxy(one.socket, Schedule(row).random) as proxy:
        one.start()
        yield Stage(row, folder, clips, one, proxy)
