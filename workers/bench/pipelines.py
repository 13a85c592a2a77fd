"""The pipeline end to end, for a while: real processes, a real Redis, and what is seen of both."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from config.schema import Config
from pipeline.errors import VedetteError
from pipeline.messages import Stamps
from pipeline.yolov6.weights import inspect
from workers.bench import usage
from workers.bench.results import STAGES, Quantiles, Whole, quantiles
from workers.camera import CameraRun
from workers.embedded import EmbeddedRedis
from workers.figures import Figures
from workers.lifecycle import Options, Run
from workers.preflight import Plan, allow_descriptors
from workers.supervisor import Supervisor

_WARM_FRAMES = 3  # of each camera…
_WARM_SECONDS = 1.0  # …and so long after them the clock starts
_GIVE_UP = 180.0  # seconds until then, at most
_LONGEST = 100_000  # milliseconds; cameras are not to drop frames for their age here


@dataclass(frozen=True, slots=True)
class Settings:
    """What all runs of a bench have in common."""

    clip: Path
    weights: Path
    input_size: tuple[int, int]
    precision: str
    device: str
    seconds: float


def measure(settings: Settings, redis: EmbeddedRedis, cameras: int, *, live: bool) -> Whole:
    """A run of so many cameras that play the clip in a loop. Raises VedetteError if it fails."""
    model = {
        "weights": str(settings.weights),
        "input_size": list(settings.input_size),
        "precision": settings.precision,
        "device": settings.device,
    }
    camera = {"url": str(settings.clip), "loop": True, "live": live, "maxlen": 1000}
    if live:
        camera["max_age_ms"] = _LONGEST
    names = [f"bench-{number}" for number in range(cameras)]
    config = Config.model_validate(
        {"model": model, "cameras": [{**camera, "id": name} for name in names]}
    )
    allow_descriptors(cameras)
    plan = Plan(config, inspect(settings.weights), settings.input_size)
    with Supervisor() as supervisor:
        watch = _Watch(supervisor, redis.process.pid, settings.seconds)
        outcome = Run(plan, redis.url, supervisor, watch, Options(observer=watch)).serve()
    if watch.was_told_to_end:
        raise KeyboardInterrupt
    if outcome.problems or watch.end is None:
        raise VedetteError("; ".join(outcome.problems) or "the pipeline published too little")
    return watch.whole(cameras, live=live)


@dataclass(frozen=True, slots=True)
class _Moment:
    """What had been counted by then."""

    at: float  # monotonic seconds
    published: int
    arrived: int
    cpu: dict[str, float]  # seconds, of each role


class _Watch:
    """Is told what a person and telemetry are told, and ends the run when it has seen enough."""

    def __init__(self, supervisor: Supervisor, redis: int, seconds: float) -> None:
        self._supervisor = supervisor
        self._redis = redis
        self._seconds = seconds
        self._begins_at = float("inf")
        self._gives_up_at = time.monotonic() + _GIVE_UP
        self._frames: list[Stamps] = []
        self._memory: dict[str, float] = {}
        self._gpu: tuple[str, float | None] | None = None
        self._gave_up = False
        self.begin: _Moment | None = None
        self.end: _Moment | None = None

    def say(self, text: str) -> None:
        """Nobody is listening."""

    def show(self, figures: Figures) -> None:
        """As `update`."""

    def record(self, frames: Sequence[Stamps]) -> None:
        if self.begin is not None and self.end is None:
            self._frames += frames

    @property
    def was_told_to_end(self) -> bool:
        """By somebody else, before it had seen enough."""
        return self.end is None and not self._gave_up

    def update(self, cameras: list[CameraRun], before: int) -> None:
        now = time.monotonic()
        if self.end is not None:
            return
        if self.begin is not None and now >= self.begin.at + self._seconds:
            self.end = self._moment(cameras)
            self._memory, self._gpu = usage.memory(self._pids()), usage.gpu()
            signal.raise_signal(signal.SIGTERM)
        elif self.begin is None and now >= self._begins_at:
            self.begin = self._moment(cameras)
        elif self.begin is None and now > self._gives_up_at and not self._gave_up:
            self._gave_up = True
            signal.raise_signal(signal.SIGTERM)
        elif min(camera.totals.published for camera in cameras) >= _WARM_FRAMES:
            self._begins_at = min(self._begins_at, now + _WARM_SECONDS)

    def whole(self, cameras: int, *, live: bool) -> Whole:
        """What was seen between the two moments."""
        begin, end = self.begin, self.end
        assert begin is not None
        assert end is not None
        seconds = end.at - begin.at
        return Whole(
            cameras=cameras,
            live=live,
            rate=round((end.published - begin.published) / seconds, 2),
            offered=round((end.arrived - begin.arrived) / seconds, 2),
            latency=self._latency(begin.at, end.at),
            cpu={
                role: round((spent - begin.cpu.get(role, 0.0)) / seconds, 3)
                for role, spent in end.cpu.items()
            },
            memory_mb=self._memory,
            gpu_memory_mb=None if self._gpu is None else self._gpu[1],
        )

    def _latency(self, begin: float, end: float) -> dict[str, Quantiles]:
        inside = [stamps for stamps in self._frames if begin <= stamps.published_ns / 1e9 < end]
        if not inside:
            return {}
        times: dict[str, list[float]] = {stage: [] for stage in STAGES}
        for stamps in inside:
            whole = stamps.begun_ns, stamps.published_ns
            for stage, (first, last) in {**stamps.stages, "whole": whole}.items():
                times[stage].append((last - first) / 1e6)
        return {stage: quantiles(found) for stage, found in times.items()}

    def _moment(self, cameras: list[CameraRun]) -> _Moment:
        return _Moment(
            at=time.monotonic(),
            published=sum(camera.totals.published for camera in cameras),
            arrived=sum(camera.totals.known for camera in cameras),
            cpu=usage.processor_seconds(self._pids()),
        )

    def _pids(self) -> list[tuple[str, int]]:
        workers = [(worker.role, worker.process.pid) for worker in self._supervisor.workers]
        return [*workers, ("supervisor", os.getpid()), ("redis", self._redis)]
